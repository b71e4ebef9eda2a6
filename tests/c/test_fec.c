/* SPDX-License-Identifier: MIT */
#include "fec/fec.h"

#include <stdlib.h>

#include "check.h"
#include "fec/gf256.h"

enum { PACKET = 200, BLOCK = 208 };

/* A sender and a receiver; the packets of the group on its way. */
typedef struct {
    ks_fec_code *code;
    ks_fec_encoder *encoder;
    ks_fec_decoder *decoder;
    ks_pool blocks;
    uint8_t wire[KS_FEC_SHARDS_MAX][PACKET + KS_FEC_HEAD];
    size_t size[KS_FEC_SHARDS_MAX];
    uint32_t ds, ps, made, rebuilt, wrong;
    uint32_t group;
} pair;

static uint8_t byte_of(uint32_t group, uint32_t packet, size_t i)
{
    return (uint8_t)(group * 101 + packet * 37 + i * 11 + (i >> 3));
}

static size_t size_of(uint32_t group, uint32_t packet)
{
    return 4 + (group * 31 + packet * 57) % (PACKET - 4);
}

/* Bytes 0..3 say which packet it is. */
static void make(uint8_t *to, uint32_t group, uint32_t packet)
{
    for (size_t i = 4; i < size_of(group, packet); i++)
        to[i] = byte_of(group, packet, i);
    to[0] = (uint8_t)group, to[1] = (uint8_t)(group >> 8), to[2] = (uint8_t)packet, to[3] = 0;
}

static void on_rebuilt(void *ctx, const uint8_t *packet, size_t size)
{
    pair *p = ctx;
    p->rebuilt++;
    uint8_t expected[PACKET];
    uint32_t group = size < 4 ? 0 : packet[0] | (uint32_t)packet[1] << 8, number = size < 4 ? 0 : packet[2];
    make(expected, group, number);
    p->wrong += size != size_of(group, number) || memcmp(expected, packet, size) != 0;
}

/* false: no memory; nothing is left then. */
static bool pair_init(pair *p, uint32_t ds, uint32_t ps)
{
    memset(p, 0, sizeof *p);
    p->ds = ds, p->ps = ps;
    ks_pool_init(&p->blocks, BLOCK);
    p->code = ks_fec_code_new(ds, ps, NULL);
    if (p->code != NULL) {
        p->encoder = ks_fec_encoder_new(p->code, PACKET + KS_FEC_HEAD);
        p->decoder = ks_fec_decoder_new(p->code, &p->blocks);
    }
    if (p->encoder != NULL && p->decoder != NULL)
        return true;
    ks_fec_encoder_del(p->encoder);
    ks_fec_decoder_del(p->decoder);
    ks_fec_code_unref(p->code);
    return false;
}

static void pair_free(pair *p)
{
    ks_fec_encoder_del(p->encoder);
    ks_fec_decoder_del(p->decoder);
    ks_fec_code_unref(p->code);
    CHECK_EQ(p->blocks.used, 0);
    ks_pool_free(&p->blocks);
}

/* The packets of one more group. */
static void encode(pair *p)
{
    uint32_t parity = 0;
    for (uint32_t i = 0; i < p->ds; i++) {
        make(p->wire[i] + KS_FEC_HEAD, p->group, i);
        p->size[i] = KS_FEC_HEAD + size_of(p->group, i);
        parity = ks_fec_encode(p->encoder, p->wire[i], p->size[i], 0);
    }
    for (uint32_t i = 0; i < parity; i++) {
        const uint8_t *from = ks_fec_parity(p->encoder, i, &p->size[p->ds + i]);
        memcpy(p->wire[p->ds + i], from, p->size[p->ds + i]);
    }
    p->made = p->ds + parity;
    p->group++;
}

/* A copy of the exact size, so that the sanitizer sees who reads too far. */
static void deliver(pair *p, const uint8_t *packet, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, packet, size);
    ks_fec_decode_untrusted(p->decoder, copy, size, on_rebuilt, p);
    free(copy);
}

static void deliver_but(pair *p, uint32_t first_lost, uint32_t losses)
{
    for (uint32_t i = 0; i < p->made; i++)
        if (i - first_lost >= losses)
            deliver(p, p->wire[i], p->size[i]);
}

static void test_losses_are_rebuilt(void)
{
    static const uint32_t codes[][2] = {{10, 3}, {1, 1}, {2, 1}, {3, 2}, {70, 30}, {1, 254}, {254, 1}, {127, 128}, {128, 127}};
    static const ks_gf_kernel kernels[] = {KS_GF_PLAIN, KS_GF_SSSE3, KS_GF_AVX2, KS_GF_GFNI, KS_GF_GFNI_AVX2, KS_GF_NEON};
    uint64_t start = ks_mem_used();
    static pair p;
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        if (ks_gf_select(kernels[k]) != 0)
            continue;
        for (size_t c = 0; c < sizeof codes / sizeof *codes; c++) {
            CHECK(pair_init(&p, codes[c][0], codes[c][1]));
            uint32_t most = p.ds < p.ps ? p.ds : p.ps, lost = 0;
            for (uint32_t losses = 0; losses <= most + 1; losses++) {
                encode(&p);
                uint32_t n = losses < 2 ? 0 : losses - 1, first = p.ds - n == 0 ? 0 : losses * 7 % (p.ds - n);
                deliver_but(&p, first, n);
                lost += n;
            }
            CHECK_EQ(p.rebuilt, lost);
            CHECK_EQ(p.wrong, 0);
            CHECK_EQ(ks_fec_decoder_counts(p.decoder)->fec_full_sets, p.group);
            pair_free(&p);
        }
    }
    ks_gf_select(KS_GF_AUTO);
    CHECK_EQ(ks_mem_used(), start);
}

static uint32_t seqid_of(const uint8_t *packet)
{
    uint32_t seqid = 0;
    for (int i = 3; i >= 0; i--)
        seqid = seqid << 8 | packet[i];
    return seqid;
}

/* The numbers of packets wrap at the last multiple of a group below 2^32. */
static void test_numbers_wrap(void)
{
    static const uint32_t codes[][2] = {{10, 3}, {3, 2}, {1, 1}};
    static pair p;
    for (size_t c = 0; c < sizeof codes / sizeof *codes; c++) {
        if (!CHECK(pair_init(&p, codes[c][0], codes[c][1])))
            return;
        const uint32_t shards = p.ds + p.ps, last = UINT32_MAX / shards * shards - shards;
        ks_fec_encoder_seek(p.encoder, last - 5 * shards);
        for (uint32_t i = 0; i < 12; i++) {
            encode(&p);
            CHECK_EQ(seqid_of(p.wire[0]), i < 6 ? last - (5 - i) * shards : (i - 6) * shards);
            deliver_but(&p, i % p.ds, i < 2 ? 0 : 1);
        }
        CHECK_EQ(p.rebuilt, 10);
        CHECK_EQ(p.wrong, 0);
        CHECK_EQ(ks_fec_decoder_counts(p.decoder)->fec_full_sets, 12);
        CHECK_EQ(ks_fec_decoder_counts(p.decoder)->fec_short_sets, 0);
        pair_free(&p);
    }
}

/* A code that is taken for granted is not believed before two groups have shown their borders. */
static void test_code_is_confirmed_by_two_groups(void)
{
    static pair p;
    if (!CHECK(pair_init(&p, 4, 2)))
        return;
    ks_fec_encoder_seek(p.encoder, 600);
    encode(&p);
    deliver_but(&p, 0, 1);
    CHECK_EQ(p.rebuilt, 0);
    encode(&p);
    deliver_but(&p, 0, 1);
    CHECK_EQ(p.rebuilt, 2); /* the first one's too */
    CHECK_EQ(p.wrong, 0);
    /* The peer goes on with another code, which is known from its packets alone: what ours would make of them is nothing. */
    ks_fec_encoder_del(p.encoder);
    ks_fec_code_unref(p.code);
    p.ds = 3, p.ps = 1;
    p.code = ks_fec_code_new(3, 1, NULL);
    p.encoder = ks_fec_encoder_new(p.code, PACKET + KS_FEC_HEAD);
    ks_fec_encoder_seek(p.encoder, 612);
    for (int i = 0; i < 60; i++) {
        encode(&p);
        deliver_but(&p, (uint32_t)i % 3, i >= 20);
    }
    CHECK_EQ(ks_fec_decoder_counts(p.decoder)->fec_errs, 0);
    uint32_t ds, ps;
    ks_fec_decoder_code(p.decoder, &ds, &ps);
    CHECK(ds == 3 && ps == 1);
    CHECK_EQ(p.wrong, 0);
    CHECK(p.rebuilt > 20);
    pair_free(&p);
}

/* Packets in places where the code has none such: forged, or another connection's. A few at a time change nothing. */
static void test_strangers_packets_leave_the_code(void)
{
    enum { GROUPS = 400 };
    static pair p;
    for (uint32_t strangers = 0; strangers <= 3; strangers++) {
        if (!CHECK(pair_init(&p, 10, 3)))
            return;
        for (uint32_t i = 0; i < GROUPS; i++) {
            encode(&p);
            for (uint32_t n = 0; i % 16 == 8 && n < strangers; n++) {
                uint8_t forged[PACKET + KS_FEC_HEAD];
                memcpy(forged, p.wire[n], p.size[n]);
                forged[4] = KS_FEC_PARITY & 0xff; /* where data is due */
                forged[5] = KS_FEC_PARITY >> 8;
                deliver(&p, forged, p.size[n]);
            }
            deliver_but(&p, i % 10, 1);
        }
        CHECK_EQ(p.rebuilt, GROUPS);
        CHECK_EQ(p.wrong, 0);
        pair_free(&p);
    }
}

/* Late packets still count while their group is among those held, and never for another. */
static void test_overtaken_groups(void)
{
    enum { HELD = 5 }; /* 32 packets' worth of groups of 6 */
    static pair p;
    static uint8_t late[KS_FEC_SHARDS_MAX][PACKET + KS_FEC_HEAD];
    size_t late_size[KS_FEC_SHARDS_MAX];
    for (uint32_t behind = 1; behind <= HELD + 2; behind++) {
        if (!CHECK(pair_init(&p, 4, 2)))
            return;
        for (int i = 0; i < 4; i++) {
            encode(&p);
            deliver_but(&p, 0, 0);
        }
        encode(&p); /* only its first three packets come in time */
        for (uint32_t i = 0; i < p.made; i++)
            memcpy(late[i], p.wire[i], late_size[i] = p.size[i]);
        for (uint32_t i = 0; i < 3; i++)
            deliver(&p, late[i], late_size[i]);
        for (uint32_t i = 0; i < behind; i++) {
            encode(&p);
            deliver(&p, p.wire[0], p.size[0]);
            deliver(&p, p.wire[1], p.size[1]);
        }
        deliver(&p, late[4], late_size[4]);
        CHECK_EQ(p.rebuilt, behind < HELD);
        /* The newest group is as it was. */
        deliver(&p, p.wire[2], p.size[2]);
        deliver(&p, p.wire[4], p.size[4]);
        CHECK_EQ(p.rebuilt, (behind < HELD) + 1);
        CHECK_EQ(p.wrong, 0);
        pair_free(&p);
    }
}

/* Each allocation fails once: packets may be lost, nothing else. */
/* Due packets go to the skip first, as a port does it. -> how many were skipped. */
static uint32_t deliver_or_skip(pair *p, uint32_t lost)
{
    uint32_t skipped = 0;
    for (uint32_t i = 0; i < p->made; i++) {
        if (i == lost)
            continue;
        if (ks_fec_parity_due(p->decoder) && ks_fec_skip_untrusted(p->decoder, p->wire[i]))
            skipped++;
        else
            deliver(p, p->wire[i], p->size[i]);
    }
    return skipped;
}

static void test_needless_parity_is_skipped(void)
{
    static pair p;
    if (!CHECK(pair_init(&p, 10, 3)))
        return;
    CHECK(!ks_fec_parity_due(NULL));
    encode(&p);
    CHECK_EQ(deliver_or_skip(&p, UINT32_MAX), 0); /* the code is not confirmed */
    encode(&p);
    CHECK_EQ(deliver_or_skip(&p, UINT32_MAX), 2); /* by its first parity packet */
    encode(&p);
    CHECK_EQ(deliver_or_skip(&p, UINT32_MAX), 3);
    encode(&p);
    CHECK_EQ(deliver_or_skip(&p, 4), 2); /* the first one rebuilds what was lost */
    encode(&p);
    CHECK_EQ(deliver_or_skip(&p, 9), 2); /* the last data packet */
    encode(&p);
    CHECK_EQ(deliver_or_skip(&p, 11), 1); /* the second parity packet: the third is not what was due */
    const ks_fec_counts *c = ks_fec_decoder_counts(p.decoder);
    CHECK_EQ(c->fec_parity_shards, 6 * 3 - 1);
    CHECK_EQ(c->fec_recovered, 2);
    CHECK_EQ(c->fec_full_sets, 6);
    CHECK_EQ(c->fec_errs, 0);

    /* What is due is one packet of one type: nothing else is taken for it. */
    encode(&p);
    for (uint32_t i = 0; i < 10; i++)
        deliver(&p, p.wire[i], p.size[i]);
    CHECK(ks_fec_parity_due(p.decoder));
    CHECK(!ks_fec_skip_untrusted(p.decoder, p.wire[9]));
    CHECK(!ks_fec_skip_untrusted(p.decoder, p.wire[11]));
    uint8_t data_in_its_place[KS_FEC_HEAD];
    memcpy(data_in_its_place, p.wire[10], KS_FEC_HEAD);
    data_in_its_place[4] = (uint8_t)KS_FEC_DATA;
    CHECK(!ks_fec_skip_untrusted(p.decoder, data_in_its_place));
    CHECK(ks_fec_skip_untrusted(p.decoder, p.wire[10]));
    ks_fec_decoder_trim(p.decoder);
    CHECK(!ks_fec_parity_due(p.decoder));
    CHECK_EQ(p.wrong, 0);
    pair_free(&p);
}

static void test_without_memory(void)
{
    uint64_t start = ks_mem_used();
    static pair p;
    bool reached = true;
    uint32_t refused = 0;
    for (uint64_t n = 1; reached && n < 1000; n++) {
        ks_mem_fail_after(n);
        if (!pair_init(&p, 10, 3)) {
            refused++;
            CHECK_EQ(ks_mem_used(), start);
            continue;
        }
        for (uint32_t g = 0; g < 20; g++) {
            encode(&p);
            deliver_but(&p, g % 8, 3);
            if (g == 9) {
                ks_fec_encoder_trim(p.encoder);
                ks_fec_decoder_trim(p.decoder);
                ks_pool_trim(&p.blocks);
            }
        }
        ks_mem_fail_after(0);
        CHECK(p.rebuilt >= 3 * 15 && p.wrong == 0);
        reached = p.rebuilt < 3 * 20;
        pair_free(&p);
        CHECK_EQ(ks_mem_used(), start);
    }
    CHECK(!reached); /* the walk came to its end */
    CHECK_EQ(refused, 3);
}

/* The search for a code needs memory too, and so does the new code. */
static void test_tuning_without_memory(void)
{
    uint64_t start = ks_mem_used();
    static pair p;
    for (uint64_t n = 1; n < 12; n++) {
        CHECK(pair_init(&p, 4, 2));
        ks_fec_decoder_del(p.decoder);
        p.decoder = ks_fec_decoder_new(NULL, &p.blocks);
        encode(&p); /* the encoder's own memory */
        ks_mem_fail_after(n);
        for (uint32_t g = 1; g < 40; g++) {
            encode(&p);
            deliver_but(&p, g % 4, g < 20 ? 0 : 2);
        }
        ks_mem_fail_after(0);
        uint32_t ds, ps;
        ks_fec_decoder_code(p.decoder, &ds, &ps);
        CHECK(ds == 4 && ps == 2 && p.rebuilt > 30 && p.wrong == 0);
        pair_free(&p);
        CHECK_EQ(ks_mem_used(), start);
    }
}

/* Coefficients that are no code's: rows that depend on each other can't be solved, and nothing comes of them. */
static void test_singular_coefficients(void)
{
    static const uint8_t equal[] = {1, 1, 1, 1, 1, 1};
    static pair p;
    CHECK(pair_init(&p, 3, 2));
    ks_fec_code *code = ks_fec_code_new(3, 2, equal);
    ks_fec_decoder_del(p.decoder);
    p.decoder = ks_fec_decoder_new(code, &p.blocks);
    ks_fec_code_unref(code);
    for (uint32_t g = 0; g < 5; g++) {
        encode(&p);
        deliver_but(&p, 0, g < 2 ? 0 : 2);
    }
    CHECK_EQ(p.rebuilt, 0);
    CHECK_EQ(ks_fec_decoder_counts(p.decoder)->fec_short_sets, 3);
    pair_free(&p);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_losses_are_rebuilt), TEST(test_numbers_wrap), TEST(test_code_is_confirmed_by_two_groups),
        TEST(test_strangers_packets_leave_the_code), TEST(test_overtaken_groups),
        TEST(test_needless_parity_is_skipped),
        TEST(test_without_memory),
        TEST(test_tuning_without_memory),
        TEST(test_singular_coefficients),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
