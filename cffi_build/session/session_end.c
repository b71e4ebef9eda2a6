/* SPDX-License-Identifier: MIT */
#include "session/session_end.h"

#include <unistd.h>

#include "os/front.h"
#include "path/known.h"
#include "session/session_line.h"
#include "smux/codec.h"

/* ---- streams ---- */

static void list_remove(ks_session *s, ks_stream *st)
{
    if (st->prev != NULL)
        st->prev->next = st->next;
    else
        s->streams = st->next;
    if (st->next != NULL)
        st->next->prev = st->prev;
    ks_hash_remove(&s->by_sid, &st->by_sid);
    if (st->on_ready) {
        /* Rare (a stream dies while others are being served): the list is short, so it is searched. */
        ks_stream *before = NULL;
        for (ks_stream *at = s->ready_head; at != st; at = at->ready_next)
            before = at;
        if (before != NULL)
            before->ready_next = st->ready_next;
        else
            s->ready_head = st->ready_next;
        if (s->ready_tail == st)
            s->ready_tail = before;
        st->on_ready = false;
    }
}

void ks_stream_drain_filler(ks_stream *st)
{
    char waste[4096];
    while (st->fill_bytes > 0) {
        ssize_t n = read(st->src.fd, waste, st->fill_bytes < (int)sizeof waste ? (size_t)st->fill_bytes : sizeof waste);
        if (n <= 0)
            break;
        st->fill_bytes -= (int)n;
    }
}

void ks_stream_end_front(ks_stream *st)
{
    ks_session *s = st->session;
    if (st->src.fd < 0)
        return;
    if (ks_stream_is_connecting(st))
        ks_stream_drain_filler(st); /* closing over unread data would tell the application ECONNRESET */
    else
        s->core->count.curr_estab--;
    if ((st->app_fd >= 0 && !ks_stream_is_connecting(st)) || st->handed)
        s->owner->withdraw(s->owner, st);
    s->buffered -= st->rx_charge;
    ks_stream_close_front(s->core, st);
    st->orphan_ms = s->core->now_ms;
}

void ks_stream_remove(ks_stream *st)
{
    ks_stream_end_front(st);
    if (st->patience != NULL)
        st->session->impatience->changed = true;
    list_remove(st->session, st);
    ks_stream_del(st->session->core, st);
}

/* ---- the session ---- */

void ks_session_add_counts(const ks_session *s, ks_counters *to)
{
#define ADD(member, name, meaning) to->member += from->member;
    {
        const ks_session_counts *from = &s->count;
        KS_SESSION_COUNTERS(ADD)
    }
    {
        const ks_kcp_counts *from = &s->kcp.count;
        KS_KCP_COUNTERS(ADD)
    }
    if (s->decoder != NULL) {
        const ks_fec_counts *from = ks_fec_decoder_counts(s->decoder);
        KS_FEC_COUNTERS(ADD)
    }
#undef ADD
}

bool ks_session_note_path(const ks_session *s)
{
    return s->kcp.cfg.adaptive && s->kcp.sender != NULL &&
           ks_known_note(&s->peer, &s->kcp.sender->path, s->core->now_us);
}

void ks_session_end(ks_session *s)
{
    if (s->state == KS_SESSION_ENDED)
        return;
    while (s->streams != NULL)
        ks_stream_remove(s->streams);
    ks_core *core = s->core;
    s->state = KS_SESSION_ENDED;
    ks_session_leave_line(s);
    ks_dialog_forget(&core->dialogs, &s->dialog);
    /* What the batch refers to lies in our segments. */
    ks_batch_send(&core->batch);
    ks_timer_set(&core->timers, &s->timer, KS_NEVER);
    ks_session_add_counts(s, &core->count);
    (void)ks_session_note_path(s);
    ks_kcp_free(&s->kcp);
    if (s->codec != 0)
        (void)ks_codec_call(s->codec, KS_CODEC_CLOSE, NULL, 0, NULL, 0);
    ks_fec_encoder_del(s->encoder);
    ks_fec_decoder_del(s->decoder);
    ks_free(s->impatience);
    s->encoder = NULL;
    s->decoder = NULL;
    s->impatience = NULL;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        core->sessions = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    core->session_count--;
    s->owner->ended(s->owner, s);
    ks_core_bury(core, &s->grave, s);
}

void ks_session_fail(ks_session *s, int error)
{
    if (s->state == KS_SESSION_ENDED)
        return;
    for (ks_stream *st = s->streams; st != NULL; st = st->next)
        if (st->src.fd >= 0 && error != 0)
            ks_front_bury(st->by_inode.key >> 1, error);
    ks_session_end(s);
}
