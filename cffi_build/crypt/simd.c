/* SPDX-License-Identifier: MIT */
#include "crypt/simd.h"

#include <stdatomic.h>

#include "base/err.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

static atomic_int selected;

int ks_simd_has(ks_simd_level level)
{
    if (level == KS_SIMD_PLAIN)
        return 1;
#if KS_X86
    __builtin_cpu_init();
    int clmul = __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("pclmul");
    int avx2 = clmul && __builtin_cpu_supports("avx2");
    if (level == KS_SIMD_CLMUL)
        return clmul;
    if (level == KS_SIMD_AVX2)
        return avx2;
    if (level == KS_SIMD_AVX512)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512ifma") &&
               __builtin_cpu_supports("vpclmulqdq");
#elif defined(__aarch64__) && defined(__linux__)
    if (level == KS_SIMD_ARM)
        return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
    return 0;
}

static ks_simd_level best(void)
{
    static const ks_simd_level by_speed[] = {KS_SIMD_AVX512, KS_SIMD_AVX2, KS_SIMD_CLMUL, KS_SIMD_ARM};
    for (unsigned i = 0; i < sizeof by_speed / sizeof *by_speed; i++) {
        if (ks_simd_has(by_speed[i]))
            return by_speed[i];
    }
    return KS_SIMD_PLAIN;
}

ks_simd_level ks_simd(void)
{
    int level = atomic_load_explicit(&selected, memory_order_relaxed);
    if (level == KS_SIMD_AUTO) {
        level = (int)best(); /* two threads may both look: they find the same */
        atomic_store_explicit(&selected, level, memory_order_relaxed);
    }
    return (ks_simd_level)level;
}

int ks_simd_select(ks_simd_level level)
{
    if (level == KS_SIMD_AUTO)
        level = best();
    if (!ks_simd_has(level))
        return KS_EAGAIN;
    atomic_store_explicit(&selected, (int)level, memory_order_relaxed);
    return KS_OK;
}
