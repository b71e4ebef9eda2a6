/* SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/lock.h"
#include "engine/accept_queue.h"
#include "engine/listener.h"
#include "os/front.h"

#define EVENTS_MAX 128
/* A note that waits (linger, drain) is asked again so often: what it waits for may come true without a packet for this
 * engine. */
#define NOTE_POLL_MS 20u
#define OFFER_LATER_MS 20     /* to a listener that may be about to close */
/* About to sleep so long, an engine gives spare memory back first. */
#define QUIET_SLEEP_US 500000
#define SLEEP_MAX_US 60000000u
/* For so long after ks_engine_send was of use an engine sleeps for SENDING_SLEEP_MS at most, so that the timers which that
 * sets need not wake it. */
#define SENDING_US 1000000u
#define SENDING_SLEEP_MS 10u
/* Busy polling. Falling asleep and being woken costs a thread time, most where an idle core halts: so a wait that is likely
 * to be short is spent asking the kernel again and again. It is likely after so many short ones in a row, all for one session;
 * of many sessions no wait says how long the next will be. */
#define SHORT_WAIT_US 400u
#define SHORT_WAITS_LEAST 8u
/* An engine that polls and finds its core given to another program for so long needs eight times as many short waits before
 * it polls again, up to SHORT_WAITS_MOST. */
#define CORE_LOST_US 1000u
#define SHORT_WAITS_MOST 32768u
/* Time that may go into it, in times of what the turns took: between a question and its answer the delay itself counts. */
#define POLL_SHARE_DIALOG 6u
#define POLL_SHARE 2u
#define POLL_CREDIT_MAX_US 2000u

struct ks_engine {
    ks_core core;
    ks_ports ports;
    ks_clock clock;        /* set once */
    ks_source wake;        /* a pipe's reading end */
    int wake_fd;           /* its writing end */
    bool busy_poll;        /* set once */
    uint64_t poll_credit_us;
    uint32_t poll_after;   /* short waits */
    ks_note *waiting;      /* asked, not answered yet: the thread's own list */

    ks_lock turning; /* see engine.h; guards all of the above but wake_fd, and the next five */
    uint64_t slept_us, asleep_until_us; /* KS_NEVER: until something happens */
    uint64_t busy_us;        /* of this sleep, for polling */
    bool lost_core;          /* to another program, in this sleep */
    uint64_t sent_us;        /* when ks_engine_send was last of use */
    atomic_bool asleep;      /* a hint, for who does not hold it */

    ks_lock lock;
    pthread_cond_t answered;
    ks_note *notes;        /* guarded by lock, as are the next two */
    bool stopped;
    bool halt;

    atomic_bool looping;
};

static uint64_t clock_us(const ks_engine *e)
{
    return e->clock.now_us(e->clock.ctx);
}

static void read_clock(ks_engine *e)
{
    e->core.now_us = clock_us(e);
    e->core.now_ms = e->core.now_us / 1000;
}

/* It was to run again by then, and does now. */
static void note_stop(ks_engine *e, uint64_t due_us, uint64_t now_us)
{
    uint64_t late_ms = now_us > due_us ? (now_us - due_us) / 1000 : 0;
    if (late_ms >= KS_STOP_MS)
        e->core.resumed_ms = now_us / 1000;
    if (late_ms >= KS_STOP_LONG_MS)
        e->core.resumed_late_ms = now_us / 1000;
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
    e->wake_fd = e->ports.bell.wake_fd = fds[1];
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

ks_engine *ks_engine_new(ks_udp_way way, bool busy_poll, const ks_clock *clock, int *error)
{
    ks_engine *e = ks_alloc(sizeof *e);
    if (e == NULL) {
        *error = -ENOMEM;
        return NULL;
    }
    e->wake.fd = e->wake_fd = -1;
    ks_lock_init(&e->turning, KS_RANK_TURNING);
    ks_lock_init(&e->lock, KS_RANK_NOTES);
    pthread_cond_init(&e->answered, NULL);
    ks_seg_pools_init(&e->core.pools);
    ks_pool_init(&e->core.shards, KS_UDP_PACKET_MAX);
    ks_batch_init(&e->core.batch, &e->core.count, ks_port_failed);
    e->core.way = way;
    e->busy_poll = busy_poll && has_cores();
    e->poll_after = SHORT_WAITS_LEAST;
    e->clock = *clock;
    read_clock(e);
    if (ks_entropy_take(&e->core.batch.entropy, e->core.secret.bytes, sizeof e->core.secret.bytes) != KS_OK) {
        *error = -EAGAIN;
        ks_free(e);
        return NULL;
    }
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

/* Frees what was buried in this turn (ks_grave, core.h). */
static void free_graves(ks_core *core)
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
    free_graves(&e->core);
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
    ks_lock_destroy(&e->lock);
    ks_lock_destroy(&e->turning);
    ks_free(e);
}

void ks_engine_halt(ks_engine *e)
{
    ks_lock_take(&e->lock);
    e->halt = true;
    ks_lock_release(&e->lock);
    ks_bell_ring(e->wake_fd);
}

/* This thread is an engine's. What it runs of Python's, a codec, may meet a collection, and so a finalizer that asks. */
static _Thread_local bool answers;

int ks_engine_ask(ks_engine *e, ks_note *note)
{
    if (answers)
        return -EDEADLK;
    ks_lock_take(&e->lock);
    if (e->stopped) {
        ks_lock_release(&e->lock);
        return -ESHUTDOWN;
    }
    note->answered = false;
    note->next = e->notes;
    e->notes = note;
    bool first = note->next == NULL;
    ks_lock_release(&e->lock);
    if (first)
        ks_bell_ring(e->wake_fd);
    ks_lock_take(&e->lock);
    while (!note->answered)
        ks_lock_wait(&e->lock, &e->answered);
    ks_lock_release(&e->lock);
    return note->answer;
}

/* Asks the notes that wait, the new ones included, in the order of their arrival. */
static void read_notes(ks_engine *e)
{
    ks_lock_take(&e->lock);
    ks_note *fresh = e->notes;
    e->notes = NULL;
    ks_lock_release(&e->lock);
    ks_note *ordered = NULL;
    for (ks_note *next; fresh != NULL; fresh = next) {
        next = fresh->next;
        fresh->due_ms = e->core.now_ms + fresh->wait_ms;
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
        KS_ASSERT(!n->answered);
        int answer = n->run(e, n);
        if (answer == KS_EAGAIN && e->core.now_ms < n->due_ms) {
            at = &n->next;
            continue;
        }
        *at = n->next;
        ks_lock_take(&e->lock);
        n->answer = answer == KS_EAGAIN ? -ETIMEDOUT : answer;
        n->answered = any = true;
        ks_lock_release(&e->lock); /* n may be gone from here on */
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
        ks_ports_take_strays(&KS_OWNER(src, ks_engine, wake)->ports);
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
    bool offers = e->ports.offering != NULL;
    if (core->dirty != NULL || e->ports.more_head != NULL || (offers && !e->ports.offers_later))
        return 0;
    uint64_t due = ks_timers_next(&core->timers), now = clock_us(e);
    if (e->waiting != NULL && now / 1000 + NOTE_POLL_MS < due)
        due = now / 1000 + NOTE_POLL_MS;
    if (offers && now / 1000 + OFFER_LATER_MS < due)
        due = now / 1000 + OFFER_LATER_MS;
    /* See SENDING_US. */
    if (now - e->sent_us < SENDING_US && now / 1000 + SENDING_SLEEP_MS < due)
        due = now / 1000 + SENDING_SLEEP_MS;
    if (due == KS_NEVER && core->dialogs.riders == NULL)
        return -1;
    uint64_t due_us = due == KS_NEVER ? KS_NEVER : due * 1000;
    if (core->dialogs.riders != NULL && core->dialogs.ride_over_us < due_us)
        due_us = core->dialogs.ride_over_us;
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

/* The second half of a turn, when events and packets have been taken in: what is due, the sessions that were marked, what
 * accept() hears of, the batch, and the end of what ended. */
static void turn_sessions(ks_engine *e)
{
    ks_core *core = &e->core;
    for (ks_timer *t; (t = ks_timers_pop(&core->timers, core->now_ms)) != NULL;)
        ks_session_mark(KS_OWNER(t, ks_session, timer));
    ks_session *dirty = core->dirty;
    core->dirty = NULL;
    for (ks_session *next; dirty != NULL; dirty = next) {
        next = dirty->dirty_next;
        dirty->dirty = false;
        ks_session_turn(dirty);
    }
    ks_ports_offer_ripe(&e->ports);
    ks_batch_send(&core->batch);
    forget_ended(core);
    free_graves(core);
}

/* Asks for events again and again for busy_us, then sleeps for the rest of timeout_us. -> their number; *lost: another
 * program had the core. */
static int wait_for_events(ks_engine *e, int64_t busy_us, int64_t timeout_us, ks_source **changed, bool *lost)
{
    ks_poller *poller = &e->core.poller;
    uint64_t from = clock_us(e);
    int64_t passed = 0;
    *lost = false;
    if (timeout_us >= 0 && busy_us > timeout_us)
        busy_us = timeout_us;
    while (passed < busy_us && !*lost) {
        int n = ks_poller_wait(poller, 0, changed, EVENTS_MAX);
        if (n > 0)
            return n;
        sched_yield(); /* a thread that our last turn woke may have no other core */
        int64_t before = passed;
        passed = (int64_t)(clock_us(e) - from);
        *lost = passed - before > CORE_LOST_US;
    }
    int64_t left = timeout_us < 0 ? -1 : timeout_us > passed ? timeout_us - passed : 0;
    return ks_poller_wait(poller, left, changed, EVENTS_MAX);
}

/* At the end of a turn. How long the next wait may be spent polling. */
static uint64_t may_poll_us(ks_engine *e, uint64_t now_us)
{
    ks_core *core = &e->core;
    e->poll_credit_us += (now_us - core->now_us) * (core->dialogs.talker_answers ? POLL_SHARE_DIALOG : POLL_SHARE);
    if (e->poll_credit_us > POLL_CREDIT_MAX_US)
        e->poll_credit_us = POLL_CREDIT_MAX_US;
    if (!e->busy_poll || core->dialogs.short_waits < e->poll_after || e->poll_credit_us == 0)
        return 0;
    core->count.busy_polls++;
    return e->poll_credit_us < SHORT_WAIT_US ? e->poll_credit_us : SHORT_WAIT_US;
}

/* The wait is over: was it short, and what did polling cost of the credit? */
static void learn_wait(ks_engine *e, bool events)
{
    const uint64_t waited_us = e->core.now_us - e->slept_us, busy_us = e->busy_us;
    const bool lost = e->lost_core;
    if (lost)
        e->poll_after = e->poll_after < SHORT_WAITS_MOST / 8 ? e->poll_after * 8 : SHORT_WAITS_MOST;
    else if (busy_us > 0 && e->poll_after > SHORT_WAITS_LEAST)
        e->poll_after -= (e->poll_after - SHORT_WAITS_LEAST + 7) / 8;
    uint64_t polled_us = waited_us < busy_us ? waited_us : busy_us;
    e->poll_credit_us -= polled_us < e->poll_credit_us ? polled_us : e->poll_credit_us;
    KS_ASSERT(e->poll_after >= SHORT_WAITS_LEAST && e->poll_after <= SHORT_WAITS_MOST);
    if (waited_us > SHORT_WAIT_US || lost)
        e->core.dialogs.short_waits = 0;
    else if (events)
        e->core.dialogs.short_waits++;
}

int ks_engine_leave(ks_engine *e)
{
    ks_core *core = &e->core;
    int left = 0;
    core->draining = true;
    for (ks_port *p = e->ports.all; p != NULL; p = p->next)
        ks_port_drain(p);
    for (ks_session *s = core->sessions; s != NULL; s = s->next) {
        left += !ks_session_is_idle(s);
        if (s->smux && s->opener && s->streams != NULL && s->streams->src.fd < 0) {
            ks_session_mark(s); /* to say farewell: else the peer's own close would wait for an answer */
            left++;
        }
        for (ks_stream *st = s->streams; st != NULL; st = st->next)
            if (st->sending == KS_SENDING_OPEN) {
                st->src.readable = true; /* a look at the pair: what is there goes out, then FIN */
                ks_stream_mark(st);
                left += st->src.fd >= 0;
            }
    }
    return left;
}

int64_t ks_engine_sleep(ks_engine *e)
{
    ks_core *core = &e->core;
    KS_ASSERT(core->batch.n == 0 && core->graves == NULL); /* the last turn left nothing to send or to free */
    int64_t timeout_us = sleep_us(e);
    if (timeout_us < 0 || timeout_us >= QUIET_SLEEP_US) {
        ks_pool_trim(&core->pools.small);
        ks_pool_trim(&core->pools.large);
        ks_pool_trim(&core->shards);
    }
    e->slept_us = clock_us(e);
    note_stop(e, core->now_us, e->slept_us); /* in the midst of a turn */
    e->asleep_until_us = timeout_us < 0 ? KS_NEVER : e->slept_us + (uint64_t)timeout_us;
    e->busy_us = timeout_us != 0 ? may_poll_us(e, e->slept_us) : 0;
    atomic_store_explicit(&e->asleep, true, memory_order_relaxed);
    return timeout_us;
}

void ks_engine_wake(ks_engine *e, ks_source *const *changed, int count)
{
    ks_core *core = &e->core;
    atomic_store_explicit(&e->asleep, false, memory_order_relaxed);
    read_clock(e);
    note_stop(e, e->asleep_until_us, core->now_us);
    learn_wait(e, count > 0);
    for (int i = 0; i < count; i++)
        on_event(changed[i]);
    ks_ports_receive_more(&e->ports);
    read_notes(e);
    /* Sessions whose ACKs have waited long enough for data (riders, dialog.h). */
    while (core->dialogs.riders != NULL && core->now_us >= core->dialogs.ride_over_us)
        ks_session_end_ride(KS_OWNER(core->dialogs.riders, ks_session, dialog));
    turn_sessions(e);
}

static void turn(ks_engine *e)
{
    ks_source *changed[EVENTS_MAX];
    KS_ASSERT(ks_lock_is_mine(&e->turning)); /* a thread's engine; tests in virtual time have none */
    int64_t timeout_us = ks_engine_sleep(e), busy_us = (int64_t)e->busy_us;
    ks_lock_release(&e->turning);
    bool lost;
    int n = wait_for_events(e, busy_us, timeout_us, changed, &lost);
    ks_lock_take(&e->turning);
    e->lost_core = lost;
    ks_engine_wake(e, changed, n);
}

bool ks_engine_asleep(ks_engine *e)
{
    return atomic_load_explicit(&e->asleep, memory_order_relaxed);
}

int64_t ks_engine_send(ks_engine *e, uint64_t inode, const uint8_t *data, size_t size)
{
    ks_core *core = &e->core;
    if (!ks_lock_try(&e->turning))
        return 0;
    ks_hnode *n = ks_hash_find(&core->by_inode, KS_FRONT_KEY(inode, false));
    int64_t sent = -ENOTSOCK;
    if (n != NULL) {
        read_clock(e);
        sent = core->draining ? 0 : (int64_t)ks_stream_send_now(KS_OWNER(n, ks_stream, by_inode), data, size);
    }
    bool sooner = false;
    if (sent > 0) {
        uint64_t due = ks_timers_next(&core->timers);
        sooner = core->dirty != NULL || (due != KS_NEVER && due * 1000 < e->asleep_until_us);
        e->sent_us = core->now_us;
    }
    ks_lock_release(&e->turning);
    if (sooner)
        ks_bell_ring(e->wake_fd);
    return sent;
}

void ks_engine_end_of_turn(ks_engine *e)
{
    if (ks_engine_asleep(e))
        return;
    ks_lock_take(&e->turning);
    ks_lock_release(&e->turning);
}

bool ks_engine_is_running(const ks_engine *e)
{
    return atomic_load(&e->looping);
}

void ks_engine_loop(ks_engine *e)
{
    /* Signals are for the application's threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    atomic_store(&e->looping, true);
    answers = true;
    ks_lock_take(&e->turning);
    for (bool halt = false; !halt;) {
        turn(e);
        ks_lock_take(&e->lock);
        halt = e->halt;
        if (halt)
            e->stopped = true;
        ks_lock_release(&e->lock);
    }
    read_notes(e); /* what was asked before `stopped` was set */
    for (ks_note *n = e->waiting; n != NULL; n = n->next)
        n->due_ms = 0;
    read_notes(e); /* whoever still waits gets an answer */
    answers = false;
    atomic_store(&e->looping, false);
    e->core.draining = true; /* nobody would send again what ks_engine_send sends from now on */
    ks_lock_release(&e->turning);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
