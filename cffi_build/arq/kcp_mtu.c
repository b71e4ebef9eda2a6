/* SPDX-License-Identifier: MIT */
/* Another packet size in a live conversation, and what tells of the size that the path takes: pads, and losses of long segments.
 * Who decides by it is path/pmtu.h. */
#include "arq/kcp_parts.h"

#include <string.h>

#include "base/octets.h"

#define LONG_BYTES 480u     /* shorter ones pass wherever IPv4 does, crypt and FEC around them */
#define SUSPECT_LOSSES 5u
#define SUSPECT_LEAST_MS 30u
#define WHOLE_EVERY 4u      /* of the transmissions that could go in pieces: the path may have recovered */
#define PAD_STAMP (1u << 31) /* so far from now is the time stamp of no segment */

void ks_kcp_put_head(const ks_kcp *k, uint8_t *w, uint8_t cmd, uint8_t frg, uint16_t wnd, uint32_t ts, uint32_t sn, uint32_t len)
{
    ks_put_le32(w, k->cfg.conv);
    w[4] = cmd;
    w[5] = frg;
    ks_put_le16(w + 6, wnd);
    ks_put_le32(w + 8, ts);
    ks_put_le32(w + 12, sn);
    ks_put_le32(w + 16, k->rcv_nxt);
    ks_put_le32(w + 20, len);
}

/* ---- another size ---- */

/* What was never sent has its numbers from nobody yet: it is cut to the size of packets. Without memory it goes in pieces. */
static void cut_queued(ks_kcp *k)
{
    uint32_t more = 0;
    for (uint32_t sn = k->snd_nxt; sn != k->snd_end; sn++)
        more += ((*ks_ring_at(&k->snd, sn))->len + k->mss - 1) / k->mss - 1;
    ks_seg *spare = NULL;
    uint32_t held = k->snd_end - k->snd_una, spares = 0;
    for (; spares < more; spares++) {
        ks_seg *seg = ks_seg_new(k->pools, k->mss);
        if (seg == NULL)
            break;
        seg->next = spare;
        spare = seg;
    }
    bool can = more > 0 && spares == more && ks_ring_reserve(&k->snd, k->snd_una, held, held + more) == 0;
    for (uint32_t from = k->snd_end, to = k->snd_end + more; can && from != to;) {
        ks_seg *seg = *ks_ring_at(&k->snd, --from);
        uint32_t parts = (seg->len + k->mss - 1) / k->mss;
        for (uint32_t part = parts; part-- > 1;) {
            ks_seg *own = spare;
            spare = own->next;
            own->next = NULL;
            own->cap = (uint16_t)k->mss;
            own->len = (uint16_t)ks_min32(seg->len - part * k->mss, k->mss);
            memcpy(ks_seg_data(own), ks_seg_data(seg) + (size_t)part * k->mss, own->len);
            own->sn = --to;
            *ks_ring_at(&k->snd, to) = own;
        }
        seg->len = (uint16_t)ks_min32(seg->len, k->mss);
        seg->sn = --to;
        *ks_ring_at(&k->snd, to) = seg;
    }
    if (can)
        k->snd_end += more;
    for (ks_seg *next; spare != NULL; spare = next) {
        next = spare->next;
        ks_seg_unref(spare);
    }
}

void ks_kcp_set_mtu(ks_kcp *k, uint32_t mtu, uint64_t now_us)
{
    ks_kcp_check(k);
    KS_ASSERT(mtu >= KS_KCP_MTU_MIN && mtu <= KS_KCP_MTU_MAX && k->reserved == 0);
    uint32_t cwnd = k->cwnd_bytes / k->mss;
    bool smaller = mtu < k->cfg.mtu;
    k->cfg.mtu = mtu;
    k->mss = mtu - KS_KCP_HEAD;
    k->cwnd_bytes = cwnd * k->mss;
    if (k->cfg.adaptive && k->sender != NULL)
        k->sender->path.packet_bytes = mtu;
    k->row_lost = 0;
    ks_free(k->told); /* has room for half a packet's ACKs */
    k->told = NULL;
    k->ntold = 0;
    if (k->cfg.stream && k->snd_end != k->snd_nxt) {
        if (smaller)
            cut_queued(k);
        ks_seg *tail = *ks_ring_at(&k->snd, k->snd_end - 1);
        tail->cap = (uint16_t)ks_max32(tail->len, ks_min32(tail->cap, k->mss));
    }
    if (smaller) {
        if (k->cfg.adaptive)
            ks_rack_lose_longer(k);
        k->stalled = false;
        k->resume = k->flush_now = true;
        k->progress = (uint32_t)(now_us / 1000);
    }
    ks_kcp_check(k);
}

/* ---- losses ---- */

void ks_mtu_lost(ks_kcp *k, const ks_seg *seg)
{
    uint32_t bytes = ks_flight_bytes(seg);
    if (bytes < LONG_BYTES || bytes > k->cfg.mtu)
        return;
    if (k->row_lost == 0) {
        k->row_ms = k->now;
        k->row_least = (uint16_t)bytes;
    }
    k->row_least = (uint16_t)ks_min32(k->row_least, bytes);
    if (k->row_lost < UINT8_MAX)
        k->row_lost++;
}

void ks_mtu_acked(ks_kcp *k, const ks_seg *seg)
{
    uint32_t bytes = ks_flight_bytes(seg);
    if (bytes >= k->row_least && bytes <= k->cfg.mtu)
        k->row_lost = 0;
}

bool ks_kcp_suspects_mtu(const ks_kcp *k, uint64_t now_us)
{
    if (k->row_lost < 2)
        return false;
    /* A queue that overflows loses many at once, but not for a round trip. */
    ks_path room;
    uint32_t rtt_ms = k->cfg.adaptive ? ks_kcp_path(k, &room)->smooth_us / 1000 : k->srtt8 / 8;
    bool probed = k->cfg.adaptive ? k->sender != NULL && k->sender->probes >= 2 : k->stalled;
    return (k->row_lost >= SUSPECT_LOSSES || probed) &&
           (uint32_t)(now_us / 1000) - k->row_ms >= ks_max32(rtt_ms, SUSPECT_LEAST_MS);
}

bool ks_mtu_in_pieces(const ks_kcp *k, const ks_seg *seg)
{
    return !k->no_pieces && ks_piece_bytes(k->cfg.mtu) > 0 &&
           seg->pieced % WHOLE_EVERY != WHOLE_EVERY - 1;
}

/* ---- pads ---- */

void ks_kcp_begin_pads(ks_kcp *k, uint64_t now_us)
{
    uint32_t ts = (uint32_t)(now_us / 1000) + PAD_STAMP;
    /* One round's must not be another's. */
    k->pad_ts = k->pads_sent != 0 && !ks_after(ts, k->pad_ts) ? k->pad_ts + 1 : ts;
    k->pad_sn = k->snd_una - KS_KCP_ASIDE;
    k->pads_sent = k->pads_acked = 0;
}

void ks_kcp_put_pad(ks_kcp *k, uint32_t slot, uint8_t *packet, uint32_t size)
{
    KS_ASSERT(slot < 8 && size >= KS_KCP_HEAD && size <= KS_KCP_MTU_MAX);
    memset(packet, 0, size);
    ks_kcp_put_head(k, packet, CMD_PUSH, 0, (uint16_t)ks_kcp_window_free(k), k->pad_ts + k->cfg.secret, k->pad_sn + slot, size - KS_KCP_HEAD);
    k->pads_sent = (uint8_t)(k->pads_sent | 1u << slot);
    k->count.out_segs++;
}

unsigned ks_kcp_take_pads_acked(ks_kcp *k)
{
    unsigned acked = k->pads_acked;
    k->pads_acked = 0;
    return acked;
}

void ks_mtu_input_ack(ks_kcp *k, uint32_t sn, uint32_t ts)
{
    uint32_t slot = sn - k->pad_sn;
    if (slot < 8 && ts == k->pad_ts)
        k->pads_acked = (uint8_t)(k->pads_acked | (k->pads_sent & 1u << slot));
    else if (k->sent_pieces && /* by a stamp of the last minute, where it may be a forger's guess */
             k->now - ts < (k->cfg.doubts ? KS_KCP_RTO_MAX_MS : PAD_STAMP / 2))
        k->no_pieces = true;
}
