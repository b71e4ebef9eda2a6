/* SPDX-License-Identifier: MIT */
#include "path/rest.h"

#include "base/checks.h"

#define RATE_UNIT 32u
#define NEVER_LOST UINT16_MAX /* no round trip has told of losses */

_Static_assert(KS_PATH_RATE_MAX / RATE_UNIT <= UINT32_MAX, "a rate fits");

static uint32_t pack(uint64_t rate)
{
    uint64_t units = rate / RATE_UNIT;
    return units < UINT32_MAX ? (uint32_t)units : UINT32_MAX;
}

static uint64_t unpack(uint32_t units)
{
    return (uint64_t)units * RATE_UNIT;
}

static uint16_t capped(uint32_t value, uint16_t most)
{
    return value < most ? (uint16_t)value : most;
}

void ks_path_sleep(const ks_path *p, ks_path_rest *r)
{
    KS_ASSERT(p->in_flight == 0);
    for (int i = 0; i < 2; i++) {
        r->rate[i] = pack(p->rate[i]);
        r->losses[i] = p->losses[i] == UINT32_MAX ? NEVER_LOST : capped(p->losses[i], NEVER_LOST - 1);
    }
    r->pace = pack(p->pace);
    r->resume_rate = pack(p->resume_rate);
    r->resume_least_us = p->resume_least_us;
    r->least_us = p->least_us;
    r->least_at_ms = (uint32_t)(p->least_at_us / 1000);
    r->smooth_us = p->smooth_us;
    r->var_us = p->var_us;
    r->extra = p->extra[0] > p->extra[1] ? p->extra[0] : p->extra[1];
    r->loss = capped(p->loss, UINT16_MAX);
    r->seen = capped(p->seen, UINT16_MAX);
    r->seen_lost = capped(p->seen_lost, r->seen);
    r->cruise_rounds = (uint8_t)p->cruise_rounds;
    r->started = p->state != KS_PATH_START;
}

void ks_path_wake(ks_path *p, const ks_path_rest *r, uint32_t packet_bytes, uint64_t now_us)
{
    uint32_t now = (uint32_t)now_us;
    ks_path_init(p, packet_bytes, 0);
    p->resume_rate = unpack(r->resume_rate);
    p->resume_least_us = r->resume_least_us;
    if (r->least_us == 0)
        return;
    uint32_t age_ms = (uint32_t)(now_us / 1000) - r->least_at_ms;
    p->state = r->started ? KS_PATH_CRUISE : KS_PATH_START;
    p->cruise_rounds = r->cruise_rounds;
    for (int i = 0; i < 2; i++) {
        p->rate[i] = unpack(r->rate[i]);
        p->losses[i] = r->losses[i] == NEVER_LOST ? UINT32_MAX : r->losses[i];
    }
    uint32_t floor = p->losses[0] < p->losses[1] ? p->losses[0] : p->losses[1];
    p->floor = floor == UINT32_MAX ? 0 : floor < KS_PATH_FLOOR_MAX ? floor : KS_PATH_FLOOR_MAX;
    p->pace = unpack(r->pace);
    p->least_us = p->recent_us = r->least_us;
    p->least_at_us = p->recent_at_us = now_us - (uint64_t)age_ms * 1000;
    p->smooth_us = r->smooth_us;
    p->var_us = r->var_us;
    p->extra[1] = r->extra;
    p->loss = r->loss;
    p->seen = r->seen;
    p->seen_lost = r->seen_lost;
    /* Whatever left before is acknowledged; the round trip and what is measured in it begin here. */
    p->cut_us = now - 1;
    p->round_us = p->round_sent_us = now;
}
