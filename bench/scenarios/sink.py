# SPDX-License-Identifier: MIT
"""One way, as fast as it goes: the client writes 64 KiB blocks, the server counts what arrives."""

from scenarios import KEY, Metric, Scenario


def _sink(name, about, *, mib, quick_mib, floor, aim, flags=None, guests=False):
    common = {"mode": "sink", "bytes": mib << 20, **(flags or {})}
    return Scenario(
        name,
        f"{about}; one way in writes of 64 KiB, rate taken by the receiver from its first byte to its last",
        server=common,
        client={**common, "write": 65536},
        quick={"bytes": quick_mib << 20},
        metrics=(Metric("rate", "MB/s", "server", "rate", higher_is_better=True, floor=floor, aim=aim),),
        guests=guests,
    )


SCENARIOS = [
    _sink("sink", "raw, no crypt, no FEC", mib=512, quick_mib=128, floor=3.0, aim=5.0, guests=True),
    _sink(
        "sink smux",
        "smux v2, aes-128-gcm, FEC 10/3",
        mib=256,
        quick_mib=64,
        floor=3.0,
        aim=6.0,
        flags={"framing": "smux", "smux-version": 2, "crypt": "aes-128-gcm", "key": KEY, "fec": "10,3"},
    ),
]
