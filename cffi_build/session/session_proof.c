/* SPDX-License-Identifier: MIT */
#include "session/session_proof.h"

#include "base/err.h"
#include "base/octets.h"
#include "session/session_end.h"
#include "session/session_streams.h"

#define AGAIN_FIRST_MS 200u
#define AGAIN_MAX_MS 2000u
#define AGAIN_HEARD_MS 20u /* so soon when something comes: with it came credit */

/* A new challenge, to be asked at once. */
static int ask_anew(ks_proof *p, ks_core *core, uint64_t due_ms)
{
    uint8_t stamp[4];
    if (ks_entropy_take(&core->batch.entropy, stamp, sizeof stamp) != KS_OK)
        return KS_EAGAIN;
    *p = (ks_proof){ks_get_le32(stamp), AGAIN_FIRST_MS, 0, due_ms};
    return KS_OK;
}

int ks_proof_begin(ks_proof *p, ks_core *core, bool opener)
{
    return ask_anew(p, core, opener ? KS_NEVER : 0);
}

void ks_proof_heard(ks_session *s)
{
    ks_proof *p = &s->proof;
    if (!s->credit.validated && p->due_ms != KS_NEVER && p->asked_ms + AGAIN_HEARD_MS < p->due_ms)
        p->due_ms = p->asked_ms + AGAIN_HEARD_MS;
}

void ks_proof_ask_for_life(ks_session *s)
{
    if (s->proof.due_ms == KS_NEVER)
        (void)ask_anew(&s->proof, s->core, s->core->now_ms); /* without a random number the next turn tries again */
}

static void take_answer(ks_session *s)
{
    s->proof.due_ms = KS_NEVER;
    if (s->credit.validated)
        return;
    ks_credit_validate(&s->credit);
    ks_kcp_take_most(&s->kcp, UINT32_MAX);
    if (!s->smux)
        ks_session_accept_stream(s, 1);
    if (!s->smux && s->streams == NULL && s->waiting_sid == 0)
        ks_session_end(s);
}

static void ask(ks_session *s)
{
    ks_proof *p = &s->proof;
    ks_kcp_challenge(&s->kcp, p->stamp);
    p->asked_ms = s->core->now_ms;
    p->due_ms = p->asked_ms + p->wait_ms;
    uint32_t interval_ms = s->impatience != NULL ? s->impatience->interval_ms : 0;
    p->wait_ms = ks_min32(2 * p->wait_ms, interval_ms > 0 ? interval_ms : AGAIN_MAX_MS);
}

/* Nothing more is to be asked. */
static bool is_over(const ks_session *s)
{
    if (!s->credit.validated)
        return s->state != KS_SESSION_HALF_OPEN;
    return s->state != KS_SESSION_OPEN || (s->proof.asked_ms != 0 && s->heard_ms >= s->proof.asked_ms);
}

void ks_proof_turn(ks_session *s)
{
    if (s->proof.due_ms == KS_NEVER)
        return;
    if (s->bye_rcvd && !s->credit.validated)
        ks_session_end(s); /* given up; nobody has heard of it */
    else if (ks_kcp_challenge_met(&s->kcp))
        take_answer(s);
    else if (is_over(s))
        s->proof.due_ms = KS_NEVER;
    else if (s->core->now_ms >= s->proof.due_ms)
        ask(s);
}
