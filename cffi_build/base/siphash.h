/* SPDX-License-Identifier: MIT */
/* SipHash-2-4 (Aumasson, Bernstein): a hash that who does not have the key can neither foresee nor make collide. */
#ifndef KS_SIPHASH_H
#define KS_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t bytes[16];
} ks_siphash_key;

uint64_t ks_siphash(const ks_siphash_key *key, const uint8_t *data, size_t size);

#endif
