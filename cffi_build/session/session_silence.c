/* SPDX-License-Identifier: MIT */
#include "session/session_silence.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/octets.h"
#include "session/session_frames.h"
#include "session/session_proof.h"

#define DEAF_MS 30000u        /* what waits is given up if nothing was heard for so long */

/* ---- patience ---- */

static bool is_default(const ks_patience *p)
{
    return (p->idle_ms | p->interval_ms | p->silence_ms | p->unacked_ms | p->connect_ms) == 0;
}

int ks_stream_set_patience(ks_stream *st, const ks_patience *patience)
{
    ks_session *s = st->session;
    const bool none = is_default(patience);
    if (st->patience == NULL && none)
        return KS_OK;
    if (s->impatience == NULL && (s->impatience = ks_alloc(sizeof *s->impatience)) == NULL)
        return KS_ENOMEM;
    s->impatience->changed = true;
    if (st->patience == NULL && (st->patience = ks_alloc(sizeof *st->patience)) == NULL)
        return KS_ENOMEM;
    *st->patience = *patience;
    if (none) {
        ks_free(st->patience);
        st->patience = NULL;
    }
    s->impatience->since_ms = s->core->now_ms;
    ks_session_mark(s);
    return KS_OK;
}

/* The lesser one, of those that are set. */
static uint32_t lesser(uint32_t a, uint32_t b)
{
    return a == 0 ? b : b == 0 ? a : ks_min32(a, b);
}

static uint32_t profiles_silence_ms(const ks_session *s)
{
    return (uint32_t)s->owner->profile.keepalive_timeout_ms;
}

/* The silence that a stream bears. What bounds unacknowledged data bounds silence too (tcp(7), TCP_USER_TIMEOUT), but nobody
 * is silent who was not asked: one question, at least, has been without an answer for its time. */
static uint32_t silence_ms(const ks_session *s, const ks_stream *st)
{
    const ks_patience *p = st->patience;
    if (p == NULL || (p->silence_ms | p->unacked_ms) == 0)
        return profiles_silence_ms(s);
    if (p->unacked_ms == 0)
        return p->silence_ms;
    uint32_t idle = p->idle_ms > 0 ? p->idle_ms : s->keepalive_ms;
    uint32_t interval = p->interval_ms > 0 ? p->interval_ms : s->keepalive_ms;
    return ks_max32(p->unacked_ms, idle + ks_min32(interval, p->unacked_ms));
}

/* How long what was sent may be without acknowledgment; 0: for any time. */
static uint32_t unacked_ms(const ks_session *s, const ks_stream *st)
{
    const ks_patience *p = st->patience;
    if (p == NULL)
        return 0;
    return s->state == KS_SESSION_CONNECTING ? lesser(p->unacked_ms, p->connect_ms) : p->unacked_ms;
}

/* One that has been ended already waits for its application alone. */
static bool is_doomed(const ks_stream *st)
{
    return st->receiving == KS_RECEIVING_DOOMED;
}

static void find_impatience(ks_session *s)
{
    ks_impatience least = {.since_ms = s->impatience->since_ms};
    for (const ks_stream *st = s->streams; st != NULL; st = st->next) {
        if (is_doomed(st))
            continue;
        least.silence_ms = lesser(least.silence_ms, silence_ms(s, st));
        least.unacked_ms = lesser(least.unacked_ms, unacked_ms(s, st));
        least.idle_ms = lesser(least.idle_ms, st->patience != NULL ? st->patience->idle_ms : 0);
        least.interval_ms = lesser(least.interval_ms, st->patience != NULL ? st->patience->interval_ms : 0);
    }
    if (least.silence_ms == 0)
        least.silence_ms = profiles_silence_ms(s);
    /* What a connect may take, an established connection may not. */
    least.changed = s->state == KS_SESSION_CONNECTING;
    *s->impatience = least;
}

/* ---- silence ---- */

static bool keeps_alive(const ks_session *s)
{
    bool is_there = s->smux || s->kcp.heard_ack || s->kcp.rcv_nxt > 0; /* raw: connect() has asked nobody */
    return is_there && s->credit.validated && s->keepalive_ms > 0 &&
           (s->state == KS_SESSION_OPEN || s->state == KS_SESSION_HALF_OPEN);
}

/* When a silent peer is asked; with smux it has a frame of ours at times besides. */
static uint64_t ask_due_ms(const ks_session *s)
{
    uint32_t own = s->impatience != NULL ? s->impatience->idle_ms : 0;
    uint32_t idle = s->smux ? own : lesser(own, s->keepalive_ms);
    return idle == 0 || !keeps_alive(s) || s->proof.due_ms != KS_NEVER ? KS_NEVER : s->heard_ms + idle;
}

/* When it is told that somebody is there. Options don't make that rarer: smux in Go ends sessions that are silent. */
static uint64_t nop_due_ms(const ks_session *s)
{
    return s->smux && keeps_alive(s) ? s->framed_ms + s->keepalive_ms : KS_NEVER;
}

/* Silence counts from here at the earliest: before, we could not hear. What a stop of half a second is to a session depends on its
 * timeout: a short one must not keep a dead peer of a long one alive. */
static uint64_t listens_since_ms(const ks_session *s, uint32_t timeout_ms)
{
    return timeout_ms >= 2 * KS_STOP_LONG_MS ? s->core->resumed_late_ms : s->core->resumed_ms;
}

/* When something was acknowledged last, or went out with nothing before it under way. */
static uint64_t progress_ms(const ks_session *s)
{
    const uint64_t now = s->core->now_ms;
    return now - (uint32_t)((uint32_t)now - s->kcp.progress);
}

/* When silence has lasted that long. While what was sent is not acknowledged, what the peer sends itself does not say that it
 * hears us. */
static uint64_t silent_until_ms(const ks_session *s, uint32_t timeout_ms)
{
    uint64_t heard = s->kcp.stalled && progress_ms(s) < s->heard_ms ? progress_ms(s) : s->heard_ms;
    const ks_impatience *own = s->impatience;
    if (own != NULL && heard + own->idle_ms < own->since_ms)
        heard = own->since_ms - own->idle_ms; /* it is asked from then on: before, it had no reason to say anything */
    if (keeps_alive(s))
        return ks_max64(heard, listens_since_ms(s, timeout_ms)) + timeout_ms;
    /* Without keepalive only what waits tells that nobody is there: it was sent often enough. */
    if (s->kcp.dead && (own == NULL || own->unacked_ms == 0))
        return ks_max64(s->heard_ms, s->core->resumed_late_ms) + DEAF_MS;
    return KS_NEVER;
}

static uint64_t unacked_until_ms(const ks_session *s, uint32_t timeout_ms)
{
    if (timeout_ms == 0 || s->kcp.snd_una == s->kcp.snd_nxt || s->state > KS_SESSION_OPEN)
        return KS_NEVER;
    /* As with TCP, where this is asked when something was sent again: no round trip may be too long for it. */
    uint32_t enough_ms = ks_max32(timeout_ms, 2 * s->kcp.rto);
    return ks_max64(progress_ms(s), listens_since_ms(s, timeout_ms)) + enough_ms;
}

static bool is_over(const ks_session *s, const ks_stream *st)
{
    return s->core->now_ms >= silent_until_ms(s, silence_ms(s, st)) || s->core->now_ms >= unacked_until_ms(s, unacked_ms(s, st));
}

/* The least patient of its streams gives up: with all the others, or alone. */
static void time_out(ks_session *s)
{
    bool others = false;
    for (const ks_stream *st = s->streams; st != NULL; st = st->next)
        others |= !is_doomed(st) && !is_over(s, st);
    if (!others) {
        ks_session_fail(s, ETIMEDOUT);
        return;
    }
    for (ks_stream *st = s->streams, *next; st != NULL && s->state != KS_SESSION_ENDED; st = next) {
        next = st->next;
        if (!is_doomed(st) && is_over(s, st))
            ks_stream_reset(st, ETIMEDOUT);
    }
    s->impatience->changed = true;
}

static uint64_t gone_ms(const ks_session *s)
{
    const ks_impatience *own = s->impatience;
    if (own == NULL || own->silence_ms == 0) /* not found yet */
        return silent_until_ms(s, profiles_silence_ms(s));
    return ks_min64(silent_until_ms(s, own->silence_ms), unacked_until_ms(s, own->unacked_ms));
}

void ks_session_check_silence(ks_session *s)
{
    const uint64_t now = s->core->now_ms;
    if (s->impatience != NULL && s->impatience->changed)
        find_impatience(s);
    if (now >= gone_ms(s)) {
        time_out(s);
        return;
    }
    if (now >= ask_due_ms(s))
        ks_proof_ask_for_life(s);
    if (now >= nop_due_ms(s))
        ks_session_put_frame(s, KS_SMUX_NOP, 0);
}

uint64_t ks_session_silence_due_ms(const ks_session *s)
{
    return ks_min64(gone_ms(s), ks_min64(ask_due_ms(s), nop_due_ms(s)));
}
