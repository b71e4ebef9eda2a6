/* SPDX-License-Identifier: MIT */
/* Where no tag tells who sent a packet, in virtual time: what who hears nothing can do, which is nothing, and that no genuine
 * peer is kept out for it, whatever its clock does. */
#include "arq/kcp.h"

#include "check.h"
#include "sim.h"
#include "world.h"
#include "base/octets.h"

enum { PUSH = 81, ACK = 82, WASK = 83, WINS = 84 };
#define CONV 7u
#define SECRET 0xabcdef01u
#define MINUTE 60000u
#define KNOWN 2 /* CLOCK_KNOWN of kcp_doubt.c */

static const ks_kcp_config modes[] = {
    {.conv = CONV, .mtu = 1400, .snd_wnd = 128, .rcv_wnd = 128, .interval = 10, .resend = 2, .nodelay = true, .nc = true,
     .stream = true, .doubts = true, .secret = SECRET},
    {.conv = CONV, .mtu = 1400, .snd_wnd = 128, .rcv_wnd = 128, .interval = 10, .resend = 2, .nodelay = true, .nc = true,
     .stream = true, .doubts = true, .secret = SECRET, .adaptive = true, .insurance = -1},
};
#define MODES (sizeof modes / sizeof *modes)

/* ---- instruments ---- */

static size_t segment(uint8_t *w, uint8_t cmd, uint16_t wnd, uint32_t ts, uint32_t sn, uint32_t una, uint32_t len)
{
    return sim_put_segment(w, CONV, cmd, 0, wnd, ts, sn, una, len);
}

/* One segment, as if of the peer of that end. */
static void give(sim *s, int end, uint8_t cmd, uint16_t wnd, uint32_t ts, uint32_t sn, uint32_t una, uint32_t len)
{
    uint8_t packet[KS_KCP_MTU_MAX];
    size_t size = segment(packet, cmd, wnd, ts, sn, una, len);
    CHECK_EQ(ks_kcp_input_untrusted(&s->end[end].kcp, packet, size, sim_us(s->now), false), KS_OK);
}

static void run_to(sim *s, uint32_t until)
{
    sim_turn(s);
    while (s->now != until && sim_step(s, until))
        ;
    s->now = until;
}

static void send_more(sim *s, int end, uint64_t bytes)
{
    s->end[end].to_send += bytes;
    sim_turn(s);
}

/* Two that have exchanged a little each 50 ms for a second, and so know each other's clocks. */
static void acquainted(sim *s, const ks_kcp_config *config)
{
    ks_kcp_config other = *config;
    other.secret = ~config->secret;
    sim_init(s, config, &other, 0, 1000);
    for (int i = 0; i < 20; i++) {
        send_more(s, 0, 3000);
        send_more(s, 1, 300);
        run_to(s, s->now + 50);
    }
    run_to(s, s->now + 200);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(s->end[i].kcp.clock_is, KNOWN);
        CHECK_EQ(s->end[i].kcp.count.doubted_pkts, 0); /* who is no forger is not asked */
        CHECK_EQ(ks_kcp_unacked(&s->end[i].kcp), 0);
    }
}

static void check_all_came(sim *s)
{
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(s->end[!i].received, s->end[i].to_send);
        CHECK_EQ(s->end[i].wrong, 0);
    }
    CHECK(s->spins == 0 || s->clock != NULL); /* a timer that is set back is due once more */
}

/* Of the end's own clock, as its peer sees it. */
static uint32_t stamp(const sim *s, int end)
{
    return s->now + s->end[end].kcp.cfg.secret;
}

static int challenges(const sim *s, int from)
{
    int n = 0;
    for (size_t i = 0; i < s->trace_count; i++)
        n += s->trace[i].from == from && s->trace[i].cmd == PUSH && s->trace[i].len == 0;
    return n;
}

/* ---- who hears nothing ---- */

/* Each sequence number of many, in packets full of them. */
static void spoof_all(sim *s, int end, uint32_t ts, uint32_t una, uint16_t wnd, uint32_t len)
{
    uint8_t packet[KS_KCP_MTU_MAX];
    for (uint32_t sn = 0; sn < 8000;) {
        size_t size = 0;
        while (size + KS_KCP_HEAD + len <= 1400)
            size += segment(packet + size, PUSH, wnd, ts, sn++, una, len);
        (void)ks_kcp_input_untrusted(&s->end[end].kcp, packet, size, sim_us(s->now), false);
    }
}

static void test_guessed_data_changes_nothing(void)
{
    for (size_t m = 0; m < MODES; m++) {
        sim s;
        acquainted(&s, &modes[m]);
        send_more(&s, 0, 3000000);
        const uint32_t from = s.now;
        for (int i = 0; i < 20; i++) {
            spoof_all(&s, 1, (uint32_t)i << 27, s.end[1].kcp.snd_nxt, 0, i % 2 ? 8 : 0);
            spoof_all(&s, 0, (uint32_t)i << 27, s.end[0].kcp.snd_nxt, 0, i % 2 ? 8 : 0);
            run_to(&s, s.now + 7);
        }
        sim_run(&s, 10000);
        check_all_came(&s);
        CHECK(s.end[1].kcp.count.doubted_pkts > 50); /* each packet that reaches the window */
        CHECK(s.now - from < 2000);
        sim_free(&s);
    }
}

static void test_a_packet_is_one_guess(void)
{
    sim s;
    acquainted(&s, &modes[0]);
    ks_kcp *k = &s.end[1].kcp;
    const uint32_t good = s.now + k->peer_clock, next = k->rcv_nxt;
    uint8_t packet[KS_KCP_MTU_MAX];
    size_t size = 0;
    for (uint32_t i = 0; i < 40; i++)
        size += segment(packet + size, PUSH, 128, i == 39 ? good : (uint32_t)i << 26, next + i, k->snd_una, 1);
    CHECK_EQ(ks_kcp_input_untrusted(k, packet, size, sim_us(s.now), false), KS_OK);
    CHECK(k->rcv_max == next && k->count.doubted_pkts == 1);
    size = segment(packet, PUSH, 128, good, next, k->snd_una, 1);
    size += segment(packet + size, PUSH, 128, good + (1u << 20), next + 1, k->snd_una, 1);
    CHECK_EQ(ks_kcp_input_untrusted(k, packet, size, sim_us(s.now), false), KS_OK);
    CHECK_EQ(k->rcv_max, next);
    /* the stamp's distance from the clock, to the ms */
    give(&s, 1, PUSH, 128, good + 65536, next, k->snd_una, 1);
    give(&s, 1, PUSH, 128, good - 65536, next, k->snd_una, 1);
    CHECK_EQ(k->rcv_max, next);
    give(&s, 1, PUSH, 128, good + 65535, next, k->snd_una, 1);
    CHECK_EQ(k->rcv_nxt, next + 1);
    sim_free(&s);
}

/* Of acknowledgments too: the second of two in a packet is not looked at when the first has a wrong stamp. */
static void test_a_packet_of_acks_is_one_guess(void)
{
    for (size_t m = 0; m < MODES; m++) {
        sim s;
        acquainted(&s, &modes[m]);
        ks_kcp *k = &s.end[0].kcp;
        s.fate = fate_all_lost;
        send_more(&s, 0, 5 * 1376);
        const uint32_t una = k->snd_una;
        MUST(k->snd_nxt - una >= 2);
        const uint32_t right = (*ks_ring_at(&k->snd, una))->ts + k->cfg.secret;
        uint8_t packet[KS_KCP_MTU_MAX];
        size_t size = segment(packet, ACK, 128, right + 77777, una + 1, una, 0);
        size += segment(packet + size, ACK, 128, right, una, una, 0);
        CHECK_EQ(ks_kcp_input_untrusted(k, packet, size, sim_us(s.now), false), KS_OK);
        CHECK_EQ(k->snd_una, una);
        for (uint32_t bit = 0; bit < 32; bit++)
            give(&s, 0, ACK, 0, right ^ (1u << bit), una, k->snd_nxt, 0);
        CHECK(k->snd_una == una && k->rmt_wnd > 0);
        give(&s, 0, ACK, 128, right, una, una, 0);
        CHECK_EQ(k->snd_una, una + 1);
        sim_free(&s);
    }
}

/* Each of its transmissions' stamps names a segment, and nothing before or behind. */
static void test_stamps_of_retransmissions(void)
{
    for (size_t m = 0; m < MODES; m++)
        for (int which = 0; which < 4; which++) {
            sim s;
            acquainted(&s, &modes[m]);
            ks_kcp *k = &s.end[0].kcp;
            s.fate = fate_all_lost;
            send_more(&s, 0, 1000);
            const uint32_t una = k->snd_una, first = s.now + k->cfg.secret;
            run_to(&s, s.now + 3000);
            const ks_seg *seg = *ks_ring_at(&k->snd, una);
            MUST(seg->xmit > 2);
            const uint32_t last = seg->ts + k->cfg.secret, at[] = {first - 1, first, last, s.now + 1 + k->cfg.secret};
            give(&s, 0, ACK, 128, at[which], una, una, 0);
            CHECK_EQ(k->snd_una - una, which == 1 || which == 2);
            sim_free(&s);
        }
}

static void test_una_and_window_need_a_proof(void)
{
    static const uint8_t cmds[] = {PUSH, WASK, WINS, ACK};
    for (size_t m = 0; m < MODES; m++)
        for (size_t c = 0; c < sizeof cmds; c++) {
            sim s;
            acquainted(&s, &modes[m]);
            ks_kcp *k = &s.end[0].kcp;
            s.fate = fate_all_lost;
            send_more(&s, 0, 5 * 1376);
            const uint32_t una = k->snd_una, wnd = k->rmt_wnd;
            const uint32_t old = cmds[c] == PUSH ? k->rcv_nxt - 1 : una - 1; /* of what came before: nothing new */
            for (uint32_t guess = 0; guess < 100; guess++)
                give(&s, 0, cmds[c], (uint16_t)(guess % 2 ? 0 : 60000), guess << 25, old, k->snd_nxt, cmds[c] == PUSH);
            CHECK(k->snd_una == una && k->rmt_wnd == wnd);
            CHECK(k->challenge_open && k->challenge_due);
            /* an una of what was never sent, whoever says it */
            give(&s, 0, cmds[c], 0, stamp(&s, 1), old, k->snd_nxt + 1, cmds[c] == PUSH);
            CHECK(k->snd_una == una && k->rmt_wnd == wnd);
            if (cmds[c] != ACK) {
                give(&s, 0, cmds[c], 77, stamp(&s, 1), old, una + 1, cmds[c] == PUSH);
                CHECK(k->snd_una == una + 1 && k->rmt_wnd == 77);
            }
            sim_free(&s);
        }
}

/* As kcp-go's WINS, which has no time: what it says comes with the answer. */
static void test_what_is_doubted_is_asked(void)
{
    sim s;
    acquainted(&s, &modes[0]);
    ks_kcp *k = &s.end[0].kcp;
    s.fate = fate_all_lost;
    s.tracing = 1;
    send_more(&s, 0, 5 * 1376);
    const uint32_t end = k->snd_nxt, wnd = k->rmt_wnd;
    give(&s, 0, WINS, 99, 0, 0, end, 0);
    CHECK(k->snd_una != end);
    sim_turn(&s);
    CHECK_EQ(challenges(&s, 0), 1);
    const ks_kcp asked = *k;
    give(&s, 0, ACK, 99, asked.challenge.ts + 1, asked.challenge.sn, end, 0);
    CHECK(k->snd_una != end && k->rmt_wnd == wnd);
    give(&s, 0, ACK, 99, asked.challenge.ts, asked.challenge.sn, end, 0);
    CHECK(k->snd_una == end && k->rmt_wnd == 99);
    /* and the next one, as soon as the clock has gone on, has another stamp */
    give(&s, 0, WINS, 120, 0, 0, end, 0);
    CHECK(!k->challenge_open);
    s.now++;
    give(&s, 0, WINS, 120, 0, 0, end, 0);
    CHECK(k->challenge_open && k->challenge.ts != asked.challenge.ts && k->rmt_wnd == 99);
    /* who does not answer is not asked so soon */
    sim_turn(&s);
    CHECK_EQ(challenges(&s, 0), 2);
    for (int i = 1; i <= 20; i++) {
        s.now++;
        give(&s, 0, WINS, 121, 0, 0, end, 0);
        sim_turn(&s);
        CHECK_EQ(challenges(&s, 0), i < 20 ? 2 : 3);
    }
    sim_free(&s);
}

/* Asked again it stays the same until it is answered: a round trip may be longer than the time between two. */
static void test_a_far_peer_is_asked_the_same(void)
{
    sim s;
    acquainted(&s, &modes[0]);
    ks_kcp *k = &s.end[0].kcp;
    s.fate = fate_all_lost;
    send_more(&s, 0, 5 * 1376);
    const uint32_t end = k->snd_nxt;
    give(&s, 0, WINS, 99, 0, 0, end, 0);
    sim_turn(&s);
    const struct ks_ack asked = k->challenge;
    s.tracing = 1;
    for (int i = 0; i < 30; i++) {
        run_to(&s, s.now + 30);
        give(&s, 0, WINS, 99, 0, 0, end, 0);
        sim_turn(&s);
    }
    CHECK_EQ(challenges(&s, 0), 30);
    give(&s, 0, ACK, 99, asked.ts, asked.sn, end, 0);
    CHECK_EQ(k->snd_una, end);
    sim_free(&s);
}

/* So the answer to WASK is believed at once, though it has no time itself. */
static void test_a_challenge_goes_with_the_window_probe(void)
{
    for (size_t m = 0; m < MODES; m++) {
        sim s;
        acquainted(&s, &modes[m]);
        ks_kcp *k = &s.end[0].kcp;
        s.fate = fate_all_lost;
        s.tracing = 1;
        send_more(&s, 0, 200 * 1376);
        const uint32_t una = k->snd_una;
        give(&s, 0, ACK, 0, (*ks_ring_at(&k->snd, una))->ts + k->cfg.secret, una, k->snd_nxt, 0);
        CHECK_EQ(k->rmt_wnd, 0);
        run_to(&s, s.now + 700);
        int asked = 0;
        for (size_t i = 0; i + 1 < s.trace_count; i++)
            asked += s.trace[i].cmd == WASK && s.trace[i + 1].cmd == PUSH && s.trace[i + 1].len == 0;
        CHECK_EQ(asked, 1);
        sim_free(&s);
    }
}

/* A window that has shut opens by a WINS, or its answer to WASK, which get lost; each is doubted, as the peer has no time. */
static void test_a_shut_window_opens_by_a_challenge(void)
{
    for (size_t m = 0; m < MODES; m++) {
        sim s;
        ks_kcp_config config = modes[m];
        sim_init(&s, &config, &config, 0, 1000);
        s.end[1].paused = 1;
        send_more(&s, 0, 1000000);
        run_to(&s, s.now + 5000);
        CHECK_EQ(s.end[0].kcp.rmt_wnd, 0);
        CHECK(s.end[0].kcp.clock_is != KNOWN);
        s.end[1].paused = 0;
        const uint32_t from = s.now;
        sim_run(&s, MINUTE);
        check_all_came(&s);
        CHECK(s.now - from < 1500);
        sim_free(&s);
    }
}

static void test_challenges_are_few(void)
{
    sim s;
    acquainted(&s, &modes[0]);
    s.tracing = 1;
    for (uint32_t ms = 0; ms < 1000; ms++) {
        give(&s, 1, PUSH, 128, ms << 20 | 0x80000, s.end[1].kcp.rcv_nxt + ms % 50, s.end[1].kcp.snd_una, 1);
        run_to(&s, s.now + 1);
    }
    CHECK(challenges(&s, 1) >= 20 && challenges(&s, 1) <= 51);
    CHECK(s.end[1].packets < 200);
    sim_free(&s);
}

/* ---- genuine peers ---- */

static uint32_t clock_from, clock_rate_percent, clock_jumps_at, clock_jump;

static void clock_goes(sim *s)
{
    uint32_t passed = s->now - clock_from;
    uint64_t theirs = (uint64_t)passed * clock_rate_percent / 100;
    if (clock_jumps_at != 0 && passed >= clock_jumps_at)
        theirs += clock_jump;
    s->end[0].kcp.cfg.secret = (uint32_t)theirs - s->now;
}

/* A peer of another kind: it has no secret, believes everybody, and its clock is its own. */
static void foreigner(sim *s, const ks_kcp_config *config, uint32_t start_ms, uint32_t rate_percent)
{
    ks_kcp_config foreign = *config;
    foreign.doubts = false;
    sim_init(s, &foreign, config, 0, start_ms);
    clock_from = start_ms;
    clock_rate_percent = rate_percent;
    clock_jumps_at = clock_jump = 0;
    s->clock = clock_goes;
}

/* Data, after that a pause, and again; -> the longest that a piece took, ms */
static uint32_t talk(sim *s, const uint32_t *pauses, size_t count)
{
    uint32_t longest = 0;
    for (size_t i = 0; i < count; i++) {
        run_to(s, s->now + pauses[i]);
        const uint32_t from = s->now;
        s->end[0].to_send += 100000;
        s->end[1].to_send += 20000;
        sim_run(s, 10 * MINUTE);
        check_all_came(s);
        longest = s->now - from > longest ? s->now - from : longest;
    }
    return longest;
}

static const uint32_t day[] = {0, 100, 300, 1000, 5000, 20, 20000, 70000, 10 * MINUTE, 10, 100 * MINUTE, 3 * MINUTE, 1000};
#define DAY (sizeof day / sizeof *day)

static void test_clocks_of_all_kinds(void)
{
    /* kcp-go's; standing; ticks of 10 ms as 1; 10 % and 25 % off, either way; twice; us, and one that runs wild: who lives by such
     * a clock loses nothing by us, but its own timers are out of order */
    static const struct { uint32_t rate; bool known, sane; } kinds[] = {
        {100, true, true}, {0, false, true}, {10, false, true}, {90, false, true}, {110, false, true}, {75, false, true},
        {125, false, true}, {50, false, true}, {200, false, true}, {100000, false, false}, {77777777, false, false}};
    for (size_t m = 0; m < MODES; m++)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            for (int bad = 0; bad < 2; bad++) {
                if (!kinds[i].sane && (bad || modes[m].adaptive))
                    continue;
                sim s;
                foreigner(&s, &modes[m], 1000, kinds[i].rate);
                s.fate = bad ? fate_chaos : NULL;
                s.loss_percent = 10;
                uint32_t took = talk(&s, day, DAY);
                CHECK(took < (bad ? 15000u : 2000u));
                if (took >= (bad ? 15000u : 2000u))
                    printf("clock at %u %%, mode %d, %s: %u ms\n", kinds[i].rate, (int)m, bad ? "bad" : "good", took);
                CHECK_EQ(s.end[1].kcp.clock_is == KNOWN, kinds[i].known);
                sim_free(&s);
            }
}

/* Ours and theirs, in all places of 32 bits; and for so long that all wraps. */
static void test_clocks_wrap(void)
{
    static const uint32_t starts[] = {0, 0xffffff00u, 0x7fffff00u, 0x80000000u, 0xffff0000u};
    static const uint32_t weeks[] = {0, 500, 1u << 30, 1u << 31, 100, 3u << 30, 0xfffffff0u, 10};
    for (size_t m = 0; m < MODES; m++)
        for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
            sim s;
            ks_kcp_config other = modes[m];
            other.secret = 0u - starts[(i + 2) % 5];
            sim_init(&s, &modes[m], &other, 0, starts[i]);
            CHECK(talk(&s, day, DAY) < 2000);
            CHECK(s.end[0].kcp.clock_is == KNOWN && s.end[1].kcp.clock_is == KNOWN);
            CHECK(talk(&s, weeks, sizeof weeks / sizeof *weeks) < 2000);
            sim_free(&s);
        }
}

/* A machine that slept, a clock that was set: at once where both talk, else when it has said the same for long enough. */
static void test_clocks_that_jump(void)
{
    static const uint32_t jumps[] = {70000, 3600000, 0u - 70000, 0u - 3600000, 1u << 31, 60000};
    for (size_t m = 0; m < MODES; m++)
        for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++)
            for (int both = 0; both < 2; both++) {
                sim s;
                foreigner(&s, &modes[m], 1000, 100);
                (void)talk(&s, day, 4);
                CHECK_EQ(s.end[1].kcp.clock_is, KNOWN);
                clock_jumps_at = s.now - clock_from + 1000;
                clock_jump = jumps[i];
                run_to(&s, s.now + 2000);
                const uint32_t from = s.now;
                if (both)
                    send_more(&s, 1, 3000000);
                send_more(&s, 0, 3000);
                uint32_t until = s.now + (jumps[i] == 60000 ? 1000 : 29000);
                run_to(&s, until);
                CHECK_EQ(s.end[1].received, s.end[0].to_send);
                CHECK(s.end[1].wrong == 0 && s.now - from < 30000); /* the peer's patience */
                CHECK_EQ(s.end[1].kcp.clock_is, KNOWN);
                sim_run(&s, 10 * MINUTE);
                check_all_came(&s);
                sim_free(&s);
            }
}

/* Who says the same by one clock, at whatever pace, is believed when he has done so for 25 s: and not if the peer is heard meanwhile. */
static void test_insisting_takes_long(void)
{
    static const uint32_t paces[] = {10, 1000, 7000};
    for (size_t i = 0; i < sizeof paces / sizeof *paces; i++)
        for (int heard = 0; heard < 2; heard++) {
            sim s;
            acquainted(&s, &modes[0]);
            ks_kcp *k = &s.end[1].kcp;
            const uint32_t from = s.now, shift = 1u << 24;
            uint32_t next = k->rcv_nxt, heard_at = s.now;
            while (s.now - from < 60000 && k->rcv_nxt == next) {
                give(&s, 1, PUSH, 128, s.now + k->peer_clock + shift, next, k->snd_una, 1);
                run_to(&s, s.now + paces[i]);
                if (heard && s.now - heard_at >= 10000) {
                    heard_at = s.now;
                    CHECK_EQ(k->rcv_nxt, next);
                    send_more(&s, 0, 1);
                    run_to(&s, s.now + 50);
                    next++;
                    CHECK_EQ(k->rcv_nxt, next);
                }
            }
            CHECK_EQ(k->rcv_nxt == next, heard);
            CHECK(heard || (s.now - from >= 25000 && s.now - from < 25000 + 2 * paces[i] + 50));
            sim_free(&s);
        }
}

/* By a clock that makes no sense nobody is believed, however long. */
static void test_insisting_needs_a_clock(void)
{
    sim s;
    acquainted(&s, &modes[0]);
    ks_kcp *k = &s.end[1].kcp;
    const uint32_t next = k->rcv_nxt;
    for (uint32_t i = 0; i < 100; i++) {
        give(&s, 1, PUSH, 128, 0x12345678, next, k->snd_una, 1); /* one that stands */
        run_to(&s, s.now + 1000);
    }
    CHECK_EQ(k->rcv_nxt, next);
    sim_free(&s);
}

/* A process that is stopped hears nothing for ten minutes, and then all at once what is in its socket: late. */
static void test_stopped_for_ten_minutes(void)
{
    for (size_t m = 0; m < MODES; m++)
        for (int whose = 0; whose < 2; whose++) {
            sim s;
            acquainted(&s, &modes[m]);
            send_more(&s, whose, 500000);
            run_to(&s, s.now + 30);
            s.now += 10 * MINUTE;
            const uint32_t from = s.now;
            sim_run(&s, 10 * MINUTE);
            check_all_came(&s);
            CHECK(s.now - from < 4000);
            sim_free(&s);
        }
}

static void test_bad_paths(void)
{
    for (size_t m = 0; m < MODES; m++)
        for (uint32_t delay = 5; delay <= 500; delay *= 10) {
            sim s;
            ks_kcp_config other = modes[m];
            other.secret = 99;
            sim_init(&s, &modes[m], &other, 0xfffffff0, 5000);
            s.fate = fate_chaos;
            s.delay_ms = delay;
            s.loss_percent = 15;
            s.end[0].to_send = 2000000;
            s.end[1].to_send = 500000;
            sim_run(&s, 10 * MINUTE);
            check_all_came(&s);
            CHECK(s.now < 10 * MINUTE);
            sim_free(&s);
        }
}

/* What it costs genuine peers: on a path that loses nothing, no question. */
static void test_who_is_no_forger_is_not_asked(void)
{
    for (size_t m = 0; m < MODES; m++) {
        sim s;
        acquainted(&s, &modes[m]);
        s.tracing = 1;
        CHECK(talk(&s, day, DAY) < 2000);
        CHECK(s.end[0].kcp.count.doubted_pkts + s.end[1].kcp.count.doubted_pkts == 0);
        CHECK(challenges(&s, 0) + challenges(&s, 1) == 0);
        sim_free(&s);
    }
}

/* Who could not know a clock yet has a peer with none: nothing is lost, and una needs its proof all the same. */
static void test_unknown_clock_checks_no_data(void)
{
    sim s;
    sim_init(&s, &modes[0], &modes[0], 0, 1000);
    ks_kcp *k = &s.end[0].kcp;
    s.fate = fate_all_lost;
    send_more(&s, 0, 3000);
    give(&s, 0, PUSH, 128, 5, 0, 0, 10);
    CHECK_EQ(k->rcv_nxt, 1);
    s.now += 1000;
    give(&s, 0, PUSH, 128, 0x40000000, 1, k->snd_nxt, 10);
    CHECK(k->rcv_nxt == 2 && k->snd_una == 0);
    sim_free(&s);
}

/* ---- whole sessions ---- */

static ks_crypt *crypt_of(ks_crypt_mode kind)
{
    static const uint8_t key[32] = {1, 2, 3};
    ks_crypt *crypt = ks_crypt_new(kind, key, sizeof key, NULL);
    MUST(crypt != NULL);
    return crypt;
}

/* Who has a tag doubts nobody; who has none has a secret of his own in each session. */
static void test_who_doubts(void)
{
    static const struct { ks_crypt_mode kind; bool doubts; } crypts[] = {{KS_CRYPT_CHACHA20, false}, {KS_CRYPT_SALSA20, true}};
    for (size_t i = 0; i < 3; i++) {
        world w;
        ks_profile p = world_profile();
        int a, b = -1;
        world_open(&w, 1, 10 * MS);
        world_listen(&w, &p, i < 2 ? crypt_of(crypts[i].kind) : NULL, 16);
        a = world_connect(&w, &p, i < 2 ? crypt_of(crypts[i].kind) : NULL);
        WORLD_UNTIL(&w, 10 * SECOND, (world_poll(a) & POLLOUT) && world_accepted(&w, &b));
        const ks_kcp *one = &world_session(&w.host[CLIENT], a)->kcp, *other = &world_session(&w.host[SERVER], b)->kcp;
        const bool doubts = i == 2 || crypts[i].doubts;
        CHECK(one->cfg.doubts == doubts && other->cfg.doubts == doubts);
        CHECK(one->cfg.secret != 0 && one->cfg.secret != other->cfg.secret);
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

/* Each 50 ms a little both ways, until both clocks are known. */
static void world_talk(world *w, int a, int b)
{
    uint64_t got = 0;
    for (int i = 0; i < 10; i++) {
        CHECK(send(a, "word", 4, MSG_DONTWAIT) == 4 && send(b, "word", 4, MSG_DONTWAIT) == 4);
        world_run(w, 50 * MS);
        CHECK(world_ending(a, &got) == -1 && world_ending(b, &got) == -1);
    }
    CHECK_EQ(got, 80);
    CHECK_EQ(world_session(&w->host[CLIENT], a)->kcp.clock_is, KNOWN);
    CHECK_EQ(world_session(&w->host[SERVER], b)->kcp.clock_is, KNOWN);
}

static void forge_farewells(const world *w, int to, uint32_t first_sn, uint32_t una, uint32_t conv, uint32_t ts)
{
    uint8_t packet[1400];
    size_t size = 0;
    const world_route *r = &w->routes[0];
    for (uint32_t sn = first_sn; sn < first_sn + 40; sn++) {
        size += segment(packet + size, PUSH, 0, ts, sn, una, KS_SMUX_HEAD);
        ks_put_le32(packet + size - KS_KCP_HEAD - KS_SMUX_HEAD, conv);
        ks_smux_head(packet + size - KS_SMUX_HEAD, 2, KS_SMUX_FIN, 0, 0);
    }
    const ks_addr *at = to == CLIENT ? &r->client : &w->server;
    MUST(sendto(r->fd, packet, size, 0, &at->sa, sizeof at->in4) == (ssize_t)size);
}

/* Nobody's word for it ends a session but the peer's: who was started anew, and has seen what he answers. */
static void test_forged_ends(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b, ending = -1;
    uint64_t got = 0;
    world_open(&w, 1, 10 * MS);
    world_pair(&w, &p, &a, &b);
    world_talk(&w, a, b);
    const ks_session *s = world_session(&w.host[CLIENT], a);
    for (uint32_t n = 0; n < 400; n++) {
        forge_farewells(&w, (int)n % 2, n / 8 * 10 % 80, n % 30, s->kcp.cfg.conv, n * 10000019u);
        world_run(&w, MS);
    }
    CHECK(s->kcp.count.doubted_pkts > 10);
    world_talk(&w, a, b);
    (void)net_add(&w.path[CLIENT], net_loss(100)); /* so that something is under way */
    CHECK(send(a, "hello", 5, MSG_DONTWAIT) == 5);
    world_run(&w, 10 * MS);
    uint8_t refusal[KS_KCP_HEAD + KS_SMUX_HEAD];
    (void)segment(refusal, PUSH, 0, (*ks_ring_at(&s->kcp.snd, s->kcp.snd_una))->ts + s->kcp.cfg.secret, s->kcp.rcv_nxt - 1, 0,
                  KS_SMUX_HEAD);
    ks_put_le32(refusal, s->kcp.cfg.conv);
    ks_smux_head(refusal + KS_KCP_HEAD, 2, KS_SMUX_FIN, 0, 0);
    const world_route *r = &w.routes[0];
    MUST(sendto(r->fd, refusal, sizeof refusal, 0, &r->client.sa, sizeof r->client.in4) == sizeof refusal);
    WORLD_UNTIL(&w, SECOND, (ending = world_ending(a, &got)) != -1);
    CHECK_EQ(ending, ECONNRESET);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

static void test_forgers_keep_nobody_alive(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b, ending = -1;
    uint64_t got = 0;
    world_open(&w, 1, 10 * MS);
    world_pair(&w, &p, &a, &b);
    world_talk(&w, a, b);
    const ks_session *s = world_session(&w.host[SERVER], b);
    const uint32_t conv = s->kcp.cfg.conv, next = s->kcp.rcv_nxt, una = s->kcp.snd_una;
    (void)net_add(&w.path[CLIENT], net_loss(100));
    const uint64_t from = w.now_us;
    for (uint32_t n = 0; n < 40 && ending == -1; n++) {
        forge_farewells(&w, SERVER, next, una, conv, n * 10000019u);
        world_run(&w, SECOND);
        ending = world_ending(b, &got);
    }
    CHECK_EQ(ending, ETIMEDOUT);
    CHECK(w.now_us - from < 35 * (uint64_t)SECOND);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_guessed_data_changes_nothing),
        TEST(test_a_packet_is_one_guess),
        TEST(test_a_packet_of_acks_is_one_guess),
        TEST(test_stamps_of_retransmissions),
        TEST(test_una_and_window_need_a_proof),
        TEST(test_what_is_doubted_is_asked),
        TEST(test_a_far_peer_is_asked_the_same),
        TEST(test_a_challenge_goes_with_the_window_probe),
        TEST(test_a_shut_window_opens_by_a_challenge),
        TEST(test_challenges_are_few),
        TEST(test_clocks_of_all_kinds),
        TEST(test_clocks_wrap),
        TEST(test_clocks_that_jump),
        TEST(test_insisting_takes_long),
        TEST(test_insisting_needs_a_clock),
        TEST(test_stopped_for_ten_minutes),
        TEST(test_bad_paths),
        TEST(test_who_is_no_forger_is_not_asked),
        TEST(test_unknown_clock_checks_no_data),
        TEST(test_who_doubts),
        TEST(test_forged_ends),
        TEST(test_forgers_keep_nobody_alive),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
