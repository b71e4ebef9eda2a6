/* SPDX-License-Identifier: MIT */
#include "session/bucket.h"

#define BURST_MS 10u       /* timers have a resolution of 1 ms, turns are a few */
#define BURST_LEAST_PKTS 4u
#define DEBT_PKTS 2        /* what data overdraws is paid back: two packets, since KCP packs ahead */
#define RATE_MAX (UINT64_C(1) << 40)
#define ABSENCE_MS 1048576u  /* a longer one is not paid in whole: with RATE_MAX the product below fits */

/* A rate in bytes/s times a time in ms gives thousandths of a byte: nothing is ever rounded away. */
#define PARTS 1000

void ks_bucket_set_cost(ks_bucket *b, uint32_t packet_cost)
{
    b->debt = b->size + DEBT_PKTS * (int64_t)packet_cost * PARTS;
}

void ks_bucket_init(ks_bucket *b, uint64_t rate, uint32_t packet_bytes, uint32_t packet_cost, uint64_t now_ms)
{
    rate = rate < RATE_MAX ? rate : RATE_MAX;
    uint64_t burst = rate / 1000 * BURST_MS, least = (uint64_t)BURST_LEAST_PKTS * packet_bytes;
    b->rate = rate;
    b->size = (int64_t)(burst > least ? burst : least) * PARTS;
    ks_bucket_set_cost(b, packet_cost);
    b->tokens = b->size;
    b->filled_ms = now_ms;
}

/* Rounded up: a part of a byte lets a packet go, as a whole one does. */
static int64_t may_send(const ks_bucket *b)
{
    return b->tokens > 0 ? (b->tokens + PARTS - 1) / PARTS : 0;
}

int64_t ks_bucket_fill(ks_bucket *b, uint64_t now_ms)
{
    if (b->rate == 0)
        return INT64_MAX;
    uint64_t passed_ms = now_ms - b->filled_ms;
    b->tokens += (int64_t)((passed_ms < ABSENCE_MS ? passed_ms : ABSENCE_MS) * b->rate);
    if (b->tokens > b->size)
        b->tokens = b->size;
    b->filled_ms = now_ms;
    return may_send(b);
}

int64_t ks_bucket_spend(ks_bucket *b, size_t bytes)
{
    if (b->rate == 0)
        return INT64_MAX;
    b->tokens -= (int64_t)bytes * PARTS;
    if (b->tokens < -b->debt)
        b->tokens = -b->debt;
    return may_send(b);
}

uint64_t ks_bucket_due_ms(const ks_bucket *b, uint32_t bytes)
{
    if (b->rate == 0 || b->tokens > 0)
        return 0;
    return b->filled_ms + ((uint64_t)-b->tokens + (uint64_t)bytes * PARTS) / b->rate + 1;
}
