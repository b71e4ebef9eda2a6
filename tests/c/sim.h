/* SPDX-License-Identifier: MIT */
/* Two ARQs and a network between them, in virtual time: what test_kcp.c, cost_kcp.c and the fuzz target stand on.
 * Memory of the simulation itself comes from malloc, so that ks_mem_used and ks_mem_fail_after see the ARQ alone. */
#ifndef SIM_H
#define SIM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "arq/kcp.h"
#include "network.h"
#include "base/octets.h"

typedef struct {
    uint32_t at;
    int from;
    uint8_t cmd, frg;
    uint16_t wnd;
    uint32_t ts, sn, una, len;
} sim_segment;

typedef struct {
    ks_kcp kcp;
    ks_seg_pools pools;
    uint64_t to_send, sent, received; /* bytes; the stream's content is sim_byte(end, offset) */
    int paused;                       /* does not read */
    int wrong;                        /* bytes that were not as sent */
    int packets;
} sim_end;

typedef struct sim {
    uint32_t now, delay_ms;
    sim_end end[2];
    network net;
    /* -> copies that arrive, 0 to 2; may add to the delay of each. */
    int (*fate)(struct sim *, int from, const uint8_t *packet, size_t size, uint32_t delay[2]);
    void (*clock)(struct sim *); /* before each turn: may set an end's clock, by its cfg.secret */
    uint32_t loss_percent;    /* for the fates below */
    int nth, countdown[2];
    sim_segment *trace;       /* every segment sent, when `tracing` */
    size_t trace_count, trace_cap;
    int tracing;
    int spins;                /* flushes that left something due at the same moment */
} sim;

static inline uint32_t sim_random(sim *s, uint32_t below)
{
    return net_random(&s->net, below);
}

static inline uint8_t sim_byte(int from, uint64_t offset)
{
    return net_byte(from, offset);
}

/* The ARQ takes us; in a fixed sender's eyes only ms pass, which may wrap. */
static inline uint64_t sim_us(uint32_t ms)
{
    return (uint64_t)ms * 1000;
}

/* The ARQ's clock of 32 bits as the network's of 64, so that it wraps too. */
static inline uint64_t sim_time(uint32_t ms)
{
    return (uint64_t)ms << 32;
}

/* ms until the next packet arrives, UINT32_MAX: none is under way. */
static inline uint32_t sim_arrival(const sim *s)
{
    if (s->net.count == 0)
        return UINT32_MAX;
    uint32_t due = (uint32_t)(s->net.heap[0]->due >> 32);
    return ks_after(due, s->now) ? due - s->now : 0;
}

/* The next packet that has arrived, or NULL. */
static inline net_packet *sim_arrived(sim *s)
{
    return sim_arrival(s) == 0 ? net_take(&s->net) : NULL;
}

static inline void sim_trace(sim *s, int from, const uint8_t *p, size_t size)
{
    while (size >= KS_KCP_HEAD) {
        if (s->trace_count == s->trace_cap) {
            s->trace_cap = s->trace_cap ? s->trace_cap * 2 : 256;
            s->trace = realloc(s->trace, s->trace_cap * sizeof *s->trace);
            if (s->trace == NULL)
                abort();
        }
        sim_segment *g = &s->trace[s->trace_count++];
        *g = (sim_segment){s->now,           from, p[4], p[5], ks_get_le16(p + 6), ks_get_le32(p + 8), ks_get_le32(p + 12),
                           ks_get_le32(p + 16), ks_get_le32(p + 20)};
        p += KS_KCP_HEAD + g->len;
        size -= KS_KCP_HEAD + g->len;
    }
}

typedef struct {
    const uint8_t *reference; /* or NULL: the packet is in copy */
    size_t size;
    uint8_t copy[KS_KCP_MTU_MAX];
} sim_pending;

typedef struct {
    sim_pending *pending;
    size_t count, cap;
} sim_sender;

/* One packet leaves. */
static inline void sim_transmit(sim *s, int from, const uint8_t *bytes, size_t n)
{
    s->end[from].packets++;
    if (s->tracing)
        sim_trace(s, from, bytes, n);
    uint32_t delay[2] = {s->delay_ms, s->delay_ms};
    int copies = s->fate == NULL ? 1 : s->fate(s, from, bytes, n, delay);
    for (int i = 0; i < copies; i++)
        net_put(&s->net, sim_time(s->now + delay[i]), !from, bytes, n);
}

/* As the engine's batch: what may be sent by reference is only looked at after the flush, the rest is copied. */
static inline void sim_output(void *ctx, const struct iovec *iov, int pieces, size_t size)
{
    sim_sender *sender = ctx;
    if (sender->count == sender->cap) {
        sender->cap = sender->cap ? 2 * sender->cap : 64;
        sender->pending = realloc(sender->pending, sender->cap * sizeof *sender->pending);
        if (sender->pending == NULL)
            abort();
    }
    sim_pending *p = &sender->pending[sender->count++];
    *p = (sim_pending){.size = size};
    if (pieces == 1 && size >= KS_KCP_BY_REFERENCE) {
        p->reference = iov[0].iov_base;
        return;
    }
    size_t n = 0;
    for (int i = 0; i < pieces; i++) {
        if (n + iov[i].iov_len > sizeof p->copy)
            abort();
        memcpy(p->copy + n, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    if (n != size)
        abort();
}

static inline void sim_flush(sim *s, int end)
{
    sim_sender sender = {0};
    ks_kcp_flush(&s->end[end].kcp, sim_us(s->now), sim_output, &sender);
    for (size_t i = 0; i < sender.count; i++) {
        const sim_pending *p = &sender.pending[i];
        if (p->size > s->end[end].kcp.cfg.mtu && p->reference == NULL) /* one segment alone, cut for longer packets */
            abort();
        sim_transmit(s, end, p->reference != NULL ? p->reference : p->copy, p->size);
    }
    free(sender.pending);
}

static inline void sim_init(sim *s, const ks_kcp_config *a, const ks_kcp_config *b, uint32_t first_sn, uint32_t start_ms)
{
    memset(s, 0, sizeof *s);
    net_init(&s->net, 0);
    s->now = start_ms;
    s->delay_ms = 20;
    for (int i = 0; i < 2; i++) {
        ks_seg_pools_init(&s->end[i].pools);
        ks_kcp_init(&s->end[i].kcp, i == 0 ? a : b, &s->end[i].pools, first_sn);
    }
}

static inline void sim_free(sim *s)
{
    for (int i = 0; i < 2; i++) {
        ks_kcp_free(&s->end[i].kcp);
        ks_seg_pools_free(&s->end[i].pools);
    }
    net_free(&s->net);
    free(s->trace);
}

static inline void sim_read(sim *s, int end)
{
    sim_end *e = &s->end[end];
    for (ks_seg *seg; !e->paused && (seg = ks_kcp_pop(&e->kcp)) != NULL; ks_seg_unref(seg))
        for (uint32_t i = 0; i < seg->len; i++)
            e->wrong += ks_seg_data(seg)[i] != sim_byte(!end, e->received++);
}

/* -> 0 when the ARQ had no memory */
static inline int sim_write(sim *s, int end, uint32_t most)
{
    sim_end *e = &s->end[end];
    uint8_t bytes[4096];
    uint32_t n = ks_kcp_room(&e->kcp);
    n = n < most ? n : most;
    n = n < sizeof bytes ? n : (uint32_t)sizeof bytes;
    if (n > e->to_send - e->sent)
        n = (uint32_t)(e->to_send - e->sent);
    if (n == 0)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = sim_byte(end, e->sent + i);
    int done = ks_kcp_send(&e->kcp, bytes, n);
    if (done > 0)
        e->sent += (uint32_t)done;
    return done > 0;
}

/* Writes one segment, with `len` x as its data. -> its size */
static inline size_t sim_put_segment(uint8_t *w, uint32_t conv, uint8_t cmd, uint8_t frg, uint16_t wnd, uint32_t ts, uint32_t sn,
                                     uint32_t una, uint32_t len)
{
    ks_put_le32(w, conv);
    w[4] = cmd;
    w[5] = frg;
    ks_put_le16(w + 6, wnd);
    ks_put_le32(w + 8, ts);
    ks_put_le32(w + 12, sn);
    ks_put_le32(w + 16, una);
    ks_put_le32(w + 20, len);
    memset(w + KS_KCP_HEAD, 'x', len);
    return KS_KCP_HEAD + len;
}

/* What both ends do at the present moment. */
static inline void sim_turn(sim *s)
{
    if (s->clock != NULL)
        s->clock(s);
    for (int i = 0; i < 2; i++) {
        sim_read(s, i);
        while (sim_write(s, i, 4096))
            ;
        if (ks_kcp_next(&s->end[i].kcp, sim_us(s->now)) == 0) {
            sim_flush(s, i);
            s->spins += ks_kcp_next(&s->end[i].kcp, sim_us(s->now)) == 0;
        }
    }
}

/* Moves to the next event, at most to `until`. -> 0 when nothing will ever happen again. */
static inline int sim_step(sim *s, uint32_t until)
{
    uint32_t wait = UINT32_MAX;
    for (int i = 0; i < 2; i++) {
        uint32_t next = ks_kcp_next(&s->end[i].kcp, sim_us(s->now));
        wait = next < wait ? next : wait;
    }
    uint32_t arrives = sim_arrival(s);
    wait = arrives < wait ? arrives : wait;
    if (wait == UINT32_MAX)
        return 0;
    s->now = wait < until - s->now ? s->now + wait : until;
    for (net_packet *p; (p = sim_arrived(s)) != NULL;) {
        if (ks_kcp_input_untrusted(&s->end[p->to].kcp, p->bytes, p->size, sim_us(s->now), false) != KS_OK)
            abort();
        free(p);
    }
    sim_turn(s);
    return 1;
}

static inline int sim_finished(const sim *s)
{
    for (int i = 0; i < 2; i++)
        if (s->end[!i].received != s->end[i].to_send || ks_kcp_unacked(&s->end[i].kcp) != 0)
            return 0;
    return 1;
}

/* Runs for `ms`, or until all was delivered and acknowledged, or nothing moves. */
static inline void sim_run(sim *s, uint32_t ms)
{
    uint32_t until = s->now + ms;
    sim_turn(s);
    while (s->now != until && !sim_finished(s) && sim_step(s, until))
        ;
}

/* ---- fates ---- */

static inline int fate_random_loss(sim *s, int from, const uint8_t *packet, size_t size, uint32_t delay[2])
{
    (void)from, (void)packet, (void)size, (void)delay;
    return sim_random(s, 100) >= s->loss_percent;
}

static inline int fate_all_lost(sim *s, int from, const uint8_t *packet, size_t size, uint32_t delay[2])
{
    (void)s, (void)from, (void)packet, (void)size, (void)delay;
    return 0;
}

/* Every nth packet is lost, both directions counted together. */
static inline int fate_every_nth_lost(sim *s, int from, const uint8_t *packet, size_t size, uint32_t delay[2])
{
    (void)packet, (void)size, (void)delay;
    return ++s->countdown[from] % s->nth != 0; /* of each direction: else a packet and its answer fall into step */
}

/* Loss, a second copy, and up to three delays of reordering. */
static inline int fate_chaos(sim *s, int from, const uint8_t *packet, size_t size, uint32_t delay[2])
{
    (void)from, (void)packet, (void)size;
    if (sim_random(s, 100) < s->loss_percent)
        return 0;
    delay[0] += sim_random(s, 3 * s->delay_ms + 1);
    delay[1] += sim_random(s, 3 * s->delay_ms + 1);
    return sim_random(s, 100) < 10 ? 2 : 1;
}

#endif
