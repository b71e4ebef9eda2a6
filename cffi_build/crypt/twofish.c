/* SPDX-License-Identifier: MIT */
/* Twofish (Schneier et al., 1998) with full keying: the four key-dependent S-boxes are joined with the MDS matrix, so that a
 * round is lookups and sums. Four blocks run side by side. */
#include <pthread.h>

#include "crypt/block.h"
#include "base/mem.h"
#include "base/octets.h"

typedef struct {
    ks_block block;
    uint32_t round[40];
    uint32_t sbox[4][256];
} twofish;

static uint8_t q[2][256];
static uint32_t mds[4][256]; /* mds[i][b]: column i of the matrix times b */
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static unsigned multiply(unsigned a, unsigned b, unsigned polynomial)
{
    unsigned product = 0;
    for (; b != 0; b >>= 1) {
        if (b & 1)
            product ^= a;
        a = (a << 1) ^ (a & 0x80 ? polynomial : 0);
    }
    return product;
}

static void make_tables(void)
{
    static const char nibbles[2][4][17] = {
        {"817D6F320B59ECA4", "ECB81235F4A6709D", "BA5E6D90C8F32471", "D7F4126E9B3085CA"},
        {"28BDF76E31940AC5", "1E2B4C376DA5F908", "4C75169A0ED82B3F", "B951C3DE647F208A"},
    };
    static const uint8_t matrix[4][4] = {
        {0x01, 0xEF, 0x5B, 0x5B}, {0x5B, 0xEF, 0xEF, 0x01}, {0xEF, 0x5B, 0x01, 0xEF}, {0xEF, 0x01, 0xEF, 0x5B}};
    for (unsigned x = 0; x < 256; x++) {
        for (unsigned which = 0; which < 2; which++) {
            unsigned a = x >> 4, b = x & 15;
            for (unsigned step = 0; step < 4; step += 2) {
                unsigned sum = a ^ b, turned = a ^ (b >> 1 | (b & 1) << 3) ^ (a << 3 & 15);
                char high = nibbles[which][step][sum], low = nibbles[which][step + 1][turned];
                a = (unsigned)(high <= '9' ? high - '0' : high - 'A' + 10);
                b = (unsigned)(low <= '9' ? low - '0' : low - 'A' + 10);
            }
            q[which][x] = (uint8_t)(b << 4 | a);
        }
        for (unsigned column = 0; column < 4; column++) {
            mds[column][x] = 0;
            for (unsigned row = 0; row < 4; row++)
                mds[column][x] |= (uint32_t)multiply(matrix[row][column], x, 0x169) << (8 * row);
        }
    }
}

/* Byte i of h(), before the matrix; list is the key material, k words of four bytes, the first used last. */
static uint8_t permute(unsigned i, uint8_t x, const uint8_t (*list)[4], size_t k)
{
    /* which of q0, q1 each step uses, from the outermost: Figure 2 of the paper */
    static const uint8_t order[4][5] = {{1, 0, 0, 1, 1}, {0, 0, 1, 1, 0}, {1, 1, 0, 0, 0}, {0, 1, 1, 0, 1}};
    for (size_t step = k; step > 0; step--)
        x = (uint8_t)(q[order[i][step]][x] ^ list[step - 1][i]);
    return q[order[i][0]][x];
}

static uint32_t h(uint8_t x, const uint8_t (*list)[4], size_t k)
{
    uint32_t z = 0;
    for (unsigned i = 0; i < 4; i++)
        z ^= mds[i][permute(i, x, list, k)];
    return z;
}

#define WIDE 4

static inline __attribute__((always_inline)) uint32_t g0(const twofish *t, uint32_t x)
{
    return t->sbox[0][x & 255] ^ t->sbox[1][(x >> 8) & 255] ^ t->sbox[2][(x >> 16) & 255] ^ t->sbox[3][x >> 24];
}

/* g of x turned left by 8 */
static inline __attribute__((always_inline)) uint32_t g1(const twofish *t, uint32_t x)
{
    return t->sbox[0][x >> 24] ^ t->sbox[1][x & 255] ^ t->sbox[2][(x >> 8) & 255] ^ t->sbox[3][(x >> 16) & 255];
}

static inline __attribute__((always_inline)) void encrypt_blocks(const twofish *t, const uint8_t *in, uint8_t *out, size_t n)
{
    uint32_t a[WIDE], b[WIDE], c[WIDE], d[WIDE];
    for (size_t k = 0; k < n; k++) {
        a[k] = ks_get_le32(in + 16 * k) ^ t->round[0];
        b[k] = ks_get_le32(in + 16 * k + 4) ^ t->round[1];
        c[k] = ks_get_le32(in + 16 * k + 8) ^ t->round[2];
        d[k] = ks_get_le32(in + 16 * k + 12) ^ t->round[3];
    }
    for (int i = 8; i < 40; i += 4) {
        for (size_t k = 0; k < n; k++) {
            uint32_t x = g0(t, a[k]), y = g1(t, b[k]);
            c[k] = ks_rotl32(c[k] ^ (x + y + t->round[i]), 31);
            d[k] = ks_rotl32(d[k], 1) ^ (x + 2 * y + t->round[i + 1]);
        }
        for (size_t k = 0; k < n; k++) {
            uint32_t x = g0(t, c[k]), y = g1(t, d[k]);
            a[k] = ks_rotl32(a[k] ^ (x + y + t->round[i + 2]), 31);
            b[k] = ks_rotl32(b[k], 1) ^ (x + 2 * y + t->round[i + 3]);
        }
    }
    for (size_t k = 0; k < n; k++) {
        ks_put_le32(out + 16 * k, c[k] ^ t->round[4]);
        ks_put_le32(out + 16 * k + 4, d[k] ^ t->round[5]);
        ks_put_le32(out + 16 * k + 8, a[k] ^ t->round[6]);
        ks_put_le32(out + 16 * k + 12, b[k] ^ t->round[7]);
    }
}

static int twofish_encrypt(const ks_block *block, const uint8_t *in, uint8_t *out, size_t size)
{
    const twofish *t = (const twofish *)(const void *)block;
    for (; size >= 16 * WIDE; in += 16 * WIDE, out += 16 * WIDE, size -= 16 * WIDE)
        encrypt_blocks(t, in, out, WIDE);
    for (; size >= 16; in += 16, out += 16, size -= 16)
        encrypt_blocks(t, in, out, 1);
    return 0;
}

static int twofish_del(ks_block *block)
{
    ks_wipe(block, sizeof(twofish));
    ks_free(block);
    return 0;
}

ks_block *ks_twofish_new(const uint8_t *key, size_t size)
{
    static const uint8_t rs[4][8] = {
        {0x01, 0xA4, 0x55, 0x87, 0x5A, 0x58, 0xDB, 0x9E},
        {0xA4, 0x56, 0x82, 0xF3, 0x1E, 0xC6, 0x68, 0xE5},
        {0x02, 0xA1, 0xFC, 0xC1, 0x47, 0xAE, 0x3D, 0x19},
        {0xA4, 0x55, 0x87, 0x5A, 0x58, 0xDB, 0x9E, 0x03},
    };
    pthread_once(&table_once, make_tables);
    twofish *t = size == 16 || size == 24 || size == 32 ? ks_alloc(sizeof *t) : NULL;
    if (t == NULL)
        return NULL;
    size_t k = size / 8;
    uint8_t even[4][4], odd[4][4], material[4][4];
    for (size_t i = 0; i < k; i++) {
        memcpy(even[i], key + 8 * i, 4);
        memcpy(odd[i], key + 8 * i + 4, 4);
        for (size_t row = 0; row < 4; row++) {
            unsigned sum = 0;
            for (size_t j = 0; j < 8; j++)
                sum ^= multiply(rs[row][j], key[8 * i + j], 0x14D);
            material[k - 1 - i][row] = (uint8_t)sum;
        }
    }
    for (unsigned i = 0; i < 20; i++) {
        uint32_t a = h((uint8_t)(2 * i), (const uint8_t (*)[4])even, k);
        uint32_t b = ks_rotl32(h((uint8_t)(2 * i + 1), (const uint8_t (*)[4])odd, k), 8);
        t->round[2 * i] = a + b;
        t->round[2 * i + 1] = ks_rotl32(a + 2 * b, 9);
    }
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned x = 0; x < 256; x++)
            t->sbox[i][x] = mds[i][permute(i, (uint8_t)x, (const uint8_t (*)[4])material, k)];
    }
    ks_wipe(even, sizeof even);
    ks_wipe(odd, sizeof odd);
    ks_wipe(material, sizeof material);
    t->block = (ks_block){.encrypt = twofish_encrypt, .destructor = twofish_del, .block_len = 16};
    return &t->block;
}
