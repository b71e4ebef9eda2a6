/* SPDX-License-Identifier: MIT */
/* An encoder that adapts: which groups have parity, and how much. */
#include <stdlib.h>

#include "base/octets.h"
#include "check.h"
#include "fec/fec.h"

enum { PACKET = 1040, SMALL = 32, AROUND = 28, GROUPS_MOST = 400 };
#define PERCENT 656u /* of 65536 */

typedef struct {
    ks_fec_code *code;
    ks_fec_encoder *encoder;
    ks_fec_decoder *decoder; /* knows no code at first */
    ks_pool blocks;
    ks_fec_way way;
    uint64_t now_ms;
    uint32_t ds, ps, place, seqid, rebuilt;
    uint32_t groups, pads;            /* groups that are whole, pads sent */
    uint32_t parity[GROUPS_MOST];
    uint64_t data_bytes, spent_bytes;    /* in packets, with what is around them; on parity and pads */
    uint32_t lost_place;                 /* data packet that does not arrive, of each group; UINT32_MAX: all do */
} cover;

static void on_rebuilt(void *ctx, const uint8_t *packet, size_t size)
{
    cover *c = ctx;
    c->rebuilt++;
    CHECK(size == PACKET - KS_FEC_HEAD && packet[0] == (uint8_t)c->seqid);
}

static void cover_open(cover *c, uint32_t ds, uint32_t ps, ks_fec_way way)
{
    memset(c, 0, sizeof *c);
    c->ds = ds, c->ps = ps, c->way = way;
    c->now_ms = 5000;
    c->lost_place = UINT32_MAX;
    ks_pool_init(&c->blocks, PACKET);
    c->code = ks_fec_code_new(ds, ps, NULL);
    c->encoder = ks_fec_encoder_new(c->code, PACKET);
    c->decoder = ks_fec_decoder_new(NULL, &c->blocks);
    CHECK(ks_fec_encoder_adapt(c->encoder));
}

static void cover_close(cover *c)
{
    ks_fec_encoder_del(c->encoder);
    ks_fec_decoder_del(c->decoder);
    ks_fec_code_unref(c->code);
    CHECK_EQ(c->blocks.used, 0);
    ks_pool_free(&c->blocks);
}

static void put(cover *c, size_t size)
{
    uint8_t packet[PACKET] = {0};
    size_t bytes;
    memset(packet + KS_FEC_HEAD, (uint8_t)c->seqid, size - KS_FEC_HEAD);
    uint32_t parity = ks_fec_encode(c->encoder, packet, size, c->now_ms);
    CHECK_EQ(ks_get_le32(packet), c->seqid + c->place); /* what was left out has its numbers */
    if (c->place != c->lost_place)
        ks_fec_decode_untrusted(c->decoder, packet, size, on_rebuilt, c);
    if (++c->place < c->ds) {
        CHECK(parity == 0 && !ks_fec_is_whole(c->encoder));
        return;
    }
    CHECK(ks_fec_is_whole(c->encoder) && parity <= c->ps && c->groups < GROUPS_MOST);
    for (uint32_t i = 0; i < parity; i++) {
        const uint8_t *from = ks_fec_parity(c->encoder, i, &bytes);
        CHECK_EQ(ks_get_le32(from), c->seqid + c->ds + i);
        c->spent_bytes += bytes + AROUND;
        ks_fec_decode_untrusted(c->decoder, from, bytes, on_rebuilt, c);
    }
    c->parity[c->groups++] = parity;
    c->seqid += c->ds + c->ps;
    c->place = 0;
}

/* New data, as a session sends it. */
static void send_one(cover *c)
{
    ks_fec_encoder_see(c->encoder, c->way, c->now_ms);
    put(c, PACKET);
    c->data_bytes += PACKET + AROUND;
    for (uint32_t left = ks_fec_pads(c->encoder); left > 0; left--) {
        put(c, SMALL);
        c->pads++;
        c->spent_bytes += SMALL + AROUND;
        CHECK_EQ(ks_fec_pads(c->encoder), left - 1);
    }
    ks_fec_encoder_sent(c->encoder, 1, c->now_ms);
}

static void send_steadily(cover *c, uint32_t groups, uint32_t gap_ms)
{
    for (uint32_t end = c->groups + groups; c->groups < end; c->now_ms += gap_ms)
        send_one(c);
}

/* Of the groups since `from`, those that are no beacons: how many packets of parity in all. */
static uint32_t parity_since(const cover *c, uint32_t from)
{
    uint32_t sum = 0;
    for (uint32_t g = from; g < c->groups; g++)
        sum += g % 64 < 2 || g < 8 ? 0 : c->parity[g];
    return sum;
}

static const ks_fec_way STEADY = {.limited = true, .loss = 5 * PERCENT, .rtt_ms = 50};

/* The first eight, then two in a row of 64; by them a peer finds out the code. */
static void test_bulk_has_beacons_alone(void)
{
    static cover c;
    uint32_t ds, ps;
    cover_open(&c, 10, 3, (ks_fec_way){.limited = false, .loss = 5 * PERCENT, .rtt_ms = 50});
    send_steadily(&c, 200, 0);
    for (uint32_t g = 0; g < 200; g++)
        CHECK_EQ(c.parity[g], g < 8 || g % 64 < 2 ? 3 : 0);
    ks_fec_decoder_code(c.decoder, &ds, &ps);
    CHECK(ds == 10 && ps == 3 && c.pads == 0);
    bool held;
    CHECK(ks_fec_covered_ms(c.encoder, &held) == 0 && !held);
    cover_close(&c);
}

/* 2 ms apart eight last 14 ms: in time, so no pad is needed. */
static void test_parity_of_a_steady_stream(void)
{
    static cover c;
    cover_open(&c, 8, 2, STEADY);
    send_steadily(&c, 50, 2);
    c.lost_place = 0;
    send_steadily(&c, 10, 2);
    CHECK_EQ(c.rebuilt, 10);
    CHECK(parity_since(&c, 12) == 2 * (c.groups - 12) && c.pads == 0);
    cover_close(&c);
}

/* Ten would last 18: two pads make a group whole after eight. It costs a quarter, pads included. */
static void test_pads_make_a_group_whole(void)
{
    static cover c;
    cover_open(&c, 10, 3, STEADY);
    send_steadily(&c, 20, 2);
    uint32_t from = c.groups, pads = c.pads;
    uint64_t data = c.data_bytes, spent = c.spent_bytes;
    c.lost_place = 3;
    c.rebuilt = 0;
    send_steadily(&c, 200, 2);
    CHECK_EQ(c.pads - pads, 2 * 200);
    CHECK_EQ(c.data_bytes - data, UINT64_C(200) * 8 * (PACKET + AROUND));
    CHECK_EQ(c.rebuilt, 200);
    double share = (double)(c.spent_bytes - spent) / (double)(c.data_bytes - data);
    CHECK(share > 0.24 && share < 0.255); /* 0.25 */
    for (uint32_t g = from; g < c.groups; g++)
        CHECK(c.parity[g] >= 1);
    cover_close(&c);
}

/* As much as leaves fewer than 2 of 1,000 groups with a loss: with 16 + 1 at 0.5 % it would be 3.2, with 16 + 2 at 2 % 5.2. */
static void test_parity_by_loss(void)
{
    static const struct { uint32_t loss, parity; } rows[] = {
        {0, 0}, {100, 0}, {140, 1}, {PERCENT / 2, 2}, {2 * PERCENT, 3}, {60 * PERCENT, 4}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static cover c;
        cover_open(&c, 16, 4, (ks_fec_way){.limited = true, .loss = rows[i].loss, .rtt_ms = 50});
        send_steadily(&c, 60, 1);
        CHECK_EQ(parity_since(&c, 12), rows[i].parity * (c.groups - 12));
        CHECK_EQ(ks_fec_pads(c.encoder), 0);
        bool held;
        CHECK((ks_fec_covered_ms(c.encoder, &held) > 15) == (rows[i].parity > 0) && !held);
        cover_close(&c);
    }
}

/* A quarter would be less than one packet of two. */
static void test_short_groups_have_one(void)
{
    static cover c;
    cover_open(&c, 2, 1, STEADY);
    send_steadily(&c, 60, 2);
    CHECK_EQ(parity_since(&c, 20), c.groups - 20);
    cover_close(&c);
}

/* Beyond 40 ms, or a round trip, after which a repeat would come. */
static void test_too_far_apart(void)
{
    static const struct { uint32_t gap_ms, rtt_ms; bool covered; } rows[] = {
        {5, 200, true}, {6, 200, false}, {2, 15, true}, {2, 12, false}, {5, 0, true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static cover c;
        cover_open(&c, 8, 2, STEADY);
        c.way.rtt_ms = rows[i].rtt_ms;
        send_steadily(&c, 60, rows[i].gap_ms);
        CHECK_EQ(parity_since(&c, 20) > 0, rows[i].covered);
        cover_close(&c);
    }
}

/* It stops in the middle of a group, and goes on later. */
static void test_pause_in_a_group(void)
{
    static cover c;
    cover_open(&c, 8, 2, STEADY);
    send_steadily(&c, 20, 2);
    for (int i = 0; i < 4; i++, c.now_ms += 2)
        send_one(&c);
    c.now_ms += 100;
    send_steadily(&c, 1, 2);
    CHECK_EQ(c.parity[20], 0);
    send_steadily(&c, 20, 2);
    CHECK_EQ(c.parity[40], 2);
    cover_close(&c);
}

static void test_queue_holds_it_back(void)
{
    static cover c;
    bool held;
    cover_open(&c, 8, 2, STEADY);
    send_steadily(&c, 20, 2);
    CHECK(ks_fec_covered_ms(c.encoder, &held) > 0 && !held);
    c.way.queue = true;
    send_steadily(&c, 1, 2);
    c.way.queue = false;
    send_steadily(&c, 40, 2);
    CHECK_EQ(parity_since(&c, 21), 0);
    CHECK(ks_fec_covered_ms(c.encoder, &held) == 0 && held);
    c.now_ms += 3000;
    send_steadily(&c, 40, 2);
    CHECK_EQ(c.parity[100], 2);
    cover_close(&c);
}

static void test_without_memory_as_kcp_go(void)
{
    static cover c;
    cover_open(&c, 8, 2, STEADY);
    ks_fec_encoder_del(c.encoder);
    c.encoder = ks_fec_encoder_new(c.code, PACKET);
    ks_mem_fail_after(1);
    CHECK(!ks_fec_encoder_adapt(c.encoder));
    ks_mem_fail_after(0);
    c.way.limited = false;
    send_steadily(&c, 20, 0);
    for (uint32_t g = 0; g < 20; g++)
        CHECK_EQ(c.parity[g], 2);
    cover_close(&c);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_bulk_has_beacons_alone), TEST(test_parity_of_a_steady_stream), TEST(test_pads_make_a_group_whole),
        TEST(test_parity_by_loss), TEST(test_short_groups_have_one), TEST(test_too_far_apart), TEST(test_pause_in_a_group),
        TEST(test_queue_holds_it_back), TEST(test_without_memory_as_kcp_go),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
