/* SPDX-License-Identifier: MIT */
/* What may be sent to an address that has not shown yet that it hears us: the count itself, and the batch,
 * which nothing gets past. */
#include <netinet/in.h>
#include <unistd.h>

#include "check.h"
#include "wire/credit.h"
#include "wire/wire.h"

static void test_three_times_what_came(void)
{
    ks_credit c = {.validated = false};
    CHECK(!ks_credit_spend(&c, 1));
    CHECK_EQ(c.left, 0);
    ks_credit_earn(&c, 44);
    CHECK_EQ(c.left, 132);
    CHECK(ks_credit_spend(&c, 100));
    CHECK(!ks_credit_spend(&c, 33));
    CHECK(ks_credit_spend(&c, 32));
    CHECK(!ks_credit_spend(&c, 1));
    ks_credit_earn(&c, UINT32_MAX); /* it does not wrap */
    CHECK_EQ(c.left, UINT32_MAX);
    ks_credit_validate(&c);
    CHECK(ks_credit_spend(&c, 1u << 30));
    CHECK_EQ(c.left, UINT32_MAX);
}

/* ---- the batch ---- */

static void on_refused(ks_link *link)
{
    (void)link;
}

static void test_batch_sends_no_more_than_the_credit(void)
{
    static ks_batch batch;
    ks_counters count = {0};
    ks_link link = {.crypt = NULL};
    ks_credit credit = {.validated = false};
    ks_fec_code *code = ks_fec_code_new(2, 1, NULL);
    ks_fec_encoder *fec = ks_fec_encoder_new(code, KS_UDP_PACKET_MAX);
    ks_addr to = {.in4 = {.sin_family = AF_INET}};
    ks_route route = {.link = &link, .to = &to, .fec = fec, .dup = 3, .credit = &credit};
    uint8_t packet[400] = {0};
    struct iovec iov = {packet, 100};

    ks_batch_init(&batch, &count, on_refused);
    link.udp.fd = -1;
    CHECK_EQ(ks_batch_put(&batch, &route, &iov, 1, 100, 0), 0);
    CHECK_EQ(batch.n, 0);
    ks_credit_earn(&credit, 108);
    for (int i = 0; i < 3; i++) /* a group's end among them: neither copies nor parity */
        CHECK_EQ(ks_batch_put(&batch, &route, &iov, 1, 100, 0), 108);
    CHECK_EQ(batch.n, 3);
    CHECK_EQ(credit.left, 0);
    CHECK_EQ(ks_batch_put(&batch, &route, &iov, 1, 100, 0), 0);
    CHECK_EQ(batch.n, 3);
    ks_credit_validate(&credit);
    CHECK_EQ(ks_batch_put(&batch, &route, &iov, 1, 100, 0), 4 * 108 + 4 * 108);
    CHECK_EQ(batch.n, 11);
    route.fec = NULL;
    credit = (ks_credit){.left = 399};
    iov.iov_len = 400;
    CHECK_EQ(ks_batch_put(&batch, &route, &iov, 1, 400, 0), 0);
    credit.left++;
    CHECK_EQ(ks_batch_put(&batch, &route, &iov, 1, 400, 0), 400);
    ks_fec_encoder_del(fec);
    ks_fec_code_unref(code);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_three_times_what_came),
        TEST(test_batch_sends_no_more_than_the_credit),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
