/* SPDX-License-Identifier: MIT */
/* The structs that Python and the data plane share; api.cdef says the same to cffi. */
#ifndef KS_TYPES_H
#define KS_TYPES_H

#include <stdint.h>

enum { KS_FRAMING_RAW = 0, KS_FRAMING_SMUX = 1 };
#define KS_DUP_MAX 15u

typedef struct ks_profile {
    int32_t framing;              /* 0 raw, 1 smux */
    int32_t smux_version;         /* 1 or 2 */
    int32_t nodelay;              /* 0 or 1 */
    int32_t interval_ms;          /* 10..5000 */
    int32_t resend;               /* duplicate ACKs before fast retransmit, 0 = off, at most 16 */
    int32_t nc;                   /* 1: no congestion window */
    int32_t sndwnd_pkts;
    int32_t rcvwnd_pkts;
    int32_t mtu_bytes;            /* UDP payload */
    int32_t stream;               /* raw framing: 1 stream, 0 message mode */
    int32_t ack_nodelay;
    int32_t write_delay;
    int32_t dscp;                 /* 0..63 */
    int32_t sockbuf_bytes;        /* SO_RCVBUF and SO_SNDBUF of the UDP socket */
    int32_t keepalive_ms;         /* smux NOP period, 0 = off */
    int32_t keepalive_timeout_ms; /* nothing heard for so long: ETIMEDOUT */
    int32_t crypt;                /* from ks_crypt_open, 0: none at all; taken over, also on failure */
    int32_t fec_data, fec_parity; /* packets of a group; 0, 0: no FEC */
    const uint8_t *fec_coefficients; /* fec_parity rows of fec_data bytes; read during the call only */
    int32_t dup;                  /* copies sent beside each packet, 0..15 */
    int32_t compress;             /* smux: snappy framing below it */
    int64_t rate_limit;           /* bytes/s of UDP payload, 0: none */
} ks_profile;

/* What an accept() message holds beside the descriptor. Ports and addresses in host order / network order bytes. */
typedef struct ks_accept_msg {
    uint16_t family;              /* AF_INET or AF_INET6 */
    uint16_t peer_port, local_port, reserved;
    uint32_t peer_flowinfo, peer_scope, local_flowinfo, local_scope;
    uint8_t peer_addr[16], local_addr[16];
} ks_accept_msg;

typedef struct ks_info {
    uint32_t conv;
    uint32_t srtt_ms, rttvar_ms, rto_ms;
    uint32_t snd_wnd_pkts, rcv_wnd_pkts, rmt_wnd_pkts, cwnd_pkts;
    uint32_t in_flight_pkts, queued_pkts, unread_pkts, mss_bytes;
    uint64_t out_segs, in_segs, retrans_segs, fast_retrans_segs, early_retrans_segs, lost_segs, repeat_segs;
    uint64_t bytes_sent, bytes_received;
    uint64_t fec_recovered, fec_errs, fec_parity_shards, fec_full_sets, fec_short_sets;
    uint32_t fec_data, fec_parity; /* the peer's, as found out; 0 when there is no FEC */
    uint64_t oob_sent, oob_received;
    uint32_t streams;             /* in this session */
    uint32_t role;                /* 1 connection, 2 listener */
    ks_accept_msg names;
} ks_info;

typedef struct ks_stats {
    uint64_t bytes_sent, bytes_received, max_conn, active_opens, passive_opens, curr_estab, in_errs, in_csum_errors,
        kcp_in_errors, in_pkts, out_pkts, in_segs, out_segs, in_bytes, out_bytes, retrans_segs, fast_retrans_segs,
        early_retrans_segs, lost_segs, repeat_segs, smux_errors, udp_send_drops, udp_recv_drops, resets_sent, resets_received,
        backlog_drops, busy_polls, sessions, streams, memory_bytes, fec_recovered, fec_errs, fec_parity_shards, fec_full_sets,
        fec_short_sets, oob_packets, oob_drops, snd_queue_pkts, snd_buffer_pkts, rcv_queue_pkts;
} ks_stats;

#endif
