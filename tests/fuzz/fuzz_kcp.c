/* SPDX-License-Identifier: MIT */
/* Any packets, mixed with any use of the ARQ by its owner: after every step its lists, rings and counters agree with each
 * other, a flush leaves nothing due, packets are well formed, and in the end no memory is missing. */
#include "base/err.h"
#include "arq/kcp.h"
#include "main.h"
#include "base/mem.h"
#include "base/octets.h"


/* The ARQ takes us. */
static uint64_t us_of(uint32_t ms)
{
    return (uint64_t)ms * 1000;
}

/* Segments that stand in the ring from lo to hi. */
static uint32_t held(const ks_ring *r, uint32_t lo, uint32_t hi)
{
    uint32_t n = 0;
    for (; lo != hi; lo++)
        n += r->slot[lo & r->mask] != NULL;
    return n;
}

static uint32_t held_anywhere(const ks_ring *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->capacity; i++)
        n += r->slot[i] != NULL;
    return n;
}

static void check_sender(const ks_kcp *k)
{
    uint32_t flying = k->snd_nxt - k->snd_una, queued = k->snd_end - k->snd_nxt;
    MUST(flying <= k->snd.capacity && queued <= k->snd.capacity && flying + queued <= k->snd.capacity);
    MUST(held(&k->snd, k->snd_nxt, k->snd_end) == queued);
    MUST(held_anywhere(&k->snd) == held(&k->snd, k->snd_una, k->snd_end));
    MUST(flying == 0 || k->snd.slot[k->snd_una & k->snd.mask] != NULL);
    uint32_t listed = 0;
    for (uint32_t l = 0; l < KS_KCP_LEVELS; l++) {
        const ks_seg *before = NULL;
        MUST(((k->levels >> l & 1) != 0) == (k->flight[l].head != NULL));
        for (const ks_seg *seg = k->flight[l].head; seg != NULL; before = seg, seg = seg->next, listed++) {
            MUST(seg->prev == before && seg->level == l && seg->refs == 1);
            MUST(k->snd.slot[seg->sn & k->snd.mask] == seg && seg->sn - k->snd_una < flying);
            MUST(before == NULL || (ks_after(seg->txno, before->txno) && !ks_after(before->ts, seg->ts)));
        }
        MUST(before == NULL || k->flight[l].tail == before);
    }
    MUST(listed == held(&k->snd, k->snd_una, k->snd_nxt));
    for (uint32_t sn = k->snd_nxt; sn != k->snd_end; sn++) {
        const ks_seg *seg = k->snd.slot[sn & k->snd.mask];
        MUST(seg->sn == sn && seg->len <= seg->cap && seg->len <= KS_SEG_BYTES_MAX && seg->xmit == 0);
    }
    MUST(k->npassed <= KS_KCP_RESEND_MAX && k->reserved == 0);
    for (uint32_t i = 1; i < k->npassed; i++)
        MUST(!ks_after(k->passed[i], k->passed[i - 1]));
    MUST(k->rto >= 30 && k->rto <= 60000 && k->srtt8 / 8 <= 60000 && k->cwnd_bytes >= k->mss);
}

static void check_receiver(const ks_kcp *k)
{
    uint32_t ready = k->rcv_nxt - k->rcv_read, span = k->rcv_max - k->rcv_read;
    MUST(ready <= span && span <= k->rcv.capacity && (span <= k->rcv_edge - k->rcv_read || span <= 128));
    MUST(held(&k->rcv, k->rcv_read, k->rcv_nxt) == ready);
    MUST(held_anywhere(&k->rcv) == held(&k->rcv, k->rcv_read, k->rcv_max));
    const ks_seg *next = ready == span ? NULL : k->rcv.slot[k->rcv_nxt & k->rcv.mask];
    MUST(next == NULL || ks_seg_is_part(next));
    for (uint32_t sn = k->rcv_read; sn != k->rcv_nxt; sn++)
        MUST(!ks_seg_is_part(k->rcv.slot[sn & k->rcv.mask]));
    MUST(k->nacks <= k->acks_cap);
}

static void check_all(const ks_kcp *k)
{
    check_sender(k);
    check_receiver(k);
    MUST(k->pools->small.used + k->pools->large.used == held_anywhere(&k->snd) + held_anywhere(&k->rcv));
}

static void output(void *ctx, const struct iovec *iov, int pieces, size_t size)
{
    const ks_kcp *k = ctx;
    uint8_t packet[KS_KCP_MTU_MAX], *p = packet;
    size_t n = 0;
    MUST((size <= k->cfg.mtu || pieces == 1) && size <= KS_KCP_MTU_MAX && size >= KS_KCP_HEAD);
    for (int i = 0; i < pieces; i++) {
        MUST(n + iov[i].iov_len <= size);
        memcpy(packet + n, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    MUST(n == size);
    while (n > 0) {
        MUST(n >= KS_KCP_HEAD && ks_get_le32(p) == k->cfg.conv && p[4] >= 81 && p[4] <= 84);
        uint32_t len = ks_get_le32(p + 20);
        MUST(len <= n - KS_KCP_HEAD && (len == 0 || p[4] == 81) && ks_get_le32(p + 16) == k->rcv_nxt);
        p += KS_KCP_HEAD + len;
        n -= KS_KCP_HEAD + len;
    }
}

/* A segment near the state: numbers within reach of the windows, so that it is not refused at once. */
static size_t near_segment(const ks_kcp *k, input *in, uint8_t *w)
{
    uint8_t how = (uint8_t)take(in, 1), cmd = (uint8_t)(81 + how % 4);
    uint32_t base = cmd == 81 ? k->rcv_nxt : k->snd_una, len = cmd == 81 ? take(in, 1) : 0;
    ks_put_le32(w, k->cfg.conv);
    w[4] = cmd;
    w[5] = how & 16 ? (uint8_t)take(in, 1) : 0;
    ks_put_le16(w + 6, (uint16_t)(how & 32 ? take(in, 2) : take(in, 1) % 40));
    ks_put_le32(w + 8, how & 64 ? take(in, 4) : k->now - take(in, 1));
    ks_put_le32(w + 12, base + take(in, 1) % 80 - 8);
    ks_put_le32(w + 16, k->snd_una + take(in, 1) % 80 - 8);
    ks_put_le32(w + 20, len);
    memset(w + KS_KCP_HEAD, how, len);
    if (cmd == 81 && (how & 128) != 0) { /* a pad or a piece */
        ks_put_le32(w + 12, ks_get_le32(w + 12) - KS_KCP_ASIDE);
        if (len >= 4)
            ks_piece_put_head(w + KS_KCP_HEAD, how & 8 ? take(in, 2) % 1600 : 2 * (len - 4), take(in, 1) % 6 * 48);
    } else if (cmd == 82 && (how & 128) != 0)
        ks_put_le32(w + 12, k->pad_sn + take(in, 1) % 8);
    return KS_KCP_HEAD + len;
}

static void packet_comes(ks_kcp *k, input *in, uint32_t now, uint32_t raw)
{
    uint8_t packet[1600];
    size_t size = 0;
    if (raw) {
        size = take(in, 1);
        for (size_t i = 0; i < size; i++)
            packet[i] = (uint8_t)take(in, 1);
        if (size >= 4 && raw > 1)
            ks_put_le32(packet, k->cfg.conv);
    } else
        for (uint32_t n = 1 + take(in, 1) % 5; n > 0; n--)
            size += near_segment(k, in, packet + size);
    uint8_t *copy = malloc(size + 1); /* of exactly its size, for the address sanitizer */
    MUST(copy != NULL);
    memcpy(copy + 1, packet, size);
    int result = ks_kcp_input_untrusted(k, copy + 1, size, us_of(now), take(in, 1) % 8 == 0);
    MUST(result == KS_OK || result == KS_EMALFORMED || result == KS_ECONV);
    free(copy);
}

static void step(ks_kcp *k, input *in, uint32_t *now)
{
    static uint8_t bytes[70000];
    struct iovec iov[4];
    ks_seg *seg;
    switch (take(in, 1) % 16) {
    case 0:
        packet_comes(k, in, *now, 1 + take(in, 1) % 4);
        break;
    case 1: case 2: case 3: case 4:
        packet_comes(k, in, *now, 0);
        break;
    case 5: {
        uint32_t size = take(in, 1) * (take(in, 1) % 16), unacked = ks_kcp_unacked(k);
        if (ks_kcp_room(k) == 0)
            break;
        int result = ks_kcp_send(k, bytes, size);
        MUST(result == (int)size || result == KS_ENOMEM || result == KS_EMALFORMED || (k->cfg.stream && result > 0));
        MUST(result > 0 || result == 0 || ks_kcp_unacked(k) == unacked);
        break;
    }
    case 6:
        if (k->cfg.stream) {
            int n = ks_kcp_alloc_tail(k, take(in, 2) % 5000, iov, 4);
            uint32_t room = 0;
            for (int i = 0; i < n; i++) {
                memset(iov[i].iov_base, 1, iov[i].iov_len);
                room += (uint32_t)iov[i].iov_len;
            }
            ks_kcp_commit(k, room == 0 ? 0 : take(in, 2) % (room + 1));
        }
        break;
    case 7: case 8: {
        int64_t size = ks_kcp_message_size(k);
        MUST(size >= -1 && size <= 256 * 1476);
        if ((seg = ks_kcp_pop(k)) != NULL)
            ks_seg_unref(seg);
        break;
    }
    case 9: case 10: case 11:
        ks_kcp_flush(k, us_of(*now), output, k);
        MUST(ks_kcp_next(k, us_of(*now)) != 0);
        break;
    case 12: {
        uint32_t wait = ks_kcp_next(k, us_of(*now));
        *now += wait == UINT32_MAX ? take(in, 2) : wait;
        break;
    }
    case 13:
        *now += take(in, 1);
        break;
    case 14:
        ks_kcp_set_snd_wnd(k, 1 + take(in, 1) % 64);
        ks_kcp_set_rcv_wnd(k, 1 + take(in, 1) % 64);
        ks_kcp_set_resend(k, take(in, 1) % (KS_KCP_RESEND_MAX + 1));
        break;
    default:
        if (take(in, 1) % 4 == 0) {
            uint8_t pad[KS_KCP_MTU_MAX];
            ks_kcp_set_mtu(k, KS_KCP_MTU_MIN + take(in, 2) % (KS_KCP_MTU_MAX - KS_KCP_MTU_MIN + 1), us_of(*now));
            ks_kcp_begin_pads(k, us_of(*now));
            ks_kcp_put_pad(k, take(in, 1) % 4, pad, KS_KCP_HEAD + take(in, 2) % (KS_KCP_MTU_MAX - KS_KCP_HEAD));
            MUST(ks_kcp_take_pads_acked(k) == 0);
            (void)ks_kcp_suspects_mtu(k, us_of(*now));
        } else if (take(in, 1) % 2)
            ks_kcp_trim(k);
        else
            ks_mem_fail_after(take(in, 1) % 4);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, data + size};
    uint64_t used = ks_mem_used();
    uint32_t flags = take(&in, 1), now = take(&in, 4), first_sn = take(&in, 4);
    ks_kcp_config config = {
        .conv = 0x01020304,
        .mtu = KS_KCP_MTU_MIN + take(&in, 2) % (KS_KCP_MTU_MAX - KS_KCP_MTU_MIN + 1),
        .snd_wnd = 1 + take(&in, 1) % 64,
        .rcv_wnd = 1 + take(&in, 1) % 64,
        .interval = (uint16_t)(10 + take(&in, 1)),
        .resend = (uint16_t)(take(&in, 1) % (KS_KCP_RESEND_MAX + 1)),
        .nodelay = flags & 1, .nc = flags & 2, .stream = flags & 4, .ack_nodelay = flags & 8, .write_delay = flags & 16, .follow = flags & 32,
        .doubts = flags & 64, .secret = flags & 128 ? 0x87654321 : 0,
    };
    ks_seg_pools pools;
    ks_kcp kcp;
    ks_seg_pools_init(&pools);
    ks_kcp_init(&kcp, &config, &pools, first_sn);
    while (in.next < in.end) {
        step(&kcp, &in, &now);
        check_all(&kcp);
    }
    ks_mem_fail_after(0);
    ks_kcp_free(&kcp);
    MUST(pools.small.used + pools.large.used == 0);
    ks_seg_pools_free(&pools);
    MUST(ks_mem_used() == used);
    return 0;
}
