/* SPDX-License-Identifier: MIT */
/* An engine with its ports, sessions and streams, in virtual time and without a thread: what whole sessions (world.h) and the
 * fuzzer of ports stand on. After every turn its counts must agree with its lists, and at its end nothing may be left. */
#ifndef HOST_H
#define HOST_H

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "check.h"
#include "engine/accept_queue.h"
#include "engine/engine.h"
#include "engine/listener.h"
#include "os/front.h"
#include "base/mem.h"

typedef struct {
    ks_engine *engine;
    ks_core *core;
    ks_ports *ports;
    const uint64_t *now_us;  /* whoever moves it owns it */
    uint64_t wake_us;        /* when it must be woken though nothing has happened; KS_NEVER */
    uint64_t turns;
    bool leaving;            /* its process is about to exit */
} host;

static uint64_t host_read_clock(void *ctx)
{
    return *(const uint64_t *)ctx;
}

static inline void host_sleep(host *h)
{
    int64_t us = ks_engine_sleep(h->engine);
    h->wake_us = us < 0 ? KS_NEVER : *h->now_us + (uint64_t)us;
    if (h->leaving && h->wake_us > *h->now_us + 20000)
        h->wake_us = *h->now_us + 20000; /* a note would wait, and be read again */
}

static inline void host_open(host *h, const uint64_t *now_us, ks_udp_way way)
{
    int error;
    ks_clock clock = {host_read_clock, (void *)(uintptr_t)now_us};
    memset(h, 0, sizeof *h);
    h->now_us = now_us;
    h->engine = ks_engine_new(way, false, &clock, &error);
    MUST(h->engine != NULL && error == 0);
    h->core = ks_engine_core(h->engine);
    h->ports = ks_engine_ports(h->engine);
    host_sleep(h);
}

/* ---- invariants ---- */

static inline void host_check_session(const ks_session *s, uint32_t *streams, uint32_t *half_open)
{
    uint32_t count = 0, buffered = 0, ready = 0, on_ready = 0;
    for (const ks_stream *st = s->streams; st != NULL; st = st->next) {
        MUST(st->session == s && (st->next == NULL || st->next->prev == st));
        MUST(st->src.fd >= 0 || (st->rx_count == 0 && st->app_fd < 0));
        count++;
        buffered += st->rx_charge;
        on_ready += st->on_ready;
    }
    for (const ks_stream *st = s->ready_head; st != NULL; st = st->ready_next, ready++)
        MUST(st->on_ready && (st->ready_next != NULL || s->ready_tail == st));
    MUST(s->state != KS_SESSION_ENDED);
    MUST(count <= (uint32_t)s->owner->profile.max_streams);
    MUST(count == s->by_sid.count && buffered == s->buffered && ready == on_ready);
    /* One segment may hold so many frames of one byte. */
    MUST(s->buffered <= s->buffer_limit + 1500 / (KS_SMUX_HEAD + 1) * (KS_SLICE_CHARGE + 1));
    MUST(ks_kcp_unacked(&s->kcp) <= s->kcp.cfg.snd_wnd + 2 * 64 + 16);
    MUST((s->bucket.rate == 0) == (s->kcp.budget == INT64_MAX));
    MUST(s->credit.validated || s->streams == NULL);
    *streams += count;
    *half_open += s->half_open;
}

static inline void host_check(const host *h)
{
    const ks_core *core = h->core;
    uint32_t sessions = 0, streams = 0, half_open = 0, in_ports = 0, half_open_in_ports = 0;
    for (const ks_session *s = core->sessions; s != NULL; s = s->next, sessions++)
        host_check_session(s, &streams, &half_open);
    for (const ks_port *p = h->ports->all; p != NULL; p = p->next) {
        uint32_t waiting = 0;
        for (const ks_stream *st = p->wait_head; st != NULL; st = st->wait_next, waiting++)
            MUST(st->app_fd >= 0 && (st->wait_next != NULL || p->wait_tail == st));
        MUST(waiting == p->waiting && p->sessions == p->by_peer.count);
        MUST(p->front.fd >= 0 || p->sessions > 0);
        MUST(p->by_address.count <= p->sessions && (p->parity_due == NULL || p->sessions > 0));
        uint32_t listed = 0;
        for (const ks_session *s = p->half_open_oldest; s != NULL; s = s->half_open_next, listed++)
            MUST(s->half_open && (s->half_open_next != NULL ? s->half_open_next->half_open_prev : p->half_open_newest) == s);
        MUST(listed == p->half_open);
        in_ports += p->sessions;
        half_open_in_ports += p->half_open;
    }
    MUST(sessions == core->session_count && sessions == in_ports && half_open == half_open_in_ports);
    MUST(streams == core->stream_count);
    MUST(core->count.curr_estab <= streams);
}

/* What stats() adds up: of the engine, and of its sessions. */
static inline ks_counters host_counts(const host *h)
{
    ks_counters c = h->core->count;
    for (const ks_session *s = h->core->sessions; s != NULL; s = s->next)
        ks_session_add_counts(s, &c);
    return c;
}

/* ---- turns ---- */

/* For what is done to its ports and sessions between two turns, as a note would do it within one. */
static inline void host_step_in(host *h)
{
    h->core->now_us = *h->now_us;
    h->core->now_ms = h->core->now_us / 1000;
    h->wake_us = *h->now_us;
}

/* One turn, if something has happened or is due. */
static inline bool host_turn(host *h)
{
    ks_source *changed[128];
    int n = ks_poller_wait(&h->core->poller, 0, changed, 128);
    if (n == 0 && h->wake_us > *h->now_us)
        return false;
    if (h->leaving)
        h->leaving = ks_engine_leave(h->engine) > 0;
    ks_engine_wake(h->engine, changed, n);
    host_sleep(h);
    h->turns++;
    host_check(h);
    return true;
}

/* Until nothing more happens at this moment. */
static inline void host_settle(host *h)
{
    for (int i = 0; host_turn(h); i++)
        MUST(i < 1000); /* or it spins */
}

/* The engine's end, which no session and no stream may outlive. */
static inline void host_close(host *h)
{
    while (h->ports->all != NULL) {
        ks_port *p = h->ports->all;
        ks_port_unlisten(p);
        ks_port_del(p);
    }
    host_step_in(h);
    (void)host_turn(h);
    const ks_core *core = h->core;
    MUST(core->session_count == 0 && core->stream_count == 0 && core->by_inode.count == 0);
    MUST(core->count.curr_estab == 0);
    MUST(core->pools.small.used + core->pools.large.used == 0);
    MUST(core->shards.used == 0);
    ks_engine_del(h->engine);
}

/* ---- its applications ---- */

/* A bound UDP socket on loopback. */
static inline int host_udp_socket(ks_addr *name)
{
    socklen_t len = sizeof *name;
    memset(name, 0, sizeof *name);
    name->in4.sin_family = AF_INET;
    name->in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    MUST(fd >= 0 && bind(fd, &name->sa, sizeof name->in4) == 0 && getsockname(fd, &name->sa, &len) == 0);
    return fd;
}

/* As listen(); udp is taken over. -> the application's end */
static inline int host_listen(host *h, int udp, const ks_settings *with, int backlog)
{
    int app, engine;
    MUST(ks_front_pair(&app, &engine, 0) == 0);
    ks_front_own(udp);
    ks_lobby *lobby = ks_lobby_new(backlog, 1);
    MUST(lobby != NULL);
    host_step_in(h);
    MUST(ks_port_listen(h->core, h->ports, lobby, udp, with, engine, ks_front_inode(app)) == 0);
    MUST(!ks_lobby_rest(lobby));
    ks_lobby_unref(lobby);
    return app;
}

/* As connect(), which is in progress then; udp, connected, is taken over. -> the application's end */
static inline int host_connect(host *h, int udp, const ks_settings *with)
{
    const ks_profile *p = with->profile;
    const bool smux = p->framing == KS_FRAMING_SMUX, messages = !smux && p->stream == 0;
    int app, engine, fill = 0, sndbuf = 0, filled = -1;
    MUST(ks_front_pair(&app, &engine, messages ? 4000 : 0) == 0);
    if (smux) {
        MUST((fill = ks_front_fill(app, &sndbuf)) > 0);
        MUST((filled = dup(app)) >= 0);
        ks_front_own(filled);
    }
    ks_front_own(udp);
    host_step_in(h);
    MUST(ks_port_connect(h->core, h->ports, udp, with, engine, ks_front_inode(app), filled, fill, sndbuf) == 0);
    return app;
}

/* -> the connection's A, or -1: none is ready */
static inline int host_accept(int listener)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } ctl;
    ks_accept_msg names;
    struct iovec iov = {&names, sizeof names};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof ctl};
    int fd = -1;
    if (recvmsg(listener, &m, MSG_DONTWAIT) != (ssize_t)sizeof names || CMSG_FIRSTHDR(&m) == NULL)
        return -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

static inline int host_lowest_free_fd(void)
{
    int fd = dup(STDOUT_FILENO);
    close(fd);
    return fd;
}

#endif
