/* SPDX-License-Identifier: MIT */
/* GHASH of GCM (NIST SP 800-38D) without associated data. */
#ifndef KS_GHASH_H
#define KS_GHASH_H

#include <stddef.h>
#include <stdint.h>

#define KS_GHASH_POWERS 16

/* What every kernel of this machine needs, so a later choice of the level (simd.h) is harmless. */
typedef struct {
    uint8_t powers[KS_GHASH_POWERS][16]; /* carry-less kernels: h^16 .. h^1, times x, reflected */
    uint64_t table[16][2];                            /* plain: nibble times h, high half first */
} ks_ghash;

void ks_ghash_init(ks_ghash *ghash, const uint8_t h[16]);
/* Over data | zeros to a multiple of 16 | 0 as u64 | size in bits as u64. */
void ks_ghash_digest(const ks_ghash *ghash, const uint8_t *data, size_t size, uint8_t digest[16]);

#endif
