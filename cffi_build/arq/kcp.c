/* SPDX-License-Identifier: MIT */
#include "kcp_parts.h"

#include <string.h>

#include "err.h"

#define RTO_MIN_MS 100u
#define RTO_MIN_NODELAY_MS 30u
#define RTO_FIRST_MS 200u
/* An interval may be seconds; an ACK that late would make the peer's RTO useless. */
#define ACK_DELAY_MAX_MS 40u
#define ACK_SOON_MS 1u
/* A packet holds at most 62 acknowledgments; more than this many waiting is a flood, and una or a repeat covers the rest. */
#define ACKS_MAX 65536u
/* Until a peer hears our window it guesses: 128 packets in the C version, 32 in kcp-go. So many are taken even where the
 * window is smaller: what we refused would come back on the peer's growing timeouts only. */
#define RCV_LEAST_PKTS 128u

/* ---- life ---- */

void ks_kcp_init(ks_kcp *k, const ks_kcp_config *config, ks_seg_pools *pools, uint32_t first_sn)
{
    memset(k, 0, sizeof *k);
    k->cfg = *config;
    k->cfg.interval = ks_max32(10, ks_min32(config->interval, 5000));
    k->cfg.resend = ks_min32(config->resend, KS_KCP_RESEND_MAX);
    k->mss = config->mtu - KS_KCP_HEAD;
    k->pools = pools;
    k->snd_una = k->snd_nxt = k->snd_end = first_sn;
    k->rcv_read = k->rcv_nxt = k->rcv_max = first_sn;
    k->rmt_wnd = 32; /* until the peer says */
    k->cwnd_bytes = k->mss;
    k->ssthresh = KS_KCP_SSTHRESH_MIN;
    k->rto = RTO_FIRST_MS;
    k->told_wnd = config->rcv_wnd;
    k->budget = INT64_MAX;
}

void ks_kcp_free(ks_kcp *k)
{
    ks_ring_drop(&k->snd, k->snd_una, k->snd_end - k->snd_una);
    ks_ring_drop(&k->rcv, k->rcv_read, k->rcv_max - k->rcv_read);
    ks_free(k->acks);
    ks_free(k->told);
    k->acks = k->told = NULL;
    k->nacks = k->acks_cap = k->ntold = 0;
    k->snd_una = k->snd_nxt = k->snd_end;
    k->rcv_read = k->rcv_nxt = k->rcv_max;
}

void ks_kcp_trim(ks_kcp *k)
{
    if (k->snd_una == k->snd_end)
        ks_ring_drop(&k->snd, 0, 0);
    if (k->rcv_read == k->rcv_max)
        ks_ring_drop(&k->rcv, 0, 0);
    if (k->nacks == 0) {
        ks_free(k->acks);
        ks_free(k->told);
        k->acks = k->told = NULL;
        k->acks_cap = k->ntold = 0;
    }
}

void ks_kcp_set_resend(ks_kcp *k, uint32_t resend)
{
    k->cfg.resend = resend;
    k->npassed = ks_min32(k->npassed, resend);
}

void ks_kcp_set_windows(ks_kcp *k, uint32_t snd_wnd, uint32_t rcv_wnd)
{
    k->cfg.snd_wnd = snd_wnd;
    /* Shrinking below what was promised would drop what the peer may rightly send: the ring still takes it. */
    uint32_t held = k->rcv_max - k->rcv_read;
    k->tell_window = k->tell_window || rcv_wnd > k->cfg.rcv_wnd;
    k->cfg.rcv_wnd = ks_max32(rcv_wnd, held);
    k->flush_now = true;
}

void ks_kcp_forget_unacked(ks_kcp *k)
{
    ks_ring_drop(&k->snd, k->snd_una, k->snd_end - k->snd_una);
    memset(k->flight, 0, sizeof k->flight);
    k->levels = 0;
    k->snd_una = k->snd_nxt = k->snd_end;
}

void ks_kcp_set_budget(ks_kcp *k, int64_t bytes)
{
    bool held = k->budget <= 0;
    k->budget = bytes;
    if (held && bytes > 0 && k->snd_una != k->snd_end)
        k->flush_now = true;
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

/* ---- the application's side: sending ---- */

/* The queued segment that the stream's next bytes go into, or NULL. */
static ks_seg **open_tail(const ks_kcp *k)
{
    return k->cfg.stream && k->snd_end != k->snd_nxt ? ks_ring_at(&k->snd, k->snd_end - 1) : NULL;
}

static uint32_t tail_space(const ks_kcp *k)
{
    ks_seg **tail = open_tail(k);
    return tail == NULL ? 0 : k->mss - (*tail)->len;
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
    if (ks_ring_reserve(&k->snd, k->snd_una, held + ahead, held + ahead + 1) != KS_OK)
        return NULL;
    ks_seg *seg = ks_seg_new(k->pools, ks_min32(bytes, k->mss));
    if (seg != NULL) {
        seg->cap = (uint16_t)ks_min32(seg->cap, k->mss);
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
    return (uint32_t)((*slot)->cap - (*slot)->len);
}

int ks_kcp_alloc_tail(ks_kcp *k, uint32_t bytes, struct iovec *iov, int max)
{
    int n = 0;
    ks_seg **slot = open_tail(k);
    uint32_t space = slot != NULL && bytes > 0 && max > 0 ? widen_tail(k, slot, ks_min32(bytes, tail_space(k))) : 0;
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
    k->reserved = 0;
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
    uint32_t pieces = size == 0 ? 1 : (size + k->mss - 1) / k->mss;
    if (pieces > KS_KCP_FRAGMENTS_MAX)
        return KS_EMALFORMED;
    for (uint32_t i = 0; i < pieces; i++) {
        uint32_t take = ks_min32(size - i * k->mss, k->mss);
        ks_seg *seg = queue_slot(k, i, take);
        if (seg == NULL) {
            while (i-- > 0) {
                ks_seg_unref(*ks_ring_at(&k->snd, k->snd_end + i));
                *ks_ring_at(&k->snd, k->snd_end + i) = NULL;
            }
            return KS_ENOMEM;
        }
        memcpy(ks_seg_data(seg), data + (size_t)i * k->mss, take);
        seg->len = (uint16_t)take;
        seg->frg = (uint8_t)(pieces - 1 - i);
    }
    k->snd_end += pieces;
    want_flush(k);
    return (int)size;
}

/* ---- the application's side: receiving ---- */

uint32_t ks_kcp_window_free(const ks_kcp *k)
{
    uint32_t held = k->rcv_nxt - k->rcv_read;
    return held < k->cfg.rcv_wnd ? k->cfg.rcv_wnd - held : 0;
}

ks_seg *ks_kcp_pop(ks_kcp *k)
{
    if (k->rcv_read == k->rcv_nxt)
        return NULL;
    ks_seg **slot = ks_ring_at(&k->rcv, k->rcv_read++);
    ks_seg *seg = *slot;
    *slot = NULL;
    /* A sender that was told "full", or of a quarter of the window less than there is, must hear of the room
     * (RFC 9293 3.8.6.2.2; half a window costs 8 % of the rate at a round trip of 50 ms). */
    uint32_t room = ks_kcp_window_free(k);
    if (room > k->told_wnd && (k->told_wnd == 0 || room - k->told_wnd >= ks_max32(1, k->cfg.rcv_wnd / 4))) {
        k->tell_window = true;
        k->flush_now = true;
    }
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
    k->rto = ks_max32(k->cfg.nodelay ? RTO_MIN_NODELAY_MS : RTO_MIN_MS, ks_min32(rto, KS_KCP_RTO_MAX_MS));
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

static void release(ks_kcp *k, uint32_t sn)
{
    ks_seg **slot = ks_ring_at(&k->snd, sn);
    if (*slot != NULL) {
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

static void input_ack(ks_kcp *k, uint32_t sn, uint32_t ts, ack_summary *sum)
{
    if (sn - k->snd_una >= k->snd_nxt - k->snd_una)
        return;
    const ks_seg *seg = *ks_ring_at(&k->snd, sn);
    if (seg == NULL)
        return;
    if (!sum->any || ks_after(ts, sum->ts))
        sum->ts = ts;
    sum->any = true;
    /* Only the latest transmission's place in the order is known. */
    if (seg->ts == ts && (!sum->exact || ks_after(seg->txno, sum->txno))) {
        sum->exact = true;
        sum->txno = seg->txno;
    }
    release(k, sn);
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

static void input_push(ks_kcp *k, uint32_t sn, uint32_t ts, uint8_t frg, const uint8_t *data, uint32_t len)
{
    uint32_t offset = sn - k->rcv_read;
    if (ks_after(k->rcv_read, sn)) {
        k->count.repeat_segs++;
        ack_later(k, sn, ts);
        k->flush_now = true;
        return;
    }
    if (offset >= ks_max32(k->cfg.rcv_wnd, RCV_LEAST_PKTS))
        return;
    bool fresh = !ks_after(k->rcv_nxt, sn);
    if (fresh) {
        if (ks_ring_reserve(&k->rcv, k->rcv_read, k->rcv_max - k->rcv_read, offset + 1) != KS_OK)
            return;
        ks_seg **slot = ks_ring_at(&k->rcv, sn);
        fresh = *slot == NULL;
        if (fresh) {
            ks_seg *seg = ks_seg_new(k->pools, len);
            if (seg == NULL)
                return;
            seg->sn = sn;
            seg->frg = frg;
            seg->len = (uint16_t)len;
            memcpy(ks_seg_data(seg), data, len);
            *slot = seg;
            if (!ks_after(k->rcv_max, sn))
                k->rcv_max = sn + 1;
        }
    }
    ack_later(k, sn, ts);
    /* A gap or a repeat tells the peer of a loss: it should know at once (RFC 5681 4.2). */
    if (!fresh)
        k->count.repeat_segs++;
    if (!fresh || sn != k->rcv_nxt)
        k->flush_now = true;
    while (k->rcv_nxt != k->rcv_max && *ks_ring_at(&k->rcv, k->rcv_nxt) != NULL)
        k->rcv_nxt++;
}

int ks_kcp_input_untrusted(ks_kcp *k, const uint8_t *packet, size_t size, uint32_t now, bool from_fec)
{
    int result = size < KS_KCP_HEAD ? KS_EMALFORMED : KS_OK;
    ack_summary sum = {0};
    uint32_t una = k->snd_una;
    bool was_shut = k->snd_nxt - k->snd_una >= ks_kcp_cwnd(k);
    k->now = now;
    while (size >= KS_KCP_HEAD) {
        uint8_t cmd = packet[4];
        uint16_t wnd = ks_load16(packet + 6);
        uint32_t ts = ks_load32(packet + 8), sn = ks_load32(packet + 12), seg_una = ks_load32(packet + 16);
        uint32_t len = ks_load32(packet + 20);
        if (ks_load32(packet) != k->cfg.conv) {
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
            if (!from_fec && (seg_una != una || !k->heard_wnd || wnd > k->rmt_wnd)) {
                k->rmt_wnd = wnd;
                k->heard_wnd = true;
            }
            una = seg_una;
        }
        if (cmd == CMD_ACK)
            input_ack(k, sn, ts, &sum);
        else if (cmd == CMD_PUSH)
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
    for (; k->snd_una != una; k->snd_una++)
        release(k, k->snd_una);
    while (k->snd_una != k->snd_nxt && *ks_ring_at(&k->snd, k->snd_una) == NULL)
        k->snd_una++;
    if (k->snd_una != old_una) {
        window_grow(k);
        k->heard_una = true;
    }
    if (sum.any && !from_fec && (int32_t)(now - sum.ts) >= 0)
        rtt_sample(k, now - sum.ts);
    if (sum.exact)
        ks_flight_note_passed(k, sum.txno);
    /* What is queued may go now, or must wait for a window that is 0: then the flush arms the probe. */
    bool moved = k->snd_una != old_una || (was_shut && k->snd_nxt - k->snd_una < ks_kcp_cwnd(k)) ||
                 (k->rmt_wnd == 0 && k->probe_wait == 0);
    if ((moved && k->snd_nxt != k->snd_end) || ks_flight_has_lost(k))
        k->flush_now = true;
    if (k->rmt_wnd > 0)
        k->probe_wait = 0;
    return result;
}
