/* SPDX-License-Identifier: MIT */
#include "os/poller.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "os/front.h"
#include "base/mem.h"

static int whole_ms(int64_t timeout_us)
{
    return timeout_us < 0 ? -1 : timeout_us > 60000000 ? 60000 : (int)((timeout_us + 999) / 1000);
}

#if defined(__linux__) && !defined(KS_PLAIN)

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

/* epoll_pwait2, Linux 5.11, by its number: glibc knows it from 2.35 on. -ENOSYS where there is none. */
static int wait_fine(int epoll_fd, struct epoll_event *events, int max, int64_t timeout_us)
{
#ifdef SYS_epoll_pwait2
    struct timespec timeout = {.tv_sec = timeout_us / 1000000, .tv_nsec = timeout_us % 1000000 * 1000};
    int n = (int)syscall(SYS_epoll_pwait2, epoll_fd, events, max, &timeout, NULL, (size_t)0);
    return n < 0 ? -errno : n;
#else
    (void)epoll_fd, (void)events, (void)max, (void)timeout_us;
    return -ENOSYS;
#endif
}

int ks_poller_init(ks_poller *p)
{
    memset(p, 0, sizeof *p);
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll_fd < 0)
        return -errno;
    ks_front_own(p->epoll_fd);
    struct epoll_event none;
    p->fine = wait_fine(p->epoll_fd, &none, 1, 0) == 0;
    return 0;
}

void ks_poller_free(ks_poller *p)
{
    ks_front_close(p->epoll_fd);
}

static int ask(ks_poller *p, ks_source *s, int op, bool out)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = s};
    ev.events |= out ? (uint32_t)EPOLLOUT : 0u;
    s->out_asked = out;
    return epoll_ctl(p->epoll_fd, op, s->fd, &ev) < 0 ? -errno : 0;
}

int ks_poller_add(ks_poller *p, ks_source *s)
{
    KS_ASSERT(s->fd >= 0 && !s->readable && !s->hung_up); /* nothing is known yet */
    s->writable = true;
    return ask(p, s, EPOLL_CTL_ADD, false);
}

void ks_poller_blocked(ks_poller *p, ks_source *s)
{
    KS_ASSERT(s->fd >= 0);
    s->writable = false;
    if (!s->out_asked)
        (void)ask(p, s, EPOLL_CTL_MOD, true); /* what is there already is told too */
}

void ks_poller_del(ks_poller *p, ks_source *s)
{
    KS_ASSERT(s->fd >= 0);
    /* Needed although close() follows: a forked child may hold a copy of the descriptor for a moment. */
    epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
}

int ks_poller_wait(ks_poller *p, int64_t timeout_us, ks_source **changed, int max)
{
    struct epoll_event ev[128];
    max = max < 128 ? max : 128;
    bool moment = timeout_us > 0 && timeout_us < 1000 && p->fine;
    KS_ASSERT(max > 0);
    int n = moment ? wait_fine(p->epoll_fd, ev, max, timeout_us) : epoll_wait(p->epoll_fd, ev, max, whole_ms(timeout_us));
    for (int i = 0; i < n; i++) {
        ks_source *s = ev[i].data.ptr;
        KS_ASSERT(s->fd >= 0); /* what was closed is not watched */
        if (ev[i].events == EPOLLOUT && s->writable)
            (void)ask(p, s, EPOLL_CTL_MOD, false); /* a wake for nothing: an application's reads make room all the time */
        s->readable |= (ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        s->writable |= (ev[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
        s->read_end |= (ev[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        s->hung_up |= (ev[i].events & EPOLLHUP) != 0;
        changed[i] = s;
    }
    return n < 0 ? 0 : n;
}

#else

#include <poll.h>

int ks_poller_init(ks_poller *p)
{
    memset(p, 0, sizeof *p);
    p->epoll_fd = -1;
    return 0;
}

void ks_poller_free(ks_poller *p)
{
    ks_free(p->sources);
    ks_free(p->pollfds);
}

int ks_poller_add(ks_poller *p, ks_source *s)
{
    if (p->count == p->capacity) {
        uint32_t capacity = p->capacity ? p->capacity * 2 : 16;
        ks_source **sources = ks_realloc(p->sources, capacity * sizeof *sources);
        if (sources == NULL)
            return -ENOMEM;
        p->sources = sources;
        struct pollfd *fds = ks_realloc(p->pollfds, capacity * sizeof *fds);
        if (fds == NULL)
            return -ENOMEM;
        p->pollfds = fds;
        p->capacity = capacity;
    }
    KS_ASSERT(s->fd >= 0 && p->count < p->capacity);
    s->place = p->count;
    s->writable = true;
    p->sources[p->count++] = s;
    return 0;
}

void ks_poller_blocked(ks_poller *p, ks_source *s)
{
    (void)p;
    s->writable = false;
}

void ks_poller_del(ks_poller *p, ks_source *s)
{
    KS_ASSERT(s->place < p->count && p->sources[s->place] == s);
    ks_source *last = p->sources[--p->count];
    p->sources[s->place] = last;
    last->place = s->place;
}

int ks_poller_wait(ks_poller *p, int64_t timeout_us, ks_source **changed, int max)
{
    struct pollfd *fds = p->pollfds;
    for (uint32_t i = 0; i < p->count; i++) {
        const ks_source *s = p->sources[i];
        KS_ASSERT(s->place == i && s->fd >= 0);
        /* A hung-up descriptor would be reported for ever: it has told all it can. */
        fds[i].fd = s->hung_up ? -1 : s->fd;
        fds[i].events = (short)((s->readable ? 0 : POLLIN) | (s->writable ? 0 : POLLOUT));
        fds[i].revents = 0;
    }
    int left = poll(fds, p->count, whole_ms(timeout_us)), n = 0;
    for (uint32_t i = 0; i < p->count && left > 0 && n < max; i++) {
        ks_source *s = p->sources[i];
        if (fds[i].revents == 0)
            continue;
        left--;
        s->readable |= (fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0;
        s->writable |= (fds[i].revents & (POLLOUT | POLLHUP | POLLERR)) != 0;
        s->read_end = true; /* without POLLRDHUP nobody knows: only a read of 0 bytes tells */
        s->hung_up |= (fds[i].revents & POLLHUP) != 0;
        changed[n++] = s;
    }
    return n;
}

#endif
