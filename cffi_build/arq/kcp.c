/* SPDX-License-Identifier: MIT */
#include "arq/kcp_parts.h"

#include <string.h>

#include "base/err.h"
#include "base/octets.h"

#define RTO_MIN_MS 100u
#define RTO_FIRST_MS 200u
/* An interval may be seconds; an ACK that late would make the peer's RTO useless. */
#define ACK_DELAY_MAX_MS 40u
#define ACK_SOON_MS 1u
#define REFILL_PKTS 16u
#define AHEAD_PKTS 1024u
/* A packet holds at most 62 acknowledgments; more than this many waiting is a flood, and una or a repeat covers the rest. */
#define ACKS_MAX 65536u
#define STAMP_BACK_MS 10000u  /* so long after it was sent again a segment's earlier stamps are known */
#define ACKS_LOOKED_AT 16u

/* ---- life ---- */

void ks_kcp_init(ks_kcp *k, const ks_kcp_config *config, ks_seg_pools *pools, uint32_t first_sn)
{
    memset(k, 0, sizeof *k);
    k->cfg = *config;
    k->cfg.interval = (uint16_t)ks_max32(KS_KCP_INTERVAL_MIN, ks_min32(config->interval, KS_KCP_INTERVAL_MAX));
    k->cfg.resend = (uint16_t)ks_min32(config->resend, KS_KCP_RESEND_MAX);
    k->mss = config->mtu - KS_KCP_HEAD;
    k->first_mss = (uint16_t)k->mss;
    k->pools = pools;
    k->snd_una = k->snd_nxt = k->snd_end = first_sn;
    k->rcv_read = k->rcv_nxt = k->rcv_max = first_sn;
    k->rmt_wnd = 32; /* until the peer says */
    k->cwnd_bytes = k->mss;
    k->ssthresh = KS_KCP_SSTHRESH_MIN;
    k->rto = RTO_FIRST_MS;
    k->told_wnd = k->rcv_first = config->rcv_wnd;
    k->rcv_edge = first_sn + config->rcv_wnd;
    k->rcv_most = UINT32_MAX;
    k->budget = INT64_MAX;
    k->has_room = true;
    ks_kcp_check(k);
}

void ks_kcp_free(ks_kcp *k)
{
    ks_kcp_check(k);
    ks_ring_drop(&k->snd, k->snd_una, k->snd_end - k->snd_una);
    ks_ring_drop(&k->rcv, k->rcv_read, k->rcv_max - k->rcv_read);
    ks_free(k->acks);
    ks_free(k->told);
    ks_sender_free(k);
    memset(k->flight, 0, sizeof k->flight);
    k->levels = 0;
    k->acks = k->told = NULL;
    k->nacks = k->acks_cap = k->ntold = 0;
    k->snd_una = k->snd_nxt = k->snd_end;
    k->rcv_read = k->rcv_nxt = k->rcv_max;
}

void ks_kcp_trim(ks_kcp *k)
{
    if (k->snd_una == k->snd_end) {
        ks_ring_drop(&k->snd, 0, 0);
        ks_sender_rest_now(k);
    }
    if (k->rcv_read == k->rcv_max) {
        ks_ring_drop(&k->rcv, 0, 0);
        if (k->cfg.follow)
            k->cfg.rcv_wnd = k->rcv_first;
    }
    if (k->nacks == 0) {
        ks_free(k->acks);
        ks_free(k->told);
        k->acks = k->told = NULL;
        k->acks_cap = k->ntold = 0;
    }
    ks_kcp_check(k);
}

void ks_kcp_set_resend(ks_kcp *k, uint32_t resend)
{
    k->cfg.resend = (uint16_t)resend;
    if (!k->cfg.adaptive)
        k->npassed = ks_min32(k->npassed, resend);
    ks_kcp_check(k);
}

void ks_kcp_set_snd_wnd(ks_kcp *k, uint32_t packets)
{
    k->cfg.snd_wnd = packets;
    k->flush_now = true;
    ks_kcp_check(k);
}

/* The right edge only goes on: what is beyond it after the window has shrunk is what the peer may rightly send. */
static void move_edge(ks_kcp *k)
{
    uint32_t edge = k->rcv_read + k->cfg.rcv_wnd;
    if (ks_after(edge, k->rcv_edge))
        k->rcv_edge = edge;
}

void ks_kcp_set_rcv_wnd(ks_kcp *k, uint32_t packets)
{
    k->tell_window = k->tell_window || packets > k->cfg.rcv_wnd;
    k->cfg.rcv_wnd = packets;
    k->cfg.follow = false;
    k->flush_now = true;
    move_edge(k);
    ks_kcp_check(k);
}

void ks_kcp_forget_unacked(ks_kcp *k)
{
    ks_ring_drop(&k->snd, k->snd_una, k->snd_end - k->snd_una);
    memset(k->flight, 0, sizeof k->flight);
    k->levels = 0;
    if (k->cfg.adaptive && k->sender != NULL)
        k->sender->path.in_flight = 0;
    k->snd_una = k->snd_nxt = k->snd_end;
    k->stalled = k->resume = false;
    ks_kcp_check(k);
}

uint32_t ks_kcp_challenge_sn(const ks_kcp *k)
{
    return k->snd_una - 1;
}

void ks_kcp_challenge(ks_kcp *k, uint32_t ts)
{
    /* Asked again, it keeps its sn too, though una has moved: the answer to either will do. */
    if (!k->challenge_open || k->challenge.ts != ts)
        k->challenge = (struct ks_ack){ks_kcp_challenge_sn(k), ts};
    k->challenge_open = k->challenge_due = k->flush_now = true;
    k->challenge_met = false;
    ks_kcp_check(k);
}

bool ks_kcp_challenge_met(ks_kcp *k)
{
    bool met = k->challenge_met;
    k->challenge_met = false;
    return met;
}

void ks_kcp_write_challenge(const ks_kcp *k, uint8_t *packet, uint32_t sn, uint32_t ts)
{
    ks_kcp_put_head(k, packet, CMD_PUSH, 0, (uint16_t)ks_kcp_window_free(k), ts, sn, 0);
}

bool ks_kcp_knows_stamp(const ks_kcp *k, uint32_t ts, uint64_t now_us)
{
    const uint32_t now = (uint32_t)(now_us / 1000);
    uint32_t oldest = now;
    ts -= k->cfg.secret;
    if (k->pads_sent != 0 && ts == k->pad_ts)
        return true;
    if (k->levels == 0)
        return false;
    for (uint32_t l = 0; l < KS_KCP_LEVELS; l++) /* each list is in the order of transmission; copies are later */
        if (k->flight[l].head != NULL && ks_after(oldest, k->flight[l].head->ts))
            oldest = k->flight[l].head->ts;
    return !ks_after(oldest - STAMP_BACK_MS, ts) && !ks_after(ts, now);
}

void ks_kcp_peer_moved(ks_kcp *k, uint64_t now_us)
{
    if (k->cfg.adaptive && k->sender != NULL)
        ks_rack_lose_all(k);
    k->stalled = false;
    k->resume = k->flush_now = true;
    k->progress = (uint32_t)(now_us / 1000);
    ks_kcp_check(k);
}

void ks_kcp_take_most(ks_kcp *k, uint32_t packets)
{
    k->rcv_most = packets;
}

void ks_kcp_set_budget(ks_kcp *k, int64_t bytes)
{
    bool held = k->budget <= 0;
    k->budget = bytes;
    if (held && bytes > 0 && k->snd_una != k->snd_end)
        k->flush_now = true;
}

uint64_t ks_kcp_backlog(const ks_kcp *k)
{
    if (!k->cfg.adaptive)
        return UINT64_MAX;
    /* As much as the path sends soon, and never more than KCP's own default lets an application be ahead; that much while the
     * peer's window is shut: no frame comes later for it. */
    bool shut = k->snd_nxt - k->snd_una >= ks_kcp_cwnd(k);
    ks_path room;
    uint64_t most = ks_path_backlog(ks_kcp_path(k, &room)), queued = (uint64_t)(k->snd_end - k->snd_nxt) * k->mss;
    uint64_t ahead = (uint64_t)AHEAD_PKTS * k->mss;
    most = shut || most > ahead ? ahead : most;
    /* A little at a time would make small frames. */
    uint64_t least = queued > 0 ? REFILL_PKTS * (uint64_t)k->mss : 0;
    return most > queued + least ? most - queued : 0;
}

uint32_t ks_kcp_unacked(const ks_kcp *k)
{
    return k->snd_end - k->snd_una;
}

uint32_t ks_kcp_cwnd(const ks_kcp *k)
{
    uint32_t wnd = ks_min32(k->cfg.snd_wnd, k->rmt_wnd);
    if (!k->cfg.nc)
        wnd = ks_min32(wnd, ks_max32(1, k->cwnd_bytes / k->mss));
    return wnd;
}

ks_bound ks_kcp_bound_by(const ks_kcp *k)
{
    bool queued = k->snd_nxt != k->snd_end || k->flight[KS_FLIGHT_LOST].head != NULL;
    uint32_t out = k->snd_nxt - k->snd_una;
    if (!queued && !k->more_waits)
        return KS_BOUND_BY_APPLICATION;
    if (k->budget <= 0)
        return KS_BOUND_BY_LIMIT;
    if (out >= k->rmt_wnd)
        return KS_BOUND_BY_PEER;
    if (out >= ks_kcp_cwnd(k) || !k->cfg.adaptive)
        return KS_BOUND_BY_WINDOW;
    return k->sender != NULL && ks_path_is_full(&k->sender->path) ? KS_BOUND_BY_PATH : KS_BOUND_BY_PACING;
}

/* ---- the application's side: sending ---- */

/* The queued segment that the stream's next bytes go into, or NULL. */
static ks_seg **open_tail(const ks_kcp *k)
{
    return k->cfg.stream && k->snd_end != k->snd_nxt ? ks_ring_at(&k->snd, k->snd_end - 1) : NULL;
}

static uint32_t tail_space(const ks_kcp *k)
{
    ks_seg **tail = open_tail(k);
    return tail == NULL || (*tail)->len >= k->mss ? 0 : k->mss - (*tail)->len;
}

uint32_t ks_kcp_tail_room(const ks_kcp *k)
{
    return tail_space(k);
}

uint32_t ks_kcp_room(const ks_kcp *k)
{
    uint32_t held = k->snd_end - k->snd_una;
    return (held < k->cfg.snd_wnd ? (k->cfg.snd_wnd - held) * k->mss : 0) + tail_space(k);
}

/* A fresh segment at snd_end + ahead, not yet counted. */
static ks_seg *queue_slot(ks_kcp *k, uint32_t ahead, uint32_t bytes)
{
    uint32_t held = k->snd_end - k->snd_una;
    KS_ASSERT(bytes <= k->mss || k->cfg.stream || bytes <= k->first_mss);
    if (!ks_sender_need(k) || ks_ring_reserve(&k->snd, k->snd_una, held + ahead, held + ahead + 1) != KS_OK)
        return NULL;
    uint32_t most = k->cfg.stream ? k->mss : ks_max32(bytes, k->mss);
    ks_seg *seg = ks_seg_new(k->pools, ks_min32(bytes, most));
    if (seg != NULL) {
        seg->cap = (uint16_t)ks_min32(seg->cap, most);
        seg->sn = k->snd_end + ahead;
        *ks_ring_at(&k->snd, seg->sn) = seg;
    }
    return seg;
}

/* Room for `bytes` more in the tail, if its segment can have it: a small one moves into a large one, so that small writes
 * behind a closed window make full segments. -> room there is */
static uint32_t widen_tail(ks_kcp *k, ks_seg **slot, uint32_t bytes)
{
    ks_seg *old = *slot;
    if (old->cap < k->mss && bytes > (uint32_t)(old->cap - old->len)) {
        ks_seg *wide = ks_seg_new(k->pools, k->mss);
        if (wide != NULL) {
            wide->cap = (uint16_t)k->mss;
            wide->sn = old->sn;
            wide->len = old->len;
            memcpy(ks_seg_data(wide), ks_seg_data(old), old->len);
            ks_seg_unref(old);
            *slot = wide;
        }
    }
    KS_ASSERT((*slot)->len <= (*slot)->cap && (*slot)->cap <= k->mss);
    return (uint32_t)((*slot)->cap - (*slot)->len);
}

int ks_kcp_alloc_tail(ks_kcp *k, uint32_t bytes, struct iovec *iov, int max)
{
    KS_ASSERT(k->cfg.stream && k->reserved == 0);
    int n = 0;
    ks_seg **slot = open_tail(k);
    uint32_t space = max > 0 ? ks_min32(bytes, tail_space(k)) : 0;
    space = space > 0 ? widen_tail(k, slot, space) : 0;
    if (space > 0) {
        ks_seg *tail = *slot;
        uint32_t take = ks_min32(space, bytes);
        iov[n++] = (struct iovec){ks_seg_data(tail) + tail->len, take};
        bytes -= take;
    }
    while (bytes > 0 && n < max) {
        ks_seg *seg = queue_slot(k, k->reserved, bytes);
        if (seg == NULL)
            break;
        k->reserved++;
        uint32_t take = ks_min32(seg->cap, bytes);
        iov[n++] = (struct iovec){ks_seg_data(seg), take};
        bytes -= take;
    }
    return n;
}

/* New data goes out in this turn, or with write_delay at the end of the interval that the last turn began. */
static void want_flush(ks_kcp *k)
{
    if (!k->cfg.write_delay)
        k->flush_now = true;
    else if (!k->flush_armed) {
        k->flush_armed = true;
        k->flush_due = k->now + k->cfg.interval;
    }
}

void ks_kcp_commit(ks_kcp *k, uint32_t bytes)
{
    if (bytes > 0)
        want_flush(k);
    ks_seg **open = open_tail(k);
    if (open != NULL) {
        ks_seg *tail = *open;
        uint32_t take = ks_min32((uint32_t)(tail->cap - tail->len), bytes);
        tail->len = (uint16_t)(tail->len + take);
        bytes -= take;
    }
    for (uint32_t end = k->snd_end + k->reserved, sn = k->snd_end; sn != end; sn++) {
        ks_seg **slot = ks_ring_at(&k->snd, sn);
        if (bytes > 0) {
            (*slot)->len = (uint16_t)ks_min32((*slot)->cap, bytes);
            bytes -= (*slot)->len;
            k->snd_end++;
        } else {
            ks_seg_unref(*slot);
            *slot = NULL;
        }
    }
    KS_ASSERT(bytes == 0); /* no more than was offered */
    k->reserved = 0;
    ks_kcp_check(k);
}

static int send_stream(ks_kcp *k, const uint8_t *data, uint32_t size)
{
    uint32_t done = 0;
    while (done < size) {
        struct iovec iov;
        if (ks_kcp_alloc_tail(k, size - done, &iov, 1) == 0)
            return done > 0 ? (int)done : KS_ENOMEM;
        memcpy(iov.iov_base, data + done, iov.iov_len);
        ks_kcp_commit(k, (uint32_t)iov.iov_len);
        done += (uint32_t)iov.iov_len;
    }
    return (int)done;
}

int ks_kcp_send(ks_kcp *k, const uint8_t *data, uint32_t size)
{
    if (k->cfg.stream)
        return send_stream(k, data, size);
    /* A path may have become too narrow for what a message may be: its fragments are longer than a packet then. */
    uint32_t each = ks_max32(k->mss, ks_min32(k->first_mss, (size + KS_KCP_FRAGMENTS_MAX - 1) / KS_KCP_FRAGMENTS_MAX));
    uint32_t pieces = size == 0 ? 1 : (size + each - 1) / each;
    if (pieces > KS_KCP_FRAGMENTS_MAX)
        return KS_EMALFORMED;
    for (uint32_t i = 0; i < pieces; i++) {
        uint32_t take = ks_min32(size - i * each, each);
        ks_seg *seg = queue_slot(k, i, take);
        if (seg == NULL) {
            while (i-- > 0) {
                ks_seg_unref(*ks_ring_at(&k->snd, k->snd_end + i));
                *ks_ring_at(&k->snd, k->snd_end + i) = NULL;
            }
            return KS_ENOMEM;
        }
        memcpy(ks_seg_data(seg), data + (size_t)i * each, take);
        seg->len = (uint16_t)take;
        seg->frg = (uint8_t)(pieces - 1 - i);
    }
    k->snd_end += pieces;
    want_flush(k);
    ks_kcp_check(k);
    return (int)size;
}

/* ---- the application's side: receiving ---- */

/* Twice the window, where it may be what bounds the sender: by what is read in a round trip, or by how far the sender goes
 * on while a loss holds the left edge. Not where the application does not keep up, nor where memory would not take it. */
static void widen(ks_kcp *k)
{
    uint32_t wnd = k->cfg.rcv_wnd;
    bool lags = k->reader_lags || k->rcv_nxt - k->rcv_read > k->rcv_first / KS_FOLLOW_PART;
    if (!k->cfg.follow || lags || wnd >= KS_KCP_WND_MAX || !ks_mem_allows((uint64_t)wnd * KS_SEG_SLAB_BYTES))
        return;
    k->cfg.rcv_wnd = ks_min32(2 * wnd, KS_KCP_WND_MAX);
    move_edge(k);
}

ks_seg *ks_kcp_pop(ks_kcp *k)
{
    if (k->rcv_read == k->rcv_nxt)
        return NULL;
    ks_seg **slot = ks_ring_at(&k->rcv, k->rcv_read++);
    ks_seg *seg = *slot;
    KS_ASSERT(seg->sn == k->rcv_read - 1);
    *slot = NULL;
    /* While memory is short the window gives back what it has grown by: its right edge stands. */
    if (k->cfg.follow && k->cfg.rcv_wnd > k->rcv_first && !ks_mem_allows(0))
        k->cfg.rcv_wnd--;
    move_edge(k);
    if (ks_follow_read(&k->rcv_follow, 1, k->cfg.rcv_wnd, k->now, k->has_rtt ? k->srtt8 / 8 : KS_FOLLOW_RTT_MS))
        widen(k);
    /* A sender that was told "full", or of a quarter of the window less than there is, must hear of the room
     * (RFC 9293 3.8.6.2.2; half a window costs 8 % of the rate at a round trip of 50 ms). */
    uint32_t room = ks_kcp_window_free(k);
    if (room > k->told_wnd && (k->told_wnd == 0 || room - k->told_wnd >= ks_max32(1, k->cfg.rcv_wnd / 4))) {
        k->tell_window = true;
        k->flush_now = true;
    }
    ks_kcp_check(k);
    return seg;
}

int64_t ks_kcp_message_size(const ks_kcp *k)
{
    uint32_t ready = k->rcv_nxt - k->rcv_read;
    if (ready == 0)
        return -1;
    uint32_t pieces = (*ks_ring_at(&k->rcv, k->rcv_read))->frg + 1u;
    if (pieces > ready)
        return -1;
    int64_t size = 0;
    for (uint32_t i = 0; i < pieces; i++)
        size += (*ks_ring_at(&k->rcv, k->rcv_read + i))->len;
    return size;
}

/* ---- a packet came ---- */

/* RFC 6298 2.3 with the peers' two changes: the variance term is at least the interval, and a sample far below the
 * mean (a path that got shorter) enters the variance with an eighth of its weight. */
static void rtt_sample(ks_kcp *k, uint32_t rtt)
{
    rtt = ks_min32(rtt, KS_KCP_RTO_MAX_MS); /* the time stamp is the peer's word */
    if (!k->has_rtt) {
        k->has_rtt = true;
        k->srtt8 = rtt * 8;
        k->rttvar4 = rtt * 2;
    } else {
        int32_t delta = (int32_t)rtt - (int32_t)(k->srtt8 / 8);
        k->srtt8 = (uint32_t)((int32_t)k->srtt8 + delta);
        int32_t change = (delta < 0 ? -delta : delta) - (int32_t)(k->rttvar4 / 4);
        if (delta < -(int32_t)(k->rttvar4 / 4))
            change /= 8;
        k->rttvar4 = (uint32_t)((int32_t)k->rttvar4 + change);
    }
    uint32_t rto = k->srtt8 / 8 + ks_max32(k->cfg.interval, k->rttvar4);
    k->rto = ks_max32(k->cfg.nodelay ? KS_KCP_RTO_MIN_NODELAY_MS : RTO_MIN_MS, ks_min32(rto, KS_KCP_RTO_MAX_MS));
}

static void window_grow(ks_kcp *k)
{
    if (k->cfg.nc || k->cwnd_bytes / k->mss >= k->rmt_wnd)
        return;
    if (k->cwnd_bytes / k->mss < k->ssthresh)
        k->cwnd_bytes += k->mss;
    else
        k->cwnd_bytes += ks_max32(1, k->mss * k->mss / k->cwnd_bytes) + k->mss / 16;
}

/* Acknowledged by an ACK with that time stamp, or (by_name false) by una. */
static void release(ks_kcp *k, uint32_t sn, bool by_name, uint32_t ts, uint64_t now_us)
{
    ks_seg **slot = ks_ring_at(&k->snd, sn);
    if (*slot != NULL) {
        KS_ASSERT((*slot)->sn == sn);
        if (k->cfg.adaptive)
            ks_rack_acked(k, *slot, by_name, by_name && ts != (*slot)->ts, ts, now_us);
        if (k->row_lost > 0)
            ks_mtu_acked(k, *slot);
        ks_flight_remove(k, *slot);
        ks_seg_unref(*slot);
        *slot = NULL;
    }
}

/* One acknowledgment of a single segment; the newest of a packet gives its RTT sample and its place in `passed`. */
typedef struct {
    bool any, exact;
    uint32_t ts, txno;
} ack_summary;

static void input_ack(ks_kcp *k, uint32_t sn, uint32_t ts, uint32_t una, uint64_t now_us, bool from_fec,
                      ack_summary *sum)
{
    if (!from_fec)
        ks_insure_heard(k, sn, ts, una);
    if (sn - k->snd_una >= k->snd_nxt - k->snd_una) {
        if (ks_kcp_is_aside(k->snd_nxt, sn))
            ks_mtu_input_ack(k, sn, ts);
        return;
    }
    const ks_seg *seg = *ks_ring_at(&k->snd, sn);
    if (seg == NULL)
        return;
    KS_ASSERT(seg->sn == sn && seg->xmit > 0);
    KS_ASSERT(!k->cfg.doubts || ks_doubt_knows_stamp(k, seg, ts)); /* else none of the packet's is believed */
    if (!sum->any || ks_after(ts, sum->ts))
        sum->ts = ts;
    sum->any = true;
    /* Only the latest transmission's place in the order is known. */
    if (seg->ts == ts && (!sum->exact || ks_after(seg->txno, sum->txno))) {
        sum->exact = true;
        sum->txno = seg->txno;
    }
    release(k, sn, !from_fec, ts, now_us);
}

static void ack_later(ks_kcp *k, uint32_t sn, uint32_t ts)
{
    if (k->nacks == k->acks_cap) {
        uint32_t cap = ks_max32(8, k->acks_cap * 2);
        struct ks_ack *acks = k->acks_cap >= ACKS_MAX ? NULL : ks_realloc(k->acks, cap * sizeof *acks);
        if (acks == NULL)
            return; /* una, or the answer to the repeat, covers it */
        k->acks = acks;
        k->acks_cap = cap;
    }
    k->acks[k->nacks++] = (struct ks_ack){sn, ts};
    /* A lone segment's ACK may wait for data to ride on; from the second on they go out soon (RFC 9293 3.8.6.3), and a
     * packet's worth at once, once for all that the turn brings. */
    if (k->cfg.ack_nodelay || k->nacks >= k->cfg.mtu / KS_KCP_HEAD)
        k->flush_now = true;
    uint32_t wait = ks_min32(k->cfg.interval, k->nacks > 1 ? ACK_SOON_MS : ACK_DELAY_MAX_MS);
    k->acks_soon = k->nacks > 1;
    if (!k->flush_armed || ks_after(k->flush_due, k->now + wait)) {
        k->flush_armed = true;
        k->flush_due = k->now + wait;
    }
}

/* Of what came before. If that ACK has not left yet it says enough: the repeat's stamp would tell that the first one was
 * lost. */
static void ack_repeat(ks_kcp *k, uint32_t sn, uint32_t ts)
{
    uint32_t looked = ks_min32(k->nacks, ACKS_LOOKED_AT);
    k->count.repeat_segs++;
    k->flush_now = true;
    for (uint32_t i = 1; i <= looked; i++)
        if (k->acks[k->nacks - i].sn == sn)
            return;
    ack_later(k, sn, ts);
}

/* What has come of a segment: all of it (piece NULL), or a piece. -> it is all there by now; NULL: no memory */
static ks_seg *put_received(ks_kcp *k, ks_seg *before, const uint8_t *data, uint32_t len, const ks_piece *piece)
{
    ks_seg *seg = before;
    if (piece == NULL) {
        if ((seg = ks_seg_new(k->pools, len)) == NULL)
            return NULL;
        seg->len = (uint16_t)len;
        memcpy(ks_seg_data(seg), data, len);
    } else {
        if (seg == NULL || seg->len != piece->total)
            seg = ks_seg_new_part(k->pools, piece->total);
        if (seg == NULL)
            return NULL;
        ks_seg_add_piece(seg, piece);
    }
    if (before != NULL && before != seg)
        ks_seg_unref(before);
    return seg;
}

static void input_push(ks_kcp *k, uint32_t sn, uint32_t ts, uint8_t frg, const uint8_t *data, uint32_t len)
{
    ks_piece space;
    const ks_piece *piece = NULL;
    if (ks_kcp_is_aside(k->rcv_read, sn)) {
        if (!ks_piece_parse_untrusted(data, len, &space)) {
            ack_later(k, sn, ts);
            k->flush_now = true;
            return;
        }
        piece = &space;
        sn += KS_KCP_ASIDE;
    }
    uint32_t offset = sn - k->rcv_read;
    if (len == 0 && ks_after(k->rcv_nxt, sn)) { /* a challenge */
        k->answer = (struct ks_ack){sn, ts};
        k->answers = k->flush_now = true;
        return;
    }
    if (ks_after(k->rcv_read, sn)) {
        ack_repeat(k, sn, ts);
        return;
    }
    if (!ks_kcp_takes(k, offset))
        return;
    bool fresh = !ks_after(k->rcv_nxt, sn);
    if (fresh) {
        if (ks_ring_reserve(&k->rcv, k->rcv_read, k->rcv_max - k->rcv_read, offset + 1) != KS_OK)
            return;
        ks_seg **slot = ks_ring_at(&k->rcv, sn);
        fresh = *slot == NULL || ks_seg_is_part(*slot);
        if (fresh) {
            ks_seg *seg = put_received(k, *slot, data, len, piece);
            if (seg == NULL)
                return;
            seg->sn = sn;
            seg->frg = frg;
            *slot = seg;
            ks_doubt_learn(k, ts);
            if (!ks_after(k->rcv_max, sn))
                k->rcv_max = sn + 1;
            if (offset > k->cfg.rcv_wnd / KS_FOLLOW_PART)
                widen(k);
            if (ks_seg_is_part(seg))
                return; /* acknowledged when it is whole */
        }
    }
    if (!fresh) {
        ack_repeat(k, sn, ts);
        return;
    }
    ack_later(k, sn, ts);
    /* A gap, as a repeat, tells the peer of a loss: it should know at once (RFC 5681 4.2). */
    if (sn != k->rcv_nxt)
        k->flush_now = true;
    for (ks_seg *seg; k->rcv_nxt != k->rcv_max && (seg = *ks_ring_at(&k->rcv, k->rcv_nxt)) != NULL && !ks_seg_is_part(seg);)
        k->rcv_nxt++;
}

bool ks_kcp_is_news_untrusted(const ks_kcp *k, const uint8_t *packet, size_t size)
{
    for (; size >= KS_KCP_HEAD && ks_get_le32(packet) == k->cfg.conv;) {
        uint32_t sn = ks_get_le32(packet + 12), una = ks_get_le32(packet + 16), len = ks_get_le32(packet + 20);
        const uint32_t sent = k->snd_nxt - k->snd_una;
        if (len > size - KS_KCP_HEAD)
            return false;
        if (una - k->snd_una <= sent && una != k->snd_una)
            return true;
        if (packet[4] == CMD_ACK && sn - k->snd_una < sent && *ks_ring_at(&k->snd, sn) != NULL)
            return true;
        if (packet[4] == CMD_PUSH && (len == 0 || ks_kcp_lacks(k, sn)))
            return true;
        packet += KS_KCP_HEAD + len;
        size -= KS_KCP_HEAD + len;
    }
    return false;
}

int ks_kcp_input_untrusted(ks_kcp *k, const uint8_t *packet, size_t size, uint64_t now_us, bool from_fec)
{
    uint32_t now = (uint32_t)(now_us / 1000);
    int result = size < KS_KCP_HEAD ? KS_EMALFORMED : KS_OK;
    ack_summary sum = {0};
    ks_kcp_check(k);
    uint32_t una = k->snd_una, old_wnd = k->rmt_wnd;
    bool was_shut = k->snd_nxt - k->snd_una >= ks_kcp_cwnd(k);
    k->now = now;
    const ks_belief belief = ks_doubt_judge_untrusted(k, packet, size);
    if (k->cfg.adaptive && k->sender != NULL)
        k->sender->past_sent_us = k->sender->rack_sent_us;
    while (size >= KS_KCP_HEAD) {
        uint8_t cmd = packet[4];
        uint16_t wnd = ks_get_le16(packet + 6);
        uint32_t ts = ks_get_le32(packet + 8), sn = ks_get_le32(packet + 12), seg_una = ks_get_le32(packet + 16);
        uint32_t len = ks_get_le32(packet + 20);
        if (ks_get_le32(packet) != k->cfg.conv) {
            result = KS_ECONV;
            break;
        }
        if (len > size - KS_KCP_HEAD || len > KS_SEG_BYTES_MAX || cmd < CMD_PUSH || cmd > CMD_WINS) {
            result = KS_EMALFORMED;
            break;
        }
        k->count.in_segs++;
        /* An una of what was never sent is forged or damaged; one from before is a late packet, and so is its window. */
        if (seg_una - una <= k->snd_nxt - una) {
            /* While una stands a peer's window can only grow, by reads: a smaller one was overtaken on the way. */
            bool hears_wnd = !from_fec && (belief.heads || (belief.pushes && !k->heard_wnd)); /* the first is a guess anyway */
            if (hears_wnd && (seg_una != una || !k->heard_wnd || wnd > k->rmt_wnd)) {
                k->rmt_wnd = wnd;
                k->heard_wnd = true;
            }
            if (belief.heads)
                una = seg_una;
        }
        if (cmd == CMD_ACK && k->challenge_open && sn == k->challenge.sn && ts == k->challenge.ts) {
            k->challenge_open = k->challenge_due = false;
            k->challenge_met = k->heard_ack = true;
        } else if (cmd == CMD_ACK && belief.acks)
            input_ack(k, sn, ts - k->cfg.secret, una, now_us, from_fec, &sum);
        else if (cmd == CMD_PUSH && belief.pushes)
            input_push(k, sn, ts, packet[5], packet + KS_KCP_HEAD, len);
        else if (cmd == CMD_WASK) {
            k->tell_window = true;
            k->flush_now = true;
        }
        packet += KS_KCP_HEAD + len;
        size -= KS_KCP_HEAD + len;
    }
    /* una last: the single acknowledgments carry the times, and una would have released their segments. */
    uint32_t old_una = k->snd_una;
    KS_ASSERT(una - old_una <= k->snd_nxt - old_una);
    for (; k->snd_una != una; k->snd_una++)
        release(k, k->snd_una, false, 0, now_us);
    while (k->snd_una != k->snd_nxt && *ks_ring_at(&k->snd, k->snd_una) == NULL)
        k->snd_una++;
    if (k->snd_una != old_una) {
        window_grow(k);
        k->heard_una = true;
    }
    bool acked = sum.any || k->snd_una != old_una;
    k->heard_ack |= acked;
    k->dead = k->dead && !acked;
    if (result == KS_OK || acked) /* what stood before the malformed segment has been taken */
        ks_flight_heard(k, acked || k->rmt_wnd > old_wnd, now);
    if (sum.any && !from_fec && (int32_t)(now - sum.ts) >= 0)
        rtt_sample(k, now - sum.ts);
    if (k->cfg.adaptive) {
        if (k->sender != NULL)
            ks_path_update(&k->sender->path, now_us);
        ks_rack_find_lost(k, now_us);
    } else if (sum.exact)
        ks_flight_note_passed(k, sum.txno);
    /* What is queued may go now, or must wait for a window that is 0: then the flush arms the probe. */
    bool moved = k->snd_una != old_una || (was_shut && k->snd_nxt - k->snd_una < ks_kcp_cwnd(k)) ||
                 (k->rmt_wnd == 0 && k->probe_wait == 0);
    if (k->cfg.adaptive) /* as the path allows: ks_kcp_next knows when */
        k->flush_now |= moved && k->rmt_wnd == 0 && k->snd_nxt != k->snd_end;
    else if ((moved && k->snd_nxt != k->snd_end) || ks_flight_has_lost(k))
        k->flush_now = true;
    if (k->rmt_wnd > 0)
        k->probe_wait = 0;
    ks_kcp_check(k);
    return result;
}
