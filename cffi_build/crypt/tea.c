/* SPDX-License-Identifier: MIT */
/* TEA (Wheeler and Needham, 1994) and XTEA (1997), big-endian, on many blocks at once. */
#include "crypt/block.h"
#include "base/mem.h"
#include "base/octets.h"
#include "crypt/simd.h"

#define DELTA 0x9E3779B9u
#define TEA_CYCLES 8
#define XTEA_CYCLES 32
#define LANES_MAX 32

#define TARGET
#define LEAVE
#define LANES 4
#define NAME(x) x##_4
#include "crypt/tea_lanes.h"

#if KS_X86
#define ZERO_UPPER __builtin_ia32_vzeroupper(); /* see crc32.c */
#define TARGET __attribute__((target("avx2")))
#define LEAVE ZERO_UPPER
#define LANES 8
#define NAME(x) x##_8
#include "crypt/tea_lanes.h"

#define TARGET __attribute__((target("avx512f")))
#define LEAVE ZERO_UPPER
#define LANES 16
#define NAME(x) x##_16
#include "crypt/tea_lanes.h"
#endif

typedef struct {
    ks_block block;
    uint32_t key[4];
    uint32_t round[2 * XTEA_CYCLES]; /* of XTEA */
} tea;

typedef void kernel(const uint32_t *key, uint32_t *v0, uint32_t *v1);

/* The last group is filled up with what stood there before: its results are not used. */
static void run(const uint32_t *key, kernel *encrypt, size_t lanes, const uint8_t *in, uint8_t *out, size_t blocks)
{
    uint32_t v0[LANES_MAX] = {0}, v1[LANES_MAX] = {0};
    while (blocks > 0) {
        size_t n = blocks < lanes ? blocks : lanes;
        for (size_t i = 0; i < n; i++) {
            v0[i] = ks_get_be32(in + 8 * i);
            v1[i] = ks_get_be32(in + 8 * i + 4);
        }
        encrypt(key, v0, v1);
        for (size_t i = 0; i < n; i++) {
            ks_put_be32(out + 8 * i, v0[i]);
            ks_put_be32(out + 8 * i + 4, v1[i]);
        }
        in += 8 * n;
        out += 8 * n;
        blocks -= n;
    }
}

static int tea_encrypt(const ks_block *block, const uint8_t *in, uint8_t *out, size_t size)
{
    const tea *t = (const tea *)(const void *)block;
#if KS_X86
    if (ks_simd() == KS_SIMD_AVX512 && size > 16 * 8)
        run(t->key, tea_16, 32, in, out, size / 8);
    else if (ks_simd() >= KS_SIMD_AVX2 && size > 8 * 8)
        run(t->key, tea_8, 16, in, out, size / 8);
    else
#endif
        run(t->key, tea_4, 8, in, out, size / 8);
    return 0;
}

static int xtea_encrypt(const ks_block *block, const uint8_t *in, uint8_t *out, size_t size)
{
    const tea *t = (const tea *)(const void *)block;
#if KS_X86
    if (ks_simd() == KS_SIMD_AVX512 && size > 16 * 8)
        run(t->round, xtea_16, 32, in, out, size / 8);
    else if (ks_simd() >= KS_SIMD_AVX2 && size > 8 * 8)
        run(t->round, xtea_8, 16, in, out, size / 8);
    else
#endif
        run(t->round, xtea_4, 8, in, out, size / 8);
    return 0;
}

static int tea_del(ks_block *block)
{
    ks_wipe(block, sizeof(tea));
    ks_free(block);
    return 0;
}

static tea *new_tea(const uint8_t *key, size_t size)
{
    tea *t = size == 16 ? ks_alloc(sizeof *t) : NULL;
    if (t == NULL)
        return NULL;
    for (size_t i = 0; i < 4; i++)
        t->key[i] = ks_get_be32(key + 4 * i);
    t->block.destructor = tea_del;
    t->block.block_len = 8;
    return t;
}

ks_block *ks_tea_new(const uint8_t *key, size_t size)
{
    tea *t = new_tea(key, size);
    if (t == NULL)
        return NULL;
    t->block.encrypt = tea_encrypt;
    return &t->block;
}

ks_block *ks_xtea_new(const uint8_t *key, size_t size)
{
    tea *t = new_tea(key, size);
    if (t == NULL)
        return NULL;
    t->block.encrypt = xtea_encrypt;
    uint32_t sum = 0;
    for (size_t i = 0; i < XTEA_CYCLES; i++) {
        t->round[2 * i] = sum + t->key[sum & 3];
        sum += DELTA;
        t->round[2 * i + 1] = sum + t->key[(sum >> 11) & 3];
    }
    return &t->block;
}
