/* SPDX-License-Identifier: MIT */
#include "base/timer.h"

#include <stdlib.h>

#include "check.h"
#include "base/err.h"
#include "base/mem.h"

enum { TIMERS = 500 };

static void test_timer_none(void)
{
    ks_timers t = {0};
    CHECK(ks_timers_pop(&t, UINT64_MAX - 1) == NULL);
    CHECK(ks_timers_next(&t) == KS_NEVER);
    ks_timers_free(&t);
}

/* Whatever is armed, moved and disarmed: they come due in order, each once, and never early. */
static void test_timer_random_use(void)
{
    static ks_timer timer[TIMERS];
    static uint64_t due[TIMERS];
    uint64_t used = ks_mem_used(), now = 0;
    ks_timers t = {0};
    CHECK_EQ(ks_timers_reserve(&t, TIMERS), KS_OK);
    for (int i = 0; i < TIMERS; i++) {
        ks_timer_init(&timer[i]);
        due[i] = KS_NEVER;
    }
    srand(5);
    for (int step = 0; step < 200000; step++) {
        int i = rand() % TIMERS;
        if (step % 4 != 0) {
            due[i] = rand() % 8 == 0 ? KS_NEVER : now + (uint64_t)(rand() % 1000);
            ks_timer_set(&t, &timer[i], due[i]);
        } else {
            uint64_t first = KS_NEVER, last = 0;
            now += (uint64_t)(rand() % 20);
            for (ks_timer *popped; (popped = ks_timers_pop(&t, now)) != NULL;) {
                CHECK(popped->due_ms == KS_NEVER);
                CHECK(due[popped - timer] <= now && due[popped - timer] >= last);
                last = due[popped - timer];
                due[popped - timer] = KS_NEVER;
            }
            for (int k = 0; k < TIMERS; k++)
                first = due[k] < first ? due[k] : first;
            CHECK(first > now && ks_timers_next(&t) == first);
        }
        CHECK_EQ(timer[i].due_ms, due[i]);
    }
    ks_timers_free(&t);
    CHECK_EQ(ks_mem_used(), used);
}

static void test_timer_no_memory(void)
{
    ks_timers t = {0};
    ks_timer one;
    ks_mem_fail_after(1);
    CHECK_EQ(ks_timers_reserve(&t, 1), KS_ENOMEM);
    CHECK_EQ(ks_timers_reserve(&t, 1), KS_OK);
    ks_timer_init(&one);
    ks_timer_set(&t, &one, 7);
    ks_mem_fail_after(1);
    CHECK_EQ(ks_timers_reserve(&t, 100000), KS_ENOMEM);
    ks_mem_fail_after(0);
    CHECK(ks_timers_next(&t) == 7 && ks_timers_pop(&t, 6) == NULL && ks_timers_pop(&t, 7) == &one);
    ks_timers_free(&t);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {TEST(test_timer_none), TEST(test_timer_random_use), TEST(test_timer_no_memory)};
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
