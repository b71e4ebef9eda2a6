/* SPDX-License-Identifier: MIT */
/* Full-block CFB over sealed packets from byte KS_CFB_CLEAR on. What stands before is the first ciphertext and counts as
 * encrypted already: it is the nonce, random, never looked at after decryption; so random bytes are as good a ciphertext of
 * it as any, and neither the cipher nor the fixed IV has to be asked. */
#ifndef KS_CFB_H
#define KS_CFB_H

#include "crypt/block.h"
#include "crypt/crypt.h"

#define KS_CFB_CLEAR 16u
#define KS_CFB_BATCH 64u

/* In step: block j of all packets goes through the cipher in one call. n at most KS_CFB_BATCH, each of at least
 * KS_CFB_CLEAR bytes. Not 0: the cipher failed, nothing may be sent. */
int ks_cfb_encrypt(const ks_block *block, const ks_packet *packets, size_t n);
int ks_cfb_decrypt(const ks_block *block, uint8_t *packet, size_t size);

#endif
