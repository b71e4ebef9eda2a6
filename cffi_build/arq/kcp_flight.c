/* SPDX-License-Identifier: MIT */
#include "kcp_parts.h"


/* How long a segment of this level waits for its acknowledgment, ms. */
uint32_t ks_flight_rto(const ks_kcp *k, uint32_t level)
{
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
    *early = k->snd_nxt == k->snd_end && k->snd_end - k->snd_una <= k->cfg.resend + 1;
    uint32_t rank = *early ? 1 : k->cfg.resend;
    if (k->npassed < rank)
        return false;
    *bound = k->passed[rank - 1];
    /* Evidence from so long ago would soon look like the future; and what was sent in this flush must stay after it. */
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
