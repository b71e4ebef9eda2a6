/* SPDX-License-Identifier: MIT */
/* The window that a stream offers to its peer (smux version 2), and what the session may hold for its applications. */
#ifndef KS_STREAM_WINDOW_H
#define KS_STREAM_WINDOW_H

#include "session/session.h"

/* Where a stream's window begins: as many bytes as KCP's holds. */
uint32_t ks_session_stream_window(const ks_session *session);
/* What waits for the applications of a new session at most. */
uint32_t ks_session_first_buffer(const ks_session *session);
/* What may wait now, by KS_SLICE_CHARGE's count. */
uint32_t ks_session_buffer_limit(const ks_session *session);
/* The application took so many bytes. -> true: a UPD is due. A window that follows may be another by then. */
bool ks_stream_window_read(ks_stream *stream, uint32_t bytes);
/* KCP's window has grown: so does that of the stream that data came for last, which a loss may keep from being read.
 * -> true: a UPD is due. */
bool ks_stream_window_follow(ks_stream *stream);
/* Of an idle session, which holds nothing: the limit is what its streams' windows need. */
void ks_session_fit_buffer(ks_session *session);

#endif
