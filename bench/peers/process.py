# SPDX-License-Identifier: MIT
"""A peer process and the talk with it: lines from its stdout, one line to its stdin, an end within bounded time.

Every process started here is ended here, by its handle. A peer that fails, dies or falls silent raises PeerFailed, with
the last lines of its stderr in the message.
"""

import contextlib
import json
import queue
import time

from tests.support.programs import Program, ProgramFailed

LOOK_SECONDS = 0.25  # how soon the end of the peer beside is noticed
END_SECONDS = 8  # kcpsock drains lingering sessions for up to 5 s at exit

PeerFailed = ProgramFailed


class Peer(contextlib.AbstractContextManager):
    def __init__(self, rival, command, arguments, timeout):
        """Starts `rival`'s peer program; every wait below ends `timeout` seconds from now."""
        self.deadline = time.monotonic() + timeout
        self.lines = queue.Queue()  # of stdout; None after the last
        line = [*rival.program, command, *rival.arguments, f"--timeout={timeout:g}", *arguments]
        self.program = Program(f"{rival.name} {command}", line, self.lines.put, environment=rival.environment)

    @property
    def pid(self):
        return self.program.pid

    def word(self, expected, beside=None):
        """The number in the line "expected number". Fails at once when the peer `beside` has ended."""
        line = self._line(f'"{expected} ..."', beside)
        key, _, value = line.partition(" ")
        if key != expected or not value.strip().isdigit():
            raise self.program.failed(f'"{expected} ..." was expected, not {line!r}')
        return int(value)

    def result(self, beside=None):
        """The next line, as JSON. Fails at once when the peer `beside`, which has to stay until told, has ended."""
        line = self._line("a result", beside)
        try:
            return json.loads(line)
        except ValueError:
            raise self.program.failed(f"a result was expected, not {line!r}") from None

    def tell(self):
        """The order to end."""
        with contextlib.suppress(PeerFailed):  # it may be gone already; the next read says so
            self.program.tell(b"\n")

    def __exit__(self, *_):
        self.program.end(END_SECONDS)

    def _line(self, awaited, beside=None):
        while True:
            left = self.deadline - time.monotonic()
            try:
                line = self.lines.get(timeout=max(0.0, min(left, LOOK_SECONDS)))
                break
            except queue.Empty:
                if beside is not None and not beside.program.is_running:
                    raise beside._ended(f"the {self.program.title}'s {awaited}") from None
                if left <= 0:
                    raise self.program.failed(f"waited in vain for {awaited}") from None
        if line is None:
            raise self._ended(awaited)
        return line.decode().strip()

    def _ended(self, awaited):
        self.program.wait()
        return self.program.failed(f"it ended before {awaited}")


def transfer(rival, server_arguments, client_arguments, timeout):
    """One run, two processes. Returns both results: {"server": ..., "client": ...}. Raises PeerFailed."""
    with Peer(rival, "server", server_arguments, timeout) as server:
        address = f"--addr=127.0.0.1:{server.word('port')}"
        with Peer(rival, "client", [address, *client_arguments], timeout) as client:
            got = server.result(beside=client)
            client.tell()
            return {"server": got, "client": client.result()}
