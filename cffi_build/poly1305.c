/* SPDX-License-Identifier: MIT */
/* h = (h + block) * r mod 2^130 - 5: limbs of 44, 44, 42 bits where the compiler has 128-bit products, else five of 26. */
#include "poly1305.h"

#include "octets.h"

#ifdef __SIZEOF_INT128__

__extension__ typedef unsigned __int128 wide;
#define M44 0xFFFFFFFFFFFull
#define M42 0x3FFFFFFFFFFull

typedef struct {
    uint64_t r[4][3]; /* r, r^2, r^3, r^4 */
    uint64_t h[3];
} poly;

typedef struct {
    wide d[3];
} product;

static inline void multiply_add(product *p, const uint64_t a[3], const uint64_t r[3])
{
    const uint64_t s1 = r[1] * 20, s2 = r[2] * 20; /* 2^132 = 20 */
    p->d[0] += (wide)a[0] * r[0] + (wide)a[1] * s2 + (wide)a[2] * s1;
    p->d[1] += (wide)a[0] * r[1] + (wide)a[1] * r[0] + (wide)a[2] * s2;
    p->d[2] += (wide)a[0] * r[2] + (wide)a[1] * r[1] + (wide)a[2] * r[0];
}

/* Four products fit: each is below 2^97. h[1] may come out a little above 44 bits. */
static inline void reduce(uint64_t h[3], product *p)
{
    h[0] = (uint64_t)p->d[0] & M44;
    p->d[1] += (uint64_t)(p->d[0] >> 44);
    h[1] = (uint64_t)p->d[1] & M44;
    p->d[2] += (uint64_t)(p->d[1] >> 44);
    h[2] = (uint64_t)p->d[2] & M42;
    h[0] += (uint64_t)(p->d[2] >> 42) * 5;
    h[1] += h[0] >> 44;
    h[0] &= M44;
}

static inline void load(uint64_t a[3], const uint8_t *data, uint64_t top)
{
    uint64_t low = ks_get_le64(data), high = ks_get_le64(data + 8);
    a[0] = low & M44;
    a[1] = (low >> 44 | high << 20) & M44;
    a[2] = high >> 24 | top << 40;
}

static inline void add(uint64_t a[3], const uint64_t b[3])
{
    for (int i = 0; i < 3; i++)
        a[i] += b[i];
}

static void start(poly *p, const uint8_t key[32])
{
    uint64_t a = ks_get_le64(key) & 0x0FFFFFFC0FFFFFFFull, b = ks_get_le64(key + 8) & 0x0FFFFFFC0FFFFFFCull;
    *p = (poly){.r = {{a & M44, (a >> 44 | b << 20) & M44, b >> 24}}};
    for (int i = 1; i < 4; i++) {
        product power = {{0}};
        multiply_add(&power, p->r[i - 1], p->r[0]);
        reduce(p->r[i], &power);
    }
}

/* Whole blocks; top is the bit above each: 1, or 0 for a last block that brings its own. Four at a time, as
 * (h + a) r^4 + b r^3 + c r^2 + d r: what one has to wait for is then one product in four. */
static void absorb(poly *p, const uint8_t *data, size_t size, uint64_t top)
{
    uint64_t h[3] = {p->h[0], p->h[1], p->h[2]};
    for (; size >= 64; data += 64, size -= 64) {
        uint64_t a[3], b[3], c[3], d[3];
        load(a, data, top);
        load(b, data + 16, top);
        load(c, data + 32, top);
        load(d, data + 48, top);
        product sum = {{0}};
        multiply_add(&sum, b, p->r[2]);
        multiply_add(&sum, c, p->r[1]);
        multiply_add(&sum, d, p->r[0]);
        add(a, h);
        multiply_add(&sum, a, p->r[3]);
        reduce(h, &sum);
    }
    for (; size >= 16; data += 16, size -= 16) {
        uint64_t a[3];
        product next = {{0}};
        load(a, data, top);
        add(a, h);
        multiply_add(&next, a, p->r[0]);
        reduce(h, &next);
    }
    for (int i = 0; i < 3; i++)
        p->h[i] = h[i];
}

static void finish(poly *p, const uint8_t key[32], uint8_t tag[16])
{
    uint64_t h0 = p->h[0], h1 = p->h[1], h2 = p->h[2], carry = 0;
    for (int i = 0; i < 2; i++) {
        h1 += carry;
        h2 += h1 >> 44;
        h1 &= M44;
        h0 += (h2 >> 42) * 5;
        h2 &= M42;
        carry = h0 >> 44;
        h0 &= M44;
    }
    h1 += carry;
    /* h - (2^130 - 5), taken where it is not negative; a mask, not a branch. */
    uint64_t g0 = h0 + 5, g1 = h1 + (g0 >> 44), g2 = h2 + (g1 >> 44), take = 0 - (g2 >> 42);
    h0 = (h0 & ~take) | (g0 & M44 & take);
    h1 = (h1 & ~take) | (g1 & M44 & take);
    h2 = (h2 & ~take) | (g2 & M42 & take);
    wide sum = (wide)(h0 | h1 << 44) + ks_get_le64(key + 16);
    ks_put_le64(tag, (uint64_t)sum);
    ks_put_le64(tag + 8, (h1 >> 20 | h2 << 24) + ks_get_le64(key + 24) + (uint64_t)(sum >> 64));
}

#else

#define M26 0x3FFFFFFu

typedef struct {
    uint32_t r[5], h[5];
} poly;

static void start(poly *p, const uint8_t key[32])
{
    *p = (poly){.r = {ks_get_le32(key) & 0x3FFFFFF, ks_get_le32(key + 3) >> 2 & 0x3FFFF03, ks_get_le32(key + 6) >> 4 & 0x3FFC0FF,
                      ks_get_le32(key + 9) >> 6 & 0x3F03FFF, ks_get_le32(key + 12) >> 8 & 0x00FFFFF}};
}

static void absorb(poly *p, const uint8_t *data, size_t size, uint64_t top)
{
    uint32_t *h = p->h;
    for (; size >= 16; data += 16, size -= 16) {
        h[0] += ks_get_le32(data) & M26;
        h[1] += ks_get_le32(data + 3) >> 2 & M26;
        h[2] += ks_get_le32(data + 6) >> 4 & M26;
        h[3] += ks_get_le32(data + 9) >> 6;
        h[4] += ks_get_le32(data + 12) >> 8 | (uint32_t)top << 24;
        uint64_t d[5] = {0}, carry = 0;
        for (unsigned i = 0; i < 5; i++) {
            for (unsigned j = 0; j < 5; j++)
                d[(i + j) % 5] += (uint64_t)h[i] * (i + j < 5 ? p->r[j] : 5 * p->r[j]);
        }
        for (unsigned i = 0; i < 5; i++) {
            d[i] += carry;
            carry = d[i] >> 26;
            h[i] = (uint32_t)d[i] & M26;
        }
        carry = h[0] + carry * 5;
        h[0] = (uint32_t)carry & M26;
        h[1] += (uint32_t)(carry >> 26);
    }
}

static void finish(poly *p, const uint8_t key[32], uint8_t tag[16])
{
    uint32_t *h = p->h, g[5], carry = 0;
    for (unsigned i = 0; i < 10; i++) {
        h[i % 5] += carry;
        carry = (h[i % 5] >> 26) * (i % 5 == 4 ? 5 : 1);
        h[i % 5] &= M26;
    }
    h[0] += carry;
    /* h - (2^130 - 5), taken where it is not negative; a mask, not a branch. */
    carry = 5;
    for (unsigned i = 0; i < 5; i++) {
        g[i] = h[i] + carry;
        carry = g[i] >> 26;
        g[i] &= M26;
    }
    for (unsigned i = 0; i < 5; i++)
        h[i] = (h[i] & (carry - 1)) | (g[i] & (0 - carry));
    uint32_t words[4] = {h[0] | h[1] << 26, h[1] >> 6 | h[2] << 20, h[2] >> 12 | h[3] << 14, h[3] >> 18 | h[4] << 8};
    uint64_t sum = 0;
    for (unsigned i = 0; i < 4; i++) {
        sum += (uint64_t)words[i] + ks_get_le32(key + 16 + 4 * i);
        ks_put_le32(tag + 4 * i, (uint32_t)sum);
        sum >>= 32;
    }
}

#endif

void ks_poly1305(const uint8_t key[32], const uint8_t *data, size_t size, uint8_t tag[16])
{
    poly p;
    start(&p, key);
    absorb(&p, data, size, 1);
    if (size % 16 != 0) {
        uint8_t last[16] = {0};
        memcpy(last, data + size / 16 * 16, size % 16);
        last[size % 16] = 1;
        absorb(&p, last, 16, 0);
    }
    finish(&p, key, tag);
    ks_wipe(&p, sizeof p);
}

void ks_poly1305_tag(const uint8_t key[32], const uint8_t *data, size_t size, uint8_t tag[16])
{
    poly p;
    uint8_t last[32] = {0};
    size_t whole = size / 16 * 16, rest = size % 16 != 0 ? 16 : 0;
    if (rest != 0)
        memcpy(last, data + whole, size % 16);
    ks_put_le64(last + rest + 8, size);
    start(&p, key);
    absorb(&p, data, whole, 1);
    absorb(&p, last, rest + 16, 1);
    finish(&p, key, tag);
    ks_wipe(&p, sizeof p);
}
