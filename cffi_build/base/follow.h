/* SPDX-License-Identifier: MIT */
/* When a receive window should grow: KCP's, in packets, and that of a smux stream, in bytes, by the same rule.
 *
 * A loss holds a window's left edge for some round trips while the sender goes on, so it takes about four round trips' worth:
 * a window of which more than a quarter is read in one may be what bounds the sender, and is made twice as large. */
#ifndef KS_FOLLOW_H
#define KS_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/serial.h"

#define KS_FOLLOW_PART 4u
#define KS_FOLLOW_RTT_MS 300u /* while no round trip has been measured: a long one */

typedef struct {
    uint32_t since_ms, read; /* so much was read since then; no longer than a round trip */
} ks_follow;

/* So much of the window was read now. -> true: it should grow, if its reader keeps up and there is memory. */
static inline bool ks_follow_read(ks_follow *f, uint32_t amount, uint32_t window, uint32_t now_ms, uint32_t rtt_ms)
{
    if (now_ms - f->since_ms >= ks_max32(rtt_ms, 1)) {
        f->since_ms = now_ms;
        f->read = 0;
    }
    f->read = amount > UINT32_MAX - f->read ? UINT32_MAX : f->read + amount;
    return f->read > window / KS_FOLLOW_PART;
}

#endif
