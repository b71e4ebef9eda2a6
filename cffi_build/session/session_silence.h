/* SPDX-License-Identifier: MIT */
/* A peer that is silent: when it is asked whether it is there, and when it counts as gone. The profile says so of the session,
 * a stream's options (ks_patience) of that stream's connection. The session asks as often as the least patient of its streams
 * wants it to, and ends with the most patient one; a stream whose patience ends before is reset alone. */
#ifndef KS_SESSION_SILENCE_H
#define KS_SESSION_SILENCE_H

#include "session/session.h"

/* In place of what was set before; all zeros: as the profile says. KS_OK or KS_ENOMEM, and then nothing has changed. */
int ks_stream_set_patience(ks_stream *stream, const ks_patience *patience);
/* In a turn: asks, or tells that we are here, when it is time. May end streams, and the session. */
void ks_session_check_silence(ks_session *session);
/* When that is to be called again at the latest; KS_NEVER. */
uint64_t ks_session_silence_due_ms(const ks_session *session);

#endif
