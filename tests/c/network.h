/* SPDX-License-Identifier: MIT */
/* A simulated network in virtual time: packets on their way, in the order of their arrival, and the pieces of which a path is
 * made. A piece may lose a packet, delay it, or make two of it; what it needs of chance is the network's, from a seed. The ARQ
 * alone (sim.h) and whole sessions (world.h) stand on it.
 * Memory comes from malloc, so that ks_mem_used and ks_mem_fail_after see the data plane alone. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t due, order; /* packets due at the same time keep their order */
    int to;              /* the owner's number for who gets it */
    size_t size;
    uint8_t bytes[];
} net_packet;

typedef struct {
    net_packet **heap;
    size_t count, cap;
    uint64_t order, random;
} network;

static inline void *net_need(void *block)
{
    if (block == NULL)
        abort();
    return block;
}

static inline void net_init(network *n, uint64_t seed)
{
    memset(n, 0, sizeof *n);
    n->random = seed * 0x9e3779b97f4a7c15u + 88172645463325252u;
}

static inline uint32_t net_random(network *n, uint32_t below)
{
    n->random ^= n->random << 13;
    n->random ^= n->random >> 7;
    n->random ^= n->random << 17;
    return (uint32_t)(n->random >> 33) % below;
}

static inline bool net_chance(network *n, uint64_t percent)
{
    return net_random(n, 100) < percent;
}

/* The content of streams: what stands at `offset` of stream `which`. */
static inline uint8_t net_byte(int which, uint64_t offset)
{
    return (uint8_t)(offset * 31 + (offset >> 8) * 7 + (offset >> 16) * 3 + (uint64_t)which * 101);
}

/* Times may wrap. */
static inline bool net_is_due(uint64_t due, uint64_t now)
{
    return (int64_t)(due - now) <= 0;
}

static inline bool net_before(const net_packet *a, const net_packet *b)
{
    return a->due != b->due ? (int64_t)(a->due - b->due) < 0 : a->order < b->order;
}

/* Copies the packet. */
static inline void net_put(network *n, uint64_t due, int to, const uint8_t *bytes, size_t size)
{
    net_packet *p = net_need(malloc(sizeof *p + size));
    p->due = due;
    p->order = n->order++;
    p->to = to;
    p->size = size;
    memcpy(p->bytes, bytes, size);
    if (n->count == n->cap) {
        n->cap = n->cap ? n->cap * 2 : 64;
        n->heap = net_need(realloc(n->heap, n->cap * sizeof *n->heap));
    }
    size_t i = n->count++;
    for (; i > 0 && net_before(p, n->heap[(i - 1) / 2]); i = (i - 1) / 2)
        n->heap[i] = n->heap[(i - 1) / 2];
    n->heap[i] = p;
}

/* The next one; there must be one. The caller frees it. */
static inline net_packet *net_take(network *n)
{
    net_packet *top = n->heap[0], *last = n->heap[--n->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < n->count; i = child) {
        if (child + 1 < n->count && net_before(n->heap[child + 1], n->heap[child]))
            child++;
        if (!net_before(n->heap[child], last))
            break;
        n->heap[i] = n->heap[child];
    }
    n->heap[i] = last;
    return top;
}

static inline void net_free(network *n)
{
    while (n->count > 0)
        free(net_take(n));
    free(n->heap);
    n->heap = NULL;
}

/* ---- paths; times in us ---- */

enum { NET_COPIES_MAX = 8, NET_PIECES_MAX = 8 };

/* What becomes of one packet: how many arrive, and when. */
typedef struct {
    int copies;
    uint64_t due[NET_COPIES_MAX];
} net_fate;

typedef struct net_piece net_piece;
struct net_piece {
    void (*act)(network *, net_piece *, const uint8_t *packet, size_t size, net_fate *);
    uint64_t a, b, state, lost;
    bool (*picks)(const uint8_t *packet, size_t size);
    net_piece *shared;
};

/* One direction: its pieces in turn. */
typedef struct {
    net_piece pieces[NET_PIECES_MAX];
    int count;
    uint64_t lost, carried; /* packets */
} net_path;

static inline net_piece *net_add(net_path *path, net_piece piece)
{
    if (path->count == NET_PIECES_MAX)
        abort();
    path->pieces[path->count] = piece;
    return &path->pieces[path->count++];
}

static inline void net_send(network *n, net_path *path, uint64_t now, int to, const uint8_t *bytes, size_t size)
{
    net_fate fate = {.copies = 1, .due = {now}};
    for (int i = 0; i < path->count && fate.copies > 0; i++)
        path->pieces[i].act(n, &path->pieces[i], bytes, size, &fate);
    path->carried++;
    path->lost += fate.copies == 0;
    for (int i = 0; i < fate.copies; i++)
        net_put(n, fate.due[i], to, bytes, size);
}

static inline void net_act_delay(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)packet, (void)size;
    for (int i = 0; i < f->copies; i++)
        f->due[i] += p->a + (p->b > 0 ? net_random(n, (uint32_t)p->b + 1) : 0);
}

/* jitter_us: up to so much more, each packet anew, so that they overtake each other. */
static inline net_piece net_delay(uint64_t delay_us, uint64_t jitter_us)
{
    return (net_piece){.act = net_act_delay, .a = delay_us, .b = jitter_us};
}

/* None overtakes the one before it. state: when that arrives. */
static inline void net_act_in_order(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)n, (void)packet, (void)size;
    for (int i = 0; i < f->copies; i++)
        f->due[i] = p->state = f->due[i] > p->state ? f->due[i] : p->state;
}

static inline net_piece net_in_order(void)
{
    return (net_piece){.act = net_act_in_order};
}

/* A line of `a` bytes a second, before which `b` bytes may stand; what finds no room is lost. state: when the line is free. */
static inline void net_act_line(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)n, (void)packet;
    int kept = 0;
    for (int i = 0; i < f->copies; i++) {
        uint64_t from = p->state > f->due[i] ? p->state : f->due[i];
        if ((from - f->due[i]) * p->a / 1000000 + size > p->b) {
            p->lost++;
            continue;
        }
        p->state = from + size * 1000000 / p->a;
        f->due[kept++] = p->state;
    }
    f->copies = kept;
}

static inline net_piece net_line(uint64_t bytes_per_s, uint64_t queue_bytes)
{
    return (net_piece){.act = net_act_line, .a = bytes_per_s, .b = queue_bytes};
}

static inline void net_act_shared(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    p->shared->act(n, p->shared, packet, size, f);
}

/* One that other paths have as well: its owner sees to it that packets come in the order of time. */
static inline net_piece net_shared(net_piece *piece)
{
    return (net_piece){.act = net_act_shared, .shared = piece};
}

static inline void net_act_loss(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)packet, (void)size;
    if (net_chance(n, p->a))
        f->copies = 0;
}

static inline net_piece net_loss(uint32_t percent)
{
    return (net_piece){.act = net_act_loss, .a = percent};
}

/* Of a million. */
static inline bool net_chance_of(network *n, uint64_t millionths)
{
    return net_random(n, 1000000) < millionths;
}

static inline void net_act_loss_of(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)packet, (void)size;
    if (net_chance_of(n, p->a))
        f->copies = 0;
}

static inline net_piece net_loss_of(double percent)
{
    return (net_piece){.act = net_act_loss_of, .a = (uint64_t)(percent * 1e4)};
}

/* Gilbert and Elliott: with chance `a` each packet begins a time in which all are lost, and which ends with chance `b`. */
static inline void net_act_bursts(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)packet, (void)size;
    p->state = p->state ? !net_chance_of(n, p->b) : net_chance_of(n, p->a);
    if (p->state)
        f->copies = 0;
}

static inline net_piece net_bursts(double in_percent, double out_percent)
{
    return (net_piece){.act = net_act_bursts, .a = (uint64_t)(in_percent * 1e4), .b = (uint64_t)(out_percent * 1e4)};
}

/* A token bucket of `a` bytes a second, that holds `b`: what finds too few tokens is lost, nothing waits. state: until when what has
 * passed has taken all that came. */
static inline void net_act_policer(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)n, (void)packet;
    int kept = 0;
    for (int i = 0; i < f->copies; i++) {
        uint64_t full = p->b * 1000000 / p->a, cost = size * 1000000 / p->a;
        uint64_t from = p->state > f->due[i] ? p->state : f->due[i];
        if (from + cost > f->due[i] + full) {
            p->lost++;
            continue;
        }
        p->state = from + cost;
        f->due[kept++] = f->due[i];
    }
    f->copies = kept;
}

static inline net_piece net_policer(uint64_t bytes_per_s, uint64_t bucket_bytes)
{
    return (net_piece){.act = net_act_policer, .a = bytes_per_s, .b = bucket_bytes};
}

/* They arrive at whole multiples of `a` alone, as from a radio that has its turn then. */
static inline void net_act_bunch(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)n, (void)packet, (void)size;
    for (int i = 0; i < f->copies; i++)
        f->due[i] = (f->due[i] + p->a - 1) / p->a * p->a;
}

static inline net_piece net_bunch(uint64_t us)
{
    return (net_piece){.act = net_act_bunch, .a = us};
}

/* Of the packets that it picks, `a` pass, then `b` are lost, then all pass. state: how many it has seen. */
static inline void net_act_pick(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)n;
    if (p->picks != NULL && !p->picks(packet, size))
        return;
    if (p->state >= p->a && p->state - p->a < p->b)
        f->copies = 0;
    p->state++;
}

/* picks NULL: any packet. */
static inline net_piece net_lose(bool (*picks)(const uint8_t *packet, size_t size), uint64_t pass_first, uint64_t lose)
{
    return (net_piece){.act = net_act_pick, .a = pass_first, .b = lose, .picks = picks};
}

static inline void net_act_repeat(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)packet, (void)size;
    if (f->copies > 0 && f->copies < NET_COPIES_MAX && net_chance(n, p->a)) {
        f->due[f->copies] = f->due[0] + p->b;
        f->copies++;
    }
}

/* A second copy, so much later. */
static inline net_piece net_repeat(uint32_t percent, uint64_t later_us)
{
    return (net_piece){.act = net_act_repeat, .a = percent, .b = later_us};
}

#endif
