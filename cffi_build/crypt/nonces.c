/* SPDX-License-Identifier: MIT */
#include "crypt/nonces.h"

#include "base/err.h"
#include "base/octets.h"

#define ROUNDS 4u
#define HALF_BITS 48u
#define HALF_MASK ((UINT64_C(1) << HALF_BITS) - 1)

static uint64_t scrambled(const ks_nonces *n, uint64_t half, unsigned round)
{
    uint8_t in[8];
    ks_put_le64(in, half | (uint64_t)round << HALF_BITS);
    return ks_siphash(&n->key, in, sizeof in) & HALF_MASK;
}

static uint64_t get_half(const uint8_t *from)
{
    return ks_get_le32(from) | (uint64_t)ks_get_le16(from + 4) << 32;
}

static void put_half(uint8_t *to, uint64_t half)
{
    ks_put_le32(to, (uint32_t)half);
    ks_put_le16(to + 4, (uint16_t)(half >> 32));
}

int ks_nonces_make(ks_nonces *n, ks_entropy *entropy, uint8_t nonce[KS_NONCE_OWN])
{
    if (n->next == 0 && ks_entropy_take(entropy, n->key.bytes, sizeof n->key.bytes) != KS_OK)
        return KS_EAGAIN;
    n->next++;
    uint64_t left = n->next & HALF_MASK, right = n->next >> HALF_BITS;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t was = right;
        right = left ^ scrambled(n, right, round);
        left = was;
    }
    put_half(nonce, left);
    put_half(nonce + 6, right);
    return KS_OK;
}

bool ks_nonces_is_own(const ks_nonces *n, const uint8_t nonce[KS_NONCE_OWN])
{
    if (n->next == 0)
        return false;
    uint64_t left = get_half(nonce), right = get_half(nonce + 6);
    for (unsigned round = ROUNDS; round-- > 0;) {
        uint64_t was = left;
        left = right ^ scrambled(n, left, round);
        right = was;
    }
    uint64_t count = left | right << HALF_BITS;
    return right >> 16 == 0 && count != 0 && count <= n->next;
}
