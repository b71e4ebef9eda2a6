/* SPDX-License-Identifier: MIT */
#include "path/known.h"

#include <string.h>

#include "base/lock.h"

#define SETS 64u
#define WAYS 4u
#define AGE_US UINT64_C(600000000)

typedef struct {
    uint8_t address[16];
    uint32_t scope;
    uint16_t family;     /* 0: free */
    uint32_t least_us;
    uint32_t mtu;        /* bytes of UDP payload; 0: not known */
    uint64_t rate, at_us; /* 0: not known */
    uint64_t mtu_at_us;
    uint64_t used_us;    /* the latest of both */
} known_path;

static ks_lock table_lock = KS_LOCK_INIT(KS_RANK_KNOWN);
static known_path table[SETS][WAYS];

/* The address alone: ports change from connection to connection. */
static known_path key_of(const ks_addr *a)
{
    known_path k = {.family = a->sa.sa_family};
    if (k.family == AF_INET6) {
        memcpy(k.address, &a->in6.sin6_addr, 16);
        k.scope = a->in6.sin6_scope_id;
    } else
        memcpy(k.address, &a->in4.sin_addr, 4);
    return k;
}

static known_path *set_of(const known_path *key)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < sizeof key->address; i++)
        hash = (hash ^ key->address[i]) * 16777619u;
    return table[(hash ^ hash >> 16) % SETS];
}

static bool is_same(const known_path *a, const known_path *b)
{
    return a->family == b->family && a->scope == b->scope && memcmp(a->address, b->address, sizeof a->address) == 0;
}

/* The entry of that address; if there is none, it takes the place of the oldest. The lock is held. */
static known_path *place_of(const known_path *key)
{
    known_path *set = set_of(key), *to = &set[0];
    for (uint32_t i = 0; i < WAYS; i++) {
        if (is_same(&set[i], key))
            return &set[i];
        if (set[i].used_us < to->used_us)
            to = &set[i];
    }
    *to = *key;
    return to;
}

bool ks_known_note(const ks_addr *peer, const ks_path *path, uint64_t now_us)
{
    uint64_t rate = ks_path_proven_rate(path);
    if (rate == 0)
        return false;
    known_path k = key_of(peer);
    ks_lock_take(&table_lock);
    known_path *to = place_of(&k);
    to->rate = rate;
    to->least_us = path->least_us;
    to->at_us = to->used_us = now_us;
    ks_lock_release(&table_lock);
    return true;
}

void ks_known_note_mtu(const ks_addr *peer, uint32_t bytes, uint64_t now_us)
{
    known_path k = key_of(peer);
    ks_lock_take(&table_lock);
    known_path *to = place_of(&k);
    to->mtu = bytes;
    to->mtu_at_us = to->used_us = now_us;
    ks_lock_release(&table_lock);
}

/* What is known of the address; a free entry: nothing. */
static known_path look_up(const ks_addr *peer)
{
    known_path k = key_of(peer), found = {0};
    const known_path *set = set_of(&k);
    ks_lock_take(&table_lock);
    for (uint32_t i = 0; i < WAYS; i++)
        if (is_same(&set[i], &k))
            found = set[i];
    ks_lock_release(&table_lock);
    return found;
}

void ks_known_recall(const ks_addr *peer, ks_path *path, uint64_t now_us)
{
    known_path found = look_up(peer);
    if (found.rate > 0 && now_us - found.at_us < AGE_US)
        ks_path_resume(path, found.rate, found.least_us);
}

uint32_t ks_known_mtu(const ks_addr *peer, uint64_t now_us)
{
    known_path found = look_up(peer);
    return now_us - found.mtu_at_us < AGE_US ? found.mtu : 0;
}

void ks_known_forget_holder(void)
{
    ks_lock_init(&table_lock, KS_RANK_KNOWN);
}
