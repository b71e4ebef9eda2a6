# SPDX-License-Identifier: MIT
"""Who is measured by link.py: what speaks by itself, what carries TCP connections through a tunnel of its own, and
kcpsock as the sender to foreign receivers."""

import dataclasses
import json
import shutil
import socket
import sys
from typing import Optional

from scenarios import SETTINGS

from peers import rivals
from tests.support import go_peer

QUIC_SOURCE = rivals.PEERS / "quicpeer"
QUIC_PROGRAM = rivals.ROOT / "build" / "quicpeer"
_PEER = (sys.executable, str(rivals.PEERS / "link_peer.py"))


@dataclasses.dataclass(frozen=True)
class LinkRival:
    name: str
    ends: rivals.Rival  # what is measured with: link_peer.py; of a `receiver` the near end
    tunnel: Optional[rivals.Rival] = None  # what the connections go through
    is_told_the_rate: bool = False
    congestion: str = ""  # of the kernel's TCP, which needs the TUN face
    receiver: Optional[rivals.Rival] = None  # a foreign far end, with a TCP server behind it


def _tcp(congestion):
    name = f"TCP {congestion}"
    ends = rivals.Rival(name, _PEER, ("--module=socket", f"--congestion={congestion}"))
    return LinkRival(name, ends, congestion=congestion)


def _through(name, program, arguments, **more):
    ends = rivals.Rival(name, _PEER, ("--module=socket",))
    return LinkRival(name, ends, rivals.Rival(f"{name}'s tunnel", program, tuple(arguments)), **more)


def _to(name, profile, program, *arguments):
    """kcpsock, its profile the default but for what both ends must agree on."""
    ends = rivals.Rival(name, (*_PEER, f"--profile={json.dumps(profile)}"), environment=rivals.KCPSOCK.environment)
    return LinkRival(name, ends, receiver=rivals.Rival(f"{name}'s receiver", program, arguments))


TCP_ENDS = rivals.Rival("TCP", _PEER, ("--module=socket",))
_KCPTUN = (sys.executable, str(rivals.PEERS / "kcptun_receiver.py"))
RECEIVERS = (
    _to(
        "to kcp-go",
        {},
        go_peer.command("bench"),
        *(f"--{name}={value}" for name, value in {**SETTINGS, "rcvwnd": 8192, "framing": "smux"}.items()),
    ),
    _to("to kcptun", {"crypt": "none", "key": "link"}, _KCPTUN, "--crypt=none", "--key=link"),
)

ALL = (
    LinkRival(rivals.OURS, rivals.Rival(rivals.OURS, _PEER, environment=rivals.KCPSOCK.environment)),
    _through("kcp-go", go_peer.command("bench"), [f"--{name}={value}" for name, value in SETTINGS.items()]),
    _tcp("bbr"),
    _tcp("cubic"),
    _through("hysteria bbr", (str(QUIC_PROGRAM),), ["--congestion=bbr"]),
    _through("hysteria brutal", (str(QUIC_PROGRAM),), ["--congestion=brutal"], is_told_the_rate=True),
    *RECEIVERS,
)


def sort_out(chosen, has_tun):
    """Builds what is to be built. -> those that can be measured here, and {name: why not} of the others."""
    left_out = {}
    for names, source, program in (
        (("kcp-go", "to kcp-go"), go_peer.SOURCE, go_peer.PROGRAM),
        (("hysteria",), QUIC_SOURCE, QUIC_PROGRAM),
    ):
        wanted = [rival.name for rival in chosen if rival.name.startswith(names)]
        try:
            if wanted:
                go_peer.build(source, program)
        except go_peer.GoPeerMissing as missing:
            left_out.update(dict.fromkeys(wanted, str(missing)))
    for rival in chosen:
        if rival.name == "to kcptun" and shutil.which("kcptun-server") is None:
            left_out[rival.name] = "there is no kcptun-server: apt-get install kcptun"
        elif rival.congestion and not has_tun:
            left_out[rival.name] = "the kernel's TCP needs the TUN face"
        elif rival.congestion and not _kernel_has(rival.congestion):
            left_out[rival.name] = f"this kernel has no congestion control {rival.congestion}, or not for us"
    return [rival for rival in chosen if rival.name not in left_out], left_out


def _kernel_has(congestion):
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        except OSError:
            return False
    return True
