/* SPDX-License-Identifier: MIT */
/* The carry-less kernels compute in POLYVAL's form (RFC 8452, appendix A: bytes reversed, h times x), where Montgomery's
 * reduction costs two products; sixteen blocks share one reduction. The plain one is Shoup's table of 4 bits: slow, and its
 * lookups depend on the data, which leaks through the cache on machines that have nothing better. */
#include "crypt/ghash.h"

#include "base/octets.h"
#include "crypt/simd.h"
#if KS_X86
#include <immintrin.h>
#endif

/* ---- plain ---- */

static void table_init(ks_ghash *g, const uint8_t h[16])
{
    uint64_t hi = ks_get_be64(h), lo = ks_get_be64(h + 8);
    memset(g->table, 0, sizeof g->table);
    for (unsigned bit = 8; bit > 0; bit >>= 1) { /* bit 8 is x^0: times 1; each further bit times x */
        g->table[bit][0] = hi;
        g->table[bit][1] = lo;
        uint64_t carry = 0 - (lo & 1);
        lo = lo >> 1 | hi << 63;
        hi = hi >> 1 ^ (carry & 0xE100000000000000ull);
    }
    for (unsigned i = 1; i < 16; i++) {
        unsigned top = i & 8 ? 8 : i & 4 ? 4 : i & 2 ? 2 : 1;
        if (i != top) {
            g->table[i][0] = g->table[top][0] ^ g->table[i - top][0];
            g->table[i][1] = g->table[top][1] ^ g->table[i - top][1];
        }
    }
}

static void absorb_plain(const ks_ghash *g, uint8_t acc[16], const uint8_t *data, size_t blocks)
{
    /* what four bits that leave at the low end add at the high end */
    static const uint16_t reduce[16] = {0x0000, 0x1C20, 0x3840, 0x2460, 0x7080, 0x6CA0, 0x48C0, 0x54E0,
                                        0xE100, 0xFD20, 0xD940, 0xC560, 0x9180, 0x8DA0, 0xA9C0, 0xB5E0};
    for (; blocks > 0; data += 16, blocks--) {
        ks_xor(acc, data, 16);
        uint64_t hi = 0, lo = 0;
        for (int i = 31; i >= 0; i--) {
            unsigned nibble = i & 1 ? acc[i / 2] & 15 : acc[i / 2] >> 4;
            uint64_t out = lo & 15;
            lo = (lo >> 4 | hi << 60) ^ g->table[nibble][1];
            hi = (hi >> 4 ^ (uint64_t)reduce[out] << 48) ^ g->table[nibble][0];
        }
        ks_put_be64(acc, hi);
        ks_put_be64(acc + 8, lo);
    }
}

/* ---- carry-less multiplication ---- */

#if KS_X86

/* What both kernels use is inlined into each: see crc32.c. */
#define CLMUL __attribute__((target("sse4.1,pclmul")))
#define INLINED static inline __attribute__((always_inline))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,vpclmulqdq,pclmul")))
#define POLYNOMIAL ((long long)0xC200000000000000ull) /* x^127 + x^126 + x^121, without the low half */

/* A product before reduction: lo + mid * x^64 + hi * x^128. */
typedef struct {
    __m128i lo, mid, hi;
} product;

CLMUL INLINED void add_product(product *sum, __m128i a, __m128i b)
{
    sum->lo = _mm_xor_si128(sum->lo, _mm_clmulepi64_si128(a, b, 0x00));
    sum->hi = _mm_xor_si128(sum->hi, _mm_clmulepi64_si128(a, b, 0x11));
    sum->mid = _mm_xor_si128(sum->mid, _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x01), _mm_clmulepi64_si128(a, b, 0x10)));
}

CLMUL INLINED __m128i reduced(const product *p)
{
    const __m128i polynomial = _mm_set_epi64x(0, POLYNOMIAL);
    __m128i lo = _mm_xor_si128(p->lo, _mm_slli_si128(p->mid, 8)), hi = _mm_xor_si128(p->hi, _mm_srli_si128(p->mid, 8));
    for (int i = 0; i < 2; i++)
        lo = _mm_xor_si128(_mm_shuffle_epi32(lo, 0x4E), _mm_clmulepi64_si128(lo, polynomial, 0x00));
    return _mm_xor_si128(hi, lo);
}

CLMUL INLINED __m128i load16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

CLMUL INLINED __m128i reversed(__m128i v)
{
    return _mm_shuffle_epi8(v, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

CLMUL static void powers_init(ks_ghash *g, const uint8_t h[16])
{
    uint64_t hi = ks_get_be64(h), lo = ks_get_be64(h + 8), carry = 0 - (hi >> 63);
    hi = (hi << 1 | lo >> 63) ^ (carry & 0xC200000000000000ull);
    lo = lo << 1 ^ (carry & 1);
    const __m128i first = _mm_set_epi64x((long long)hi, (long long)lo);
    __m128i power = first;
    for (int i = KS_GHASH_POWERS - 1; i >= 0; i--) {
        _mm_storeu_si128((__m128i *)(void *)g->powers[i], power);
        product p = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
        add_product(&p, power, first);
        power = reduced(&p);
    }
}

/* acc is reversed, at most 16 blocks. */
CLMUL INLINED __m128i absorb_some(const ks_ghash *g, __m128i acc, const uint8_t *data, size_t blocks)
{
    const uint8_t(*power)[16] = &g->powers[KS_GHASH_POWERS - blocks];
    product p = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
    for (size_t i = 0; i < blocks; i++) {
        add_product(&p, _mm_xor_si128(reversed(load16(data + 16 * i)), acc), load16(power[i]));
        acc = _mm_setzero_si128();
    }
    return reduced(&p);
}

CLMUL static void absorb_clmul(const ks_ghash *g, uint8_t state[16], const uint8_t *data, size_t blocks)
{
    __m128i acc = reversed(load16(state));
    while (blocks > 0) {
        size_t n = blocks < 8 ? blocks : 8;
        acc = absorb_some(g, acc, data, n);
        data += 16 * n;
        blocks -= n;
    }
    _mm_storeu_si128((__m128i *)(void *)state, reversed(acc));
}

AVX512 INLINED __m128i joined(__m512i v)
{
    __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

AVX512 static void absorb_avx512(const ks_ghash *g, uint8_t state[16], const uint8_t *data, size_t blocks)
{
    const __m512i order = _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    __m128i acc = reversed(load16(state));
    while (blocks >= 4) {
        size_t n = blocks >= 16 ? 16 : blocks / 4 * 4;
        const uint8_t *power = g->powers[KS_GHASH_POWERS - n];
        __m512i lo = _mm512_setzero_si512(), mid = lo, hi = lo, first = _mm512_zextsi128_si512(acc);
        for (size_t i = 0; i < n; i += 4) {
            __m512i a = _mm512_xor_si512(_mm512_shuffle_epi8(_mm512_loadu_si512(data + 16 * i), order), first);
            __m512i b = _mm512_loadu_si512(power + 16 * i);
            lo = _mm512_xor_si512(lo, _mm512_clmulepi64_epi128(a, b, 0x00));
            hi = _mm512_xor_si512(hi, _mm512_clmulepi64_epi128(a, b, 0x11));
            mid = _mm512_ternarylogic_epi64(mid, _mm512_clmulepi64_epi128(a, b, 0x01), _mm512_clmulepi64_epi128(a, b, 0x10), 0x96);
            first = _mm512_setzero_si512();
        }
        product p = {joined(lo), joined(mid), joined(hi)};
        acc = reduced(&p);
        data += 16 * n;
        blocks -= n;
    }
    if (blocks > 0)
        acc = absorb_some(g, acc, data, blocks);
    _mm_storeu_si128((__m128i *)(void *)state, reversed(acc));
    _mm256_zeroupper();
}

#endif

void ks_ghash_init(ks_ghash *g, const uint8_t h[16])
{
    memset(g, 0, sizeof *g);
    table_init(g, h);
#if KS_X86
    if (ks_simd_has(KS_SIMD_CLMUL))
        powers_init(g, h);
#endif
}

static void absorb(const ks_ghash *g, uint8_t acc[16], const uint8_t *data, size_t blocks)
{
#if KS_X86
    if (ks_simd() == KS_SIMD_AVX512)
        absorb_avx512(g, acc, data, blocks);
    else if (ks_simd() >= KS_SIMD_CLMUL)
        absorb_clmul(g, acc, data, blocks);
    else
#endif
        absorb_plain(g, acc, data, blocks);
}

void ks_ghash_digest(const ks_ghash *g, const uint8_t *data, size_t size, uint8_t digest[16])
{
    uint8_t last[32] = {0};
    size_t whole = size / 16 * 16, rest = size % 16 != 0 ? 16 : 0;
    if (rest != 0)
        memcpy(last, data + whole, size % 16);
    ks_put_be64(last + rest + 8, (uint64_t)size * 8);
    memset(digest, 0, 16);
    absorb(g, digest, data, whole / 16);
    absorb(g, digest, last, rest / 16 + 1);
}
