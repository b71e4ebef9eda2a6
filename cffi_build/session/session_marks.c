/* SPDX-License-Identifier: MIT */
#include "session/session_marks.h"

void ks_session_mark(ks_session *s)
{
    if (s->dirty || s->state == KS_SESSION_ENDED)
        return;
    s->dirty = true;
    s->dirty_next = s->core->dirty;
    s->core->dirty = s;
}

void ks_stream_ready(ks_stream *st)
{
    ks_session *s = st->session;
    if (st->on_ready)
        return;
    st->on_ready = true;
    st->ready_next = NULL;
    if (s->ready_tail != NULL)
        s->ready_tail->ready_next = st;
    else
        s->ready_head = st;
    s->ready_tail = st;
}

ks_stream *ks_session_next_ready(ks_session *s)
{
    ks_stream *st = s->ready_head;
    if (st == NULL)
        return NULL;
    s->ready_head = st->ready_next;
    if (s->ready_head == NULL)
        s->ready_tail = NULL;
    st->on_ready = false;
    return st;
}

void ks_stream_mark(ks_stream *st)
{
    ks_stream_ready(st);
    ks_session_mark(st->session);
}
