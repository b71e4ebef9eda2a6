# SPDX-License-Identifier: MIT
"""What grow.py measures, as data: how cost and rate change with the window, with loss, and with connections.

A Sweep is one plot's worth of transfers: Lines (who, with which flags) over the values of one quantity. Two sweeps that
ask for the same transfer share it.
"""

import dataclasses

from scenarios import SETTINGS

RTT_MS = 50  # half of it each way, given by the link
KCP_HEAD_BYTES, FEC_HEAD_BYTES = 24, 8
FEC = "10,3"

WINDOWS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
QUICK_WINDOWS = (32, 256, 1024, 4096, 16384)
LOSSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2)
QUICK_LOSSES = (0.0, 0.01, 0.05, 0.1, 0.2)
OVERHEAD_LOSSES = (0.0, 0.01, 0.05, 0.1)
COST_WINDOWS, COST_LOSS = (256, 16384), 0.1
COST_CEILING = 2.0  # CPU per byte of the large window over that of the small one

# A cost that is linear in n has slope 1 over logarithmic axes; what is above this grows faster, noise allowed for.
SLOPE_CEILING = 1.1

MAX_BYTES = 256 << 20  # of one transfer: windows that the link cannot fill would take long
QUICK_MAX_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class Transfer:
    """One way through the link, as fast as it goes. Equal ones are measured once."""

    rival: str
    window: int  # packets, both ends, both directions
    loss: float  # probability per packet, each way by itself
    bytes: int
    fec: str = ""

    def arguments(self):
        """-> the flags of both ends."""
        flags = {**SETTINGS, "sndwnd": self.window, "rcvwnd": self.window, "mode": "sink", "bytes": self.bytes}
        if self.fec:
            flags["fec"] = self.fec
        return [f"--{name}={value}" for name, value in flags.items()]

    @property
    def mss_bytes(self):
        return SETTINGS["mtu"] - KCP_HEAD_BYTES - (FEC_HEAD_BYTES if self.fec else 0)

    @property
    def bound_mb_s(self):
        """One window a round trip: what no sender can pass, whatever it does."""
        return self.window * self.mss_bytes / (RTT_MS / 1000) / 1e6

    @property
    def least_wire(self):
        """Bytes on the wire per byte delivered when only what the link lost is sent again (with FEC: nothing is)."""
        data, parity = (int(n) for n in self.fec.split(",")) if self.fec else (1, 0)
        packets = (data + parity) / data if self.fec else 1 / (1 - self.loss)
        return SETTINGS["mtu"] / self.mss_bytes * packets


@dataclasses.dataclass(frozen=True)
class Line:
    name: str
    rival: str
    fec: str = ""


@dataclasses.dataclass(frozen=True)
class Sweep:
    name: str
    about: str
    x: str  # what the values are, and their unit
    xs: tuple
    quick_xs: tuple
    lines: tuple
    figures: tuple  # of the table and the plot, of those that grow.py takes of a transfer
    log_x: bool = False

    def values(self, quick):
        return self.quick_xs if quick else self.xs

    def transfer(self, line, x, quick, most_bytes=MAX_BYTES):
        window, loss = (x, self.loss) if self.by_window else (1024, x)
        # As long as a few seconds at the bound; under loss a window waits some round trips more, so less will do.
        seconds = (1.0 if quick else 2.5) / (1 + 25 * loss if loss < 0.1 else 4)
        limit = min(most_bytes, QUICK_MAX_BYTES if quick else MAX_BYTES)
        bound = Transfer(line.rival, window, loss, 0, line.fec).bound_mb_s
        return Transfer(line.rival, window, loss, min(limit, int(seconds * bound * 1e6)), line.fec)

    by_window: bool = False
    loss: float = 0.0  # of a sweep by window


_BARE = (Line("kcpsock", "kcpsock"), Line("kcp-go", "kcp-go"))
_WITH_FEC = (*_BARE, Line(f"kcpsock, FEC {FEC}", "kcpsock", FEC), Line(f"kcp-go, FEC {FEC}", "kcp-go", FEC))

SWEEPS = [
    Sweep(
        name="window",
        about=f"no loss, {RTT_MS} ms round trip: the rate follows window * mss / RTT until something else is full",
        x="window, packets",
        xs=WINDOWS,
        quick_xs=QUICK_WINDOWS,
        lines=_BARE,
        figures=("rate", "efficiency", "cpu", "overrun"),
        log_x=True,
        by_window=True,
    ),
    Sweep(
        name="loss",
        about=f"window 1024, {RTT_MS} ms round trip, each packet lost by chance, both ways",
        x="loss each way, %",
        xs=LOSSES,
        quick_xs=QUICK_LOSSES,
        lines=_WITH_FEC,
        figures=("rate", "efficiency", "cpu", "again"),
    ),
    Sweep(
        name="overhead",
        about="the same transfers: bytes that entered the link per byte delivered, and the ACKs' way beside it",
        x="loss each way, %",
        xs=OVERHEAD_LOSSES,
        quick_xs=OVERHEAD_LOSSES,
        lines=_WITH_FEC,
        figures=("wire", "acks", "wire_excess"),
    ),
    Sweep(
        name="cost",
        about=f"CPU per byte, both ends, of a large window against a small one at {COST_LOSS:.0%} loss",
        x="window, packets",
        xs=COST_WINDOWS,
        quick_xs=COST_WINDOWS,
        lines=_BARE,
        figures=("cpu", "rate", "again", "overrun"),
        log_x=True,
        by_window=True,
        loss=COST_LOSS,
    ),
]

# The crowd: so many connections, each of which is echoed one message a second.
CONNECTIONS = (100, 300, 1000, 3000, 10000)
QUICK_CONNECTIONS = (100, 1000, 3000)
MESSAGE_BYTES = 64
CROWD_ABOUT = f"each connection is echoed {MESSAGE_BYTES} bytes once a second, no link between"
CROWD_SETTLE, CROWD_SECONDS = 2.0, 8.0
QUICK_CROWD_SETTLE, QUICK_CROWD_SECONDS = 1.0, 3.0
