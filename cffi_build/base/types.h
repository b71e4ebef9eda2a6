/* SPDX-License-Identifier: MIT */
/* The structs that Python and the data plane share. */
#ifndef KS_TYPES_H
#define KS_TYPES_H

#include <stdint.h>

#include "base/cdef.h"
#include "base/counters.h"

#define KS_DUP_MAX 15u
#define KS_MTU_AUTO (KS_KCP_MTU_MIN - 1) /* of mtu_bytes: found out, see path/pmtu.h */
#define KS_MTU_MAX 1472u /* of what we send: IPv4's 1500 less 28, and all that kcp-go reads; 1500 are received */

/* The settings of a connection, with the least and the most that each may be; the KS_* bounds are of kcp.h, seg.h and fec.h. The
 * struct, its check (profile.c) and what tests compare with Python's Profile come from this list. Python fills a field whose
 * name here is that of Profile's, or that with _pkts or _bytes; others by kcpsock/_connections.py. */
#define KS_PROFILE_FIELDS(FIELD) \
    FIELD(int32_t, framing, KS_FRAMING_RAW, KS_FRAMING_SMUX) \
    FIELD(int32_t, smux_version, 1, 2) \
    FIELD(int32_t, nodelay, 0, 1) \
    FIELD(int32_t, interval_ms, KS_KCP_INTERVAL_MIN, KS_KCP_INTERVAL_MAX) \
    FIELD(int32_t, resend, 0, KS_KCP_RESEND_MAX)       /* duplicate ACKs before fast retransmit, 0 = off */ \
    FIELD(int32_t, nc, 0, 1)                           /* 1: no congestion window */ \
    FIELD(int32_t, adaptive, 0, 1)                     /* 1: sends as the path allows, with nc 1; 0: as KCP does */ \
    FIELD(int32_t, insurance, -1, 400)                 /* copies, percent of the bytes sent; -1: as kcp_insure.c has it */ \
    FIELD(int32_t, sndwnd_pkts, 0, KS_KCP_WND_MAX)        /* 0: by the sender's kind */ \
    FIELD(int32_t, rcvwnd_pkts, 0, KS_KCP_WND_MAX)        /* 0: it follows what comes (base/follow.h) */ \
    FIELD(int32_t, mtu_bytes, KS_MTU_AUTO, KS_MTU_MAX) /* UDP payload */ \
    FIELD(int32_t, stream, 0, 1)                       /* raw framing: 1 stream, 0 message mode */ \
    FIELD(int32_t, ack_nodelay, 0, 1) \
    FIELD(int32_t, write_delay, 0, 1) \
    FIELD(int32_t, dscp, 0, 63) \
    FIELD(int32_t, sockbuf_bytes, 1, INT32_MAX)        /* SO_RCVBUF and SO_SNDBUF of the UDP socket */ \
    FIELD(int32_t, keepalive_ms, 0, 86400000)          /* smux NOP period, 0 = off */ \
    FIELD(int32_t, keepalive_timeout_ms, 1, 86400000)  /* nothing heard for so long: ETIMEDOUT */ \
    FIELD(int32_t, fec_data, 0, KS_FEC_SHARDS_MAX)     /* packets of a group; with the parity KS_FEC_SHARDS_MAX at most */ \
    FIELD(int32_t, fec_parity, 0, KS_FEC_SHARDS_MAX)   /* 0, 0: no FEC */ \
    FIELD(int32_t, dup, 0, KS_DUP_MAX)                 /* copies sent beside each packet */ \
    FIELD(int32_t, compress, 0, 1)                     /* smux: snappy framing below it */ \
    FIELD(int64_t, rate_limit, 0, INT64_C(1) << 40)    /* bytes/s of UDP payload, 0: none */ \
    FIELD(int32_t, max_streams, 1, 65536)              /* that a peer may hold open in one session */ \
    FIELD(int32_t, max_half_open, 0, 65536)            /* of a port: sessions begun by who has shown nothing yet */

#define KS_PROFILE_MEMBER(type, name, least, most) type name;

KS_CDEF

enum { KS_FRAMING_RAW = 0, KS_FRAMING_SMUX = 1 };

typedef struct ks_profile {
    KS_PROFILE_FIELDS(KS_PROFILE_MEMBER)
    int32_t crypt;                /* from ks_crypt_open, 0: none at all; taken over, also on failure */
    const uint8_t *fec_coefficients; /* fec_parity rows of fec_data bytes; read during the call only */
} ks_profile;

/* How long a connection's options bear silence, in ms; 0: as the profile says. */
typedef struct ks_patience {
    uint32_t idle_ms;             /* nothing came for so long: the peer is asked ... */
    uint32_t interval_ms;         /* ... and again, so long after the last time at most */
    uint32_t silence_ms;          /* nothing came for so long: ETIMEDOUT */
    uint32_t unacked_ms;          /* what was sent is not acknowledged for so long: ETIMEDOUT. It stands for silence_ms too */
    uint32_t connect_ms;          /* likewise, while connect() is in progress */
} ks_patience;

/* The list for Python; an entry without a name ends it. */
typedef struct { const char *name; int64_t least, most; } ks_bounds;
extern const ks_bounds ks_profile_bounds[];

/* What an accept() message holds beside the descriptor. Ports and addresses in host order / network order bytes. */
typedef struct ks_accept_msg {
    uint16_t family;              /* AF_INET or AF_INET6 */
    uint16_t peer_port, local_port, reserved;
    uint32_t peer_flowinfo, peer_scope, local_flowinfo, local_scope;
    uint8_t peer_addr[16], local_addr[16];
} ks_accept_msg;

#define KS_STATE_MEMBER(member, meaning) uint32_t member;
typedef struct ks_info {
    KS_INFO_STATE(KS_STATE_MEMBER)
    KS_INFO_COUNTERS(KS_COUNTER)
    uint32_t role;                /* 1 connection, 2 listener */
    uint32_t waiting, backlog;    /* a listener: connections that wait for accept() */
    uint32_t resent;              /* times that the oldest of what is not acknowledged was sent again */
    uint32_t lost_pkts;           /* of what is in flight, what counts as lost, or was sent again since it did */
    uint32_t srtt_us;             /* as srtt_ms */
    uint32_t silent_ms, unsent_ms; /* since the peer was heard; since data or a frame was put to be sent */
    ks_accept_msg names;
} ks_info;

KS_CDEF_END

#endif
