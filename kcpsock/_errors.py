# SPDX-License-Identifier: MIT
"""The one door through which results of the C data plane become exceptions.

C answers with a value >= 0 or with -errno (cffi_build/err.h). `check` passes the value on or raises the OSError that
the stdlib raises for that errno, so that ConnectionRefusedError, TimeoutError and their like come out by themselves.
"""

from __future__ import annotations

import os
import socket as _stdlib

# TimeoutError itself from Python 3.10 on; an OSError of its own before.
timeout = _stdlib.timeout


def error_of(errno: int, hint: str = "") -> OSError:
    """The exception for an errno: its class by errno, its text the system's, with what else is to be said behind it."""
    return OSError(errno, _with(os.strerror(errno), hint))


def check(result: int) -> int:
    """`result`, if it is one; raises OSError for a negative errno."""
    if result < 0:
        raise error_of(-result)
    return result


def timed_out(hint: str = "") -> OSError:
    """What the stdlib raises when a socket's timeout has passed: without errno."""
    return timeout(_with("timed out", hint))


def _with(text: str, hint: str) -> str:
    return f"{text}: {hint}" if hint else text
