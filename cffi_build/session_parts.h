/* SPDX-License-Identifier: MIT */
/* What the three files of a session know of each other; nobody else includes this. Each leans on those before it, except
 * that any of them may end the session (ks_session_fail), so callers look at its state afterwards.
 *
 *   session_streams.c  marks, frames put into KCP, the life of streams
 *   session_data.c     received data to applications, applications' data into KCP
 *   session.c          the session's life, its packets, its turn */
#ifndef KS_SESSION_PARTS_H
#define KS_SESSION_PARTS_H

#include "session.h"

/* How long several ACKs wait for data to ride on: what an application takes to answer, and far below any RTO. */
#define KS_RIDE_US 100u
/* Data that follows received data within the first answers it; within the second, the next question is awaited. */
#define KS_ANSWER_US 200u
#define KS_DIALOG_US 10000u

/* ---- session_streams.c ---- */

/* Puts it among the streams to be served in this turn or the next. */
void ks_stream_ready(ks_stream *stream);
/* Takes the first of these, or NULL. */
ks_stream *ks_session_next_ready(ks_session *session);

void ks_session_put_bytes(ks_session *session, const uint8_t *data, uint32_t size);
/* A frame without payload; nothing with raw framing. */
void ks_session_put_frame(ks_session *session, ks_smux_cmd cmd, uint32_t sid);
void ks_stream_put_fin(ks_stream *stream);
/* Twice FIN: docs/protocol.md. */
void ks_stream_put_reset(ks_stream *stream);

ks_stream *ks_stream_find(const ks_session *session, uint32_t sid);
/* The peer opened it: offered to the owner. May end the session. */
void ks_session_accept_stream(ks_session *session, uint32_t sid);
void ks_session_refuse_stream(ks_session *session, uint32_t sid);
void ks_stream_established(ks_stream *stream);
/* The other end is gone, or we end it: no more to send, `error` for the application after what it can still read. */
void ks_stream_doom(ks_stream *stream, int error);
/* Closes E; the stream may still await the peer's FIN. */
void ks_stream_end_front(ks_stream *stream);
void ks_stream_remove(ks_stream *stream);
/* What the state of both directions now allows or demands. -> false when the stream is gone. */
bool ks_stream_settle(ks_stream *stream);

/* ---- session_data.c ---- */

/* Whether the applications' buffers and our own answers leave room for more of the peer's data. */
bool ks_session_may_receive(const ks_session *session);
/* Parses what KCP has in order. */
void ks_session_receive(ks_session *session);
/* Writes a stream's waiting data to E. */
void ks_stream_deliver(ks_stream *stream);
/* Where the session's buffer is full: writes what can be written, so that it drains before more is parsed. */
void ks_session_deliver(ks_session *session);
/* Puts application data that stands in no pair into KCP. -> bytes taken, 0 also when it must go through the pair. */
size_t ks_stream_put(ks_stream *stream, const uint8_t *data, size_t size);
/* Serves the streams in turn, both directions, until nobody can move. */
void ks_session_serve(ks_session *session);

/* ---- session.c ---- */

void ks_session_end(ks_session *session);
/* One FIN on stream 0 whose acknowledgment nobody waits for: the session ends now. */
void ks_session_farewell(ks_session *session);

#endif
