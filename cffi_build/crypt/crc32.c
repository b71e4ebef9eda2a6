/* SPDX-License-Identifier: MIT */
/* Folding as in Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ" (Intel, 2009). A fold constant
 * for a distance of d bits is the pair x^(d+32), x^(d-32) mod P, reflected, shifted left by one. What is left after folding,
 * 16 bytes, has the message's CRC and goes through the table: at this length that is as fast as Barrett's reduction. */
#include "crypt/crc32.h"

#include <pthread.h>

#include "base/octets.h"
#include "crypt/simd.h"
#if KS_X86
#include <immintrin.h>
#endif

/* table[k][b]: the effect of byte b, k bytes before the end. */
static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void make_table(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int i = 0; i < 8; i++)
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1)));
        table[0][b] = crc;
    }
    for (uint32_t b = 0; b < 256; b++) {
        for (int k = 1; k < 8; k++)
            table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 255];
    }
}

/* crc is the register, neither end inverted; so in all that follow. */
static uint32_t crc_plain(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint32_t a = crc ^ ks_get_le32(p), b = ks_get_le32(p + 4);
        crc = table[7][a & 255] ^ table[6][(a >> 8) & 255] ^ table[5][(a >> 16) & 255] ^ table[4][a >> 24] ^
              table[3][b & 255] ^ table[2][(b >> 8) & 255] ^ table[1][(b >> 16) & 255] ^ table[0][b >> 24];
    }
    for (; n > 0; p++, n--)
        crc = (crc >> 8) ^ table[0][(crc ^ *p) & 255];
    return crc;
}

#if KS_X86

#define FOLD_2048 0x11542778a, 0x1322d1430
#define FOLD_512 0x154442bd4, 0x1c6e41596
#define FOLD_128 0x1751997d0, 0x0ccaa009e

/* What both kernels use is inlined into each: SSE's encoding of it behind AVX-512 code costs 290 ns a packet. */
#define CLMUL __attribute__((target("sse4.1,pclmul")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,vpclmulqdq,pclmul")))
#define INLINED static inline __attribute__((always_inline))

CLMUL INLINED __m128i fold16(__m128i acc, __m128i k, __m128i next)
{
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(acc, k, 0x00), _mm_clmulepi64_si128(acc, k, 0x11)), next);
}

CLMUL INLINED __m128i load16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* acc stands for the 64 bytes before p. rest: 16 bytes with the CRC of all that but the last n % 16. */
CLMUL INLINED void fold_rest(__m128i acc[4], const uint8_t *p, size_t n, uint8_t rest[16])
{
    const __m128i k512 = _mm_set_epi64x(FOLD_512), k128 = _mm_set_epi64x(FOLD_128);
    const __m128i by64 = _mm_shuffle_epi32(k512, 0x4E), by16 = _mm_shuffle_epi32(k128, 0x4E);
    __m128i a = acc[0], b = acc[1], c = acc[2], d = acc[3];
    for (; n >= 64; p += 64, n -= 64) {
        a = fold16(a, by64, load16(p));
        b = fold16(b, by64, load16(p + 16));
        c = fold16(c, by64, load16(p + 32));
        d = fold16(d, by64, load16(p + 48));
    }
    a = fold16(fold16(fold16(a, by16, b), by16, c), by16, d);
    for (; n >= 16; p += 16, n -= 16)
        a = fold16(a, by16, load16(p));
    _mm_storeu_si128((__m128i *)(void *)rest, a);
}

CLMUL static uint32_t crc_clmul(uint32_t crc, const uint8_t *p, size_t n)
{
    __m128i acc[4] = {_mm_xor_si128(load16(p), _mm_cvtsi32_si128((int)crc)), load16(p + 16), load16(p + 32), load16(p + 48)};
    uint8_t rest[16];
    fold_rest(acc, p + 64, n - 64, rest);
    return crc_plain(crc_plain(0, rest, 16), p + n - n % 16, n % 16);
}

AVX512 INLINED __m512i fold64(__m512i acc, __m512i k, __m512i next)
{
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(acc, k, 0x00), _mm512_clmulepi64_epi128(acc, k, 0x11), next, 0x96);
}

AVX512 static uint32_t crc_avx512(uint32_t crc, const uint8_t *p, size_t n)
{
    const __m512i by256 = _mm512_shuffle_epi32(_mm512_broadcast_i32x4(_mm_set_epi64x(FOLD_2048)), 0x4E);
    const __m512i by64 = _mm512_shuffle_epi32(_mm512_broadcast_i32x4(_mm_set_epi64x(FOLD_512)), 0x4E);
    __m512i a = _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
    __m512i b = _mm512_loadu_si512(p + 64), c = _mm512_loadu_si512(p + 128), d = _mm512_loadu_si512(p + 192);
    for (p += 256, n -= 256; n >= 256; p += 256, n -= 256) {
        a = fold64(a, by256, _mm512_loadu_si512(p));
        b = fold64(b, by256, _mm512_loadu_si512(p + 64));
        c = fold64(c, by256, _mm512_loadu_si512(p + 128));
        d = fold64(d, by256, _mm512_loadu_si512(p + 192));
    }
    a = fold64(fold64(fold64(a, by64, b), by64, c), by64, d);
    for (; n >= 64; p += 64, n -= 64)
        a = fold64(a, by64, _mm512_loadu_si512(p));
    __m128i acc[4] = {_mm512_castsi512_si128(a), _mm512_extracti32x4_epi32(a, 1), _mm512_extracti32x4_epi32(a, 2),
                      _mm512_extracti32x4_epi32(a, 3)};
    uint8_t rest[16];
    fold_rest(acc, p, n, rest);
    _mm256_zeroupper(); /* gcc 12 leaves it out before calls of statics, and all SSE code behind it crawls */
    return crc_plain(crc_plain(0, rest, 16), p + n - n % 16, n % 16);
}

#elif defined(__aarch64__)

#if defined(__clang__)
#define CRC_TARGET __attribute__((target("crc")))
#define CRC_8 __builtin_arm_crc32d
#define CRC_1 __builtin_arm_crc32b
#else
#define CRC_TARGET __attribute__((target("+crc")))
#define CRC_8 __builtin_aarch64_crc32x
#define CRC_1 __builtin_aarch64_crc32b
#endif

CRC_TARGET static uint32_t crc_arm(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8)
        crc = CRC_8(crc, ks_get_le64(p));
    for (; n > 0; p++, n--)
        crc = CRC_1(crc, *p);
    return crc;
}

#endif

uint32_t ks_crc32(const uint8_t *data, size_t n)
{
    pthread_once(&table_once, make_table);
#if KS_X86
    ks_simd_level level = ks_simd();
    if (n >= 256 && level == KS_SIMD_AVX512)
        return ~crc_avx512(~0u, data, n);
    if (n >= 64 && level >= KS_SIMD_CLMUL)
        return ~crc_clmul(~0u, data, n);
#elif defined(__aarch64__)
    if (ks_simd() == KS_SIMD_ARM)
        return ~crc_arm(~0u, data, n);
#endif
    return ~crc_plain(~0u, data, n);
}
