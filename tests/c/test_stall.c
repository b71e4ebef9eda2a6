/* SPDX-License-Identifier: MIT */
/* A peer that acknowledges nothing, in virtual time: what it costs, and how soon all goes on when it is heard again. */
#include "arq/kcp.h"

#include "check.h"
#include "sim.h"
#include "base/octets.h"

enum { PUSH = 81, ACK = 82, WINS = 84 };
#define SECONDS 60u

static const ks_kcp_config modes[] = {
    {.conv = 7, .mtu = 1400, .snd_wnd = 1024, .rcv_wnd = 1024, .interval = 10, .resend = 2, .nodelay = true, .nc = true, .stream = true},
    {.conv = 7, .mtu = 1400, .snd_wnd = 1024, .rcv_wnd = 1024, .interval = 40, .resend = 2, .nc = true, .stream = true},
    {.conv = 7, .mtu = 1400, .snd_wnd = 1024, .rcv_wnd = 1024, .interval = 20, .resend = 0, .nodelay = true, .stream = true},
};
#define MODES (sizeof modes / sizeof *modes)

static uint32_t down_from, down_until; /* the link is cut between them */
static int down_for;                   /* for packets of this end; 2: of both */

static int fate_outage(sim *s, int from, const uint8_t *packet, size_t size, uint32_t delay[2])
{
    (void)packet, (void)size, (void)delay;
    bool cut = !ks_after(down_from, s->now) && ks_after(down_until, s->now);
    return !(cut && (down_for == 2 || down_for == from));
}

static void run_to(sim *s, uint32_t until)
{
    while (s->now != until && sim_step(s, until))
        ;
    s->now = until;
}

/* A transfer that has run for a while, so that both know the round trip and the windows; then the link is cut for
 * `outage_ms`. The sender has more to send all the time. */
static void cut_off(sim *s, const ks_kcp_config *config, int whose, uint32_t outage_ms)
{
    sim_init(s, config, config, 0, 1000);
    s->fate = fate_outage;
    s->end[0].to_send = UINT64_MAX / 2;
    down_for = whose;
    down_from = s->now + 1000;
    down_until = down_from + outage_ms;
    sim_turn(s);
    run_to(s, down_from);
    CHECK(s->end[1].received > 0);
    s->tracing = 1;
}

/* ---- what it costs ---- */

static void check_cost(sim *s, uint32_t from)
{
    int most = 0;
    for (uint32_t at = from; at != from + SECONDS * 1000; at += 1000) {
        int before = s->end[0].packets;
        run_to(s, at + 1000);
        if (s->end[0].packets - before > most)
            most = s->end[0].packets - before;
        CHECK(s->end[0].packets - before >= 0);
    }
    CHECK(most >= 1); /* it is asked for */
    CHECK(most <= 4);
    CHECK_EQ(s->spins, 0);
}

static void test_silent_peer_costs_little_from_the_start(void)
{
    for (size_t m = 0; m < MODES; m++) {
        sim s;
        sim_init(&s, &modes[m], &modes[m], 0, 1000);
        s.fate = fate_all_lost;
        s.end[0].to_send = 1 << 24;
        sim_turn(&s);
        run_to(&s, 3000);
        CHECK(s.end[0].packets >= 5);
        check_cost(&s, 3000);
        CHECK(s.end[0].kcp.dead);
        sim_free(&s);
    }
}

static void test_silent_peer_costs_little_in_mid_transfer(void)
{
    for (size_t m = 0; m < MODES; m++)
        for (int whose = 0; whose <= 2; whose++) {
            sim s;
            cut_off(&s, &modes[m], whose, 10 * SECONDS * 1000);
            run_to(&s, down_from + 2100); /* the last acknowledgments were under way */
            check_cost(&s, s.now);
            sim_free(&s);
        }
}

/* No storm into a hole, whatever the mode: counted by the second from the last word of the peer. */
static void test_what_is_sent_to_nobody_falls_off(void)
{
    for (size_t m = 0; m < 2 * MODES; m++)
        for (int whose = 0; whose <= 2; whose++) {
            sim s;
            ks_kcp_config config = modes[m / 2];
            config.adaptive = m % 2 != 0;
            config.insurance = config.adaptive ? -1 : 0;
            cut_off(&s, &config, whose, 10 * SECONDS * 1000);
            run_to(&s, down_from + 20); /* the last acknowledgments were under way */
            const uint32_t heard = s.now;
            int before = 0;
            for (uint32_t second = 1; second <= SECONDS; second++) {
                run_to(&s, heard + 1000 * second);
                int sent = s.end[0].packets - before;
                before = s.end[0].packets;
                CHECK(second == 1 || sent <= (second <= 5 ? 20 : 2));
                if (second > 1 && sent > (second <= 5 ? 20 : 2))
                    printf("mode %d, %d: %d packets in second %u\n", (int)m, whose, sent, second);
            }
            down_until = s.now; /* the first acknowledgment restores the rate */
            run_to(&s, s.now + 4000);
            before = s.end[0].packets;
            run_to(&s, s.now + 1000);
            CHECK(s.end[0].packets - before > 100);
            sim_free(&s);
        }
}

/* Its packets come, but say nothing of ours: as when a peer's checksum refuses each. */
static void test_peer_that_talks_and_never_acknowledges_costs_little(void)
{
    sim s;
    sim_init(&s, &modes[0], &modes[0], 0, 1000);
    s.fate = fate_all_lost;
    s.end[0].to_send = 1 << 24;
    s.end[1].to_send = 1 << 20;
    s.tracing = 1;
    sim_turn(&s);
    run_to(&s, 3000);
    for (uint32_t sn = 0; sn < 300; sn++) {
        uint8_t word[KS_KCP_HEAD + 1] = {0};
        ks_put_le32(word, modes[0].conv);
        word[4] = PUSH;
        ks_put_le16(word + 6, 1024);
        ks_put_le32(word + 12, sn);
        ks_put_le32(word + 20, 1);
        word[KS_KCP_HEAD] = sim_byte(1, sn);
        CHECK_EQ(ks_kcp_input_untrusted(&s.end[0].kcp, word, sizeof word, sim_us(s.now), false), KS_OK);
        sim_turn(&s);
        run_to(&s, s.now + 100);
    }
    int data = 0;
    for (size_t i = 0; i < s.trace_count; i++)
        data += s.trace[i].from == 0 && s.trace[i].cmd == PUSH && !ks_after(5000, s.trace[i].at);
    CHECK(data >= 28 && data <= 28 * 4 + 1);
    CHECK_EQ(s.end[0].received, 300);
    CHECK_EQ(s.end[0].wrong, 0);
    sim_free(&s);
}

/* ---- how soon all goes on ---- */

static void check_recovery(const ks_kcp_config *config, int whose, uint32_t outage_ms)
{
    sim s;
    cut_off(&s, config, whose, outage_ms);
    ks_kcp *k = &s.end[0].kcp;
    run_to(&s, down_until);
    uint32_t una = k->snd_una, nxt = k->snd_nxt;
    CHECK(una != nxt);
    size_t first = s.trace_count;
    while (k->snd_una == una && s.now - down_until < 20000)
        run_to(&s, s.now + 1);
    uint32_t heard = s.now;
    /* The probe decides: 2 s at most, and the round trip. */
    CHECK(heard - down_until <= 2000 + 2 * s.delay_ms + 50);
    while (ks_after(nxt, k->snd_una) && s.now - heard < 20000)
        run_to(&s, s.now + 1);
    /* Then everything: a round trip, the peer's delay and a timeout. */
    CHECK(s.now - heard <= 2 * s.delay_ms + 60);
    /* In order: each number goes first once, rising. */
    uint32_t highest = una;
    int lower = 0;
    for (size_t i = first; i < s.trace_count; i++) {
        const sim_segment *g = &s.trace[i];
        if (g->from != 0 || g->cmd != PUSH || ks_after(g->at, heard))
            continue;
        lower += ks_after(highest, g->sn) && g->sn != una;
        highest = ks_after(g->sn, highest) ? g->sn : highest;
    }
    CHECK_EQ(lower, 0);
    CHECK_EQ(s.end[0].wrong, 0);
    CHECK_EQ(s.end[1].wrong, 0);
    CHECK_EQ(s.spins, 0);
    sim_free(&s);
}

static void test_all_goes_on_at_once_after_an_outage(void)
{
    static const uint32_t outages_ms[] = {2500, 3000, 5000, 7321, 10000, 25000, 60000};
    for (size_t m = 0; m + 1 < MODES; m++) /* without a congestion window, which would have to grow again first */
        for (size_t i = 0; i < sizeof outages_ms / sizeof *outages_ms; i++)
            for (int whose = 0; whose <= 2; whose++)
                check_recovery(&modes[m], whose, outages_ms[i]);
}

/* A peer that is heard, even if it says nothing of our data, is asked sooner than the backed-off probe would. */
static void test_a_word_of_the_peer_brings_the_probe_forward(void)
{
    sim s;
    cut_off(&s, &modes[0], 2, 20000);
    run_to(&s, down_until - 1500);
    ks_kcp *k = &s.end[0].kcp;
    CHECK(k->stalled);
    while (!ks_after(k->stall_due, s.now + 1000)) /* a probe has just gone */
        run_to(&s, s.now + 1);
    down_until = s.now;
    s.end[1].to_send = 10;
    sim_turn(&s);
    uint32_t una = k->snd_una, began = s.now;
    while (k->snd_una == una && s.now - began < 20000)
        run_to(&s, s.now + 1);
    CHECK(s.now - began <= 250 + 4 * s.delay_ms);
    sim_free(&s);
}

/* A packet may end malformed behind an acknowledgment of all that was in flight: it is taken, and there is nothing left to probe. */
static void test_a_packet_that_ends_malformed_ends_a_stall_too(void)
{
    for (int adaptive = 0; adaptive < 2; adaptive++) {
        sim s;
        ks_kcp_config config = modes[0];
        config.adaptive = adaptive != 0;
        cut_off(&s, &config, 2, 60000);
        ks_kcp *k = &s.end[0].kcp;
        run_to(&s, down_from + 6000);
        CHECK(k->stalled && k->snd_una != k->snd_nxt);
        uint8_t packet[2 * KS_KCP_HEAD] = {0}; /* the second segment has no command */
        ks_put_le32(packet, config.conv);
        packet[4] = WINS;
        ks_put_le16(packet + 6, 1024);
        ks_put_le32(packet + 16, k->snd_nxt);
        ks_put_le32(packet + KS_KCP_HEAD, config.conv);
        CHECK_EQ(ks_kcp_input_untrusted(k, packet, sizeof packet, sim_us(s.now), false), KS_EMALFORMED);
        CHECK(!k->stalled && k->snd_una == k->snd_nxt);
        int before = s.end[0].packets;
        sim_turn(&s);
        run_to(&s, s.now + 3000);
        CHECK(s.end[0].packets > before); /* more of the data goes */
        sim_free(&s);
    }
}

/* Data written meanwhile waits, and follows. */
static void test_data_written_in_a_stall_waits(void)
{
    sim s;
    cut_off(&s, &modes[0], 2, 6000);
    s.end[0].to_send = s.end[0].sent + 3000;
    sim_turn(&s);
    run_to(&s, down_from + 3000);
    uint32_t nxt = s.end[0].kcp.snd_nxt;
    for (int i = 0; i < 50; i++) {
        s.end[0].to_send += 1000;
        sim_turn(&s);
        run_to(&s, s.now + 10);
    }
    CHECK_EQ(s.end[0].kcp.snd_nxt, nxt);
    sim_run(&s, 10000);
    CHECK(sim_finished(&s));
    CHECK(s.now - down_until <= 2000 + 6 * s.delay_ms + 100);
    CHECK_EQ(s.end[1].wrong, 0);
    sim_free(&s);
}

/* A round trip of 3 s is no outage: what was received is not sent again once the first acknowledgment tells. */
static void test_long_round_trip_is_no_outage(void)
{
    sim s;
    sim_init(&s, &modes[0], &modes[0], 0, 1000);
    s.delay_ms = 1500;
    s.end[0].to_send = 400000;
    sim_run(&s, 120000);
    CHECK(sim_finished(&s));
    uint64_t again = s.end[0].kcp.count.retrans_segs;
    s.end[0].to_send += 400000;
    sim_run(&s, 120000);
    CHECK(sim_finished(&s));
    CHECK_EQ(s.end[0].kcp.count.retrans_segs, again);
    sim_free(&s);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_silent_peer_costs_little_from_the_start),
        TEST(test_silent_peer_costs_little_in_mid_transfer),
        TEST(test_what_is_sent_to_nobody_falls_off),
        TEST(test_peer_that_talks_and_never_acknowledges_costs_little),
        TEST(test_all_goes_on_at_once_after_an_outage),
        TEST(test_a_word_of_the_peer_brings_the_probe_forward),
        TEST(test_a_packet_that_ends_malformed_ends_a_stall_too),
        TEST(test_data_written_in_a_stall_waits),
        TEST(test_long_round_trip_is_no_outage),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
