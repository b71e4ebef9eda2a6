/* SPDX-License-Identifier: MIT */
/* Segments and what holds them: slabs with header and payload in one piece, counted, from two pools, and rings indexed by
 * sn. With them, how KCP's integers stand on the wire, and how numbers that wrap are compared. */
#ifndef KS_SEG_H
#define KS_SEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/checks.h"
#include "base/mem.h"
#include "base/serial.h"
#include "path/path.h"

#define KS_KCP_HEAD 24u       /* bytes of a segment's header on the wire */
enum { KS_KCP_PUSH = 81, KS_KCP_ACK = 82, KS_KCP_WASK = 83, KS_KCP_WINS = 84 }; /* its command, octet 4 */
#define KS_KCP_MTU_MAX 1500u
#define KS_SEG_BYTES_MAX (KS_KCP_MTU_MAX - KS_KCP_HEAD)
#define KS_SEG_SLAB_BYTES (sizeof(ks_seg) + KS_KCP_MTU_MAX) /* of memory, for a large one */

/* One segment, sent or received: bookkeeping, then its wire image (header and payload in one slab). */
typedef struct ks_seg {
    struct ks_seg *prev, *next; /* in its level's list while in flight */
    uint32_t txno;              /* number of its latest transmission */
    uint32_t sn, ts;
    ks_path_mark mark;          /* of its latest transmission */
    uint16_t len, cap;          /* payload bytes: held, room for */
    uint16_t refs;              /* ks_seg_ref; freed at 0 */
    uint8_t frg, level, xmit;
    uint8_t pieced;             /* sender: transmissions in pieces (kcp_pieces.h) */
    uint32_t first_ts;          /* of its first transmission */
    uint8_t wire[];
} ks_seg;

static inline uint8_t *ks_seg_data(ks_seg *seg)
{
    return seg->wire + KS_KCP_HEAD;
}

/* Segments come in two sizes, so that a short message does not occupy a whole packet's slab. */
typedef struct {
    ks_pool small, large;
} ks_seg_pools;

void ks_seg_pools_init(ks_seg_pools *pools);
void ks_seg_pools_free(ks_seg_pools *pools);
/* Room for `bytes` of payload, KS_SEG_BYTES_MAX at most. NULL: no memory. */
ks_seg *ks_seg_new(ks_seg_pools *pools, uint32_t bytes);
void ks_seg_ref(ks_seg *seg);
void ks_seg_unref(ks_seg *seg);

typedef struct {
    ks_seg **slot;              /* slot[sn & mask] */
    uint32_t mask;              /* capacity - 1; slot is NULL while capacity is 0 */
    uint32_t capacity;
} ks_ring;

static inline ks_seg **ks_ring_at(const ks_ring *ring, uint32_t sn)
{
    KS_ASSERT(ring->capacity > 0);
    return &ring->slot[sn & ring->mask];
}

/* Makes room for `count` slots from lo on; [lo, lo + held) is in use. KS_OK or KS_ENOMEM. */
int ks_ring_reserve(ks_ring *ring, uint32_t lo, uint32_t held, uint32_t count);
/* Gives back [lo, lo + held) and the ring's memory. */
void ks_ring_drop(ks_ring *ring, uint32_t lo, uint32_t held);

#endif
