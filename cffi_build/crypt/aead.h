/* SPDX-License-Identifier: MIT */
/* AES-GCM and ChaCha20-Poly1305 over sealed packets: nonce 12 | payload | tag 16, no associated data. */
#ifndef KS_AEAD_H
#define KS_AEAD_H

#include "crypt/block.h"
#include "crypt/crypt.h"
#include "crypt/ghash.h"
#include "crypt/keystream.h"

#define KS_AEAD_NONCE 12u
#define KS_AEAD_TAG 16u
#define KS_AEAD_BATCH 64u

/* The nonces are there already; every packet has at least nonce and tag. n at most KS_AEAD_BATCH.
 * Not 0: the block cipher failed, nothing may be sent. */
int ks_gcm_seal(const ks_block *block, const ks_ghash *ghash, const ks_packet *packets, size_t n);
void ks_chacha_seal(const ks_keystream *stream, const ks_packet *packets, size_t n);
/* Nothing is decrypted before the tag was found right. Not 0: it was not. */
int ks_gcm_open(const ks_block *block, const ks_ghash *ghash, uint8_t *packet, size_t size);
int ks_chacha_open(const ks_keystream *stream, uint8_t *packet, size_t size);
/* Decrypts a packet's first `size` bytes, nonce counted, and asks for no tag. Not 0: the block cipher failed. */
int ks_gcm_peek(const ks_block *block, uint8_t *packet, size_t size);
void ks_chacha_peek(const ks_keystream *stream, uint8_t *packet, size_t size);

#endif
