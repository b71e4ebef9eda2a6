/* SPDX-License-Identifier: MIT */
#include "crypt/aead.h"

#include "base/octets.h"
#include "crypt/poly1305.h"

/* ---- GCM: counter blocks of many packets go through the block cipher in one call ---- */

#define SPACE_BLOCKS 256u
#define FIRST_COUNTER 2u /* 1 is the tag's */

typedef struct {
    uint8_t *data;
    size_t size;
    const uint8_t *nonce;
    uint32_t counter;
} ctr_run;

static void put_counters(uint8_t *to, const uint8_t *nonce, uint32_t counter, size_t blocks)
{
    for (; blocks > 0; to += 16, counter++, blocks--) {
        memcpy(to, nonce, KS_AEAD_NONCE);
        ks_put_be32(to + KS_AEAD_NONCE, counter);
    }
}

static int ctr_xor(const ks_block *block, const ctr_run *runs, size_t n)
{
    struct {
        uint8_t *data;
        size_t size;
    } parts[SPACE_BLOCKS];
    uint8_t space[SPACE_BLOCKS * 16];
    size_t done = 0; /* blocks of *runs */
    while (n > 0) {
        size_t used = 0, count = 0;
        while (used < SPACE_BLOCKS && n > 0) {
            size_t left = runs->size - done * 16, blocks = (left + 15) / 16, room = SPACE_BLOCKS - used;
            size_t take = blocks < room ? blocks : room;
            if (take > 0) {
                put_counters(space + 16 * used, runs->nonce, runs->counter + (uint32_t)done, take);
                parts[count].data = runs->data + done * 16;
                parts[count++].size = left < take * 16 ? left : take * 16;
            }
            used += take;
            done += take;
            if (take == blocks) {
                runs++;
                n--;
                done = 0;
            }
        }
        if (used > 0 && block->encrypt(block, space, space, used * 16) != 0)
            return -1;
        const uint8_t *from = space;
        for (size_t i = 0; i < count; i++) {
            ks_xor(parts[i].data, from, parts[i].size);
            from += (parts[i].size + 15) / 16 * 16;
        }
    }
    ks_wipe(space, sizeof space);
    return 0;
}

int ks_gcm_seal(const ks_block *block, const ks_ghash *ghash, const ks_packet *packets, size_t n)
{
    ctr_run runs[2 * KS_AEAD_BATCH];
    if (n == 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t *data = packets[i].data;
        size_t size = packets[i].size - KS_AEAD_NONCE - KS_AEAD_TAG;
        memset(data + KS_AEAD_NONCE + size, 0, KS_AEAD_TAG);
        runs[2 * i] = (ctr_run){data + KS_AEAD_NONCE, size, data, FIRST_COUNTER};
        runs[2 * i + 1] = (ctr_run){data + KS_AEAD_NONCE + size, KS_AEAD_TAG, data, 1};
    }
    if (ctr_xor(block, runs, 2 * n) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        uint8_t digest[16];
        ks_ghash_digest(ghash, runs[2 * i].data, runs[2 * i].size, digest);
        ks_xor(runs[2 * i + 1].data, digest, 16);
    }
    return 0;
}

int ks_gcm_open(const ks_block *block, const ks_ghash *ghash, uint8_t *packet, size_t size)
{
    uint8_t space[SPACE_BLOCKS * 16], digest[16], *data = packet + KS_AEAD_NONCE;
    size -= KS_AEAD_NONCE + KS_AEAD_TAG;
    size_t first = size < sizeof space - 16 ? size : sizeof space - 16, blocks = 1 + (first + 15) / 16;
    put_counters(space, packet, 1, blocks);
    if (block->encrypt(block, space, space, blocks * 16) != 0)
        return -1;
    ks_ghash_digest(ghash, data, size, digest);
    ks_xor(digest, space, 16);
    int result = ks_equal16(digest, data + size) ? 0 : -1;
    if (result == 0) {
        ks_xor(data, space + 16, first);
        ctr_run rest = {data + first, size - first, packet, FIRST_COUNTER + (uint32_t)(first / 16)};
        if (rest.size > 0)
            result = ctr_xor(block, &rest, 1);
    }
    ks_wipe(space, blocks * 16);
    return result;
}

int ks_gcm_peek(const ks_block *block, uint8_t *packet, size_t size)
{
    ctr_run run = {packet + KS_AEAD_NONCE, size - KS_AEAD_NONCE, packet, FIRST_COUNTER};
    return ctr_xor(block, &run, 1);
}

/* ---- ChaCha20-Poly1305: block 0 of the key stream is the key of the tag ---- */

#define SPACE 2048u /* a whole packet, as a rule */

void ks_chacha_seal(const ks_keystream *stream, const ks_packet *packets, size_t n)
{
    ks_keystream_run runs[2 * KS_AEAD_BATCH];
    uint8_t keys[KS_AEAD_BATCH][32];
    if (n == 0)
        return;
    memset(keys, 0, 32 * n);
    for (size_t i = 0; i < n; i++) {
        uint8_t *data = packets[i].data;
        runs[2 * i] = ks_chacha20_run(keys[i], 32, data, 0);
        runs[2 * i + 1] = ks_chacha20_run(data + KS_AEAD_NONCE, packets[i].size - KS_AEAD_NONCE - KS_AEAD_TAG, data, 1);
    }
    ks_keystream_xor(stream, runs, 2 * n);
    for (size_t i = 0; i < n; i++) {
        const ks_keystream_run *run = &runs[2 * i + 1];
        ks_poly1305_tag(keys[i], run->data, run->size, run->data + run->size);
    }
    ks_wipe(keys, 32 * n);
}

int ks_chacha_open(const ks_keystream *stream, uint8_t *packet, size_t size)
{
    uint8_t space[SPACE], tag[16], *data = packet + KS_AEAD_NONCE;
    size -= KS_AEAD_NONCE + KS_AEAD_TAG;
    size_t first = size < SPACE - 64 ? size : SPACE - 64;
    ks_keystream_run run = ks_chacha20_run(space, 64 + first, packet, 0);
    memset(space, 0, 64 + first);
    ks_keystream_xor(stream, &run, 1);
    ks_poly1305_tag(space, data, size, tag);
    int result = ks_equal16(tag, data + size) ? 0 : -1;
    if (result == 0) {
        ks_xor(data, space + 64, first);
        ks_keystream_run rest = ks_chacha20_run(data + first, size - first, packet, 1 + (uint32_t)(first / 64));
        ks_keystream_xor(stream, &rest, 1);
    }
    ks_wipe(space, 64 + first);
    return result;
}

void ks_chacha_peek(const ks_keystream *stream, uint8_t *packet, size_t size)
{
    ks_keystream_run run = ks_chacha20_run(packet + KS_AEAD_NONCE, size - KS_AEAD_NONCE, packet, 1);
    ks_keystream_xor(stream, &run, 1);
}
