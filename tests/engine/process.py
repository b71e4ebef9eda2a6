# SPDX-License-Identifier: MIT
"""tests/engine/peer.py as an object: `peer.connect(port)` runs connect() there and gives its result."""

import json
import os
import queue
import sys
from pathlib import Path

from tests.support.programs import Program
from tests.support.waiting import PATIENCE_S, eventually

TREE = Path(__file__).parents[2]


class PeerError(Exception):
    """A command raised in the peer; `name` is its exception's class, `errno` its errno or None."""

    def __init__(self, answer):
        super().__init__(f"{answer['error']}: {answer['text']}")
        self.name, self.errno = answer["error"], answer["errno"]


class Peer:
    """A running peer. A command that has been started (`start`) must be waited for (`finish`) before the next."""

    def __init__(self, **environment):
        self._answers = queue.SimpleQueue()  # None after the last
        self._program = Program(
            "the peer",
            [sys.executable, "-W", "error", "-m", "tests.engine.peer"],
            self._answers.put,
            environment=environment,
            cwd=TREE,
        )

    def start(self, call, *args, **kwargs):
        self._program.tell(json.dumps({"call": call, "args": args, "kwargs": kwargs}).encode() + b"\n")

    def finish(self):
        line = self._answers.get()
        if line is None:
            self._program.wait()
            raise self._program.failed("it died")
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

    def signal(self, number):
        os.kill(self._program.pid, number)

    def stop(self):
        """Ends the peer as a program ends. -> its exit status"""
        status = self._program.end(PATIENCE_S)
        self.kill()
        return status

    def kill(self):
        self._program.close()
        while self._program.said:  # pytest shows it with a failure
            print(self._program.said.popleft().decode(errors="replace"), file=sys.stderr)
