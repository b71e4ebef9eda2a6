/* SPDX-License-Identifier: MIT */
#include "kcp_parts.h"

#include <string.h>

#define PROBE_FIRST_MS 500u
#define PROBE_MAX_MS 120000u
#define ACKS_IN_PACKET_MAX (KS_KCP_MTU_MAX / KS_KCP_HEAD)

typedef struct {
    ks_kcp *k;
    ks_kcp_output *output;
    void *ctx;
    uint16_t wnd;
    uint32_t now;
    int pieces;
    size_t size;
    size_t scratch_used;
    struct iovec iov[64];
    uint8_t scratch[KS_KCP_MTU_MAX];
} packer;

static void pack_end(packer *p)
{
    if (p->pieces > 0) {
        p->output(p->ctx, p->iov, p->pieces, p->size);
        p->k->told_wnd = p->wnd;
    }
    p->pieces = 0;
    p->size = 0;
    p->scratch_used = 0;
}

static void pack_room(packer *p, size_t need)
{
    if (p->size + need > p->k->cfg.mtu || p->pieces == (int)(sizeof p->iov / sizeof *p->iov))
        pack_end(p);
}

static void write_head(const packer *p, uint8_t *w, uint8_t cmd, uint8_t frg, uint32_t ts, uint32_t sn, uint32_t len)
{
    ks_store32(w, p->k->cfg.conv);
    w[4] = cmd;
    w[5] = frg;
    ks_store16(w + 6, p->wnd);
    ks_store32(w + 8, ts);
    ks_store32(w + 12, sn);
    ks_store32(w + 16, p->k->rcv_nxt);
    ks_store32(w + 20, len);
}

static void pack_control(packer *p, uint8_t cmd, uint32_t ts, uint32_t sn)
{
    pack_room(p, KS_KCP_HEAD);
    uint8_t *w = p->scratch + p->scratch_used;
    write_head(p, w, cmd, 0, ts, sn, 0);
    /* Control segments stand side by side in scratch: one piece for all of them, but never so long that it would count as
     * a segment's memory (KS_KCP_BY_REFERENCE): scratch is gone when flush returns. */
    struct iovec *last = p->pieces > 0 ? &p->iov[p->pieces - 1] : NULL;
    if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == w && last->iov_len + KS_KCP_HEAD < KS_KCP_BY_REFERENCE)
        last->iov_len += KS_KCP_HEAD;
    else
        p->iov[p->pieces++] = (struct iovec){w, KS_KCP_HEAD};
    p->scratch_used += KS_KCP_HEAD;
    p->size += KS_KCP_HEAD;
    p->k->count.out_segs++;
}

/* Sends seg now; it stands in no list. */
static void transmit(packer *p, ks_seg *seg)
{
    ks_kcp *k = p->k;
    size_t need = KS_KCP_HEAD + seg->len;
    pack_room(p, need);
    seg->ts = p->now;
    seg->txno = k->txno++;
    if (seg->xmit < UINT8_MAX)
        seg->xmit++;
    if (seg->xmit >= KS_KCP_DEAD_XMIT)
        k->dead = true;
    write_head(p, seg->wire, CMD_PUSH, seg->frg, seg->ts, seg->sn, seg->len);
    p->iov[p->pieces++] = (struct iovec){seg->wire, need};
    p->size += need;
    if (k->budget != INT64_MAX)
        k->budget -= (int64_t)need;
    ks_flight_append(k, seg);
    k->count.out_segs++;
}

/* An ACK above una is lost with its packet, and una does not tell of it: said twice, in two packets, it seldom is. So a
 * packet of ACKs begins with those of the one before; a peer takes its round trip from the last. There are none of this kind
 * while nothing is missing. */
static void repeat_told(packer *p)
{
    const ks_kcp *k = p->k;
    for (uint32_t i = 0; i < k->ntold; i++)
        if (ks_after(k->told[i].sn, k->rcv_nxt))
            pack_control(p, CMD_ACK, k->told[i].ts, k->told[i].sn);
}

/* What the packet that ends here has said for the first time; without memory it is not repeated. */
static void remember_told(ks_kcp *k, const struct ks_ack *said, uint32_t count, uint32_t most)
{
    if (count > 0 && k->told == NULL)
        k->told = ks_alloc(most * sizeof *k->told);
    k->ntold = k->told != NULL ? count : 0;
    if (k->ntold > 0)
        memcpy(k->told, said, count * sizeof *said);
}

static void flush_acks(packer *p)
{
    ks_kcp *k = p->k;
    struct ks_ack said[ACKS_IN_PACKET_MAX];
    const uint32_t full = k->cfg.mtu / KS_KCP_HEAD, half = full / 2;
    uint32_t above = 0;
    bool begun = false;
    for (uint32_t i = 0; i < k->nacks; i++) {
        /* una covers what is below it, all but the last. But a turn may bring a whole window, and were its one packet with
         * una lost, the peer would send the window again: as the peers do, one packet for each so many ACKs. */
        bool spare = i % full == full - 1 && i + 1 < k->nacks, is_above = ks_after(k->acks[i].sn, k->rcv_nxt);
        if (!spare && !is_above && i + 1 < k->nacks)
            continue;
        if (!begun)
            repeat_told(p);
        begun = true;
        pack_control(p, CMD_ACK, k->acks[i].ts, k->acks[i].sn);
        if (is_above)
            said[above++] = k->acks[i];
        if (!spare && above < half && i + 1 < k->nacks)
            continue;
        remember_told(k, said, above, half);
        if (i + 1 < k->nacks)
            pack_end(p);
        above = 0;
        begun = false;
    }
    k->nacks = 0;
}

static void flush_probes(packer *p)
{
    ks_kcp *k = p->k;
    if (k->rmt_wnd == 0 && k->snd_una != k->snd_end) {
        if (k->probe_wait == 0) {
            k->probe_wait = PROBE_FIRST_MS;
            k->probe_due = p->now + k->probe_wait;
        } else if (!ks_after(k->probe_due, p->now)) {
            k->probe_wait = ks_min32(k->probe_wait + k->probe_wait / 2, PROBE_MAX_MS);
            k->probe_due = p->now + k->probe_wait;
            pack_control(p, CMD_WASK, p->now, 0);
        }
    } else
        k->probe_wait = 0;
    if (k->tell_window) {
        k->tell_window = false;
        pack_control(p, CMD_WINS, p->now, 0);
    }
}

static uint32_t flush_timeouts(packer *p)
{
    ks_kcp *k = p->k;
    uint32_t lost = 0;
    /* From the highest level down: what moves up a level in this pass is not looked at again. */
    for (uint32_t l = KS_KCP_LEVELS; l-- > 0;) {
        uint32_t rto = ks_flight_rto(k, l);
        ks_seg *last = k->flight[l].tail;
        for (ks_seg *seg = k->flight[l].head, *next; seg != NULL && k->budget > 0 && !ks_after(seg->ts + rto, p->now); seg = next) {
            next = seg == last ? NULL : seg->next;
            ks_flight_remove(k, seg);
            /* Sent on the first guess of the peer's window, which is smaller: the peer drops it until it has room, and
             * says so or is probed. Sending it again and again would make a link with a slow reader look dead. */
            if (k->heard_wnd && seg->sn - k->snd_una >= k->rmt_wnd) {
                seg->ts = p->now;
                seg->txno = k->txno++;
                ks_flight_append(k, seg);
                continue;
            }
            seg->level = (uint8_t)ks_min32(l + 1, KS_KCP_LEVELS - 1);
            transmit(p, seg);
            lost++;
        }
    }
    return lost;
}

static uint32_t flush_losses(packer *p)
{
    ks_kcp *k = p->k;
    uint32_t bound, resent = 0;
    bool early;
    if (!ks_flight_lost(k, &bound, &early))
        return 0;
    for (uint32_t l = 0; l < KS_KCP_LEVELS; l++) {
        ks_seg *seg;
        while ((seg = k->flight[l].head) != NULL && k->budget > 0 && ks_after(bound, seg->txno)) {
            ks_flight_remove(k, seg);
            seg->level = 0;
            transmit(p, seg); /* its new number is past the bound: the loop ends */
            resent++;
        }
    }
    if (early)
        k->count.early_retrans_segs += resent;
    else
        k->count.fast_retrans_segs += resent;
    return resent;
}

static void shrink_window(ks_kcp *k, uint32_t lost, uint32_t resent)
{
    if (k->cfg.nc)
        return;
    if (resent > 0) {
        k->ssthresh = ks_max32((k->snd_nxt - k->snd_una) / 2, KS_KCP_SSTHRESH_MIN);
        k->cwnd_bytes = (k->ssthresh + k->cfg.resend) * k->mss;
    }
    if (lost > 0) {
        k->ssthresh = ks_max32(k->cwnd_bytes / k->mss / 2, KS_KCP_SSTHRESH_MIN);
        k->cwnd_bytes = k->mss;
    }
}

void ks_kcp_flush(ks_kcp *k, uint32_t now, ks_kcp_output *output, void *ctx)
{
    packer p;
    p.k = k;
    p.output = output;
    p.ctx = ctx;
    p.now = k->now = now;
    p.wnd = (uint16_t)ks_kcp_window_free(k);
    p.pieces = 0;
    p.size = p.scratch_used = 0;
    k->flush_now = k->flush_armed = k->acks_soon = false;

    /* A few ACKs go behind the data, into the room that its last packet leaves: before it a full segment would not fit
     * beside them. */
    bool behind = k->nacks < k->cfg.mtu / KS_KCP_HEAD;
    if (!behind)
        flush_acks(&p);
    flush_probes(&p);
    uint32_t resent = flush_losses(&p);
    uint32_t lost = flush_timeouts(&p);
    uint32_t wnd = ks_kcp_cwnd(k);
    while (k->snd_nxt != k->snd_end && k->snd_nxt - k->snd_una < wnd && k->budget > 0)
        transmit(&p, *ks_ring_at(&k->snd, k->snd_nxt++));
    if (behind)
        flush_acks(&p);
    pack_end(&p);

    k->count.lost_segs += lost;
    k->count.retrans_segs += lost + resent;
    shrink_window(k, lost, resent);
}

uint32_t ks_kcp_next(const ks_kcp *k, uint32_t now)
{
    if (k->flush_now)
        return 0;
    uint32_t wait = UINT32_MAX;
    /* Further away than an interval: the turn that armed it was half the clock's circle ago, or there was none yet. */
    if (k->flush_armed)
        wait = ks_after(k->flush_due, now) && k->flush_due - now <= k->cfg.interval ? k->flush_due - now : 0;
    for (uint32_t l = 0, left = k->budget > 0 ? k->levels : 0; left != 0; l++, left >>= 1) {
        if ((left & 1) == 0)
            continue;
        uint32_t due = k->flight[l].head->ts + ks_flight_rto(k, l);
        wait = ks_min32(wait, ks_after(due, now) ? due - now : 0);
    }
    if (k->rmt_wnd == 0 && k->snd_una != k->snd_end && k->probe_wait > 0)
        wait = ks_min32(wait, ks_after(k->probe_due, now) ? k->probe_due - now : 0);
    return wait;
}
