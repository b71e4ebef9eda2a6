/* SPDX-License-Identifier: MIT */
/* Peers whose first stream finds no descriptor, or accept() far behind, stand in their owner's line as TCP's connections stand
 * in its queue: who came first is served first, and the first alone tries again from time to time. */
#ifndef KS_SESSION_LINE_H
#define KS_SESSION_LINE_H

#include "session/session.h"

/* Nobody stands before it. */
bool ks_session_is_first_in_line(const ks_session *session);
/* To the end, unless it stands there already. */
void ks_session_join_line(ks_session *session);
/* Out of it, wherever it stands; who is the first then has its turn. */
void ks_session_leave_line(ks_session *session);

#endif
