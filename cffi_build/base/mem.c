/* SPDX-License-Identifier: MIT */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checks.h"

static atomic_uint_fast64_t used_bytes;
static atomic_uint_fast64_t fail_countdown;
static atomic_uint_fast64_t bound_bytes = UINT64_C(1) << 30;

/* Stands before every block of ks_alloc; 16 bytes keep the block aligned for any type. */
typedef union {
    size_t size;
    max_align_t align;
} head;

static int must_fail(void)
{
    uint_fast64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (left != 0) {
        if (atomic_compare_exchange_weak_explicit(&fail_countdown, &left, left - 1, memory_order_relaxed, memory_order_relaxed))
            return left == 1;
    }
    return 0;
}

void *ks_alloc(size_t size)
{
    if (must_fail() || size > SIZE_MAX - sizeof(head))
        return NULL;
    head *h = calloc(1, sizeof(head) + size);
    if (h == NULL)
        return NULL;
    h->size = size;
    atomic_fetch_add_explicit(&used_bytes, size, memory_order_relaxed);
    return h + 1;
}

void *ks_realloc(void *block, size_t size)
{
    if (block == NULL)
        return ks_alloc(size);
    if (must_fail() || size > SIZE_MAX - sizeof(head))
        return NULL;
    head *h = (head *)block - 1;
    size_t old = h->size;
    h = realloc(h, sizeof(head) + size);
    if (h == NULL)
        return NULL;
    h->size = size;
    atomic_fetch_add_explicit(&used_bytes, size, memory_order_relaxed);
    atomic_fetch_sub_explicit(&used_bytes, old, memory_order_relaxed);
    return h + 1;
}

void ks_free(void *block)
{
    if (block == NULL)
        return;
    head *h = (head *)block - 1;
    KS_ASSERT(ks_mem_used() >= h->size);
    atomic_fetch_sub_explicit(&used_bytes, h->size, memory_order_relaxed);
    free(h);
}

uint64_t ks_mem_used(void)
{
    return atomic_load_explicit(&used_bytes, memory_order_relaxed);
}

void ks_mem_set_bound(uint64_t bytes)
{
    atomic_store_explicit(&bound_bytes, bytes, memory_order_relaxed);
}

bool ks_mem_allows(uint64_t more)
{
    uint64_t bound = atomic_load_explicit(&bound_bytes, memory_order_relaxed), used = ks_mem_used();
    return used <= bound && more <= bound - used;
}

void ks_mem_fail_after(uint64_t n)
{
    atomic_store_explicit(&fail_countdown, n, memory_order_relaxed);
}

/* A chunk is aligned to its size, so a block's chunk is found by masking its address. */
struct ks_chunk {
    ks_pool *pool;
    ks_chunk *prev, *next; /* among pool->open; valid while it has a free block */
    void *free_list;       /* returned blocks, linked through their first word */
    uint32_t fresh;        /* blocks never handed out yet start at this index */
    uint32_t used;
};

#define CHUNK_HEAD 64u
_Static_assert(sizeof(struct ks_chunk) <= CHUNK_HEAD, "the blocks start behind the chunk's head");

static uint32_t chunk_blocks(const ks_pool *pool)
{
    return (uint32_t)((KS_CHUNK_BYTES - CHUNK_HEAD) / pool->block_bytes);
}

/* Blocks handed out, returned and fresh make up the chunk; what is open has room. */
KS_CHECKER void check_chunk(const ks_pool *pool, const ks_chunk *c)
{
    KS_ASSERT(c->pool == pool && c->used <= c->fresh && c->fresh <= chunk_blocks(pool));
    KS_ASSERT((c->free_list == NULL) == (c->used == c->fresh));
    KS_ASSERT(pool->used >= c->used && pool->spare <= KS_POOL_SPARE);
    KS_ASSERT(pool->open == NULL || pool->open->prev == NULL);
}

static void open_insert(ks_pool *pool, ks_chunk *c)
{
    c->prev = NULL;
    c->next = pool->open;
    if (c->next != NULL)
        c->next->prev = c;
    pool->open = c;
}

static void open_remove(ks_pool *pool, ks_chunk *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        pool->open = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
}

static void chunk_del(ks_chunk *c)
{
    atomic_fetch_sub_explicit(&used_bytes, KS_CHUNK_BYTES, memory_order_relaxed);
    free(c);
}

void ks_pool_init(ks_pool *pool, size_t block_bytes)
{
    memset(pool, 0, sizeof *pool);
    pool->block_bytes = (block_bytes + 15) & ~(size_t)15;
    KS_ASSERT(pool->block_bytes >= sizeof(void *) && chunk_blocks(pool) > 0);
}

void ks_pool_trim(ks_pool *pool)
{
    for (ks_chunk *c = pool->open, *next; c != NULL && pool->spare > 0; c = next) {
        next = c->next;
        if (c->used == 0) {
            open_remove(pool, c);
            pool->spare--;
            chunk_del(c);
        }
    }
}

void ks_pool_free(ks_pool *pool)
{
    KS_ASSERT(pool->used == 0);
    ks_pool_trim(pool);
    KS_ASSERT(pool->open == NULL && pool->spare == 0);
}

void *ks_pool_get(ks_pool *pool)
{
    ks_chunk *c = pool->open;
    if (c == NULL) {
        if (must_fail())
            return NULL;
        c = aligned_alloc(KS_CHUNK_BYTES, KS_CHUNK_BYTES);
        if (c == NULL)
            return NULL;
        atomic_fetch_add_explicit(&used_bytes, KS_CHUNK_BYTES, memory_order_relaxed);
        memset(c, 0, sizeof *c);
        c->pool = pool;
        open_insert(pool, c);
        pool->spare++;
    }
    KS_ASSERT(c->free_list != NULL || c->fresh < chunk_blocks(pool));
    void *block = c->free_list;
    if (block != NULL)
        memcpy(&c->free_list, block, sizeof(void *));
    else
        block = (uint8_t *)c + CHUNK_HEAD + (size_t)c->fresh++ * pool->block_bytes;
    if (c->used++ == 0)
        pool->spare--;
    if (c->free_list == NULL && c->fresh == chunk_blocks(pool))
        open_remove(pool, c);
    pool->used++;
    KS_CHECK(check_chunk(pool, c));
    return block;
}

void ks_pool_put(void *block)
{
    ks_chunk *c = (ks_chunk *)((uintptr_t)block & ~(uintptr_t)(KS_CHUNK_BYTES - 1));
    ks_pool *pool = c->pool;
    KS_CHECK(check_chunk(pool, c));
    KS_ASSERT(c->used > 0 && ((uintptr_t)block % KS_CHUNK_BYTES - CHUNK_HEAD) % pool->block_bytes == 0);
    KS_ASSERT(((uintptr_t)block % KS_CHUNK_BYTES - CHUNK_HEAD) / pool->block_bytes < c->fresh); /* it was handed out */
    KS_ASSERT(block != c->free_list);
    int was_full = c->free_list == NULL && c->fresh == chunk_blocks(pool);
    memcpy(block, &c->free_list, sizeof(void *));
    c->free_list = block;
    pool->used--;
    if (was_full)
        open_insert(pool, c);
    if (--c->used == 0 && ++pool->spare > KS_POOL_SPARE) {
        open_remove(pool, c);
        pool->spare--;
        chunk_del(c);
    }
}
