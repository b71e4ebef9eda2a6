/* SPDX-License-Identifier: MIT */
/* What is known of the paths to peers: recalled for the same address alone, for ten minutes, in bounded memory. */
#include <arpa/inet.h>

#include "base/serial.h"
#include "check.h"
#include "path/known.h"
#include "path/rest.h"

#define MINUTE UINT64_C(60000000)

static ks_addr address(const char *text, uint16_t port)
{
    ks_addr a = {0};
    if (inet_pton(AF_INET, text, &a.in4.sin_addr) == 1) {
        a.sa.sa_family = AF_INET;
        a.in4.sin_port = htons(port);
    } else {
        CHECK_EQ(inet_pton(AF_INET6, text, &a.in6.sin6_addr), 1);
        a.sa.sa_family = AF_INET6;
        a.in6.sin6_port = htons(port);
    }
    return a;
}

/* A path that has been measured. */
static ks_path measured(uint64_t rate, uint32_t least_us)
{
    ks_path p;
    ks_path_init(&p, 1400, 0);
    p.state = KS_PATH_CRUISE;
    p.rate[0] = rate;
    p.least_us = least_us;
    return p;
}

/* -> the rate that a new connection is told, 0: none */
static uint64_t recalled(const char *text, uint64_t now_us)
{
    ks_path p;
    ks_addr a = address(text, 4000);
    ks_path_init(&p, 1400, now_us);
    ks_known_recall(&a, &p, now_us);
    return p.resume_rate;
}

static void note(const char *text, uint64_t rate, uint64_t now_us)
{
    ks_path p = measured(rate, 50000);
    ks_addr a = address(text, 5000);
    (void)ks_known_note(&a, &p, now_us);
}

static void test_recalled_by_address(void)
{
    note("192.0.2.1", 1000, MINUTE);
    note("2001:db8::1", 2000, MINUTE);
    CHECK(recalled("192.0.2.1", MINUTE) == 1000 && recalled("2001:db8::1", 2 * MINUTE) == 2000);
    CHECK(recalled("192.0.2.2", MINUTE) == 0 && recalled("2001:db8::2", MINUTE) == 0 && recalled("192.0.2.1", 12 * MINUTE) == 0);
    note("192.0.2.1", 3000, 11 * MINUTE);
    CHECK_EQ(recalled("192.0.2.1", 12 * MINUTE), 3000);
}

static void test_what_was_not_measured_is_not_noted(void)
{
    ks_path p = measured(1000, 50000);
    ks_addr a = address("192.0.2.3", 1);
    p.state = KS_PATH_START;
    CHECK(!ks_known_note(&a, &p, MINUTE));
    CHECK_EQ(recalled("192.0.2.3", MINUTE), 0);
}

/* The latest stay; a peer by the thousand changes nothing else. */
static void test_bounded(void)
{
    char text[32];
    int found = 0;
    for (int i = 0; i < 10000; i++) {
        snprintf(text, sizeof text, "10.0.%d.%d", i / 250, i % 250);
        note(text, 5000 + (uint64_t)i, 20 * MINUTE + (uint64_t)i);
        CHECK_EQ(recalled(text, 20 * MINUTE + (uint64_t)i), 5000 + (uint64_t)i);
    }
    for (int i = 0; i < 10000; i++) {
        snprintf(text, sizeof text, "10.0.%d.%d", i / 250, i % 250);
        found += recalled(text, 21 * MINUTE) != 0;
    }
    CHECK(found > 200 && found <= 256);
}

/* Half the rate for a round trip that is about as long; else nothing. */
static void test_resumed_if_alike(void)
{
    static const struct { uint32_t rtt_us; bool alike; } cases[] = {{50000, true}, {99000, true}, {40000, true}, {20000, false}, {120000, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ks_path p;
        ks_path_mark mark;
        ks_path_init(&p, 1400, 0);
        ks_path_resume(&p, 10000000, 50000);
        CHECK(ks_path_room(&p, 0) <= 14000); /* before a round trip is known it counts for nothing */
        ks_path_sent(&p, &mark, 100, 1000);
        ks_path_acked(&p, &mark, 100, cases[i].rtt_us, 1000 + cases[i].rtt_us);
        ks_path_update(&p, 1000 + cases[i].rtt_us);
        CHECK_EQ(p.pace == 5000000, cases[i].alike);
    }
}

/* Losses of what leaves after a pause count, wherever the clock of 32 bits stands. */
static void test_losses_count_after_a_pause(void)
{
    const ks_path before = measured(1000000, 30000);
    ks_path_rest rest;
    ks_path_sleep(&before, &rest);
    for (uint64_t now_us = 1; now_us < UINT64_C(1) << 33; now_us += UINT64_C(1) << 30) {
        ks_path p;
        ks_path_wake(&p, &rest, 1400, now_us);
        CHECK_EQ(p.rate[0] / 32, before.rate[0] / 32);
        CHECK(ks_after((uint32_t)now_us, p.cut_us));
    }
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_recalled_by_address), TEST(test_what_was_not_measured_is_not_noted), TEST(test_bounded), TEST(test_resumed_if_alike),
        TEST(test_losses_count_after_a_pause),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
