/* SPDX-License-Identifier: MIT */
/* Timers of one engine: a binary heap ordered by due time in ms. A timer lives inside its owner; what is not armed
 * costs nothing. Not thread-safe. */
#ifndef KS_TIMER_H
#define KS_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#define KS_NEVER UINT64_MAX

typedef struct {
    uint64_t due_ms; /* KS_NEVER while not armed */
    uint32_t place;  /* in the heap, valid while armed */
} ks_timer;

typedef struct {
    ks_timer **heap;
    uint32_t count, capacity;
} ks_timers;

void ks_timer_init(ks_timer *timer);
void ks_timers_free(ks_timers *timers);
/* So many timers can be armed at once from now on; owners call it before they exist. KS_OK or KS_ENOMEM. */
int ks_timers_reserve(ks_timers *timers, uint32_t count);
/* Arms, moves, or with KS_NEVER disarms. Never fails after ks_timers_reserve. */
void ks_timer_set(ks_timers *timers, ks_timer *timer, uint64_t due_ms);
/* The next due timer at `now`, disarmed, or NULL. */
ks_timer *ks_timers_pop(ks_timers *timers, uint64_t now_ms);
/* When the next one is due, KS_NEVER for none. */
uint64_t ks_timers_next(const ks_timers *timers);

#endif
