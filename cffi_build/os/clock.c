/* SPDX-License-Identifier: MIT */
#include "os/clock.h"

#include <stddef.h>
#include <time.h>

static uint64_t monotonic_us(void *ctx)
{
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

const ks_clock ks_clock_monotonic = {monotonic_us, NULL};
