/* SPDX-License-Identifier: MIT */
/* Memory of the data plane: a counting allocator, and pools of equal blocks for segments.
 *
 * ks_alloc counts the bytes in use (ks_mem_used) and can be told to fail on the n-th call (ks_mem_fail_after), so that
 * tests walk every allocation. Any thread may call it. A pool belongs to one thread (its engine's); its blocks come
 * from 64 KiB chunks, and a chunk whose blocks are all free is given back, so memory shrinks again after a burst.
 *
 * A bound (KCPSOCK_MEMORY) says up to where windows that follow their connections may make use of it. No allocation
 * asks for it. */
#ifndef KS_MEM_H
#define KS_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed memory, or NULL. */
void *ks_alloc(size_t size);
/* Grows or shrinks; NULL leaves the old block as it was. New bytes are not zeroed. */
void *ks_realloc(void *block, size_t size);
/* NULL is allowed. */
void ks_free(void *block);
/* Bytes in use by ks_alloc, chunks of pools included. */
uint64_t ks_mem_used(void);
/* The bound, 1 GiB at first; whether `more` bytes than are in use would be within it. Any thread. */
void ks_mem_set_bound(uint64_t bytes);
bool ks_mem_allows(uint64_t more);
/* The n-th allocation from now fails (1 = the next), once; 0 switches that off. For tests. */
void ks_mem_fail_after(uint64_t n);

typedef struct ks_chunk ks_chunk;

/* Blocks of one size. */
typedef struct {
    size_t block_bytes;   /* a multiple of 16 */
    ks_chunk *open;       /* chunks with at least one free block, doubly linked */
    size_t spare;         /* chunks on that list without a used block: at most KS_POOL_SPARE */
    size_t used;          /* blocks handed out */
} ks_pool;

#define KS_CHUNK_BYTES 65536u
#define KS_POOL_SPARE 64u /* with 4, a window of 256 took 1.6 times the CPU: chunks came and went each round trip */

void ks_pool_init(ks_pool *pool, size_t block_bytes);
/* Gives the spare chunks back. Every block must have been returned. */
void ks_pool_free(ks_pool *pool);
/* A block, not zeroed, or NULL. */
void *ks_pool_get(ks_pool *pool);
/* The pool is found from the block. */
void ks_pool_put(void *block);
/* Gives back spare chunks that a burst left behind. */
void ks_pool_trim(ks_pool *pool);

#endif
