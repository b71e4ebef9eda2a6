# SPDX-License-Identifier: MIT
"""What compare.py measures, as data: one module per kind of traffic, one Scenario per row or two of the table."""

import dataclasses
from typing import Optional

# The same for both ends of every rival that is KCP; kernel TCP has no use for them.
SETTINGS = {
    "sndwnd": 1024,
    "rcvwnd": 1024,
    "mtu": 1400,
    "nodelay": 1,
    "interval": 10,
    "resend": 2,
    "nc": 1,
    "sockbuf": 4 << 20,
    "stream": "true",
    "write-delay": "false",
    "ack-nodelay": "false",
}
KEY = "bench"  # of all encrypted rows

MET, AIM_MET, MISSED = "met", "aim met", "MISSED"


@dataclasses.dataclass(frozen=True)
class Metric:
    """One figure of a run: result[end][key], or for key "rate" bytes / seconds of that end in MB/s.

    It is compared as ours / theirs, whatever it is: of rates more is better, of latency, CPU and memory less. floor and
    aim are such ratios; limit is of the figure itself. 0 = none.
    """

    name: str
    unit: str
    end: str  # "server" or "client": where it is taken
    key: str
    higher_is_better: bool
    floor: float = 0.0
    aim: float = 0.0
    limit: Optional[float] = None

    def of(self, run):
        result = run[self.end]
        return result["bytes"] / result["seconds"] / 1e6 if self.key == "rate" else result[self.key]

    def ratio(self, ours, theirs):
        """ours / theirs; None when theirs is nothing, which no ratio can tell."""
        return ours / theirs if theirs else None

    def reaches(self, value, goal):
        return value >= goal if self.higher_is_better else value <= goal

    def verdict(self, ratio):
        """Of floor and aim; empty where there are none, or nothing to judge."""
        if not self.floor or ratio is None:
            return ""
        if self.aim and self.reaches(ratio, self.aim):
            return AIM_MET
        return MET if self.reaches(ratio, self.floor) else MISSED

    def limit_verdict(self, value):
        if self.limit is None or value is None:
            return ""
        return MET if self.reaches(value, self.limit) else MISSED


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    about: str
    server: dict  # flags of either end, beside SETTINGS
    client: dict
    quick: dict  # what differs with --quick, for both ends
    metrics: tuple
    timeout: float = 60.0  # seconds, for one run
    kind: str = "transfer"  # who runs it: compare.RUNNERS
    rivals: tuple = ()  # names; empty: all but those of guests.py
    guests: bool = False  # whether the packages of guests.py take part
    rounds: int = 0  # at most; 0: as many as are asked for

    def arguments(self, quick):
        """-> the flags of the server and of the client."""
        changed = self.quick if quick else {}
        return tuple(
            [f"--{name}={value}" for name, value in {**SETTINGS, **end, **changed}.items()]
            for end in (self.server, self.client)
        )

    @property
    def is_transfer(self):
        return self.kind == "transfer"


def load():
    from scenarios import crowd, echo, sink

    return [*sink.SCENARIOS, *echo.SCENARIOS, *crowd.SCENARIOS]
