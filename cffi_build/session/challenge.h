/* SPDX-License-Identifier: MIT */
/* Challenges: the proof that a peer hears what is sent to its address, now. KCP has no handshake, and anybody can write any source
 * address into a packet, or send a recorded one again. What every KCP peer does is to acknowledge a segment from before what it expects, with
 * the segment's time stamp, to the bit (docs/protocol.md 1): so the stamp is a number that nobody can foresee. Compare
 * QUIC's path validation (RFC 9000 8.2) and its Retry packet, and TCP's SYN cookies and challenge ACKs (RFC 4987, RFC 5961).
 *
 * A session draws its number at random and remembers it (session_proof.c). Where there is no session yet and shall be none,
 * the number is a cookie: a keyed hash of address, conversation and time, so that nothing has to be remembered. */
#ifndef KS_CHALLENGE_H
#define KS_CHALLENGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/siphash.h"
#include "os/udp.h"

/* Of this moment; it is good for KS_COOKIE_MS at least, for twice that at most. */
#define KS_COOKIE_MS 4000u
uint32_t ks_cookie(const ks_siphash_key *secret, const ks_addr *peer, uint32_t conv, uint64_t now_ms);
bool ks_cookie_is_good(const ks_siphash_key *secret, const ks_addr *peer, uint32_t conv, uint64_t now_ms, uint32_t cookie);

/* A challenge to a peer that has been sent nothing yet: KS_KCP_HEAD bytes. */
void ks_challenge_write(uint8_t *packet, uint32_t conv, uint16_t wnd, uint32_t cookie);
/* Whether a packet holds an answer to such a challenge; any bytes, at least KS_KCP_HEAD. */
bool ks_challenge_find_untrusted(const uint8_t *packet, size_t size, uint32_t *cookie);

#endif
