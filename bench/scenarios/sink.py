# SPDX-License-Identifier: MIT
"""One way, as fast as it goes: the client writes 64 KiB blocks, the server counts what arrives."""

from scenarios import Metric, Scenario

_TOTAL = {"mode": "sink", "bytes": 512 << 20}

SCENARIOS = [
    Scenario(
        name="sink",
        about="one way in writes of 64 KiB; rate taken by the receiver from its first byte to its last",
        server=_TOTAL,
        client={**_TOTAL, "write": 65536},
        quick={"bytes": 128 << 20},
        metrics=(Metric("rate", "MB/s", "server", "rate", higher_is_better=True, floor=1.0),),
    ),
]
