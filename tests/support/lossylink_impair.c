// SPDX-License-Identifier: MIT

#define _GNU_SOURCE
#include "lossylink_impair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NS_PER_MS 1e6

enum { SAMPLES_MAX = 1 << 18 };

struct setting {
    const char *name;
    size_t offset;
    int values; // this many doubles from offset on, separated by commas
    double min, max;
};

static const struct setting SETTINGS[] = {
    {"delay-ms", offsetof(struct impairments, delay_ms), 1, 0, 1e8},
    {"jitter-ms", offsetof(struct impairments, jitter_ms), 1, 0, 1e8},
    {"jitter-reorders", offsetof(struct impairments, jitter_reorders), 1, 0, 1},
    {"loss", offsetof(struct impairments, loss), 1, 0, 1},
    {"dup", offsetof(struct impairments, dup), 1, 0, 1},
    {"reorder", offsetof(struct impairments, reorder), 1, 0, 1},
    {"reorder-ms", offsetof(struct impairments, reorder_ms), 1, 0, 1e8},
    {"burst-loss", offsetof(struct impairments, burst_enter), 3, 0, 1},
    {"rate-mbit", offsetof(struct impairments, rate_mbit), 1, 0, 1e6},
    {"queue-kib", offsetof(struct impairments, queue_kib), 1, 1, 1 << 20},
    {"path-mtu", offsetof(struct impairments, path_mtu), 1, 0, 65536},
    {"path-mtu-told", offsetof(struct impairments, path_mtu_told), 1, 0, 1},
};

// ---- memory

// Not counted by the kernel until touched: a large pool costs what is in use at most.
void *reserve(size_t count, size_t size)
{
    void *p = mmap(NULL, count * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        perror("lossylink: mmap");
        exit(2);
    }
    return p;
}

void direction_init(struct direction *d, uint64_t seed, unsigned which, uint32_t slots, uint32_t packet_bytes)
{
    d->set = (struct impairments){.reorder_ms = 10, .burst_leave = 1, .queue_kib = 256};
    d->slots = slots;
    d->packet_bytes = packet_bytes;
    d->dice = mix(seed * 2 + which + 1);
    d->bytes = reserve(slots, packet_bytes);
    d->packets = reserve(slots, sizeof *d->packets);
    d->free = reserve(slots, sizeof *d->free);
    d->heap = reserve(slots, sizeof *d->heap);
    d->queue = reserve(slots, sizeof *d->queue);
    d->samples = reserve(SAMPLES_MAX, sizeof *d->samples);
    for (uint32_t i = slots; i-- > 0;)
        d->free[d->free_len++] = i;
    for (int i = 0; i < LANDING; i++)
        d->landing[i] = d->free[--d->free_len];
}

uint8_t *direction_bytes(const struct direction *d, uint32_t slot)
{
    return d->bytes + (size_t)slot * d->packet_bytes;
}

void direction_give_back(struct direction *d, uint32_t slot)
{
    d->free[d->free_len++] = slot;
}

uint32_t direction_held(const struct direction *d)
{
    return d->heap_len + d->queue_len;
}

// ---- the dice

uint64_t mix(uint64_t z) // splitmix64 (Steele, Lea, Flood 2014)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double roll(struct direction *d) // uniform in [0, 1)
{
    return (double)(mix(d->dice += 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53;
}

enum { D_LOSS, D_BURST_STATE, D_BURST_LOSS, D_DUP, D_REORDER, D_JITTER, D_DUP_REORDER, D_DUP_JITTER, DRAWS };

// ---- the heap of due packets

static bool before(const struct due *a, const struct due *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

// The heap cannot overflow: it holds slots, each once.
static void heap_push(struct direction *d, uint64_t at_ns, uint32_t slot)
{
    struct due new = {at_ns, d->order++, slot};
    uint32_t i = d->heap_len++;
    for (; i > 0 && before(&new, &d->heap[(i - 1) / 2]); i = (i - 1) / 2)
        d->heap[i] = d->heap[(i - 1) / 2];
    d->heap[i] = new;
}

static uint32_t heap_pop(struct direction *d)
{
    uint32_t slot = d->heap[0].slot, len = --d->heap_len, i = 0;
    struct due last = d->heap[len];
    for (;;) {
        uint32_t kid = 2 * i + 1;
        if (kid >= len)
            break;
        if (kid + 1 < len && before(&d->heap[kid + 1], &d->heap[kid]))
            kid++;
        if (!before(&d->heap[kid], &last))
            break;
        d->heap[i] = d->heap[kid];
        i = kid;
    }
    d->heap[i] = last;
    return slot;
}

// ---- behind the bottleneck

static void delay(struct direction *d, uint64_t left, double jitter, bool reorder, uint32_t slot)
{
    uint64_t at = left + (uint64_t)((d->set.delay_ms + d->set.jitter_ms * jitter) * NS_PER_MS);
    if (reorder) {
        at += (uint64_t)(d->set.reorder_ms * NS_PER_MS);
        d->n.reordered++;
    } else if (d->set.jitter_reorders == 0) {
        if (at < d->floor_ns)
            at = d->floor_ns;
        d->floor_ns = at;
    }
    d->n.delay_us += (at - d->packets[slot].came_ns) / 1000;
    heap_push(d, at, slot);
}

// The packet has left the bottleneck, at `left`.
static void meets_fate(struct direction *d, uint64_t left, uint32_t slot)
{
    double dice[DRAWS];
    for (int i = 0; i < DRAWS; i++)
        dice[i] = roll(d);
    if (d->bad ? dice[D_BURST_STATE] < d->set.burst_leave : dice[D_BURST_STATE] < d->set.burst_enter)
        d->bad = !d->bad;

    bool by_chance = dice[D_LOSS] < d->set.loss;
    if (by_chance || (d->bad && dice[D_BURST_LOSS] < d->set.burst_loss)) {
        d->n.lost++;
        d->n.burst_lost += !by_chance;
        direction_give_back(d, slot);
        return;
    }
    delay(d, left, dice[D_JITTER], dice[D_REORDER] < d->set.reorder, slot);
    if (dice[D_DUP] < d->set.dup) {
        d->n.duplicated++;
        if (d->free_len == 0) {
            d->n.pool_dropped++;
            return;
        }
        uint32_t copy = d->free[--d->free_len];
        memcpy(direction_bytes(d, copy), direction_bytes(d, slot), d->packets[slot].len);
        d->packets[copy] = d->packets[slot];
        delay(d, left, dice[D_DUP_JITTER], dice[D_DUP_REORDER] < d->set.reorder, copy);
    }
}

// ---- the bottleneck

static uint32_t ip_bytes(const struct direction *d, uint32_t slot)
{
    return d->packets[slot].len + d->head_bytes;
}

static uint64_t service_ns(const struct direction *d, double bytes)
{
    double ns = d->set.rate_mbit > 0 ? bytes * 8000 / d->set.rate_mbit : 0;
    return ns < 1e16 ? (uint64_t)ns : (uint64_t)1e16; // a third of a year; added up it cannot wrap
}

// Lets out of the queue what has left it by now.
static void advance(struct direction *d, uint64_t now)
{
    while (d->queue_len > 0 && d->leaves_ns <= now) {
        uint32_t slot = d->queue[d->queue_head];
        uint64_t left = d->leaves_ns;
        d->queue_head = (d->queue_head + 1) % d->slots;
        d->queue_len--;
        d->queue_bytes -= ip_bytes(d, slot);
        if (d->queue_len > 0)
            d->leaves_ns += service_ns(d, ip_bytes(d, d->queue[d->queue_head]));
        meets_fate(d, left, slot);
    }
}

// Returns false when the queue is full. The ring cannot overflow: it holds slots, each once.
static bool join_queue(struct direction *d, uint64_t now, uint32_t slot)
{
    uint32_t bytes = ip_bytes(d, slot);
    if (d->queue_len > 0 && d->queue_bytes + bytes > d->set.queue_kib * 1024)
        return false;
    if (d->queue_len == 0)
        d->leaves_ns = now + service_ns(d, bytes);
    d->queue[(d->queue_head + d->queue_len++) % d->slots] = slot;
    d->queue_bytes += bytes;
    if (d->queue_bytes > d->queue_peak)
        d->queue_peak = d->queue_bytes;
    return true;
}

// The packet that is being sent goes on at the new rate, and so do those behind it.
static void change_rate(struct direction *d, uint64_t now, double rate_mbit)
{
    advance(d, now);
    if (d->queue_len > 0) {
        double bytes_left = (double)(d->leaves_ns - now) * d->set.rate_mbit / 8000;
        d->set.rate_mbit = rate_mbit;
        d->leaves_ns = rate_mbit > 0 ? now + service_ns(d, bytes_left) : now;
    }
    d->set.rate_mbit = rate_mbit;
    advance(d, now); // without a rate the queue is empty now
}

// ---- in and out

bool direction_hears(struct direction *d, uint32_t len)
{
    d->n.received++;
    d->n.received_bytes += len;
    if (d->blackhole)
        d->n.blackholed++;
    else if (len > d->packet_bytes)
        d->n.oversize++;
    else
        return true;
    return false;
}

void direction_takes(struct direction *d, uint64_t now, uint32_t *landing, struct packet packet)
{
    uint32_t slot = *landing;
    if (d->free_len == 0) { // checked before the dice: the landing slot must have a successor
        d->n.pool_dropped++;
        return;
    }
    if (d->set.path_mtu > 0 && packet.len + d->head_bytes > d->set.path_mtu) {
        d->n.mtu_dropped++;
        return;
    }
    advance(d, now);
    packet.came_ns = now;
    d->packets[slot] = packet;
    if (d->set.rate_mbit > 0 && !join_queue(d, now, slot)) {
        d->n.queue_dropped++;
        return;
    }
    *landing = d->free[--d->free_len];
    if (d->set.rate_mbit <= 0)
        meets_fate(d, now, slot);
}

uint64_t direction_wakes(const struct direction *d)
{
    uint64_t due = d->heap_len > 0 ? d->heap[0].at_ns : NEVER;
    return d->queue_len > 0 && d->leaves_ns < due ? d->leaves_ns : due;
}

bool direction_due(struct direction *d, uint64_t now, uint32_t *slot)
{
    advance(d, now);
    while (d->heap_len > 0 && d->heap[0].at_ns <= now) {
        uint64_t late_us = (now - d->heap[0].at_ns) / 1000;
        *slot = heap_pop(d);
        if (d->blackhole) {
            d->n.blackholed++;
            direction_give_back(d, *slot);
            continue;
        }
        d->n.late_packets += late_us > LATE_US;
        if (late_us > d->n.late_max_us)
            d->n.late_max_us = late_us;
        return true;
    }
    return false;
}

// ---- settings and samples

const char *direction_set(struct direction *d, uint64_t now, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof SETTINGS / sizeof *SETTINGS; i++) {
        const struct setting *s = &SETTINGS[i];
        double parsed[3] = {0};
        char *end;
        if (strcmp(name, s->name) != 0)
            continue;
        for (int v = 0; v < s->values; v++) {
            parsed[v] = strtod(value, &end);
            if (end == value || *end != (v + 1 < s->values ? ',' : '\0'))
                return s->values > 1 ? "wants three numbers: ENTER,LEAVE,LOSS" : "wants a number";
            if (!(parsed[v] >= s->min && parsed[v] <= s->max)) // written so that NaN is refused
                return "out of range";
            value = end + 1;
        }
        if (s->offset == offsetof(struct impairments, rate_mbit)) {
            change_rate(d, now, parsed[0]);
            return NULL;
        }
        memcpy((char *)&d->set + s->offset, parsed, (size_t)s->values * sizeof *parsed);
        if (s->offset <= offsetof(struct impairments, jitter_reorders))
            d->floor_ns = 0; // what is under way keeps its time; what follows need not wait for it
        if (s->offset == offsetof(struct impairments, burst_enter) && parsed[0] == 0)
            d->bad = false;
        return NULL;
    }
    return "no such setting";
}

bool direction_sample(struct direction *d, uint64_t now)
{
    if (d->samples_len == SAMPLES_MAX)
        return false;
    advance(d, now);
    d->samples[d->samples_len++] = (struct sample){
        .in_bytes = d->n.received_bytes + d->n.received * d->head_bytes,
        .out_bytes = d->n.sent_bytes + d->n.sent * d->head_bytes,
        .lost = (uint32_t)d->n.lost,
        .queue_dropped = (uint32_t)d->n.queue_dropped,
        .queue_bytes = d->queue_peak,
    };
    d->queue_peak = d->queue_bytes;
    return true;
}
