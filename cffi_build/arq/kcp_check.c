/* SPDX-License-Identifier: MIT */
/* What always holds of a ks_kcp between two calls, in a build with KS_CHECKS: the picture behind kcp.h's struct. */
#include "arq/kcp_parts.h"

#ifdef KS_CHECKS

/* Walks over a window cost what the window is long: long ones are looked at once in a while. */
#define WALK_PKTS 64u
#define WALK_EVERY 256u

static void check_ring(const ks_ring *r, uint32_t held)
{
    KS_ASSERT((r->slot == NULL) == (r->capacity == 0));
    KS_ASSERT((r->capacity & (r->capacity - 1)) == 0); /* so that sn may wrap */
    KS_ASSERT(r->capacity == 0 || r->mask == r->capacity - 1);
    KS_ASSERT(held <= r->capacity);
}

static void check_numbers(const ks_kcp *k)
{
    KS_ASSERT(k->mss == k->cfg.mtu - KS_KCP_HEAD && k->mss <= KS_SEG_BYTES_MAX);
    KS_ASSERT(k->cfg.rcv_wnd <= KS_KCP_WND_MAX && k->cfg.resend <= KS_KCP_RESEND_MAX);
    KS_ASSERT(k->cwnd_bytes >= k->mss); /* one packet may always go */
    KS_ASSERT(k->ssthresh >= KS_KCP_SSTHRESH_MIN);
    KS_ASSERT(k->rto >= KS_KCP_RTO_MIN_NODELAY_MS && k->rto <= KS_KCP_RTO_MAX_MS);
    KS_ASSERT(k->has_rtt || (k->srtt8 == 0 && k->rttvar4 == 0));
    KS_ASSERT(k->srtt8 <= 8 * KS_KCP_RTO_MAX_MS && k->rttvar4 <= 4 * KS_KCP_RTO_MAX_MS); /* no sample is longer */
    KS_ASSERT(k->rmt_wnd <= UINT16_MAX);                                                 /* as the header says it */
    KS_ASSERT(k->cfg.adaptive || k->npassed <= KS_KCP_RESEND_MAX);
    for (uint32_t i = 1; !k->cfg.adaptive && i < k->npassed; i++)
        KS_ASSERT(!ks_after(k->passed[i], k->passed[i - 1]));
}

static void check_acks(const ks_kcp *k)
{
    KS_ASSERT(k->nacks <= k->acks_cap && (k->acks == NULL) == (k->acks_cap == 0));
    KS_ASSERT(k->ntold == 0 || k->told != NULL);
    KS_ASSERT(k->ntold <= k->cfg.mtu / KS_KCP_HEAD / 2); /* said again, they leave half a packet for new ones */
    KS_ASSERT(k->nacks == 0 || k->flush_armed || k->flush_now); /* no ACK waits for ever */
}

/* una <= nxt <= end; what una names is in flight, else it would be further on. */
static void check_sender(const ks_kcp *k)
{
    uint32_t sent = k->snd_nxt - k->snd_una, held = k->snd_end - k->snd_una;
    KS_ASSERT(sent <= held);
    KS_ASSERT(k->reserved == 0); /* ks_kcp_alloc_tail was followed by ks_kcp_commit */
    check_ring(&k->snd, held);
    KS_ASSERT(sent == 0 || *ks_ring_at(&k->snd, k->snd_una) != NULL);
    KS_ASSERT(sent > 0 || (k->levels == 0 && !k->stalled));
}

/* read <= nxt <= max; nxt is the first that is missing. */
static void check_receiver(const ks_kcp *k)
{
    uint32_t ready = k->rcv_nxt - k->rcv_read, held = k->rcv_max - k->rcv_read;
    KS_ASSERT(ready <= held);
    uint32_t promised = k->rcv_edge - k->rcv_read;
    KS_ASSERT(k->cfg.rcv_wnd <= promised && promised <= KS_KCP_WND_MAX);
    KS_ASSERT(!k->cfg.follow || k->cfg.rcv_wnd >= k->rcv_first);
    KS_ASSERT(held <= ks_max32(promised, KS_KCP_RCV_LEAST_PKTS)); /* nothing beyond the window is kept */
    check_ring(&k->rcv, held);
    KS_ASSERT(ready == 0 || *ks_ring_at(&k->rcv, k->rcv_read) != NULL);
    KS_ASSERT(ready == held || *ks_ring_at(&k->rcv, k->rcv_nxt) == NULL || ks_seg_is_part(*ks_ring_at(&k->rcv, k->rcv_nxt)));
    KS_ASSERT(ready == held || *ks_ring_at(&k->rcv, k->rcv_max - 1) != NULL);
}

static void check_seg(const ks_seg *seg, uint32_t sn)
{
    KS_ASSERT(seg->sn == sn && seg->refs > 0 && seg->len <= seg->cap);
    KS_ASSERT(seg->len <= KS_SEG_BYTES_MAX); /* more than mss: cut before ks_kcp_set_mtu */
}

/* Each segment between una and nxt that is not acknowledged stands in one list, in the order of transmission. */
static uint32_t walk_flight(const ks_kcp *k)
{
    uint32_t count = 0;
    for (uint32_t l = 0; l < KS_KCP_LEVELS; l++) {
        const ks_flight *f = &k->flight[l];
        KS_ASSERT((f->head != NULL) == ((k->levels >> l & 1) != 0) && (f->head == NULL) == (f->tail == NULL));
        KS_ASSERT(f->head == NULL || (f->head->prev == NULL && f->tail->next == NULL));
        for (const ks_seg *seg = f->head; seg != NULL; seg = seg->next, count++) {
            KS_ASSERT(seg->level == l && seg->xmit > 0 && ks_after(k->txno, seg->txno));
            KS_ASSERT(seg->sn - k->snd_una < k->snd_nxt - k->snd_una && *ks_ring_at(&k->snd, seg->sn) == seg);
            KS_ASSERT(seg->next == NULL || (seg->next->prev == seg && ks_after(seg->next->txno, seg->txno)));
        }
    }
    return count;
}

/* What the path counts as under way is what stands in its list. */
static void check_path(const ks_kcp *k)
{
    uint64_t out = 0;
    for (const ks_seg *seg = k->flight[KS_FLIGHT_OUT].head; seg != NULL; seg = seg->next)
        out += ks_flight_bytes(seg);
    KS_ASSERT(k->sender != NULL || k->snd_una == k->snd_end); /* it does not rest while something is to do */
    KS_ASSERT(out == (k->sender != NULL ? k->sender->path.in_flight : 0) && k->levels < 1u << (KS_FLIGHT_LOST + 1));
}

static void walk(const ks_kcp *k)
{
    if (k->cfg.adaptive)
        check_path(k);
    uint32_t in_flight = 0;
    for (uint32_t sn = k->snd_una; sn != k->snd_nxt; sn++) {
        const ks_seg *seg = *ks_ring_at(&k->snd, sn);
        if (seg == NULL)
            continue; /* acknowledged before those below it */
        in_flight++;
        check_seg(seg, sn);
    }
    KS_ASSERT(walk_flight(k) == in_flight);
    for (uint32_t sn = k->snd_nxt; sn != k->snd_end; sn++) {
        const ks_seg *seg = *ks_ring_at(&k->snd, sn);
        KS_ASSERT(seg != NULL && seg->xmit == 0 && seg->level == 0);
        check_seg(seg, sn);
        KS_ASSERT(!k->cfg.stream || (seg->frg == 0 && seg->len > 0));
    }
    for (uint32_t sn = k->rcv_read; sn != k->rcv_max; sn++) {
        const ks_seg *seg = *ks_ring_at(&k->rcv, sn);
        KS_ASSERT(seg != NULL || ks_after(sn, k->rcv_nxt) || sn == k->rcv_nxt);
        KS_ASSERT(seg == NULL || (seg->sn == sn && seg->refs > 0 && seg->len <= KS_SEG_BYTES_MAX));
    }
}

void ks_kcp_check(const ks_kcp *k)
{
    static _Thread_local uint32_t calls;
    check_numbers(k);
    check_acks(k);
    check_sender(k);
    check_receiver(k);
    uint32_t held = (k->snd_end - k->snd_una) + (k->rcv_max - k->rcv_read);
    if (held <= WALK_PKTS || ++calls % WALK_EVERY == 0)
        walk(k);
}

#else
typedef int ks_kcp_check_has_no_code;
#endif
