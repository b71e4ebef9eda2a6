/* SPDX-License-Identifier: MIT */
/* Packet crypt alone, for tests and benchmarks: packets through a crypt that ks_crypt_open made, and the parts of ciphers.
 *
 * Any thread may call, with any number and any bytes: the lock of the table of crypts stays held for the length of a call.
 * -EBADF: no such crypt. -EINVAL: a negative size, no buffer, or no such cipher or key. */
#ifndef KS_CRYPT_ALONE_H
#define KS_CRYPT_ALONE_H

#include <stdint.h>

#include "base/cdef.h"

KS_CDEF

/* -> bytes around a payload. */
int ks_crypt_overhead(int crypt);
/* Packet i has `stride` bytes at space + i * stride. sizes: of the payload, which stands behind the head, in; of the whole
 * packet out. -EAGAIN: no random bytes, or the cipher failed. */
int ks_crypt_seal_packets(int crypt, uint8_t *space, int stride, int32_t *sizes, int n);
/* sizes: of the whole packet in; of the payload out, which stands behind the head, or -1. -> how many were good. */
int ks_crypt_open_packets(int crypt, uint8_t *space, int stride, int32_t *sizes, int n);

enum { KS_STREAM_SALSA20, KS_STREAM_CHACHA20 };

/* The parts alone, for published vectors and benchmarks. cipher: KS_CIPHER_*, or KS_STREAM_*. 0, or -EINVAL, -ENOMEM. */
int ks_crypt_simd(int level); /* KS_SIMD_*; 0: the best, -1: as it is. -> the level in use, or -EOPNOTSUPP */
int ks_crypt_block(int cipher, const uint8_t *key, int key_len, const uint8_t *in, uint8_t *out, int size);
int ks_crypt_stream(int cipher, const uint8_t key[32], const uint8_t *nonce, uint32_t counter, uint8_t *data, int size);
int ks_crypt_ghash(const uint8_t h[16], const uint8_t *data, int size, uint8_t digest[16]);
int ks_crypt_poly1305(const uint8_t key[32], const uint8_t *data, int size, uint8_t tag[16]);
uint32_t ks_crypt_crc32(const uint8_t *data, int size);

KS_CDEF_END

#endif
