# SPDX-License-Identifier: MIT
"""tests/engine/peer.py as an object: `peer.connect(port)` runs connect() there and gives its result."""

import json
import os
import select
import socket as stdlib
import subprocess
import sys
import time
from pathlib import Path

TREE = Path(__file__).parents[2]
LONG_S = 60.0  # nothing takes so long unless it hangs


class PeerError(Exception):
    """A command raised in the peer; `name` is its exception's class, `errno` its errno or None."""

    def __init__(self, answer):
        super().__init__(f"{answer['error']}: {answer['text']}")
        self.name, self.errno = answer["error"], answer["errno"]


class Peer:
    """A running peer. A command that has been started (`start`) must be waited for (`finish`) before the next."""

    def __init__(self, **environment):
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.engine.peer"],
            cwd=TREE,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, call, *args, **kwargs):
        self._process.stdin.write(json.dumps({"call": call, "args": args, "kwargs": kwargs}) + "\n")
        self._process.stdin.flush()

    def finish(self):
        line = self._process.stdout.readline()
        assert line, f"the peer died: exit status {self._process.wait(LONG_S)}"
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer)
        return answer["result"]

    def __getattr__(self, call):
        def run(*args, **kwargs):
            self.start(call, *args, **kwargs)
            return self.finish()

        return run

    def idle(self):
        """Starts the peer's engine. -> its counts with nothing open"""
        self.listen("first")
        self.close("first")
        return self.freed()

    def freed(self, idle=None, slack_bytes=1 << 19):
        """Waits until sessions and streams are gone, and with `idle` until nothing more is held than then. -> counts"""

        def is_free():
            now = self.counts()
            if now["Sessions"] or now["Streams"]:
                return None
            if idle is not None and (
                now["MemoryBytes"] > idle["MemoryBytes"] + slack_bytes
                or now["fds"] > idle["fds"]
                or now["threads"] > idle["threads"]
            ):
                return None
            return now

        return eventually(is_free, lambda: f"{self.counts()}, idle {idle}")

    def stop(self):
        """Ends the peer as a program ends. -> its exit status"""
        self._process.stdin.close()
        try:
            return self._process.wait(LONG_S)
        finally:
            self.kill()

    def kill(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def eventually(condition, explain=lambda: "", patience_s=LONG_S):
    """Waits until condition() is true; gives its value."""
    end = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < end, f"it never happened; {explain()}"
        time.sleep(0.02)
    return value


def a_moment(seconds):
    """Waits for a kernel timer: nothing else can wake this select()."""
    silent, other = stdlib.socketpair()
    with silent, other:
        select.select([silent], [], [], seconds)
