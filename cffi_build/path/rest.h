/* SPDX-License-Identifier: MIT */
/* What of a path's model outlives a pause in which nothing is under way: a connection that rests keeps this alone, and goes
 * on from it. What of rates is below 32 bytes/s is lost. */
#ifndef KS_REST_H
#define KS_REST_H

#include "path/path.h"

/* All zero: nothing is known. */
typedef struct {
    uint32_t rate[2], pace, resume_rate; /* 32 bytes/s */
    uint32_t least_us, least_at_ms, resume_least_us;
    uint32_t smooth_us, var_us;
    uint32_t extra;                      /* the most */
    uint16_t loss, seen, seen_lost, losses[2];
    uint8_t cruise_rounds;
    bool started;                        /* START is over */
} ks_path_rest;

/* Nothing is under way. */
void ks_path_sleep(const ks_path *path, ks_path_rest *rest);
void ks_path_wake(ks_path *path, const ks_path_rest *rest, uint32_t packet_bytes, uint64_t now_us);

#endif
