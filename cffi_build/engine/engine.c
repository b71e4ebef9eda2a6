/* SPDX-License-Identifier: MIT */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "front.h"

#define EVENTS_MAX 128
/* Rereads of a note that waits (linger, drain): its condition may come true without a packet for this engine. */
#define NOTE_POLL_MS 20u
/* About to sleep so long, an engine gives spare memory back first. */
#define QUIET_SLEEP_US 500000
#define SLEEP_MAX_US 60000000u
/* For so long after data was sent past it an engine sleeps but shortly. */
#define SENDING_US 1000000u
#define SENDING_SLEEP_MS 10u
/* Busy polling. Falling asleep and being woken costs a thread time, most where an idle core halts: so a wait that is likely
 * to be short is spent asking the kernel again and again. It is likely after so many short ones in a row, all for one session;
 * of many sessions no wait says how long the next will be. */
#define SHORT_WAIT_US 400u
#define SHORT_WAITS_LEAST 8u
/* Who polls and finds the core given to another program for so long waits for many more of them before the next time. */
#define CORE_LOST_US 1000u
#define SHORT_WAITS_MOST 32768u
/* Time that may go into it, in times of what the turns took: between a question and its answer the delay itself counts. */
#define POLL_SHARE_DIALOG 6u
#define POLL_SHARE 2u
#define POLL_CREDIT_MAX_US 2000u

struct ks_engine {
    ks_core core;
    ks_ports ports;
    ks_source wake;        /* a pipe's reading end */
    int wake_fd;           /* its writing end */
    bool busy_poll;        /* set once */
    uint64_t poll_credit_us;
    uint32_t poll_after;   /* short waits */
    ks_note *waiting;      /* asked, not answered yet: the thread's own list */

    pthread_mutex_t turning; /* see engine.h; guards all of the above but wake_fd, and the next two */
    uint64_t asleep_until_us;
    uint64_t sent_us;        /* when ks_engine_send was last of use */
    atomic_bool asleep;      /* a hint, for who does not hold it */

    pthread_mutex_t lock;
    pthread_cond_t answered;
    ks_note *notes;        /* guarded by lock, as are the next two */
    bool stopped;
    bool halt;
};

static uint64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t ks_clock_ms(void)
{
    return clock_us() / 1000;
}

static void read_clock(ks_core *core)
{
    core->now_us = clock_us();
    core->now_ms = core->now_us / 1000;
}

ks_core *ks_engine_core(ks_engine *e)
{
    return &e->core;
}

ks_ports *ks_engine_ports(ks_engine *e)
{
    return &e->ports;
}

static int make_wake(ks_engine *e)
{
    int fds[2];
    if (pipe(fds) < 0)
        return -errno;
    e->wake.fd = fds[0];
    e->wake.kind = KS_SOURCE_WAKE;
    e->wake_fd = e->ports.wake_fd = fds[1];
    ks_front_own(fds[0]);
    ks_front_own(fds[1]);
    for (int i = 0; i < 2; i++)
        if (fcntl(fds[i], F_SETFL, O_NONBLOCK) < 0 || fcntl(fds[i], F_SETFD, FD_CLOEXEC) < 0)
            return -errno;
    return ks_poller_add(&e->core.poller, &e->wake);
}

/* Whether anyone else could run while a thread polls. */
static bool has_cores(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set) > 1;
#endif
    return sysconf(_SC_NPROCESSORS_ONLN) > 1;
}

ks_engine *ks_engine_new(ks_udp_way way, bool busy_poll, int *error)
{
    ks_engine *e = ks_alloc(sizeof *e);
    if (e == NULL) {
        *error = -ENOMEM;
        return NULL;
    }
    e->wake.fd = e->wake_fd = -1;
    pthread_mutex_init(&e->turning, NULL);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->answered, NULL);
    ks_seg_pools_init(&e->core.pools);
    ks_pool_init(&e->core.shards, KS_UDP_PACKET_MAX);
    ks_batch_init(&e->core.batch, &e->core.count, ks_port_refused);
    e->core.way = way;
    e->busy_poll = busy_poll && has_cores();
    e->poll_after = SHORT_WAITS_LEAST;
    read_clock(&e->core);
    *error = ks_udp_rx_init(&e->core.rx) == KS_OK ? 0 : -ENOMEM;
    if (*error == 0)
        *error = ks_poller_init(&e->core.poller);
    if (*error == 0 && (*error = make_wake(e)) < 0)
        ks_poller_free(&e->core.poller);
    if (*error < 0) {
        ks_front_close(e->wake.fd);
        ks_front_close(e->wake_fd);
        ks_udp_rx_free(&e->core.rx);
        ks_free(e);
        return NULL;
    }
    return e;
}

static void dig(ks_core *core)
{
    while (core->graves != NULL) {
        ks_grave *g = core->graves;
        core->graves = g->next;
        ks_free(g->block);
    }
}

static void close_all(ks_engine *e)
{
    while (e->ports.all != NULL) {
        ks_port *p = e->ports.all;
        ks_port_unlisten(p); /* may already delete it */
        ks_port_del(p);
    }
    e->core.dirty = NULL;
    dig(&e->core);
}

void ks_engine_del(ks_engine *e)
{
    close_all(e);
    ks_poller_free(&e->core.poller);
    ks_front_close(e->wake.fd);
    ks_front_close(e->wake_fd);
    ks_timers_free(&e->core.timers);
    ks_seg_pools_free(&e->core.pools);
    ks_pool_free(&e->core.shards);
    ks_udp_rx_free(&e->core.rx);
    ks_free(e->core.codec_space);
    pthread_cond_destroy(&e->answered);
    pthread_mutex_destroy(&e->lock);
    pthread_mutex_destroy(&e->turning);
    ks_free(e);
}

static void ring(ks_engine *e)
{
    ssize_t n;
    do
        n = write(e->wake_fd, "", 1);
    while (n < 0 && errno == EINTR); /* a full pipe rings as well */
}

void ks_engine_halt(ks_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->halt = true;
    pthread_mutex_unlock(&e->lock);
    ring(e);
}

int ks_engine_ask(ks_engine *e, ks_note *note)
{
    pthread_mutex_lock(&e->lock);
    if (e->stopped) {
        pthread_mutex_unlock(&e->lock);
        return -ESHUTDOWN;
    }
    note->answered = false;
    note->next = e->notes;
    e->notes = note;
    bool first = note->next == NULL;
    pthread_mutex_unlock(&e->lock);
    if (first)
        ring(e);
    pthread_mutex_lock(&e->lock);
    while (!note->answered)
        pthread_cond_wait(&e->answered, &e->lock);
    pthread_mutex_unlock(&e->lock);
    return note->answer;
}

/* Asks the notes that wait, the new ones included, in the order of their arrival. */
static void read_notes(ks_engine *e)
{
    pthread_mutex_lock(&e->lock);
    ks_note *fresh = e->notes;
    e->notes = NULL;
    pthread_mutex_unlock(&e->lock);
    ks_note *ordered = NULL;
    for (ks_note *next; fresh != NULL; fresh = next) {
        next = fresh->next;
        fresh->next = ordered;
        ordered = fresh;
    }
    ks_note **tail = &e->waiting;
    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = ordered;

    bool any = false;
    for (ks_note **at = &e->waiting; *at != NULL;) {
        ks_note *n = *at;
        int answer = n->run(e, n);
        if (answer == KS_EAGAIN && e->core.now_ms < n->due_ms) {
            at = &n->next;
            continue;
        }
        *at = n->next;
        pthread_mutex_lock(&e->lock);
        n->answer = answer == KS_EAGAIN ? -ETIMEDOUT : answer;
        n->answered = any = true;
        pthread_mutex_unlock(&e->lock); /* n may be gone from here on */
    }
    if (any)
        pthread_cond_broadcast(&e->answered);
}

static void on_event(ks_source *src)
{
    char waste[64];
    if (src->fd < 0)
        return; /* closed earlier in this turn */
    switch (src->kind) {
    case KS_SOURCE_WAKE:
        while (read(src->fd, waste, sizeof waste) > 0)
            ;
        src->readable = false;
        ks_ports_bury_idle(&KS_OWNER(src, ks_engine, wake)->ports);
        break;
    case KS_SOURCE_PORT:
        if (src->readable)
            ks_port_receive(KS_OWNER(src, ks_port, src));
        break;
    case KS_SOURCE_LISTENER:
        ks_port_front_event(KS_OWNER(src, ks_port, front));
        break;
    case KS_SOURCE_STREAM:
        ks_stream_mark(KS_OWNER(src, ks_stream, src));
        break;
    }
}

/* How long, -1: until something happens. */
static int64_t sleep_us(const ks_engine *e)
{
    const ks_core *core = &e->core;
    if (core->dirty != NULL || e->ports.more_head != NULL)
        return 0;
    uint64_t due = ks_timers_next(&core->timers), now = clock_us();
    if (e->waiting != NULL && now / 1000 + NOTE_POLL_MS < due)
        due = now / 1000 + NOTE_POLL_MS;
    /* Timers that ks_engine_send sets wake nobody as long as they are no nearer than this. */
    if (now - e->sent_us < SENDING_US && now / 1000 + SENDING_SLEEP_MS < due)
        due = now / 1000 + SENDING_SLEEP_MS;
    if (due == KS_NEVER && core->riders == NULL)
        return -1;
    uint64_t due_us = due == KS_NEVER ? KS_NEVER : due * 1000;
    if (core->riders != NULL && core->ride_over_us < due_us)
        due_us = core->ride_over_us;
    return due_us <= now ? 0 : due_us - now > SLEEP_MAX_US ? (int64_t)SLEEP_MAX_US : (int64_t)(due_us - now);
}

/* Sessions that were marked again and then ended leave the list before their memory goes. */
static void forget_ended(ks_core *core)
{
    for (ks_session **at = &core->dirty; *at != NULL;)
        if ((*at)->state == KS_SESSION_ENDED)
            *at = (*at)->dirty_next;
        else
            at = &(*at)->dirty_next;
}

void ks_core_turn(ks_core *core)
{
    for (ks_timer *t; (t = ks_timers_pop(&core->timers, core->now_ms)) != NULL;)
        ks_session_mark(KS_OWNER(t, ks_session, timer));
    ks_session *dirty = core->dirty;
    core->dirty = NULL;
    for (ks_session *next; dirty != NULL; dirty = next) {
        next = dirty->dirty_next;
        dirty->dirty = false;
        ks_session_turn(dirty);
    }
    ks_batch_send(&core->batch);
    forget_ended(core);
    dig(core);
}

/* Asks for events again and again for busy_us, then sleeps for the rest of timeout_us. -> their number; *lost: another
 * program had the core. */
static int wait_for_events(ks_poller *poller, int64_t busy_us, int64_t timeout_us, ks_source **changed, bool *lost)
{
    uint64_t from = clock_us();
    int64_t passed = 0;
    if (timeout_us >= 0 && busy_us > timeout_us)
        busy_us = timeout_us;
    while (passed < busy_us && !*lost) {
        int n = ks_poller_wait(poller, 0, changed, EVENTS_MAX);
        if (n > 0)
            return n;
        sched_yield(); /* a thread that our last turn woke may have no other core */
        int64_t before = passed;
        passed = (int64_t)(clock_us() - from);
        *lost = passed - before > CORE_LOST_US;
    }
    int64_t left = timeout_us < 0 ? -1 : timeout_us > passed ? timeout_us - passed : 0;
    return ks_poller_wait(poller, left, changed, EVENTS_MAX);
}

/* At the end of a turn. How long the next wait may be spent polling. */
static uint64_t may_poll_us(ks_engine *e, uint64_t now_us)
{
    ks_core *core = &e->core;
    e->poll_credit_us += (now_us - core->now_us) * (core->talker_answers ? POLL_SHARE_DIALOG : POLL_SHARE);
    if (e->poll_credit_us > POLL_CREDIT_MAX_US)
        e->poll_credit_us = POLL_CREDIT_MAX_US;
    if (!e->busy_poll || core->short_waits < e->poll_after || e->poll_credit_us == 0)
        return 0;
    core->count.busy_polls++;
    return e->poll_credit_us < SHORT_WAIT_US ? e->poll_credit_us : SHORT_WAIT_US;
}

static void learn_wait(ks_engine *e, uint64_t waited_us, uint64_t busy_us, bool events, bool lost)
{
    if (lost)
        e->poll_after = e->poll_after < SHORT_WAITS_MOST / 8 ? e->poll_after * 8 : SHORT_WAITS_MOST;
    else if (busy_us > 0 && e->poll_after > SHORT_WAITS_LEAST)
        e->poll_after -= (e->poll_after - SHORT_WAITS_LEAST + 7) / 8;
    uint64_t polled_us = waited_us < busy_us ? waited_us : busy_us;
    e->poll_credit_us -= polled_us < e->poll_credit_us ? polled_us : e->poll_credit_us;
    if (waited_us > SHORT_WAIT_US || lost)
        e->core.short_waits = 0;
    else if (events)
        e->core.short_waits++;
}

static void turn(ks_engine *e)
{
    ks_core *core = &e->core;
    ks_source *changed[EVENTS_MAX];
    int64_t timeout_us = sleep_us(e);
    if (timeout_us < 0 || timeout_us >= QUIET_SLEEP_US) {
        ks_pool_trim(&core->pools.small);
        ks_pool_trim(&core->pools.large);
        ks_pool_trim(&core->shards);
    }
    uint64_t from_us = clock_us(), busy_us = timeout_us != 0 ? may_poll_us(e, from_us) : 0;
    e->asleep_until_us = timeout_us < 0 ? KS_NEVER : from_us + (uint64_t)timeout_us;
    atomic_store_explicit(&e->asleep, true, memory_order_relaxed);
    pthread_mutex_unlock(&e->turning);
    bool lost = false;
    int n = wait_for_events(&core->poller, (int64_t)busy_us, timeout_us, changed, &lost);
    atomic_store_explicit(&e->asleep, false, memory_order_relaxed);
    pthread_mutex_lock(&e->turning);
    read_clock(core);
    learn_wait(e, core->now_us - from_us, busy_us, n > 0, lost);
    for (int i = 0; i < n; i++)
        on_event(changed[i]);
    ks_ports_receive_more(&e->ports);
    read_notes(e);
    while (core->riders != NULL && core->now_us >= core->ride_over_us)
        ks_session_end_ride(core->riders);
    ks_core_turn(core);
}

bool ks_engine_asleep(ks_engine *e)
{
    return atomic_load_explicit(&e->asleep, memory_order_relaxed);
}

int64_t ks_engine_send(ks_engine *e, uint64_t inode, const uint8_t *data, size_t size)
{
    ks_core *core = &e->core;
    if (pthread_mutex_trylock(&e->turning) != 0)
        return 0;
    ks_hnode *n = ks_hash_find(&core->by_inode, KS_FRONT_KEY(inode, false));
    int64_t sent = -ENOTSOCK;
    if (n != NULL) {
        read_clock(core);
        sent = core->draining ? 0 : (int64_t)ks_stream_send_now(KS_OWNER(n, ks_stream, by_inode), data, size);
    }
    bool sooner = false;
    if (sent > 0) {
        uint64_t due = ks_timers_next(&core->timers);
        sooner = core->dirty != NULL || (due != KS_NEVER && due * 1000 < e->asleep_until_us);
        e->sent_us = core->now_us;
    }
    pthread_mutex_unlock(&e->turning);
    if (sooner)
        ring(e);
    return sent;
}

void ks_engine_loop(ks_engine *e)
{
    /* Signals are for the application's threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&e->turning);
    for (bool halt = false; !halt;) {
        turn(e);
        pthread_mutex_lock(&e->lock);
        halt = e->halt;
        if (halt)
            e->stopped = true;
        pthread_mutex_unlock(&e->lock);
    }
    read_notes(e); /* what was asked before `stopped` was set */
    for (ks_note *n = e->waiting; n != NULL; n = n->next)
        n->due_ms = 0;
    read_notes(e); /* whoever still waits gets an answer */
    e->core.draining = true; /* nobody would send again what ks_engine_send sends from now on */
    pthread_mutex_unlock(&e->turning);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
