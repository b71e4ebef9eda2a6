/* SPDX-License-Identifier: MIT */
/* The ARQ's rules one by one, in virtual time. tests/arq has the properties under random networks. */
#include "arq/kcp.h"

#include "check.h"
#include "base/err.h"
#include "base/mem.h"
#include "sim.h"
#include "base/octets.h"

enum { PUSH = 81, ACK = 82, WASK = 83, WINS = 84 };
#define MSS 1376u /* of `fast` */

static const ks_kcp_config fast = {
    .conv = 0x11223344, .mtu = 1400, .snd_wnd = 128, .rcv_wnd = 128, .interval = 20, .resend = 2,
    .nodelay = true, .nc = true, .stream = true,
};

static ks_kcp_config with_windows(uint32_t snd, uint32_t rcv)
{
    ks_kcp_config c = fast;
    c.snd_wnd = snd;
    c.rcv_wnd = rcv;
    return c;
}

/* ---- helpers for tests that play the peer themselves ---- */

static size_t segment(uint8_t *w, uint8_t cmd, uint8_t frg, uint16_t wnd, uint32_t ts, uint32_t sn, uint32_t una, uint32_t len)
{
    return sim_put_segment(w, fast.conv, cmd, frg, wnd, ts, sn, una, len);
}

static int give(sim *s, uint8_t cmd, uint16_t wnd, uint32_t ts, uint32_t sn, uint32_t una, uint32_t len)
{
    uint8_t packet[KS_KCP_MTU_MAX];
    size_t size = segment(packet, cmd, 0, wnd, ts, sn, una, len);
    return ks_kcp_input_untrusted(&s->end[0].kcp, packet, size, sim_us(s->now), false);
}

/* End 0 alone: the test is its peer, and its packets go nowhere but into the trace. */
static ks_kcp *alone(sim *s, const ks_kcp_config *config)
{
    sim_init(s, config, &fast, 0, 1000);
    s->fate = fate_all_lost;
    s->tracing = 1;
    return &s->end[0].kcp;
}

static int traced(const sim *s, int from, uint8_t cmd)
{
    int n = 0;
    for (size_t i = 0; i < s->trace_count; i++)
        n += s->trace[i].from == from && s->trace[i].cmd == cmd;
    return n;
}

static void check_delivered(sim *s)
{
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(s->end[!i].received, s->end[i].to_send);
        CHECK_EQ(s->end[i].wrong, 0);
        CHECK_EQ(ks_kcp_unacked(&s->end[i].kcp), 0);
        CHECK(!s->end[i].kcp.dead);
    }
    CHECK_EQ(s->spins, 0);
}

/* Both directions at once; -> virtual ms that it took. */
static uint32_t transfer(const ks_kcp_config *a, const ks_kcp_config *b, uint32_t first_sn, uint32_t start_ms, uint64_t bytes,
                         int (*fate)(sim *, int, const uint8_t *, size_t, uint32_t *), uint32_t loss_percent)
{
    uint64_t used = ks_mem_used();
    sim s;
    sim_init(&s, a, b, first_sn, start_ms);
    s.fate = fate;
    s.loss_percent = loss_percent;
    s.nth = 2;
    s.end[0].to_send = bytes;
    s.end[1].to_send = bytes / 2;
    sim_run(&s, 3600 * 1000);
    check_delivered(&s);
    uint32_t took = s.now - start_ms;
    sim_free(&s);
    CHECK_EQ(ks_mem_used(), used);
    return took;
}

/* ---- delivery ---- */

static void test_in_order_without_loss(void)
{
    sim s;
    sim_init(&s, &fast, &fast, 0, 0);
    s.tracing = 1;
    s.end[0].to_send = 1000 * MSS;
    sim_run(&s, 60000);
    check_delivered(&s);
    CHECK_EQ(traced(&s, 0, PUSH), 1000);
    CHECK_EQ(s.end[0].kcp.count.retrans_segs, 0);
    CHECK_EQ(s.end[1].kcp.count.repeat_segs, 0);
    CHECK_EQ(s.end[0].kcp.count.out_segs, traced(&s, 0, PUSH) + traced(&s, 0, ACK) + traced(&s, 0, WASK) + traced(&s, 0, WINS));
    /* 1000 segments by 128 a round trip of 40 ms, and the deferred ACK at the end */
    CHECK(s.now <= 8 * 40 + 40 + 20);
    sim_free(&s);
}

static void test_random_loss(void)
{
    for (uint32_t percent = 10; percent <= 50; percent += 20)
        transfer(&fast, &fast, 0, 0, 300000, fate_random_loss, percent);
}

static void test_every_second_packet_lost(void)
{
    transfer(&fast, &fast, 0, 0, 100000, fate_every_nth_lost, 0);
}

static void test_loss_repeats_and_reordering(void)
{
    for (uint16_t resend = 0; resend <= KS_KCP_RESEND_MAX; resend = (uint16_t)(resend + 4)) {
        ks_kcp_config c = fast;
        c.resend = resend;
        c.nodelay = resend % 8 == 0;
        transfer(&c, &fast, 7, 0, 300000, fate_chaos, 10);
    }
}

static void test_sn_and_ts_wrap(void)
{
    transfer(&fast, &fast, 0xfffffff0, 0xfffffff0, 500000, NULL, 0);
    transfer(&fast, &fast, 0xfffffff0, 0xfffffff0, 500000, fate_chaos, 20);
    transfer(&fast, &fast, 0x7ffffff0, 0x7ffffff0, 500000, fate_chaos, 20);
    /* the same fates give the same virtual time, wherever the numbers start */
    CHECK_EQ(transfer(&fast, &fast, 0xfffffff0, 0xfffffff0, 200000, fate_chaos, 20),
             transfer(&fast, &fast, 0, 0, 200000, fate_chaos, 20));
}

static void test_window_of_one(void)
{
    ks_kcp_config one = with_windows(1, 1);
    transfer(&one, &one, 0, 0, 30000, NULL, 0);
    transfer(&one, &fast, 0, 0, 30000, fate_chaos, 20);
    transfer(&fast, &one, 0, 0, 30000, fate_chaos, 20);
}

static void test_smallest_mtu(void)
{
    ks_kcp_config tiny = fast;
    tiny.mtu = KS_KCP_MTU_MIN;
    transfer(&tiny, &fast, 0, 0, 30000, fate_chaos, 10);
    transfer(&tiny, &tiny, 0, 0, 30000, fate_chaos, 10);
}

static void test_ring_growth(void)
{
    ks_kcp_config wide = with_windows(16384, 16384);
    sim s;
    sim_init(&s, &wide, &wide, 0xffffff00, 0);
    s.fate = fate_random_loss;
    s.loss_percent = 10;
    s.end[0].to_send = 20000 * MSS;
    sim_run(&s, 3600 * 1000);
    check_delivered(&s);
    CHECK(s.end[0].kcp.snd.capacity == 16384 && s.end[1].kcp.rcv.capacity == 16384);
    ks_kcp_trim(&s.end[0].kcp);
    ks_kcp_trim(&s.end[1].kcp);
    CHECK(s.end[0].kcp.snd.capacity == 0 && s.end[1].kcp.rcv.capacity == 0);
    s.end[0].to_send += 5000;
    sim_run(&s, 60000);
    check_delivered(&s);
    sim_free(&s);
}

/* ---- windows ---- */

static void test_paused_reader_stops_the_sender(void)
{
    ks_kcp_config c = with_windows(128, 48);
    sim s;
    sim_init(&s, &c, &c, 0, 0);
    s.tracing = 1;
    s.end[0].to_send = 100 * MSS;
    s.end[1].paused = 1;
    sim_run(&s, 10000);
    CHECK_EQ(s.end[1].kcp.rcv_nxt, 48);
    CHECK_EQ(s.end[0].kcp.rmt_wnd, 0);
    CHECK_EQ(s.end[0].kcp.snd_nxt, 48);
    CHECK(!s.end[0].kcp.dead);
    /* probes at 500, then 750, 1125, 1687 ms ... after that: five within ten seconds */
    uint32_t last = 0, wait = 500;
    int probes = 0;
    for (size_t i = 0; i < s.trace_count; i++) {
        if (s.trace[i].cmd == WASK && probes++ > 0) {
            wait += wait / 2;
            CHECK_EQ(s.trace[i].at - last, wait);
        }
        if (s.trace[i].cmd == WASK)
            last = s.trace[i].at;
    }
    CHECK_EQ(probes, 5);
    CHECK_EQ(traced(&s, 1, WINS), 5);
    uint32_t resumed = s.now;
    s.end[1].paused = 0;
    sim_run(&s, 10000);
    check_delivered(&s);
    CHECK(s.now - resumed <= 200); /* by WINS, not by the next probe */
    sim_free(&s);
}

static int fate_wins_lost(sim *s, int from, const uint8_t *packet, size_t size, uint32_t delay[2])
{
    (void)s, (void)size, (void)delay;
    return !(from == 1 && packet[4] == WINS && s->nth-- > 0);
}

static void test_lost_window_news_are_asked_for(void)
{
    ks_kcp_config c = with_windows(128, 48);
    sim s;
    sim_init(&s, &c, &c, 0, 0);
    s.fate = fate_wins_lost;
    s.end[0].to_send = 100 * MSS;
    s.end[1].paused = 1;
    sim_run(&s, 100);
    s.end[1].paused = 0;
    s.nth = 1;
    sim_run(&s, 10000);
    check_delivered(&s);
    CHECK(s.now > 500 && s.now < 1500);
    sim_free(&s);
}

/* Nothing in flight, data queued, the window shut: the packet that opens it must wake the sender. */
static void test_window_that_opens_wakes_the_sender(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    s.end[0].to_send = 100 * MSS;
    sim_turn(&s);
    CHECK_EQ(traced(&s, 0, PUSH), 32);
    give(&s, ACK, 0, s.now, 31, 32, 0);
    sim_turn(&s);
    CHECK_EQ(traced(&s, 0, PUSH), 32);
    uint32_t wait = ks_kcp_next(k, sim_us(s.now));
    CHECK(wait > 0 && wait <= 500);
    give(&s, WINS, 10, s.now, 0, 32, 0);
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 0);
    sim_turn(&s);
    CHECK_EQ(traced(&s, 0, PUSH), 42);
    sim_free(&s);
}

/* A window that shuts without an advance of una arms the probe all the same. */
static void test_window_that_shuts_is_probed(void)
{
    ks_kcp_config c = fast;
    c.write_delay = true;
    sim s;
    ks_kcp *k = alone(&s, &c);
    give(&s, WINS, 0, s.now, 0, 0, 0);
    s.end[0].to_send = 10;
    sim_turn(&s);
    for (int i = 0; i < 100 && traced(&s, 0, WASK) == 0 && sim_step(&s, s.now + 5000); i++)
        ;
    CHECK_EQ(traced(&s, 0, WASK), 1);
    CHECK(ks_kcp_next(k, sim_us(s.now)) <= 750);
    sim_free(&s);
}

/* With the same una a window can only have grown: a smaller one is from before, overtaken. */
static void test_overtaken_window_is_not_believed(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    s.end[0].to_send = 100 * MSS;
    sim_turn(&s);
    give(&s, WINS, 40, s.now, 0, 32, 0);
    give(&s, ACK, 0, s.now, 31, 32, 0);
    CHECK_EQ(k->rmt_wnd, 40);
    /* the peer's first word counts, though it is less than what was assumed */
    sim_free(&s);
    k = alone(&s, &fast);
    give(&s, WINS, 5, s.now, 0, 0, 0);
    CHECK_EQ(k->rmt_wnd, 5);
    sim_free(&s);
}

static void test_widened_window_is_told(void)
{
    ks_kcp_config c = with_windows(128, 16);
    sim s;
    sim_init(&s, &fast, &c, 0, 0);
    s.end[0].to_send = 100 * MSS;
    s.end[1].paused = 1;
    sim_run(&s, 3000);
    CHECK_EQ(s.end[1].kcp.rcv_nxt, 32); /* the first guess */
    ks_kcp_set_rcv_wnd(&s.end[1].kcp, 128);
    sim_run(&s, 100);
    CHECK_EQ(s.end[1].kcp.rcv_nxt, 100);
    ks_kcp_set_rcv_wnd(&s.end[1].kcp, 1); /* less than what is held: all that is promised still fits */
    s.end[1].paused = 0;
    sim_run(&s, 10000);
    check_delivered(&s);
    sim_free(&s);
}

/* The first burst, 32 packets on a guess, is more than this reader's window: it takes them all the same, once. */
static void test_slow_reader_with_a_small_window(void)
{
    ks_kcp_config c = with_windows(128, 8);
    sim s;
    sim_init(&s, &c, &c, 0, 0);
    s.tracing = 1;
    s.end[0].to_send = 100 * MSS;
    s.end[1].paused = 1;
    sim_run(&s, 600 * 1000);
    CHECK(!s.end[0].kcp.dead);
    CHECK_EQ(s.end[1].kcp.rcv_nxt, 32);
    CHECK_EQ(traced(&s, 0, PUSH), 32);
    uint32_t resumed = s.now;
    s.end[1].paused = 0;
    sim_run(&s, 60 * 1000);
    check_delivered(&s);
    CHECK(s.now - resumed < 1000);
    sim_free(&s);
}

/* Another peer may drop what is beyond its window; while that is shut, nothing is sent again to no end. */
static void test_burst_beyond_a_strict_window(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    s.end[0].to_send = 100 * MSS;
    sim_turn(&s);
    give(&s, ACK, 0, s.now, 7, 8, 0);
    sim_turn(&s);
    for (uint32_t until = s.now + 600 * 1000; s.now != until && sim_step(&s, until);)
        ;
    CHECK(!k->dead);
    CHECK_EQ(traced(&s, 0, PUSH), 32);
    CHECK(traced(&s, 0, WASK) >= 9);
    give(&s, WINS, 8, s.now, 0, 8, 0);
    for (uint32_t until = s.now + 300; s.now != until && sim_step(&s, until);)
        ;
    CHECK(traced(&s, 0, PUSH) >= 40);
    CHECK_EQ(s.trace[s.trace_count - 8].sn, 8);
    sim_free(&s);
}

static void test_segment_outside_the_window_is_refused(void)
{
    ks_kcp_config c = with_windows(128, 200);
    sim s;
    ks_kcp *k = alone(&s, &c);
    s.end[0].paused = 1;
    give(&s, PUSH, 32, 0, 200, 0, 4);
    CHECK_EQ(k->nacks, 0);
    give(&s, PUSH, 32, 0, 199, 0, 4);
    CHECK_EQ(k->nacks, 1);
    CHECK(k->rcv_nxt == 0 && k->rcv_max == 200);
    for (uint32_t sn = 0; sn < 199; sn++)
        give(&s, PUSH, 32, 0, sn, 0, 4);
    CHECK_EQ(k->rcv_nxt, 200);
    sim_free(&s);
}

/* ---- retransmission ---- */

static int fate_one_lost(sim *s, int from, const uint8_t *packet, size_t size, uint32_t delay[2])
{
    (void)size, (void)delay;
    if (from == 0 && packet[4] == PUSH && (int)ks_get_le32(packet + 12) == s->nth) {
        s->nth = -1;
        return 0;
    }
    return 1;
}

static void one_lost(sim *s, uint16_t resend, uint32_t segments, int lost)
{
    ks_kcp_config c = fast;
    c.resend = resend;
    c.ack_nodelay = true;
    sim_init(s, &c, &c, 0, 0);
    s->fate = fate_one_lost;
    s->nth = lost;
    /* a packet every 5 ms, so that each gives an ACK of its own */
    for (uint32_t i = 0; i < segments; i++) {
        s->end[0].to_send += MSS;
        sim_run(s, 1);
        if (s->now < 5 * (i + 1))
            for (uint32_t until = 5 * (i + 1); s->now != until && sim_step(s, until);)
                ;
    }
    sim_run(s, 60000);
    check_delivered(s);
}

static void test_fast_retransmit(void)
{
    for (uint16_t resend = 1; resend <= 4; resend++) {
        sim s;
        one_lost(&s, resend, 40, 10);
        const ks_kcp_counts *n = &s.end[0].kcp.count;
        CHECK_EQ(n->fast_retrans_segs, 1);
        CHECK_EQ(n->early_retrans_segs, 0);
        CHECK_EQ(n->lost_segs, 0);
        CHECK_EQ(n->retrans_segs, 1);
        CHECK_EQ(s.end[1].kcp.count.repeat_segs, 0);
        sim_free(&s);
    }
}

static void test_early_retransmit(void)
{
    sim s;
    one_lost(&s, 4, 10, 8); /* one later ACK, and no more to come */
    const ks_kcp_counts *n = &s.end[0].kcp.count;
    CHECK_EQ(n->early_retrans_segs, 1);
    CHECK_EQ(n->fast_retrans_segs, 0);
    CHECK_EQ(n->lost_segs, 0);
    sim_free(&s);
}

static void test_without_fast_retransmit_the_timer_does_it(void)
{
    sim s;
    one_lost(&s, 0, 40, 10);
    const ks_kcp_counts *n = &s.end[0].kcp.count;
    CHECK_EQ(n->lost_segs, 1);
    CHECK_EQ(n->retrans_segs, 1);
    CHECK_EQ(n->fast_retrans_segs + n->early_retrans_segs, 0);
    sim_free(&s);
}

/* A retransmission that is lost too is found by later acknowledgments, before its timeout. */
static void test_lost_retransmission_is_found(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    s.end[0].to_send = 20 * MSS;
    sim_turn(&s);
    CHECK_EQ(traced(&s, 0, PUSH), 20);
    uint32_t first = s.now;
    s.now += 10;
    give(&s, ACK, 128, first, 1, 0, 0);
    CHECK(ks_kcp_next(k, sim_us(s.now)) > 0);
    give(&s, ACK, 128, first, 2, 0, 0);
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 0);
    s.end[0].to_send += 4 * MSS;
    sim_turn(&s);
    CHECK_EQ(k->count.fast_retrans_segs, 1);
    CHECK_EQ(traced(&s, 0, PUSH), 20 + 1 + 4);
    uint32_t second = s.now;
    s.now += 10;
    give(&s, ACK, 128, second, 20, 0, 0);
    give(&s, ACK, 128, second, 21, 0, 0);
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 0);
    sim_turn(&s);
    /* 0 again, and 3 to 19, which were sent before 20 too */
    CHECK_EQ(k->count.fast_retrans_segs, 1 + 1 + 17);
    sim_free(&s);
}

static void backoff(bool nodelay, const uint32_t *waits, size_t count)
{
    ks_kcp_config c = fast;
    c.nodelay = nodelay;
    sim s;
    ks_kcp *k = alone(&s, &c);
    s.end[0].to_send = 1;
    sim_turn(&s);
    uint32_t at = s.now;
    for (uint32_t n = 1; n < KS_KCP_DEAD_XMIT; n++) {
        CHECK(!k->dead);
        uint32_t wait = waits[n - 1 < count ? n - 1 : count - 1];
        CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), wait);
        s.now = at + wait - 1;
        sim_flush(&s, 0);
        CHECK_EQ(s.trace_count, n);
        s.now = at = at + wait;
        sim_turn(&s);
        CHECK_EQ(s.trace_count, n + 1);
        CHECK(s.trace[n].ts == at && s.trace[n].sn == 0);
    }
    CHECK(k->dead);
    CHECK_EQ(k->count.lost_segs, KS_KCP_DEAD_XMIT - 1);
    sim_free(&s);
}

static void test_rto_backoff(void)
{
    /* first RTO 200 ms: normal adds an eighth of it to the first wait, then it grows by 200 a time; nodelay by 100. After 1 s
     * without a word it is the probe's turn. */
    static const uint32_t normal[] = {225, 400, 600, 500, 750, 1125, 1687, 2000};
    static const uint32_t nodelay[] = {200, 300, 400, 500, 500, 750, 1125, 1687, 2000};
    backoff(false, normal, sizeof normal / sizeof *normal);
    backoff(true, nodelay, sizeof nodelay / sizeof *nodelay);
}

static void test_rtt_and_rto(void)
{
    for (int nodelay = 0; nodelay < 2; nodelay++) {
        ks_kcp_config c = fast;
        c.nodelay = nodelay;
        sim s;
        ks_kcp *k = alone(&s, &c);
        for (uint32_t i = 0; i < 400; i++) {
            s.end[0].to_send += 1;
            sim_turn(&s);
            s.now += i < 200 ? 200 : 5;
            give(&s, ACK, 128, s.now - (i < 200 ? 200 : 5), i, i + 1, 0);
            if (i == 0) /* RFC 6298 2.2 */
                CHECK(k->srtt8 / 8 == 200 && k->rttvar4 / 4 == 100 && k->rto == 600);
            if (i == 199)
                CHECK(k->srtt8 / 8 == 200 && k->rttvar4 < 8 && k->rto == 220);
        }
        CHECK(k->srtt8 / 8 <= 6);
        CHECK_EQ(k->rto, nodelay ? 30 : 100);
        /* neither a rebuilt packet nor one from the future is a sample */
        uint8_t packet[64];
        uint32_t srtt8 = k->srtt8;
        s.end[0].to_send += 1;
        sim_turn(&s);
        size_t size = segment(packet, ACK, 0, 3, s.now - 50, 400, 401, 0);
        ks_kcp_input_untrusted(k, packet, size, sim_us(s.now), true);
        CHECK(k->srtt8 == srtt8 && ks_kcp_unacked(k) == 0 && k->rmt_wnd == 128);
        s.end[0].to_send += 1;
        sim_turn(&s);
        give(&s, ACK, 128, s.now + 50, 401, 402, 0);
        CHECK(k->srtt8 == srtt8 && ks_kcp_unacked(k) == 0);
        sim_free(&s);
    }
}

/* A time stamp is the peer's word: an absurd one must neither overflow nor last. */
static void test_absurd_rtt(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    for (uint32_t i = 0; i < 100; i++) {
        s.end[0].to_send += 1;
        sim_turn(&s);
        give(&s, ACK, 128, s.now - 0x7fffffff, i, i + 1, 0);
        CHECK(k->rto <= 60000 && k->srtt8 / 8 <= 60000);
    }
    for (uint32_t i = 100; i < 300; i++) {
        s.end[0].to_send += 1;
        sim_turn(&s);
        give(&s, ACK, 128, s.now, i, i + 1, 0);
    }
    CHECK(k->rto < 100);
    sim_free(&s);
}

/* The transmission numbers wrap too; an acknowledged one from very long ago says nothing. */
static void test_stale_loss_evidence(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    s.end[0].to_send = 4 * MSS;
    sim_turn(&s);
    for (uint32_t sn = 0; sn < 4; sn++)
        give(&s, ACK, 128, s.now, sn, sn + 1, 0);
    CHECK_EQ(ks_kcp_unacked(k), 0);
    k->txno += 0x80000010;
    s.end[0].to_send += 10 * MSS;
    sim_turn(&s);
    give(&s, WINS, 128, s.now, 0, 5, 0);
    sim_turn(&s);
    sim_turn(&s);
    CHECK_EQ(k->count.retrans_segs, 0);
    sim_free(&s);
}

static void test_resend_changes_live(void)
{
    static const uint32_t values[] = {16, 2, 5, 0, 16, 1};
    sim s;
    ks_kcp *k = alone(&s, &fast);
    uint32_t sn = 0;
    for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
        ks_kcp_set_resend(k, values[v]);
        for (uint32_t i = 0; i < 40; i++, sn++) {
            s.end[0].to_send += 1;
            sim_turn(&s);
            give(&s, ACK, 128, s.now, sn, sn + 1, 0);
            CHECK(k->npassed <= KS_KCP_RESEND_MAX);
        }
        CHECK_EQ(k->npassed, values[v]);
    }
    CHECK(k->reserved == 0 && k->rmt_wnd == 128); /* what stands behind passed[] */
    sim_free(&s);
}

/* ---- congestion window ---- */

static void test_slow_start_and_losses(void)
{
    ks_kcp_config c = fast;
    c.nc = false;
    c.resend = 2;
    sim s;
    ks_kcp *k = alone(&s, &c);
    s.end[0].to_send = 1000 * MSS;
    sim_turn(&s);
    CHECK_EQ(traced(&s, 0, PUSH), 1);
    give(&s, ACK, 128, s.now, 0, 1, 0);
    sim_turn(&s);
    CHECK_EQ(ks_kcp_cwnd(k), 2);
    CHECK_EQ(k->snd_nxt - k->snd_una, 2);
    /* from ssthresh (2) on by about one segment, and a 16th, per round trip */
    for (uint32_t una = 2; una < 40; una++) {
        uint32_t before = ks_kcp_cwnd(k);
        give(&s, ACK, 128, s.now, una - 1, una, 0);
        sim_turn(&s);
        CHECK(ks_kcp_cwnd(k) - before <= 1);
    }
    uint32_t grown = ks_kcp_cwnd(k);
    CHECK(grown >= 8 && grown < 20);
    CHECK_EQ(k->snd_nxt - k->snd_una, grown);
    /* fast retransmit: half of what is in flight, and `resend` */
    uint32_t una = k->snd_una;
    give(&s, ACK, 128, s.now, una + 1, una, 0);
    give(&s, ACK, 128, s.now, una + 2, una, 0);
    sim_turn(&s);
    CHECK_EQ(k->count.fast_retrans_segs, 1);
    CHECK_EQ(k->ssthresh, grown / 2);
    CHECK_EQ(ks_kcp_cwnd(k), grown / 2 + 2);
    /* timeout: start again from one */
    s.now += ks_kcp_next(k, sim_us(s.now));
    sim_turn(&s);
    CHECK(k->count.lost_segs > 0);
    CHECK_EQ(ks_kcp_cwnd(k), 1);
    CHECK_EQ(k->ssthresh, (grown / 2 + 2) / 2);
    sim_free(&s);
    transfer(&c, &c, 0, 0, 300000, fate_chaos, 5);
}

/* ---- messages ---- */

static void test_message_fragments(void)
{
    static const uint32_t sizes[] = {0, 1, MSS - 1, MSS, MSS + 1, 3 * MSS, 10 * MSS + 5, 255 * MSS};
    ks_kcp_config c = with_windows(1024, 1024);
    c.stream = false;
    sim s;
    sim_init(&s, &c, &c, 0xfffffffe, 0);
    s.fate = fate_random_loss;
    s.loss_percent = 10;
    s.tracing = 1;
    static uint8_t message[256 * MSS];
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = sim_byte(0, i);
    s.end[1].paused = 1;
    size_t count = sizeof sizes / sizeof *sizes;
    for (size_t i = 0; i < count; i++)
        CHECK_EQ(ks_kcp_send(&s.end[0].kcp, message, sizes[i]), sizes[i]);
    CHECK_EQ(ks_kcp_send(&s.end[0].kcp, message, 255 * MSS + 1), KS_EMALFORMED);
    s.end[0].to_send = s.end[0].sent = 1; /* to keep sim_run going */
    sim_run(&s, 5000);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(ks_kcp_message_size(&s.end[1].kcp), sizes[i]);
        uint32_t pieces = sizes[i] == 0 ? 1 : (sizes[i] + MSS - 1) / MSS, size = 0;
        while (pieces-- > 0) {
            ks_seg *seg = ks_kcp_pop(&s.end[1].kcp);
            if (!CHECK(seg != NULL))
                break;
            CHECK_EQ(seg->frg, pieces);
            CHECK(memcmp(ks_seg_data(seg), message + size, seg->len) == 0);
            size += seg->len;
            ks_seg_unref(seg);
        }
        CHECK_EQ(size, sizes[i]);
    }
    CHECK_EQ(ks_kcp_message_size(&s.end[1].kcp), -1);
    CHECK(ks_kcp_pop(&s.end[1].kcp) == NULL);
    sim_free(&s);
}

/* ---- the stream's tail ---- */

static void test_alloc_tail_and_commit(void)
{
    ks_kcp_config c = fast;
    sim s;
    ks_kcp *k = alone(&s, &c);
    struct iovec iov[8];
    CHECK_EQ(ks_kcp_alloc_tail(k, 10 * MSS, iov, 8), 8);
    ks_kcp_commit(k, 0);
    CHECK(ks_kcp_unacked(k) == 0 && s.end[0].pools.large.used == 0 && ks_kcp_next(k, sim_us(s.now)) == UINT32_MAX);
    CHECK_EQ(ks_kcp_alloc_tail(k, 10, iov, 0), 0);
    ks_kcp_commit(k, 0);

    /* a reader that gave less than there was room for */
    uint64_t offset = 0;
    for (uint32_t asked = 1; asked < 5 * MSS; asked += 777) {
        uint32_t fill = asked - asked / 3, left = fill;
        int n = ks_kcp_alloc_tail(k, asked, iov, 8);
        size_t room = 0;
        for (int i = 0; i < n; i++) {
            room += iov[i].iov_len;
            for (size_t j = 0; j < iov[i].iov_len && left > 0; j++, left--)
                ((uint8_t *)iov[i].iov_base)[j] = sim_byte(0, offset++);
        }
        CHECK_EQ(room, asked);
        ks_kcp_commit(k, fill);
    }
    CHECK_EQ(ks_kcp_unacked(k), (offset + MSS - 1) / MSS);
    uint64_t seen = 0;
    for (uint32_t sn = k->snd_una; sn != k->snd_end; sn++) {
        ks_seg *seg = k->snd.slot[sn & k->snd.mask];
        for (uint32_t i = 0; i < seg->len; i++)
            CHECK(ks_seg_data(seg)[i] == sim_byte(0, seen++));
    }
    CHECK_EQ(seen, offset);
    sim_free(&s);
}

/* Many small writes while the window is full share segments: else the window would count them, not bytes. */
static void test_small_writes_fill_segments(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    s.end[0].to_send = 100;
    sim_turn(&s); /* in flight: not touched any more */
    for (int i = 0; i < 100; i++)
        CHECK_EQ(ks_kcp_send(k, (const uint8_t *)"0123456789012345678901234567890123456789012345678901234567890123456789", 70), 70);
    CHECK_EQ(k->snd_end - k->snd_nxt, (100 * 70 + MSS - 1) / MSS);
    CHECK_EQ(ks_kcp_room(k), 127 * MSS - 100 * 70);
    sim_free(&s);
}

static void test_short_writes_stay_small(void)
{
    uint64_t used = ks_mem_used();
    sim s;
    ks_kcp *k = alone(&s, &fast);
    for (int i = 0; i < 30; i++) {
        s.end[0].to_send++;
        sim_turn(&s);
    }
    CHECK_EQ(ks_kcp_unacked(k), 30);
    CHECK(ks_mem_used() - used <= KS_CHUNK_BYTES + 4096);
    sim_free(&s);
    CHECK_EQ(ks_mem_used(), used);
}

static void test_write_delay(void)
{
    ks_kcp_config c = fast;
    c.write_delay = true;
    sim s;
    ks_kcp *k = alone(&s, &c);
    sim_flush(&s, 0);
    s.end[0].to_send = 10;
    sim_turn(&s);
    CHECK(traced(&s, 0, PUSH) == 0 && ks_kcp_next(k, sim_us(s.now)) == c.interval);
    s.end[0].to_send = 20;
    s.now += c.interval;
    sim_turn(&s);
    CHECK(traced(&s, 0, PUSH) == 1 && s.trace[0].len == 20);
    sim_free(&s);

    /* the first write of all, on a machine that has been up for 25 days */
    k = alone(&s, &c);
    s.now = 0x80000100;
    s.end[0].to_send = 10;
    sim_turn(&s);
    CHECK_EQ(traced(&s, 0, PUSH), 1);
    sim_free(&s);
}

/* ---- acknowledgments ---- */

static void test_lone_ack_waits_an_interval(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    give(&s, PUSH, 128, 5, 0, 0, 10);
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), fast.interval);
    s.now += fast.interval;
    sim_turn(&s);
    CHECK_EQ(traced(&s, 0, ACK), 1);
    CHECK(s.trace[0].sn == 0 && s.trace[0].ts == 5 && s.trace[0].una == 1 && s.trace[0].wnd == 128);
    sim_free(&s);
}

static void test_second_ack_goes_soon_gap_and_repeat_at_once(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    give(&s, PUSH, 128, 5, 0, 0, 10);
    CHECK(!k->acks_soon);
    give(&s, PUSH, 128, 6, 1, 0, 10);
    CHECK(k->acks_soon);
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 1);
    s.now++;
    sim_turn(&s);
    CHECK(!k->acks_soon);
    CHECK_EQ(traced(&s, 0, ACK), 1); /* una says the first */
    CHECK(s.trace[0].sn == 1 && s.trace[0].ts == 6 && s.trace[0].una == 2);
    give(&s, PUSH, 128, 7, 3, 0, 10); /* a gap */
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 0);
    sim_turn(&s);
    CHECK(traced(&s, 0, ACK) == 2 && s.trace[1].sn == 3 && s.trace[1].una == 2);
    give(&s, PUSH, 128, 8, 3, 0, 10); /* again, though it is not yet due to be read */
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 0);
    sim_turn(&s);
    give(&s, PUSH, 128, 9, 0, 0, 10); /* and one from long ago */
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 0);
    sim_turn(&s);
    CHECK_EQ(traced(&s, 0, ACK), 6); /* of both before it, the one above una said twice */
    CHECK_EQ(k->count.repeat_segs, 2);
    CHECK_EQ(s.end[0].received, 20);
    sim_free(&s);
}

static void test_ack_nodelay(void)
{
    ks_kcp_config c = fast;
    c.ack_nodelay = true;
    sim s;
    ks_kcp *k = alone(&s, &c);
    give(&s, PUSH, 128, 5, 0, 0, 10);
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 0);
    sim_free(&s);
}

static void test_acks_of_a_packet_go_at_once(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    for (uint32_t sn = 0; sn < 1400 / KS_KCP_HEAD - 1; sn++)
        give(&s, PUSH, 128, 5, sn, 0, 4);
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 1);
    give(&s, PUSH, 128, 5, 1400 / KS_KCP_HEAD - 1, 0, 4);
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 0);
    sim_free(&s);
}

static void test_acks_fill_up_the_last_packet_of_data(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    give(&s, PUSH, 128, 5, 0, 0, 10);
    give(&s, PUSH, 128, 6, 2, 0, 10); /* a gap, so una does not tell of it */
    give(&s, WASK, 128, 0, 0, 0, 0);
    s.end[0].to_send = 2 * MSS + 100;
    sim_turn(&s);
    CHECK_EQ(s.end[0].packets, 3 + 1); /* a WINS in the first, beside which no full segment fits */
    CHECK_EQ(traced(&s, 0, ACK), 1); /* una says the other */
    CHECK(s.trace[s.trace_count - 1].cmd == ACK && s.trace[s.trace_count - 1].sn == 2);
    CHECK_EQ(k->nacks, 0);
    sim_free(&s);
}

static void test_acks_of_a_whole_window(void)
{
    ks_kcp_config c = with_windows(128, 4096);
    sim s;
    ks_kcp *k = alone(&s, &c);
    for (uint32_t sn = 4000; sn > 0; sn--)
        give(&s, PUSH, 128, sn, sn, 0, 4);
    sim_turn(&s);
    /* 1400 / 24 in a packet: half of them new, half those of the packet before */
    CHECK_EQ(s.end[0].packets, (4000 + 28) / 29);
    CHECK_EQ(traced(&s, 0, ACK), 4000 + 4000 / 29 * 29);
    CHECK_EQ(k->nacks, 0);
    /* in order: una says it all, in one packet for each 58 */
    give(&s, PUSH, 128, 0, 0, 0, 4);
    sim_turn(&s);
    sim_turn(&s);
    for (uint32_t sn = 4001; sn < 4001 + 200; sn++)
        give(&s, PUSH, 128, sn, sn, 0, 4);
    s.trace_count = 0;
    s.end[0].packets = 0;
    sim_turn(&s);
    CHECK_EQ(traced(&s, 0, ACK), 4);
    CHECK_EQ(s.end[0].packets, 4);
    for (size_t i = 0; i < s.trace_count; i++)
        CHECK_EQ(s.trace[i].una, 4201);
    sim_free(&s);
}

static void test_duplicated_packets(void)
{
    transfer(&fast, &fast, 0, 0, 100000, fate_chaos, 0);
}

/* ---- challenges ---- */

static bool has_said(const sim *s, uint8_t cmd, uint32_t ts, uint32_t sn)
{
    for (size_t i = 0; i < s->trace_count; i++)
        if (s->trace[i].cmd == cmd && s->trace[i].ts == ts && s->trace[i].sn == sn && s->trace[i].len == 0)
            return true;
    return false;
}

/* Who did not hear the question can guess the sequence number that an answer must have, but not the stamp. */
static void test_challenge_is_met_by_its_stamp_alone(void)
{
    const uint32_t stamp = 0x5eed5eed, later = 0x1abe1abe, sn = UINT32_MAX;
    sim s;
    ks_kcp *k = alone(&s, &fast);
    ks_kcp_challenge(k, stamp);
    sim_turn(&s);
    CHECK(s.trace_count == 1 && has_said(&s, PUSH, stamp, sn));
    for (int bit = 0; bit < 32; bit++)
        give(&s, ACK, 128, stamp ^ (1u << bit), sn, 0, 0);
    give(&s, ACK, 128, stamp, sn - 1, 0, 0);
    CHECK(!ks_kcp_challenge_met(k));
    give(&s, ACK, 128, stamp, sn, 0, 0);
    CHECK(ks_kcp_challenge_met(k));
    give(&s, ACK, 128, stamp, sn, 0, 0); /* the network brings it twice */
    CHECK(!ks_kcp_challenge_met(k));

    ks_kcp_challenge(k, stamp);
    ks_kcp_challenge(k, later);
    sim_turn(&s);
    give(&s, ACK, 128, stamp, sn, 0, 0);
    CHECK(!ks_kcp_challenge_met(k));
    give(&s, ACK, 128, later, sn, 0, 0);
    CHECK(ks_kcp_challenge_met(k));
    sim_free(&s);
}

/* Whatever else is to be acknowledged: neither una nor another ACK of its sequence number tells its stamp. */
static void test_challenge_of_the_peer_is_answered_in_any_case(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    s.end[0].paused = 1; /* what came is not read */
    give(&s, PUSH, 128, 1001, UINT32_MAX, 0, 0);
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 0);
    sim_turn(&s);
    CHECK(has_said(&s, ACK, 1001, UINT32_MAX));
    give(&s, PUSH, 128, 5, 0, 0, 10);
    give(&s, PUSH, 128, 1002, 0, 0, 0); /* the ACK of what has its number waits */
    CHECK_EQ(ks_kcp_next(k, sim_us(s.now)), 0);
    sim_turn(&s);
    CHECK(has_said(&s, ACK, 5, 0) && has_said(&s, ACK, 1002, 0));
    give(&s, PUSH, 128, 1003, 0, 0, 0);
    give(&s, PUSH, 128, 6, 1, 0, 10); /* una and the ACK of this say the rest */
    sim_turn(&s);
    CHECK(has_said(&s, ACK, 6, 1) && has_said(&s, ACK, 1003, 0));
    CHECK_EQ(k->count.repeat_segs, 0); /* it is no data that came twice */
    CHECK_EQ(k->rcv_nxt, 2);
    sim_free(&s);
}

/* ---- damaged and hostile packets ---- */

static void test_malformed_packets(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    uint8_t p[200];
    CHECK_EQ(ks_kcp_input_untrusted(k, p, 0, sim_us(s.now), false), KS_EMALFORMED);
    size_t size = segment(p, PUSH, 0, 9, 0, 0, 0, 10);
    for (size_t cut = 1; cut < size; cut++)
        CHECK_EQ(ks_kcp_input_untrusted(k, p, cut, sim_us(s.now), false), KS_EMALFORMED);
    CHECK(k->rcv_nxt == 0 && k->nacks == 0);
    p[4] = 80;
    CHECK_EQ(ks_kcp_input_untrusted(k, p, size, sim_us(s.now), false), KS_EMALFORMED);
    p[4] = 85;
    CHECK_EQ(ks_kcp_input_untrusted(k, p, size, sim_us(s.now), false), KS_EMALFORMED);
    segment(p, PUSH, 0, 9, 0, 0, 0, 10);
    p[0] ^= 1;
    CHECK_EQ(ks_kcp_input_untrusted(k, p, size, sim_us(s.now), false), KS_ECONV);
    ks_put_le32(p + 20, 0xffffffff);
    p[0] ^= 1;
    CHECK_EQ(ks_kcp_input_untrusted(k, p, size, sim_us(s.now), false), KS_EMALFORMED);
    /* what stands before the fault is used */
    size = segment(p, PUSH, 0, 9, 0, 0, 0, 10);
    size += segment(p + size, 99, 0, 9, 0, 1, 0, 10);
    CHECK_EQ(ks_kcp_input_untrusted(k, p, size, sim_us(s.now), false), KS_EMALFORMED);
    CHECK(k->rcv_nxt == 1 && k->rmt_wnd == 9);
    sim_free(&s);
}

static void test_acknowledgment_of_the_unsent(void)
{
    sim s;
    ks_kcp *k = alone(&s, &fast);
    s.end[0].to_send = 50 * MSS;
    sim_turn(&s);
    CHECK_EQ(k->snd_nxt, 32);
    give(&s, WINS, 7, s.now, 0, 33, 0);
    give(&s, WINS, 7, s.now, 0, 0xffffffff, 0);
    give(&s, ACK, 7, s.now, 40, 33, 0);
    give(&s, ACK, 7, s.now, 0xffffffff, 33, 0);
    CHECK(k->snd_una == 0 && k->rmt_wnd == 32);
    give(&s, ACK, 50, s.now, 31, 32, 0);
    CHECK(k->snd_una == 32 && k->rmt_wnd == 50);
    sim_free(&s);

    /* The number that is as far ahead as behind, with nothing in flight and no ring. */
    k = alone(&s, &fast);
    give(&s, WINS, 7, s.now, 0, 0x80000000, 0);
    give(&s, ACK, 7, s.now, 0x80000000, 0x80000000, 0);
    CHECK(k->snd_una == 0 && k->rmt_wnd == 32);
    sim_free(&s);
}

/* ---- memory ---- */

/* The n-th allocation fails, for each n: nothing breaks or leaks, and all arrives in the end. */
static void test_allocation_failures(void)
{
    ks_kcp_config c = with_windows(64, 64), messages = c;
    messages.stream = false;
    for (uint64_t n = 1; n <= 60; n++) {
        uint64_t used = ks_mem_used();
        sim s;
        sim_init(&s, &c, &c, 0xfffffff8, 0);
        s.fate = fate_chaos;
        s.loss_percent = 10;
        s.end[0].to_send = 400000;
        s.end[1].to_send = 100000;
        ks_mem_fail_after(n);
        /* an application that was told "no memory" tries again */
        for (int i = 0; i < 2000 && !sim_finished(&s); i++)
            sim_run(&s, 100), s.now += (uint32_t)!sim_finished(&s);
        ks_mem_fail_after(0);
        check_delivered(&s);
        sim_free(&s);
        CHECK_EQ(ks_mem_used(), used);

        sim_init(&s, &messages, &messages, 0, 0);
        uint8_t message[20 * MSS] = {0};
        ks_mem_fail_after(n);
        uint32_t held = 0;
        for (int i = 0; i < 3; i++) {
            int result = ks_kcp_send(&s.end[0].kcp, message, sizeof message);
            CHECK(result == (int)sizeof message || result == KS_ENOMEM);
            held += result > 0 ? 20 : 0;
            CHECK_EQ(ks_kcp_unacked(&s.end[0].kcp), held);
        }
        ks_mem_fail_after(0);
        sim_free(&s);
        CHECK_EQ(ks_mem_used(), used);
    }
}

static void test_memory_is_given_back(void)
{
    uint64_t used = ks_mem_used();
    ks_kcp_config c = with_windows(8192, 8192);
    sim s;
    sim_init(&s, &c, &c, 0, 0);
    s.fate = fate_random_loss;
    s.loss_percent = 20;
    s.end[0].to_send = 10000 * MSS;
    sim_run(&s, 3600 * 1000);
    check_delivered(&s);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(s.end[i].pools.small.used + s.end[i].pools.large.used, 0);
        ks_kcp_trim(&s.end[i].kcp);
        ks_seg_pools_free(&s.end[i].pools);
    }
    CHECK_EQ(ks_mem_used() - used, 0);
    sim_free(&s);

    /* and in the middle of everything */
    sim_init(&s, &c, &c, 0, 0);
    s.fate = fate_chaos;
    s.end[0].to_send = s.end[1].to_send = 3000 * MSS;
    s.end[0].paused = 1;
    sim_run(&s, 70);
    sim_free(&s);
    CHECK_EQ(ks_mem_used(), used);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_in_order_without_loss),
        TEST(test_random_loss),
        TEST(test_every_second_packet_lost),
        TEST(test_loss_repeats_and_reordering),
        TEST(test_sn_and_ts_wrap),
        TEST(test_window_of_one),
        TEST(test_smallest_mtu),
        TEST(test_ring_growth),
        TEST(test_paused_reader_stops_the_sender),
        TEST(test_lost_window_news_are_asked_for),
        TEST(test_window_that_opens_wakes_the_sender),
        TEST(test_window_that_shuts_is_probed),
        TEST(test_overtaken_window_is_not_believed),
        TEST(test_widened_window_is_told),
        TEST(test_slow_reader_with_a_small_window),
        TEST(test_burst_beyond_a_strict_window),
        TEST(test_segment_outside_the_window_is_refused),
        TEST(test_fast_retransmit),
        TEST(test_early_retransmit),
        TEST(test_without_fast_retransmit_the_timer_does_it),
        TEST(test_lost_retransmission_is_found),
        TEST(test_rto_backoff),
        TEST(test_rtt_and_rto),
        TEST(test_absurd_rtt),
        TEST(test_stale_loss_evidence),
        TEST(test_resend_changes_live),
        TEST(test_slow_start_and_losses),
        TEST(test_message_fragments),
        TEST(test_alloc_tail_and_commit),
        TEST(test_small_writes_fill_segments),
        TEST(test_short_writes_stay_small),
        TEST(test_write_delay),
        TEST(test_lone_ack_waits_an_interval),
        TEST(test_second_ack_goes_soon_gap_and_repeat_at_once),
        TEST(test_ack_nodelay),
        TEST(test_acks_of_a_packet_go_at_once),
        TEST(test_acks_fill_up_the_last_packet_of_data),
        TEST(test_acks_of_a_whole_window),
        TEST(test_duplicated_packets),
        TEST(test_challenge_is_met_by_its_stamp_alone),
        TEST(test_challenge_of_the_peer_is_answered_in_any_case),
        TEST(test_malformed_packets),
        TEST(test_acknowledgment_of_the_unsent),
        TEST(test_allocation_failures),
        TEST(test_memory_is_given_back),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
