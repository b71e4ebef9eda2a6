/* SPDX-License-Identifier: MIT */
#include "kcp.h"

#include <string.h>

#include "err.h"

enum { CMD_PUSH = 81, CMD_ACK = 82, CMD_WASK = 83, CMD_WINS = 84 };

#define RTO_MIN_MS 100u
#define RTO_MIN_NODELAY_MS 30u
#define RTO_FIRST_MS 200u
#define RTO_MAX_MS 60000u
#define PROBE_FIRST_MS 500u
#define PROBE_MAX_MS 120000u
#define SSTHRESH_MIN 2u
/* An interval may be seconds; an ACK that late would make the peer's RTO useless. */
#define ACK_DELAY_MAX_MS 40u
/* A packet holds at most 62 acknowledgments; more than this many waiting is a flood, and una or a repeat covers the rest. */
#define ACKS_MAX 65536u
/* Payload of a small segment: with the bookkeeping it fills 256 bytes. */
#define SMALL_CAP (256u - (uint32_t)sizeof(ks_seg) - KS_KCP_HEAD)
#define RING_FIRST 16u
/* Until a peer hears our window it guesses: 128 packets in the C version, 32 in kcp-go. So many are taken even where the
 * window is smaller: what we refused would come back on the peer's growing timeouts only. */
#define RCV_LEAST_PKTS 128u

uint32_t ks_load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void ks_store32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}

uint16_t ks_load16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

void ks_store16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static uint32_t min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t max32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* ---- segments and rings ---- */

void ks_seg_pools_init(ks_seg_pools *pools)
{
    ks_pool_init(&pools->small, sizeof(ks_seg) + KS_KCP_HEAD + SMALL_CAP);
    ks_pool_init(&pools->large, sizeof(ks_seg) + KS_KCP_HEAD + KS_SEG_BYTES_MAX);
}

void ks_seg_pools_free(ks_seg_pools *pools)
{
    ks_pool_free(&pools->small);
    ks_pool_free(&pools->large);
}

ks_seg *ks_seg_new(ks_seg_pools *pools, uint32_t bytes)
{
    bool small = bytes <= SMALL_CAP;
    ks_seg *seg = ks_pool_get(small ? &pools->small : &pools->large);
    if (seg == NULL)
        return NULL;
    memset(seg, 0, sizeof *seg);
    seg->refs = 1;
    seg->cap = (uint16_t)(small ? SMALL_CAP : KS_SEG_BYTES_MAX);
    return seg;
}

void ks_seg_ref(ks_seg *seg)
{
    seg->refs++;
}

void ks_seg_unref(ks_seg *seg)
{
    if (--seg->refs == 0)
        ks_pool_put(seg);
}

static ks_seg **ring_at(const ks_ring *r, uint32_t sn)
{
    return &r->slot[sn & r->mask];
}

/* Makes room for `count` slots from lo on; [lo, lo + held) is in use. */
static int ring_reserve(ks_ring *r, uint32_t lo, uint32_t held, uint32_t count)
{
    if (count <= r->capacity)
        return KS_OK;
    uint32_t capacity = max32(r->capacity, RING_FIRST);
    while (capacity < count)
        capacity *= 2;
    ks_seg **slot = ks_alloc(capacity * sizeof *slot);
    if (slot == NULL)
        return KS_ENOMEM;
    for (uint32_t i = 0; i < held; i++)
        slot[(lo + i) & (capacity - 1)] = *ring_at(r, lo + i);
    ks_free(r->slot);
    r->slot = slot;
    r->capacity = capacity;
    r->mask = capacity - 1;
    return KS_OK;
}

static void ring_drop(ks_ring *r, uint32_t lo, uint32_t held)
{
    for (uint32_t i = 0; i < held; i++)
        if (*ring_at(r, lo + i) != NULL)
            ks_seg_unref(*ring_at(r, lo + i));
    ks_free(r->slot);
    memset(r, 0, sizeof *r);
}

/* ---- life ---- */

void ks_kcp_init(ks_kcp *k, const ks_kcp_config *config, ks_seg_pools *pools, uint32_t first_sn)
{
    memset(k, 0, sizeof *k);
    k->cfg = *config;
    k->cfg.interval = max32(10, min32(config->interval, 5000));
    k->cfg.resend = min32(config->resend, KS_KCP_RESEND_MAX);
    k->mss = config->mtu - KS_KCP_HEAD;
    k->pools = pools;
    k->snd_una = k->snd_nxt = k->snd_end = first_sn;
    k->rcv_read = k->rcv_nxt = k->rcv_max = first_sn;
    k->rmt_wnd = 32; /* until the peer says */
    k->cwnd_bytes = k->mss;
    k->ssthresh = SSTHRESH_MIN;
    k->rto = RTO_FIRST_MS;
    k->told_wnd = config->rcv_wnd;
    k->budget = INT64_MAX;
}

void ks_kcp_free(ks_kcp *k)
{
    ring_drop(&k->snd, k->snd_una, k->snd_end - k->snd_una);
    ring_drop(&k->rcv, k->rcv_read, k->rcv_max - k->rcv_read);
    ks_free(k->acks);
    ks_free(k->told);
    k->acks = k->told = NULL;
    k->nacks = k->acks_cap = k->ntold = k->told_cap = 0;
    k->snd_una = k->snd_nxt = k->snd_end;
    k->rcv_read = k->rcv_nxt = k->rcv_max;
}

void ks_kcp_trim(ks_kcp *k)
{
    if (k->snd_una == k->snd_end)
        ring_drop(&k->snd, 0, 0);
    if (k->rcv_read == k->rcv_max)
        ring_drop(&k->rcv, 0, 0);
    if (k->nacks == 0) {
        ks_free(k->acks);
        ks_free(k->told);
        k->acks = k->told = NULL;
        k->acks_cap = k->ntold = k->told_cap = 0;
    }
}

void ks_kcp_set_resend(ks_kcp *k, uint32_t resend)
{
    k->cfg.resend = resend;
    k->npassed = min32(k->npassed, resend);
}

void ks_kcp_set_windows(ks_kcp *k, uint32_t snd_wnd, uint32_t rcv_wnd)
{
    k->cfg.snd_wnd = snd_wnd;
    /* Shrinking below what was promised would drop what the peer may rightly send: the ring still takes it. */
    uint32_t held = k->rcv_max - k->rcv_read;
    k->tell_window = k->tell_window || rcv_wnd > k->cfg.rcv_wnd;
    k->cfg.rcv_wnd = max32(rcv_wnd, held);
    k->flush_now = true;
}

void ks_kcp_forget_unacked(ks_kcp *k)
{
    ring_drop(&k->snd, k->snd_una, k->snd_end - k->snd_una);
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
    uint32_t wnd = min32(k->cfg.snd_wnd, k->rmt_wnd);
    if (!k->cfg.nc)
        wnd = min32(wnd, max32(1, k->cwnd_bytes / k->mss));
    return wnd;
}

/* ---- the application's side: sending ---- */

/* The queued segment that the stream's next bytes go into, or NULL. */
static ks_seg **open_tail(const ks_kcp *k)
{
    return k->cfg.stream && k->snd_end != k->snd_nxt ? ring_at(&k->snd, k->snd_end - 1) : NULL;
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
    if (ring_reserve(&k->snd, k->snd_una, held + ahead, held + ahead + 1) != KS_OK)
        return NULL;
    ks_seg *seg = ks_seg_new(k->pools, min32(bytes, k->mss));
    if (seg != NULL) {
        seg->cap = (uint16_t)min32(seg->cap, k->mss);
        seg->sn = k->snd_end + ahead;
        *ring_at(&k->snd, seg->sn) = seg;
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
    uint32_t space = slot != NULL && bytes > 0 && max > 0 ? widen_tail(k, slot, min32(bytes, tail_space(k))) : 0;
    if (space > 0) {
        ks_seg *tail = *slot;
        uint32_t take = min32(space, bytes);
        iov[n++] = (struct iovec){ks_seg_data(tail) + tail->len, take};
        bytes -= take;
    }
    while (bytes > 0 && n < max) {
        ks_seg *seg = queue_slot(k, k->reserved, bytes);
        if (seg == NULL)
            break;
        k->reserved++;
        uint32_t take = min32(seg->cap, bytes);
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
        uint32_t take = min32((uint32_t)(tail->cap - tail->len), bytes);
        tail->len = (uint16_t)(tail->len + take);
        bytes -= take;
    }
    for (uint32_t end = k->snd_end + k->reserved, sn = k->snd_end; sn != end; sn++) {
        ks_seg **slot = ring_at(&k->snd, sn);
        if (bytes > 0) {
            (*slot)->len = (uint16_t)min32((*slot)->cap, bytes);
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
        uint32_t take = min32(size - i * k->mss, k->mss);
        ks_seg *seg = queue_slot(k, i, take);
        if (seg == NULL) {
            while (i-- > 0) {
                ks_seg_unref(*ring_at(&k->snd, k->snd_end + i));
                *ring_at(&k->snd, k->snd_end + i) = NULL;
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

static uint32_t window_free(const ks_kcp *k)
{
    uint32_t held = k->rcv_nxt - k->rcv_read;
    return held < k->cfg.rcv_wnd ? k->cfg.rcv_wnd - held : 0;
}

ks_seg *ks_kcp_pop(ks_kcp *k)
{
    if (k->rcv_read == k->rcv_nxt)
        return NULL;
    ks_seg **slot = ring_at(&k->rcv, k->rcv_read++);
    ks_seg *seg = *slot;
    *slot = NULL;
    /* A sender that was told "full", or of half the window less than there is, must hear of the room (RFC 9293 3.8.6.2.2). */
    uint32_t room = window_free(k);
    if (room > k->told_wnd && (k->told_wnd == 0 || room - k->told_wnd >= max32(1, k->cfg.rcv_wnd / 2))) {
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
    uint32_t pieces = (*ring_at(&k->rcv, k->rcv_read))->frg + 1u;
    if (pieces > ready)
        return -1;
    int64_t size = 0;
    for (uint32_t i = 0; i < pieces; i++)
        size += (*ring_at(&k->rcv, k->rcv_read + i))->len;
    return size;
}

/* ---- in flight: lists in transmission order, one per back-off level ---- */

static void flight_append(ks_kcp *k, ks_seg *seg)
{
    ks_flight *f = &k->flight[seg->level];
    seg->next = NULL;
    seg->prev = f->tail;
    if (f->tail != NULL)
        f->tail->next = seg;
    else
        f->head = seg;
    f->tail = seg;
    k->levels |= 1u << seg->level;
}

static void flight_remove(ks_kcp *k, ks_seg *seg)
{
    ks_flight *f = &k->flight[seg->level];
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
static uint32_t level_rto(const ks_kcp *k, uint32_t level)
{
    uint32_t step = k->cfg.nodelay ? k->rto / 2 : k->rto;
    uint32_t first = k->cfg.nodelay ? 0 : k->rto / 8;
    return min32(k->rto + (level == 0 ? first : level * step), RTO_MAX_MS);
}

/* Segments transmitted before this number count as lost; false when nothing does.
 * With so few in flight that `resend` later acknowledgments can't come, and nothing more to send, one is enough
 * (early retransmit, RFC 5827). */
static bool loss_bound(const ks_kcp *k, uint32_t *bound, bool *early)
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

static bool loss_due(const ks_kcp *k)
{
    uint32_t bound;
    bool early;
    if (!loss_bound(k, &bound, &early))
        return false;
    for (uint32_t l = 0, left = k->levels; left != 0; l++, left >>= 1)
        if ((left & 1) != 0 && ks_after(bound, k->flight[l].head->txno))
            return true;
    return false;
}

/* Keeps the cfg.resend largest. */
static void note_passed(ks_kcp *k, uint32_t txno)
{
    uint32_t i = k->npassed = min32(k->npassed, k->cfg.resend); /* resend may have been lowered */
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

/* ---- a packet came ---- */

/* RFC 6298 2.3 with the peers' two changes: the variance term is at least the interval, and a sample far below the
 * mean (a path that got shorter) enters the variance with an eighth of its weight. */
static void rtt_sample(ks_kcp *k, uint32_t rtt)
{
    rtt = min32(rtt, RTO_MAX_MS); /* the time stamp is the peer's word */
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
    uint32_t rto = k->srtt8 / 8 + max32(k->cfg.interval, k->rttvar4);
    k->rto = max32(k->cfg.nodelay ? RTO_MIN_NODELAY_MS : RTO_MIN_MS, min32(rto, RTO_MAX_MS));
}

static void window_grow(ks_kcp *k)
{
    if (k->cfg.nc || k->cwnd_bytes / k->mss >= k->rmt_wnd)
        return;
    if (k->cwnd_bytes / k->mss < k->ssthresh)
        k->cwnd_bytes += k->mss;
    else
        k->cwnd_bytes += max32(1, k->mss * k->mss / k->cwnd_bytes) + k->mss / 16;
}

static void release(ks_kcp *k, uint32_t sn)
{
    ks_seg **slot = ring_at(&k->snd, sn);
    if (*slot != NULL) {
        flight_remove(k, *slot);
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
    const ks_seg *seg = *ring_at(&k->snd, sn);
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
        uint32_t cap = max32(8, k->acks_cap * 2);
        struct ks_ack *acks = k->acks_cap >= ACKS_MAX ? NULL : ks_realloc(k->acks, cap * sizeof *acks);
        if (acks == NULL)
            return; /* una, or the answer to the repeat, covers it */
        k->acks = acks;
        k->acks_cap = cap;
    }
    k->acks[k->nacks++] = (struct ks_ack){sn, ts};
    /* A lone segment's ACK may wait a moment for data to ride on; from the second on it goes out in this turn
     * (RFC 9293 3.8.6.3), once for all that the turn brings. */
    if (k->nacks > 1 || k->cfg.ack_nodelay)
        k->flush_now = true;
    else if (!k->flush_armed) {
        k->flush_armed = true;
        k->flush_due = k->now + min32(k->cfg.interval, ACK_DELAY_MAX_MS);
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
    if (offset >= max32(k->cfg.rcv_wnd, RCV_LEAST_PKTS))
        return;
    bool fresh = !ks_after(k->rcv_nxt, sn);
    if (fresh) {
        if (ring_reserve(&k->rcv, k->rcv_read, k->rcv_max - k->rcv_read, offset + 1) != KS_OK)
            return;
        ks_seg **slot = ring_at(&k->rcv, sn);
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
    while (k->rcv_nxt != k->rcv_max && *ring_at(&k->rcv, k->rcv_nxt) != NULL)
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
    while (k->snd_una != k->snd_nxt && *ring_at(&k->snd, k->snd_una) == NULL)
        k->snd_una++;
    if (k->snd_una != old_una) {
        window_grow(k);
        k->heard_una = true;
    }
    if (sum.any && !from_fec && (int32_t)(now - sum.ts) >= 0)
        rtt_sample(k, now - sum.ts);
    if (sum.exact)
        note_passed(k, sum.txno);
    /* What is queued may go now, or must wait for a window that is 0: then the flush arms the probe. */
    bool moved = k->snd_una != old_una || (was_shut && k->snd_nxt - k->snd_una < ks_kcp_cwnd(k)) ||
                 (k->rmt_wnd == 0 && k->probe_wait == 0);
    if ((moved && k->snd_nxt != k->snd_end) || loss_due(k))
        k->flush_now = true;
    if (k->rmt_wnd > 0)
        k->probe_wait = 0;
    return result;
}

/* ---- flush ---- */

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
    if (p->scratch_used > 0 && p->iov[p->pieces - 1].iov_len + KS_KCP_HEAD < KS_KCP_BY_REFERENCE)
        p->iov[p->pieces - 1].iov_len += KS_KCP_HEAD;
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
    flight_append(k, seg);
    k->count.out_segs++;
}

/* An ACK above una is lost with its packet, and una does not tell of it: said twice, it seldom is. Of these ACKs there are
 * none while nothing is missing. They only fill up a packet of new ones: one without would spoil the peer's round trip. */
static void repeat_acks(packer *p, uint32_t full)
{
    ks_kcp *k = p->k;
    for (uint32_t i = 0; i < k->ntold && k->ntold + k->nacks <= full; i++)
        if (ks_after(k->told[i].sn, k->rcv_nxt))
            pack_control(p, CMD_ACK, k->told[i].ts, k->told[i].sn);
    k->ntold = 0;
    if (k->told_cap < k->acks_cap) {
        struct ks_ack *told = ks_realloc(k->told, k->acks_cap * sizeof *told);
        if (told == NULL)
            return;
        k->told = told;
        k->told_cap = k->acks_cap;
    }
    for (uint32_t i = 0; i < k->nacks; i++)
        if (ks_after(k->acks[i].sn, k->rcv_nxt))
            k->told[k->ntold++] = k->acks[i];
}

static void flush_acks(packer *p)
{
    ks_kcp *k = p->k;
    const uint32_t full = k->cfg.mtu / KS_KCP_HEAD;
    if (k->nacks > 0)
        repeat_acks(p, full); /* before the new ones: a peer takes its round trip from the last */
    for (uint32_t i = 0; i < k->nacks; i++) {
        /* una covers what is below it, all but the last. But a turn may bring a whole window, and were its one packet with
         * una lost, the peer would send the window again: as the peers do, one packet for each so many ACKs. */
        bool spare = i % full == full - 1 && i + 1 < k->nacks;
        if (spare || !ks_after(k->rcv_nxt, k->acks[i].sn) || i + 1 == k->nacks)
            pack_control(p, CMD_ACK, k->acks[i].ts, k->acks[i].sn);
        if (spare)
            pack_end(p);
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
            k->probe_wait = min32(k->probe_wait + k->probe_wait / 2, PROBE_MAX_MS);
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
        uint32_t rto = level_rto(k, l);
        ks_seg *last = k->flight[l].tail;
        for (ks_seg *seg = k->flight[l].head, *next; seg != NULL && k->budget > 0 && !ks_after(seg->ts + rto, p->now); seg = next) {
            next = seg == last ? NULL : seg->next;
            flight_remove(k, seg);
            /* Sent on the first guess of the peer's window, which is smaller: the peer drops it until it has room, and
             * says so or is probed. Sending it again and again would make a link with a slow reader look dead. */
            if (k->heard_wnd && seg->sn - k->snd_una >= k->rmt_wnd) {
                seg->ts = p->now;
                seg->txno = k->txno++;
                flight_append(k, seg);
                continue;
            }
            seg->level = (uint8_t)min32(l + 1, KS_KCP_LEVELS - 1);
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
    if (!loss_bound(k, &bound, &early))
        return 0;
    for (uint32_t l = 0; l < KS_KCP_LEVELS; l++) {
        ks_seg *seg;
        while ((seg = k->flight[l].head) != NULL && k->budget > 0 && ks_after(bound, seg->txno)) {
            flight_remove(k, seg);
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
        k->ssthresh = max32((k->snd_nxt - k->snd_una) / 2, SSTHRESH_MIN);
        k->cwnd_bytes = (k->ssthresh + k->cfg.resend) * k->mss;
    }
    if (lost > 0) {
        k->ssthresh = max32(k->cwnd_bytes / k->mss / 2, SSTHRESH_MIN);
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
    p.wnd = (uint16_t)window_free(k);
    p.pieces = 0;
    p.size = p.scratch_used = 0;
    k->flush_now = k->flush_armed = false;

    flush_acks(&p);
    flush_probes(&p);
    uint32_t resent = flush_losses(&p);
    uint32_t lost = flush_timeouts(&p);
    uint32_t wnd = ks_kcp_cwnd(k);
    while (k->snd_nxt != k->snd_end && k->snd_nxt - k->snd_una < wnd && k->budget > 0)
        transmit(&p, *ring_at(&k->snd, k->snd_nxt++));
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
        uint32_t due = k->flight[l].head->ts + level_rto(k, l);
        wait = min32(wait, ks_after(due, now) ? due - now : 0);
    }
    if (k->rmt_wnd == 0 && k->snd_una != k->snd_end && k->probe_wait > 0)
        wait = min32(wait, ks_after(k->probe_due, now) ? k->probe_due - now : 0);
    return wait;
}
