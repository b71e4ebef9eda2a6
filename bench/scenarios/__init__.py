# SPDX-License-Identifier: MIT
"""What compare.py measures, as data: one module per kind of traffic, one Scenario per row of the table."""

import dataclasses

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


@dataclasses.dataclass(frozen=True)
class Metric:
    """One figure of a run: result[end][key], or for key "rate" bytes / seconds of that end in MB/s."""

    name: str
    unit: str
    end: str  # "server" or "client": where it is taken
    key: str
    higher_is_better: bool
    floor: float = 0.0  # kcpsock is to be at least so many times as good as the better kcp-go; 0 = no such aim

    def of(self, run):
        result = run[self.end]
        return result["bytes"] / result["seconds"] / 1e6 if self.key == "rate" else result[self.key]

    def advantage(self, ours, theirs):
        """How many times better `ours` is; above 1 is better, whatever the unit."""
        return ours / theirs if self.higher_is_better else theirs / ours


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    about: str
    server: dict  # flags of either end, beside SETTINGS
    client: dict
    quick: dict  # flags that differ with --quick, for both ends
    metrics: tuple
    timeout: float = 60.0  # seconds, for one run

    def arguments(self, quick):
        """-> the flags of the server and of the client."""
        changed = self.quick if quick else {}
        return tuple(
            [f"--{name}={value}" for name, value in {**SETTINGS, **end, **changed}.items()]
            for end in (self.server, self.client)
        )


def load():
    from scenarios import echo, sink

    return [*sink.SCENARIOS, *echo.SCENARIOS]
