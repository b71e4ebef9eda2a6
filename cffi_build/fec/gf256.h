/* SPDX-License-Identifier: MIT */
/* GF(2^8) with polynomial 0x11D and generator 2, on bulk data. The kernel (GFNI, AVX2, SSSE3, NEON, plain C) is chosen
 * once for the process; all give the same bytes. */
#ifndef KS_GF256_H
#define KS_GF256_H

#include <stddef.h>
#include <stdint.h>

#include "base/cdef.h"

KS_CDEF
/* KS_GF_GFNI: 64 bytes a step (AVX-512BW); KS_GF_GFNI_AVX2: 32. */
typedef enum { KS_GF_AUTO, KS_GF_PLAIN, KS_GF_SSSE3, KS_GF_AVX2, KS_GF_GFNI, KS_GF_NEON, KS_GF_GFNI_AVX2 } ks_gf_kernel;

/* Tests and benchmarks choose, by any number; -> KS_OK, or KS_EAGAIN: this machine has not got it. Not while another thread computes. */
int ks_gf_select(int kernel);
ks_gf_kernel ks_gf_selected(void);
KS_CDEF_END

uint8_t ks_gf_mul(uint8_t a, uint8_t b);
uint8_t ks_gf_inv(uint8_t a); /* of 0: 0 */
/* dst[r][0..n) ^= coef[r] * src[0..n), for each of `rows` rows. The rows don't overlap; a single row may be src itself,
 * which coef ^ 1 then multiplies by coef in place. */
void ks_gf_muladd(uint8_t *const *dst, const uint8_t *coef, size_t rows, const uint8_t *src, size_t n);

#endif
