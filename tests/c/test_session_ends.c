/* SPDX-License-Identifier: MIT */
/* How whole sessions end: closes, resets, refusals, exits, and peers that fall silent. */
#include "world.h"
#include "base/err.h"
#include "base/octets.h"
#include "session/session_frames.h"
#include "session/session_silence.h"

static const uint64_t minute = 60 * (uint64_t)SECOND;

static uint32_t sessions_of(const world *w, int at)
{
    return w->host[at].core->session_count;
}

static uint64_t ms_since(const world *w, uint64_t us)
{
    return (w->now_us - us) / 1000;
}

static bool is_large(const uint8_t *packet, size_t size)
{
    (void)packet;
    return size > 200;
}

static bool is_push(const uint8_t *packet, size_t size)
{
    return size > KS_KCP_HEAD && packet[4] == 81;
}

/* The last frame of a packet is a FIN on that stream. */
static bool ends_with_fin(const uint8_t *packet, size_t size, uint32_t sid)
{
    const uint8_t *frame = packet + size - KS_SMUX_HEAD;
    return is_push(packet, size) && size >= KS_KCP_HEAD + KS_SMUX_HEAD && frame[0] == 2 && frame[1] == KS_SMUX_FIN &&
           ks_get_le16(frame + 2) == 0 && ks_get_le32(frame + 4) == sid;
}

static bool is_stream_fin(const uint8_t *packet, size_t size)
{
    return ends_with_fin(packet, size, 1);
}

static bool is_farewell(const uint8_t *packet, size_t size)
{
    return ends_with_fin(packet, size, 0);
}

/* The fifth segment of a connection, or it again. */
static bool is_push_4(const uint8_t *packet, size_t size)
{
    return is_push(packet, size) && ks_get_le32(packet + 12) == 4;
}

/* ---- ends ---- */

static void test_half_close(void)
{
    {
        world w;
        ks_profile p = world_profile();
        int a, b;
        uint64_t got = 0;
        world_open(&w, 1, 20 * MS);
        world_pair(&w, &p, &a, &b);
        world_flow *up = world_flow_start(&w, a, b, 100000);
        WORLD_UNTIL(&w, SECOND, up->sent == up->size);
        CHECK(shutdown(a, SHUT_WR) == 0);
        WORLD_UNTIL(&w, SECOND, flow_done(up));
        int ending = -1;
        WORLD_UNTIL(&w, 200 * MS, (ending = world_ending(b, &got)) != -1);
        CHECK_EQ(ending, 0);
        /* The other direction is as alive as before, for longer than any time of waiting. */
        world_run(&w, 2 * minute);
        const world_flow *down = world_flow_start(&w, b, a, 100000);
        WORLD_UNTIL(&w, SECOND, flow_done(down));
        CHECK(world_ending(a, &got) == -1);
        world_close_app(&b);
        WORLD_UNTIL(&w, 200 * MS, (ending = world_ending(a, &got)) != -1);
        CHECK_EQ(ending, 0);
        world_close_app(&a);
        WORLD_UNTIL(&w, SECOND, sessions_of(&w, CLIENT) == 0);
        WORLD_UNTIL(&w, 4 * SECOND, sessions_of(&w, SERVER) == 0); /* the farewell came */
        world_close(&w);
    }
}

/* Whoever closes first: all that was written arrives, then a clean end, and the sessions go soon. */
static void closing(int first, bool (*lost)(const uint8_t *, size_t), uint64_t most_us)
{
    world w;
    ks_profile p = world_profile();
    int end[HOSTS];
    uint64_t got = 0;
    world_open(&w, 1, 20 * MS);
    world_pair(&w, &p, &end[CLIENT], &end[SERVER]);
    for (int i = 0; i < HOSTS && lost != NULL; i++)
        (void)net_add(&w.path[i], net_lose(lost, 0, 1));
    world_flow *f = world_flow_start(&w, end[first], end[!first], 150000);
    WORLD_UNTIL(&w, SECOND, f->sent == f->size);
    world_close_app(&end[first]);
    WORLD_UNTIL(&w, SECOND, flow_done(f));
    int ending = -1;
    WORLD_UNTIL(&w, most_us, (ending = world_ending(end[!first], &got)) != -1);
    CHECK_EQ(ending, 0);
    CHECK_EQ(got, 0);
    world_close_app(&end[!first]);
    WORLD_UNTIL(&w, SECOND, sessions_of(&w, CLIENT) == 0);
    WORLD_UNTIL(&w, 4 * SECOND, sessions_of(&w, SERVER) == 0);
    CHECK_EQ(w.host[CLIENT].core->count.resets_sent + w.host[SERVER].core->count.resets_sent, 0);
    world_close(&w);
}

static void test_close_by_either_end(void)
{
    for (int first = 0; first < HOSTS; first++) {
        closing(first, NULL, 200 * MS);
        closing(first, is_stream_fin, 500 * MS);
        closing(first, is_farewell, 500 * MS);
        closing(first, is_large, 500 * MS);
    }
}

/* close() with data on its way, on a bad line, to a reader that is slow: it all arrives, and the end after it. */
static void test_close_waits_for_what_was_sent(void)
{
    for (int first = 0; first < HOSTS; first++) {
        world w;
        ks_profile p = world_profile();
        int end[HOSTS];
        uint64_t got = 0;
        world_open(&w, 4, 40 * MS);
        (void)net_add(&w.path[first], net_loss(30));
        world_pair(&w, &p, &end[CLIENT], &end[SERVER]);
        world_flow *f = world_flow_start(&w, end[first], end[!first], 400000); /* more than a pair holds */
        f->paused = true;
        WORLD_UNTIL(&w, 10 * SECOND, f->sent == f->size);
        world_close_app(&end[first]);
        world_run(&w, 10 * SECOND);
        int ending = -1;
        WORLD_UNTIL(&w, 20 * SECOND, (ending = world_ending(end[!first], &got)) != -1);
        CHECK_EQ(ending, 0);
        CHECK_EQ(got, 400000);
        world_close_app(&end[!first]);
        world_close(&w);
    }
}

/* The peer is gone for ever: what closed waits for acknowledgments no longer than its linger time. */
static void test_close_gives_up(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    p.keepalive_ms = 0;
    p.nodelay = 0;
    p.interval_ms = 2000; /* so long timeouts that a segment is not sent often enough to count as dead */
    world_open(&w, 1, 10 * MS);
    world_pair(&w, &p, &a, &b);
    (void)net_add(&w.path[CLIENT], net_loss(100));
    CHECK(send(a, "lost", 4, MSG_DONTWAIT) == 4);
    world_close_app(&a);
    world_run(&w, 25 * SECOND);
    CHECK_EQ(sessions_of(&w, CLIENT), 1);
    WORLD_UNTIL(&w, 40 * SECOND, sessions_of(&w, CLIENT) == 0);
    world_close_app(&b);
    world_close(&w);
}

/* close() over data that was not read: the peer must not take what it got back for all that it was to get. */
static void test_close_over_unread_data(void)
{
    for (int first = 0; first < HOSTS; first++)
        for (int where = 0; where < 3; where++) { /* in the pair; beyond it too; read in part */
            world w;
            ks_profile p = world_profile();
            int end[HOSTS], ending = -1;
            uint64_t got = 0;
            char bytes[10];
            world_open(&w, 1, 20 * MS);
            world_pair(&w, &p, &end[CLIENT], &end[SERVER]);
            world_flow *f = world_flow_start(&w, end[!first], end[first], where == 1 ? 400000 : 100);
            f->paused = true;
            WORLD_UNTIL(&w, 10 * SECOND, f->sent == f->size);
            world_run(&w, SECOND);
            CHECK(send(end[first], "answer", 6, MSG_DONTWAIT) == 6);
            CHECK(where != 2 || recv(end[first], bytes, sizeof bytes, MSG_DONTWAIT) == 10);
            world_close_app(&end[first]);
            WORLD_UNTIL(&w, 300 * MS, (ending = world_ending(end[!first], &got)) != -1);
            CHECK_EQ(ending, ECONNRESET);
            CHECK_EQ(got, 6);
            CHECK_EQ(w.host[first].core->count.resets_sent, 1);
            world_close_app(&end[!first]);
            WORLD_UNTIL(&w, 5 * SECOND, sessions_of(&w, CLIENT) + sessions_of(&w, SERVER) == 0);
            world_close(&w);
        }
}

/* The peer goes on reading and never closes: what closed goes after its linger time, all the same, and says so. */
static void test_peer_that_never_closes(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    uint64_t got = 0;
    p.keepalive_ms = 0;
    world_open(&w, 1, 10 * MS);
    world_pair(&w, &p, &a, &b);
    CHECK(send(a, "last words", 10, MSG_DONTWAIT) == 10);
    world_close_app(&a);
    world_run(&w, 25 * SECOND);
    CHECK_EQ(world_ending(b, &got), 0);
    CHECK(got == 10 && sessions_of(&w, CLIENT) == 1);
    WORLD_UNTIL(&w, 10 * SECOND, sessions_of(&w, CLIENT) == 0);
    WORLD_UNTIL(&w, 5 * SECOND, sessions_of(&w, SERVER) == 0);
    CHECK(send(b, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0);
    world_close_app(&b);
    world_close(&w);
}

/* What closed still listens to the peer's last words: they are acknowledged, or the peer would send them for ever. */
static void test_close_before_the_peers_last_words(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    uint64_t got = 0;
    world_open(&w, 1, 10 * MS);
    world_pair(&w, &p, &a, &b);
    CHECK(shutdown(a, SHUT_WR) == 0);
    WORLD_UNTIL(&w, SECOND, world_ending(b, &got) == 0);
    world_run(&w, 200 * MS);
    world_close_app(&a);
    world_run(&w, 2 * SECOND);
    CHECK(sessions_of(&w, CLIENT) == 1 && sessions_of(&w, SERVER) == 1);
    world_close_app(&b);
    WORLD_UNTIL(&w, SECOND, sessions_of(&w, CLIENT) == 0);
    CHECK_EQ(w.host[CLIENT].core->count.resets_received + w.host[SERVER].core->count.resets_received, 0);
    world_close(&w);
}

/* close() that waits, SO_LINGER (1, n): until all is acknowledged, and the end of it too. */
static void test_linger_waits_for_acknowledgments(void)
{
    for (int first = 0; first < HOSTS; first++) {
        world w;
        ks_profile p = world_profile();
        int end[HOSTS], ending = -1;
        uint64_t got = 0;
        world_open(&w, 1, 40 * MS);
        world_pair(&w, &p, &end[CLIENT], &end[SERVER]);
        world_run(&w, 200 * MS);
        ks_stream *st = world_stream(&w.host[first], end[first]);
        st->linger_s = 5;
        CHECK(!ks_stream_is_flushed(st)); /* it may still write */
        CHECK(send(end[first], "words", 5, MSG_DONTWAIT) == 5 && shutdown(end[first], SHUT_WR) == 0);
        CHECK(!ks_stream_is_flushed(st)); /* it stands in the pair */
        world_run(&w, 60 * MS);
        CHECK(!ks_stream_is_flushed(st)); /* it has arrived, but is not acknowledged */
        WORLD_UNTIL(&w, 200 * MS, ks_stream_is_flushed(st));
        world_close_app(&end[first]);
        WORLD_UNTIL(&w, 200 * MS, (ending = world_ending(end[!first], &got)) != -1);
        CHECK(ending == 0 && got == 5);
        CHECK_EQ(w.host[first].core->count.resets_sent, 0);
        world_close_app(&end[!first]);
        world_close(&w);
    }
}

static void test_counts_stay_when_sessions_end(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    p.fec_data = 4;
    p.fec_parity = 1;
    world_open(&w, 1, 10 * MS);
    (void)net_add(&w.path[CLIENT], net_loss(10));
    world_pair(&w, &p, &a, &b);
    const world_flow *f = world_flow_start(&w, a, b, 300000);
    WORLD_UNTIL(&w, minute, flow_done(f));
    ks_counters before = {0}, after = w.host[SERVER].core->count;
    ks_session_add_counts(world_session(&w.host[SERVER], b), &before);
    CHECK(before.in_segs > 200 && before.fec_recovered > 5 && after.in_segs == 0);
    world_close_app(&a);
    world_close_app(&b);
    WORLD_UNTIL(&w, 10 * SECOND, sessions_of(&w, SERVER) == 0);
    after = w.host[SERVER].core->count;
    CHECK(after.in_segs >= before.in_segs && after.in_segs <= before.in_segs + 20);
    CHECK(after.fec_recovered >= before.fec_recovered && after.fec_parity_shards <= before.fec_parity_shards + 10);
    CHECK(after.passive_opens == 1 && after.max_conn == 1 && after.curr_estab == 0);
    world_close(&w);
}

/* ---- resets ---- */

/* A connect that is given up when its SYN has come through: nobody accepts it. */
static void test_connect_given_up(void)
{
    world w;
    ks_profile p = world_profile();
    int b = -1;
    world_open(&w, 1, 50 * MS);
    world_listen(&w, &p, NULL, 5);
    int a = world_connect(&w, &p, NULL);
    WORLD_UNTIL(&w, 90 * MS, sessions_of(&w, SERVER) == 1);
    CHECK((world_poll(a) & POLLOUT) == 0);
    host_step_in(&w.host[CLIENT]);
    ks_stream_reset(world_stream(&w.host[CLIENT], a), 0);
    world_close_app(&a);
    WORLD_UNTIL(&w, 100 * MS, sessions_of(&w, SERVER) == 0);
    CHECK(!world_accepted(&w, &b));
    world_close(&w);
}

static void test_reset_by_linger_0(void)
{
    for (int first = 0; first < HOSTS; first++) {
        world w;
        ks_profile p = world_profile();
        int end[HOSTS];
        uint64_t got = 0;
        world_open(&w, 1, 20 * MS);
        world_pair(&w, &p, &end[CLIENT], &end[SERVER]);
        CHECK(send(end[first], "before", 6, MSG_DONTWAIT) == 6);
        world_run(&w, 100 * MS);
        world_stream(&w.host[first], end[first])->linger_s = 0;
        world_close_app(&end[first]);
        int ending = -1;
        WORLD_UNTIL(&w, 300 * MS, (ending = world_ending(end[!first], &got)) != -1);
        CHECK_EQ(ending, ECONNRESET);
        CHECK_EQ(got, 6);
        CHECK_EQ(w.host[first].core->count.resets_sent, 1);
        CHECK_EQ(w.host[!first].core->count.resets_received, 1);
        CHECK(send(end[!first], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0);
        world_close_app(&end[!first]);
        WORLD_UNTIL(&w, SECOND, sessions_of(&w, CLIENT) == 0);
        WORLD_UNTIL(&w, 4 * SECOND, sessions_of(&w, SERVER) == 0);
        world_close(&w);
    }
}

/* Both halves of a reset go in one segment: a reader that has the first alone would be told of a clean end. Here the segment
 * at the stream's end has room for one and a half. */
static void test_reset_is_not_halved_by_a_lost_packet(void)
{
    world w;
    ks_profile p = world_profile();
    uint8_t last[1400] = {0};
    int a, b, ending = -1;
    uint64_t got = 0;
    p.nc = 0; /* with a congestion window, which is small at first */
    world_open(&w, 1, 40 * MS);
    world_pair(&w, &p, &a, &b);
    world_run(&w, 200 * MS);
    const ks_kcp *k = &world_session(&w.host[CLIENT], a)->kcp;
    while (k->snd_nxt - k->snd_una < ks_kcp_cwnd(k)) {
        CHECK(send(a, "a", 1, MSG_DONTWAIT) == 1);
        world_run(&w, MS);
    }
    uint32_t next = k->snd_nxt;
    size_t size = k->mss - KS_SMUX_HEAD - 12;
    CHECK(next == 3 && k->snd_end == next);
    CHECK(send(a, last, size, MSG_DONTWAIT) == (ssize_t)size);
    world_run(&w, MS);
    CHECK(k->snd_end == next + 1 && ks_kcp_tail_room(k) == 12);
    world_stream(&w.host[CLIENT], a)->linger_s = 0;
    world_close_app(&a);
    (void)net_add(&w.path[CLIENT], net_lose(is_push_4, 0, 3));
    WORLD_UNTIL(&w, SECOND, (ending = world_ending(b, &got)) != -1 || got == next - 1 + size);
    CHECK(ending == -1);
    WORLD_UNTIL(&w, SECOND, (ending = world_ending(b, &got)) != -1);
    CHECK_EQ(ending, ECONNRESET);
    CHECK(got == next - 1 + size && w.path[CLIENT].lost == 3);
    world_close_app(&b);
    world_close(&w);
}

/* Data for an application that is gone: TCP's answer is RST. */
static void test_data_for_a_closed_end_is_a_reset(void)
{
    for (int first = 0; first < HOSTS; first++) {
        world w;
        ks_profile p = world_profile();
        int end[HOSTS];
        uint64_t got = 0;
        world_open(&w, 1, 20 * MS);
        world_pair(&w, &p, &end[CLIENT], &end[SERVER]);
        world_close_app(&end[first]);
        WORLD_UNTIL(&w, SECOND, world_ending(end[!first], &got) == 0);
        CHECK(send(end[!first], "anyone?", 7, MSG_DONTWAIT | MSG_NOSIGNAL) == 7);
        WORLD_UNTIL(&w, 300 * MS, send(end[!first], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EPIPE);
        CHECK_EQ(ks_front_exhume(ks_front_inode(end[!first])), EPIPE); /* as TCP has it in CLOSE_WAIT */
        CHECK_EQ(w.host[first].core->count.resets_sent, 1);
        world_close_app(&end[!first]);
        world_close(&w);
    }
}

/* The far process died and came back: it knows nothing of the session, and says so. */
static void test_forgotten_session_is_refused(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    uint64_t got = 0;
    world_open(&w, 1, 20 * MS);
    world_pair(&w, &p, &a, &b);
    CHECK(send(a, "hello", 5, MSG_DONTWAIT) == 5);
    CHECK(send(b, "hello", 5, MSG_DONTWAIT) == 5);
    world_run(&w, SECOND);
    host_step_in(&w.host[SERVER]);
    ks_session_fail(world_session(&w.host[SERVER], b), 0);
    world_close_app(&b);
    world_run(&w, SECOND);
    CHECK(world_ending(a, &got) == -1 && got == 5);
    CHECK(send(a, "still there?", 12, MSG_DONTWAIT) == 12);
    int ending = -1;
    WORLD_UNTIL(&w, 300 * MS, (ending = world_ending(a, &got)) != -1);
    CHECK_EQ(ending, ECONNRESET);
    world_close_app(&a);
    world_close(&w);
}

/* ---- refused by ICMP ---- */

static void test_icmp_refuses_a_connect(void)
{
    world w;
    ks_profile p = world_profile();
    uint64_t got = 0;
    world_open(&w, 1, 20 * MS);
    int a = world_connect(&w, &p, NULL);
    world_unplug(&w, 0);
    int ending = -1;
    WORLD_UNTIL(&w, 2 * SECOND, (ending = world_ending(a, &got)) != -1);
    CHECK_EQ(ending, ECONNREFUSED);
    CHECK_EQ(got, 0); /* the filler of the pair is nobody's data */
    CHECK(world_poll(a) & POLLOUT);
    world_close_app(&a);
    world_close(&w);
}

static void test_unreachable_host_ends_a_connect(void)
{
    const int errors[] = {EHOSTUNREACH, ENETUNREACH};
    for (int e = 0; e < 2; e++) {
        world w;
        ks_profile p = world_profile();
        uint64_t got = 0;
        int ending = -1;
        world_open(&w, 1, 20 * MS);
        int a = world_connect(&w, &p, NULL);
        host_step_in(&w.host[CLIENT]);
        ks_session_refused(world_session(&w.host[CLIENT], a), errors[e]);
        WORLD_UNTIL(&w, SECOND, (ending = world_ending(a, &got)) != -1);
        CHECK_EQ(ending, errors[e]);
        world_close_app(&a);
        world_close(&w);
    }
}

static void test_icmp_resets_a_live_session_in_time(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    uint64_t got = 0;
    world_open(&w, 1, 20 * MS);
    world_pair(&w, &p, &a, &b);
    world_run(&w, SECOND);
    world_unplug(&w, 0);
    uint64_t from = w.now_us;
    CHECK(send(a, "anyone?", 7, MSG_DONTWAIT) == 7);
    int ending = -1;
    WORLD_UNTIL(&w, 10 * SECOND, (ending = world_ending(a, &got)) != -1);
    CHECK_EQ(ending, ECONNRESET);
    CHECK(ms_since(&w, from) >= 1000); /* one alone may be late, or forged */
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

/* Refusals with words from the peer in between mean nothing. */
static void test_icmp_of_a_moment_is_forgiven(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    world_open(&w, 1, 5 * MS);
    world_pair(&w, &p, &a, &b);
    for (int i = 0; i < 6; i++) {
        host_step_in(&w.host[CLIENT]);
        ks_session_refused(world_session(&w.host[CLIENT], a), ECONNREFUSED);
        world_run(&w, 300 * MS);
        if (i % 2 == 1) {
            CHECK(send(a, "x", 1, MSG_DONTWAIT) == 1);
            world_run(&w, 200 * MS);
        }
    }
    CHECK(world_session(&w.host[CLIENT], a) != NULL);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

/* The way to the peer may come back: what was sent arrives then. */
static void test_unreachable_host_ends_no_live_session(void)
{
    const int errors[] = {EHOSTUNREACH, ENETUNREACH};
    for (int e = 0; e < 2; e++) {
        world w;
        ks_profile p = world_profile();
        int a, b;
        char byte;
        world_open(&w, 1, 5 * MS);
        world_pair(&w, &p, &a, &b);
        net_piece *lost = net_add(&w.path[CLIENT], net_lose(NULL, 0, 10000));
        CHECK(send(a, "x", 1, MSG_DONTWAIT) == 1);
        for (int i = 0; i < 10; i++) {
            host_step_in(&w.host[CLIENT]);
            ks_session_refused(world_session(&w.host[CLIENT], a), errors[e]);
            world_run(&w, 300 * MS);
        }
        lost->b = 0;
        WORLD_UNTIL(&w, 10 * SECOND, recv(b, &byte, 1, MSG_DONTWAIT) == 1);
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

/* Who says nothing because it has nothing to say is asked, and its answer is a word as any. */
static void test_forged_icmp_does_not_end_a_quiet_session(void)
{
    for (int framing = KS_FRAMING_RAW; framing <= KS_FRAMING_SMUX; framing++)
        for (int at = 0; at < HOSTS; at++) {
            world w;
            ks_profile p = world_profile();
            int end[HOSTS];
            p.framing = framing;
            p.keepalive_ms = 0;
            world_open(&w, 1, 20 * MS);
            world_pair(&w, &p, &end[CLIENT], &end[SERVER]);
            world_run(&w, SECOND);
            for (int i = 0; i < 20 && world_session(&w.host[at], end[at]) != NULL; i++) {
                host_step_in(&w.host[at]);
                ks_session_refused(world_session(&w.host[at], end[at]), ECONNREFUSED);
                world_run(&w, 500 * MS);
            }
            const world_flow *f = world_flow_start(&w, end[at], end[!at], 10000);
            WORLD_UNTIL(&w, SECOND, flow_done(f));
            world_close_app(&end[CLIENT]);
            world_close_app(&end[SERVER]);
            world_close(&w);
        }
}

/* ---- silence ---- */

static void keep_idle(int32_t framing, uint64_t least, uint64_t most)
{
    world w;
    ks_profile p = world_profile();
    p.framing = framing;
    int a, b;
    world_open(&w, 1, 30 * MS);
    for (int i = 0; i < HOSTS; i++)
        (void)net_add(&w.path[i], net_loss(10));
    world_pair(&w, &p, &a, &b);
    uint64_t packets = world_sent(&w);
    world_run(&w, 30 * minute);
    packets = world_sent(&w) - packets;
    if (!CHECK(packets >= least && packets <= most))
        printf("%d packets\n", (int)packets);
    const world_flow *up = world_flow_start(&w, a, b, 10000), *down = world_flow_start(&w, b, a, 10000);
    WORLD_UNTIL(&w, SECOND, flow_done(up) && flow_done(down));
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

static void test_keepalive_keeps_an_idle_session(void)
{
    keep_idle(KS_FRAMING_SMUX, 2 * 175, 2 * 2 * 230); /* a NOP each way each 10 s, and its ACK; some twice */
    keep_idle(KS_FRAMING_RAW, 2 * 175, 2 * 2 * 230);  /* a challenge of one of them or both, and its answer */
}

static void fall_silent(int32_t framing)
{
    world w;
    ks_profile p = world_profile();
    p.framing = framing;
    int end[HOSTS], ending[HOSTS] = {-1, -1};
    uint64_t got = 0;
    world_open(&w, 1, 30 * MS);
    world_pair(&w, &p, &end[CLIENT], &end[SERVER]);
    world_run(&w, 3 * SECOND);
    for (int i = 0; i < HOSTS; i++)
        (void)net_add(&w.path[i], net_loss(100));
    world_run(&w, 26 * SECOND);
    CHECK(world_session(&w.host[CLIENT], end[CLIENT]) != NULL && world_session(&w.host[SERVER], end[SERVER]) != NULL);
    for (int i = 0; i < HOSTS; i++) {
        WORLD_UNTIL(&w, 12 * SECOND, (ending[i] = world_ending(end[i], &got)) != -1);
        CHECK_EQ(ending[i], ETIMEDOUT);
        world_close_app(&end[i]);
    }
    world_close(&w);
}

static void test_silent_peer_times_out(void)
{
    fall_silent(KS_FRAMING_SMUX);
    fall_silent(KS_FRAMING_RAW);
}

/* ---- what options say of silence ---- */

static void set_patience(world *w, int at, int fd, ks_patience patience)
{
    host_step_in(&w->host[at]);
    MUST(ks_stream_set_patience(world_stream(&w->host[at], fd), &patience) == KS_OK);
}

typedef struct {
    ks_patience patience;
    int32_t keepalive_ms;
    bool sends;                 /* something, when the network has just gone */
    uint64_t ends_ms, late_ms;  /* so long after the network goes; 0: it does not end, within a minute */
} impatience;

/* The client's options alone end its connection, and no server's. */
static void bear(int32_t framing, const impatience *c)
{
    world w;
    ks_profile p = world_profile();
    int a, b, ending = -1;
    uint64_t got = 0;
    p.framing = framing;
    p.keepalive_ms = c->keepalive_ms;
    p.keepalive_timeout_ms = 3600000;
    world_open(&w, 1, 20 * MS);
    world_pair(&w, &p, &a, &b);
    set_patience(&w, CLIENT, a, c->patience);
    world_run(&w, 2 * minute); /* of a peer that answers all is well */
    CHECK_EQ(world_ending(a, &got), -1);
    for (int i = 0; i < HOSTS; i++)
        (void)net_add(&w.path[i], net_loss(100));
    CHECK(!c->sends || send(a, "lost", 4, MSG_DONTWAIT) == 4);
    uint64_t since = w.now_us;
    WORLD_UNTIL(&w, minute, c->ends_ms == 0 ? ms_since(&w, since) >= 60000 : (ending = world_ending(a, &got)) != -1);
    CHECK_EQ(ending, c->ends_ms == 0 ? -1 : ETIMEDOUT);
    if (!CHECK(c->ends_ms == 0 || (ms_since(&w, since) >= c->ends_ms && ms_since(&w, since) <= c->late_ms)))
        printf("framing %d, {%u, %u, %u, %u}: %u ms\n", framing, c->patience.idle_ms, c->patience.interval_ms, c->patience.silence_ms,
               c->patience.unacked_ms, (unsigned)ms_since(&w, since));
    CHECK(world_session(&w.host[SERVER], b) != NULL);
    world_close_app(&a);
    world_close_app(&b);
    host_step_in(&w.host[SERVER]);
    if (world_session(&w.host[SERVER], b) == NULL && w.host[SERVER].core->sessions != NULL)
        ks_session_fail(w.host[SERVER].core->sessions, 0); /* or it would lose an hour */
    if (w.host[CLIENT].core->sessions != NULL) {
        host_step_in(&w.host[CLIENT]);
        ks_session_fail(w.host[CLIENT].core->sessions, 0);
    }
    world_close(&w);
}

/* Idle, the latest word was up to a period ago: an end may come as much sooner after the network's. */
static void test_options_end_a_silent_connection(void)
{
    static const impatience cases[] = {
        {{.idle_ms = 1000, .interval_ms = 1000, .silence_ms = 3000}, 10000, false, 2000, 3000},
        {{.idle_ms = 1000, .interval_ms = 1000, .silence_ms = 3000}, 10000, true, 2000, 3000},
        {{.idle_ms = 5000, .interval_ms = 20000, .silence_ms = 45000}, 10000, false, 40000, 45000},
        /* As TCP_USER_TIMEOUT: of data, not of an idle connection that nobody asks about. */
        {{.unacked_ms = 3000}, 10000, true, 3000, 3100},
        {{.unacked_ms = 3000}, 0, true, 3000, 3100},
        {{.unacked_ms = 40000}, 0, true, 40000, 40100}, /* longer than what is lost without options */
        {{.unacked_ms = 3000}, 0, false, 0, 0},
        {{.unacked_ms = 3000}, 10000, false, 3000, 13100},
        /* It wins over the keepalive's, if one question at least was asked. */
        {{.idle_ms = 1000, .interval_ms = 1000, .silence_ms = 3000, .unacked_ms = 8000}, 10000, false, 7000, 8000},
        {{.idle_ms = 2000, .interval_ms = 2000, .silence_ms = 30000, .unacked_ms = 500}, 10000, false, 500, 2500},
        {{.idle_ms = 1000, .interval_ms = 1000, .silence_ms = 3000, .unacked_ms = 8000}, 10000, true, 7000, 8100},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bear(KS_FRAMING_SMUX, &cases[i]);
        bear(KS_FRAMING_RAW, &cases[i]);
    }
}

/* Who asks each second asks each second, and not more often. */
static void test_options_ask_as_often_as_they_say(void)
{
    for (int framing = KS_FRAMING_RAW; framing <= KS_FRAMING_SMUX; framing++) {
        world w;
        ks_profile p = world_profile();
        int a, b;
        p.framing = framing;
        p.keepalive_ms = 1000000;
        p.keepalive_timeout_ms = 3000000;
        world_open(&w, 1, 20 * MS);
        world_pair(&w, &p, &a, &b);
        world_run(&w, minute);
        uint64_t packets = world_sent(&w);
        set_patience(&w, SERVER, b, (ks_patience){.idle_ms = 1000, .interval_ms = 1000, .silence_ms = 3000});
        world_run(&w, minute);
        packets = world_sent(&w) - packets;
        if (!CHECK(packets >= 2 * 55 && packets <= 2 * 61)) /* a question and its answer each */
            printf("%d packets\n", (int)packets);
        set_patience(&w, SERVER, b, (ks_patience){0});
        CHECK(world_stream(&w.host[SERVER], b)->patience == NULL);
        world_run(&w, SECOND);
        packets = world_sent(&w);
        world_run(&w, minute);
        CHECK(world_sent(&w) - packets <= 2);
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

/* An option acts at once: also on a connection that has been silent for longer than it allows. */
static void test_option_acts_on_silence_that_was(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b, ending = -1;
    uint64_t got = 0;
    world_open(&w, 1, 20 * MS);
    world_pair(&w, &p, &a, &b);
    (void)net_add(&w.path[SERVER], net_loss(100));
    CHECK(send(a, "lost", 4, MSG_DONTWAIT) == 4);
    world_run(&w, 5 * SECOND);
    CHECK_EQ(world_ending(a, &got), -1);
    set_patience(&w, CLIENT, a, (ks_patience){.unacked_ms = 3000});
    WORLD_UNTIL(&w, 10 * MS, (ending = world_ending(a, &got)) != -1);
    CHECK_EQ(ending, ETIMEDOUT);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

/* connect() to nobody: as long as its option says, or data's, not as long as without. */
static void test_options_end_a_connect(void)
{
    static const struct {
        ks_patience patience;
        uint64_t ends_ms;
    } cases[] = {{{.connect_ms = 3000}, 3000}, {{.connect_ms = 63000}, 63000}, {{.connect_ms = 7000, .unacked_ms = 2000}, 2000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world w;
        ks_profile p = world_profile();
        int ending = -1;
        uint64_t got = 0;
        world_open(&w, 1, 20 * MS);
        (void)net_add(&w.path[CLIENT], net_loss(100));
        world_listen(&w, &p, NULL, 1);
        int a = world_connect(&w, &p, NULL);
        uint64_t since = w.now_us;
        set_patience(&w, CLIENT, a, cases[i].patience);
        WORLD_UNTIL(&w, 2 * minute, (ending = world_ending(a, &got)) != -1);
        CHECK_EQ(ending, ETIMEDOUT);
        if (!CHECK(ms_since(&w, since) >= cases[i].ends_ms && ms_since(&w, since) <= cases[i].ends_ms + 100))
            printf("%u ms\n", (unsigned)ms_since(&w, since));
        world_close_app(&a);
        world_close(&w);
    }
}

/* Such a connect that succeeds is a connection as any. */
static void test_options_of_a_connect_end_with_it(void)
{
    world w;
    ks_profile p = world_profile();
    uint64_t got = 0;
    int b = -1;
    world_open(&w, 1, 20 * MS);
    world_listen(&w, &p, NULL, 1);
    int a = world_connect(&w, &p, NULL);
    set_patience(&w, CLIENT, a, (ks_patience){.connect_ms = 3000});
    WORLD_UNTIL(&w, SECOND, (world_poll(a) & POLLOUT) && world_accepted(&w, &b));
    (void)net_add(&w.path[CLIENT], net_loss(100));
    CHECK(send(a, "lost", 4, MSG_DONTWAIT) == 4);
    world_run(&w, 10 * SECOND);
    CHECK_EQ(world_ending(a, &got), -1);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

/* Streams of one session: who is patient outlives who is not. */
static void test_options_end_their_own_stream(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b, second = -1, ending = -1;
    uint64_t got = 0;
    world_open(&w, 1, 20 * MS);
    world_pair(&w, &p, &a, &b);
    host_step_in(&w.host[CLIENT]);
    ks_session *s = world_session(&w.host[CLIENT], a);
    ks_session_put_frame(s, KS_SMUX_SYN, 3); /* as a peer of many streams */
    ks_session_mark(s);
    WORLD_UNTIL(&w, SECOND, world_accepted(&w, &second));
    set_patience(&w, SERVER, second, (ks_patience){.idle_ms = 1000, .interval_ms = 1000, .silence_ms = 3000});
    world_run(&w, minute);
    CHECK_EQ(world_ending(second, &got), -1);
    net_piece *gone = net_add(&w.path[CLIENT], net_loss(100));
    WORLD_UNTIL(&w, 3 * SECOND, (ending = world_ending(second, &got)) != -1);
    CHECK_EQ(ending, ETIMEDOUT);
    world_close_app(&second);
    CHECK_EQ(world_ending(b, &got), -1);
    world_run(&w, 5 * SECOND);
    CHECK_EQ(world_ending(b, &got), -1);
    *gone = net_loss(0);
    const world_flow *up = world_flow_start(&w, a, b, 1000);
    WORLD_UNTIL(&w, 10 * SECOND, flow_done(up));
    /* The first one is as patient as the profile again. */
    uint64_t packets = world_sent(&w);
    world_run(&w, minute);
    CHECK(world_sent(&w) - packets <= 30);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

static void stop_and_resume(int32_t framing, int32_t keepalive_ms, int32_t timeout_ms, bool flowing)
{
    world w;
    ks_profile p = world_profile();
    int end[HOSTS], ending[HOSTS] = {-1, -1};
    uint64_t got = 0;
    p.framing = framing;
    p.keepalive_ms = keepalive_ms;
    p.keepalive_timeout_ms = timeout_ms;
    world_open(&w, 1, 30 * MS);
    world_pair(&w, &p, &end[CLIENT], &end[SERVER]);
    world_run(&w, 3 * SECOND);
    const world_flow *up = NULL, *down = NULL;
    if (flowing) {
        up = world_flow_start(&w, end[CLIENT], end[SERVER], 4 << 20);
        down = world_flow_start(&w, end[SERVER], end[CLIENT], 4 << 20);
        world_run(&w, 50 * MS);
        CHECK(!flow_done(up) && !flow_done(down));
    }
    w.now_us += 100 * SECOND;
    world_run(&w, (uint64_t)timeout_ms * 3 * MS);
    if (!flowing) {
        up = world_flow_start(&w, end[CLIENT], end[SERVER], 1000);
        down = world_flow_start(&w, end[SERVER], end[CLIENT], 1000);
    }
    WORLD_UNTIL(&w, 20 * SECOND, flow_done(up) && flow_done(down));

    for (int i = 0; i < HOSTS; i++)
        (void)net_add(&w.path[i], net_loss(100));
    world_run(&w, 100 * MS);
    w.now_us += 100 * SECOND;
    world_run(&w, (uint64_t)timeout_ms * MS * 8 / 10);
    for (int i = 0; i < HOSTS; i++)
        CHECK_EQ(world_ending(end[i], &got), -1);
    for (int i = 0; i < HOSTS; i++) {
        WORLD_UNTIL(&w, (uint64_t)timeout_ms * MS, (ending[i] = world_ending(end[i], &got)) != -1);
        CHECK_EQ(ending[i], ETIMEDOUT);
        world_close_app(&end[i]);
    }
    world_close(&w);
}

/* As of a process that is stopped, or a machine that sleeps: after it the peer has its whole time to answer. */
static void test_a_stop_is_no_silence(void)
{
    for (int32_t framing = KS_FRAMING_RAW; framing <= KS_FRAMING_SMUX; framing++)
        for (int flowing = 0; flowing < 2; flowing++) {
            stop_and_resume(framing, 10000, 30000, flowing);
            stop_and_resume(framing, 500, 2000, flowing);
        }
}

/* Who knows addresses and conversation, and the sequence numbers too, has not seen what the refusal claims to answer. */
static void test_forged_refusals_end_nothing(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b, ending = -1;
    uint64_t got = 0;
    world_open(&w, 1, 10 * MS);
    world_pair(&w, &p, &a, &b);
    world_run(&w, SECOND);
    const ks_session *s = world_session(&w.host[CLIENT], a);
    uint8_t refusal[KS_KCP_HEAD + KS_SMUX_HEAD] = {0};
    ks_put_le32(refusal, s->kcp.cfg.conv);
    refusal[4] = KS_KCP_PUSH;
    ks_put_le32(refusal + 12, s->kcp.rcv_nxt - 1);
    ks_put_le32(refusal + 20, KS_SMUX_HEAD);
    ks_smux_head(refusal + KS_KCP_HEAD, 2, KS_SMUX_FIN, 0, 0);
    const world_route *r = &w.routes[0];
    (void)net_add(&w.path[CLIENT], net_loss(100)); /* so that something is under way, ... */
    for (int sent = 0; sent < 2; sent++) {         /* ... the second time */
        for (uint32_t n = 0; n < 500; n++) {
            ks_put_le32(refusal + 8, (uint32_t)(w.now_us / 1000) + 1 + n * 8000000u);
            MUST(sendto(r->fd, refusal, sizeof refusal, 0, &r->client.sa, sizeof r->client.in4) == sizeof refusal);
            world_run(&w, MS);
        }
        CHECK_EQ(world_ending(a, &got), -1);
        CHECK(send(a, "hello", 5, MSG_DONTWAIT) == 5);
        world_run(&w, 10 * MS);
    }
    ks_put_le32(refusal + 8, (*ks_ring_at(&s->kcp.snd, s->kcp.snd_una))->ts + s->kcp.cfg.secret); /* as who has seen it answers */
    MUST(sendto(r->fd, refusal, sizeof refusal, 0, &r->client.sa, sizeof r->client.in4) == sizeof refusal);
    WORLD_UNTIL(&w, SECOND, (ending = world_ending(a, &got)) != -1);
    CHECK_EQ(ending, ECONNRESET);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

/* On a short path an adaptive sender asks a hundred times a second for a word, and not for ever. */
static void test_questions_have_an_end(void)
{
    world w;
    ks_profile p = world_profile();
    p.adaptive = 1;
    int a, b;
    world_open(&w, 1, 100);
    world_pair(&w, &p, &a, &b);
    world_run(&w, SECOND);
    (void)net_add(&w.path[CLIENT], net_loss(100));
    CHECK(send(a, "there?", 6, MSG_DONTWAIT) == 6);
    world_run(&w, 5 * SECOND);
    const ks_session *s = world_session(&w.host[CLIENT], a);
    MUST(s != NULL && s->kcp.sender != NULL);
    CHECK_EQ(s->kcp.sender->asks, 64);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

/* What it sends itself prolongs nothing: data waits for it to acknowledge. */
static void test_peer_that_speaks_and_hears_nothing_times_out(void)
{
    for (int framing = KS_FRAMING_RAW; framing <= KS_FRAMING_SMUX; framing++) {
        world w;
        ks_profile p = world_profile();
        int a, b, ending = -1;
        uint64_t got = 0;
        p.framing = framing;
        world_open(&w, 1, 30 * MS);
        world_pair(&w, &p, &a, &b);
        world_run(&w, SECOND);
        (void)net_add(&w.path[CLIENT], net_loss(100));
        CHECK(send(a, "there?", 6, MSG_DONTWAIT) == 6);
        world_run(&w, 15 * SECOND); /* it speaks on until its own timeout */
        WORLD_UNTIL(&w, 27 * SECOND, (ending = world_ending(a, &got)) != -1);
        CHECK_EQ(ending, ETIMEDOUT);
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

/* A question, and after a long while an answer that is more than an unproven address may be sent at once: the peer was
 * silent because it waited, not because it is gone. */
static void test_late_answer_of_an_accepted_session(void)
{
    for (int framing = KS_FRAMING_RAW; framing <= KS_FRAMING_SMUX; framing++) {
        world w;
        ks_profile p = world_profile();
        int a, b;
        p.framing = framing;
        p.keepalive_ms = 0;
        world_open(&w, 1, 20 * MS);
        world_pair(&w, &p, &a, &b);
        world_run(&w, 2 * minute);
        const world_flow *answer = world_flow_start(&w, b, a, 100000);
        WORLD_UNTIL(&w, 5 * SECOND, flow_done(answer));
        world_close_app(&a);
        world_close_app(&b);
        world_close(&w);
    }
}

/* What was sent twenty times is acknowledged at last: the peer is as alive as any, and may be idle. */
static void test_outage_that_is_over_is_forgotten(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    p.framing = KS_FRAMING_RAW;
    p.keepalive_ms = 0; /* whose timeout would end it */
    world_open(&w, 1, 20 * MS);
    world_pair(&w, &p, &a, &b);
    const world_flow *down = world_flow_start(&w, b, a, 1000), *up = NULL;
    WORLD_UNTIL(&w, SECOND, flow_done(down));
    net_piece *lost = net_add(&w.path[CLIENT], net_lose(is_push, 0, 10000));
    up = world_flow_start(&w, a, b, 1000);
    for (int i = 0; i < 10; i++) { /* the peer is heard meanwhile */
        CHECK(send(b, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1);
        world_run(&w, 6 * SECOND);
    }
    lost->b = 0;
    WORLD_UNTIL(&w, 5 * SECOND, flow_done(up));
    world_run(&w, 5 * minute);
    CHECK(world_session(&w.host[CLIENT], a) != NULL && world_session(&w.host[SERVER], b) != NULL);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

static void test_connect_to_nobody_times_out(void)
{
    world w;
    ks_profile p = world_profile();
    uint64_t got = 0;
    int ending = -1;
    world_open(&w, 1, 30 * MS);
    (void)net_add(&w.path[CLIENT], net_loss(100));
    int a = world_connect(&w, &p, NULL);
    world_run(&w, 10 * SECOND);
    CHECK(world_ending(a, &got) == -1 && (world_poll(a) & POLLOUT) == 0);
    WORLD_UNTIL(&w, 10 * minute, (ending = world_ending(a, &got)) != -1);
    CHECK_EQ(ending, ETIMEDOUT);
    world_close_app(&a);
    world_close(&w);
}

static void test_connect_through_loss(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    world_open(&w, 1, 30 * MS);
    (void)net_add(&w.path[CLIENT], net_lose(NULL, 0, 2)); /* the SYN, twice */
    (void)net_add(&w.path[SERVER], net_lose(NULL, 0, 1)); /* and its acknowledgment */
    uint64_t from = w.now_us;
    world_pair(&w, &p, &a, &b);
    CHECK(ms_since(&w, from) < 2500);
    CHECK_EQ(sessions_of(&w, SERVER), 1);
    CHECK(host_accept(w.listener) == -1); /* once */
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

static void test_idle_session_gives_memory_back(void)
{
    world w;
    ks_profile p = world_profile();
    int a, b;
    p.fec_data = 3;
    p.fec_parity = 1;
    p.keepalive_ms = 0;
    p.sndwnd_pkts = p.rcvwnd_pkts = 1024;
    world_open(&w, 1, 50 * MS);
    (void)net_add(&w.path[CLIENT], net_line(10000000, 3000000));
    world_pair(&w, &p, &a, &b);
    world_run(&w, 5 * SECOND);
    uint64_t idle = ks_mem_used();
    const world_flow *up = world_flow_start(&w, a, b, 5000000);
    WORLD_UNTIL(&w, minute, flow_done(up));
    CHECK(ks_mem_used() > idle + 2 * 8192); /* the rings alone */
    world_run(&w, 5 * SECOND);
    CHECK(ks_mem_used() <= idle + 4096);
    world_close_app(&a);
    world_close_app(&b);
    world_close(&w);
}

/* ---- at exit ---- */

/* What an application has written arrives, though its process ends; the peer is told that it is over. */
static void test_exit_tells_the_peer(void)
{
    for (int first = 0; first < HOSTS; first++) {
        world w;
        ks_profile p = world_profile();
        int end[HOSTS];
        uint64_t got = 0;
        world_open(&w, 1, 20 * MS);
        (void)net_add(&w.path[first], net_loss(10));
        world_pair(&w, &p, &end[CLIENT], &end[SERVER]);
        world_flow *f = world_flow_start(&w, end[first], end[!first], 50000);
        f->paused = true;
        WORLD_UNTIL(&w, SECOND, f->sent == f->size);
        host_step_in(&w.host[first]);
        w.host[first].leaving = true;
        int ending = -1;
        WORLD_UNTIL(&w, 5 * SECOND, (ending = world_ending(end[!first], &got)) != -1);
        CHECK_EQ(got, 50000);
        CHECK_EQ(ending, 0);
        WORLD_UNTIL(&w, 5 * SECOND, !w.host[first].leaving);
        /* Before its process goes it has said farewell, or its peer may say it: nobody waits for keepalive. */
        world_close_app(&end[!first]);
        WORLD_UNTIL(&w, SECOND, sessions_of(&w, CLIENT) == 0);
        WORLD_UNTIL(&w, 4 * SECOND, sessions_of(&w, SERVER) == 0);
        world_close_app(&end[first]);
        world_close(&w);
    }
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_half_close), TEST(test_close_by_either_end), TEST(test_close_waits_for_what_was_sent),
        TEST(test_close_gives_up), TEST(test_close_over_unread_data), TEST(test_peer_that_never_closes),
        TEST(test_close_before_the_peers_last_words), TEST(test_linger_waits_for_acknowledgments),
        TEST(test_counts_stay_when_sessions_end), TEST(test_connect_given_up), TEST(test_reset_by_linger_0),
        TEST(test_reset_is_not_halved_by_a_lost_packet),
        TEST(test_data_for_a_closed_end_is_a_reset), TEST(test_forgotten_session_is_refused),
        TEST(test_icmp_refuses_a_connect), TEST(test_icmp_resets_a_live_session_in_time),
        TEST(test_unreachable_host_ends_a_connect), TEST(test_unreachable_host_ends_no_live_session),
        TEST(test_icmp_of_a_moment_is_forgiven), TEST(test_forged_icmp_does_not_end_a_quiet_session),
        TEST(test_keepalive_keeps_an_idle_session), TEST(test_silent_peer_times_out),
        TEST(test_options_end_a_silent_connection), TEST(test_options_ask_as_often_as_they_say), TEST(test_option_acts_on_silence_that_was),
        TEST(test_options_end_a_connect), TEST(test_options_of_a_connect_end_with_it), TEST(test_options_end_their_own_stream),
        TEST(test_a_stop_is_no_silence), TEST(test_questions_have_an_end),
        TEST(test_peer_that_speaks_and_hears_nothing_times_out),
        TEST(test_forged_refusals_end_nothing),
        TEST(test_late_answer_of_an_accepted_session), TEST(test_outage_that_is_over_is_forgotten),
        TEST(test_connect_to_nobody_times_out), TEST(test_connect_through_loss), TEST(test_idle_session_gives_memory_back),
        TEST(test_exit_tells_the_peer),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
