/* SPDX-License-Identifier: MIT */
/* Crypts behind small numbers: Python makes one, a connection or listener takes it over.
 *
 * Any thread may call, with any number and any bytes. -EBADF: no such crypt. -EINVAL: a setting out of range. */
#ifndef KS_CRYPTS_H
#define KS_CRYPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cdef.h"

struct ks_crypt;
struct ks_block;

KS_CDEF

enum { KS_CIPHER_GIVEN, KS_CIPHER_TWOFISH, KS_CIPHER_SM4, KS_CIPHER_TEA, KS_CIPHER_XTEA };

/* mode: KS_CRYPT_*. cipher: which block cipher of ours, keyed here; or KS_CIPHER_GIVEN: block_cipher, the address of a keyed
 * ks_block (block.h), taken over also on failure, or 0 where the mode has none. -> a number >= 1; -EINVAL, -EMFILE, -ENOMEM. */
int ks_crypt_open(int mode, int cipher, const uint8_t *key, int key_len, uintptr_t block_cipher);
int ks_crypt_close(int crypt);

/* -> 1: block_cipher's functions are code of the shared object `path`, its blocks have block_len bytes, and it makes
 * `expected` of `plain` (size bytes each, whole blocks), in place too. 0: at least one is not so. Nothing is called before
 * all that can be seen from outside is right. */
int ks_crypt_check(uintptr_t block_cipher, const char *path, int block_len, const uint8_t *plain, const uint8_t *expected,
                   int size);
typedef int ks_encrypt_elsewhere(int id, const uint8_t *in, uint8_t *out, size_t size);
/* -> the address of a block cipher whose blocks `encrypt` does (0: all right), or 0: no memory. Its end is told with size 0. */
uintptr_t ks_crypt_elsewhere(ks_encrypt_elsewhere *encrypt, int id, int block_len);

KS_CDEF_END

/* In a forked child, where the lock may be that of a thread which is not there. A crypt's slot is right at any moment. */
void ks_crypts_forget_holder(void);

/* Removes it from the table; the caller is the owner now. NULL: no such crypt. */
struct ks_crypt *ks_crypt_take(int crypt);
/* Locks the table in any case; every use ends with ks_crypts_leave, which returns `result`. NULL: no such crypt. */
struct ks_crypt *ks_crypts_enter(int crypt);
int ks_crypts_leave(int result);

/* A block cipher of ours (KS_CIPHER_*). NULL: no memory, or it is none, or takes no such key. */
struct ks_block *ks_cipher_new(int cipher, const uint8_t *key, size_t size);
bool ks_cipher_takes(int cipher, const uint8_t *key, int size);

#endif
