/* SPDX-License-Identifier: MIT */
/* Which instructions the crypt's kernels may use: found once, all levels give the same bytes. */
#ifndef KS_SIMD_H
#define KS_SIMD_H

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define KS_X86 1
#else
#define KS_X86 0
#endif

/* Each level of x86 has the ones before it. */
typedef enum {
    KS_SIMD_AUTO,
    KS_SIMD_PLAIN,  /* what the compiler may assume anyway */
    KS_SIMD_CLMUL,  /* SSE4.1, PCLMULQDQ */
    KS_SIMD_AVX2,
    KS_SIMD_AVX512, /* F, BW, VL, IFMA, VPCLMULQDQ */
    KS_SIMD_ARM,    /* ARMv8 CRC32 */
} ks_simd_level;

/* The level in use: the best there is, until another is selected. */
ks_simd_level ks_simd(void);
int ks_simd_has(ks_simd_level level);
/* Tests and benchmarks choose; -> KS_OK, or KS_EAGAIN: this machine has not got it. */
int ks_simd_select(ks_simd_level level);

#endif
