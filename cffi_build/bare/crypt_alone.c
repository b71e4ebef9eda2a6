/* SPDX-License-Identifier: MIT */
#include "bare/crypt_alone.h"

#include <errno.h>
#include <unistd.h>

#include "api/crypts.h"
#include "base/err.h"
#include "base/octets.h"
#include "crypt/block.h"
#include "crypt/crc32.h"
#include "crypt/crypt.h"
#include "crypt/ghash.h"
#include "crypt/keystream.h"
#include "crypt/poly1305.h"
#include "crypt/simd.h"

static ks_entropy entropy; /* guarded by the table's lock, as are the nonces */
static ks_nonces nonces;
static pid_t entropy_owner;

int ks_crypt_overhead(int crypt)
{
    const ks_crypt *c = ks_crypts_enter(crypt);
    return ks_crypts_leave(c == NULL ? -EBADF : (int)(ks_crypt_head(c) + ks_crypt_tail(c)));
}

/* A forked child must not draw the parent's nonces again. */
static void own_entropy(void)
{
    if (entropy_owner != getpid()) {
        ks_wipe(&entropy, sizeof entropy);
        ks_wipe(&nonces, sizeof nonces);
        entropy_owner = getpid();
    }
}

int ks_crypt_seal_packets(int crypt, uint8_t *space, int stride, int32_t *sizes, int n)
{
    const ks_crypt *c = ks_crypts_enter(crypt);
    if (c == NULL)
        return ks_crypts_leave(-EBADF);
    if (n < 0 || stride < 0 || (n > 0 && (space == NULL || sizes == NULL)))
        return ks_crypts_leave(-EINVAL);
    int32_t around = (int32_t)(ks_crypt_head(c) + ks_crypt_tail(c));
    for (int i = 0; i < n; i++) {
        if (sizes[i] < 0 || stride < around || sizes[i] > stride - around)
            return ks_crypts_leave(-EINVAL);
    }
    own_entropy();
    ks_packet packets[64];
    for (int done = 0; done < n;) {
        int batch = n - done < 64 ? n - done : 64;
        for (int i = 0; i < batch; i++) {
            sizes[done + i] += around;
            packets[i] = (ks_packet){space + (size_t)(done + i) * (size_t)stride, (size_t)sizes[done + i]};
        }
        if (ks_crypt_seal(c, &nonces, &entropy, packets, (size_t)batch) != KS_OK)
            return ks_crypts_leave(-EAGAIN);
        done += batch;
    }
    return ks_crypts_leave(0);
}

int ks_crypt_open_packets(int crypt, uint8_t *space, int stride, int32_t *sizes, int n)
{
    const ks_crypt *c = ks_crypts_enter(crypt);
    if (c == NULL)
        return ks_crypts_leave(-EBADF);
    if (n < 0 || stride < 0 || (n > 0 && (space == NULL || sizes == NULL)))
        return ks_crypts_leave(-EINVAL);
    for (int i = 0; i < n; i++) {
        if (sizes[i] < 0 || sizes[i] > stride)
            return ks_crypts_leave(-EINVAL);
    }
    int good = 0;
    for (int i = 0; i < n; i++) {
        uint8_t *payload;
        size_t size;
        int result = ks_crypt_open_untrusted(c, space + (size_t)i * (size_t)stride, (size_t)sizes[i], &payload, &size);
        sizes[i] = result == KS_OK ? (int32_t)size : -1;
        good += result == KS_OK;
    }
    return ks_crypts_leave(good);
}

/* ---- the parts alone ---- */

int ks_crypt_simd(int level)
{
    if (level > KS_SIMD_ARM || (level >= 0 && ks_simd_select((ks_simd_level)level) != KS_OK))
        return -EOPNOTSUPP;
    return (int)ks_simd();
}

int ks_crypt_block(int cipher, const uint8_t *key, int key_len, const uint8_t *in, uint8_t *out, int size)
{
    if (!ks_cipher_takes(cipher, key, key_len) || in == NULL || out == NULL || size < 0)
        return -EINVAL;
    ks_block *block = ks_cipher_new(cipher, key, (size_t)key_len);
    if (block == NULL)
        return -ENOMEM;
    int result = (size_t)size % block->block_len != 0 ? -EINVAL : block->encrypt(block, in, out, (size_t)size);
    block->destructor(block);
    return result;
}

int ks_crypt_stream(int cipher, const uint8_t key[32], const uint8_t *nonce, uint32_t counter, uint8_t *data, int size)
{
    ks_keystream stream;
    ks_keystream_run run;
    if (key == NULL || nonce == NULL || data == NULL || size < 0)
        return -EINVAL;
    if (cipher == KS_STREAM_SALSA20) {
        ks_salsa20_init(&stream, key);
        run = ks_salsa20_run(data, (size_t)size, nonce, counter);
    } else if (cipher == KS_STREAM_CHACHA20) {
        ks_chacha20_init(&stream, key);
        run = ks_chacha20_run(data, (size_t)size, nonce, counter);
    } else
        return -EINVAL;
    ks_keystream_xor(&stream, &run, 1);
    ks_wipe(&stream, sizeof stream);
    return 0;
}

int ks_crypt_ghash(const uint8_t h[16], const uint8_t *data, int size, uint8_t digest[16])
{
    ks_ghash ghash;
    if (h == NULL || data == NULL || size < 0 || digest == NULL)
        return -EINVAL;
    ks_ghash_init(&ghash, h);
    ks_ghash_digest(&ghash, data, (size_t)size, digest);
    ks_wipe(&ghash, sizeof ghash);
    return 0;
}

int ks_crypt_poly1305(const uint8_t key[32], const uint8_t *data, int size, uint8_t tag[16])
{
    if (key == NULL || data == NULL || size < 0 || tag == NULL)
        return -EINVAL;
    ks_poly1305(key, data, (size_t)size, tag);
    return 0;
}

uint32_t ks_crypt_crc32(const uint8_t *data, int size)
{
    return data == NULL || size < 0 ? 0 : ks_crc32(data, (size_t)size);
}
