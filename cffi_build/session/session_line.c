/* SPDX-License-Identifier: MIT */
#include "session/session_line.h"

bool ks_session_is_first_in_line(const ks_session *s)
{
    return s->owner->line_first == NULL || s->owner->line_first == s;
}

void ks_session_join_line(ks_session *s)
{
    ks_session_owner *o = s->owner;
    if (s->in_line)
        return;
    s->in_line = true;
    s->line_next = NULL;
    s->line_prev = o->line_last;
    if (o->line_last != NULL)
        o->line_last->line_next = s;
    else
        o->line_first = s;
    o->line_last = s;
}

void ks_session_leave_line(ks_session *s)
{
    ks_session_owner *o = s->owner;
    if (!s->in_line)
        return;
    s->in_line = false;
    if (s->line_prev != NULL)
        s->line_prev->line_next = s->line_next;
    else
        o->line_first = s->line_next;
    if (s->line_next != NULL)
        s->line_next->line_prev = s->line_prev;
    else
        o->line_last = s->line_prev;
    if (o->line_first != NULL)
        ks_session_mark(o->line_first);
}
