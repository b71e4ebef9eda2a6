# SPDX-License-Identifier: MIT
"""Who is measured, and how each one's peer program is started; for kcp-go that is in tests/support/go_peer.py."""

import dataclasses
import importlib.util
import os
import pathlib
import sys

from tests.support import go_peer

PEERS = pathlib.Path(__file__).resolve().parent
ROOT = PEERS.parent.parent


@dataclasses.dataclass(frozen=True)
class Rival:
    name: str
    program: tuple  # what is executed, before the command's name
    arguments: tuple = ()
    environment: dict = dataclasses.field(default_factory=dict)
    package: str = ""  # of PyPI, that must be installed

    @property
    def is_go(self):
        return self.program[0] == str(go_peer.PROGRAM)

    @property
    def is_guest(self):
        """Whether it is another package of PyPI: those take part as guests, in one scenario, with fewer bytes."""
        return bool(self.package)


_PYTHON = (sys.executable, str(PEERS / "kcpsock_peer.py"))
# The checkout's kcpsock, built in place, comes before an installed one.
_OURS = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}

KCPSOCK = Rival("kcpsock", _PYTHON, environment=_OURS)
KCP_GO = Rival("kcp-go", go_peer.command("bench"))
KCP_GO_1 = Rival("kcp-go GOMAXPROCS=1", go_peer.command("bench"), environment={"GOMAXPROCS": "1"})
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
    Rival("kcp-go", go_peer.command("micro")),
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


def build_go(without="--rivals kcpsock,TCP"):
    """Builds the Go peer, or ends the benchmark and says why not."""
    try:
        go_peer.build()
    except go_peer.GoPeerMissing as missing:
        raise SystemExit(
            f"bench: kcp-go cannot be measured: {missing}\n{go_peer.HOW_TO_INSTALL}; or leave kcp-go out: {without}"
        ) from None


def kcp_go_version():
    """From go.mod: what was built."""
    return "v" + go_peer.from_go_mod(go_peer.KCP_GO)
