# SPDX-License-Identifier: MIT
"""Another interpreter that runs a piece of code, warnings being errors."""

import os
import subprocess
import sys
import textwrap

LONG_S = 120.0  # nothing takes so long unless it hangs


def python(code, *args, stdin=False, **environment):
    """A new interpreter that runs `code`."""
    return start(["-W", "error", "-c", textwrap.dedent(code), *args], stdin=stdin, **environment)


def start(arguments, cwd=None, *, stdin=False, **environment):
    """A new interpreter with these arguments, that finds what this one does."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        cwd=cwd,
        stdin=subprocess.PIPE if stdin else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process):
    """What it printed; it must have ended well and in silence."""
    out, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err) == (0, b""), err.decode()
    return out.decode()
