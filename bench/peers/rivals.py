# SPDX-License-Identifier: MIT
"""Who is measured, and how each one's peer program is started (and, for Go, built)."""

import dataclasses
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

PEERS = pathlib.Path(__file__).resolve().parent
ROOT = PEERS.parent.parent
BUILT = ROOT / "build" / "bench"
GO_PROGRAM = BUILT / "kcpgo_peer"
GO_MICRO = BUILT / "kcpgo_micro"
GO_MODULE = "github.com/xtaci/kcp-go/v5"


@dataclasses.dataclass(frozen=True)
class Rival:
    name: str
    program: tuple  # what is executed, before the command's name
    arguments: tuple = ()
    environment: dict = dataclasses.field(default_factory=dict)
    package: str = ""  # of PyPI, that must be installed

    @property
    def is_go(self):
        return self.program in ((str(GO_PROGRAM),), (str(GO_MICRO),))

    @property
    def is_guest(self):
        return bool(self.package)


_PYTHON = (sys.executable, str(PEERS / "kcpsock_peer.py"))
# The checkout's kcpsock, built in place, comes before an installed one.
_OURS = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}

KCPSOCK = Rival("kcpsock", _PYTHON, environment=_OURS)
KCP_GO = Rival("kcp-go", (str(GO_PROGRAM),))
KCP_GO_1 = Rival("kcp-go GOMAXPROCS=1", (str(GO_PROGRAM),), environment={"GOMAXPROCS": "1"})
TCP = Rival("TCP", _PYTHON, ("--module=socket",))

# Other packages for KCP in Python, by their own interfaces.
GUESTS = tuple(
    Rival(name, (sys.executable, str(PEERS / "guests.py")), (f"--package={name}",), package=name)
    for name in ("aiokcp", "kcp")
)

ALL = (KCPSOCK, KCP_GO, KCP_GO_1, TCP)
COMPARED = (*ALL, *GUESTS)
OURS = KCPSOCK.name
# Of micro.py: ours first.
MICRO = (
    Rival("kcpsock", (sys.executable, str(PEERS / "kcpsock_micro.py")), environment=_OURS),
    Rival("kcp-go", (str(GO_MICRO),)),
)
YARDSTICKS = (KCP_GO.name, KCP_GO_1.name)  # the better of the two in the same run is what kcpsock is held against


def is_there(rival):
    return not rival.package or importlib.util.find_spec(rival.package) is not None


def chosen(names, known=ALL):
    """The rivals of a comma-separated list; all that are known for None."""
    if names is None:
        return list(known)
    by_name = {rival.name: rival for rival in known}
    unknown = [name for name in names.split(",") if name not in by_name]
    if unknown:
        raise SystemExit(f"--rivals: {', '.join(unknown)}: allowed are {', '.join(by_name)}, separated by commas")
    return [by_name[name] for name in names.split(",")]


def build_go(program=GO_PROGRAM, package=".", without="--rivals kcpsock,TCP"):
    """Builds a Go peer into build/bench/; go itself skips what is up to date."""
    if shutil.which("go") is None:
        raise SystemExit(
            "bench: there is no `go` on the PATH, so kcp-go cannot be measured. Install Go 1.24 or newer "
            f"(package `golang`, or the archive from the Go project's site), or leave kcp-go out: {without}"
        )
    BUILT.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-o", str(program), package]
    built = subprocess.run(command, cwd=PEERS, capture_output=True, text=True, check=False, timeout=600)
    if built.returncode:
        raise SystemExit(f"bench: `go build` in {PEERS} failed:\n{built.stderr}")


def kcp_go_version():
    """From go.mod: what was built."""
    found = re.search(rf"{re.escape(GO_MODULE)} (v\S+)", (PEERS / "go.mod").read_text(encoding="utf-8"))
    return found.group(1) if found else "unknown"
