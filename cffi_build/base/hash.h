/* SPDX-License-Identifier: MIT */
/* A chained hash table over nodes that live inside their owners. Keys are 64 bits, already well mixed or small numbers;
 * several nodes may share one: ks_hash_find gives the first, ks_hash_next the following ones. */
#ifndef KS_HASH_H
#define KS_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/checks.h"
#include "base/err.h"
#include "base/mem.h"

typedef struct ks_hnode {
    struct ks_hnode *next;
    uint64_t key;
} ks_hnode;

typedef struct {
    ks_hnode **bucket; /* NULL while empty */
    uint32_t capacity; /* a power of two */
    uint32_t count;
} ks_hash;

/* The owner of a node. */
#define KS_OWNER(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))

static inline uint64_t ks_mix(uint64_t x)
{
    /* splitmix64's finisher: every input bit reaches every output bit */
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline ks_hnode **ks_hash_bucket(const ks_hash *h, uint64_t key)
{
    KS_ASSERT(h->capacity > 0 && (h->capacity & (h->capacity - 1)) == 0);
    return &h->bucket[ks_mix(key) & (h->capacity - 1)];
}

static inline int ks_hash_resize(ks_hash *h, uint32_t capacity)
{
    ks_hash to = {ks_alloc(capacity * sizeof *to.bucket), capacity, h->count};
    if (to.bucket == NULL)
        return KS_ENOMEM;
    for (uint32_t i = 0; i < h->capacity; i++)
        for (ks_hnode *n = h->bucket[i], *next; n != NULL; n = next) {
            next = n->next;
            ks_hnode **b = ks_hash_bucket(&to, n->key);
            n->next = *b;
            *b = n;
        }
    ks_free(h->bucket);
    *h = to;
    return KS_OK;
}

/* KS_OK, or KS_ENOMEM for the very first node only: a table that can't grow goes on with longer chains. */
static inline int ks_hash_insert(ks_hash *h, ks_hnode *node, uint64_t key)
{
    KS_ASSERT((h->count == 0) == (h->bucket == NULL) && (h->bucket == NULL) == (h->capacity == 0));
    if (h->count >= h->capacity && ks_hash_resize(h, h->capacity ? h->capacity * 2 : 4) != KS_OK && h->capacity == 0)
        return KS_ENOMEM;
    ks_hnode **b = ks_hash_bucket(h, key);
    node->key = key;
    node->next = *b;
    *b = node;
    KS_ASSERT(node->next != node); /* it was not in here */
    h->count++;
    return KS_OK;
}

static inline ks_hnode *ks_hash_next(const ks_hnode *node)
{
    uint64_t key = node->key;
    do
        node = node->next;
    while (node != NULL && node->key != key);
    return (ks_hnode *)node;
}

static inline ks_hnode *ks_hash_find(const ks_hash *h, uint64_t key)
{
    if (h->capacity == 0)
        return NULL;
    ks_hnode *n = *ks_hash_bucket(h, key);
    while (n != NULL && n->key != key)
        n = n->next;
    return n;
}

/* The node must be in the table. The last one out gives the table's memory back. */
static inline void ks_hash_remove(ks_hash *h, ks_hnode *node)
{
    KS_ASSERT(h->count > 0);
    ks_hnode **at = ks_hash_bucket(h, node->key);
    while (*at != node) {
        KS_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = node->next;
    if (--h->count == 0) {
        ks_free(h->bucket);
        *h = (ks_hash){0};
    }
}

/* For walking the whole table; the node given last may have been removed since, if its successor was taken before. */
static inline ks_hnode *ks_hash_first(const ks_hash *h, uint32_t *bucket)
{
    for (; *bucket < h->capacity; ++*bucket)
        if (h->bucket[*bucket] != NULL)
            return h->bucket[*bucket];
    return NULL;
}

#endif
