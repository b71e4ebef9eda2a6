/* SPDX-License-Identifier: MIT */
#include "arq/seg.h"

#include <string.h>

#include "base/err.h"

/* Payload of a small segment: with the bookkeeping it fills 256 bytes. */
#define SMALL_CAP (256u - (uint32_t)sizeof(ks_seg) - KS_KCP_HEAD)
#define RING_FIRST 4u /* most connections have few segments under way, and many there are */





/* ---- segments ---- */

void ks_seg_pools_init(ks_seg_pools *pools)
{
    ks_pool_init(&pools->small, sizeof(ks_seg) + KS_KCP_HEAD + SMALL_CAP);
    ks_pool_init(&pools->large, sizeof(ks_seg) + KS_KCP_HEAD + KS_SEG_BYTES_MAX);
}

void ks_seg_pools_free(ks_seg_pools *pools)
{
    ks_pool_free(&pools->small);
    ks_pool_free(&pools->large);
}

ks_seg *ks_seg_new(ks_seg_pools *pools, uint32_t bytes)
{
    KS_ASSERT(bytes <= KS_SEG_BYTES_MAX);
    bool small = bytes <= SMALL_CAP;
    ks_seg *seg = ks_pool_get(small ? &pools->small : &pools->large);
    if (seg == NULL)
        return NULL;
    memset(seg, 0, sizeof *seg);
    seg->refs = 1;
    seg->cap = (uint16_t)(small ? SMALL_CAP : KS_SEG_BYTES_MAX);
    return seg;
}

void ks_seg_ref(ks_seg *seg)
{
    KS_ASSERT(seg->refs > 0 && seg->refs < UINT16_MAX);
    seg->refs++;
}

void ks_seg_unref(ks_seg *seg)
{
    KS_ASSERT(seg->refs > 0);
    if (--seg->refs == 0)
        ks_pool_put(seg);
}

/* ---- rings ---- */

/* Makes room for `count` slots from lo on; [lo, lo + held) is in use. */
int ks_ring_reserve(ks_ring *r, uint32_t lo, uint32_t held, uint32_t count)
{
    KS_ASSERT(held <= r->capacity);
    if (count <= r->capacity)
        return KS_OK;
    uint32_t capacity = ks_max32(r->capacity, RING_FIRST);
    while (capacity < count)
        capacity *= 2;
    ks_seg **slot = ks_alloc(capacity * sizeof *slot);
    if (slot == NULL)
        return KS_ENOMEM;
    for (uint32_t i = 0; i < held; i++)
        slot[(lo + i) & (capacity - 1)] = *ks_ring_at(r, lo + i);
    ks_free(r->slot);
    r->slot = slot;
    r->capacity = capacity;
    r->mask = capacity - 1;
    return KS_OK;
}

void ks_ring_drop(ks_ring *r, uint32_t lo, uint32_t held)
{
    for (uint32_t i = 0; i < held; i++)
        if (*ks_ring_at(r, lo + i) != NULL)
            ks_seg_unref(*ks_ring_at(r, lo + i));
    ks_free(r->slot);
    memset(r, 0, sizeof *r);
}
