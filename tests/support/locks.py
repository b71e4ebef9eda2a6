# SPDX-License-Identifier: MIT
"""Python's locks, watched: who takes which, while holding which."""

import threading

# In the order in which a thread may take them (docs/architecture.md); C's come after.
PYTHON = ("life.changing", "_engines._pool_lock", "_oob._reader_lock", "_fork.held")


class Watch:
    """What the locks made by lock() have seen."""

    def __init__(self):
        self.taken = set()  # (name, thread)
        self.nested = set()  # (held, taken while it was)
        self._held = threading.local()

    def lock(self, name, real):
        return _Watched(self, name, real)

    def against_the_order(self):
        return {(a, b) for a, b in self.nested if PYTHON.index(a) >= PYTHON.index(b)}


class _Watched:
    def __init__(self, watch, name, real):
        self._watch, self._name, self._real = watch, name, real

    def acquire(self, *args, **kwargs):
        held = self._watch._held.__dict__.setdefault("locks", [])
        # What is this thread's already it need not wait for.
        if not any(lock is self for lock in held):
            self._watch.taken.add((self._name, threading.get_ident()))
            self._watch.nested |= {(lock._name, self._name) for lock in held}
        taken = self._real.acquire(*args, **kwargs)
        if taken:
            held.append(self)
        return taken

    def release(self):
        self._watch._held.locks.remove(self)
        self._real.release()

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *_):
        self.release()
