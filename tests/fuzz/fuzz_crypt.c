/* SPDX-License-Identifier: MIT */
/* Any bytes at every way of opening a packet, also such as were sealed and changed then: what is opened lies inside the
 * packet, what was not changed opens to what was sealed, and what was changed never passes where a tag tells. */
#include "crypt/block.h"
#include "crypt/crypt.h"
#include "base/err.h"
#include "main.h"
#include "base/mem.h"

enum { CRYPTS = 10, PAYLOAD_MAX = 2200 };

static ks_crypt *crypts[CRYPTS];
static bool is_aead[CRYPTS];
static ks_entropy entropy;
static ks_nonces nonces;

static void open_crypts(void)
{
    static uint8_t key[KS_CRYPT_XOR_BYTES];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 13 + i / 256);
    ks_crypt *all[CRYPTS] = {
        ks_crypt_new(KS_CRYPT_NONE, NULL, 0, NULL), ks_crypt_new(KS_CRYPT_XOR, key, sizeof key, NULL),
        ks_crypt_new(KS_CRYPT_SALSA20, key, 32, NULL), ks_crypt_new(KS_CRYPT_CFB, NULL, 0, ks_twofish_new(key, 32)),
        ks_crypt_new(KS_CRYPT_CFB, NULL, 0, ks_sm4_new(key, 16)), ks_crypt_new(KS_CRYPT_CFB, NULL, 0, ks_tea_new(key, 16)),
        ks_crypt_new(KS_CRYPT_CFB, NULL, 0, ks_xtea_new(key, 16)), ks_crypt_new(KS_CRYPT_GCM, NULL, 0, ks_twofish_new(key, 32)),
        ks_crypt_new(KS_CRYPT_GCM, NULL, 0, ks_sm4_new(key, 16)), ks_crypt_new(KS_CRYPT_CHACHA20, key, 32, NULL),
    };
    for (int i = 0; i < CRYPTS; i++) {
        MUST(all[i] != NULL);
        is_aead[i] = i >= 7;
        crypts[i] = all[i];
    }
}

/* In memory of exactly its size. */
static void open_one(int which, const uint8_t *packet, size_t size, const uint8_t *expected, size_t expected_size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1), *payload = NULL;
    size_t n = 0;
    MUST(copy != NULL);
    memcpy(copy, packet, size);
    int result = ks_crypt_open_untrusted(crypts[which], copy, size, &payload, &n);
    MUST(result == KS_OK || result == KS_EMALFORMED);
    if (result == KS_OK)
        MUST(payload >= copy && n <= size && payload + n <= copy + size);
    if (expected != NULL)
        MUST(result == KS_OK && n == expected_size && memcmp(payload, expected, n) == 0);
    else
        MUST(result != KS_OK || !is_aead[which]);
    free(copy);
}

static void step(input *in)
{
    uint8_t packet[PAYLOAD_MAX + 64], payload[PAYLOAD_MAX];
    uint32_t what = take(in, 1), changes = take(in, 1) % 4;
    int which = (int)(what % CRYPTS);
    size_t size = take(in, 2) % PAYLOAD_MAX, head = ks_crypt_head(crypts[which]), all = head + size + ks_crypt_tail(crypts[which]);
    if (what >= 200) { /* as it stands in the input */
        size_t left = (size_t)(in->end - in->next), raw = size % 100 < left ? size % 100 : left;
        open_one(which, in->next, raw, NULL, 0);
        in->next += raw;
        return;
    }
    memset(payload, (int)what, size);
    memcpy(packet + head, payload, size);
    MUST(ks_crypt_seal(crypts[which], &nonces, &entropy, &(ks_packet){packet, all}, 1) == KS_OK);
    open_one(which, packet, all, payload, size);
    if (changes == 0)
        open_one(which, packet, take(in, 2) % all, NULL, 0);
    for (; changes > 0; changes--) {
        packet[take(in, 2) % all] ^= (uint8_t)(1u << take(in, 1) % 8);
        open_one(which, packet, all, NULL, 0);
        if (changes > 1) /* two may undo each other */
            MUST(ks_crypt_seal(crypts[which], &nonces, &entropy, &(ks_packet){packet, all}, 1) == KS_OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, data + size};
    if (crypts[0] == NULL)
        open_crypts();
    for (int n = 0; in.next < in.end && n < 60; n++)
        step(&in);
    return 0;
}
