# SPDX-License-Identifier: MIT
"""What each of the peers' programs in Python does: gives up in time, and says what it found."""

import contextlib
import json
import os
import resource
import sys
import threading
from pathlib import Path

NAME = Path(sys.argv[0]).stem


def fail(message):
    print(f"{NAME}: {message}", file=sys.stderr, flush=True)
    os._exit(3)


@contextlib.contextmanager
def giving_up(seconds):
    """The process ends when the block takes longer."""
    timer = threading.Timer(seconds, fail, [f"gave up after {seconds:g} s"])
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()


def report(result):
    print(json.dumps(result), flush=True)


def cpu_seconds():
    """What this process has used so far, user and system, all threads (an engine's too)."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
