# SPDX-License-Identifier: MIT
"""What link.py measures, as data: links as users have them, and what goes over them. A Scene is a row of the table."""

import dataclasses
from typing import Optional

MB = 1_000_000
REQUESTS_SECONDS, QUICK_REQUESTS_SECONDS = 20.0, 6.0
# After a transfer's first byte: when its link changes, and when requests begin beside it, so that what they meet is how
# the transfer goes on and not how it begins.
THEN_AFTER_S, REQUESTS_AFTER_S = 1.25, 1.5


@dataclasses.dataclass(frozen=True)
class Link:
    """Each direction the same."""

    rate_mbit: float
    rtt_ms: float
    queue_kib: float
    loss: float = 0.0
    jitter_ms: float = 0.0  # either way from half the round trip; order is kept
    burst_loss: Optional[tuple] = None  # Gilbert-Elliott: into the bad state, out of it, loss while in it

    def settings(self):
        """-> lossylink's."""
        return {
            "rate_mbit": self.rate_mbit,
            "queue_kib": self.queue_kib,
            "delay_ms": self.rtt_ms / 2 - self.jitter_ms,
            "jitter_ms": 2 * self.jitter_ms,
            "loss": self.loss,
            "burst_loss": self.burst_loss,
        }

    def __str__(self):
        words = [f"{self.rate_mbit:g} Mbit/s", f"{self.rtt_ms:g} ms", f"{self.queue_kib:g} KiB"]
        words += [f"jitter {self.jitter_ms:g} ms"] if self.jitter_ms else []
        words += [f"loss {self.loss:.1%}"] if self.loss else []
        words += ["loss in bursts {:.0%} / {:.0%}".format(*self.burst_loss[:2])] if self.burst_loss else []
        return ", ".join(words)


@dataclasses.dataclass(frozen=True)
class Must:
    """What kcpsock is to reach; None: not asked for."""

    mbit: Optional[float] = None  # at least
    cost: Optional[float] = None  # at most, as all that follow: IP bytes into the link per byte delivered
    p50_ms: Optional[float] = None
    p99_ms: Optional[float] = None


@dataclasses.dataclass(frozen=True)
class Scene:
    name: str
    link: Link
    must: Must
    bytes: int = 0  # of a transfer; 0: none
    quick_bytes: int = 0  # with --quick, where that differs
    times: int = 1  # transfers, one after the other; the last is the figure
    requests: bool = False  # 200 bytes every 20 ms, answered by 2,000; beside the transfer if there is one
    then_mbit: float = 0.0  # the rate from THEN_AFTER_S on; 0: as before

    def transfer_bytes(self, quick):
        return self.quick_bytes if quick and self.quick_bytes else self.bytes

    @property
    def about(self):
        words = [str(self.link)]
        if self.bytes:
            words.append(f"{self.bytes / MB:g} MB")
        if self.then_mbit:
            words.append(f"{self.then_mbit:g} Mbit/s after {THEN_AFTER_S:g} s")
        if self.times > 1:
            words.append("by a second connection, after one like it")
        if self.requests:
            words.append("requests beside it" if self.bytes else "requests")
        return "; ".join(words)


def _base(loss):
    return Link(100, 50, 256, loss)


_FAR = Link(50, 300, 512, 0.03)
_ORBIT = Link(30, 600, 1024, 0.01)

SCENES = (
    Scene("base 0%", _base(0.0), Must(84, 1.06), 10 * MB),
    Scene("base 1%", _base(0.01), Must(82, 1.08), 10 * MB),
    Scene("base 5%", _base(0.05), Must(77, 1.12), 10 * MB),
    Scene("base 10%", _base(0.1), Must(72, 1.20), 10 * MB),
    Scene("long", _base(0.05), Must(85, 1.12), 100 * MB, quick_bytes=40 * MB),
    Scene("mobile", Link(10, 120, 128, 0.02, jitter_ms=5), Must(8.8, 1.08), 4 * MB),
    Scene("home", Link(50, 30, 512, 0.005), Must(46, 1.05), 15 * MB),
    Scene("bursts", Link(50, 80, 256, burst_loss=(0.01, 0.2, 1.0)), Must(39, 1.14), 10 * MB),
    Scene("far", _FAR, Must(31, 1.10), 15 * MB),
    Scene("orbit", _ORBIT, Must(16, 1.07), 15 * MB),
    Scene("shallow", Link(100, 50, 64), Must(87, 1.07), 20 * MB),
    Scene("bloat", Link(20, 30, 1000), Must(19, 1.05, 35, 45), 20 * MB, requests=True),
    Scene("drop", _base(0.0), Must(21, 1.15), 20 * MB, then_mbit=10),
    Scene("requests 0%", _base(0.0), Must(None, 1.15, 51, 53), requests=True),
    Scene("requests 1%", _base(0.01), Must(None, 1.3, 51, 60), requests=True),
    Scene("requests 5%", _base(0.05), Must(None, 2.0, 52, 75), requests=True),
    Scene("requests 10%", _base(0.1), Must(None, 2.6, 55, 105), requests=True),
    Scene("again 5%", _base(0.05), Must(80, 1.12), 10 * MB, times=2),
    Scene("again far", _FAR, Must(34, 1.10), 15 * MB, times=2),
    Scene("again orbit", _ORBIT, Must(19, 1.08), 15 * MB, times=2),
)
