/* SPDX-License-Identifier: MIT */
/* Which segments are lost, by the time that has passed (RACK-TLP, RFC 8985), for the adaptive sender.
 *
 * What was sent clearly before something that has arrived is lost. When nothing arrives any more, the oldest segments are
 * sent again as a probe; what is acknowledged then shows what else is missing. */
#include "arq/kcp_parts.h"

#define REORDER_LEAST_US 2000u
#define PROBE_MARGIN_US 10000u /* and the interval at least, for which the peer, if it is like us, may put an ACK off */
#define PROBE_FIRST_US 200000u /* before a round trip is known */
#define PROBE_MAX_US 2000000u
#define PROBE_BACKOFF_MAX 6u
#define ASK_PROBES 2u          /* after so many without an answer the peer is asked for a word, too */
#define ASK_EVERY_US 10000u
#define ASKS_MAX 64u           /* then it is no burst */
#define FORGET_PKTS 4096u      /* without a surprise the time for reordering shrinks after so many */

static uint32_t reorder_us(const ks_kcp *k)
{
    uint32_t least = ks_max32(REORDER_LEAST_US, k->sender->path.least_us / 16);
    return ks_max32(ks_max32(k->sender->reorder_us, least), k->sender->cover_us);
}

/* Parity has brought it, if it is to bring any: what an earlier packet acknowledged was sent clearly later. */
static bool came_by_parity(const ks_kcp *k, const ks_seg *seg)
{
    uint32_t margin = ks_max32(ks_max32(REORDER_LEAST_US, k->sender->path.least_us / 16), 2 * k->sender->path.var_us);
    return k->sender->cover_us > 0 && k->sender->has_rack && ks_after(k->sender->past_sent_us, seg->mark.sent_us + margin);
}

/* What was sent later has arrived. */
static bool passed(const ks_kcp *k, const ks_seg *seg)
{
    return k->sender->has_rack && ks_after(k->sender->rack_txno, seg->txno);
}

/* It had arrived though it counted as lost: the path reorders by as much. */
static void note_surprise(ks_kcp *k, uint32_t late_us)
{
    ks_sender *s = k->sender;
    uint32_t most = ks_max32(s->path.smooth_us, REORDER_LEAST_US);
    s->reorder_us = ks_min32(ks_max32(s->reorder_us, late_us + late_us / 4), most);
    s->reorder_txno = k->txno;
}

/* By the time stamp, whichever transmission that was of; 0: it makes no sense. */
static uint32_t stamped_rtt_us(uint32_t ts, uint64_t now_us)
{
    uint32_t ms = (uint32_t)(now_us / 1000) - ts;
    return ms < KS_KCP_RTO_MAX_MS ? ms * 1000 : 0;
}

void ks_rack_acked(ks_kcp *k, const ks_seg *seg, bool by_name, bool earlier, uint32_t ts, uint64_t now_us)
{
    ks_sender *s = k->sender;
    uint32_t bytes = ks_flight_bytes(seg), rtt_us = 0;
    bool was_lost = seg->level == KS_FLIGHT_LOST;
    /* A copy's time stamp (kcp_insure.c) is later. */
    bool by_copy = earlier && ks_after(ts, seg->ts);
    earlier = earlier && !by_copy;
    bool by_parity = !by_copy && (was_lost || earlier || seg->xmit == 1) && came_by_parity(k, seg);
    if (was_lost || earlier)
        ks_path_unlost(&s->path, bytes, was_lost);
    if (by_parity)
        ks_path_missed(&s->path);
    if (by_name && !by_parity)
        rtt_us = earlier || by_copy ? stamped_rtt_us(ts, now_us) : ks_max32((uint32_t)now_us - seg->mark.sent_us, 1);
    /* By so much it came behind what counted it as lost; what came since may have been a little slower. Of one that was copied
     * the ACK may have been lost; with a copy's it comes once more. */
    bool late = (was_lost || earlier) && !ks_insure_knows(k, seg->sn);
    if (late && s->has_rack && rtt_us > s->rack_rtt_us)
        note_surprise(k, rtt_us - s->rack_rtt_us);
    bool is_known = by_name ? !earlier && !by_copy : seg->xmit == 1; /* which transmission it was */
    ks_path_acked(&s->path, is_known ? &seg->mark : NULL, bytes, rtt_us, now_us);
    s->probes = s->asks = 0;
    if (!by_name || earlier || by_copy || (s->has_rack && !ks_after(seg->txno, s->rack_txno)))
        return;
    s->has_rack = true;
    s->rack_txno = seg->txno;
    s->rack_sent_us = seg->mark.sent_us;
    s->rack_rtt_us = rtt_us;
    if (k->txno - s->reorder_txno > FORGET_PKTS) {
        s->reorder_us /= 2;
        s->reorder_txno = k->txno;
    }
}

static bool is_lost(const ks_kcp *k, const ks_seg *seg, uint32_t now)
{
    const ks_sender *s = k->sender;
    uint32_t wait = reorder_us(k);
    return passed(k, seg) &&
           (s->rack_sent_us - seg->mark.sent_us > wait ||
            (int32_t)(now - seg->mark.sent_us - s->rack_rtt_us) >= (int32_t)wait);
}

void ks_rack_find_lost(ks_kcp *k, uint64_t now_us)
{
    ks_seg *seg;
    while ((seg = k->flight[KS_FLIGHT_OUT].head) != NULL && is_lost(k, seg, (uint32_t)now_us)) {
        ks_flight_remove(k, seg);
        ks_path_lost(&k->sender->path, &seg->mark, ks_flight_bytes(seg));
        seg->level = KS_FLIGHT_LOST;
        ks_flight_append(k, seg);
    }
}

/* Those before `last` too: the list of the lost is in the order of transmission. */
static void lose_up_to(ks_kcp *k, const ks_seg *last)
{
    for (ks_seg *seg = k->flight[KS_FLIGHT_OUT].head, *next; last != NULL; seg = next) {
        next = seg->next;
        ks_flight_remove(k, seg);
        ks_path_lost(&k->sender->path, &seg->mark, ks_flight_bytes(seg));
        seg->level = KS_FLIGHT_LOST;
        ks_flight_append(k, seg);
        if (seg == last)
            break;
    }
}

void ks_rack_lose_longer(ks_kcp *k)
{
    const ks_seg *last = k->flight[KS_FLIGHT_OUT].tail;
    while (last != NULL && ks_flight_bytes(last) <= k->cfg.mtu)
        last = last->prev;
    lose_up_to(k, last);
}

void ks_rack_lose_all(ks_kcp *k)
{
    lose_up_to(k, k->flight[KS_FLIGHT_OUT].tail);
}

static uint32_t probe_due_us(const ks_kcp *k, const ks_seg *oldest)
{
    const ks_sender *s = k->sender;
    const ks_path *p = &s->path;
    uint32_t margin = ks_max32(PROBE_MARGIN_US, k->cfg.interval * 1000);
    uint32_t wait = p->smooth_us == 0 ? PROBE_FIRST_US : p->smooth_us + margin + 2 * p->var_us;
    bool probed = s->probes > 0 && ks_after(s->probed_us, oldest->mark.sent_us);
    uint32_t since = probed ? s->probed_us : oldest->mark.sent_us;
    uint64_t backed_off = (uint64_t)wait << ks_min32(s->probes, PROBE_BACKOFF_MAX);
    return since + (uint32_t)(backed_off < PROBE_MAX_US ? backed_off : ks_max32(PROBE_MAX_US, wait));
}

bool ks_rack_probe_is_due(const ks_kcp *k, uint64_t now_us)
{
    const ks_seg *oldest = k->flight[KS_FLIGHT_OUT].head;
    return oldest != NULL && !passed(k, oldest) && !ks_after(probe_due_us(k, oldest), (uint32_t)now_us);
}

static bool may_ask(const ks_kcp *k)
{
    const ks_sender *s = k->sender;
    return s->probes >= ASK_PROBES && s->asks < ASKS_MAX;
}

static uint32_t ask_due_us(const ks_kcp *k)
{
    const ks_sender *s = k->sender;
    uint32_t since = ks_after(s->asked_us, s->probed_us) ? s->asked_us : s->probed_us;
    return since + ks_max32(ASK_EVERY_US, s->path.smooth_us / 4);
}

bool ks_rack_ask_is_due(const ks_kcp *k, uint64_t now_us)
{
    return k->flight[KS_FLIGHT_OUT].head != NULL && may_ask(k) && !ks_after(ask_due_us(k), (uint32_t)now_us);
}

uint64_t ks_rack_wait_us(const ks_kcp *k, uint64_t now_us)
{
    const ks_seg *oldest = k->flight[KS_FLIGHT_OUT].head;
    uint32_t now = (uint32_t)now_us, due;
    if (oldest == NULL)
        return UINT64_MAX;
    due = passed(k, oldest) ? oldest->mark.sent_us + k->sender->rack_rtt_us + reorder_us(k) : probe_due_us(k, oldest);
    if (may_ask(k) && ks_after(due, ask_due_us(k)))
        due = ask_due_us(k);
    return ks_after(due, now) ? due - now : 0;
}
