/* SPDX-License-Identifier: MIT */
/* Where an engine's time comes from: the system's clock, or one that a test moves. Only the engine reads it, once a turn
 * and around its sleep; all others are told the time. */
#ifndef KS_CLOCK_H
#define KS_CLOCK_H

#include <stdint.h>

typedef struct {
    uint64_t (*now_us)(void *ctx); /* never goes back */
    void *ctx;
} ks_clock;

extern const ks_clock ks_clock_monotonic;

#endif
