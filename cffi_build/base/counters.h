/* SPDX-License-Identifier: MIT */
/* Every number that Python is told, in two lists: what is counted, and the state of a connection. The structs, the sums, the
 * copies and Python's names and documentation come from them.
 *
 * A new counter is a line here and one where it is counted; one of a session or of its parts also a line in KCPInfo
 * (kcpsock/_numbers.py). */
#ifndef KS_COUNTERS_H
#define KS_COUNTERS_H

#include <stdint.h>

#include "base/cdef.h"

/* By who counts: a session, its ARQ, its FEC decoder, an engine; and what nobody counts, but is looked up in the moment.
 * Each has a member's name, its name in stats(), in whose order they stand (kcp-go's SNMP names first), and a meaning. */
#define KS_COUNTERS(SESSION, KCP, FEC, ENGINE, MOMENT) \
    SESSION(bytes_sent, "BytesSent", "bytes that applications sent") \
    SESSION(bytes_received, "BytesReceived", "bytes received for applications") \
    ENGINE(max_conn, "MaxConn", "most connections at a time; each engine's highest number is added") \
    ENGINE(active_opens, "ActiveOpens", "sessions that this process began") \
    ENGINE(passive_opens, "PassiveOpens", "sessions that peers began") \
    ENGINE(curr_estab, "CurrEstab", "connections at the moment") \
    ENGINE(in_errs, "InErrs", "packets that no session could use") \
    ENGINE(in_csum_errors, "InCsumErrors", "packets with a wrong checksum or tag, as those with another key") \
    ENGINE(kcp_in_errors, "KCPInErrors", "packets that KCP refused") \
    ENGINE(in_pkts, "InPkts", "UDP packets received") \
    ENGINE(out_pkts, "OutPkts", "UDP packets sent") \
    KCP(in_segs, "InSegs", "KCP segments received") \
    KCP(out_segs, "OutSegs", "KCP segments sent") \
    ENGINE(in_bytes, "InBytes", "bytes of UDP payload received") \
    ENGINE(out_bytes, "OutBytes", "bytes of UDP payload sent") \
    KCP(retrans_segs, "RetransSegs", "segments sent again, for whatever reason") \
    KCP(fast_retrans_segs, "FastRetransSegs", "segments sent again because later ones were acknowledged") \
    KCP(early_retrans_segs, "EarlyRetransSegs", "segments sent again early, as nothing else was left to send") \
    KCP(lost_segs, "LostSegs", "segments sent again after their timeout") \
    KCP(repeat_segs, "RepeatSegs", "segments received more than once") \
    FEC(fec_full_sets, "FECFullShardSet", "FEC groups of which all data packets came or were rebuilt") \
    FEC(fec_recovered, "FECRecovered", "packets rebuilt by FEC") \
    FEC(fec_errs, "FECErrs", "packets that FEC could not rebuild though enough of their group came, or refused") \
    FEC(fec_parity_shards, "FECParityShards", "parity packets received") \
    FEC(fec_short_sets, "FECShardSet", "FEC groups given up incomplete (kcp-go: those that one session holds at the moment)") \
    MOMENT(fec_shard_min, "FECShardMin", "always 0 (kcp-go: the number of one session's newest group)") \
    MOMENT(snd_queue_pkts, "RingBufferSndQueue", "packets at the moment that wait to be sent") \
    MOMENT(rcv_queue_pkts, "RingBufferRcvQueue", "packets at the moment that wait to be read") \
    MOMENT(snd_buffer_pkts, "RingBufferSndBuffer", "packets at the moment that were sent and not acknowledged") \
    SESSION(oob_received, "OOBPackets", "out-of-band packets received") \
    ENGINE(oob_drops, "OOBDrops", "out-of-band packets received or to be sent, and dropped") \
    ENGINE(smux_errors, "SmuxErrors", "sessions ended by a broken smux frame") \
    ENGINE(udp_send_drops, "UdpSendDrops", "packets that the system did not take") \
    ENGINE(udp_recv_drops, "UdpRecvDrops", "packets that the system dropped, since its buffer was full") \
    ENGINE(resets_sent, "ResetsSent", "connections that this end reset or refused") \
    ENGINE(resets_received, "ResetsReceived", "connections that the peer reset or refused") \
    ENGINE(cookies_sent, "CookiesSent", "challenges sent to strangers, of whom nothing is kept: max_half_open was reached") \
    ENGINE(reflected_pkts, "ReflectedPkts", "packets that we had sealed ourselves and somebody sent back; dropped") \
    ENGINE(backlog_drops, "BacklogDrops", "connections refused, or kept waiting, because accept() was too far behind or no descriptor was free") \
    ENGINE(busy_polls, "BusyPolls", "waits of an engine that began by polling (KCPSOCK_BUSY_POLL)") \
    ENGINE(moves, "Moves", "times that a peer went on from another address, or this end did") \
    ENGINE(stray_pkts, "StrayPkts", "packets of such a peer that came to another engine than its connection's, and were passed on") \
    KCP(doubted_pkts, "DoubtedPkts", "packets that anybody may have sent, of which something was not believed; the peer was asked") \
    MOMENT(sessions, "Sessions", "KCP sessions at the moment") \
    MOMENT(streams, "Streams", "smux streams, or sessions of raw framing, at the moment") \
    MOMENT(memory_bytes, "MemoryBytes", "bytes at the moment that the data plane has allocated") \
    SESSION(oob_sent, "OOBSent", "out-of-band packets sent") \
    ENGINE(mtu_probes, "MtuProbes", "packets without data, sent to find out how long packets may be on the path") \
    ENGINE(mtu_falls, "MtuFalls", "times that a path turned out to take shorter packets only") \
    ENGINE(stream_drops, "StreamDrops", "smux streams refused because their session had max_streams of them") \
    SESSION(pre_ack_bytes, "PreAckBytes", "bytes of UDP payload sent before the peer of the session had acknowledged anything") \
    KCP(insured_segs, "InsuredSegs", "copies of segments sent before their loss was known, where it would have shown late") \
    KCP(insured_useful, "InsuredUseful", "such copies that arrived where the first one did not")

/* The rest of kcp_info(): how a connection is at this moment. */
#define KS_INFO_STATE(STATE) \
    STATE(conv, "number of the KCP conversation, the same at both ends") \
    STATE(srtt_ms, "round trip time in ms, smoothed; 0: not measured yet") \
    STATE(rttvar_ms, "variation of the round trip time in ms") \
    STATE(rto_ms, "retransmission timeout in ms, of a segment sent now") \
    STATE(snd_wnd_pkts, "send window in packets") \
    STATE(rcv_wnd_pkts, "receive window in packets") \
    STATE(rmt_wnd_pkts, "what the peer has room for in packets, as it said last") \
    STATE(cwnd_pkts, "packets that may be in flight: the least of both windows and, with nc=0, the congestion window") \
    STATE(in_flight_pkts, "packets sent and not acknowledged") \
    STATE(queued_pkts, "packets that wait to be sent") \
    STATE(unread_pkts, "packets received that the application's buffers have no room for yet") \
    STATE(mss_bytes, "bytes of a packet that are left for data") \
    STATE(path_mtu, "bytes of UDP payload that a packet may have now: with mtu=\"auto\" what the path is known to take, else mtu") \
    STATE(fec_data, "data packets of a FEC group, as the peer sends them; 0: it sends no FEC, or that is not found out yet") \
    STATE(fec_parity, "parity packets of such a group") \
    STATE(delivery_rate, "bytes/s of KCP packets that the path delivers, as measured; 0: not known yet, or control=\"fixed\"") \
    STATE(pacing_rate, "bytes/s of KCP packets that go out at most at the moment; 0: as they come") \
    STATE(min_rtt_us, "the least round trip time of late in us: without a queue; 0: not measured yet") \
    STATE(loss_ppm, "of a million segments sent lately, those lost") \
    STATE(bound_by, "what holds data back: 0 nothing, the application sends no more; 1 the peer's window; 2 the send window; " \
                    "3 what the path holds is under way; 4 pacing; 5 rate_limit, or the peer has not shown that it is there") \
    STATE(streams, "smux streams in this session; 1 with raw framing")

#define KS_SKIP(member, name, meaning)
#define KS_SESSION_COUNTERS(X) KS_COUNTERS(X, KS_SKIP, KS_SKIP, KS_SKIP, KS_SKIP)
#define KS_KCP_COUNTERS(X) KS_COUNTERS(KS_SKIP, X, KS_SKIP, KS_SKIP, KS_SKIP)
#define KS_FEC_COUNTERS(X) KS_COUNTERS(KS_SKIP, KS_SKIP, X, KS_SKIP, KS_SKIP)
/* What is counted in each connection. */
#define KS_INFO_COUNTERS(X) KS_COUNTERS(X, X, X, KS_SKIP, KS_SKIP)

#define KS_COUNTER(member, name, meaning) uint64_t member;
typedef struct { KS_SESSION_COUNTERS(KS_COUNTER) } ks_session_counts;
typedef struct { KS_KCP_COUNTERS(KS_COUNTER) } ks_kcp_counts;
typedef struct { KS_FEC_COUNTERS(KS_COUNTER) } ks_fec_counts;
/* An engine's own, and of each of its sessions after its end. Only the engine's thread writes them. */
typedef struct { KS_COUNTERS(KS_COUNTER, KS_COUNTER, KS_COUNTER, KS_COUNTER, KS_SKIP) } ks_counters;

KS_CDEF
typedef struct { KS_COUNTERS(KS_COUNTER, KS_COUNTER, KS_COUNTER, KS_COUNTER, KS_COUNTER) } ks_stats;

/* The lists for Python; an entry without a member ends each. */
typedef struct { const char *member, *name, *meaning; } ks_number;
extern const ks_number ks_stats_numbers[], ks_info_numbers[]; /* those of ks_info have no name beside the member's */
KS_CDEF_END

#endif
