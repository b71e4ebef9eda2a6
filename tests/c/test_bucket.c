/* SPDX-License-Identifier: MIT */
#include "session/bucket.h"

#include <stdlib.h>

#include "check.h"

enum { PACKET = 1400, COST = 1400 };

static void test_bucket_without_limit(void)
{
    ks_bucket b;
    ks_bucket_init(&b, 0, PACKET, COST, 5);
    CHECK_EQ(ks_bucket_spend(&b, 1u << 30), INT64_MAX);
    CHECK_EQ(ks_bucket_fill(&b, 5), INT64_MAX);
    CHECK_EQ(ks_bucket_due_ms(&b, PACKET), 0);
}

static void test_bucket_burst(void)
{
    ks_bucket slow, fast;
    ks_bucket_init(&slow, 1000, PACKET, COST, 0);
    CHECK_EQ(ks_bucket_fill(&slow, 0), 4 * PACKET); /* packets must fit, however low the rate */
    ks_bucket_init(&fast, 10000000, PACKET, COST, 0);
    CHECK_EQ(ks_bucket_fill(&fast, 0), 100000); /* 10 ms */
    CHECK_EQ(ks_bucket_fill(&fast, 1000000), 100000); /* an idle hour saves up no more */
}

/* Whoever waits until it is due, and then sends, sends at the rate: for rates of 7 bytes/s to 1 Tbyte/s, asked at random. */
static void test_bucket_keeps_the_rate(void)
{
    static const uint64_t rates[] = {7, 1000, 65537, 12500000, 1ull << 40};
    srand(7);
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        ks_bucket b;
        uint64_t now = 1000, begin = now, sent = 0;
        ks_bucket_init(&b, rates[i], PACKET, COST, now);
        for (int step = 0; step < 20000; step++) {
            if (ks_bucket_fill(&b, now) > 0) {
                size_t bytes = (size_t)(rand() % PACKET + 1);
                CHECK(ks_bucket_due_ms(&b, PACKET) == 0);
                (void)ks_bucket_spend(&b, bytes);
                sent += bytes;
            } else {
                uint64_t due = ks_bucket_due_ms(&b, 0);
                CHECK(due > now);
                now = rand() % 2 ? due : now + 1 < due ? now + 1 : due;
            }
        }
        long double passed_s = (long double)(now - begin) / 1000, may = passed_s * (long double)rates[i];
        CHECK((long double)sent <= may + (long double)b.size / 1000 + PACKET);
        CHECK((long double)sent >= may - (long double)rates[i] / 1000 * 2 - PACKET);
    }
}

/* What does not wait for tokens may overdraw them, up to a debt: what does wait goes on soon after. */
static void test_bucket_debt(void)
{
    ks_bucket b;
    ks_bucket_init(&b, 100000, PACKET, 3 * COST, 0);
    for (int i = 0; i < 1000; i++)
        (void)ks_bucket_spend(&b, PACKET);
    CHECK_EQ(b.tokens, -(4 * PACKET + 2 * 3 * COST) * 1000);
    uint64_t due = ks_bucket_due_ms(&b, 0);
    CHECK_EQ(ks_bucket_fill(&b, due - 2) <= 0, 1);
    CHECK(ks_bucket_fill(&b, due) > 0);
}

/* Parts of a byte are not lost, however often it is asked. */
static void test_bucket_pays_in_parts(void)
{
    ks_bucket b;
    ks_bucket_init(&b, 333, PACKET, COST, 0);
    (void)ks_bucket_spend(&b, 4 * PACKET);
    for (uint64_t now = 1; now <= 9000; now++)
        (void)ks_bucket_fill(&b, now);
    CHECK_EQ(b.tokens, 333 * 9 * 1000);
}

/* A long absence pays in no more than the rate allows, at any rate. */
static void test_bucket_absence(void)
{
    ks_bucket b;
    ks_bucket_init(&b, 1, PACKET, COST, 0);
    (void)ks_bucket_spend(&b, 4 * PACKET);
    CHECK_EQ(ks_bucket_fill(&b, 60000), 60);
    ks_bucket_init(&b, 1ull << 40, PACKET, COST, 0);
    (void)ks_bucket_spend(&b, PACKET);
    CHECK_EQ(ks_bucket_fill(&b, UINT64_MAX / 2), b.size / 1000);
    ks_bucket_init(&b, UINT64_MAX, PACKET, COST, 0); /* beyond what a profile may ask for */
    (void)ks_bucket_spend(&b, PACKET);
    CHECK_EQ(ks_bucket_fill(&b, UINT64_MAX / 2), b.size / 1000);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_bucket_without_limit), TEST(test_bucket_burst),         TEST(test_bucket_keeps_the_rate),
        TEST(test_bucket_debt),          TEST(test_bucket_pays_in_parts), TEST(test_bucket_absence),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
