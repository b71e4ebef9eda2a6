/* SPDX-License-Identifier: MIT */
/* The ARQ of KCP (PROTOCOL.md 1): reliable, ordered delivery over packets that may be lost, repeated or reordered.
 *
 * A state machine alone: no I/O and no clock. It is driven by ks_kcp_alloc_tail/commit or ks_kcp_send (the application's
 * data), ks_kcp_input (a packet came), ks_kcp_pop (the application reads), and ks_kcp_flush (send what is due now). Time
 * is an argument in ms, 32 bits, and may wrap; so may sn. No call allocates in the steady state except segments from
 * the pools.
 *
 * Cost: O(1) per segment sent, received or acknowledged, whatever the window. Sent segments stand in a ring indexed by
 * sn, and in one list per back-off level, ordered by their latest transmission. A level's retransmission timeout is a
 * function of the current RTO, so each list is also ordered by due time, and only its head needs a look. The fast
 * retransmit rule (`resend` packets acknowledged something sent later) is judged by transmission order too: with L the
 * resend-th largest transmission number that such packets acknowledged, exactly the segments sent before L are lost,
 * and they stand at the heads of the lists.
 *
 * Not thread-safe; one owner. */
#ifndef KS_KCP_H
#define KS_KCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "seg.h"

#define KS_KCP_MTU_MIN 50u
#define KS_KCP_WND_MAX 32768u /* half of what the 16-bit window field can say, so that a ring never laps itself */
#define KS_KCP_LEVELS 8u      /* back-off stops growing at the last one */
#define KS_KCP_RESEND_MAX 16u
#define KS_KCP_FRAGMENTS_MAX 255u /* of one message */
#define KS_KCP_DEAD_XMIT 20u  /* transmissions of one segment */

typedef struct {
    uint32_t conv;
    uint32_t mtu;               /* bytes of a packet, header included; KS_KCP_MTU_MIN..MAX */
    uint32_t snd_wnd, rcv_wnd;  /* packets, 1..KS_KCP_WND_MAX */
    uint32_t interval;          /* ms; clamped to 10..5000 */
    uint32_t resend;            /* 0 = no fast retransmit, at most KS_KCP_RESEND_MAX */
    bool nodelay;               /* RTO at least 30 ms instead of 100, slower back-off */
    bool nc;                    /* no congestion window */
    bool stream;                /* byte stream; else messages keep their bounds */
    bool ack_nodelay;           /* acknowledge at once, always */
    bool write_delay;           /* new data waits for the next interval */
} ks_kcp_config;

typedef struct {
    uint64_t out_segs, in_segs, retrans_segs, fast_retrans_segs, early_retrans_segs, lost_segs, repeat_segs;
} ks_kcp_counts;

typedef struct {
    ks_seg *head, *tail;
} ks_flight;

typedef struct ks_kcp {
    ks_kcp_config cfg;
    uint32_t mss;
    ks_seg_pools *pools;

    /* sender: snd_una <= snd_nxt <= snd_end; [una, nxt) in flight, [nxt, end) queued. A NULL slot is acknowledged. */
    uint32_t snd_una, snd_nxt, snd_end;
    ks_ring snd;
    ks_flight flight[KS_KCP_LEVELS];
    uint32_t levels;            /* bit l: flight[l] is not empty */
    uint32_t txno;              /* of the next transmission */
    uint32_t passed[KS_KCP_RESEND_MAX]; /* the largest acknowledged transmission numbers, falling; see the head comment */
    uint32_t npassed;
    uint32_t reserved;          /* segments that ks_kcp_alloc_tail put behind snd_end, for commit */
    uint32_t rmt_wnd;
    bool heard_wnd;             /* the peer said rmt_wnd; before that it is a guess */

    /* congestion window, in bytes so that additive increase needs no fractions; ssthresh in packets */
    uint32_t cwnd_bytes, ssthresh;

    /* receiver: rcv_read <= rcv_nxt; [read, nxt) may be popped. The window's right edge is rcv_read + rcv_wnd. */
    uint32_t rcv_read, rcv_nxt, rcv_max;
    ks_ring rcv;

    /* acknowledgments not yet sent */
    struct ks_ack { uint32_t sn, ts; } *acks;
    uint32_t nacks, acks_cap;
    struct ks_ack *told;        /* new in the last packet of ACKs, above rcv_nxt: said once more in the next one */
    uint32_t ntold;

    /* RFC 6298, in 1/8 ms and 1/4 ms */
    uint32_t srtt8, rttvar4, rto;
    bool has_rtt;

    uint32_t flush_due;         /* when deferred ACKs or delayed writes go out; valid while flush_armed */
    bool flush_armed;
    bool flush_now;             /* input or the application asked for a flush in this turn */
    bool acks_soon;             /* several ACKs wait, for 1 ms by this clock: an owner with a finer one flushes sooner */
    bool tell_window;           /* a WINS is due */
    uint32_t told_wnd;          /* the window in the latest packet's headers */
    uint32_t probe_wait, probe_due; /* ms; probe_wait 0 = no probe armed */
    uint32_t now;               /* of the latest input or flush */
    bool heard_una;             /* set when una advances; the session reads and clears it */
    bool dead;                  /* one segment was sent KS_KCP_DEAD_XMIT times */
    int64_t budget;             /* bytes of data segments that flush may still send; ACKs and probes are not asked */

    ks_kcp_counts count;
} ks_kcp;

/* Takes one packet made by flush; the pieces are valid until it returns, except that a piece of KS_KCP_BY_REFERENCE or
 * more bytes lies in a segment and stays valid and unchanged until the next call on this ks_kcp. */
#define KS_KCP_BY_REFERENCE 512u
typedef void ks_kcp_output(void *ctx, const struct iovec *iov, int pieces, size_t size);

/* first_sn is 0 on the wire of every known peer; tests start both ends elsewhere. */
void ks_kcp_init(ks_kcp *kcp, const ks_kcp_config *config, ks_seg_pools *pools, uint32_t first_sn);
void ks_kcp_free(ks_kcp *kcp);

/* Bytes that the send window's worth of segments can still take: what a caller should offer at most. */
uint32_t ks_kcp_room(const ks_kcp *kcp);
/* Stream mode: room for up to `bytes` at the stream's end, in up to max pieces. -> pieces (0: no memory or max < 1).
 * ks_kcp_commit must follow before any other call; what is not committed is given back. */
int ks_kcp_alloc_tail(ks_kcp *kcp, uint32_t bytes, struct iovec *iov, int max);
void ks_kcp_commit(ks_kcp *kcp, uint32_t bytes);
/* Copies: stream mode appends, message mode queues one message of at most 255 fragments. -> size, or KS_ENOMEM,
 * or KS_EMALFORMED for a message that has too many fragments. The window is not asked: callers ask ks_kcp_room. */
int ks_kcp_send(ks_kcp *kcp, const uint8_t *data, uint32_t size);

/* A packet that came, any bytes. from_fec: rebuilt, so it updates neither RTT nor the remote window.
 * -> 0, KS_ECONV, KS_EMALFORMED (what stood before the fault has been used). */
int ks_kcp_input_untrusted(ks_kcp *kcp, const uint8_t *packet, size_t size, uint32_t now, bool from_fec);

/* The next segment in order, now the caller's (ks_seg_unref), or NULL. */
ks_seg *ks_kcp_pop(ks_kcp *kcp);
static inline bool ks_kcp_readable(const ks_kcp *kcp)
{
    return kcp->rcv_read != kcp->rcv_nxt;
}
/* Message mode: bytes of the next message if it is complete, else -1. */
int64_t ks_kcp_message_size(const ks_kcp *kcp);

/* Sends all that is due at `now`: ACKs, probes, retransmissions, new data. */
void ks_kcp_flush(ks_kcp *kcp, uint32_t now, ks_kcp_output *output, void *ctx);
/* ms until ks_kcp_flush has something to do; 0 = now, UINT32_MAX = not before the next input or send. */
uint32_t ks_kcp_next(const ks_kcp *kcp, uint32_t now);

/* While it is 0 or less, data waits; INT64_MAX, as at first: no limit. */
void ks_kcp_set_budget(ks_kcp *kcp, int64_t bytes);

/* Segments sent or queued and not yet acknowledged; 0 means that the peer has everything. */
uint32_t ks_kcp_unacked(const ks_kcp *kcp);
uint32_t ks_kcp_cwnd(const ks_kcp *kcp);
/* Live changes; values as in ks_kcp_config, already checked. */
void ks_kcp_set_resend(ks_kcp *kcp, uint32_t resend);
void ks_kcp_set_windows(ks_kcp *kcp, uint32_t snd_wnd, uint32_t rcv_wnd);
/* Drops all that is unacknowledged: the peer is known to want nothing more. */
void ks_kcp_forget_unacked(ks_kcp *kcp);
/* Frees what an idle conversation does not need. */
void ks_kcp_trim(ks_kcp *kcp);

#endif
