/* SPDX-License-Identifier: MIT */
/* Packet crypt (docs/protocol.md 3): what stands around a packet's payload on the wire, and who can read it.
 *
 * A sealed packet is head | payload | tail, all in the caller's buffer, which has room for the three from the start:
 *   block ciphers, salsa20, xor, none   head 20: nonce 16, crc32 4; tail 0
 *   aes-*-gcm, chacha20-poly1305        head 12: nonce; tail 16: tag
 * Sealing works on a whole batch in step, since packets don't depend on each other; opening works on one packet.
 *
 * A ks_crypt does not change after ks_crypt_new, so any thread may use it; it has one owner, who deletes it. */
#ifndef KS_CRYPT_H
#define KS_CRYPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cdef.h"
#include "crypt/nonces.h"
#include "os/entropy.h"

typedef struct ks_crypt ks_crypt;
struct ks_block;

/* A whole packet: head, payload, tail. */
typedef struct {
    uint8_t *data;
    size_t size;
} ks_packet;

KS_CDEF
typedef enum {
    KS_CRYPT_NONE,     /* nonce and crc32, nothing is encrypted */
    KS_CRYPT_XOR,      /* the key is the table itself */
    KS_CRYPT_SALSA20,  /* key: 32 bytes */
    KS_CRYPT_CFB,      /* a block cipher of 8 or 16 bytes */
    KS_CRYPT_GCM,      /* a block cipher of 16 bytes */
    KS_CRYPT_CHACHA20, /* with Poly1305; key: 32 bytes */
} ks_crypt_mode;
KS_CDEF_END

#define KS_CRYPT_XOR_BYTES 1500u

/* Takes the block cipher over, also on failure; NULL where the mode has none. -> NULL: no memory, a key of another length
 * than stands at the mode, or a block cipher that does not fit it. */
ks_crypt *ks_crypt_new(ks_crypt_mode mode, const uint8_t *key, size_t key_size, struct ks_block *block);
/* One more reference, each of which ks_crypt_del gives back, in the same thread. NULL is allowed. */
ks_crypt *ks_crypt_ref(ks_crypt *crypt);
/* The last reference gone, the key is wiped. NULL is allowed. */
void ks_crypt_del(ks_crypt *crypt);
size_t ks_crypt_head(const ks_crypt *crypt);
size_t ks_crypt_tail(const ks_crypt *crypt);
/* Fills heads and tails and encrypts, in place. -> KS_OK, or KS_EAGAIN: the system gave no random bytes, nothing may be sent. */
int ks_crypt_seal(const ks_crypt *crypt, ks_nonces *nonces, ks_entropy *entropy, const ks_packet *packets, size_t n);
/* A payload's first bytes, decrypted and not verified: enough to throw the packet away by, and for nothing else. The packet
 * stays as it is. -> KS_OK, or KS_EMALFORMED: too short. */
#define KS_CRYPT_PEEK 8u
int ks_crypt_peek_untrusted(const ks_crypt *crypt, const uint8_t *packet, size_t size, uint8_t start[KS_CRYPT_PEEK]);
/* Decrypts any bytes in place, the nonce too. -> KS_OK and where the payload stands, or KS_EMALFORMED: too short, wrong crc32 or tag. */
int ks_crypt_open_untrusted(const ks_crypt *crypt, uint8_t *packet, size_t size, uint8_t **payload, size_t *payload_size);

#endif
