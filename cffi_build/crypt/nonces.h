/* SPDX-License-Identifier: MIT */
/* Nonces that their maker knows again, without a table: a keyed permutation of 96 bits (a Feistel network of SipHash, Luby and
 * Rackoff 1988) of a counter and 32 zeros. To all others they are random; none comes twice. A stranger's passes for one of ours
 * once in 2^32. So a sealed packet that somebody throws back at its sender is recognized: to the cipher it would be the peer's. */
#ifndef KS_NONCES_H
#define KS_NONCES_H

#include <stdbool.h>

#include "base/siphash.h"
#include "os/entropy.h"

#define KS_NONCE_OWN 12u /* bytes; of a longer nonce the first ones */

/* One thread uses it. */
typedef struct {
    ks_siphash_key key;
    uint64_t next; /* 0: there is no key yet */
} ks_nonces;

/* KS_OK, or KS_EAGAIN: the system gave no random bytes. */
int ks_nonces_make(ks_nonces *nonces, ks_entropy *entropy, uint8_t nonce[KS_NONCE_OWN]);
bool ks_nonces_is_own(const ks_nonces *nonces, const uint8_t nonce[KS_NONCE_OWN]);

#endif
