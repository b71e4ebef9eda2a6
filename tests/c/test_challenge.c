/* SPDX-License-Identifier: MIT */
/* The proof of an address: the hash behind cookies, cookies, and a listener that more strangers come to than it keeps in mind. */
#include "world.h"

#include "session/challenge.h"

enum { PUSH = KS_KCP_PUSH, FULL = 1024 };

/* The vectors of SipHash' authors: key 00 01 ... 0f, data 00 01 ... */
static void test_siphash(void)
{
    static const struct {
        size_t size;
        uint64_t hash;
    } known[] = {{0, 0x726fdb47dd0e0e31u}, {1, 0x74f839c593dc67fdu}, {7, 0xab0200f58b01d137u}, {8, 0x93f5f5799a932462u},
                 {15, 0xa129ca6149be45e5u}, {16, 0x3f2acc7f57c29bdbu}, {63, 0x958a324ceb064572u}};
    ks_siphash_key key;
    uint8_t data[64];
    for (uint8_t i = 0; i < 16; i++)
        key.bytes[i] = i;
    for (uint8_t i = 0; i < 64; i++)
        data[i] = i;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        CHECK_EQ(ks_siphash(&key, data, known[i].size), known[i].hash);
}

static ks_addr address(uint32_t ip, uint16_t port)
{
    ks_addr a;
    memset(&a, 0, sizeof a);
    a.in4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)};
    return a;
}

static void test_cookie_is_for_one_peer_and_a_short_time(void)
{
    ks_siphash_key secret = {"a secret of our"}, other = {"another, theirs"};
    const ks_addr peer = address(0x7f000001, 1000), near = address(0x7f000001, 1001), far = address(0x7f000002, 1000);
    for (uint64_t now = 0; now < 3 * KS_COOKIE_MS; now += 777) {
        uint32_t cookie = ks_cookie(&secret, &peer, 7, now);
        CHECK(ks_cookie_is_good(&secret, &peer, 7, now, cookie));
        CHECK(ks_cookie_is_good(&secret, &peer, 7, now + KS_COOKIE_MS, cookie));
        CHECK(!ks_cookie_is_good(&secret, &peer, 7, now + 2 * KS_COOKIE_MS, cookie));
        CHECK(!ks_cookie_is_good(&secret, &peer, 8, now, cookie));
        CHECK(!ks_cookie_is_good(&secret, &near, 7, now, cookie));
        CHECK(!ks_cookie_is_good(&secret, &far, 7, now, cookie));
        CHECK(!ks_cookie_is_good(&other, &peer, 7, now, cookie));
        CHECK(!ks_cookie_is_good(&secret, &peer, 7, now, cookie ^ 1));
    }
}

static void test_answers_are_found_in_any_bytes(void)
{
    uint8_t packet[3 * KS_KCP_HEAD + 5];
    uint32_t cookie = 0;
    ks_challenge_write(packet, 7, 32, 0xabcdef01);
    CHECK(!ks_challenge_find_untrusted(packet, KS_KCP_HEAD, &cookie)); /* it is the question */
    packet[4] = KS_KCP_ACK;
    CHECK(ks_challenge_find_untrusted(packet, KS_KCP_HEAD, &cookie) && cookie == 0xabcdef01);
    /* Behind a segment with data. */
    memmove(packet + KS_KCP_HEAD + 5, packet, KS_KCP_HEAD);
    memset(packet, 0, KS_KCP_HEAD + 5);
    packet[4] = PUSH;
    packet[20] = 5;
    CHECK(ks_challenge_find_untrusted(packet, 2 * KS_KCP_HEAD + 5, &cookie));
    CHECK(!ks_challenge_find_untrusted(packet, 2 * KS_KCP_HEAD + 4, &cookie)); /* cut */
    ks_put_le32(packet + 20, UINT32_MAX);
    CHECK(!ks_challenge_find_untrusted(packet, 2 * KS_KCP_HEAD + 5, &cookie));
}

/* A SYN, and behind it NOPs. */
static void opening(world *w, world_route *x, uint32_t conv, uint32_t frames)
{
    uint8_t packet[KS_KCP_HEAD + 16 * KS_SMUX_HEAD] = {0};
    MUST(frames <= 16);
    ks_put_le32(packet, conv);
    packet[4] = PUSH;
    ks_put_le16(packet + 6, 32);
    ks_put_le32(packet + 20, frames * KS_SMUX_HEAD);
    for (uint32_t i = 0; i < frames; i++)
        ks_smux_head(packet + KS_KCP_HEAD + i * KS_SMUX_HEAD, 2, i == 0 ? KS_SMUX_SYN : KS_SMUX_NOP, 0, i == 0 ? 1 : 0);
    world_stranger_send(w, x, packet, KS_KCP_HEAD + frames * KS_SMUX_HEAD);
    world_run(w, MS); /* or a thousand challenges would be due at one moment, more than a socket's buffer takes */
}

static void syn(world *w, world_route *x, uint32_t conv)
{
    opening(w, x, conv, 1);
}

/* Their packets share a bound: with many of them each has a few. */
static void test_strangers_packets_are_bounded(void)
{
    world w;
    ks_profile p = world_profile();
    world_open(&w, 1, 10 * MS);
    world_listen(&w, &p, NULL, 5);
    world_route *x = world_stranger(&w);
    for (uint32_t conv = 1; conv <= FULL; conv++)
        syn(&w, x, conv);
    const ks_session *s = w.host[SERVER].ports->all->half_open_oldest;
    CHECK_EQ(s->kcp.cfg.conv, 1);
    for (uint32_t sn = 1; sn < 100; sn++) {
        uint8_t packet[KS_KCP_HEAD + 1000] = {0};
        ks_put_le32(packet, 1);
        packet[4] = PUSH;
        ks_put_le32(packet + 12, sn);
        ks_put_le32(packet + 20, 1000);
        world_stranger_send(&w, x, packet, sizeof packet);
    }
    CHECK_EQ(s->kcp.rcv_nxt, 8192 / FULL);
    world_run(&w, 60 * SECOND);
    world_close(&w);
}

/* As many half-open sessions as there may be: further openers get a cookie and leave nothing, until one answers it. */
static void test_full_of_strangers(void)
{
    world w;
    ks_profile p = world_profile();
    world_open(&w, 1, 10 * MS);
    world_listen(&w, &p, NULL, 5);
    world_route *x = world_stranger(&w), *honest = world_stranger(&w);
    const ks_core *core = w.host[SERVER].core;
    for (uint32_t conv = 1; conv <= FULL; conv++)
        syn(&w, x, conv);
    CHECK_EQ(core->session_count, FULL);
    uint64_t held = ks_mem_used();
    for (uint32_t conv = FULL + 1; conv <= 3 * FULL; conv++)
        syn(&w, x, conv);
    CHECK_EQ(core->session_count, FULL);
    CHECK_EQ(core->count.cookies_sent, 2 * FULL);
    CHECK(ks_mem_used() <= held + 4096);

    syn(&w, honest, 77);
    CHECK_EQ(core->session_count, FULL);
    uint32_t cookie = ks_get_le32(honest->challenge + 8);
    world_stranger_proves(&w, honest); /* the cookie, ... */
    CHECK_EQ(core->session_count, FULL + 1);
    CHECK(ks_get_le32(honest->challenge + 8) != cookie);
    CHECK(host_accept(w.listener) < 0);
    world_stranger_proves(&w, honest); /* ... and the session's own challenge; the SYN comes again by its timeout */
    syn(&w, honest, 77);
    int fd = host_accept(w.listener);
    CHECK(fd >= 0);
    close(fd);

    /* A real client beside them. */
    int a = world_connect(&w, &p, NULL), b = -1;
    WORLD_UNTIL(&w, SECOND, world_accepted(&w, &b));
    world_run(&w, 20 * MS);
    CHECK((world_poll(a) & POLLOUT) != 0);
    world_close_app(&a);
    world_close_app(&b);
    world_run(&w, 60 * SECOND);
    CHECK_EQ(core->session_count, 0);
    world_close(&w);
}

/* Among many strangers each may send a few packets; who has proved itself, all that its window has room for. */
static void test_proof_opens_the_window(void)
{
    world w;
    ks_profile p = world_profile();
    int b = -1;
    world_open(&w, 1, 20 * MS);
    world_listen(&w, &p, NULL, 5);
    world_route *x = world_stranger(&w);
    for (uint32_t conv = 1; conv < FULL; conv++)
        syn(&w, x, conv);
    int a = world_connect(&w, &p, NULL);
    WORLD_UNTIL(&w, SECOND, world_accepted(&w, &b) && (world_poll(a) & POLLOUT));
    CHECK(w.host[SERVER].ports->all->half_open >= FULL - 1);
    const world_flow *f = world_flow_start(&w, a, b, 500000); /* windows of 128 packets, each at one moment */
    WORLD_UNTIL(&w, SECOND, flow_done(f));
    CHECK_EQ(world_session(&w.host[CLIENT], a)->kcp.count.retrans_segs, 0);
    world_close_app(&a);
    world_close_app(&b);
    world_run(&w, 60 * SECOND);
    world_close(&w);
}

/* All of a port's half-open sessions, oldest first. */
static bool is_half_open(const world *w, uint32_t conv)
{
    for (const ks_session *s = w->host[SERVER].ports->all->half_open_oldest; s != NULL; s = s->half_open_next)
        if (s->kcp.cfg.conv == conv)
            return true;
    return false;
}

/* As who has heard the cookie that it gets now, so many times in one packet. */
static void answer_cookie(world *w, world_route *x, uint32_t conv, size_t times)
{
    const ks_core *core = w->host[SERVER].core;
    uint8_t packet[16 * KS_KCP_HEAD];
    MUST(times <= 16);
    for (size_t i = 0; i < times; i++) {
        ks_challenge_write(packet + i * KS_KCP_HEAD, conv, 32, ks_cookie(&core->secret, &x->name, conv, core->now_ms));
        packet[i * KS_KCP_HEAD + 4] = KS_KCP_ACK;
    }
    world_stranger_send(w, x, packet, times * KS_KCP_HEAD);
    world_run(w, MS);
}

/* max_half_open 0: nothing is kept of who has not answered a cookie; and a real client connects all the same. */
static void test_nothing_before_a_cookie_is_answered(void)
{
    world w;
    ks_profile p = world_profile();
    int b = -1;
    p.max_half_open = 0;
    world_open(&w, 1, 10 * MS);
    world_listen(&w, &p, NULL, 5);
    world_route *x = world_stranger(&w);
    const ks_core *core = w.host[SERVER].core;
    uint64_t held = ks_mem_used();
    for (uint32_t conv = 1; conv <= 100; conv++)
        syn(&w, x, conv);
    CHECK_EQ(core->session_count, 0);
    CHECK_EQ(core->count.cookies_sent, 100);
    CHECK_EQ(core->count.passive_opens, 0);
    CHECK_EQ(core->count.backlog_drops, 0);
    CHECK_EQ(ks_mem_used(), held);
    /* One round trip more than without, not a retransmission's timeout: the SYN goes again with the answer. */
    p.adaptive = 1;
    int a = world_connect(&w, &p, NULL);
    WORLD_UNTIL(&w, 42 * MS, world_poll(a) & POLLOUT);
    WORLD_UNTIL(&w, 10 * MS, world_accepted(&w, &b));
    CHECK_EQ(core->count.passive_opens, 1);
    CHECK_EQ(core->count.cookies_sent, 101);
    const world_flow *f = world_flow_start(&w, a, b, 10000);
    WORLD_UNTIL(&w, SECOND, flow_done(f));
    /* One whose sender is KCP's own waits for its timeout. */
    p.adaptive = 0;
    int a2 = world_connect(&w, &p, NULL), b2 = -1;
    WORLD_UNTIL(&w, SECOND, world_accepted(&w, &b2) && (world_poll(a2) & POLLOUT));
    world_close_app(&a);
    world_close_app(&b);
    world_close_app(&a2);
    world_close_app(&b2);
    world_close(&w);
}

static bool ends_with_farewell(const world_route *x)
{
    uint8_t farewell[KS_SMUX_HEAD];
    ks_smux_head(farewell, 2, KS_SMUX_FIN, 0, 0);
    return x->answer_size >= KS_KCP_HEAD + KS_SMUX_HEAD &&
           memcmp(x->answer + x->answer_size - KS_SMUX_HEAD, farewell, KS_SMUX_HEAD) == 0;
}

/* Those who have answered a cookie, and then do no more, have 1024 places: the next one has the oldest's. */
static void test_the_oldest_gives_way(void)
{
    world w;
    ks_profile p = world_profile();
    p.max_half_open = 3;
    world_open(&w, 1, 0);
    world_listen(&w, &p, NULL, 5);
    world_route *oldest = world_stranger(&w), *mute = world_stranger(&w);
    world_route *x = world_stranger(&w), *honest = world_stranger(&w);
    const ks_core *core = w.host[SERVER].core;
    const uint32_t most = 3 + FULL;
    opening(&w, oldest, 1, 16); /* as long as a client makes it: there is credit left for a last word */
    for (uint32_t conv = 2; conv <= 3; conv++)
        syn(&w, x, conv);
    answer_cookie(&w, mute, 4, 16); /* likewise */
    for (uint32_t conv = 5; conv <= most; conv++)
        answer_cookie(&w, x, conv, 1);
    CHECK_EQ(core->session_count, most);
    syn(&w, honest, 7777); /* no opener takes anybody's place by itself */
    CHECK_EQ(core->count.cookies_sent, 1);
    CHECK_EQ(core->session_count, most);
    CHECK(is_half_open(&w, 1));
    world_stranger_proves(&w, honest);
    CHECK_EQ(core->session_count, most);
    CHECK(!is_half_open(&w, 1) && is_half_open(&w, 2) && is_half_open(&w, 7777));
    /* What it had sent was acknowledged, so it is told. */
    CHECK(ends_with_farewell(oldest));
    world_stranger_proves(&w, honest);
    syn(&w, honest, 7777);
    int fd = host_accept(w.listener);
    CHECK(fd >= 0);
    world_close_app(&fd);
    /* Of one that has only answered a cookie nothing was: its first packet comes again, and gets another one. */
    for (uint32_t conv = most + 1; conv <= most + 4; conv++)
        answer_cookie(&w, x, conv, 1);
    CHECK_EQ(w.host[SERVER].ports->all->half_open, most);
    CHECK(!is_half_open(&w, 4) && is_half_open(&w, 5));
    CHECK(mute->answers > 0 && !ends_with_farewell(mute));
    world_run(&w, 11 * SECOND);
    CHECK_EQ(w.host[SERVER].ports->all->half_open, 0);
    world_close(&w);
}

/* A challenge that gets lost, or its answer, is asked again; what is answered late counts too. */
static void test_lost_challenges_are_asked_again(void)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        world w;
        ks_profile p = world_profile();
        int b = -1;
        world_open(&w, seed, 25 * MS);
        for (int i = 0; i < HOSTS; i++)
            (void)net_add(&w.path[i], net_loss(30));
        world_listen(&w, &p, NULL, 5);
        int a = world_connect(&w, &p, NULL);
        WORLD_UNTIL(&w, 10 * SECOND, world_accepted(&w, &b));
        world_close_app(&a);
        world_close_app(&b);
        world_run(&w, 90 * SECOND);
        world_close(&w);
    }
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_siphash), TEST(test_cookie_is_for_one_peer_and_a_short_time), TEST(test_answers_are_found_in_any_bytes),
        TEST(test_full_of_strangers), TEST(test_strangers_packets_are_bounded), TEST(test_proof_opens_the_window),
        TEST(test_nothing_before_a_cookie_is_answered), TEST(test_the_oldest_gives_way), TEST(test_lost_challenges_are_asked_again),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
