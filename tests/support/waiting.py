# SPDX-License-Identifier: MIT
"""What happens at the same time, and waiting for it."""

import select
import socket
import threading
import time

PATIENCE_S = 60.0  # nothing takes so long unless it hangs


class Task(threading.Thread):
    """A function in a thread; result() gives its value or raises its exception."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self._call = function, args
        self._outcome = None, None
        self.start()

    def run(self):
        function, args = self._call
        try:
            self._outcome = function(*args), None
        except Exception as error:
            self._outcome = None, error

    def result(self):
        self.join(PATIENCE_S)
        if self.is_alive():
            raise TimeoutError(f"{self._call[0].__name__} hangs")
        value, error = self._outcome
        if error is not None:
            raise error
        return value


def eventually(condition, explain=lambda: "", patience_s=PATIENCE_S):
    """Waits until condition() is true; gives its value."""
    end = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < end, f"it never happened; {explain()}"
        time.sleep(0.01)
    return value


def a_moment(seconds):
    """Waits for a kernel timer: nothing else can wake this select()."""
    silent, other = socket.socketpair()
    with silent, other:
        select.select([silent], [], [], seconds)
