/* SPDX-License-Identifier: MIT */
/* SM4 (GB/T 32907-2016), four blocks side by side through tables that join the S-box with the linear map. */
#include <pthread.h>

#include "crypt/block.h"
#include "base/mem.h"
#include "base/octets.h"

typedef struct {
    ks_block block;
    uint32_t round[32];
} sm4;

static uint8_t sbox[256];
static uint32_t table[4][256]; /* table[i][b]: L(sbox[b]) for byte i, 0 the highest */
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

/* In GF(2^8) modulo x^8+x^7+x^6+x^5+x^4+x^2+1. */
static unsigned multiply(unsigned a, unsigned b)
{
    unsigned product = 0;
    for (; b != 0; b >>= 1) {
        if (b & 1)
            product ^= a;
        a = (a << 1) ^ (a & 0x80 ? 0x1F5u : 0);
    }
    return product;
}

/* The affine map before and after the inversion: a circulant matrix with first row 0xA7, and 0xD3. */
static unsigned affine(unsigned x)
{
    unsigned y = 0xD3;
    for (unsigned i = 0; i < 8; i++)
        y ^= (unsigned)__builtin_parity(((0xA7u << i | 0xA7u >> (8 - i)) & 255) & x) << i;
    return y;
}

/* sbox(x) = affine(affine(x)^-1), the algebraic form of the standard's table. */
static void make_tables(void)
{
    for (unsigned x = 0; x < 256; x++) {
        unsigned a = affine(x), power = a, inverse = 1;
        for (int bit = 1; bit < 8; bit++) { /* a^254 */
            power = multiply(power, power);
            inverse = multiply(inverse, power);
        }
        sbox[x] = (uint8_t)affine(inverse);
        uint32_t b = (uint32_t)sbox[x] << 24;
        b = b ^ ks_rotl32(b, 2) ^ ks_rotl32(b, 10) ^ ks_rotl32(b, 18) ^ ks_rotl32(b, 24);
        table[0][x] = b;
        table[1][x] = ks_rotl32(b, 24);
        table[2][x] = ks_rotl32(b, 16);
        table[3][x] = ks_rotl32(b, 8);
    }
}

static inline uint32_t mix(uint32_t x)
{
    return table[0][x >> 24] ^ table[1][(x >> 16) & 255] ^ table[2][(x >> 8) & 255] ^ table[3][x & 255];
}

#define WIDE 4

static inline __attribute__((always_inline)) void encrypt_blocks(const sm4 *s, const uint8_t *in, uint8_t *out, size_t n)
{
    uint32_t a[WIDE], b[WIDE], c[WIDE], d[WIDE];
    for (size_t k = 0; k < n; k++) {
        a[k] = ks_get_be32(in + 16 * k);
        b[k] = ks_get_be32(in + 16 * k + 4);
        c[k] = ks_get_be32(in + 16 * k + 8);
        d[k] = ks_get_be32(in + 16 * k + 12);
    }
    for (int i = 0; i < 32; i += 4) {
        for (size_t k = 0; k < n; k++)
            a[k] ^= mix(b[k] ^ c[k] ^ d[k] ^ s->round[i]);
        for (size_t k = 0; k < n; k++)
            b[k] ^= mix(c[k] ^ d[k] ^ a[k] ^ s->round[i + 1]);
        for (size_t k = 0; k < n; k++)
            c[k] ^= mix(d[k] ^ a[k] ^ b[k] ^ s->round[i + 2]);
        for (size_t k = 0; k < n; k++)
            d[k] ^= mix(a[k] ^ b[k] ^ c[k] ^ s->round[i + 3]);
    }
    for (size_t k = 0; k < n; k++) {
        ks_put_be32(out + 16 * k, d[k]);
        ks_put_be32(out + 16 * k + 4, c[k]);
        ks_put_be32(out + 16 * k + 8, b[k]);
        ks_put_be32(out + 16 * k + 12, a[k]);
    }
}

static int sm4_encrypt(const ks_block *block, const uint8_t *in, uint8_t *out, size_t size)
{
    const sm4 *s = (const sm4 *)(const void *)block;
    for (; size >= 16 * WIDE; in += 16 * WIDE, out += 16 * WIDE, size -= 16 * WIDE)
        encrypt_blocks(s, in, out, WIDE);
    for (; size >= 16; in += 16, out += 16, size -= 16)
        encrypt_blocks(s, in, out, 1);
    return 0;
}

static int sm4_del(ks_block *block)
{
    ks_wipe(block, sizeof(sm4));
    ks_free(block);
    return 0;
}

ks_block *ks_sm4_new(const uint8_t *key, size_t size)
{
    static const uint32_t fk[4] = {0xA3B1BAC6, 0x56AA3350, 0x677D9197, 0xB27022DC};
    pthread_once(&table_once, make_tables);
    sm4 *s = size == 16 ? ks_alloc(sizeof *s) : NULL;
    if (s == NULL)
        return NULL;
    uint32_t k[4];
    for (size_t i = 0; i < 4; i++)
        k[i] = ks_get_be32(key + 4 * i) ^ fk[i];
    for (unsigned i = 0; i < 32; i++) {
        uint32_t ck = 0, x, t = 0;
        for (unsigned j = 0; j < 4; j++)
            ck = ck << 8 | ((4 * i + j) * 7 & 255);
        x = k[(i + 1) % 4] ^ k[(i + 2) % 4] ^ k[(i + 3) % 4] ^ ck;
        for (int shift = 24; shift >= 0; shift -= 8)
            t = t << 8 | sbox[(x >> shift) & 255];
        s->round[i] = k[i % 4] ^= t ^ ks_rotl32(t, 13) ^ ks_rotl32(t, 23);
    }
    ks_wipe(k, sizeof k);
    s->block = (ks_block){.encrypt = sm4_encrypt, .destructor = sm4_del, .block_len = 16};
    return &s->block;
}
