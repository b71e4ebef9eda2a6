/* SPDX-License-Identifier: MIT */
/* Packets that go from one port of a lobby to another. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/peers.h"
#include "engine/strays.h"

typedef struct {
    ks_bell bell;
    int fd;
} engine;

static engine engine_new(void)
{
    int fds[2];
    MUST(pipe(fds) == 0);
    MUST(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
    return (engine){.bell = {.wake_fd = fds[1]}, .fd = fds[0]};
}

static void engine_del(engine *e)
{
    close(e->fd);
    close(e->bell.wake_fd);
}

/* -> the bytes that woke it, since this was last asked */
static int rings(engine *e)
{
    char bytes[64];
    ssize_t n = read(e->fd, bytes, sizeof bytes);
    return n > 0 ? (int)n : 0;
}

static ks_addr address(uint16_t port)
{
    ks_addr a;
    memset(&a, 0, sizeof a);
    a.in4.sin_family = AF_INET;
    a.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.in4.sin_port = htons(port);
    return a;
}

static const uint8_t nonce[KS_NONCE_OWN] = "nonce";

static ks_opened packet(const ks_addr *from, uint8_t *data, size_t size)
{
    return (ks_opened){.from = from, .nonce = nonce, .data = data, .size = size};
}

/* To the one place that has the conversation, never to the own one, and no longer than it has it. */
static void test_a_conversation_is_found_where_it_is_listed(void)
{
    ks_strays *x = ks_strays_new();
    MUST(x != NULL);
    engine e[3];
    for (int i = 0; i < 3; i++) {
        e[i] = engine_new();
        CHECK_EQ(ks_strays_join(x, &e[i].bell), i);
    }
    uint8_t data[] = "abcde";
    ks_addr from = address(7), local = address(0);
    ks_opened o = packet(&from, data, sizeof data), got;
    CHECK(!ks_strays_pass(x, 0, 5, &o));
    CHECK(ks_strays_list(x, 2, 5) && ks_strays_list(x, 2, 5) && ks_strays_list(x, 0, 6));
    CHECK(!ks_strays_pass(x, 2, 5, &o)); /* its own */
    CHECK(!ks_strays_pass(x, 0, 7, &o));
    CHECK(ks_strays_pass(x, 0, 5, &o));
    o.local = &local;
    CHECK(ks_strays_pass(x, 1, 5, &o));
    CHECK_EQ(rings(&e[0]) + rings(&e[1]), 0);
    CHECK_EQ(rings(&e[2]), 1); /* for the first one; it takes all */
    CHECK(atomic_load(&e[2].bell.strays) && !atomic_load(&e[1].bell.strays));

    ks_stray_box box = ks_strays_take(x, 2);
    for (int i = 0; i < 2; i++) {
        CHECK(ks_stray_next(&box, &got));
        CHECK(got.stray && got.size == sizeof data && memcmp(got.data, data, sizeof data) == 0);
        CHECK(ks_addr_equal(got.from, &from) && memcmp(got.nonce, nonce, sizeof nonce) == 0);
        CHECK((got.local != NULL) == (i == 1));
    }
    CHECK(!ks_stray_next(&box, &got));
    ks_strays_give_back(x, 2, &box);
    box = ks_strays_take(x, 2);
    CHECK(!ks_stray_next(&box, &got));
    ks_strays_give_back(x, 2, &box);

    ks_strays_unlist(x, 2, 5);
    CHECK(ks_strays_pass(x, 0, 5, &o)); /* another session has the same number */
    ks_strays_unlist(x, 2, 5);
    CHECK(!ks_strays_pass(x, 0, 5, &o));
    CHECK(ks_strays_pass(x, 1, 6, &o));
    ks_strays_unlist(x, 0, 6);
    for (int i = 0; i < 3; i++) {
        ks_strays_leave(x, i);
        engine_del(&e[i]);
    }
    ks_strays_del(x);
}

/* Parity packets follow the data packets from their address, and come to nobody who has left. */
static void test_what_names_no_conversation_follows(void)
{
    ks_strays *x = ks_strays_new();
    MUST(x != NULL);
    engine a = engine_new(), b = engine_new();
    CHECK_EQ(ks_strays_join(x, &a.bell), 0);
    CHECK_EQ(ks_strays_join(x, &b.bell), 1);
    MUST(ks_strays_list(x, 1, 5));
    uint8_t data[] = "parity";
    ks_addr from = address(7), other = address(8);
    ks_opened o = packet(&from, data, sizeof data), got;
    CHECK(!ks_strays_pass_after(x, 0, &o));
    CHECK(ks_strays_pass(x, 0, 5, &o) && ks_strays_pass_after(x, 0, &o));
    o.from = &other;
    CHECK(!ks_strays_pass_after(x, 0, &o));
    o.from = &from;
    ks_stray_box box = ks_strays_take(x, 1);
    CHECK(ks_stray_next(&box, &got) && ks_stray_next(&box, &got) && !ks_stray_next(&box, &got));
    ks_strays_unlist(x, 1, 5);
    ks_strays_leave(x, 1); /* while its box is out */
    ks_strays_give_back(NULL, 1, &box);
    CHECK(!ks_strays_pass_after(x, 0, &o));
    CHECK_EQ(ks_strays_join(x, &b.bell), 1);
    CHECK(!ks_strays_pass(x, 0, 5, &o));
    ks_strays_leave(x, 0);
    ks_strays_leave(x, 1);
    engine_del(&a);
    engine_del(&b);
    ks_strays_del(x);
}

/* As in a socket's buffer: what came first is kept, and memory is bounded. */
static void test_a_full_box_loses_what_comes_then(void)
{
    enum { PACKETS = 1000 };
    ks_strays *x = ks_strays_new();
    MUST(x != NULL);
    engine a = engine_new(), b = engine_new();
    MUST(ks_strays_join(x, &a.bell) == 0 && ks_strays_join(x, &b.bell) == 1 && ks_strays_list(x, 1, 5));
    uint8_t data[KS_UDP_PACKET_MAX] = {0};
    ks_addr from = address(7);
    for (int round = 0; round < 3; round++) {
        uint32_t n = 0, found;
        for (uint32_t i = 0; i < PACKETS; i++) {
            ks_opened o = packet(&from, data, sizeof data - i % 7);
            memcpy(data, &i, sizeof i);
            CHECK(ks_strays_pass(x, 0, 5, &o));
        }
        ks_stray_box box = ks_strays_take(x, 1);
        for (ks_opened got; ks_stray_next(&box, &got); n++) {
            memcpy(&found, got.data, sizeof found);
            CHECK(found == n && got.size == sizeof data - n % 7);
        }
        CHECK(n > 128 && n < 256);
        ks_strays_give_back(x, 1, &box);
    }
    ks_strays_unlist(x, 1, 5);
    ks_strays_leave(x, 0);
    ks_strays_leave(x, 1);
    engine_del(&a);
    engine_del(&b);
    ks_strays_del(x);
}

typedef struct {
    ks_strays *strays;
    int place;
    atomic_int *left; /* of those who pass */
} passer;

#define EACH 500u /* all fit into one box */

static void *pass_many(void *arg)
{
    const passer *p = arg;
    ks_addr from = address((uint16_t)(100 + p->place));
    for (uint32_t i = 0; i < EACH; i++) {
        uint8_t data[64];
        memcpy(data, &i, sizeof i);
        ks_opened o = packet(&from, data, sizeof data);
        if (i % 10 == 0) {
            MUST(ks_strays_list(p->strays, p->place, i + 100));
            ks_strays_unlist(p->strays, p->place, i + 100);
        }
        MUST(ks_strays_pass(p->strays, p->place, 5, &o));
    }
    atomic_fetch_sub(p->left, 1);
    return NULL;
}

/* Two engines pass packets to a third one: each one's come in their order, and none is lost. */
static void test_engines_pass_at_the_same_time(void)
{
    ks_strays *x = ks_strays_new();
    MUST(x != NULL);
    engine e[3];
    pthread_t thread[2];
    passer p[2];
    uint32_t next[2] = {0};
    atomic_int left = 2;
    for (int i = 0; i < 3; i++) {
        e[i] = engine_new();
        MUST(ks_strays_join(x, &e[i].bell) == i);
    }
    MUST(ks_strays_list(x, 2, 5));
    for (int i = 0; i < 2; i++) {
        p[i] = (passer){x, i, &left};
        MUST(pthread_create(&thread[i], NULL, pass_many, &p[i]) == 0);
    }
    for (bool last = false; !last;) {
        last = atomic_load(&left) == 0;
        if (!atomic_exchange(&e[2].bell.strays, false) && !last)
            continue;
        ks_stray_box box = ks_strays_take(x, 2);
        for (ks_opened got; ks_stray_next(&box, &got);) {
            uint32_t i;
            int who = ntohs(got.from->in4.sin_port) - 100;
            memcpy(&i, got.data, sizeof i);
            CHECK(who >= 0 && who < 2 && i == next[who]);
            next[who] = i + 1;
        }
        ks_strays_give_back(x, 2, &box);
    }
    for (int i = 0; i < 2; i++) {
        MUST(pthread_join(thread[i], NULL) == 0);
        CHECK_EQ(next[i], EACH);
    }
    ks_strays_unlist(x, 2, 5);
    for (int i = 0; i < 3; i++) {
        ks_strays_leave(x, i);
        engine_del(&e[i]);
    }
    ks_strays_del(x);
}

/* A session whose peer has moved was listed all the time, or another engine would tell the peer that it is gone: nothing is
 * allocated for it anew. */
static void test_a_session_stays_listed_while_it_moves(void)
{
    ks_strays *x = ks_strays_new();
    MUST(x != NULL);
    engine e[2];
    static ks_session session[2];
    ks_port *port = ks_alloc(sizeof *port);
    MUST(port != NULL);
    for (int i = 0; i < 2; i++) {
        e[i] = engine_new();
        MUST(ks_strays_join(x, &e[i].bell) == i);
    }
    port->strays = x;
    port->place = 1;
    for (uint16_t i = 0; i < 2; i++) { /* the second one keeps the tables in memory */
        session[i].kcp.cfg.conv = 5 + i;
        session[i].peer = address(7 + i);
        MUST(ks_peers_add(port, &session[i]));
        ks_peers_list(port, &session[i]);
    }
    ks_addr to = address(9), local = address(0);
    uint8_t data[] = "abcde";
    ks_opened o = packet(&to, data, sizeof data);
    ks_mem_fail_after(1);
    bool renamed = ks_peers_rename(port, &session[0], &to, &local);
    ks_mem_fail_after(0);
    CHECK(renamed && ks_peers_find(port, &to, 5) == &session[0]);
    CHECK(ks_strays_pass(x, 0, 5, &o));
    for (int i = 0; i < 2; i++)
        ks_peers_remove(port, &session[i]);
    CHECK(!ks_strays_pass(x, 0, 5, &o));
    for (int i = 0; i < 2; i++) {
        ks_strays_leave(x, i);
        engine_del(&e[i]);
    }
    ks_free(port);
    ks_strays_del(x);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_a_conversation_is_found_where_it_is_listed),
        TEST(test_what_names_no_conversation_follows),
        TEST(test_a_full_box_loses_what_comes_then),
        TEST(test_engines_pass_at_the_same_time),
        TEST(test_a_session_stays_listed_while_it_moves),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
