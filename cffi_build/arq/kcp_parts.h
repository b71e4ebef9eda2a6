/* SPDX-License-Identifier: MIT */
/* What the files of KCP know of each other; nobody else includes this.
 *
 *   kcp_flight.c  what is in flight: due times, and which segments are lost; the fixed sender's
 *   kcp_rack.c    the same for the adaptive one
 *   kcp_sender.c  the adaptive one's memory, and its rest
 *   kcp_insure.c  copies of what would be missed late
 *   kcp_mtu.c     another packet size, and what tells of the path's
 *   kcp_window.c  what the receive window takes
 *   kcp_doubt.c   what may be forged: which packets are believed
 *   kcp_flush.c   sending what is due
 *   kcp.c         life, the application's side, a packet that came
 *   kcp_check.c   what always holds, in a build with KS_CHECKS */
#ifndef KS_KCP_PARTS_H
#define KS_KCP_PARTS_H

#include "base/checks.h"
#include "arq/kcp.h"

enum { CMD_PUSH = KS_KCP_PUSH, CMD_ACK = KS_KCP_ACK, CMD_WASK = KS_KCP_WASK, CMD_WINS = KS_KCP_WINS };

#define KS_KCP_RTO_MAX_MS 60000u
#define KS_KCP_RTO_MIN_NODELAY_MS 30u
#define KS_KCP_SSTHRESH_MIN 2u
/* Until a peer hears our window it guesses: 128 packets in the C version, 32 in kcp-go. So many are taken even where the
 * window is smaller: what we refused would come back on the peer's growing timeouts only. */
#define KS_KCP_RCV_LEAST_PKTS 128u

/* Asserts what always holds between two calls. */
#ifdef KS_CHECKS
void ks_kcp_check(const ks_kcp *kcp);
#else
#define ks_kcp_check(kcp) ((void)(kcp))
#endif

/* ---- in flight: lists in transmission order, one per back-off level ---- */

static inline void ks_flight_append(ks_kcp *k, ks_seg *seg)
{
    KS_ASSERT(seg->level < KS_KCP_LEVELS);
    ks_flight *f = &k->flight[seg->level];
    KS_ASSERT(f->tail == NULL || ks_after(seg->txno, f->tail->txno)); /* a list is in the order of transmission */
    seg->next = NULL;
    seg->prev = f->tail;
    if (f->tail != NULL)
        f->tail->next = seg;
    else
        f->head = seg;
    f->tail = seg;
    k->levels |= 1u << seg->level;
}

static inline void ks_flight_remove(ks_kcp *k, ks_seg *seg)
{
    ks_flight *f = &k->flight[seg->level];
    KS_ASSERT((f->head == seg) == (seg->prev == NULL) && (f->tail == seg) == (seg->next == NULL));
    if (seg->prev != NULL)
        seg->prev->next = seg->next;
    else
        f->head = seg->next;
    if (seg->next != NULL)
        seg->next->prev = seg->prev;
    else
        f->tail = seg->prev;
    if (f->head == NULL)
        k->levels &= ~(1u << seg->level);
}

/* How long a segment of this level waits for its acknowledgment, ms. */
uint32_t ks_flight_rto(const ks_kcp *kcp, uint32_t level);
/* Segments transmitted before *bound count as lost; false when nothing does. */
bool ks_flight_lost(const ks_kcp *kcp, uint32_t *bound, bool *early);
bool ks_flight_has_lost(const ks_kcp *kcp);
/* A transmission was acknowledged: those before it have been passed by it, if they are not. */
void ks_flight_note_passed(ks_kcp *kcp, uint32_t txno);

/* Whether the peer has acknowledged nothing for so long that only a probe may go out at `now`. */
bool ks_flight_is_stalled(const ks_kcp *kcp, uint32_t now);
void ks_flight_stall(ks_kcp *kcp, uint32_t now);
/* The probe has been sent: when the next one goes. */
void ks_flight_probed(ks_kcp *kcp, uint32_t now);
/* A packet came: `progress` when it acknowledged something or widened the window. */
void ks_flight_heard(ks_kcp *kcp, bool progress, uint32_t now);

/* ---- the adaptive sender ---- */

enum { KS_FLIGHT_OUT, KS_FLIGHT_LOST };

/* What a segment counts for. */
static inline uint32_t ks_flight_bytes(const ks_seg *seg)
{
    return KS_KCP_HEAD + seg->len;
}

/* Before data is queued: false, there is no memory for it. */
bool ks_sender_need(ks_kcp *kcp);
/* At a flush: the path goes on from where it rested. */
void ks_sender_begin(ks_kcp *kcp, uint64_t now_us);
/* All is acknowledged. */
void ks_sender_rest_now(ks_kcp *kcp);
void ks_sender_free(ks_kcp *kcp);

/* It is acknowledged, and about to be released. by_name: by an ACK, with time stamp ts, not by una alone. earlier: that is not
 * the stamp of its latest transmission. */
void ks_rack_acked(ks_kcp *kcp, const ks_seg *seg, bool by_name, bool earlier, uint32_t ts, uint64_t now_us);
/* Moves what is lost by now to the list of the lost. */
void ks_rack_find_lost(ks_kcp *kcp, uint64_t now_us);
/* us until more may count as lost, or a probe is due; UINT64_MAX: never. */
uint64_t ks_rack_wait_us(const ks_kcp *kcp, uint64_t now_us);
bool ks_rack_probe_is_due(const ks_kcp *kcp, uint64_t now_us);
/* Probes have brought nothing: the peer is to be asked for its window. Any packet of it says what has arrived, and where a
 * burst of losses lasts for so many packets, only packets end it. */
bool ks_rack_ask_is_due(const ks_kcp *kcp, uint64_t now_us);

/* A segment of so many bytes has left. */
void ks_insure_sent(ks_kcp *kcp, uint32_t bytes);
/* All that was sent now is sent, and nothing waits: what of it is worth that goes once more soon. */
void ks_insure_end(ks_kcp *kcp, uint64_t now_us);
/* The next whose copy is due, NULL: none. */
ks_seg *ks_insure_next(ks_kcp *kcp, uint64_t now_us);
uint64_t ks_insure_wait_us(const ks_kcp *kcp, uint64_t now_us);
/* An ACK with time stamp ts names sn, in a packet with that una: what it tells of segments that were copied. */
void ks_insure_heard(ks_kcp *kcp, uint32_t sn, uint32_t ts, uint32_t una);
/* sn was copied lately. */
bool ks_insure_knows(const ks_kcp *kcp, uint32_t sn);
void ks_insure_forget(ks_sender *sender);

void ks_kcp_put_head(const ks_kcp *kcp, uint8_t *at, uint8_t cmd, uint8_t frg, uint16_t wnd, uint32_t ts, uint32_t sn, uint32_t len);

/* A segment is lost, which was sent whole. */
void ks_mtu_lost(ks_kcp *kcp, const ks_seg *seg);
/* It is acknowledged, and there is a row of losses. */
void ks_mtu_acked(ks_kcp *kcp, const ks_seg *seg);
/* An ACK names a pad or a piece. */
void ks_mtu_input_ack(ks_kcp *kcp, uint32_t sn, uint32_t ts);
/* One that is longer than a packet: in this transmission it goes in pieces. */
bool ks_mtu_in_pieces(const ks_kcp *kcp, const ks_seg *seg);
/* Counts as lost all that left before the last segment that is longer than a packet, since it may. */
void ks_rack_lose_longer(ks_kcp *kcp);
void ks_rack_lose_all(ks_kcp *kcp);

/* ---- doubts (kcp_doubt.c) ---- */

/* What of a packet is believed. */
typedef struct {
    bool pushes;
    bool acks;      /* those with a time stamp of ours */
    bool heads;     /* una and window */
} ks_belief;
/* Any bytes, before they are taken; asks the peer where it is to say more. */
ks_belief ks_doubt_judge_untrusted(ks_kcp *kcp, const uint8_t *packet, size_t size);
/* A segment in flight was sent with that time stamp (ours, as it stands in seg->ts). */
bool ks_doubt_knows_stamp(const ks_kcp *kcp, const ks_seg *seg, uint32_t ts);
/* A PUSH with that time stamp was believed, and brought something. */
void ks_doubt_learn(ks_kcp *kcp, uint32_t ts);
/* Challenges the peer, with the next flush, unless that was done a moment ago. */
void ks_doubt_ask(ks_kcp *kcp);

/* Whether there is room for what is so far beyond what was read. Short of memory, a window that follows does not take all that it
 * has promised, but what it began with: what is refused is to the sender as if it were lost. */
bool ks_kcp_takes(const ks_kcp *kcp, uint32_t offset);
/* Whether a PUSH would bring something. */
bool ks_kcp_lacks(const ks_kcp *kcp, uint32_t sn);

/* What the receive window has room for, as the header says it. */
static inline uint32_t ks_kcp_window_free(const ks_kcp *k)
{
    uint32_t held = k->rcv_nxt - k->rcv_read;
    return held < k->cfg.rcv_wnd ? k->cfg.rcv_wnd - held : 0;
}

#endif
