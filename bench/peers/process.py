# SPDX-License-Identifier: MIT
"""A peer process and the talk with it: lines from its stdout, one line to its stdin, an end within bounded time.

Every process started here is ended here, by its handle. A peer that fails, dies or falls silent raises PeerFailed, with
the last lines of its stderr in the message.
"""

import collections
import contextlib
import json
import os
import queue
import subprocess
import threading
import time

STDERR_LINES = 20
LOOK_SECONDS = 0.25  # how soon the end of the peer beside is noticed
END_SECONDS = 8  # kcpsock drains lingering sessions for up to 5 s at exit


class PeerFailed(Exception):
    """Says which peer, what was waited for, and what it said last."""


class Peer(contextlib.AbstractContextManager):
    def __init__(self, rival, command, arguments, timeout):
        """Starts `rival`'s peer program; every wait below ends `timeout` seconds from now."""
        self.title = f"{rival.name} {command}"
        self.deadline = time.monotonic() + timeout
        self.lines = queue.Queue()  # of stdout; None after the last
        self.complaints = collections.deque(maxlen=STDERR_LINES)
        line = [*rival.program, command, *rival.arguments, f"--timeout={timeout:g}", *arguments]
        pipe = subprocess.PIPE
        environment = {**os.environ, **rival.environment}
        self.process = subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
        self.readers = [
            threading.Thread(target=self._read_stdout, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    @property
    def pid(self):
        return self.process.pid

    def word(self, expected, beside=None):
        """The number in the line "expected number". Fails at once when the peer `beside` has ended."""
        line = self._line(f'"{expected} ..."', beside)
        key, _, value = line.partition(" ")
        if key != expected or not value.strip().isdigit():
            raise self._failed(f'"{expected} ..." was expected, not {line!r}')
        return int(value)

    def result(self, beside=None):
        """The next line, as JSON. Fails at once when the peer `beside`, which has to stay until told, has ended."""
        line = self._line("a result", beside)
        try:
            return json.loads(line)
        except ValueError:
            raise self._failed(f"a result was expected, not {line!r}") from None

    def tell(self):
        """The order to end."""
        with contextlib.suppress(OSError):  # it may be gone already; the next read says so
            self.process.stdin.write("\n")
            self.process.stdin.flush()

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self.readers:
            reader.join(END_SECONDS)
        self.process.stdout.close()
        self.process.stderr.close()

    def _line(self, awaited, beside=None):
        while True:
            left = self.deadline - time.monotonic()
            try:
                line = self.lines.get(timeout=max(0.0, min(left, LOOK_SECONDS)))
                break
            except queue.Empty:
                if beside is not None and beside.process.poll() is not None:
                    raise beside._ended(f"the {self.title}'s {awaited}") from None
                if left <= 0:
                    raise self._failed(f"waited in vain for {awaited}") from None
        if line is None:
            raise self._ended(awaited)
        return line

    def _ended(self, awaited):
        status = self.process.wait()
        self.readers[1].join(1)  # its last words
        return self._failed(f"it ended (exit status {status}) before {awaited}")

    def _failed(self, what):
        said = "".join(f"\n    | {line}" for line in self.complaints)
        return PeerFailed(f"{self.title}: {what}{said}")

    def _read_stdout(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put(None)

    def _read_stderr(self):
        for line in self.process.stderr:
            self.complaints.append(line.rstrip())


def transfer(rival, server_arguments, client_arguments, timeout):
    """One run, two processes. Returns both results: {"server": ..., "client": ...}. Raises PeerFailed."""
    with Peer(rival, "server", server_arguments, timeout) as server:
        address = f"--addr=127.0.0.1:{server.word('port')}"
        with Peer(rival, "client", [address, *client_arguments], timeout) as client:
            got = server.result(beside=client)
            client.tell()
            return {"server": got, "client": client.result()}
