/* SPDX-License-Identifier: MIT */
/* h = (h + block) * r mod 2^130 - 5: limbs of 44, 44, 42 bits where the compiler has 128-bit products, else five of 26. */
#include "crypt/poly1305.h"

#include "base/octets.h"
#include "crypt/simd.h"
#if KS_X86
#include <immintrin.h>
#endif

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

#if KS_X86

#define IFMA __attribute__((target("avx512f,avx512ifma")))
#define INLINED static inline __attribute__((always_inline))
#define IFMA_BYTES 128u

/* Limbs as above, of eight numbers. */
typedef struct {
    __m512i limb[3];
} eight;

/* a * r. A product's upper part stands 52 bits up: 8 bits into the next limb, 10 bits into 2^130 = 5 from the last. */
IFMA INLINED eight multiply8(eight a, eight r)
{
    const __m512i zero = _mm512_setzero_si512(), m44 = _mm512_set1_epi64(M44), m42 = _mm512_set1_epi64(M42);
    const __m512i s1 = _mm512_add_epi64(_mm512_slli_epi64(r.limb[1], 4), _mm512_slli_epi64(r.limb[1], 2));
    const __m512i s2 = _mm512_add_epi64(_mm512_slli_epi64(r.limb[2], 4), _mm512_slli_epi64(r.limb[2], 2));
    const __m512i by[3][3] = {{r.limb[0], s2, s1}, {r.limb[1], r.limb[0], s2}, {r.limb[2], r.limb[1], r.limb[0]}};
    __m512i low[3], high[3];
    for (int i = 0; i < 3; i++) {
        low[i] = _mm512_madd52lo_epu64(zero, by[i][0], a.limb[0]);
        high[i] = _mm512_madd52hi_epu64(zero, by[i][0], a.limb[0]);
        low[i] = _mm512_madd52lo_epu64(low[i], by[i][1], a.limb[1]);
        high[i] = _mm512_madd52hi_epu64(high[i], by[i][1], a.limb[1]);
        low[i] = _mm512_madd52lo_epu64(low[i], by[i][2], a.limb[2]);
        high[i] = _mm512_madd52hi_epu64(high[i], by[i][2], a.limb[2]);
    }
    low[1] = _mm512_add_epi64(low[1], _mm512_slli_epi64(high[0], 8));
    low[2] = _mm512_add_epi64(low[2], _mm512_slli_epi64(high[1], 8));
    low[1] = _mm512_add_epi64(low[1], _mm512_srli_epi64(low[0], 44));
    low[2] = _mm512_add_epi64(low[2], _mm512_srli_epi64(low[1], 44));
    __m512i over = _mm512_add_epi64(_mm512_slli_epi64(high[2], 10), _mm512_srli_epi64(low[2], 42));
    over = _mm512_add_epi64(over, _mm512_slli_epi64(over, 2));
    eight h;
    h.limb[0] = _mm512_add_epi64(_mm512_and_si512(low[0], m44), over);
    h.limb[1] = _mm512_add_epi64(_mm512_and_si512(low[1], m44), _mm512_srli_epi64(h.limb[0], 44));
    h.limb[2] = _mm512_and_si512(low[2], m42);
    h.limb[0] = _mm512_and_si512(h.limb[0], m44);
    return h;
}

/* The lanes are blocks 0 4 1 5 2 6 3 7. */
IFMA INLINED eight load8(const uint8_t *data, uint64_t top)
{
    const __m512i m44 = _mm512_set1_epi64(M44);
    __m512i a = _mm512_loadu_si512(data), b = _mm512_loadu_si512(data + 64);
    __m512i low = _mm512_unpacklo_epi64(a, b), high = _mm512_unpackhi_epi64(a, b);
    eight e;
    e.limb[0] = _mm512_and_si512(low, m44);
    e.limb[1] = _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64(low, 44), _mm512_slli_epi64(high, 20)), m44);
    e.limb[2] = _mm512_or_si512(_mm512_srli_epi64(high, 24), _mm512_set1_epi64((long long)(top << 40)));
    return e;
}

/* size: a multiple of IFMA_BYTES, not 0. Each lane has every eighth block and takes r^8 between two of them; in the end
 * lane j takes r^(8-j), and they are added up. */
IFMA static void absorb_ifma(poly *p, const uint8_t *data, size_t size, uint64_t top)
{
    uint64_t powers[8][3], sum[3];
    for (int i = 0; i < 4; i++) {
        product power = {{0}};
        multiply_add(&power, p->r[i], p->r[3]);
        memcpy(powers[i], p->r[i], sizeof powers[i]);
        reduce(powers[4 + i], &power);
    }
    eight h, r8, last;
    for (int i = 0; i < 3; i++) {
        r8.limb[i] = _mm512_set1_epi64((long long)powers[7][i]);
        last.limb[i] = _mm512_setr_epi64((long long)powers[7][i], (long long)powers[3][i], (long long)powers[6][i],
                                         (long long)powers[2][i], (long long)powers[5][i], (long long)powers[1][i],
                                         (long long)powers[4][i], (long long)powers[0][i]);
        h.limb[i] = _mm512_zextsi128_si512(_mm_cvtsi64_si128((long long)p->h[i]));
    }
    for (;; data += IFMA_BYTES) {
        eight next = load8(data, top);
        for (int i = 0; i < 3; i++)
            h.limb[i] = _mm512_add_epi64(h.limb[i], next.limb[i]);
        size -= IFMA_BYTES;
        if (size == 0)
            break;
        h = multiply8(h, r8);
    }
    h = multiply8(h, last);
    for (int i = 0; i < 3; i++)
        sum[i] = (uint64_t)_mm512_reduce_add_epi64(h.limb[i]);
    product all = {{sum[0], sum[1], sum[2]}};
    reduce(p->h, &all);
    _mm256_zeroupper(); /* see crc32.c */
}

#endif

/* Whole blocks; top is the bit above each: 1, or 0 for a last block that brings its own. Four at a time, as
 * (h + a) r^4 + b r^3 + c r^2 + d r: what one has to wait for is then one product in four. */
static void absorb(poly *p, const uint8_t *data, size_t size, uint64_t top)
{
#if KS_X86
    if (size >= 2 * IFMA_BYTES && ks_simd() == KS_SIMD_AVX512) {
        size_t fast = size / IFMA_BYTES * IFMA_BYTES;
        absorb_ifma(p, data, fast, top);
        data += fast;
        size -= fast;
    }
#endif
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
