/* SPDX-License-Identifier: MIT */
/* Crypts behind small numbers: Python makes one, a connection or listener takes it over; tests and benchmarks use it here.
 *
 * Any thread may call, with any number and any bytes: one lock guards the table and stays held for the length of a call.
 * -EBADF: no such crypt. -EINVAL: a negative size, no buffer, or a setting out of range. */
#ifndef KS_CRYPTS_H
#define KS_CRYPTS_H

#include <stddef.h>
#include <stdint.h>

struct ks_crypt;

enum { KS_CIPHER_GIVEN, KS_CIPHER_TWOFISH, KS_CIPHER_SM4, KS_CIPHER_TEA, KS_CIPHER_XTEA, KS_CIPHER_SALSA20, KS_CIPHER_CHACHA20 };

/* mode: KS_CRYPT_*. cipher: which block cipher of ours, keyed here; or KS_CIPHER_GIVEN: block_cipher, the address of a keyed
 * ks_block (block.h), taken over also on failure, or 0 where the mode has none. -> a number >= 1; -EINVAL, -EMFILE, -ENOMEM. */
int ks_crypt_open(int mode, int cipher, const uint8_t *key, int key_len, uintptr_t block_cipher);
int ks_crypt_close(int crypt);
/* -> bytes around a payload. */
int ks_crypt_overhead(int crypt);
/* Packet i has `stride` bytes at space + i * stride. sizes: of the payload, which stands behind the head, in; of the whole
 * packet out. -EAGAIN: no random bytes, or the cipher failed. */
int ks_crypt_seal_packets(int crypt, uint8_t *space, int stride, int32_t *sizes, int n);
/* sizes: of the whole packet in; of the payload out, which stands behind the head, or -1. -> how many were good. */
int ks_crypt_open_packets(int crypt, uint8_t *space, int stride, int32_t *sizes, int n);

/* -> 1: block_cipher's functions are code of the shared object `path`, its blocks have block_len bytes, and it makes
 * `expected` of `plain` (size bytes each, whole blocks), in place too. 0: at least one is not so. Nothing is called before
 * all that can be seen from outside is right. */
int ks_crypt_check(uintptr_t block_cipher, const char *path, int block_len, const uint8_t *plain, const uint8_t *expected,
                   int size);
typedef int ks_encrypt_elsewhere(int id, const uint8_t *in, uint8_t *out, size_t size);
/* -> the address of a block cipher whose blocks `encrypt` does (0: all right), or 0: no memory. Its end is told with size 0. */
uintptr_t ks_crypt_elsewhere(ks_encrypt_elsewhere *encrypt, int id, int block_len);

/* The parts alone, for published vectors and benchmarks. 0, or -EINVAL, -ENOMEM. */
int ks_crypt_simd(int level); /* KS_SIMD_*; 0: the best, -1: as it is. -> the level in use, or -EOPNOTSUPP */
int ks_crypt_block(int cipher, const uint8_t *key, int key_len, const uint8_t *in, uint8_t *out, int size);
int ks_crypt_stream(int cipher, const uint8_t key[32], const uint8_t *nonce, uint32_t counter, uint8_t *data, int size);
int ks_crypt_ghash(const uint8_t h[16], const uint8_t *data, int size, uint8_t digest[16]);
int ks_crypt_poly1305(const uint8_t key[32], const uint8_t *data, int size, uint8_t tag[16]);
uint32_t ks_crypt_crc32(const uint8_t *data, int size);

/* Removes it from the table; the caller is the owner now. NULL: no such crypt. */
struct ks_crypt *ks_crypt_take(int crypt);

#endif
