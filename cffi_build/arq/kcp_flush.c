/* SPDX-License-Identifier: MIT */
#include "arq/kcp_parts.h"

#include <string.h>

#include "base/octets.h"

#define PROBE_FIRST_MS 500u
#define PROBE_MAX_MS 120000u
#define ACKS_IN_PACKET_MAX (KS_KCP_MTU_MAX / KS_KCP_HEAD)

typedef struct {
    ks_kcp *k;
    ks_kcp_output *output;
    void *ctx;
    uint16_t wnd;
    uint32_t now;
    uint64_t now_us;
    int64_t room; /* bytes that the path still takes; INT64_MAX of a fixed sender */
    int pieces;
    size_t size;
    size_t scratch_used;
    struct iovec iov[64];
    uint8_t scratch[KS_KCP_MTU_MAX];
} packer;

static void pack_end(packer *p)
{
    /* Longer than a packet is only one segment alone, see put_segment. */
    KS_ASSERT((p->size <= p->k->cfg.mtu || p->pieces == 1) && (p->pieces > 0) == (p->size > 0));
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
    /* A segment's piece takes two. */
    if (p->size + need > p->k->cfg.mtu || p->pieces + 2 > (int)(sizeof p->iov / sizeof *p->iov))
        pack_end(p);
}

static void write_head(const packer *p, uint8_t *w, uint8_t cmd, uint8_t frg, uint32_t ts, uint32_t sn, uint32_t len)
{
    ks_kcp_put_head(p->k, w, cmd, frg, p->wnd, ts, sn, len);
}

static void pack_control(packer *p, uint8_t cmd, uint32_t ts, uint32_t sn)
{
    pack_room(p, KS_KCP_HEAD);
    KS_ASSERT(p->scratch_used + KS_KCP_HEAD <= sizeof p->scratch); /* a packet's heads are no longer than a packet */
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

static void put_pieces(packer *p, ks_seg *seg, uint32_t ts)
{
    const uint32_t most = ks_piece_bytes(p->k->cfg.mtu), head = KS_KCP_HEAD + KS_PIECE_HEAD;
    for (uint32_t offset = 0, take; offset < seg->len; offset += take) {
        take = ks_min32(seg->len - offset, most);
        pack_room(p, head + take);
        KS_ASSERT(p->scratch_used + head <= sizeof p->scratch);
        uint8_t *w = p->scratch + p->scratch_used;
        write_head(p, w, CMD_PUSH, seg->frg, ts + p->k->cfg.secret, seg->sn - KS_KCP_ASIDE, KS_PIECE_HEAD + take);
        ks_piece_put_head(w + KS_KCP_HEAD, seg->len, offset);
        p->iov[p->pieces++] = (struct iovec){w, head};
        p->iov[p->pieces++] = (struct iovec){ks_seg_data(seg) + offset, take};
        p->scratch_used += head;
        p->size += head + take;
        if (p->k->cfg.adaptive && offset > 0)
            ks_path_spend(&p->k->sender->path, head);
    }
    p->k->sent_pieces = true;
}

/* With that time stamp. One that is longer than a packet, and goes whole all the same, has a packet to itself. */
static void put_segment(packer *p, ks_seg *seg, uint32_t ts)
{
    size_t need = ks_flight_bytes(seg);
    if (need > p->k->cfg.mtu && ks_mtu_in_pieces(p->k, seg)) {
        put_pieces(p, seg, ts);
        return;
    }
    pack_room(p, need);
    write_head(p, seg->wire, CMD_PUSH, seg->frg, ts + p->k->cfg.secret, seg->sn, seg->len);
    p->iov[p->pieces++] = (struct iovec){seg->wire, need};
    p->size += need;
    if (p->size > p->k->cfg.mtu)
        pack_end(p);
}

/* Sends seg now; it stands in no list, and has its level. */
static void transmit(packer *p, ks_seg *seg)
{
    ks_kcp *k = p->k;
    size_t need = KS_KCP_HEAD + seg->len;
    KS_ASSERT(seg->sn - k->snd_una < k->snd_nxt - k->snd_una);
    seg->ts = p->now;
    seg->txno = k->txno++;
    if (seg->xmit == 0)
        seg->first_ts = seg->ts;
    if (seg->xmit < UINT8_MAX)
        seg->xmit++;
    if (seg->xmit >= KS_KCP_DEAD_XMIT)
        k->dead = true;
    put_segment(p, seg, seg->ts);
    seg->pieced = (uint8_t)(need > k->cfg.mtu ? seg->pieced + 1 : 0);
    if (k->budget != INT64_MAX)
        k->budget -= (int64_t)need;
    if (k->cfg.adaptive) {
        ks_path_sent(&k->sender->path, &seg->mark, (uint32_t)need, p->now_us);
        ks_insure_sent(k, (uint32_t)need);
        p->room -= (int64_t)need;
    }
    ks_flight_append(k, seg);
    k->count.out_segs++;
}

/* An ACK below una may be lost, since the next packet's una says the same; one above una, of a segment behind a gap, may not.
 * So it is sent twice: a packet of ACKs begins with those above una of the packet before. A peer takes its round trip from the
 * last ACK, which is new. */
static void repeat_told(packer *p)
{
    const ks_kcp *k = p->k;
    for (uint32_t i = 0; i < k->ntold; i++)
        if (ks_after(k->told[i].sn, k->rcv_nxt))
            pack_control(p, CMD_ACK, k->told[i].ts, k->told[i].sn);
}

/* Keeps what the packet that ends here has said for the first time; without memory it is not repeated. */
static void remember_told(ks_kcp *k, const struct ks_ack *said, uint32_t count, uint32_t most)
{
    KS_ASSERT(count <= most);
    if (count > 0 && k->told == NULL)
        k->told = ks_alloc(most * sizeof *k->told);
    k->ntold = (uint8_t)(k->told != NULL ? count : 0);
    if (k->ntold > 0)
        memcpy(k->told, said, count * sizeof *said);
}

static void flush_acks(packer *p)
{
    ks_kcp *k = p->k;
    if (k->answers)
        pack_control(p, CMD_ACK, k->answer.ts, k->answer.sn);
    k->answers = false;
    struct ks_ack said[ACKS_IN_PACKET_MAX];
    const uint32_t full = k->cfg.mtu / KS_KCP_HEAD, half = full / 2;
    uint32_t above = 0;
    bool begun = false;
    for (uint32_t i = 0; i < k->nacks; i++) {
        /* una covers what is below it, all but the last. But a turn may bring a whole window, and were its one packet with
         * una lost, the peer would send the window again: as the peers do, one packet for each so many ACKs. */
        bool spare = i % full == full - 1 && i + 1 < k->nacks, is_above = ks_after(k->acks[i].sn, k->rcv_nxt);
        bool is_pad = ks_kcp_is_aside(k->rcv_nxt, k->acks[i].sn); /* no una covers it */
        if (!spare && !is_above && !is_pad && i + 1 < k->nacks)
            continue;
        if (!begun)
            repeat_told(p);
        begun = true;
        pack_control(p, CMD_ACK, k->acks[i].ts, k->acks[i].sn);
        KS_ASSERT(above < ACKS_IN_PACKET_MAX);
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

static bool may_send(const packer *p)
{
    return p->k->budget > 0;
}

/* Whether data waits for a packet of the peer's, so that WASK asks for one. */
static bool awaits_word(const ks_kcp *k)
{
    return k->snd_una != k->snd_end && k->rmt_wnd == 0;
}

/* Where forgers can say it too, the answer is believed with that to a challenge, which stands beside it. */
static void ask_window(packer *p)
{
    pack_control(p, CMD_WASK, p->now + p->k->cfg.secret, 0);
    if (p->k->cfg.doubts)
        ks_doubt_ask(p->k);
}

static void flush_probes(packer *p)
{
    ks_kcp *k = p->k;
    if (awaits_word(k)) {
        if (k->probe_wait == 0) {
            k->probe_wait = PROBE_FIRST_MS;
            k->probe_due = p->now + k->probe_wait;
        } else if (!ks_after(k->probe_due, p->now)) {
            k->probe_wait = ks_min32(k->probe_wait + k->probe_wait / 2, PROBE_MAX_MS);
            k->probe_due = p->now + k->probe_wait;
            ask_window(p);
        }
    } else
        k->probe_wait = 0;
    if (k->tell_window) {
        k->tell_window = false;
        pack_control(p, CMD_WINS, p->now + k->cfg.secret, 0);
    }
}

/* Sends again what is in flight. */
static void retransmit(packer *p, ks_seg *seg, uint32_t level)
{
    ks_kcp *k = p->k;
    ks_flight_remove(k, seg);
    ks_mtu_lost(k, seg);
    if (k->cfg.adaptive) {
        if (seg->level == KS_FLIGHT_OUT)
            ks_path_lost(&k->sender->path, &seg->mark, ks_flight_bytes(seg));
        level = KS_FLIGHT_OUT;
    }
    seg->level = (uint8_t)level;
    transmit(p, seg);
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
            /* Sent on the first guess of the peer's window, which is smaller: the peer drops it until it has room, and
             * says so or is probed. Sending it again and again would make a link with a slow reader look dead. */
            if (k->heard_wnd && seg->sn - k->snd_una >= k->rmt_wnd) {
                ks_flight_remove(k, seg);
                seg->ts = p->now;
                seg->txno = k->txno++;
                ks_flight_append(k, seg);
                continue;
            }
            if (!may_send(p))
                return lost;
            retransmit(p, seg, ks_min32(l + 1, KS_KCP_LEVELS - 1));
            lost++;
        }
    }
    return lost;
}

/* While nothing is acknowledged: the oldest segment alone, at its time. */
static uint32_t flush_stalled(packer *p)
{
    ks_kcp *k = p->k;
    ks_seg *seg = *ks_ring_at(&k->snd, k->snd_una);
    if (ks_after(k->stall_due, p->now) || !may_send(p))
        return 0;
    ks_flight_probed(k, p->now);
    retransmit(p, seg, seg->level);
    return 1;
}

/* After a stall: what is overdue by the first timeout, in order, whatever it had backed off to. And what has become longer than
 * a packet: it did not arrive. */
static uint32_t flush_resumed(packer *p)
{
    ks_kcp *k = p->k;
    uint32_t rto = ks_flight_rto(k, 0), lost = 0;
    k->resume = false;
    for (uint32_t sn = k->snd_una; sn != k->snd_nxt && !(k->heard_wnd && sn - k->snd_una >= k->rmt_wnd); sn++) {
        ks_seg *seg = *ks_ring_at(&k->snd, sn);
        if (seg == NULL)
            continue;
        bool too_long = ks_flight_bytes(seg) > k->cfg.mtu && seg->pieced == 0;
        if (!too_long && ks_after(seg->ts + rto, p->now))
            continue;
        if (!may_send(p))
            break;
        retransmit(p, seg, 0);
        lost++;
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
        while ((seg = k->flight[l].head) != NULL && ks_after(bound, seg->txno) && may_send(p)) {
            retransmit(p, seg, 0); /* its new number is past the bound: the loop ends */
            resent++;
        }
    }
    if (early)
        k->count.early_retrans_segs += resent;
    else
        k->count.fast_retrans_segs += resent;
    return resent;
}

/* ---- the adaptive sender ---- */

#define PROBE_PKTS 2u
#define PROBE_ALL_PKTS 8u /* so many or fewer under way: they all go again */

/* Whether the path takes one more. */
static bool has_room(const packer *p)
{
    return p->room > 0;
}

/* What is lost, in the order in which it was sent before. */
static uint32_t flush_lost(packer *p)
{
    ks_kcp *k = p->k;
    ks_seg *seg;
    uint32_t resent = 0;
    while ((seg = k->flight[KS_FLIGHT_LOST].head) != NULL && has_room(p) && may_send(p)) {
        retransmit(p, seg, KS_FLIGHT_OUT);
        resent++;
    }
    return resent;
}

/* Nothing has come for too long: the oldest again, whether the path takes it or not. */
static uint32_t flush_tail(packer *p)
{
    ks_kcp *k = p->k;
    if (ks_rack_ask_is_due(k, p->now_us)) {
        k->sender->asks++;
        k->sender->asked_us = (uint32_t)p->now_us;
        ask_window(p);
    }
    if (!ks_rack_probe_is_due(k, p->now_us))
        return 0;
    uint32_t out = 0, sent = 0;
    for (const ks_seg *seg = k->flight[KS_FLIGHT_OUT].head; seg != NULL && out <= PROBE_ALL_PKTS; seg = seg->next)
        out++;
    uint32_t most = out <= PROBE_ALL_PKTS ? out : PROBE_PKTS;
    for (; sent < most; sent++) {
        ks_seg *seg = k->flight[KS_FLIGHT_OUT].head;
        if (!may_send(p))
            break;
        retransmit(p, seg, KS_FLIGHT_OUT);
    }
    ks_path_silent(&k->sender->path);
    k->sender->probes++;
    k->sender->probed_us = (uint32_t)p->now_us;
    return sent;
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

static void flush_new(packer *p)
{
    ks_kcp *k = p->k;
    uint32_t wnd = ks_kcp_cwnd(k);
    if (k->snd_una == k->snd_nxt)
        k->progress = p->now;
    while (k->snd_nxt != k->snd_end && k->snd_nxt - k->snd_una < wnd) {
        if (p->room <= 0)
            return;
        if (!may_send(p))
            return;
        transmit(p, *ks_ring_at(&k->snd, k->snd_nxt++));
    }
}

/* The adaptive sender's. */
static void flush_queued(packer *p)
{
    ks_kcp *k = p->k;
    if (has_room(p) || k->snd_una == k->snd_nxt)
        flush_new(p);
    /* More could go than there was: what comes back now tells less of the path than of the application. */
    if (p->room > 0 && !k->more_waits)
        ks_path_idle(&k->sender->path);
    if (k->snd_nxt == k->snd_end && !k->more_waits && k->flight[KS_FLIGHT_LOST].head == NULL)
        ks_insure_end(k, p->now_us);
    else
        k->sender->insured_txno = k->txno - 1;
}

static void flush_copies(packer *p)
{
    ks_kcp *k = p->k;
    ks_seg *seg;
    while ((seg = ks_insure_next(k, p->now_us)) != NULL && may_send(p)) {
        size_t need = ks_flight_bytes(seg);
        put_segment(p, seg, p->now); /* with a time stamp of its own, which tells whether the first one came */
        ks_path_spend(&k->sender->path, (uint32_t)need);
        k->count.insured_segs++;
        k->count.out_segs++;
        if (k->budget != INT64_MAX)
            k->budget -= (int64_t)need;
    }
}

void ks_kcp_flush(ks_kcp *k, uint64_t now_us, ks_kcp_output *output, void *ctx)
{
    packer p;
    ks_kcp_check(k);
    p.k = k;
    p.output = output;
    p.ctx = ctx;
    p.now_us = now_us;
    p.now = k->now = (uint32_t)(now_us / 1000);
    p.wnd = (uint16_t)ks_kcp_window_free(k);
    p.room = INT64_MAX;
    p.pieces = 0;
    p.size = p.scratch_used = 0;
    KS_ASSERT(ks_kcp_window_free(k) <= UINT16_MAX);
    k->flush_now = k->flush_armed = k->acks_soon = false;

    /* A few ACKs go behind the data, into the room that its last packet leaves: before it a full segment would not fit
     * beside them. */
    bool behind = k->nacks < k->cfg.mtu / KS_KCP_HEAD;
    if (!behind)
        flush_acks(&p);
    flush_probes(&p);
    uint32_t resent = 0, lost = 0;
    bool rests = k->cfg.adaptive && k->sender == NULL; /* nothing is queued */
    if (k->cfg.adaptive && !rests) {
        ks_sender_begin(k, now_us);
        ks_rack_find_lost(k, now_us);
        p.room = ks_path_room(&k->sender->path, now_us);
    }
    if (ks_flight_is_stalled(k, p.now)) {
        ks_flight_stall(k, p.now);
        lost = flush_stalled(&p);
    } else if (rests)
        k->resume = false;
    else if (k->cfg.adaptive) {
        k->resume = false;
        resent = flush_lost(&p);
        lost = flush_tail(&p);
        flush_queued(&p);
        flush_copies(&p);
    } else {
        if (k->resume)
            lost = flush_resumed(&p);
        resent = flush_losses(&p);
        lost += flush_timeouts(&p);
        flush_new(&p);
    }
    if (behind)
        flush_acks(&p);
    /* Last: a peer leaves out ACKs that its una covers, but for the last one's. */
    if (k->challenge_due)
        pack_control(&p, CMD_PUSH, k->challenge.ts, k->challenge.sn);
    k->challenge_due = false;
    pack_end(&p);
    k->has_room = p.room > 0;
    KS_ASSERT(k->nacks == 0 && !k->tell_window);

    k->count.lost_segs += lost;
    k->count.retrans_segs += lost + resent;
    shrink_window(k, lost, resent);
    ks_kcp_check(k);
}

/* Rounded up: an engine's timers know ms. */
static uint32_t to_ms(uint64_t us)
{
    return us == UINT64_MAX ? UINT32_MAX : (uint32_t)((us + 999) / 1000);
}

/* When the adaptive sender has something to send, ms. */
static uint32_t next_adaptive(const ks_kcp *k, uint64_t now_us)
{
    bool held = k->cfg.write_delay && k->flush_armed; /* until then */
    bool waits = (k->snd_nxt != k->snd_end && !held) || k->more_waits;
    uint32_t wait = ks_min32(to_ms(ks_rack_wait_us(k, now_us)), to_ms(ks_insure_wait_us(k, now_us)));
    if (k->sender == NULL)
        return wait; /* without memory for it nothing is queued; the owner tries again */
    if ((waits && k->snd_nxt - k->snd_una < ks_kcp_cwnd(k)) || k->flight[KS_FLIGHT_LOST].head != NULL)
        wait = ks_min32(wait, to_ms(ks_path_wait_us(&k->sender->path, now_us)));
    return wait;
}

uint32_t ks_kcp_next(const ks_kcp *k, uint64_t now_us)
{
    uint32_t now = (uint32_t)(now_us / 1000);
    if (k->flush_now)
        return 0;
    uint32_t wait = UINT32_MAX;
    /* Further away than an interval: the turn that armed it was half the clock's circle ago, or there was none yet. */
    if (k->flush_armed)
        wait = ks_after(k->flush_due, now) && k->flush_due - now <= k->cfg.interval ? k->flush_due - now : 0;
    bool may_go = k->budget > 0;
    if (may_go && k->stalled)
        wait = ks_min32(wait, ks_after(k->stall_due, now) ? k->stall_due - now : 0);
    if (may_go && !k->stalled && k->cfg.adaptive)
        wait = ks_min32(wait, next_adaptive(k, now_us));
    bool timed = may_go && !k->stalled && !k->cfg.adaptive;
    for (uint32_t l = 0, left = timed ? k->levels : 0; left != 0; l++, left >>= 1) {
        if ((left & 1) == 0)
            continue;
        KS_ASSERT(k->flight[l].head != NULL);
        uint32_t due = k->flight[l].head->ts + ks_flight_rto(k, l);
        wait = ks_min32(wait, ks_after(due, now) ? due - now : 0);
    }
    if (k->probe_wait > 0 && awaits_word(k))
        wait = ks_min32(wait, ks_after(k->probe_due, now) ? k->probe_due - now : 0);
    return wait;
}
