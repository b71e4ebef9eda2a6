/* SPDX-License-Identifier: MIT */
/* Mutexes that know their place in the order of all locks, so that no two threads ever wait for each other.
 *
 * A thread may take a lock while it holds others if all of these stand above it in KS_LOCKS; it waits for a condition with
 * that condition's lock alone. ks_lock_try waits for nobody and so may stand anywhere. With KS_CHECKS (checks.h) each thread
 * keeps the list of what it holds, and what is against the order ends the process with both names. In the product a ks_lock
 * is a pthread_mutex_t.
 *
 * Python's lock (the GIL) stands among them: C takes it to call a codec or a cipher that is written in Python. No thread
 * waits for a lock of C's while it holds the GIL, since cffi lets go of it around each call; only who comes back into C from
 * such a call may take what stands below. Python's own locks stand before all of C's (docs/architecture.md has both). */
#ifndef KS_LOCK_H
#define KS_LOCK_H

#include <pthread.h>
#include <stdbool.h>

#include "base/checks.h"

/* In the order in which they may be taken: rank, name, what it guards. */
#define KS_LOCKS(EACH) \
    EACH(KS_RANK_TURNING, "engine.turning", "an engine with all that it owns, but for its sleep") \
    EACH(KS_RANK_CRYPTS, "crypts.table_lock", "the table of crypts") \
    EACH(KS_RANK_GIL, "the GIL", "Python, while C calls a codec or a cipher of its") \
    EACH(KS_RANK_LOBBY, "lobby.lock", "what the ports of one listener share") \
    EACH(KS_RANK_STRAYS, "strays.lock", "packets on their way to another port of a lobby") \
    EACH(KS_RANK_NOTES, "engine.lock", "an engine's notes and their answers") \
    EACH(KS_RANK_OOB, "oob.lock", "the making of the pair for out-of-band packets") \
    EACH(KS_RANK_KNOWN, "known.table_lock", "what is known of the paths to peers") \
    EACH(KS_RANK_ARQ, "arq.table_lock", "ARQs alone (bare/)") \
    EACH(KS_RANK_FEC, "fec_alone.table_lock", "FEC alone (bare/)")

#define KS_LOCK_RANK(rank, name, guards) rank,
typedef enum { KS_LOCKS(KS_LOCK_RANK) KS_RANKS } ks_rank;
#undef KS_LOCK_RANK

typedef struct {
    pthread_mutex_t mutex;
#ifdef KS_CHECKS
    ks_rank rank;
#endif
} ks_lock;

#ifdef KS_CHECKS
#define KS_LOCK_INIT(of_rank) {PTHREAD_MUTEX_INITIALIZER, of_rank}
/* lock: NULL for the GIL. waits: until it is free, so that the order matters. */
void ks_lock_note_taken(const ks_lock *lock, ks_rank rank, bool waits);
void ks_lock_note_released(const ks_lock *lock, ks_rank rank);
/* Only this one is held. */
void ks_lock_note_waiting(const ks_lock *lock);
bool ks_lock_is_mine(const ks_lock *lock);
#else
#define KS_LOCK_INIT(of_rank) {PTHREAD_MUTEX_INITIALIZER}
#define ks_lock_note_taken(lock, rank, waits) ((void)0)
#define ks_lock_note_released(lock, rank) ((void)0)
#define ks_lock_note_waiting(lock) ((void)0)
/* For KS_ASSERT alone. */
bool ks_lock_is_mine(const ks_lock *lock);
#endif

/* Also over a lock that a thread of a forked child's parent may have held: it is made anew. */
static inline void ks_lock_init(ks_lock *lock, ks_rank rank)
{
    (void)pthread_mutex_init(&lock->mutex, NULL);
#ifdef KS_CHECKS
    lock->rank = rank;
#else
    (void)rank;
#endif
}

static inline void ks_lock_destroy(ks_lock *lock)
{
    pthread_mutex_destroy(&lock->mutex);
}

static inline void ks_lock_take(ks_lock *lock)
{
    ks_lock_note_taken(lock, lock->rank, true);
    pthread_mutex_lock(&lock->mutex);
}

/* Without waiting. -> whether it is taken. */
static inline bool ks_lock_try(ks_lock *lock)
{
    bool taken = pthread_mutex_trylock(&lock->mutex) == 0;
    if (taken)
        ks_lock_note_taken(lock, lock->rank, false);
    return taken;
}

static inline void ks_lock_release(ks_lock *lock)
{
    ks_lock_note_released(lock, lock->rank);
    pthread_mutex_unlock(&lock->mutex);
}

/* Lets go of the lock, which is held, until the condition is signalled (or for no reason). */
static inline void ks_lock_wait(ks_lock *lock, pthread_cond_t *condition)
{
    ks_lock_note_waiting(lock);
    pthread_cond_wait(condition, &lock->mutex);
}

/* Around a call that takes the GIL. */
static inline void ks_python_enter(void)
{
    ks_lock_note_taken(NULL, KS_RANK_GIL, true);
}

static inline void ks_python_leave(void)
{
    ks_lock_note_released(NULL, KS_RANK_GIL);
}

#endif
