/* SPDX-License-Identifier: MIT */
/* How much may go to an address before its owner has shown that it hears us: the anti-amplification limit of QUIC
 * (RFC 9000 8). Anybody can write any source address into a packet; were one small packet answered by many large ones, or
 * by the same ones again and again, its sender would have us flood a third party. So at most three times the bytes that
 * came from there go there, until a challenge is answered. Bytes are UDP payload, of all that comes and leaves.
 *
 * Pure: who receives earns, who sends spends, and what there is no credit for does not leave (wire.h). What the two ends do
 * to need little of it stands in docs/protocol.md 4. */
#ifndef KS_CREDIT_H
#define KS_CREDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KS_CREDIT_TIMES 3

/* All zero: nothing has come yet, so nothing may go. */
typedef struct {
    bool validated;          /* the address is known to hear us, so there is no limit; never taken back */
    uint32_t left;           /* while there is one: bytes that may still go; it stops at the largest number */
} ks_credit;

static inline void ks_credit_earn(ks_credit *credit, size_t bytes)
{
    const uint64_t more = KS_CREDIT_TIMES * (uint64_t)bytes, room = UINT32_MAX - credit->left;
    if (!credit->validated)
        credit->left += (uint32_t)(more < room ? more : room);
}

/* Its owner has answered a challenge, or we chose it ourselves. */
static inline void ks_credit_validate(ks_credit *credit)
{
    credit->validated = true;
}

/* -> false, and nothing is spent: there is not enough. */
static inline bool ks_credit_spend(ks_credit *credit, size_t bytes)
{
    if (credit->validated)
        return true;
    if (bytes > credit->left)
        return false;
    credit->left -= (uint32_t)bytes;
    return true;
}

#endif
