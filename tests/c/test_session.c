/* SPDX-License-Identifier: MIT */
/* Whole sessions that carry data: over all kinds of paths, with FEC, in messages, within their windows and rates. */
#include "world.h"

static const uint64_t minute = 60 * (uint64_t)SECOND, start_us = 1000 * (uint64_t)SECOND;

static uint64_t ms_since(const world *w, uint64_t us)
{
    return (w->now_us - us) / 1000;
}

/* ---- data ---- */

typedef enum { CLEAN, LOSSY, REORDERED, REPEATED, NARROW, ALL_OF_IT, PATHS } path_kind;

static void shape(world *w, path_kind kind)
{
    for (int i = 0; i < HOSTS; i++) {
        net_path *path = &w->path[i];
        if (kind == NARROW || kind == ALL_OF_IT)
            (void)net_add(path, net_line(1000000, 60000));
        if (kind == LOSSY || kind == ALL_OF_IT)
            (void)net_add(path, net_loss(10));
        if (kind == REPEATED || kind == ALL_OF_IT)
            (void)net_add(path, net_repeat(20, 3 * MS));
        (void)net_add(path, net_delay(15 * MS, kind == REORDERED || kind == ALL_OF_IT ? 30 * MS : 0));
    }
}

/* -> virtual ms that it took */
static uint64_t transfer(const ks_profile *p, path_kind kind, uint64_t seed, uint64_t bytes, uint64_t from_us)
{
    world w;
    int a, b;
    world_open(&w, seed, 0);
    w.now_us = from_us;
    shape(&w, kind);
    world_pair(&w, p, &a, &b);
    world_flow *up = world_flow_start(&w, a, b, bytes), *down = world_flow_start(&w, b, a, bytes / 2);
    uint64_t from = w.now_us;
    WORLD_UNTIL(&w, 2 * minute, flow_done(up) && flow_done(down));
    uint64_t took = ms_since(&w, from), opened = p->framing == KS_FRAMING_RAW;
    CHECK_EQ(host_counts(&w.host[CLIENT]).bytes_sent, bytes + opened);
    CHECK_EQ(host_counts(&w.host[SERVER]).bytes_received, bytes + opened);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
    return took;
}

static void test_data_over_all_paths(void)
{
    /* At most, in ms: the window of 128 packets is 176 KB each round trip of 30 ms, 5.8 MB/s; the line has 1 MB/s. */
    static const uint64_t most[PATHS] = {[CLEAN] = 150, [LOSSY] = 500, [REORDERED] = 400, [REPEATED] = 300, [NARROW] = 900,
                                         [ALL_OF_IT] = 2500};
    for (path_kind kind = CLEAN; kind < PATHS; kind++) {
        ks_profile p = world_profile();
        for (uint64_t seed = 1; seed <= 3; seed++) {
            uint64_t took = transfer(&p, kind, seed, 500000, start_us);
            if (!CHECK(took <= most[kind]))
                printf("path %d, seed %d: %d ms\n", (int)kind, (int)seed, (int)took);
        }
    }
}

static void test_data_in_all_framings(void)
{
    for (int kind = 0; kind < 8; kind++) {
        ks_profile p = world_profile();
        p.framing = kind < 2 ? KS_FRAMING_RAW : KS_FRAMING_SMUX;
        p.smux_version = kind < 4 ? 1 : 2;
        p.nc = kind != 4;
        p.nodelay = kind != 5;
        p.ack_nodelay = kind == 6;
        p.write_delay = kind == 7;
        p.dup = kind == 3;
        CHECK(transfer(&p, kind % 2 ? LOSSY : CLEAN, 7, 200000, start_us) <= (kind == 5 ? 2500 : 1500));
    }
}

/* KCP's clock has 32 bits of ms: 49 days after the engine's start, or at once, by the system's clock. */
static void test_data_over_the_clocks_wrap(void)
{
    ks_profile p = world_profile();
    uint64_t start = ((uint64_t)1 << 32) * 1000 - 200 * MS;
    CHECK_EQ(transfer(&p, LOSSY, 5, 400000, start), transfer(&p, LOSSY, 5, 400000, start_us));
}

static void test_same_seed_same_time(void)
{
    ks_profile p = world_profile();
    uint64_t first = transfer(&p, ALL_OF_IT, 11, 300000, start_us);
    CHECK_EQ(transfer(&p, ALL_OF_IT, 11, 300000, start_us), first);
}

static void test_fec_rebuilds(void)
{
    for (int with = 0; with < 2; with++) {
        world w;
        ks_profile p = world_profile();
        int a, b;
        p.fec_data = with ? 5 : 0;
        p.fec_parity = with ? 2 : 0;
        world_open(&w, 3, 50 * MS);
        (void)net_add(&w.path[CLIENT], net_loss(5));
        world_pair(&w, &p, &a, &b);
        const world_flow *up = world_flow_start(&w, a, b, 1000000);
        WORLD_UNTIL(&w, minute, flow_done(up));
        ks_counters c = host_counts(&w.host[SERVER]), sent = host_counts(&w.host[CLIENT]);
        CHECK(with ? c.fec_recovered >= 20 : c.fec_recovered == 0);
        CHECK_EQ(c.fec_errs, 0);
        CHECK(with ? c.fec_full_sets > 100 && c.fec_parity_shards > 200 : c.fec_full_sets == 0);
        /* What was rebuilt was not sent again. */
        CHECK(with ? sent.retrans_segs < 20 : sent.retrans_segs > 30);
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

/* A packet each second: parity would come too late to help. */
static void test_fec_of_a_slow_stream_has_no_parity(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    char byte;
    p.fec_data = 2;
    p.fec_parity = 1;
    world_open(&w, 3, 5 * MS);
    world_pair(&w, &p, &a, &b);
    world_run(&w, SECOND);
    ks_counters c = {0}, later = {0};
    ks_session_add_counts(world_session(&w.host[SERVER], b), &c);
    for (int i = 0; i < 20; i++) {
        CHECK(send(a, "x", 1, MSG_DONTWAIT) == 1);
        WORLD_UNTIL(&w, 100 * MS, recv(b, &byte, 1, MSG_DONTWAIT) == 1);
        world_run(&w, SECOND);
    }
    ks_session_add_counts(world_session(&w.host[SERVER], b), &later);
    CHECK(later.fec_parity_shards - c.fec_parity_shards <= 2);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

static void test_fec_of_one_end_alone(void)
{
    world w;
    ks_profile bare = world_profile(), with = bare;
    int a, b = -1;
    with.fec_data = 3;
    with.fec_parity = 1;
    world_open(&w, 3, 10 * MS);
    for (int i = 0; i < HOSTS; i++)
        (void)net_add(&w.path[i], net_loss(5));
    world_listen(&w, &bare, NULL, 5);
    a = world_connect(&w, &with, NULL);
    WORLD_UNTIL(&w, 5 * SECOND, world_accepted(&w, &b) && (world_poll(a) & POLLOUT));
    const world_flow *up = world_flow_start(&w, a, b, 400000), *down = world_flow_start(&w, b, a, 400000);
    WORLD_UNTIL(&w, minute, flow_done(up) && flow_done(down));
    ks_counters c = {0};
    ks_session_add_counts(world_session(&w.host[SERVER], b), &c);
    CHECK(c.fec_recovered > 0); /* the code was found out */
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

static void test_messages_keep_their_borders(void)
{
    enum { MESSAGES = 60, LONGEST = 128 * (1400 - (int)KS_KCP_HEAD) };
    static uint8_t out[LONGEST], in[LONGEST + 1];
    world w;
    ks_profile p = world_profile();
    int a, b, sent = 0, got = 0;
    p.framing = KS_FRAMING_RAW;
    p.stream = 0;
    world_open(&w, 9, 5 * MS);
    (void)net_add(&w.path[CLIENT], net_loss(5));
    world_pair(&w, &p, &a, &b);
    int room = 2 * LONGEST;
    CHECK(setsockopt(a, SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
    for (uint64_t until = w.now_us + minute; got < MESSAGES && w.now_us < until; w.now_us = world_next(&w, until)) {
        world_settle(&w);
        for (bool moved = true; moved;) {
            size_t size = 1 + (size_t)sent * 3001 % LONGEST;
            memset(out, sent + 1, size);
            moved = sent < MESSAGES && send(a, out, size, MSG_DONTWAIT) == (ssize_t)size;
            sent += moved;
            ssize_t n = recv(b, in, sizeof in, MSG_DONTWAIT);
            if (n < 0)
                continue;
            moved = true;
            size_t want = 1 + (size_t)got * 3001 % LONGEST;
            CHECK_EQ(n, want);
            CHECK(in[0] == got + 1 && in[n - 1] == got + 1);
            got++;
        }
    }
    CHECK_EQ(got, MESSAGES);
    /* One the other way, from the accepting end. */
    CHECK(send(b, "back", 4, MSG_DONTWAIT) == 4);
    WORLD_UNTIL(&w, SECOND, recv(a, in, sizeof in, MSG_DONTWAIT) == 4);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

/* ---- windows ---- */

/* The most segments that are ever on their way. */
static void test_send_window_is_not_exceeded(void)
{
    for (int nc = 0; nc < 2; nc++) {
        world w;
        ks_profile p = world_profile();
        int a, b;
        uint32_t most = 0;
        p.sndwnd_pkts = 16;
        p.rcvwnd_pkts = 40;
        p.nc = nc;
        world_open(&w, 1, 20 * MS);
        world_pair(&w, &p, &a, &b);
        const world_flow *up = world_flow_start(&w, a, b, 400000);
        for (uint64_t until = w.now_us + minute; !flow_done(up) && w.now_us < until; w.now_us = world_next(&w, until)) {
            world_settle(&w);
            const ks_kcp *k = &world_session(&w.host[CLIENT], a)->kcp;
            most = k->snd_nxt - k->snd_una > most ? k->snd_nxt - k->snd_una : most;
        }
        CHECK(flow_done(up));
        CHECK(nc ? most == 16 : most > 4 && most <= 16);
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

/* What a reader does not take stands in buffers that have an end, and goes on at once when it reads again. */
static void paused_reader(const ks_profile *p, uint64_t bytes, uint64_t most_ahead)
{
    world w;
    int a, b;
    world_open(&w, 1, 10 * MS);
    world_pair(&w, p, &a, &b);
    world_flow *up = world_flow_start(&w, a, b, bytes);
    up->paused = true;
    world_run(&w, 5 * SECOND);
    uint64_t stood = up->sent;
    CHECK(stood < bytes && stood <= most_ahead);
    world_run(&w, 20 * SECOND);
    CHECK(up->sent <= stood + 32768); /* a keepalive begins a segment, in which there is room for more */
    CHECK(world_session(&w.host[CLIENT], a) != NULL); /* a slow reader is no dead peer */
    up->paused = false;
    uint64_t from = w.now_us;
    WORLD_UNTIL(&w, minute, flow_done(up));
    CHECK(ms_since(&w, from) <= 3000);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

static void test_paused_reader(void)
{
    ks_profile p = world_profile(), raw = p, one = p;
    paused_reader(&p, 3000000, 1400000);
    one.smux_version = 1; /* no windows of streams: the session's buffer, 4 MiB, and KCP's */
    paused_reader(&one, 9000000, 6500000);
    raw.framing = KS_FRAMING_RAW;
    paused_reader(&raw, 3000000, 1400000);
}

/* A whole window arrives at one moment: more packets than a turn takes from a socket, more bytes than a session buffers
 * before it writes. Nothing else happens afterwards, and yet all of it is there within that moment. */
static void test_burst_arrives_at_once(void)
{
    for (int framing = KS_FRAMING_RAW; framing <= KS_FRAMING_SMUX; framing++) {
        world w;
        ks_profile p = world_profile();
        int a, b;
        p.framing = framing;
        world_open(&w, 1, 20 * MS);
        world_pair(&w, &p, &a, &b);
        const world_flow *first = world_flow_start(&w, a, b, 1000);
        WORLD_UNTIL(&w, SECOND, flow_done(first));
        world_run(&w, SECOND);
        uint64_t from = w.now_us;
        const world_flow *f = world_flow_start(&w, a, b, 170000);
        WORLD_UNTIL(&w, SECOND, flow_done(f));
        CHECK(w.now_us - from <= 20 * MS + 200);
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

/* The smux window of version 2 is told anew each half of it: without that the stream would stand still. */
static void test_stream_window_goes_on(void)
{
    ks_profile p = world_profile();
    CHECK(transfer(&p, CLEAN, 1, 4 * KS_SMUX_FIRST_WINDOW, start_us) < 600);
}

static void test_tiny_windows(void)
{
    ks_profile p = world_profile();
    p.sndwnd_pkts = p.rcvwnd_pkts = 1;
    CHECK(transfer(&p, CLEAN, 1, 20000, start_us) < 1500);
    p.sndwnd_pkts = 64;
    CHECK(transfer(&p, LOSSY, 1, 20000, start_us) < 10000);
}

/* ---- rates and copies ---- */

static void test_rate_limit(void)
{
    /* At the second one nothing is under way while data waits: only the bucket's own time brings it on. */
    static const struct {
        int64_t rate;
        uint64_t delay_us;
    } cases[] = {{100000, 10 * MS}, {20000, 10 * MS}, {20000, 200 * MS}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world w;
        ks_profile p = world_profile();
        int a, b;
        p.rate_limit = cases[i].rate;
        const uint64_t rate = (uint64_t)cases[i].rate;
        world_open(&w, 1, cases[i].delay_us);
        world_pair(&w, &p, &a, &b);
        world_run(&w, SECOND);
        world_flow *up = world_flow_start(&w, a, b, 10 * rate);
        uint64_t bytes = w.host[CLIENT].core->count.out_bytes, from = w.now_us;
        world_run(&w, 5 * SECOND);
        bytes = w.host[CLIENT].core->count.out_bytes - bytes;
        CHECK(bytes >= rate * 49 / 10 && bytes <= rate * 51 / 10 + 4 * 1400);
        WORLD_UNTIL(&w, minute, flow_done(up));
        CHECK(ms_since(&w, from) <= 11000);
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

/* Copies count: what goes out at one moment is the bucket, 10 ms of the rate, and two packets more at most. */
static void test_rate_limit_counts_copies(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    p.rate_limit = 1000000;
    p.dup = 3;
    world_open(&w, 1, 10 * MS);
    world_pair(&w, &p, &a, &b);
    const world_flow *up = world_flow_start(&w, a, b, 1000);
    WORLD_UNTIL(&w, SECOND, flow_done(up));
    world_run(&w, SECOND);
    uint64_t bytes = w.host[CLIENT].core->count.out_bytes;
    up = world_flow_start(&w, a, b, 100000);
    world_settle(&w);
    bytes = w.host[CLIENT].core->count.out_bytes - bytes;
    CHECK(bytes >= 10000 && bytes <= 10000 + 2 * 4 * 1400);
    WORLD_UNTIL(&w, SECOND, flow_done(up));
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

static void test_copies_beside_each_packet(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    p.dup = 2;
    world_open(&w, 1, 10 * MS);
    (void)net_add(&w.path[CLIENT], net_loss(30));
    world_pair(&w, &p, &a, &b);
    const world_flow *up = world_flow_start(&w, a, b, 300000);
    WORLD_UNTIL(&w, minute, flow_done(up));
    const ks_kcp *k = &world_session(&w.host[CLIENT], a)->kcp;
    CHECK(k->count.retrans_segs * 10 < k->count.out_segs); /* 2.7 % instead of 30 are lost */
    CHECK_EQ(w.host[CLIENT].core->count.out_pkts % 3, 0);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

/* Before senders knew their path an idle session, and its one stream, had so many bytes, on machines of 64 bits. */
#define IDLE_SESSION_WAS 936u
#define IDLE_STREAM_WAS 232u
#define IDLE_MAY_GROW 256u

/* 184 more of these 256 (sizes of gcc's, x86-64). */
static void test_size_of_an_idle_session(void)
{
    if (sizeof(void *) == 8)
        CHECK(sizeof(ks_session) + sizeof(ks_stream) <= IDLE_SESSION_WAS + IDLE_STREAM_WAS + IDLE_MAY_GROW);
}

/* What has carried data and does no more holds nothing but itself, has no timer, and goes on. */
static void test_idle_session_rests(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    p.adaptive = 1;
    p.insurance = -1;
    p.keepalive_ms = 0;
    world_open(&w, 1, 10 * MS);
    shape(&w, LOSSY);
    world_pair(&w, &p, &a, &b);
    for (int round = 0; round < 3; round++) {
        const world_flow *up = world_flow_start(&w, a, b, 300000), *down = world_flow_start(&w, b, a, 100000);
        uint64_t from = w.now_us;
        WORLD_UNTIL(&w, minute, flow_done(up) && flow_done(down));
        CHECK(ms_since(&w, from) <= 2500); /* 409 to 1,214 */
        CHECK(world_session(&w.host[CLIENT], a)->kcp.sender != NULL);
        world_run(&w, 4 * SECOND);
        for (int i = 0; i < HOSTS; i++) {
            const ks_session *s = world_session(&w.host[i], i == CLIENT ? a : b);
            CHECK(s->kcp.sender == NULL && s->kcp.snd.slot == NULL && s->kcp.rcv.slot == NULL && s->kcp.acks == NULL);
            CHECK(s->timer.due_ms == KS_NEVER && ks_timers_next(&w.host[i].core->timers) == KS_NEVER);
        }
    }
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

typedef struct {
    int client, server;
    uint64_t ms; /* until its data was read */
} upload;

static upload upload_begin(world *w, uint64_t bytes)
{
    ks_profile p = world_profile();
    p.adaptive = 1;
    p.sndwnd_pkts = p.rcvwnd_pkts = 8192;
    p.sockbuf_bytes = 8 << 20;
    upload u;
    world_pair(w, &p, &u.client, &u.server);
    uint64_t from = w->now_us;
    world_flow *flow = world_flow_start(w, u.client, u.server, bytes);
    WORLD_UNTIL(w, 2 * minute, flow_done(flow));
    u.ms = ms_since(w, from);
    return u;
}

static void upload_end(upload *u)
{
    world_close_app(&u->client);
    world_close_app(&u->server);
}

static void test_next_connection_begins_where_a_living_one_is(void)
{
    world w;
    world_open(&w, 5, 0);
    w.now_us += 60 * minute; /* what tests before this one have left is too old */
    for (int i = 0; i < HOSTS; i++) {
        (void)net_add(&w.path[i], net_line(5000000, 500000));
        (void)net_add(&w.path[i], net_delay(100 * MS, 0));
    }
    upload first = upload_begin(&w, 3000000), second = upload_begin(&w, 3000000);
    if (!CHECK(second.ms + 150 <= first.ms && second.ms >= 700))
        printf("%d and %d ms\n", (int)first.ms, (int)second.ms);
    upload_end(&first);
    upload_end(&second);
    world_close(&w);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_data_over_all_paths), TEST(test_data_in_all_framings), TEST(test_data_over_the_clocks_wrap),
        TEST(test_same_seed_same_time), TEST(test_fec_rebuilds), TEST(test_fec_of_a_slow_stream_has_no_parity),
        TEST(test_fec_of_one_end_alone), TEST(test_messages_keep_their_borders), TEST(test_send_window_is_not_exceeded),
        TEST(test_paused_reader), TEST(test_burst_arrives_at_once), TEST(test_stream_window_goes_on), TEST(test_tiny_windows),
        TEST(test_rate_limit), TEST(test_rate_limit_counts_copies), TEST(test_copies_beside_each_packet),
        TEST(test_size_of_an_idle_session), TEST(test_idle_session_rests),
        TEST(test_next_connection_begins_where_a_living_one_is),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
