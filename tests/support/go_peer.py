# SPDX-License-Identifier: MIT
"""peer/, the Go program with kcp-go and smux in it, as an object: `go.listen(crypt="aes")` runs listen() there and
gives its result; `go.start("listen", ...)` gives something to wait for."""

import concurrent.futures
import itertools
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

from .programs import PATIENCE_S, Program, ProgramFailed

SOURCE = Path(__file__).with_name("peer")
BUILD_DIR = SOURCE.parents[2] / "build" / "interop"
HOW_TO_INSTALL = "install Go 1.24 or newer, and let `go build` in tests/interop/peer reach its module proxy once"

# What kcpsock's Profile is in the peer.
DEFAULTS = {"mode": "fast3", "sndwnd": 1024, "rcvwnd": 1024, "mtu": 1400}


class GoPeerMissing(Exception):
    """There is no usable Go here, or its modules can't be had."""


class GoError(Exception):
    """A call failed in the peer."""


def build():
    """The path of the program, built from its sources as they are now. go itself skips what is up to date."""
    if shutil.which("go") is None:
        raise GoPeerMissing("no `go` on the PATH")
    version = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, timeout=PATIENCE_S).stdout
    number = re.match(r"go1\.(\d+)", version)
    if number is None or int(number[1]) < 21:  # 1.21 to 1.23 may fetch the Go that go.mod asks for
        raise GoPeerMissing(f"`go` is {version.strip() or 'broken'}")
    BUILD_DIR.mkdir(parents=True, exist_ok=True)
    program = BUILD_DIR / "go_peer"
    built = _go("build", "-o", str(program), ".")
    if built.returncode:
        fetched = _go("mod", "download")
        if fetched.returncode:
            raise GoPeerMissing(f"its modules can't be had: {fetched.stderr.strip()}")
        raise ProgramFailed(f"go build in {SOURCE}:\n{built.stderr}")
    return program


def _go(*arguments):
    return subprocess.run(["go", *arguments], cwd=SOURCE, capture_output=True, text=True, timeout=600)


class Pending:
    """A call that runs in the peer."""

    def __init__(self, program, call):
        self._program, self._call = program, call
        self.answer = concurrent.futures.Future()

    def done(self):
        return self.answer.done()

    def result(self, timeout_s=PATIENCE_S):
        try:
            answer = self.answer.result(timeout_s)
        except concurrent.futures.TimeoutError:
            raise self._program.failed(f"{self._call} hangs") from None
        if answer is None:
            raise self._program.failed(f"it ended during {self._call}")
        if "error" in answer:
            raise GoError(answer["error"])
        return answer["result"]


class GoPeer:
    """The running program. Calls may be made from any thread."""

    def __init__(self, path):
        self._lock = threading.Lock()
        self._waiting = {}
        self._numbers = itertools.count(1)
        self._program = Program("the Go peer", [str(path)], self._take_line)

    @property
    def is_running(self):
        return self._program.is_running

    def start(self, call, **args):
        pending = Pending(self._program, call)
        if call in ("listen", "dial"):
            args = {**DEFAULTS, **args}
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = pending
            self._program.tell(json.dumps({"id": number, "call": call, "args": args}).encode() + b"\n")
        return pending

    def __getattr__(self, call):
        return lambda **args: self.start(call, **args).result()

    def stop(self):
        self._program.close()

    def _take_line(self, line):
        if line:
            answer = json.loads(line)
            with self._lock:
                pending = self._waiting.pop(answer["id"])
            pending.answer.set_result(answer)
            return
        with self._lock:
            left, self._waiting = self._waiting, {}
        for pending in left.values():
            pending.answer.set_result(None)
