/* SPDX-License-Identifier: MIT */
#include "crypt/cfb.h"

#include "base/octets.h"

#define CHUNK 2048u /* a whole packet, as a rule */

/* Longest first: those with a block j are then always the first ones. */
static void sort(const ks_packet **sorted, const ks_packet *packets, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && sorted[at - 1]->size < packets[i].size; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = &packets[i];
    }
}

/* text ^= stream; feed = text. In one piece, since a block that was stored by halves can't be forwarded to a whole load. */
static inline __attribute__((always_inline)) void xor_block(uint8_t *text, uint8_t *feed, const uint8_t *stream, size_t len)
{
    ks_vec16 a, b;
    uint64_t c, d;
    if (len == 16) {
        memcpy(&a, text, 16);
        memcpy(&b, stream, 16);
        a ^= b;
        memcpy(text, &a, 16);
        memcpy(feed, &a, 16);
    } else {
        memcpy(&c, text, 8);
        memcpy(&d, stream, 8);
        c ^= d;
        memcpy(text, &c, 8);
        memcpy(feed, &c, 8);
    }
}

static inline __attribute__((always_inline)) int encrypt(const ks_block *block, const ks_packet *packets, size_t n, size_t len)
{
    const ks_packet *sorted[KS_CFB_BATCH];
    uint8_t feed[KS_CFB_BATCH * 16], stream[KS_CFB_BATCH * 16];
    sort(sorted, packets, n);
    for (size_t i = 0; i < n; i++)
        memcpy(feed + i * len, sorted[i]->data + KS_CFB_CLEAR - len, len);
    size_t active = n, whole = n;
    for (size_t at = KS_CFB_CLEAR;; at += len) {
        while (active > 0 && sorted[active - 1]->size <= at)
            active--;
        while (whole > 0 && sorted[whole - 1]->size < at + len)
            whole--;
        if (active == 0)
            break;
        if (block->encrypt(block, feed, stream, active * len) != 0)
            return -1;
        for (size_t i = 0; i < whole; i++)
            xor_block(sorted[i]->data + at, feed + i * len, stream + i * len, len);
        for (size_t i = whole; i < active; i++)
            ks_xor(sorted[i]->data + at, stream + i * len, sorted[i]->size - at);
    }
    return 0;
}

int ks_cfb_encrypt(const ks_block *block, const ks_packet *packets, size_t n)
{
    return block->block_len == 16 ? encrypt(block, packets, n, 16) : encrypt(block, packets, n, 8);
}

/* From the end on: a chunk's key stream comes of the ciphertext before it, which is then still there. */
int ks_cfb_decrypt(const ks_block *block, uint8_t *packet, size_t size)
{
    uint8_t stream[CHUNK];
    size_t len = block->block_len, end = size;
    while (end > KS_CFB_CLEAR) {
        size_t start = KS_CFB_CLEAR + (end - KS_CFB_CLEAR - 1) / CHUNK * CHUNK, n = end - start;
        if (block->encrypt(block, packet + start - len, stream, (n + len - 1) / len * len) != 0)
            return -1;
        ks_xor(packet + start, stream, n);
        end = start;
    }
    return 0;
}
