/* SPDX-License-Identifier: MIT */
/* Frames put into KCP, and what makes us put them: a stream's end and reset, the session's opening and farewell, and the news that
 * an application has read. Each may end the session, for want of memory. */
#ifndef KS_SESSION_FRAMES_H
#define KS_SESSION_FRAMES_H

#include "session/session.h"

/* Bytes of whole frames. */
/* What follows KCP's receive window, when that has grown. */
void ks_session_follow_window(ks_session *session);
/* So many of our own frames are not acknowledged that the peer's, which make us send more, must wait. */
bool ks_session_owes_answers(ks_session *session);
void ks_session_put_bytes(ks_session *session, const uint8_t *data, uint32_t size);
/* A frame without payload; nothing with raw framing. */
void ks_session_put_frame(ks_session *session, ks_smux_cmd cmd, uint32_t sid);
/* The opener's first. */
void ks_session_put_opening(ks_session *session, uint32_t sid);
/* One FIN on stream 0 whose acknowledgment nobody waits for: the session ends now. */
void ks_session_farewell(ks_session *session);
/* The peer's SYN gets a reset. */
void ks_session_refuse_stream(ks_session *session, uint32_t sid);
void ks_stream_put_fin(ks_stream *stream);
/* Twice FIN: docs/protocol.md. */
void ks_stream_put_reset(ks_stream *stream);
/* The application is gone, and not all is well: the peer gets a reset, nothing more is sent or expected. */
void ks_stream_abort(ks_stream *stream);
/* Writes a stream's waiting data to E, and tells the peer. */
void ks_stream_deliver(ks_stream *stream);

#endif
