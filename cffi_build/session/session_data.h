/* SPDX-License-Identifier: MIT */
/* Data between the applications' descriptors and KCP, in both directions. Each of these but the first may end the session. */
#ifndef KS_SESSION_DATA_H
#define KS_SESSION_DATA_H

#include "session/session.h"

/* Whether the applications' buffers and our own answers leave room for more of the peer's data. */
bool ks_session_may_receive(ks_session *session);
/* Parses what KCP has in order. */
void ks_session_receive(ks_session *session);
/* Where the session's buffer is full: writes what can be written, so that it drains before more is parsed. */
void ks_session_deliver(ks_session *session);
/* Puts application data that stands in no pair into KCP. -> bytes taken, 0 also when it must go through the pair. */
size_t ks_stream_put(ks_stream *stream, const uint8_t *data, size_t size);
/* Serves the streams in turn, both directions, until nobody can move. */
void ks_session_serve(ks_session *session);

#endif
