/* SPDX-License-Identifier: MIT */
/* What has work: sessions that this turn or the next one takes up, and in each the streams that it serves. A mark costs nothing
 * when it is there already. (ks_session_mark and ks_stream_mark stand in session.h.) */
#ifndef KS_SESSION_MARKS_H
#define KS_SESSION_MARKS_H

#include "session/session.h"

/* Puts it among the streams to be served in this turn or the next. */
void ks_stream_ready(ks_stream *stream);
/* Takes the first of these, or NULL. */
ks_stream *ks_session_next_ready(ks_session *session);

#endif
