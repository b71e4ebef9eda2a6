# SPDX-License-Identifier: MIT
"""The Go peer: gopeer/ is one program with kcp-go and smux in it, for the tests and for bench/. Here it is built, into
build/, and here is how its parts are started.

GoPeer is its part "calls" as an object: `go.listen(crypt="aes")` runs listen() there and gives its result;
`go.start("listen", ...)` gives something to wait for.

By hand, to see whether it can be had here: python -m tests.support.go_peer
"""

import concurrent.futures
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from .programs import Program, ProgramFailed
from .waiting import PATIENCE_S

SOURCE = Path(__file__).with_name("gopeer")
PROGRAM = SOURCE.parents[2] / "build" / "gopeer"
KCP_GO = "github.com/xtaci/kcp-go/v5"

# What kcpsock's Profile is in the peer.
DEFAULTS = {"mode": "fast3", "sndwnd": 1024, "rcvwnd": 1024, "mtu": 1400}


def from_go_mod(word):
    """What stands behind `word` in go.mod: a module's version, or Go's own for "go"."""
    found = re.search(rf"^\s*{re.escape(word)} v?(\S+)", (SOURCE / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1]


HOW_TO_INSTALL = (
    f"install Go {from_go_mod('go')} or newer, and let `go build` in tests/support/gopeer reach its module proxy once"
)


class GoPeerMissing(Exception):
    """There is no usable Go here, or its modules can't be had."""


class GoError(Exception):
    """A call failed in the peer."""


def command(part):
    """The program's command line up to a part's own arguments: "calls", "bench" or "micro"."""
    return str(PROGRAM), part


def build(source=SOURCE, program=PROGRAM):
    """Builds the program from its sources as they are now; go itself skips what is up to date."""
    if shutil.which("go") is None:
        raise GoPeerMissing("there is no `go` on the PATH")
    about = _go(source, "list", "-m")  # Go 1.21 and newer may fetch the Go that go.mod asks for; others fail
    if about.returncode:
        raise GoPeerMissing(f"this `go` does not do: {about.stderr.strip()}")
    built = _go(source, "build", "-o", str(program), ".")
    if built.returncode:
        fetched = _go(source, "mod", "download")
        if fetched.returncode:
            raise GoPeerMissing(f"its modules can't be had: {fetched.stderr.strip()}")
        raise ProgramFailed(f"go build in {source}:\n{built.stderr}")


def _go(source, *arguments):
    return subprocess.run(["go", *arguments], cwd=source, capture_output=True, text=True, timeout=600)


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

    def __init__(self):
        self._lock = threading.Lock()
        self._waiting = {}
        self._numbers = itertools.count(1)
        self._program = Program("the Go peer", command("calls"), self._take_line)

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
        if line is not None:
            answer = json.loads(line)
            with self._lock:
                pending = self._waiting.pop(answer["id"])
            pending.answer.set_result(answer)
            return
        with self._lock:
            left, self._waiting = self._waiting, {}
        for pending in left.values():
            pending.answer.set_result(None)


def main():
    try:
        build()
    except GoPeerMissing as missing:
        sys.exit(f"the Go peer can't be had: {missing}\n{HOW_TO_INSTALL}")
    peer = GoPeer()
    try:
        for name, version in sorted(peer.versions().items()):
            print(name, version)
    finally:
        peer.stop()


if __name__ == "__main__":
    main()
