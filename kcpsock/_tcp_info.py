# SPDX-License-Identifier: MIT
"""TCP_INFO of a KCP socket: Linux's struct tcp_info (linux/tcp.h), filled from KCP's state. What KCP has not got is 0.

Units are the struct's: times of the round trip in us, others in ms; windows and counts in packets.
"""

from __future__ import annotations

import struct
from typing import Any, Optional

from ._states import State

# Up to tcpi_snd_wnd (Linux 5.4). u64 fields stand where they are aligned.
_NAMES = (
    "state ca_state retransmits probes backoff options wscale flags "
    "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv "
    "last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space "
    "total_retrans pacing_rate max_pacing_rate bytes_acked bytes_received segs_out segs_in notsent_bytes min_rtt "
    "data_segs_in data_segs_out delivery_rate busy_time rwnd_limited sndbuf_limited delivered delivered_ce bytes_sent "
    "bytes_retrans dsack_dups reord_seen rcv_ooopack snd_wnd"
).split()
_STRUCT = struct.Struct("=8B24I4Q6I4Q2I2Q4I")

ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE, CLOSE_WAIT, LISTEN = 1, 2, 4, 5, 7, 8, 10
_NO_LIMIT = 2**64 - 1  # tcpi_max_pacing_rate without one
_INFINITE_SSTHRESH = 0x7FFFFFFF


def tcp_state(state: State, *, ended: bool, peer_ended: bool, unacked: bool) -> int:
    """The number of TCP's state. `ended`, `peer_ended`: which directions of a connection are over."""
    if state is State.LISTENING:
        return LISTEN
    if state is State.CONNECTING:
        return SYN_SENT
    if state is not State.CONNECTED or (ended and peer_ended):
        return CLOSE
    if ended:
        return FIN_WAIT1 if unacked else FIN_WAIT2
    return CLOSE_WAIT if peer_ended else ESTABLISHED


def tcp_info(number: int, info: Optional[Any]) -> bytes:
    """The struct. `info`: a ks_info of the connection, or of the listener; None: no engine of this process has it."""
    fields = dict.fromkeys(_NAMES, 0)
    fields["state"] = number
    if info is not None and number == LISTEN:
        fields.update(unacked=info.waiting, sacked=info.backlog)
    elif info is not None:
        fields.update(_of_connection(info))
    return _STRUCT.pack(*fields.values())


def _of_connection(info: Any) -> dict[str, int]:
    mss, rttvar_us = info.mss_bytes, 1000 * info.rttvar_ms
    return {
        "retransmits": min(info.resent, 255),
        "backoff": min(info.resent, 255),
        "rto": 1000 * info.rto_ms,
        "snd_mss": mss,
        "rcv_mss": mss,
        "advmss": mss,
        "pmtu": info.path_mtu,
        "unacked": info.in_flight_pkts,
        "lost": info.lost_pkts,
        "retrans": info.resent,
        "total_retrans": min(info.retrans_segs, 2**32 - 1),
        "last_data_sent": info.unsent_ms,
        "last_data_recv": info.silent_ms,
        "last_ack_recv": info.silent_ms,
        "rtt": info.srtt_us,
        "rttvar": rttvar_us,
        "min_rtt": info.min_rtt_us,
        "snd_ssthresh": _INFINITE_SSTHRESH,
        "snd_cwnd": info.cwnd_pkts,
        "snd_wnd": min(info.rmt_wnd_pkts * mss, 2**32 - 1),
        "rcv_space": min(info.rcv_wnd_pkts * mss, 2**32 - 1),
        "rcv_ssthresh": min(info.rcv_wnd_pkts * mss, 2**32 - 1),
        "reordering": 3,
        "pacing_rate": info.pacing_rate or _NO_LIMIT,
        "max_pacing_rate": _NO_LIMIT,
        "delivery_rate": info.delivery_rate,
        "bytes_sent": info.bytes_sent,
        "bytes_acked": max(info.bytes_sent - (info.in_flight_pkts + info.queued_pkts) * mss, 0),
        "bytes_received": info.bytes_received,
        "notsent_bytes": min(info.queued_pkts * mss, 2**32 - 1),
        "segs_out": min(info.out_segs, 2**32 - 1),
        "segs_in": min(info.in_segs, 2**32 - 1),
        "data_segs_out": min(info.out_segs, 2**32 - 1),
        "data_segs_in": min(info.in_segs, 2**32 - 1),
    }
