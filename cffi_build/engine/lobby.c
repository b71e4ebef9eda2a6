/* SPDX-License-Identifier: MIT */
#include "engine/lobby.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#ifdef __linux__
#include <linux/sockios.h>
#endif

#include "base/checks.h"
#include "base/lock.h"
#include "base/err.h"
#include "base/mem.h"

#define CLOSING_MS 100u /* a close that is told comes sooner */

struct ks_lobby {
    ks_lock lock;
    uint32_t refs, busy;
    int wake_fds[KS_LOBBY_PORTS_MAX];
    uint32_t ports;
    atomic_uint backlog, waiting; /* read for each new session, without the lock */
    uint32_t sent;                /* messages written to the pair */
    uint32_t standing;            /* the first that accept() may not have taken, <= sent */
    int message_outq;             /* what one message adds to the pair's fill, 0 = not known */
    bool closing_told;
    _Atomic uint64_t closing_until_ms; /* as backlog */
    ks_strays *strays;                 /* its own lock guards it; NULL: there is one engine */
};

ks_lobby *ks_lobby_new(int backlog, int engines)
{
    ks_lobby *l = ks_alloc(sizeof *l);
    if (l == NULL)
        return NULL;
    if (engines > 1 && (l->strays = ks_strays_new()) == NULL) {
        ks_free(l);
        return NULL;
    }
    ks_lock_init(&l->lock, KS_RANK_LOBBY);
    l->refs = l->busy = 1;
    ks_lobby_reopen(l, backlog);
    return l;
}

static void unlock_and_unref(ks_lobby *l)
{
    KS_ASSERT(l->refs > l->ports); /* each port has one, and so has who calls */
    bool last = --l->refs == 0;
    KS_ASSERT(!last || l->busy == 0);
    ks_lock_release(&l->lock);
    if (last) {
        ks_lock_destroy(&l->lock);
        ks_strays_del(l->strays);
        ks_free(l);
    }
}

void ks_lobby_unref(ks_lobby *l)
{
    ks_lock_take(&l->lock);
    unlock_and_unref(l);
}

int ks_lobby_join(ks_lobby *l, int wake_fd)
{
    ks_lock_take(&l->lock);
    bool room = l->ports < KS_LOBBY_PORTS_MAX;
    if (room) {
        KS_ASSERT(l->busy > 0 && l->refs > 0); /* the listener that it comes for is */
        l->wake_fds[l->ports++] = wake_fd;
        l->refs++;
        l->busy++;
    }
    ks_lock_release(&l->lock);
    return room ? KS_OK : KS_ENOMEM;
}

void ks_lobby_leave(ks_lobby *l, int wake_fd)
{
    ks_lock_take(&l->lock);
    KS_ASSERT(l->ports > 0);
    for (uint32_t i = 0; i < l->ports; i++)
        if (l->wake_fds[i] == wake_fd) {
            l->wake_fds[i] = l->wake_fds[--l->ports];
            break;
        }
    unlock_and_unref(l);
}

void ks_lobby_hold(ks_lobby *l)
{
    ks_lock_take(&l->lock);
    KS_ASSERT(l->busy > 0); /* once over, over for ever */
    l->busy++;
    ks_lock_release(&l->lock);
}

bool ks_lobby_enter(ks_lobby *l)
{
    ks_lock_take(&l->lock);
    bool lives = l->busy > 0;
    if (lives) {
        l->busy++;
        l->refs++;
    }
    ks_lock_release(&l->lock);
    return lives;
}

bool ks_lobby_rest(ks_lobby *l)
{
    ks_lock_take(&l->lock);
    KS_ASSERT(l->busy > 0 && l->refs > 0);
    bool over = --l->busy == 0;
    for (uint32_t i = 0; over && l->ports > 1 && i < l->ports; i++)
        ks_bell_ring(l->wake_fds[i]);
    ks_lock_release(&l->lock);
    return over;
}

bool ks_lobby_is_over(ks_lobby *l)
{
    ks_lock_take(&l->lock);
    bool over = l->busy == 0;
    ks_lock_release(&l->lock);
    return over;
}

ks_strays *ks_lobby_strays(const ks_lobby *l)
{
    return l->strays;
}

void ks_lobby_reopen(ks_lobby *l, int backlog)
{
    ks_lock_take(&l->lock);
    atomic_store(&l->backlog, backlog < 0 ? 0u : (unsigned)backlog);
    l->standing = l->sent;
    l->closing_told = false;
    atomic_store(&l->closing_until_ms, 0);
    ks_lock_release(&l->lock);
}

void ks_lobby_queue(ks_lobby *l, int change)
{
    unsigned before = atomic_fetch_add_explicit(&l->waiting, (unsigned)change, memory_order_relaxed);
    KS_ASSERT(before + (unsigned)change <= INT32_MAX); /* no more leave the lists than came */
    (void)before;
}

bool ks_lobby_is_full(ks_lobby *l)
{
    return atomic_load_explicit(&l->waiting, memory_order_relaxed) > atomic_load_explicit(&l->backlog, memory_order_relaxed);
}

/* Bytes that stand in the pair, by the kernel's way of counting; -1 where it does not tell. */
static int pair_fill(int fd)
{
    int fill = -1;
#if defined(SIOCOUTQ) && !defined(KS_PLAIN)
    if (ioctl(fd, SIOCOUTQ, &fill) < 0)
        fill = -1;
#endif
    return fd < 0 ? -1 : fill;
}

/* Messages leave the pair in order: the fill tells how many are left. */
static void look(ks_lobby *l, int fd)
{
    int fill = pair_fill(fd);
    uint32_t most = l->sent - l->standing;
    KS_ASSERT(most <= INT32_MAX); /* standing <= sent */
    if (fill > 0 && l->message_outq == 0 && most == 1)
        l->message_outq = fill;
    uint32_t left = fill < 0 || l->message_outq == 0 ? 0 : (uint32_t)(fill / l->message_outq);
    if (left < most)
        l->standing = l->sent - left;
}

ssize_t ks_lobby_send(ks_lobby *l, int fd, const struct msghdr *message, uint32_t *number, uint32_t *standing)
{
    ks_lock_take(&l->lock);
    ssize_t n = sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL);
    int error = errno;
    if (n >= 0) {
        *number = l->sent++;
        l->closing_told = false;
        look(l, fd);
    }
    *standing = l->standing;
    ks_lock_release(&l->lock);
    errno = error;
    return n;
}

void ks_lobby_count(ks_lobby *l, int fd, uint32_t *waiting, uint32_t *backlog)
{
    ks_lock_take(&l->lock);
    look(l, fd);
    *waiting = l->sent - l->standing + atomic_load(&l->waiting);
    *backlog = atomic_load(&l->backlog);
    ks_lock_release(&l->lock);
}

void ks_lobby_closing(ks_lobby *l, int fd, uint64_t now_ms)
{
    ks_lock_take(&l->lock);
    look(l, fd);
    l->closing_told = true;
    atomic_store(&l->closing_until_ms, now_ms + CLOSING_MS);
    ks_lock_release(&l->lock);
}

bool ks_lobby_is_closing(ks_lobby *l, uint64_t now_ms)
{
    return now_ms < atomic_load_explicit(&l->closing_until_ms, memory_order_relaxed);
}

bool ks_lobby_was_closing(ks_lobby *l, uint32_t *standing)
{
    ks_lock_take(&l->lock);
    bool told = l->closing_told;
    *standing = l->standing;
    ks_lock_release(&l->lock);
    return told;
}
