# SPDX-License-Identifier: MIT
"""What is counted: of a connection (KCPInfo), and of the whole process (stats())."""

from __future__ import annotations

import dataclasses
import inspect
from errno import ENOTCONN, ENOTSOCK
from typing import Any, NamedTuple, Optional

from ._errors import check, error_of
from ._native import ffi, lib


class _Number(NamedTuple):
    # What cffi_build/base/counters.h says of one: its member in C, its name in stats(), its meaning.
    member: str
    name: str
    meaning: str


def _numbers(listed: Any) -> list[_Number]:
    # A list of C's.
    found: list[_Number] = []
    while (number := listed[len(found)]).member:
        texts = [ffi.string(text).decode() for text in (number.member, number.name or number.member, number.meaning)]
        found.append(_Number(*texts))
    return found


def _document(what: Any, numbers: list[_Number]) -> None:
    if what.__doc__:  # not with -OO
        listed = "".join(f"\n{number.name}: {number.meaning}" for number in numbers)
        what.__doc__ = f"{inspect.cleandoc(what.__doc__)}\n{listed}\n"


@dataclasses.dataclass(frozen=True)
class KCPInfo:
    """A connection's state at one moment, and its counters since it began. Where smux streams share a session, they
    share these numbers.
    """

    conv: int
    srtt_ms: int
    rttvar_ms: int
    rto_ms: int
    snd_wnd_pkts: int
    rcv_wnd_pkts: int
    rmt_wnd_pkts: int
    cwnd_pkts: int
    in_flight_pkts: int
    queued_pkts: int
    unread_pkts: int
    mss_bytes: int
    out_segs: int
    in_segs: int
    retrans_segs: int
    fast_retrans_segs: int
    early_retrans_segs: int
    lost_segs: int
    insured_segs: int
    insured_useful: int
    repeat_segs: int
    bytes_sent: int
    bytes_received: int
    fec_recovered: int
    fec_errs: int
    fec_parity_shards: int
    fec_full_sets: int
    fec_short_sets: int
    fec_data: int
    fec_parity: int
    delivery_rate: int
    pacing_rate: int
    min_rtt_us: int
    loss_ppm: int
    bound_by: int
    path_mtu: int
    oob_sent: int
    oob_received: int
    doubted_pkts: int
    streams: int
    pre_ack_bytes: int

    @property
    def loss(self) -> float:
        """Share of the sent segments that had to be sent again, 0 to 1."""
        return self.retrans_segs / self.out_segs if self.out_segs else 0.0


_INFO_FIELDS = [field.name for field in dataclasses.fields(KCPInfo)]
_document(KCPInfo, _numbers(lib.ks_info_numbers))


def all_of(fd: int) -> Optional[Any]:
    """The ks_info of a connection or listener; None when no engine of this process has it."""
    found = ffi.new("ks_info *")
    return None if int(lib.ks_get_info(fd, found)) < 0 else found


def info(fd: int) -> KCPInfo:
    """The numbers of a connection; OSError for a listener or what is no KCP connection."""
    found = ffi.new("ks_info *")
    result = int(lib.ks_get_info(fd, found))
    if result == -ENOTSOCK:
        raise error_of(ENOTCONN)  # both directions have ended: the engine has let go of it
    check(result)
    return KCPInfo(**{name: getattr(found, name) for name in _INFO_FIELDS})


_STATS = _numbers(lib.ks_stats_numbers)


def stats() -> dict[str, int]:
    """Totals of this process over all its KCP connections since it started, under kcp-go's SNMP names. Those "at the
    moment" go up and down.
    """
    totals = ffi.new("ks_stats *")
    check(lib.ks_get_stats(totals))
    return {number.name: int(getattr(totals, number.member)) for number in _STATS}


_document(stats, _STATS)
