/* SPDX-License-Identifier: MIT */
/* A session's packet size: what path/pmtu.h decides, done. Pads go out beside the data, and KCP cuts to the size. */
#ifndef KS_SESSION_PMTU_H
#define KS_SESSION_PMTU_H

#include "session/session.h"

/* Before KCP is there. -> bytes of UDP payload that packets have at first */
uint32_t ks_session_begin_pmtu(ks_session *session);
/* After the flush of a turn. */
void ks_session_turn_pmtu(ks_session *session);
/* The session has had nothing to do for a second. */
void ks_session_calm_pmtu(ks_session *session);
/* When it has something to do by time alone, KS_NEVER. */
uint64_t ks_session_pmtu_due_ms(const ks_session *session);

#endif
