/* SPDX-License-Identifier: MIT */
/* What KS_CHECKS adds: an order of locks that is looked at, and the end of a process in which something does not hold. */
#include "base/lock.h"

#ifdef KS_CHECKS

#include <stdio.h>
#include <stdlib.h>

#define HELD_MAX 16u

#define KS_LOCK_NAME(rank, name, guards) name,
static const char *const names[KS_RANKS] = {KS_LOCKS(KS_LOCK_NAME)};

/* What this thread holds, the latest last; the GIL's lock is NULL. */
static _Thread_local struct {
    const ks_lock *lock;
    ks_rank rank;
} held[HELD_MAX];
static _Thread_local unsigned count;

void ks_check_failed(const char *condition, const char *file, int line, const char *function)
{
    fprintf(stderr, "kcpsock: %s:%d: %s: does not hold: %s\n", file, line, function, condition);
    abort();
}

_Noreturn static void refuse(ks_rank wanted, const char *how, ks_rank holding)
{
    fprintf(stderr, "kcpsock: the order of locks (lock.h): %s %s while %s is held\n", names[wanted], how, names[holding]);
    abort();
}

void ks_lock_note_taken(const ks_lock *lock, ks_rank rank, bool waits)
{
    KS_ASSERT(rank < KS_RANKS && (lock == NULL) == (rank == KS_RANK_GIL));
    for (unsigned i = 0; i < count; i++) {
        if (held[i].lock == lock && lock != NULL)
            refuse(rank, "taken a second time", rank);
        if (waits && held[i].rank >= rank)
            refuse(rank, "taken", held[i].rank);
    }
    KS_ASSERT(count < HELD_MAX);
    held[count].lock = lock;
    held[count++].rank = rank;
}

static unsigned place_of(const ks_lock *lock, ks_rank rank)
{
    unsigned i = count;
    while (i > 0 && (held[i - 1].lock != lock || held[i - 1].rank != rank))
        i--;
    return i;
}

void ks_lock_note_released(const ks_lock *lock, ks_rank rank)
{
    unsigned i = place_of(lock, rank);
    if (i == 0) {
        fprintf(stderr, "kcpsock: the order of locks (lock.h): %s let go of by a thread that does not hold it\n", names[rank]);
        abort();
    }
    for (; i < count; i++)
        held[i - 1] = held[i];
    count--;
}

void ks_lock_note_waiting(const ks_lock *lock)
{
    KS_ASSERT(ks_lock_is_mine(lock));
    for (unsigned i = 0; i < count; i++)
        if (held[i].lock != lock)
            refuse(lock->rank, "waited with for a condition", held[i].rank);
}

bool ks_lock_is_mine(const ks_lock *lock)
{
    return place_of(lock, lock->rank) > 0;
}

#else
typedef int ks_lock_has_no_code; /* ISO C wants something here */
#endif
