# SPDX-License-Identifier: MIT
"""What a test left behind: descriptors and threads of this process, the kernel's count as well as Python's.

    with leaks.check():
        ...

The engine starts at first use and stays: use kcpsock once before (the fixture `no_leaks` does).
"""

import gc
import os
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import contextmanager

PATIENCE_S = 9.0  # closed sessions stay in the engine for 3 s, a machine may stand still; who says no farewell stays 10


def open_fds():
    """The descriptors of this process as {number: what it is}; a socket's text holds its inode."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the listing's own descriptor
            pass
    return found


def native_threads():
    """All threads of this process, those made in C too, as {id: name}."""
    found = {}
    for tid in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{tid}/comm", encoding="utf-8") as comm:
                found[int(tid)] = comm.read().strip()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            pass
    return found


def snapshot():
    """All that counts as a leak when it is new: a set of texts for a message."""
    return (
        {f"fd {fd} -> {what}" for fd, what in open_fds().items()}
        | _numbered(f"native thread ({name})" for name in native_threads().values())
        | {repr(thread) for thread in threading.enumerate()}
    )


def _numbered(names):
    # Threads by number, not by id: pytest's faulthandler_timeout has one of its own for each test.
    counts = Counter(names)
    return {f"{name} no. {number}" for name, count in counts.items() for number in range(1, count + 1)}


@contextmanager
def check(patience_s=PATIENCE_S):
    """Fail if descriptors or threads that the block made are still there patience_s after it. What the collector takes
    is no leak: urllib3 leaves the connection of a second attempt to it, over TCP too."""
    before = snapshot()
    yield
    gc.collect()
    end = time.monotonic() + patience_s
    while new := snapshot() - before:
        if time.monotonic() > end:
            raise AssertionError("left behind: " + "; ".join(sorted(new)) + _where_threads_are(new))
        time.sleep(0.02)


def _where_threads_are(new):
    """The stacks of those of these threads that are Python's."""
    frames = sys._current_frames()
    found = {repr(thread): frames.get(thread.ident) for thread in threading.enumerate()}
    return "".join(f"\n{name}:\n" + "".join(traceback.format_stack(found[name])) for name in new if found.get(name))
