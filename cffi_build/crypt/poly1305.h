/* SPDX-License-Identifier: MIT */
/* Poly1305 (RFC 8439, 2.5) as its AEAD uses it: over a ciphertext without associated data. */
#ifndef KS_POLY1305_H
#define KS_POLY1305_H

#include <stddef.h>
#include <stdint.h>

/* The tag over data | zeros to a multiple of 16 | 0 as u64 | size as u64. */
void ks_poly1305_tag(const uint8_t key[32], const uint8_t *data, size_t size, uint8_t tag[16]);
/* The bare function, for its published vectors. */
void ks_poly1305(const uint8_t key[32], const uint8_t *data, size_t size, uint8_t tag[16]);

#endif
