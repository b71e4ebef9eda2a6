/* SPDX-License-Identifier: MIT */
/* A keyed block cipher: the layout that pycryptodome's raw ciphers begin with, so that theirs and ours are used alike.
 * ks_crypt_check tells whether a foreign object has it. encrypt does any number of whole blocks in one call, in and out
 * may be the same; it does not change the state, so any thread may call it; 0, or an error. */
#ifndef KS_BLOCK_H
#define KS_BLOCK_H

#include <stddef.h>
#include <stdint.h>

typedef struct ks_block ks_block;
struct ks_block {
    int (*encrypt)(const ks_block *block, const uint8_t *in, uint8_t *out, size_t size);
    int (*decrypt)(const ks_block *block, const uint8_t *in, uint8_t *out, size_t size); /* ours: NULL, CFB needs none */
    int (*destructor)(ks_block *block);                                                   /* ours wipe the key */
    size_t block_len;
};

/* NULL: no memory, or a key of another length than stands here. */
ks_block *ks_twofish_new(const uint8_t *key, size_t size); /* 16, 24, 32 */
ks_block *ks_sm4_new(const uint8_t *key, size_t size);     /* 16 */
ks_block *ks_tea_new(const uint8_t *key, size_t size);     /* 16; 16 rounds: 8 cycles, as kcp-go has it */
ks_block *ks_xtea_new(const uint8_t *key, size_t size);    /* 16; 64 rounds: 32 cycles */

#endif
