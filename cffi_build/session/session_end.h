/* SPDX-License-Identifier: MIT */
/* The ends of streams and of the session. Any step of a turn may come to them, so callers look at the session's state afterwards.
 * (ks_session_fail and ks_session_add_counts stand in session.h.) */
#ifndef KS_SESSION_END_H
#define KS_SESSION_END_H

#include "session/session.h"

/* Takes the filler of a connecting stream's pair out again. */
void ks_stream_drain_filler(ks_stream *stream);
/* Closes E; the stream may still await the peer's FIN. */
void ks_stream_end_front(ks_stream *stream);
void ks_stream_remove(ks_stream *stream);
/* What an adaptive sender has measured is kept for the next connection. -> false: it has measured nothing yet */
bool ks_session_note_path(const ks_session *session);
/* Ends it now, its streams too; its applications see the end of their streams. */
void ks_session_end(ks_session *session);

#endif
