/* SPDX-License-Identifier: MIT */
#include "base/siphash.h"

#include "base/octets.h"

static inline uint64_t rotl(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void rounds(uint64_t v[4], unsigned n)
{
    for (; n > 0; n--) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] = rotl(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[2] = rotl(v[2], 32);
    }
}

uint64_t ks_siphash(const ks_siphash_key *key, const uint8_t *data, size_t size)
{
    const uint64_t k0 = ks_get_le64(key->bytes), k1 = ks_get_le64(key->bytes + 8);
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u};
    uint64_t word = 0;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        word = ks_get_le64(data + at);
        v[3] ^= word;
        rounds(v, 2);
        v[0] ^= word;
    }
    word = (uint64_t)size << 56;
    for (unsigned i = 0; at + i < size; i++)
        word |= (uint64_t)data[at + i] << 8 * i;
    v[3] ^= word;
    rounds(v, 2);
    v[0] ^= word;
    v[2] ^= 0xff;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
