/* SPDX-License-Identifier: MIT */
/* Products come from two tables made when the library is loaded: for pshufb and its kin the products of a coefficient with
 * the 16 values of each half of a byte, for GFNI the coefficient as an 8x8 matrix of bits. GF2P8MULB itself is of no use:
 * it multiplies by AES's polynomial, and ours is 0x11D. */
#include "fec/gf256.h"

#include <stdbool.h>
#include <string.h>

#include "base/err.h"

#define POLYNOMIAL 0x11du

static uint8_t halves[256][32]; /* [c]: c * 0..15, then c * 0x00, 0x10 .. 0xf0 */
static uint8_t inverse[256];

static uint8_t times_slowly(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = 0; bit < 8; bit++)
        product ^= b >> bit & 1 ? a << bit : 0;
    for (uint32_t bit = 15; bit > 7; bit--)
        product ^= product >> bit & 1 ? POLYNOMIAL << (bit - 8) : 0;
    return (uint8_t)product;
}

uint8_t ks_gf_mul(uint8_t a, uint8_t b)
{
    return halves[a][b & 15] ^ halves[a][16 + (b >> 4)];
}

uint8_t ks_gf_inv(uint8_t a)
{
    return inverse[a];
}

/* ---- plain C: eight bytes a step ---- */

static inline uint64_t plain_load(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void plain_store(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline uint64_t plain_load_part(const uint8_t *p, size_t k)
{
    uint64_t v = 0;
    memcpy(&v, p, k);
    return v;
}

static inline void plain_store_part(uint8_t *p, size_t k, uint64_t v)
{
    memcpy(p, &v, k);
}

static inline uint64_t plain_plus(uint64_t a, uint64_t b)
{
    return a ^ b;
}

static inline const uint8_t *plain_table_of(uint8_t c)
{
    return halves[c];
}

static inline uint64_t plain_times(const uint8_t *table, uint64_t x)
{
    uint64_t product = 0;
    for (int shift = 0; shift < 64; shift += 8)
        product |= (uint64_t)(uint8_t)(table[x >> shift & 15] ^ table[16 + (x >> (shift + 4) & 15)]) << shift;
    return product;
}

#define NAME(x) plain_##x
#define TARGET
#define VEC uint64_t
#define WIDTH 8u
typedef const uint8_t *plain_table;
#define TABLE plain_table
#include "fec/gf256_rows.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

static uint64_t matrices[256]; /* [c]: for GF2P8AFFINEQB; its byte 7 gives the product's bit 0 */

static void make_matrices(void)
{
    for (uint32_t c = 0; c < 256; c++)
        for (uint32_t out = 0; out < 8; out++)
            for (uint32_t in = 0; in < 8; in++)
                matrices[c] |= (uint64_t)(times_slowly(c, 1u << in) >> out & 1) << (8 * (7 - out) + in);
}

/* ---- SSSE3 ---- */

#define SSSE3 __attribute__((target("ssse3")))

typedef struct {
    __m128i low, high;
} ssse3_table;

static inline SSSE3 __m128i ssse3_load(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline SSSE3 void ssse3_store(uint8_t *p, __m128i v)
{
    _mm_storeu_si128((__m128i *)(void *)p, v);
}

static inline SSSE3 __m128i ssse3_load_part(const uint8_t *p, size_t k)
{
    uint8_t whole[16] = {0};
    memcpy(whole, p, k);
    return ssse3_load(whole);
}

static inline SSSE3 void ssse3_store_part(uint8_t *p, size_t k, __m128i v)
{
    uint8_t whole[16];
    ssse3_store(whole, v);
    memcpy(p, whole, k);
}

static inline SSSE3 __m128i ssse3_plus(__m128i a, __m128i b)
{
    return _mm_xor_si128(a, b);
}

static inline SSSE3 ssse3_table ssse3_table_of(uint8_t c)
{
    return (ssse3_table){ssse3_load(halves[c]), ssse3_load(halves[c] + 16)};
}

static inline SSSE3 __m128i ssse3_times(ssse3_table t, __m128i x)
{
    const __m128i half = _mm_set1_epi8(15);
    __m128i low = _mm_shuffle_epi8(t.low, _mm_and_si128(x, half));
    return _mm_xor_si128(low, _mm_shuffle_epi8(t.high, _mm_and_si128(_mm_srli_epi64(x, 4), half)));
}

#define NAME(x) ssse3_##x
#define TARGET SSSE3
#define VEC __m128i
#define WIDTH 16u
#define TABLE ssse3_table
#include "fec/gf256_rows.h"

/* ---- AVX2 ---- */

#define AVX2 __attribute__((target("avx2")))

typedef struct {
    __m256i low, high;
} avx2_table;

static inline AVX2 __m256i avx2_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline AVX2 void avx2_store(uint8_t *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}

static inline AVX2 __m256i avx2_load_part(const uint8_t *p, size_t k)
{
    uint8_t whole[32] = {0};
    memcpy(whole, p, k);
    return avx2_load(whole);
}

static inline AVX2 void avx2_store_part(uint8_t *p, size_t k, __m256i v)
{
    uint8_t whole[32];
    avx2_store(whole, v);
    memcpy(p, whole, k);
}

static inline AVX2 __m256i avx2_plus(__m256i a, __m256i b)
{
    return _mm256_xor_si256(a, b);
}

static inline AVX2 avx2_table avx2_table_of(uint8_t c)
{
    const __m128i *t = (const __m128i *)(const void *)halves[c];
    return (avx2_table){_mm256_broadcastsi128_si256(_mm_loadu_si128(t)), _mm256_broadcastsi128_si256(_mm_loadu_si128(t + 1))};
}

static inline AVX2 __m256i avx2_times(avx2_table t, __m256i x)
{
    const __m256i half = _mm256_set1_epi8(15);
    __m256i low = _mm256_shuffle_epi8(t.low, _mm256_and_si256(x, half));
    return _mm256_xor_si256(low, _mm256_shuffle_epi8(t.high, _mm256_and_si256(_mm256_srli_epi64(x, 4), half)));
}

#define NAME(x) avx2_##x
#define TARGET AVX2
#define VEC __m256i
#define WIDTH 32u
#define TABLE avx2_table
#include "fec/gf256_rows.h"

/* ---- GFNI on 32 bytes ---- */

#define GFNI32 __attribute__((target("gfni,avx2")))
#define gfni32_load avx2_load
#define gfni32_store avx2_store
#define gfni32_load_part avx2_load_part
#define gfni32_store_part avx2_store_part
#define gfni32_plus avx2_plus

static inline GFNI32 __m256i gfni32_table_of(uint8_t c)
{
    return _mm256_set1_epi64x((long long)matrices[c]);
}

static inline GFNI32 __m256i gfni32_times(__m256i matrix, __m256i x)
{
    return _mm256_gf2p8affine_epi64_epi8(x, matrix, 0);
}

#define NAME(x) gfni32_##x
#define TARGET GFNI32
#define VEC __m256i
#define WIDTH 32u
#define TABLE __m256i
#include "fec/gf256_rows.h"

/* ---- GFNI on 64 bytes ---- */

#define GFNI64 __attribute__((target("gfni,avx512f,avx512bw")))

static inline GFNI64 __m512i gfni64_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

static inline GFNI64 void gfni64_store(uint8_t *p, __m512i v)
{
    _mm512_storeu_si512(p, v);
}

static inline GFNI64 __m512i gfni64_load_part(const uint8_t *p, size_t k)
{
    return _mm512_maskz_loadu_epi8(((__mmask64)1 << k) - 1, p);
}

static inline GFNI64 void gfni64_store_part(uint8_t *p, size_t k, __m512i v)
{
    _mm512_mask_storeu_epi8(p, ((__mmask64)1 << k) - 1, v);
}

static inline GFNI64 __m512i gfni64_plus(__m512i a, __m512i b)
{
    return _mm512_xor_si512(a, b);
}

static inline GFNI64 __m512i gfni64_table_of(uint8_t c)
{
    return _mm512_set1_epi64((long long)matrices[c]);
}

static inline GFNI64 __m512i gfni64_times(__m512i matrix, __m512i x)
{
    return _mm512_gf2p8affine_epi64_epi8(x, matrix, 0);
}

#define NAME(x) gfni64_##x
#define TARGET GFNI64
#define VEC __m512i
#define WIDTH 64u
#define TABLE __m512i
#include "fec/gf256_rows.h"
#endif

#if defined(__aarch64__)
#include <arm_neon.h>

static inline uint8x16_t neon_load_part(const uint8_t *p, size_t k)
{
    uint8_t whole[16] = {0};
    memcpy(whole, p, k);
    return vld1q_u8(whole);
}

static inline void neon_store_part(uint8_t *p, size_t k, uint8x16_t v)
{
    uint8_t whole[16];
    vst1q_u8(whole, v);
    memcpy(p, whole, k);
}

static inline uint8x16x2_t neon_table_of(uint8_t c)
{
    return (uint8x16x2_t){{vld1q_u8(halves[c]), vld1q_u8(halves[c] + 16)}};
}

static inline uint8x16_t neon_times(uint8x16x2_t t, uint8x16_t x)
{
    return veorq_u8(vqtbl1q_u8(t.val[0], vandq_u8(x, vdupq_n_u8(15))), vqtbl1q_u8(t.val[1], vshrq_n_u8(x, 4)));
}

#define neon_load vld1q_u8
#define neon_store vst1q_u8
#define neon_plus veorq_u8
#define NAME(x) neon_##x
#define TARGET
#define VEC uint8x16_t
#define WIDTH 16u
#define TABLE uint8x16x2_t
#include "fec/gf256_rows.h"
#endif

/* ---- the choice ---- */

typedef void muladd(uint8_t *const *dst, const uint8_t *coef, size_t rows, const uint8_t *src, size_t n);

static muladd *chosen = plain_muladd;
static ks_gf_kernel selected = KS_GF_PLAIN;

/* NULL: not on this machine. */
static muladd *kernel_of(ks_gf_kernel kernel)
{
    if (kernel == KS_GF_PLAIN)
        return plain_muladd;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    if (kernel == KS_GF_SSSE3 && __builtin_cpu_supports("ssse3"))
        return ssse3_muladd;
    if (kernel == KS_GF_AVX2 && __builtin_cpu_supports("avx2"))
        return avx2_muladd;
    bool has_gfni = __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx2");
    if (kernel == KS_GF_GFNI_AVX2 && has_gfni)
        return gfni32_muladd;
    if (kernel == KS_GF_GFNI && has_gfni && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        return gfni64_muladd;
#elif defined(__aarch64__)
    if (kernel == KS_GF_NEON)
        return neon_muladd;
#endif
    return NULL;
}

int ks_gf_select(int number)
{
    ks_gf_kernel kernel = (ks_gf_kernel)number;
    static const ks_gf_kernel best_first[] = {KS_GF_GFNI, KS_GF_GFNI_AVX2, KS_GF_AVX2, KS_GF_SSSE3, KS_GF_NEON, KS_GF_PLAIN};
    if (kernel == KS_GF_AUTO)
        for (size_t i = 0; kernel_of(kernel) == NULL; i++)
            kernel = best_first[i];
    muladd *found = kernel_of(kernel);
    if (found == NULL)
        return KS_EAGAIN;
    chosen = found;
    selected = kernel;
    return KS_OK;
}

ks_gf_kernel ks_gf_selected(void)
{
    return selected;
}

void ks_gf_muladd(uint8_t *const *dst, const uint8_t *coef, size_t rows, const uint8_t *src, size_t n)
{
    chosen(dst, coef, rows, src, n);
}

/* As the library is loaded, so that no call has to ask whether the tables stand. */
static __attribute__((constructor)) void gf_init(void)
{
    for (uint32_t c = 0; c < 256; c++)
        for (uint32_t half = 0; half < 16; half++) {
            halves[c][half] = times_slowly(c, half);
            halves[c][16 + half] = times_slowly(c, half << 4);
        }
    uint8_t power[255] = {1};
    for (uint32_t i = 1; i < 255; i++)
        power[i] = ks_gf_mul(2, power[i - 1]);
    for (uint32_t i = 0; i < 255; i++)
        inverse[power[i]] = power[(255 - i) % 255];
#if defined(__x86_64__) || defined(__i386__)
    make_matrices();
#endif
    ks_gf_select(KS_GF_AUTO);
}
