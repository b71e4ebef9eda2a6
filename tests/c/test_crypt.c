/* SPDX-License-Identifier: MIT */
/* Packet crypt in buffers of exactly a packet's size, so that a sanitizer sees a byte read or written beside them. */
#include <stdlib.h>

#include "crypt/block.h"
#include "check.h"
#include "crypt/crypt.h"
#include "base/err.h"
#include "base/mem.h"
#include "crypt/simd.h"

static const uint8_t key[KS_CRYPT_XOR_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9};

typedef struct {
    const char *name;
    ks_crypt_mode mode;
    size_t key_size;
    ks_block *(*block)(const uint8_t *, size_t);
} kind;

static const kind kinds[] = {
    {"none", KS_CRYPT_NONE, 0, NULL},
    {"xor", KS_CRYPT_XOR, KS_CRYPT_XOR_BYTES, NULL},
    {"salsa20", KS_CRYPT_SALSA20, 32, NULL},
    {"chacha20", KS_CRYPT_CHACHA20, 32, NULL},
    {"twofish", KS_CRYPT_CFB, 0, ks_twofish_new},
    {"sm4", KS_CRYPT_CFB, 0, ks_sm4_new},
    {"tea", KS_CRYPT_CFB, 0, ks_tea_new},
    {"xtea", KS_CRYPT_CFB, 0, ks_xtea_new},
    {"sm4-gcm", KS_CRYPT_GCM, 0, ks_sm4_new},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static ks_crypt *new_crypt(const kind *k)
{
    ks_block *block = k->block != NULL ? k->block(key, 16) : NULL;
    return k->block != NULL && block == NULL ? NULL : ks_crypt_new(k->mode, key, k->key_size, block);
}

static uint8_t byte_of(size_t i)
{
    return (uint8_t)(i * 31 + i / 256);
}

/* n packets of sizes first, first + step...: sealed together, opened one by one. */
static void round_trip(const ks_crypt *c, ks_entropy *entropy, size_t first, size_t step, size_t n)
{
    ks_packet packets[100];
    uint8_t other[KS_NONCE_OWN];
    size_t head = ks_crypt_head(c), around = head + ks_crypt_tail(c);
    for (size_t i = 0; i < n; i++) {
        size_t size = first + i * step;
        packets[i] = (ks_packet){malloc(around + size), around + size};
        for (size_t b = 0; b < size; b++)
            packets[i].data[head + b] = byte_of(b);
    }
    ks_nonces nonces = {.next = 0}, others = {.next = 0};
    CHECK_EQ(ks_crypt_seal(c, &nonces, entropy, packets, n), KS_OK);
    CHECK_EQ(ks_nonces_make(&others, entropy, other), KS_OK);
    for (size_t i = 0; i < n; i++) {
        uint8_t *payload = NULL, start[KS_CRYPT_PEEK];
        size_t size = 0, wrong = 0;
        bool is_long = packets[i].size >= 32;
        CHECK_EQ(ks_crypt_peek_untrusted(c, packets[i].data, packets[i].size, start), is_long ? KS_OK : KS_EMALFORMED);
        for (size_t b = 0; is_long && b < sizeof start && b < first + i * step; b++)
            wrong += start[b] != byte_of(b);
        CHECK_EQ(ks_crypt_open_untrusted(c, packets[i].data, packets[i].size, &payload, &size), KS_OK);
        CHECK(ks_nonces_is_own(&nonces, packets[i].data) && !ks_nonces_is_own(&others, packets[i].data));
        CHECK_EQ(size, first + i * step);
        CHECK(payload == packets[i].data + head);
        for (size_t b = 0; b < size; b++)
            wrong += payload[b] != byte_of(b);
        CHECK_EQ(wrong, 0);
        free(packets[i].data);
    }
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, KS_NONCE_OWN);
}

static void test_nonces_are_known_again_and_never_twice(void)
{
    enum { MANY = 20000 };
    static uint8_t made[MANY][KS_NONCE_OWN];
    ks_entropy entropy = {.left = 0};
    ks_nonces nonces = {.next = 0}, others = {.next = 0};
    CHECK(!ks_nonces_is_own(&nonces, made[0]));
    for (int i = 0; i < MANY; i++) {
        if (i == MANY / 2)
            nonces.next = (UINT64_C(1) << 48) - 100; /* the counter's halves */
        CHECK_EQ(ks_nonces_make(&nonces, &entropy, made[i]), KS_OK);
        CHECK_EQ(ks_nonces_make(&others, &entropy, made[0]), KS_OK);
        CHECK(ks_nonces_is_own(&nonces, made[i]) == (i > 0) && !ks_nonces_is_own(&nonces, made[0]));
    }
    for (int bit = 0; bit < 8 * (int)KS_NONCE_OWN; bit++) {
        uint8_t changed[KS_NONCE_OWN];
        memcpy(changed, made[1], sizeof changed);
        changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(!ks_nonces_is_own(&nonces, changed));
    }
    int same = 0, ones = 0;
    qsort(made, MANY, KS_NONCE_OWN, by_bytes);
    for (int i = 1; i < MANY; i++) {
        same += memcmp(made[i - 1], made[i], KS_NONCE_OWN) == 0;
        for (unsigned b = 0; b < KS_NONCE_OWN; b++)
            ones += __builtin_popcount(made[i][b]);
    }
    CHECK_EQ(same, 0);
    CHECK(ones > MANY * 96 / 2 * 0.995 && ones < MANY * 96 / 2 * 1.005);
}

static void test_exact_buffers(void)
{
    for (int level = KS_SIMD_PLAIN; level <= KS_SIMD_ARM; level++) {
        if (ks_simd_select((ks_simd_level)level) != KS_OK)
            continue;
        for (size_t k = 0; k < KINDS; k++) {
            ks_entropy entropy = {.left = 0};
            ks_crypt *c = new_crypt(&kinds[k]);
            if (!CHECK(c != NULL))
                continue;
            round_trip(c, &entropy, 0, 1, 100);
            round_trip(c, &entropy, 100, 1, 100);
            round_trip(c, &entropy, 0, 17, 90);
            round_trip(c, &entropy, 1400, 0, 64);
            round_trip(c, &entropy, 1400, 0, 1);
            round_trip(c, &entropy, 0, 0, 0);
            round_trip(c, &entropy, 2000, 700, 90); /* longer than any UDP packet of ours: up to 64 KiB */
            ks_crypt_del(c);
        }
    }
    CHECK_EQ(ks_simd_select(KS_SIMD_AUTO), KS_OK);
}

static void test_any_bytes(void)
{
    for (size_t k = 0; k < KINDS; k++) {
        ks_crypt *c = new_crypt(&kinds[k]);
        if (!CHECK(c != NULL))
            continue;
        for (size_t size = 0; size < 300; size++) {
            uint8_t *packet = malloc(size > 0 ? size : 1), *payload;
            size_t payload_size;
            for (size_t b = 0; b < size; b++)
                packet[b] = byte_of(b + size);
            CHECK_EQ(ks_crypt_open_untrusted(c, packet, size, &payload, &payload_size), KS_EMALFORMED);
            free(packet);
        }
        ks_crypt_del(c);
    }
}

static void test_without_memory(void)
{
    uint64_t before = ks_mem_used();
    for (size_t k = 0; k < KINDS; k++) {
        for (uint64_t n = 1; n <= 2; n++) {
            ks_mem_fail_after(n);
            ks_crypt *c = new_crypt(&kinds[k]);
            ks_mem_fail_after(0);
            CHECK(c == NULL || (n == 2 && kinds[k].block == NULL));
            ks_crypt_del(c);
        }
    }
    ks_crypt_del(NULL);
    CHECK_EQ(ks_mem_used(), before);
}

static void test_what_does_not_fit(void)
{
    uint64_t before = ks_mem_used();
    CHECK(ks_crypt_new(KS_CRYPT_SALSA20, key, 31, NULL) == NULL);
    CHECK(ks_crypt_new(KS_CRYPT_XOR, key, 1499, NULL) == NULL);
    CHECK(ks_crypt_new(KS_CRYPT_XOR, NULL, 1500, NULL) == NULL);
    CHECK(ks_crypt_new(KS_CRYPT_CFB, key, 16, NULL) == NULL);
    CHECK(ks_crypt_new(KS_CRYPT_GCM, key, 16, ks_tea_new(key, 16)) == NULL);
    CHECK(ks_crypt_new(KS_CRYPT_NONE, key, 16, ks_tea_new(key, 16)) == NULL);
    CHECK(ks_twofish_new(key, 17) == NULL && ks_sm4_new(key, 32) == NULL && ks_tea_new(key, 8) == NULL);
    CHECK_EQ(ks_mem_used(), before);
}

static void test_entropy_is_wiped(void)
{
    ks_entropy entropy = {.left = 0};
    uint8_t a[64], b[64];
    static const uint8_t zeros[sizeof entropy.bytes];
    CHECK_EQ(ks_entropy_take(&entropy, a, sizeof a), KS_OK);
    CHECK_EQ(ks_entropy_take(&entropy, b, sizeof b), KS_OK);
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK(memcmp(entropy.bytes + entropy.left, zeros, sizeof entropy.bytes - entropy.left) == 0);
    CHECK_EQ(entropy.left, sizeof entropy.bytes - 128);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(ks_entropy_take(&entropy, b, 12), KS_OK);
        CHECK(memcmp(b, zeros, 12) != 0);
    }
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_nonces_are_known_again_and_never_twice), TEST(test_exact_buffers),     TEST(test_any_bytes),        TEST(test_without_memory),
        TEST(test_what_does_not_fit), TEST(test_entropy_is_wiped),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
