# SPDX-License-Identifier: MIT
"""There and back, one message at a time: the client waits for the whole answer before it writes again."""

from scenarios import KEY, Metric, Scenario

WARMUP = 20  # round trips, not measured: first RTT samples, first allocations
_SALSA20_FEC = {"crypt": "salsa20", "key": KEY, "fec": "10,3"}


def _latency(**goals):
    return tuple(Metric(name, "us", "client", f"{name}_us", higher_is_better=False, **goals) for name in ("p50", "p99"))


def _echo(name, about, *, size, rounds, quick_rounds, metrics, flags=None):
    def by_count(count):
        return {"rounds": count, "bytes": size * (WARMUP + count)}  # the server ends by the byte count

    common = {"mode": "echo", "size": size, "warmup": WARMUP, **by_count(rounds), **(flags or {})}
    return Scenario(name, about, server=common, client=common, quick=by_count(quick_rounds), metrics=metrics)


_RATE = Metric("rate", "MB/s", "client", "rate", higher_is_better=True, floor=2.5, aim=4.0)
_REQUEST = _latency(floor=1.1, aim=0.8)
_ECHO_ABOUT = "salsa20, FEC 10/3: {} there and back; the rate counts each byte once"

SCENARIOS = [
    _echo(
        "echo 64 KiB",
        _ECHO_ABOUT.format("64 KiB"),
        size=65536,
        rounds=1000,
        quick_rounds=300,
        metrics=(_RATE, *_latency()),
        flags=_SALSA20_FEC,
    ),
    _echo(
        "echo 1 MiB",
        _ECHO_ABOUT.format("1 MiB"),
        size=1 << 20,
        rounds=100,
        quick_rounds=30,
        metrics=(_RATE, *_latency()),
        flags=_SALSA20_FEC,
    ),
    _echo(
        "request 64 B",
        "raw, no crypt, no FEC: 64 B there and back",
        size=64,
        rounds=5000,
        quick_rounds=1000,
        metrics=_REQUEST,
    ),
    _echo(
        "request 4 KiB",
        "raw, no crypt, no FEC: 4 KiB there and back",
        size=4096,
        rounds=5000,
        quick_rounds=1000,
        metrics=_REQUEST,
    ),
]
