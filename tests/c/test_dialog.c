/* SPDX-License-Identifier: MIT */
#include "session/dialog.h"

#include "check.h"

/* ACKs go at once until data has been seen to follow on data soon, and wait from then on. */
static void test_dialog_learns_to_wait(void)
{
    ks_dialogs all = {0};
    ks_dialog d = {0};
    CHECK(!ks_dialog_ride(&all, &d, true, 1000000));
    ks_dialog_sent(&d, 1000300); /* too late for the ACKs */
    CHECK(!ks_dialog_ride(&all, &d, true, 1000400));
    ks_dialog_sent(&d, 1000500);
    CHECK(ks_dialog_ride(&all, &d, true, 1000600));
    CHECK(d.riding && all.riders == &d && all.ride_over_us > 1000600);
    ks_dialog_leave(&all, &d);
    ks_dialog_leave(&all, &d); /* nothing happens to who is no rider */
    CHECK(!d.riding && all.riders == NULL);
    CHECK(!ks_dialog_ride(&all, &d, false, 1000700)); /* where a wait of us can't be had */
}

/* Who waited in vain does not wait again at once. */
static void test_dialog_gives_up(void)
{
    ks_dialogs all = {0};
    ks_dialog d = {.converses = true};
    CHECK(ks_dialog_ride(&all, &d, true, 1000000));
    ks_dialog_give_up(&all, &d, 1000100);
    CHECK(all.riders == NULL && !ks_dialog_ride(&all, &d, true, 1000200));
}

/* All wait until the first one's time is over; any may leave. */
static void test_dialog_many_riders(void)
{
    ks_dialogs all = {0};
    ks_dialog d[5] = {0};
    uint64_t over = 0;
    for (uint64_t i = 0; i < 5; i++) {
        d[i].converses = true;
        CHECK(ks_dialog_ride(&all, &d[i], true, 1000000 + 10 * i));
        over = i == 0 ? all.ride_over_us : over;
        CHECK_EQ(all.ride_over_us, over);
    }
    ks_dialog_leave(&all, &d[2]);
    ks_dialog_leave(&all, &d[4]);
    ks_dialog_leave(&all, &d[0]);
    int left = 0;
    for (const ks_dialog *at = all.riders; at != NULL; at = at->next, left++)
        CHECK(at->riding && (at->next == NULL || at->next->prev == at));
    CHECK_EQ(left, 2);
    ks_dialog_forget(&all, &d[1]);
    ks_dialog_forget(&all, &d[3]);
    CHECK(all.riders == NULL);
}

/* Short waits count while one session alone is heard. */
static void test_dialog_of_one_session(void)
{
    ks_dialogs all = {0};
    ks_dialog a = {0}, b = {0};
    ks_dialog_heard(&all, &a, 1000000);
    CHECK(!all.talker_answers);
    ks_dialog_took(&a, 1000000);
    ks_dialog_sent(&a, 1000150); /* an answer */
    all.short_waits = 7;
    ks_dialog_heard(&all, &a, 1000200);
    CHECK(all.talker == &a && all.talker_answers && all.short_waits == 7);
    ks_dialog_heard(&all, &b, 1000300);
    CHECK(all.talker == &b && !all.talker_answers && all.short_waits == 0);
    ks_dialog_heard(&all, &a, 1020000); /* its answer was long ago */
    CHECK(!all.talker_answers);
    ks_dialog_forget(&all, &a);
    CHECK(all.talker == NULL);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_dialog_learns_to_wait),
        TEST(test_dialog_gives_up),
        TEST(test_dialog_many_riders),
        TEST(test_dialog_of_one_session),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
