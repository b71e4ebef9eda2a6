# SPDX-License-Identifier: MIT
"""Many connections on one server process: each is echoed 64 bytes once a second, or holds still.

The clients of every rival that is KCP are kcpsock's, so that the load is the same; raw framing, no crypt, no FEC.
"""

from scenarios import Metric, Scenario

SIZE = 64
_P50 = Metric("p50", "us", "client", "p50_us", higher_is_better=False)


def _p99(**goals):
    return Metric("p99", "us", "client", "p99_us", higher_is_better=False, **goals)


_CPU = Metric("CPU", "% of a core", "server", "cpu_percent", higher_is_better=False, floor=0.5, aim=0.2)
_MEMORY = Metric("memory each", "KiB", "server", "kib_each", higher_is_better=False, floor=0.25, aim=0.1)
_ANSWERS = Metric("answers", "/s", "client", "answers_per_s", higher_is_better=True)
_UNANSWERED = Metric("unanswered", "", "client", "unanswered", higher_is_better=False, limit=0)


def _held(count):
    return Metric("connections", "", "server", "connections", higher_is_better=True, limit=count)


def _plain(metric):
    return Metric(metric.name, metric.unit, metric.end, metric.key, metric.higher_is_better)


def _flags(connections, seconds):
    return {"connections": connections, "size": SIZE, "seconds": seconds}


_5000 = _flags(5000, 10)
_10000 = _flags(10000, 10)
_50000 = {"connections": 50000, "size": 1, "seconds": 10, "sample": 1000}

SCENARIOS = [
    Scenario(
        "crowd 5000",
        f"5,000 connections, each echoed {SIZE} B once a second",
        server=_5000,
        client=_5000,
        quick={"seconds": 4},
        metrics=(_CPU, _MEMORY, _P50, _p99(), _ANSWERS, _UNANSWERED),
        timeout=150.0,
        kind="crowd",
    ),
    Scenario(
        "crowd 10000",
        f"10,000 connections on one server process, each echoed {SIZE} B once a second",
        server=_10000,
        client=_10000,
        quick={"seconds": 4},
        metrics=(_held(10000), _UNANSWERED, _P50, _p99(limit=50000), _ANSWERS, _plain(_CPU), _plain(_MEMORY)),
        timeout=240.0,
        kind="crowd",
        rivals=("kcpsock", "kcp-go", "TCP"),
        rounds=1,
    ),
    Scenario(
        "rest 50000",
        "50,000 connections on one server process: each carried one byte, rested, and of 1,000 another is asked",
        server=_50000,
        client=_50000,
        quick={"seconds": 3},
        metrics=(_held(50000), _UNANSWERED, _p99(), _plain(_CPU), _plain(_MEMORY)),
        timeout=400.0,
        kind="rest",
        rivals=("kcpsock", "TCP"),
        rounds=1,
    ),
]
