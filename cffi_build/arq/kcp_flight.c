/* SPDX-License-Identifier: MIT */
#include "arq/kcp_parts.h"


/* How long a segment of this level waits for its acknowledgment, ms. */
uint32_t ks_flight_rto(const ks_kcp *k, uint32_t level)
{
    KS_ASSERT(level < KS_KCP_LEVELS);
    uint32_t step = k->cfg.nodelay ? k->rto / 2 : k->rto;
    uint32_t first = k->cfg.nodelay ? 0 : k->rto / 8;
    return ks_min32(k->rto + (level == 0 ? first : level * step), KS_KCP_RTO_MAX_MS);
}

/* Segments transmitted before this number count as lost; false when nothing does.
 * With so few in flight that `resend` later acknowledgments can't come, and nothing more to send, one is enough
 * (early retransmit, RFC 5827). */
bool ks_flight_lost(const ks_kcp *k, uint32_t *bound, bool *early)
{
    if (k->cfg.resend == 0 || k->npassed == 0)
        return false;
    *early = k->snd_nxt == k->snd_end && k->snd_end - k->snd_una <= k->cfg.resend + 1u;
    uint32_t rank = *early ? 1 : k->cfg.resend;
    if (k->npassed < rank)
        return false;
    *bound = k->passed[rank - 1];
    /* A number from so long ago would soon, by the wrap, look like one to come; and what was sent in this flush must stay
     * after it. */
    return k->txno - *bound < 1u << 30;
}

bool ks_flight_has_lost(const ks_kcp *k)
{
    uint32_t bound;
    bool early;
    if (!ks_flight_lost(k, &bound, &early))
        return false;
    for (uint32_t l = 0, left = k->levels; left != 0; l++, left >>= 1)
        if ((left & 1) != 0 && ks_after(bound, k->flight[l].head->txno))
            return true;
    return false;
}

/* Keeps the cfg.resend largest. */
void ks_flight_note_passed(ks_kcp *k, uint32_t txno)
{
    uint32_t i = k->npassed = ks_min32(k->npassed, k->cfg.resend); /* resend may have been lowered */
    KS_ASSERT(ks_after(k->txno, txno)); /* it was sent */
    if (i == k->cfg.resend) {
        if (i == 0 || !ks_after(txno, k->passed[i - 1]))
            return;
        i--;
    } else
        k->npassed++;
    for (; i > 0 && ks_after(txno, k->passed[i - 1]); i--)
        k->passed[i] = k->passed[i - 1];
    k->passed[i] = txno;
}

/* ---- a peer that acknowledges nothing ----
 *
 * Each segment has a timeout of its own, and a window of a thousand of them would be sent again and again to a peer that is
 * gone. So when nothing was acknowledged for STALL_MS, one segment, the oldest, goes out at times that back off to
 * STALL_PROBE_MAX_MS, which bounds how long the end of an outage goes unnoticed. With the first acknowledgment all that is
 * overdue goes at once, in order. A peer that sends but does not acknowledge is probed sooner (docs/protocol.md 1). */
#define STALL_MS 1000u
#define STALL_PROBE_FIRST_MS 500u
#define STALL_PROBE_MAX_MS 2000u
#define STALL_PROBE_LEAST_MS 250u

bool ks_flight_is_stalled(const ks_kcp *k, uint32_t now)
{
    /* A window that is shut has its own probe; and a round trip may be longer than STALL_MS. */
    return k->stalled || (k->snd_una != k->snd_nxt && !(k->heard_wnd && k->rmt_wnd == 0) &&
                          (int32_t)(now - k->progress) >= (int32_t)ks_max32(STALL_MS, k->rto));
}

void ks_flight_stall(ks_kcp *k, uint32_t now)
{
    if (k->stalled)
        return;
    const ks_seg *oldest = *ks_ring_at(&k->snd, k->snd_una);
    uint32_t due = oldest->ts + ks_flight_rto(k, oldest->level), latest = now + STALL_PROBE_FIRST_MS;
    k->stalled = true;
    k->stall_wait = STALL_PROBE_FIRST_MS;
    k->stall_probed = oldest->ts;
    k->stall_due = ks_after(due, latest) ? latest : due;
}

void ks_flight_probed(ks_kcp *k, uint32_t now)
{
    k->stall_probed = now;
    k->stall_due = now + k->stall_wait;
    k->stall_wait = (uint16_t)ks_min32(k->stall_wait * 3u / 2, STALL_PROBE_MAX_MS);
}

void ks_flight_heard(ks_kcp *k, bool progress, uint32_t now)
{
    if (progress)
        k->progress = now;
    if (!k->stalled)
        return;
    if (progress) {
        k->stalled = false;
        k->resume = k->flush_now = true;
    } else if (ks_after(k->stall_due, k->stall_probed + STALL_PROBE_LEAST_MS))
        k->stall_due = k->stall_probed + STALL_PROBE_LEAST_MS;
}
