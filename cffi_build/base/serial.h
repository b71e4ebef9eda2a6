/* SPDX-License-Identifier: MIT */
/* Numbers of 32 bits that wrap, sequence numbers and times in ms, are compared by these alone (RFC 1982). */
#ifndef KS_SERIAL_H
#define KS_SERIAL_H

#include <stdbool.h>
#include <stdint.h>

/* True when a comes after b, across the wrap. */
static inline bool ks_after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

static inline uint32_t ks_min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t ks_max32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static inline uint64_t ks_min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t ks_max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
