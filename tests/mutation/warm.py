# SPDX-License-Identifier: MIT
"""Runs test files in a forked child that has imported all but kcpsock and the tests: that takes most of the time.

A line of JSON on stdin: {"tree", "files", "timeout_s", "test_timeout_s"}; a line of JSON on stdout: {"passed", "said"}.
The files run one after the other, each in a child of its own, until one fails.
"""

import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback

import _pytest.assertion.rewrite  # noqa: F401
import cffi  # noqa: F401
import gevent.hub  # noqa: F401
import gevent.monkey  # noqa: F401
import gevent.resolver.thread  # noqa: F401
import gevent.threadpool  # noqa: F401
import hypothesis.strategies  # noqa: F401
import pytest
import trustme  # noqa: F401
import zfec  # noqa: F401

COLLECT_TIMEOUT_S = 20  # with the import of kcpsock, which a change may keep from ending


class _Collected:
    # For pytest: the timeout of a single test takes over.

    def pytest_collection_finish(self):
        signal.alarm(0)


def run_file(file, tree, deadline, test_timeout_s):
    """-> (whether it passed, what pytest said)"""
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if pid == 0:
            _child(file, tree, test_timeout_s, said.fileno())
        pidfd = os.pidfd_open(pid)
        left_s = max(deadline - time.monotonic(), 0)
        ended = bool(select.select([pidfd], [], [], left_s)[0])
        os.close(pidfd)
        # Also what it left running; the group is this child's.
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        text = said.read().decode(errors="replace")
    return ended and status == 0, text if ended else text + "\nout of time"


def _child(file, tree, test_timeout_s, out):
    status = 70
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(tree)
        sys.path[0] = tree
        os.environ["PYTHONPATH"] = tree
        sys.dont_write_bytecode = True  # two changes within a second would look the same to Python
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        # The warning: hypothesis' own plugin was imported too early for pytest to rewrite its asserts.
        arguments = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider"]
        signal.alarm(COLLECT_TIMEOUT_S)
        status = pytest.main(["-x", "-q", f"--timeout={test_timeout_s}", *arguments, file], plugins=[_Collected()])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main():
    for line in sys.stdin:
        task = json.loads(line)
        deadline = time.monotonic() + task["timeout_s"]
        passed, said = True, ""
        for file in task["files"]:
            passed, said = run_file(file, task["tree"], deadline, task["test_timeout_s"])
            if not passed:
                break
        print(json.dumps({"passed": passed, "said": said}), flush=True)


if __name__ == "__main__":
    main()
