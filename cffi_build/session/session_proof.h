/* SPDX-License-Identifier: MIT */
/* A session's challenges (challenge.h). An accepting one asks the peer that began it to prove its address. Until it is answered the session keeps what comes, some packets of
 * it, and acknowledges; its application hears nothing, and so what a stranger wrote or a recording says does not reach it.
 * With raw framing, which has no frame for that, a challenge also asks a peer that says nothing whether it is there. */
#ifndef KS_SESSION_PROOF_H
#define KS_SESSION_PROOF_H

#include "session/session.h"

/* For a new session. KS_OK, or KS_EAGAIN: the system had no random number. */
int ks_proof_begin(ks_proof *proof, ks_core *core, bool opener);
/* A packet came. */
void ks_proof_heard(ks_session *session);
/* Nothing was heard for long: asks, more and more rarely, until something is. */
void ks_proof_ask_for_life(ks_session *session);
/* In a turn: takes the answer, or asks. May end the session. */
void ks_proof_turn(ks_session *session);

#endif
