/* SPDX-License-Identifier: MIT */
/* A session's packets on their way to the batch: what may go to the peer's address (credit.h), at what rate (bucket.h), with which
 * copies and parity. (ks_session_send_oob and ks_session_set_rate_limit stand in session.h.) */
#ifndef KS_SESSION_OUTPUT_H
#define KS_SESSION_OUTPUT_H

#include "session/session.h"

/* Sends what KCP has due. */
void ks_session_flush_due(ks_session *session);
/* Sends a KCP packet alone, without FEC, copies and parity, which nobody on the way may cut. -> false: the interface does not take one
 * so long. */
bool ks_session_send_whole(ks_session *session, const uint8_t *packet, size_t size);
/* Sends all that the windows allow, now and without tokens: the last that it sends. */
void ks_session_flush_all(ks_session *session);
/* When data that waits for tokens may go on, KS_NEVER if none does. */
uint64_t ks_session_tokens_due_ms(const ks_session *session);

#endif
