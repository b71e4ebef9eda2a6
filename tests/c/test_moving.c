/* SPDX-License-Identifier: MIT */
/* Peers whose address changes in mid-connection, and strangers who pretend that one's did. */
#include "world.h"

#include "smux/smux.h"

static ks_crypt *sealed(void)
{
    static const uint8_t key[32] = {7};
    ks_crypt *crypt = ks_crypt_new(KS_CRYPT_CHACHA20, key, sizeof key, NULL);
    MUST(crypt != NULL);
    return crypt;
}

/* Encrypted, not authenticated. */
static ks_crypt *unauthenticated(void)
{
    static const uint8_t key[32] = {7};
    ks_crypt *crypt = ks_crypt_new(KS_CRYPT_SALSA20, key, sizeof key, NULL);
    MUST(crypt != NULL);
    return crypt;
}

typedef struct {
    const char *name;
    int32_t framing, smux_version, adaptive, fec_data, fec_parity;
} kind;

static const kind kinds[] = {
    {"smux 2", KS_FRAMING_SMUX, 2, 1, 0, 0}, {"smux 1, fixed", KS_FRAMING_SMUX, 1, 0, 0, 0},
    {"raw", KS_FRAMING_RAW, 2, 1, 0, 0},     {"smux 2, FEC", KS_FRAMING_SMUX, 2, 1, 8, 2},
};
#define KINDS (sizeof kinds / sizeof *kinds)
#define PAUSE_MS 1000u

static ks_profile profile_of(const kind *k)
{
    ks_profile p = world_profile();
    p.framing = k->framing;
    p.smux_version = k->smux_version;
    p.adaptive = k->adaptive;
    p.insurance = k->adaptive ? -1 : 0;
    p.fec_data = k->fec_data;
    p.fec_parity = k->fec_parity;
    return p;
}

/* A connection of both ends with that crypt, which each has a key of. */
static void connect_with(world *w, const ks_profile *p, ks_crypt *crypt(void), int *a, int *b)
{
    char byte;
    bool raw = p->framing == KS_FRAMING_RAW;
    world_listen(w, p, crypt(), 16);
    *a = world_connect(w, p, crypt());
    *b = -1;
    CHECK(!raw || send(*a, "!", 1, MSG_DONTWAIT) == 1);
    WORLD_UNTIL(w, 10 * SECOND, (world_poll(*a) & POLLOUT) && world_accepted(w, b));
    if (raw)
        WORLD_UNTIL(w, 10 * SECOND, recv(*b, &byte, 1, MSG_DONTWAIT) == 1);
}

static void close_both(world *w, int *a, int *b)
{
    world_close_app(a);
    world_close_app(b);
    world_close(w);
}

/* How long the slower of two flows stands still at most while the condition is awaited, ms. */
static uint64_t longest_pause(world *w, const world_flow *const flow[2])
{
    uint64_t got[2] = {0}, since[2] = {w->now_us, w->now_us}, most = 0;
    while (!(flow_done(flow[0]) && flow_done(flow[1])) && w->now_us - since[0] < 60 * SECOND) {
        for (int i = 0; i < 2; i++) {
            bool moves = flow[i]->received != got[i] || flow_done(flow[i]);
            most = w->now_us - since[i] > most ? w->now_us - since[i] : most;
            since[i] = moves ? w->now_us : since[i];
            got[i] = flow[i]->received;
        }
        world_run(w, 10 * MS);
    }
    return most / 1000;
}

static void test_a_transfer_goes_on_from_another_port(void)
{
    for (size_t k = 0; k < KINDS; k++)
        for (uint64_t seed = 1; seed <= 3; seed++) {
            world w;
            ks_profile p = profile_of(&kinds[k]);
            int a, b;
            world_open(&w, seed, 40 * MS);
            for (int i = 0; i < HOSTS; i++)
                (void)net_add(&w.path[i], net_loss(2));
            connect_with(&w, &p, sealed, &a, &b);
            const world_flow *flow[2] = {world_flow_start(&w, a, b, 4 << 20), world_flow_start(&w, b, a, 4 << 20)};
            world_run(&w, 300 * MS);
            const ks_session *s = world_session(&w.host[SERVER], b);
            for (int times = 1; times <= 3; times++) {
                ks_addr before = s->peer;
                CHECK(!flow_done(flow[0]) || !flow_done(flow[1]));
                world_rebind(&w, 0);
                WORLD_UNTIL(&w, 2 * SECOND, !ks_addr_equal(&s->peer, &before));
                CHECK_EQ(w.host[SERVER].core->count.moves, times);
                world_run(&w, 200 * MS);
            }
            world_rebind(&w, 0);
            uint64_t pause = longest_pause(&w, flow);
            CHECK(flow_done(flow[0]) && flow_done(flow[1]));
            CHECK(pause <= 80 + PAUSE_MS);
            if (pause > 80 + PAUSE_MS)
                printf("%s, seed %llu: %llu ms\n", kinds[k].name, (unsigned long long)seed, (unsigned long long)pause);
            CHECK_EQ(w.host[SERVER].core->count.resets_sent, 0);
            close_both(&w, &a, &b);
        }
}

/* Answers come later than the challenge is sent again. */
static void test_a_transfer_on_a_long_path_goes_on(void)
{
    for (size_t k = 0; k < KINDS; k++) {
        world w;
        ks_profile p = profile_of(&kinds[k]);
        int a, b;
        world_open(&w, 1, 400 * MS);
        connect_with(&w, &p, sealed, &a, &b);
        const world_flow *flow[2] = {world_flow_start(&w, a, b, 2 << 20), world_flow_start(&w, b, a, 2 << 20)};
        world_run(&w, 2 * SECOND);
        CHECK(!flow_done(flow[0]) && !flow_done(flow[1]));
        world_rebind(&w, 0);
        WORLD_UNTIL(&w, 2 * SECOND, w.host[SERVER].core->count.moves == 1);
        WORLD_UNTIL(&w, 60 * SECOND, flow_done(flow[0]) && flow_done(flow[1]));
        CHECK_EQ(w.host[SERVER].core->count.moves, 1);
        close_both(&w, &a, &b);
    }
}

/* Nothing is sent but keepalives; then by the end that hears last of it. */
static void test_an_idle_connection_goes_on_from_another_port(void)
{
    for (size_t k = 0; k < KINDS; k++)
        for (int first = 0; first < HOSTS; first++) {
            world w;
            ks_profile p = profile_of(&kinds[k]);
            int end[HOSTS];
            world_open(&w, 1, 40 * MS);
            connect_with(&w, &p, sealed, &end[CLIENT], &end[SERVER]);
            world_run(&w, 20 * SECOND);
            for (int times = 1; times <= 2; times++) {
                world_rebind(&w, 0);
                world_run(&w, 90 * SECOND);
                CHECK_EQ(w.host[SERVER].core->count.moves, times);
                CHECK_EQ(w.host[CLIENT].core->session_count + w.host[SERVER].core->session_count, 2);
            }
            const world_flow *there = world_flow_start(&w, end[first], end[!first], 100000);
            WORLD_UNTIL(&w, 2 * SECOND, flow_done(there));
            const world_flow *back = world_flow_start(&w, end[!first], end[first], 100000);
            WORLD_UNTIL(&w, 2 * SECOND, flow_done(back));
            close_both(&w, &end[CLIENT], &end[SERVER]);
        }
}

/* What the client sends next is data that the server has not had: held back by who hears it, and sent from elsewhere. */
static void test_packets_from_elsewhere_move_nothing(void)
{
    for (size_t k = 0; k < KINDS; k++) {
        world w;
        ks_profile p = profile_of(&kinds[k]);
        int a, b;
        uint64_t got = 0;
        world_open(&w, 1, 10 * MS);
        connect_with(&w, &p, sealed, &a, &b);
        world_run(&w, SECOND);
        world_route *r = &w.routes[0], *x = world_stranger(&w);
        const ks_session *s = world_session(&w.host[SERVER], b);
        const ks_core *core = w.host[SERVER].core;
        ks_addr own = s->peer;
        r->sent_size = 0;
        CHECK(send(a, "hello", 5, MSG_DONTWAIT) == 5);
        WORLD_UNTIL(&w, SECOND, (world_ending(b, &got), got == 5));
        CHECK(r->sent_size > 0);
        world_run(&w, SECOND);

        /* Sent again: asked for proof, five times a second at most. */
        uint8_t packet[KS_UDP_PACKET_MAX];
        for (int i = 0; i < 100; i++) {
            memcpy(packet, r->sent, r->sent_size);
            world_stranger_send(&w, x, packet, r->sent_size);
            CHECK(x->answer_size <= r->sent_size);
            world_run(&w, 10 * MS);
        }
        CHECK(x->answers >= 1 && x->answers <= 6);
        CHECK_EQ(core->session_count, 1);
        world_run(&w, SECOND);
        x->answers = 0;

        /* Fresh: likewise. */
        r->holding = true;
        CHECK(send(a, "again", 5, MSG_DONTWAIT) == 5);
        world_run(&w, 5 * MS);
        for (int i = 0; i < 100; i++) {
            memcpy(packet, r->sent, r->sent_size);
            world_stranger_send(&w, x, packet, r->sent_size);
            world_run(&w, MS);
        }
        CHECK(x->answers == 1 && x->answer_size <= r->sent_size);
        CHECK(ks_addr_equal(&s->peer, &own));
        /* Without the key its answer is none. */
        world_stranger_send(&w, x, x->answer, x->answer_size);
        r->holding = false;
        world_run(&w, 5 * SECOND);
        world_ending(b, &got);
        CHECK_EQ(got, 10);
        CHECK_EQ(core->count.moves, 0);
        CHECK_EQ(core->session_count, 1);
        CHECK(ks_addr_equal(&s->peer, &own));
        close_both(&w, &a, &b);
    }
}

/* Nobody could tell who moves: the server stays silent, since a refusal would reach the client or whom a stranger names. */
static void test_without_a_tag_nothing_moves(void)
{
    static ks_crypt *(*const crypts[])(void) = {NULL, unauthenticated};
    for (size_t c = 0; c < sizeof crypts / sizeof *crypts; c++) {
        world w;
        ks_profile p = world_profile();
        int a, b, ending[HOSTS] = {-1, -1};
        uint64_t got = 0;
        world_open(&w, 1, 10 * MS);
        if (crypts[c] == NULL)
            world_pair(&w, &p, &a, &b);
        else
            connect_with(&w, &p, crypts[c], &a, &b);
        CHECK(send(b, "hello", 5, MSG_DONTWAIT) == 5); /* or what the client sends next might be another's first */
        world_run(&w, SECOND);
        world_rebind(&w, 0);
        CHECK(send(a, "hello", 5, MSG_DONTWAIT) == 5);
        world_run(&w, 20 * SECOND);
        CHECK_EQ(world_ending(a, &got), -1);
        CHECK_EQ(w.host[SERVER].core->count.resets_sent, 0);
        WORLD_UNTIL(&w, 60 * SECOND, (ending[SERVER] = world_ending(b, &got)) >= 0);
        CHECK_EQ(ending[SERVER], ETIMEDOUT);
        WORLD_UNTIL(&w, 60 * SECOND, (ending[CLIENT] = world_ending(a, &got)) >= 0);
        CHECK(ending[CLIENT] == ETIMEDOUT || ending[CLIENT] == ECONNRESET); /* there is no such connection any more */
        CHECK_EQ(w.host[SERVER].core->count.moves, 0);
        close_both(&w, &a, &b);
    }
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_a_transfer_goes_on_from_another_port), TEST(test_a_transfer_on_a_long_path_goes_on),
        TEST(test_an_idle_connection_goes_on_from_another_port),
        TEST(test_packets_from_elsewhere_move_nothing), TEST(test_without_a_tag_nothing_moves),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
