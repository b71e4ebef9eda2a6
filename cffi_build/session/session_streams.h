/* SPDX-License-Identifier: MIT */
/* The life of a session's streams, from SYN to the end of both directions. Each of these may end the session. */
#ifndef KS_SESSION_STREAMS_H
#define KS_SESSION_STREAMS_H

#include "session/session.h"

ks_stream *ks_stream_find(const ks_session *session, uint32_t sid);
/* The peer opened it: offered to the owner. */
void ks_session_accept_stream(ks_session *session, uint32_t sid);
/* The peer has acknowledged the SYN. */
void ks_stream_established(ks_stream *stream);
/* The other end is gone, or we end it: no more to send, `error` for the application after what it can still read. */
void ks_stream_doom(ks_stream *stream, int error);
/* What the state of both directions now allows or demands. -> false when the stream is gone. */
bool ks_stream_settle(ks_stream *stream);

#endif
