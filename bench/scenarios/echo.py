# SPDX-License-Identifier: MIT
"""There and back, one message at a time: the client waits for the whole answer before it writes again."""

from scenarios import Metric, Scenario

WARMUP = 20  # round trips, not measured: first RTT samples, first allocations
_LATENCY = (
    Metric("p50", "us", "client", "p50_us", higher_is_better=False),
    Metric("p99", "us", "client", "p99_us", higher_is_better=False),
)


def _echo(name, about, *, size, rounds, quick_rounds, metrics):
    def flags(count):
        return {"rounds": count, "bytes": size * (WARMUP + count)}  # the server ends by the byte count

    common = {"mode": "echo", "size": size, "warmup": WARMUP, **flags(rounds)}
    return Scenario(name, about, server=common, client=common, quick=flags(quick_rounds), metrics=metrics)


SCENARIOS = [
    _echo(
        "echo 64 KiB",
        "64 KiB there and back; the rate counts each byte once",
        size=65536,
        rounds=2000,
        quick_rounds=300,
        metrics=(Metric("rate", "MB/s", "client", "rate", higher_is_better=True), *_LATENCY),
    ),
    _echo("echo 4 KiB", "4 KiB there and back", size=4096, rounds=5000, quick_rounds=1000, metrics=_LATENCY),
]
