# SPDX-License-Identifier: MIT
"""The figures of one transfer through the link, computed from what its three processes counted."""

import dataclasses
import math
import typing


@dataclasses.dataclass(frozen=True)
class Figure:
    title: str
    unit: str
    digits: int
    of: typing.Callable  # (scenarios.grow.Transfer, {"server", "client", "link"}) -> float


def rate_mb_s(_transfer, run):
    return run["server"]["bytes"] / run["server"]["seconds"] / 1e6


def efficiency(transfer, run):
    return rate_mb_s(transfer, run) / transfer.bound_mb_s


def cpu_s_per_gb(_transfer, run):
    return 1e9 * (run["server"]["cpu_s"] + run["client"]["cpu_s"]) / run["server"]["bytes"]


def wire(_transfer, run):
    return run["link"]["up"]["received_bytes"] / run["server"]["bytes"]


def acks(_transfer, run):
    return run["link"]["down"]["received_bytes"] / run["server"]["bytes"]


def wire_excess(transfer, run):
    """What was sent beyond the need, in bytes per byte."""
    return wire(transfer, run) - transfer.least_wire


def again_per_lost(transfer, run):
    """Packets beyond those of a link without loss, per packet lost: 1 is perfect, below 1 FEC has spared some."""
    up = run["link"]["up"]
    lost = up["lost"] + up["kernel_dropped"]
    packets = math.ceil(run["server"]["bytes"] / transfer.mss_bytes)
    if transfer.fec:
        data, parity = (int(n) for n in transfer.fec.split(","))
        packets += packets * parity // data
    return (up["received"] + up["kernel_dropped"] - packets) / lost if lost else math.nan


def overrun_percent(_transfer, run):
    """Packets that the kernel dropped before the link read them, of all: the link itself was full."""
    up = run["link"]["up"]
    return 100 * up["kernel_dropped"] / (up["received"] + up["kernel_dropped"])


FIGURES = {
    "rate": Figure("rate, at the receiver", "MB/s", 2, rate_mb_s),
    "efficiency": Figure("of the bound (window * mss / RTT)", "", 2, efficiency),
    "cpu": Figure("CPU, both ends", "s/GB", 2, cpu_s_per_gb),
    "wire": Figure("into the link per byte delivered", "bytes", 3, wire),
    "acks": Figure("ACKs' way per byte delivered", "bytes", 4, acks),
    "wire_excess": Figure("beyond the least possible", "bytes", 3, wire_excess),
    "again": Figure("sent again per lost packet", "", 2, again_per_lost),
    "overrun": Figure("dropped before the link (it was full)", "%", 1, overrun_percent),
}
