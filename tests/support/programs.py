# SPDX-License-Identifier: MIT
"""A program that a test or a benchmark runs beside itself: started, listened to, ended by its handle.

Whatever goes wrong with it becomes a ProgramFailed that holds its last lines of stderr.
"""

import collections
import contextlib
import os
import subprocess
import threading

from .waiting import PATIENCE_S

LAST_LINES = 40


class ProgramFailed(AssertionError):
    """Says which program, what was the matter, and what it said last."""


class Program:
    """A running program; `with` ends it. Each line of its stdout goes to `take_line`, and None after the last."""

    def __init__(self, title, argv, take_line=lambda line: None, environment=None, cwd=None):
        """environment: what differs from ours."""
        self.title = title
        self.said = collections.deque(maxlen=LAST_LINES)
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, take_line), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stderr, self._take_complaint), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self):
        return self._process.pid

    @property
    def is_running(self):
        return self._process.poll() is None

    def tell(self, line):
        try:
            self._process.stdin.write(line)
        except BrokenPipeError:
            raise self.failed("it ended unasked") from None

    def wait(self, seconds=PATIENCE_S):
        """Until it has ended. -> its exit status"""
        return self._process.wait(seconds)

    def failed(self, what):
        """The exception to raise."""
        if not self.is_running:
            what += f" (exit status {self._process.returncode})"
            self._readers[1].join(PATIENCE_S)  # its last words
        lines = [line.decode(errors="replace").rstrip() for line in list(self.said)]
        return ProgramFailed("".join([f"{self.title}: {what}", *(f"\n    | {line}" for line in lines if line)]))

    def end(self, seconds):
        """Ends its stdin, which is the order to end; kills it when it has not followed in time. -> its exit status"""
        with contextlib.suppress(OSError):  # unbuffered: nothing is lost that was not sent
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.close()
        return self._process.returncode

    def close(self):
        """Ends it, at once; for one that ends with its stdin that is as good."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _take_complaint(self, line):
        if line is not None:
            self.said.append(line)

    @staticmethod
    def _read(pipe, take):
        # Not by readline(): unbuffered, that is a system call per byte.
        rest = b""
        while chunk := pipe.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                take(line)
        if rest:
            take(rest)
        take(None)
