/* SPDX-License-Identifier: MIT */
/* Receive windows that follow what comes: the ARQ's, and those of streams, in virtual time. */
#include "session/profile.h"
#include "world.h"
#include "sim.h"

static const uint64_t minute = 60 * (uint64_t)SECOND;
enum { FIRST = KS_KCP_WND_FIRST };
#define SLAB KS_SEG_SLAB_BYTES
#define ALL_OF_IT (UINT64_C(1) << 40)

/* ---- the rule ---- */

static void test_rule(void)
{
    ks_follow f = {0};
    /* A quarter in a round trip is not more than a quarter. */
    CHECK(!ks_follow_read(&f, 250, 1000, 5000, 100));
    CHECK(ks_follow_read(&f, 1, 1000, 5099, 100));
    CHECK(!ks_follow_read(&f, 250, 1000, 5100, 100));
    CHECK(ks_follow_read(&f, UINT32_MAX, 1000, 5100, 100) && ks_follow_read(&f, UINT32_MAX, UINT32_MAX, 5100, 100));
    /* A round trip of less than the clock can tell; a clock that wraps. */
    CHECK(!ks_follow_read(&f, 250, 1000, 5101, 0));
    f = (ks_follow){.since_ms = 0xfffffff0u};
    CHECK(!ks_follow_read(&f, 250, 1000, 0xfffffff0u + 99, 100));
    CHECK(!ks_follow_read(&f, 250, 1000, 0xfffffff0u + 100, 100));
}

static void test_memory_bound(void)
{
    uint64_t used = ks_mem_used();
    ks_mem_set_bound(used + 100);
    CHECK(ks_mem_allows(0) && ks_mem_allows(100) && !ks_mem_allows(101) && !ks_mem_allows(UINT64_MAX));
    void *block = ks_alloc(101);
    CHECK(block != NULL && !ks_mem_allows(0)); /* it refuses no allocation */
    ks_free(block);
    CHECK(ks_mem_allows(100));
    ks_mem_set_bound(ALL_OF_IT);
}

/* ---- the ARQ ---- */

static ks_kcp_config config(uint32_t snd, uint32_t rcv, bool follow)
{
    return (ks_kcp_config){.conv = 7, .mtu = 1400, .snd_wnd = snd, .rcv_wnd = rcv, .follow = follow, .interval = 10, .resend = 2,
                           .nodelay = true, .nc = true, .stream = true};
}

static int push(ks_kcp *k, uint32_t now, uint32_t sn)
{
    uint8_t packet[KS_KCP_HEAD + 1000] = {[4] = 81};
    ks_put_le32(packet, 7);
    ks_put_le16(packet + 6, 128);
    ks_put_le32(packet + 12, sn);
    ks_put_le32(packet + 20, 1000);
    return ks_kcp_input_untrusted(k, packet, sizeof packet, sim_us(now), false);
}

static bool holds(const ks_kcp *k, uint32_t sn)
{
    return ks_after(k->rcv_max, sn) && *ks_ring_at(&k->rcv, sn) != NULL;
}

static void read_all(ks_kcp *k)
{
    for (ks_seg *seg; (seg = ks_kcp_pop(k)) != NULL;)
        ks_seg_unref(seg);
}

typedef struct {
    ks_kcp kcp;
    ks_seg_pools pools;
    uint32_t now;
} receiver;

static ks_kcp *receiver_open(receiver *r, bool follow)
{
    ks_kcp_config c = config(FIRST, FIRST, follow);
    ks_mem_set_bound(ALL_OF_IT);
    ks_seg_pools_init(&r->pools);
    ks_kcp_init(&r->kcp, &c, &r->pools, 0xfffffff0u);
    r->now = 1000;
    return &r->kcp;
}

static void receiver_close(receiver *r)
{
    ks_kcp_free(&r->kcp);
    ks_seg_pools_free(&r->pools);
    ks_mem_set_bound(ALL_OF_IT);
}

/* `count` in order and read, all in one round trip or each in one. */
static void stream(receiver *r, uint32_t count, bool slowly)
{
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQ(push(&r->kcp, r->now, r->kcp.rcv_nxt), 0);
        read_all(&r->kcp);
        r->now += slowly ? KS_FOLLOW_RTT_MS : 0;
    }
}

static void test_rate_widens(void)
{
    receiver r;
    ks_kcp *k = receiver_open(&r, true);
    stream(&r, 2 * FIRST, true);
    CHECK_EQ(k->cfg.rcv_wnd, FIRST);
    stream(&r, FIRST / 4, false);
    CHECK_EQ(k->cfg.rcv_wnd, FIRST);
    stream(&r, 1, false);
    CHECK_EQ(k->cfg.rcv_wnd, 2 * FIRST);
    CHECK(k->tell_window); /* the sender hears of it, though it may send nothing more */
    stream(&r, FIRST, false);
    CHECK_EQ(k->cfg.rcv_wnd, 8 * FIRST);
    stream(&r, 20 * FIRST, false);
    CHECK_EQ(k->cfg.rcv_wnd, KS_KCP_WND_MAX);
    receiver_close(&r);

    k = receiver_open(&r, false);
    stream(&r, 20 * FIRST, false);
    CHECK_EQ(k->cfg.rcv_wnd, FIRST);
    receiver_close(&r);
}

static void test_measured_round_trip_counts(void)
{
    receiver r;
    ks_kcp *k = receiver_open(&r, true);
    k->has_rtt = true;
    k->srtt8 = 8 * 10;
    for (int i = 0; i < 100; i++) {
        stream(&r, 200, false);
        r.now += 10;
    }
    CHECK_EQ(k->cfg.rcv_wnd, FIRST);
    k->srtt8 = 8 * 20;
    for (int i = 0; i < 100; i++) {
        stream(&r, 200, false);
        r.now += 10;
    }
    CHECK_EQ(k->cfg.rcv_wnd, 2 * FIRST); /* 400 in a round trip */
    receiver_close(&r);
}

/* Nothing is read, so that the rate is no reason: the first is missing, and the sender goes on up to the window. */
static void test_hole_widens(void)
{
    receiver r;
    ks_kcp *k = receiver_open(&r, true);
    uint32_t first = k->rcv_nxt;
    for (uint32_t i = 1; i <= FIRST / 4; i++, r.now += KS_FOLLOW_RTT_MS)
        (void)push(k, r.now, first + i);
    CHECK_EQ(k->cfg.rcv_wnd, FIRST);
    (void)push(k, r.now, first + FIRST / 4 + 1);
    CHECK_EQ(k->cfg.rcv_wnd, 2 * FIRST);
    (void)push(k, r.now, first + 2 * FIRST); /* beyond what was given */
    CHECK(!holds(k, first + 2 * FIRST) && k->cfg.rcv_wnd == 2 * FIRST);
    receiver_close(&r);
}

/* What is in order and not read is no reason for more. */
static void test_reader_that_lags_does_not_widen(void)
{
    receiver r;
    ks_kcp *k = receiver_open(&r, true);
    for (uint32_t i = 0; i < FIRST; i++, r.now += KS_FOLLOW_RTT_MS)
        (void)push(k, r.now, k->rcv_nxt);
    CHECK(k->cfg.rcv_wnd == FIRST && k->rcv_nxt - k->rcv_read == FIRST);
    k->reader_lags = true;
    read_all(k);
    stream(&r, 4 * FIRST, false);
    CHECK_EQ(k->cfg.rcv_wnd, FIRST);
    k->reader_lags = false;
    stream(&r, FIRST, false);
    CHECK(k->cfg.rcv_wnd > FIRST);
    receiver_close(&r);
}

static void test_idle_begins_anew_and_keeps_its_promise(void)
{
    receiver r;
    ks_kcp *k = receiver_open(&r, true);
    stream(&r, 20 * FIRST, false);
    uint32_t promised = k->rcv_nxt + KS_KCP_WND_MAX;
    ks_kcp_trim(k);
    CHECK(k->cfg.rcv_wnd == FIRST && ks_kcp_next(k, sim_us(r.now)) == 0);
    (void)push(k, r.now, promised - 1);
    (void)push(k, r.now, promised);
    CHECK(holds(k, promised - 1) && !holds(k, promised));
    ks_kcp_trim(k);
    CHECK(holds(k, promised - 1));
    receiver_close(&r);
}

static void test_number_ends_it(void)
{
    receiver r;
    ks_kcp *k = receiver_open(&r, true);
    stream(&r, 20 * FIRST, false);
    uint32_t promised = k->rcv_nxt + KS_KCP_WND_MAX;
    ks_kcp_set_rcv_wnd(k, 100);
    stream(&r, 20 * FIRST, false);
    CHECK_EQ(k->cfg.rcv_wnd, 100);
    (void)push(k, r.now, promised - 1);
    CHECK(holds(k, promised - 1));
    receiver_close(&r);
}

/* Short of memory: no growth; the window gives back what it has grown by as it is read on, and its edge never goes back; what is
 * beyond its first size is refused, and what is within it never. */
static void test_memory_is_short(void)
{
    receiver r;
    ks_kcp *k = receiver_open(&r, true);
    ks_mem_set_bound(ks_mem_used() + FIRST * SLAB - 1);
    stream(&r, 20 * FIRST, false);
    CHECK_EQ(k->cfg.rcv_wnd, FIRST); /* there is some, but not for a whole window more */
    ks_mem_set_bound(ALL_OF_IT);
    stream(&r, FIRST, false);
    uint32_t wide = k->cfg.rcv_wnd, edge = k->rcv_edge;
    CHECK(wide >= 4 * FIRST);
    ks_mem_set_bound(0);
    uint32_t missing = k->rcv_nxt;
    (void)push(k, r.now, missing + FIRST);
    (void)push(k, r.now, missing + FIRST - 1);
    CHECK(!holds(k, missing + FIRST) && holds(k, missing + FIRST - 1));
    stream(&r, FIRST - 1, false);
    CHECK(k->rcv_edge == edge && k->rcv_read + k->cfg.rcv_wnd == edge && k->cfg.rcv_wnd == wide - FIRST);
    stream(&r, wide, false);
    CHECK(k->cfg.rcv_wnd == FIRST && k->rcv_edge == k->rcv_read + FIRST);
    receiver_close(&r);
}

/* A link of 300 ms with loss: the window of a receiver that follows is no bound, as a fixed one of 1024 is. */
static uint32_t far_transfer(uint32_t rcv, bool follow, uint64_t bound, int *wrong, uint32_t *wnd)
{
    ks_kcp_config a = config(KS_KCP_WND_MAX, FIRST, false), b = config(FIRST, rcv, follow);
    sim s;
    ks_mem_set_bound(bound);
    sim_init(&s, &a, &b, 0, 1000);
    s.delay_ms = 150;
    s.fate = fate_random_loss;
    s.loss_percent = 3;
    s.end[0].to_send = 20000 * 1376;
    sim_run(&s, 600 * 1000);
    CHECK(sim_finished(&s));
    CHECK_EQ(s.spins, 0);
    *wrong = s.end[1].wrong;
    *wnd = s.end[1].kcp.cfg.rcv_wnd;
    uint32_t took = s.now - 1000;
    sim_free(&s);
    ks_mem_set_bound(ALL_OF_IT);
    return took;
}

static void test_far_link(void)
{
    int wrong;
    uint32_t wnd;
    uint32_t fixed = far_transfer(FIRST, false, ALL_OF_IT, &wrong, &wnd);
    uint32_t wide = far_transfer(16384, false, ALL_OF_IT, &wrong, &wnd);
    uint32_t follows = far_transfer(FIRST, true, ALL_OF_IT, &wrong, &wnd);
    CHECK(wrong == 0 && wnd >= 8 * FIRST);
    if (!CHECK(follows <= wide + 1800 && follows < fixed / 3))
        printf("1024: %u, 16384: %u, follows: %u ms\n", (unsigned)fixed, (unsigned)wide, (unsigned)follows);
    /* Without memory it is as the fixed one. */
    uint32_t shortly = far_transfer(FIRST, true, 0, &wrong, &wnd);
    CHECK(wrong == 0 && wnd == FIRST);
    CHECK_EQ(shortly, fixed);
}

/* ---- sessions ---- */

static ks_profile profile(void)
{
    ks_profile p = world_profile();
    p.sndwnd_pkts = KS_KCP_WND_MAX;
    p.rcvwnd_pkts = 0;
    p.rate_limit = 20000000; /* so that no burst is too long for the kernel's buffers */
    return p;
}

static ks_kcp *kcp_at(const world *w, int at, int fd)
{
    return &world_session(&w->host[at], fd)->kcp;
}

static void test_profile_auto(void)
{
    ks_profile p = world_profile();
    p.sndwnd_pkts = p.rcvwnd_pkts = 0;
    ks_kcp_config c = ks_profile_kcp_config(&p, 1, 0);
    CHECK(ks_profile_is_valid(&p) && c.snd_wnd == FIRST && c.rcv_wnd == FIRST && c.follow);
    p.adaptive = 1;
    CHECK_EQ(ks_profile_kcp_config(&p, 1, 0).snd_wnd, KS_KCP_WND_MAX);
    p.nc = 0;
    CHECK_EQ(ks_profile_kcp_config(&p, 1, 0).snd_wnd, FIRST);
    p.sndwnd_pkts = 77;
    p.rcvwnd_pkts = 99;
    c = ks_profile_kcp_config(&p, 1, 0);
    CHECK(c.snd_wnd == 77 && c.rcv_wnd == 99 && !c.follow);
}

/* A fat and long path: window and stream grow, and the transfer takes a few round trips; idle, all is as in the beginning. */
static void test_session_grows_and_begins_anew(void)
{
    for (int version = 1; version <= 2; version++) {
        world w;
        ks_profile p = profile();
        int a, b;
        p.smux_version = version;
        world_open(&w, 1, 100 * MS);
        world_pair(&w, &p, &a, &b);
        const world_flow *up = world_flow_start(&w, a, b, 40000000);
        uint64_t from = w.now_us;
        WORLD_UNTIL(&w, minute, flow_done(up));
        ks_session *s = world_session(&w.host[SERVER], b);
        const ks_stream *st = world_stream(&w.host[SERVER], b);
        /* With 1024 packets a round trip it would be 28 of 200 ms. */
        if (!CHECK((w.now_us - from) / MS <= 3200))
            printf("version %d: %d ms\n", version, (int)((w.now_us - from) / MS));
        CHECK(s->kcp.cfg.rcv_wnd >= 4 * FIRST && s->kcp.cfg.rcv_wnd <= KS_KCP_WND_MAX);
        CHECK(version == 1 || (st->flow.window >= 4 * FIRST * s->kcp.mss && st->flow.window <= 32u << 20));
        world_run(&w, 3 * SECOND);
        CHECK(s->kcp.cfg.rcv_wnd == FIRST && s->kcp.rcv.capacity == 0);
        /* And again, though the sender begins by what it was told before. */
        up = world_flow_start(&w, a, b, 40000000);
        from = w.now_us;
        WORLD_UNTIL(&w, minute, flow_done(up));
        CHECK((w.now_us - from) / MS <= 3200);
        CHECK(kcp_at(&w, CLIENT, a)->count.retrans_segs < 10); /* a promise that is not kept would cost a window's worth */
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

static uint64_t lossy_transfer(int32_t rcvwnd)
{
    world w;
    ks_profile p = profile();
    int a, b;
    p.rcvwnd_pkts = rcvwnd;
    p.rate_limit = 6000000;
    world_open(&w, 9, 150 * MS);
    (void)net_add(&w.path[CLIENT], net_loss(3));
    world_pair(&w, &p, &a, &b);
    const world_flow *up = world_flow_start(&w, a, b, 20000000);
    uint64_t from = w.now_us;
    WORLD_UNTIL(&w, minute, flow_done(up));
    uint64_t took = (w.now_us - from) / MS;
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
    return took;
}

/* A loss keeps what came from being read, for a round trip and more: the windows grow all the same. */
static void test_session_with_loss_as_with_wide_windows(void)
{
    uint64_t narrow = lossy_transfer(FIRST), wide = lossy_transfer(8192), follows = lossy_transfer(0);
    if (!CHECK(follows <= wide * 11 / 10 && follows < narrow * 2 / 3))
        printf("1024: %d, 8192: %d, follows: %d ms\n", (int)narrow, (int)wide, (int)follows);
}

/* Who reads no more makes us hold what its stream was given, and not a byte more; who reads beside it goes on. */
static void test_reader_that_stops_holds_its_window(void)
{
    world w;
    ks_profile p = profile();
    int a, b;
    world_open(&w, 1, 50 * MS);
    world_pair(&w, &p, &a, &b);
    world_flow *up = world_flow_start(&w, a, b, 200000000);
    WORLD_UNTIL(&w, minute, up->received > 60000000);
    up->paused = true;
    world_run(&w, 5 * SECOND);
    const ks_stream *st = world_stream(&w.host[SERVER], b);
    ks_session *s = st->session;
    uint32_t waits = st->rx_charge - st->rx_count * KS_SLICE_CHARGE;
    CHECK(st->flow.window > 4 * FIRST * s->kcp.mss && waits > st->flow.window / 2);
    CHECK(waits <= st->flow.window && s->buffered < s->buffer_limit);
    uint32_t window = st->flow.window;
    uint64_t held = ks_mem_used() - w.memory;
    CHECK(held <= (uint64_t)window * 2);
    world_run(&w, 20 * SECOND);
    CHECK(st->flow.window == window && ks_mem_used() - w.memory <= held);
    up->paused = false;
    WORLD_UNTIL(&w, minute, flow_done(up));
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

/* The bound is met while windows are wide: they go back, nothing stalls, and memory goes down to it. */
static void test_session_short_of_memory(void)
{
    for (int bound_mb = 0; bound_mb <= 6; bound_mb += 3) {
        world w;
        ks_profile p = profile();
        int a, b;
        world_open(&w, 3, 50 * MS);
        (void)net_add(&w.path[CLIENT], net_loss(2));
        world_pair(&w, &p, &a, &b);
        world_flow *up = world_flow_start(&w, a, b, 100000000);
        WORLD_UNTIL(&w, minute, up->received > 20000000);
        const ks_session *s = world_session(&w.host[SERVER], b);
        const ks_stream *st = world_stream(&w.host[SERVER], b);
        CHECK(s->kcp.cfg.rcv_wnd > FIRST && st->flow.window > FIRST * s->kcp.mss);
        up->paused = true;
        world_run(&w, 2 * SECOND);
        ks_mem_set_bound((uint64_t)bound_mb << 20);
        up->paused = false;
        if (bound_mb == 0) {
            WORLD_UNTIL(&w, minute, up->received > 85000000);
            if (!CHECK(s->kcp.cfg.rcv_wnd == FIRST && st->flow.window == FIRST * s->kcp.mss))
                printf("%u packets, %u bytes\n", s->kcp.cfg.rcv_wnd, st->flow.window);
        }
        WORLD_UNTIL(&w, 2 * minute, flow_done(up));
        ks_mem_set_bound(ALL_OF_IT);
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

/* Both ends send as much as they can, neither reads, without memory: and then both read. */
static void test_no_deadlock_short_of_memory(void)
{
    world w;
    ks_profile p = profile();
    int a, b;
    world_open(&w, 5, 50 * MS);
    for (int i = 0; i < HOSTS; i++)
        (void)net_add(&w.path[i], net_loss(2));
    world_pair(&w, &p, &a, &b);
    world_flow *up = world_flow_start(&w, a, b, 80000000), *down = world_flow_start(&w, b, a, 80000000);
    WORLD_UNTIL(&w, minute, up->received > 30000000);
    up->paused = down->paused = true;
    world_run(&w, SECOND);
    ks_mem_set_bound(0);
    world_run(&w, 5 * SECOND);
    up->paused = down->paused = false;
    WORLD_UNTIL(&w, 4 * minute, flow_done(up) && flow_done(down));
    ks_mem_set_bound(ALL_OF_IT);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_rule), TEST(test_memory_bound), TEST(test_rate_widens), TEST(test_measured_round_trip_counts),
        TEST(test_hole_widens), TEST(test_reader_that_lags_does_not_widen), TEST(test_idle_begins_anew_and_keeps_its_promise),
        TEST(test_number_ends_it), TEST(test_memory_is_short), TEST(test_far_link), TEST(test_profile_auto),
        TEST(test_session_grows_and_begins_anew),
        TEST(test_session_with_loss_as_with_wide_windows), TEST(test_reader_that_stops_holds_its_window),
        TEST(test_session_short_of_memory), TEST(test_no_deadlock_short_of_memory),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
