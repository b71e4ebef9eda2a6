/* SPDX-License-Identifier: MIT */
/* The ARQ of KCP (docs/protocol.md 1): reliable, ordered delivery over packets that may be lost, repeated or reordered.
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

#include "base/counters.h"
#include "base/follow.h"
#include "arq/kcp_pieces.h"
#include "arq/seg.h"
#include "path/rest.h"

#define KS_KCP_MTU_MIN 50u
#define KS_KCP_WND_MAX 32768u /* half of what the 16-bit window field can say, so that a ring never laps itself */
#define KS_KCP_WND_FIRST 1024u /* where windows that follow begin, and what they are without reason to grow */
#define KS_KCP_LEVELS 8u      /* back-off stops growing at the last one */
#define KS_KCP_INTERVAL_MIN 10u /* ms */
#define KS_KCP_INTERVAL_MAX 5000u
#define KS_KCP_RESEND_MAX 16u
#define KS_KCP_FRAGMENTS_MAX 255u /* of one message */
#define KS_KCP_DEAD_XMIT 20u  /* transmissions of one segment */

typedef struct {
    uint32_t conv;
    uint32_t mtu;               /* bytes of a packet, header included; KS_KCP_MTU_MIN..MAX */
    uint32_t snd_wnd, rcv_wnd;  /* packets, 1..KS_KCP_WND_MAX */
    uint16_t interval;          /* ms; clamped to KS_KCP_INTERVAL_MIN..MAX */
    uint16_t resend;            /* 0 = no fast retransmit, at most KS_KCP_RESEND_MAX */
    int32_t insurance;          /* of the adaptive sender: copies, percent of the bytes sent; -1: at a rate of their own */
    uint32_t secret;            /* nobody else knows it: our time stamps are ms plus this, and challenges come from it */
    bool doubts;                /* no tag tells the peer's packets from forged ones (kcp_doubt.c) */
    bool follow;                /* rcv_wnd is where the receive window begins; it follows what comes, see follow.h */
    bool nodelay;               /* RTO at least 30 ms instead of 100, slower back-off */
    bool nc;                    /* no congestion window */
    bool stream;                /* byte stream; else messages keep their bounds */
    bool ack_nodelay;           /* acknowledge at once, always */
    bool write_delay;           /* new data waits for the next interval */
    bool adaptive;              /* sends as the path allows (path.h, kcp_rack.c); else as KCP does (kcp_flight.c) */
} ks_kcp_config;

typedef struct {
    ks_seg *head, *tail;
} ks_flight;

/* What an adaptive sender needs from its first data on until it rests. */
typedef struct {
    ks_path path;
    bool is_new;                /* `path` is empty until the next flush, which has the time to wake it */
    bool has_rack;              /* RFC 8985: of the transmission that was sent last, of those known to have arrived: */
    uint32_t rack_txno, rack_sent_us, rack_rtt_us;
    uint32_t reorder_us;        /* so much later ones may arrive before it counts as lost */
    uint32_t reorder_txno;      /* when that was looked at last */
    uint32_t probes;            /* sent since something was acknowledged: each waits twice as long */
    uint32_t probed_us;         /* the latest */
    uint32_t asks, asked_us;    /* questions for the peer's window, as probes alone brought nothing; the latest */
    struct ks_insurance *insurance; /* copies that are to go; NULL: none yet */
    uint32_t insured_txno;
    uint32_t insure_left, insured_us; /* bytes that copies may take, and when that was so */
    bool copies_held;           /* the owner knows of a queue that copies would add to */
    uint32_t cover_us;          /* so long the owner's parity (FEC) may take to bring what is lost; 0: it brings nothing */
    uint32_t cover_txno;        /* the first transmission of the group that is not whole yet */
    uint32_t past_sent_us;      /* rack_sent_us before the packet that is read now */
} ks_sender;

/* What of it outlives a rest. */
typedef struct {
    ks_path_rest path;
    uint32_t reorder_us, insure_left, insured_us;
} ks_sender_rest;

typedef struct ks_kcp {
    ks_kcp_config cfg;
    uint32_t mss;
    uint32_t now;               /* of the latest input or flush */
    uint32_t txno;              /* of the next transmission */
    ks_seg_pools *pools;

    /* sender: snd_una <= snd_nxt <= snd_end; [una, nxt) in flight, [nxt, end) queued. A NULL slot is acknowledged. */
    uint32_t snd_una, snd_nxt, snd_end;
    uint32_t levels;            /* bit l: flight[l] is not empty */
    ks_ring snd;
    ks_flight flight[KS_KCP_LEVELS];
    uint32_t reserved;          /* segments that ks_kcp_alloc_tail put behind snd_end, for commit */
    uint32_t rmt_wnd;
    union {
        struct { /* the fixed sender's */
            /* the largest acknowledged transmission numbers, falling: the last is the L above */
            uint32_t passed[KS_KCP_RESEND_MAX], npassed;
        };
        struct { /* the adaptive one's: flight[0] is under way, flight[1] has been lost and waits to be sent again */
            ks_sender *sender;      /* NULL: it rests, since all is acknowledged */
            ks_sender_rest rest;
        };
    };

    /* congestion window, in bytes so that additive increase needs no fractions; ssthresh in packets */
    uint32_t cwnd_bytes, ssthresh;

    /* receiver: rcv_read <= rcv_nxt; [read, nxt) may be popped. The window's right edge is rcv_read + rcv_wnd. What was the edge
     * once stays promised, though the window is smaller by now: rcv_edge. */
    uint32_t rcv_read, rcv_nxt, rcv_max, rcv_edge;
    uint32_t rcv_most;          /* of the window, what is taken in now: see ks_kcp_take_most */
    uint32_t rcv_first;         /* the least that a window that follows has */
    uint32_t told_wnd;          /* the window in the latest packet's headers */
    ks_follow rcv_follow;
    uint32_t flush_due;         /* when deferred ACKs or delayed writes go out; valid while flush_armed */
    ks_ring rcv;

    /* acknowledgments not yet sent */
    struct ks_ack { uint32_t sn, ts; } *acks;
    uint32_t nacks, acks_cap;
    struct ks_ack answer;       /* to the peer's challenge, while answers: una says nothing of it */
    bool answers;

    /* our challenge, see ks_kcp_challenge */
    bool challenge_due, challenge_open, challenge_met;
    uint32_t asked;             /* the latest because of a doubt, by our clock */
    struct ks_ack challenge;    /* what its answer must say, while open */

    struct ks_ack *told;        /* above rcv_nxt, sent for the first time in the last packet of ACKs: repeated in the next one */

    /* RFC 6298, in 1/8 ms and 1/4 ms */
    uint32_t srtt8, rttvar4, rto;

    /* The peer's clock less ours, as a PUSH has shown it that came at clock_at (kcp_doubt.c); and as copies of the next one expected
     * do, the first of which came at odd_at, and which fit no better than a forger's. */
    uint32_t peer_clock, clock_at, odd_clock, odd_at;

    uint8_t clock_is;           /* enum in kcp_doubt.c; 0: nothing came yet */
    uint8_t odd_copies;
    uint8_t ntold;              /* of `told` */
    bool has_rtt;
    bool more_waits;            /* the owner has data that it has not queued yet */
    bool heard_wnd;             /* the peer said rmt_wnd; before that it is a guess */
    bool reader_lags;           /* the owner has much that is not read yet: no reason for a larger receive window */
    bool has_room;              /* as of the latest flush: the path takes more; a fixed sender's always does */
    bool flush_armed;
    bool flush_now;             /* input or the application asked for a flush in this turn */
    bool acks_soon;             /* several ACKs wait, for 1 ms by this clock: an owner with a finer one flushes sooner */
    bool tell_window;           /* a WINS is due */
    uint32_t probe_wait, probe_due; /* ms; probe_wait 0 = no probe armed */

    /* The peer acknowledges nothing: only a probe goes out, until it does (kcp_flight.c) */
    uint32_t progress;          /* when it last did, or when data went out with none before it in flight */
    uint32_t stall_due, stall_probed; /* ms; valid while stalled */
    uint16_t stall_wait;        /* likewise */
    bool stalled;
    bool resume;                /* a stall is over: what is overdue goes in this flush */

    bool heard_una;             /* una has advanced: the peer has acknowledged something */
    bool heard_ack;             /* the peer has acknowledged something that was sent */
    bool dead;                  /* one segment was sent KS_KCP_DEAD_XMIT times */

    /* What tells of the path's MTU. A row: long segments lost, whole, without one that was as long acknowledged. */
    bool sent_pieces, no_pieces; /* the peer has acknowledged one as nothing but a repeat: it is none of our kind */
    uint8_t row_lost;           /* saturates */
    uint8_t pads_sent, pads_acked; /* slots of this round, a bit each */
    uint16_t row_least;         /* the shortest of the row, bytes */
    uint16_t first_mss;         /* before ks_kcp_set_mtu: the longest message has so many bytes in each fragment */
    uint32_t row_ms;            /* it began */
    uint32_t pad_sn, pad_ts;    /* of slot 0 */

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
/* Stream mode: bytes that the segment at the stream's end still takes. */
uint32_t ks_kcp_tail_room(const ks_kcp *kcp);
/* Copies: stream mode appends, message mode queues one message of at most 255 fragments. -> size, or KS_ENOMEM,
 * or KS_EMALFORMED for a message that has too many fragments. The window is not asked: callers ask ks_kcp_room. */
int ks_kcp_send(ks_kcp *kcp, const uint8_t *data, uint32_t size);

/* A packet that came, any bytes. from_fec: rebuilt, so it updates neither RTT nor the remote window.
 * -> 0, KS_ECONV, KS_EMALFORMED (what stood before the fault has been used). */
int ks_kcp_input_untrusted(ks_kcp *kcp, const uint8_t *packet, size_t size, uint64_t now_us, bool from_fec);

/* The next segment in order, now the caller's (ks_seg_unref), or NULL. */
ks_seg *ks_kcp_pop(ks_kcp *kcp);
static inline bool ks_kcp_readable(const ks_kcp *kcp)
{
    return kcp->rcv_read != kcp->rcv_nxt;
}
/* Message mode: bytes of the next message if it is complete, else -1. */
int64_t ks_kcp_message_size(const ks_kcp *kcp);

/* Sends all that is due now: ACKs, probes, retransmissions, new data. */
void ks_kcp_flush(ks_kcp *kcp, uint64_t now_us, ks_kcp_output *output, void *ctx);
/* ms until ks_kcp_flush has something to do; 0 = now, UINT32_MAX = not before the next input or send. */
uint32_t ks_kcp_next(const ks_kcp *kcp, uint64_t now_us);

/* While it is 0 or less, data waits; INT64_MAX, as at first: no limit. */
void ks_kcp_set_budget(ks_kcp *kcp, int64_t bytes);

/* An adaptive sender's model of the path; when it rests, what it will go on from, in *room. */
const ks_path *ks_kcp_path(const ks_kcp *kcp, ks_path *room);
/* An earlier connection to the same peer has measured that (ks_path_resume). Before anything was sent; for an adaptive
 * sender. */
void ks_kcp_resume(ks_kcp *kcp, uint64_t rate, uint32_t least_us);

/* The owner's FEC: parity will cover what leaves now within so many us, 0: not. Then a loss shows by that time only, copies wait as
 * long, and what comes late is one that parity brought. held: there are no copies either. Before a flush. */
void ks_kcp_set_cover(ks_kcp *kcp, uint32_t us, bool held);
/* A group is whole with the packet that was just handed to output. covered: its parity is sent, and its copies are not. */
void ks_kcp_end_group(ks_kcp *kcp, bool covered);

/* Bytes that should wait in the queue beside those that do: more would only wait. Without limit for a fixed sender. */
uint64_t ks_kcp_backlog(const ks_kcp *kcp);

/* Segments sent or queued and not yet acknowledged; 0 means that the peer has everything. */
uint32_t ks_kcp_unacked(const ks_kcp *kcp);
uint32_t ks_kcp_cwnd(const ks_kcp *kcp);
/* What holds data back. */
typedef enum {
    KS_BOUND_BY_APPLICATION, KS_BOUND_BY_PEER, KS_BOUND_BY_WINDOW, KS_BOUND_BY_PATH, KS_BOUND_BY_PACING, KS_BOUND_BY_LIMIT,
} ks_bound;
ks_bound ks_kcp_bound_by(const ks_kcp *kcp);

/* Packets are so long from now on, KS_KCP_MTU_MIN..MAX. If that is shorter, what is under way and longer goes again, in pieces; what is
 * queued in stream mode is cut anew. */
void ks_kcp_set_mtu(ks_kcp *kcp, uint32_t mtu, uint64_t now_us);
/* Long packets are lost, again and again, as if they did not pass. */
bool ks_kcp_suspects_mtu(const ks_kcp *kcp, uint64_t now_us);
/* Pads (kcp_pieces.h), one for each slot of a round: a new round begins. */
void ks_kcp_begin_pads(ks_kcp *kcp, uint64_t now_us);
/* A packet of `size` bytes, KS_KCP_HEAD..KS_KCP_MTU_MAX, that the peer acknowledges and throws away. */
void ks_kcp_put_pad(ks_kcp *kcp, uint32_t slot, uint8_t *packet, uint32_t size);
/* Slots of this round that were acknowledged since this was asked. */
unsigned ks_kcp_take_pads_acked(ks_kcp *kcp);
/* Live changes; values as in ks_kcp_config, already checked. */
void ks_kcp_set_resend(ks_kcp *kcp, uint32_t resend);
void ks_kcp_set_snd_wnd(ks_kcp *kcp, uint32_t packets);
/* A receive window that follows is one of that size from now on. */
void ks_kcp_set_rcv_wnd(ks_kcp *kcp, uint32_t packets);
/* Challenges the peer, with the next flush, to show that it hears us: a PUSH without data just below what it expects has
 * this time stamp, which a number nobody can guess makes a secret. Every KCP acknowledges such a segment, echoing the stamp, and throws it
 * away (docs/protocol.md 1). The one before, if it had another stamp, counts no more. */
void ks_kcp_challenge(ks_kcp *kcp, uint32_t ts);
/* Whether the latest was answered; true once. */
bool ks_kcp_challenge_met(ks_kcp *kcp);
/* Such a challenge as a packet of its own, KS_KCP_HEAD bytes, of which nothing is remembered; an sn that it can have, now and later. */
void ks_kcp_write_challenge(const ks_kcp *kcp, uint8_t *packet, uint32_t sn, uint32_t ts);
uint32_t ks_kcp_challenge_sn(const ks_kcp *kcp);
/* Whether a packet that we sent, and that is not acknowledged, may begin with that time stamp: who saw it can tell. */
bool ks_kcp_knows_stamp(const ks_kcp *kcp, uint32_t ts, uint64_t now_us);
/* What the peer's clock, as far as it is known, says now: a time stamp that it may have. */
uint32_t ks_kcp_peer_stamp(const ks_kcp *kcp, uint64_t now_us);
/* Whether any bytes, a packet of the peer's if they are one, hold what was not known: data, an acknowledgment, a challenge. */
bool ks_kcp_is_news_untrusted(const ks_kcp *kcp, const uint8_t *packet, size_t size);
/* The peer is to be sent to elsewhere: what is under way to where it was counts as lost. */
void ks_kcp_peer_moved(ks_kcp *kcp, uint64_t now_us);
/* Until changed, of all that the window has room for only so many packets from the first unread one on are taken in; the rest is
 * as if lost. UINT32_MAX, as at first: all. */
void ks_kcp_take_most(ks_kcp *kcp, uint32_t packets);
/* Drops all that is unacknowledged: the peer is known to want nothing more. */
void ks_kcp_forget_unacked(ks_kcp *kcp);
/* Frees what an idle conversation does not need; a window that follows begins anew. */
void ks_kcp_trim(ks_kcp *kcp);

#endif
