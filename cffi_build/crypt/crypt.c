/* SPDX-License-Identifier: MIT */
/* Heads and tails, and which mode does what between them. */
#include "crypt/crypt.h"

#include "base/checks.h"
#include "crypt/aead.h"
#include "crypt/block.h"
#include "crypt/cfb.h"
#include "crypt/crc32.h"
#include "crypt/nonces.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/octets.h"

#define NONCE 16u /* of the modes with a crc32 */
#define HEAD (NONCE + 4u)
#define SALSA_CLEAR 8u /* Salsa20's nonce: the head's first bytes, in clear */
#define BATCH 64u
#define PEEK 32u /* what stands before a payload's first bytes, and they, in whole blocks */

_Static_assert(KS_NONCE_OWN == KS_AEAD_NONCE && KS_NONCE_OWN < NONCE, "a nonce is its own, and what else there is");
_Static_assert(HEAD + KS_CRYPT_PEEK <= PEEK, "a peek is long enough");
_Static_assert(BATCH <= KS_CFB_BATCH && BATCH <= KS_AEAD_BATCH && NONCE == KS_CFB_CLEAR, "what the modes expect");

struct ks_crypt {
    uint32_t refs;
    ks_crypt_mode mode;
    ks_block *block; /* KS_CRYPT_CFB, KS_CRYPT_GCM: owned */
    union {
        ks_keystream stream;                   /* KS_CRYPT_SALSA20, KS_CRYPT_CHACHA20 */
        ks_ghash ghash;                     /* KS_CRYPT_GCM */
        uint8_t xor_table[KS_CRYPT_XOR_BYTES]; /* KS_CRYPT_XOR */
    };
};

static bool fits(ks_crypt_mode mode, const uint8_t *key, size_t key_size, const ks_block *block)
{
    if (key == NULL && key_size > 0)
        return false;
    switch (mode) {
    case KS_CRYPT_NONE:
        return block == NULL;
    case KS_CRYPT_XOR:
        return block == NULL && key_size == KS_CRYPT_XOR_BYTES;
    case KS_CRYPT_SALSA20:
    case KS_CRYPT_CHACHA20:
        return block == NULL && key_size == 32;
    case KS_CRYPT_CFB:
        return block != NULL && (block->block_len == 8 || block->block_len == 16);
    case KS_CRYPT_GCM:
        return block != NULL && block->block_len == 16;
    }
    return false;
}

static int set_key(ks_crypt *c, const uint8_t *key)
{
    uint8_t h[16] = {0};
    switch (c->mode) {
    case KS_CRYPT_XOR:
        memcpy(c->xor_table, key, sizeof c->xor_table);
        return 0;
    case KS_CRYPT_SALSA20:
        ks_salsa20_init(&c->stream, key);
        return 0;
    case KS_CRYPT_CHACHA20:
        ks_chacha20_init(&c->stream, key);
        return 0;
    case KS_CRYPT_GCM:
        if (c->block->encrypt(c->block, h, h, sizeof h) != 0)
            return -1;
        ks_ghash_init(&c->ghash, h);
        ks_wipe(h, sizeof h);
        return 0;
    default:
        return 0;
    }
}

ks_crypt *ks_crypt_new(ks_crypt_mode mode, const uint8_t *key, size_t key_size, ks_block *block)
{
    ks_crypt *c = fits(mode, key, key_size, block) ? ks_alloc(sizeof *c) : NULL;
    if (c == NULL) {
        if (block != NULL)
            block->destructor(block);
        return NULL;
    }
    c->refs = 1;
    c->mode = mode;
    c->block = block;
    if (set_key(c, key) != 0) {
        ks_crypt_del(c);
        return NULL;
    }
    return c;
}

ks_crypt *ks_crypt_ref(ks_crypt *crypt)
{
    KS_ASSERT(crypt == NULL || crypt->refs > 0);
    if (crypt != NULL)
        crypt->refs++;
    return crypt;
}

void ks_crypt_del(ks_crypt *crypt)
{
    KS_ASSERT(crypt == NULL || crypt->refs > 0);
    if (crypt == NULL || --crypt->refs > 0)
        return;
    if (crypt->block != NULL)
        crypt->block->destructor(crypt->block);
    ks_wipe(crypt, sizeof *crypt);
    ks_free(crypt);
}

static bool is_aead(const ks_crypt *c)
{
    return c->mode == KS_CRYPT_GCM || c->mode == KS_CRYPT_CHACHA20;
}

size_t ks_crypt_head(const ks_crypt *crypt)
{
    return is_aead(crypt) ? KS_AEAD_NONCE : HEAD;
}

size_t ks_crypt_tail(const ks_crypt *crypt)
{
    return is_aead(crypt) ? KS_AEAD_TAG : 0;
}

/* From the nonce's end on: the table's bytes before that would only turn random bytes into others. */
static void xor_packet(const ks_crypt *c, uint8_t *packet, size_t size)
{
    size_t n = size < sizeof c->xor_table ? size : sizeof c->xor_table;
    ks_xor(packet + NONCE, c->xor_table + NONCE, n - NONCE);
}

static int put_nonce(const ks_crypt *c, ks_nonces *nonces, ks_entropy *entropy, uint8_t *head)
{
    int result = ks_nonces_make(nonces, entropy, head);
    if (result == KS_OK && !is_aead(c))
        result = ks_entropy_take(entropy, head + KS_NONCE_OWN, NONCE - KS_NONCE_OWN);
    return result;
}

static int seal_batch(const ks_crypt *c, ks_nonces *nonces, ks_entropy *entropy, const ks_packet *packets, size_t n)
{
    KS_ASSERT(n <= BATCH && (c->block != NULL) == (c->mode == KS_CRYPT_CFB || c->mode == KS_CRYPT_GCM));
    size_t least = ks_crypt_head(c) + ks_crypt_tail(c);
    for (size_t i = 0; i < n; i++) {
        uint8_t *data = packets[i].data;
        size_t size = packets[i].size;
        if (size < least || put_nonce(c, nonces, entropy, data) != KS_OK)
            return KS_EAGAIN;
        if (!is_aead(c))
            ks_put_le32(data + NONCE, ks_crc32(data + HEAD, size - HEAD));
        if (c->mode == KS_CRYPT_XOR)
            xor_packet(c, data, size);
    }
    if (c->mode == KS_CRYPT_SALSA20) {
        ks_keystream_run runs[BATCH];
        for (size_t i = 0; i < n; i++)
            runs[i] = ks_salsa20_run(packets[i].data + SALSA_CLEAR, packets[i].size - SALSA_CLEAR, packets[i].data, 0);
        ks_keystream_xor(&c->stream, runs, n);
    }
    if (c->mode == KS_CRYPT_CHACHA20)
        ks_chacha_seal(&c->stream, packets, n);
    if (c->mode == KS_CRYPT_CFB && ks_cfb_encrypt(c->block, packets, n) != 0)
        return KS_EAGAIN;
    if (c->mode == KS_CRYPT_GCM && ks_gcm_seal(c->block, &c->ghash, packets, n) != 0)
        return KS_EAGAIN;
    return KS_OK;
}

int ks_crypt_seal(const ks_crypt *crypt, ks_nonces *nonces, ks_entropy *entropy, const ks_packet *packets, size_t n)
{
    int result = KS_OK;
    while (n > 0 && result == KS_OK) {
        size_t batch = n < BATCH ? n : BATCH;
        result = seal_batch(crypt, nonces, entropy, packets, batch);
        packets += batch;
        n -= batch;
    }
    return result;
}

static int decrypt(const ks_crypt *c, uint8_t *packet, size_t size)
{
    ks_keystream_run run;
    switch (c->mode) {
    case KS_CRYPT_XOR:
        xor_packet(c, packet, size);
        return 0;
    case KS_CRYPT_SALSA20:
        run = ks_salsa20_run(packet + SALSA_CLEAR, size - SALSA_CLEAR, packet, 0);
        ks_keystream_xor(&c->stream, &run, 1);
        return 0;
    case KS_CRYPT_CFB:
        return ks_cfb_decrypt(c->block, packet, size);
    case KS_CRYPT_GCM:
        return ks_gcm_open(c->block, &c->ghash, packet, size);
    case KS_CRYPT_CHACHA20:
        return ks_chacha_open(&c->stream, packet, size);
    default:
        return 0;
    }
}

int ks_crypt_open_untrusted(const ks_crypt *crypt, uint8_t *packet, size_t size, uint8_t **payload, size_t *payload_size)
{
    size_t head = ks_crypt_head(crypt), around = head + ks_crypt_tail(crypt);
    if (size < around || decrypt(crypt, packet, size) != 0)
        return KS_EMALFORMED;
    if (!is_aead(crypt) && ks_get_le32(packet + NONCE) != ks_crc32(packet + HEAD, size - HEAD))
        return KS_EMALFORMED;
    *payload = packet + head;
    *payload_size = size - around;
    return KS_OK;
}

/* Of any packet's beginning: no tag is asked for. */
static int decrypt_start(const ks_crypt *c, uint8_t *packet, size_t size)
{
    switch (c->mode) {
    case KS_CRYPT_GCM:
        return ks_gcm_peek(c->block, packet, size);
    case KS_CRYPT_CHACHA20:
        ks_chacha_peek(&c->stream, packet, size);
        return 0;
    default:
        return decrypt(c, packet, size);
    }
}

int ks_crypt_peek_untrusted(const ks_crypt *crypt, const uint8_t *packet, size_t size, uint8_t start[KS_CRYPT_PEEK])
{
    uint8_t copy[PEEK];
    if (size < PEEK)
        return KS_EMALFORMED;
    memcpy(copy, packet, sizeof copy);
    if (decrypt_start(crypt, copy, sizeof copy) != 0)
        return KS_EMALFORMED;
    memcpy(start, copy + ks_crypt_head(crypt), KS_CRYPT_PEEK);
    return KS_OK;
}
