/* SPDX-License-Identifier: MIT */
#include "fec/fec_tune.h"

#include "base/checks.h"
#include "fec/fec.h"

/* Attempts are at least so many packets apart. */
#define ATTEMPT_PKTS 16u
#define GROUPS_APART 2u

static uint32_t needed(uint32_t period)
{
    return 3 * period + 16;
}

/* Where packets of one kind were seen. */
typedef struct {
    uint32_t low, high;             /* places in the group */
    uint32_t first_group, last_group;
} seen;

static void see(seen *s, uint32_t place, uint32_t group)
{
    s->low = place < s->low ? place : s->low;
    s->high = place > s->high ? place : s->high;
    s->first_group = group < s->first_group ? group : s->first_group;
    s->last_group = group > s->last_group ? group : s->last_group;
}

static bool is_spread(const seen *s)
{
    return s->last_group - s->first_group >= GROUPS_APART;
}

/* From the latest sample back, until one disagrees or enough agree. -> ds, or 0. */
static uint32_t try_period(const ks_fec_tune *t, uint32_t held, uint32_t period, uint32_t *looks)
{
    seen data = {UINT32_MAX, 0, UINT32_MAX, 0}, parity = data;
    for (uint32_t n = 0; n < held; n++) {
        KS_ASSERT(n < t->count);
        uint32_t i = (t->count - 1 - n) % KS_FEC_TUNE_SAMPLES;
        uint32_t group = t->seqid[i] / period, place = t->seqid[i] % period;
        ++*looks;
        see(t->parity[i] ? &parity : &data, place, group);
        if (data.high >= parity.low)
            return 0;
        bool both_sides_seen = data.low != UINT32_MAX && data.high + 1 == parity.low;
        if (n + 1 >= needed(period) && both_sides_seen && is_spread(&data) && is_spread(&parity))
            return parity.low;
    }
    return 0;
}

bool ks_fec_tune_add(ks_fec_tune *t, uint32_t seqid, bool parity, uint32_t *ds, uint32_t *ps)
{
    KS_ASSERT(t->count < 2 * KS_FEC_TUNE_SAMPLES);
    t->seqid[t->count % KS_FEC_TUNE_SAMPLES] = seqid;
    t->parity[t->count % KS_FEC_TUNE_SAMPLES] = parity;
    if (++t->count == 2 * KS_FEC_TUNE_SAMPLES) { /* so that it never wraps; full all the same */
        t->count -= KS_FEC_TUNE_SAMPLES;
        t->next_at -= t->next_at < KS_FEC_TUNE_SAMPLES ? t->next_at : KS_FEC_TUNE_SAMPLES;
    }
    if (t->count < t->next_at || t->count < needed(2))
        return false;
    uint32_t held = t->count < KS_FEC_TUNE_SAMPLES ? t->count : KS_FEC_TUNE_SAMPLES, looks = 0;
    for (uint32_t period = 2; period <= KS_FEC_SHARDS_MAX && needed(period) <= held; period++) {
        uint32_t found = try_period(t, held, period, &looks);
        if (found != 0) {
            KS_ASSERT(found < period); /* a group has both kinds */
            *ds = found;
            *ps = period - found;
            return true;
        }
    }
    uint32_t pause = looks / KS_FEC_TUNE_COST;
    t->next_at = t->count + (pause < ATTEMPT_PKTS ? ATTEMPT_PKTS : pause);
    return false;
}
