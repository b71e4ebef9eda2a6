/* SPDX-License-Identifier: MIT */
/* How long an engine sleeps and what wakes it, in virtual time: timers, data sent past it, notes, ACKs that ride. */
#include "world.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

/* A connection over which a byte has gone each way: the first that is read is answered by a window update. */
static void open_pair(world *w, uint64_t delay_us, int *a, int *b)
{
    ks_profile p = world_profile();
    world_open(w, 1, delay_us);
    world_pair(w, &p, a, b);
    const world_flow *up = world_flow_start(w, *a, *b, 1), *down = world_flow_start(w, *b, *a, 1);
    WORLD_UNTIL(w, SECOND, flow_done(up) && flow_done(down));
    world_run(w, 200 * MS);
}

static void close_pair(world *w, int *a, int *b)
{
    world_close_app(a);
    world_close_app(b);
    world_close(w);
}

static uint64_t sleep_ms(const world *w, int at)
{
    return w->host[at].wake_us == KS_NEVER ? UINT64_MAX : (w->host[at].wake_us - w->now_us) / 1000;
}

static void test_sleeps_for_ever_without_work(void)
{
    world w;
    world_open(&w, 1, MS);
    world_settle(&w);
    CHECK(w.host[CLIENT].wake_us == KS_NEVER && w.host[SERVER].wake_us == KS_NEVER);
    ks_profile p = world_profile();
    world_listen(&w, &p, NULL, 5);
    world_run(&w, SECOND);
    CHECK(w.host[SERVER].wake_us == KS_NEVER); /* a listener wants nothing by itself */
    world_close(&w);
}

/* An idle session needs its engine for keepalive alone; after data only once more, to give memory back. */
static void test_sleeps_until_keepalive(void)
{
    world w;
    int a, b;
    open_pair(&w, 10 * MS, &a, &b);
    world_run(&w, 2 * SECOND);
    CHECK(sleep_ms(&w, CLIENT) > 7000 && sleep_ms(&w, CLIENT) <= 9000);
    const world_flow *f = world_flow_start(&w, a, b, 1000);
    WORLD_UNTIL(&w, SECOND, flow_done(f));
    world_run(&w, 2500 * MS);
    uint64_t turns = w.host[CLIENT].turns;
    world_run(&w, 4 * SECOND);
    CHECK_EQ(w.host[CLIENT].turns, turns);
    close_pair(&w, &a, &b);
}

/* Its retransmission timer is set by the thread that sends, while the engine sleeps until keepalive: it must be woken. */
static void test_lost_packet_of_send_now_is_sent_again(void)
{
    static const uint64_t idle_ms[] = {5, 500, 900, 2500, 7000};
    for (size_t i = 0; i < sizeof idle_ms / sizeof *idle_ms; i++) {
        world w;
        int a, b;
        char byte;
        open_pair(&w, 10 * MS, &a, &b);
        CHECK(send(a, "0", 1, MSG_DONTWAIT) == 1);
        WORLD_UNTIL(&w, SECOND, recv(b, &byte, 1, MSG_DONTWAIT) == 1);
        world_run(&w, 200 * MS);
        CHECK_EQ(world_send_now(&w, CLIENT, a, "1", 1), 1);
        WORLD_UNTIL(&w, SECOND, recv(b, &byte, 1, MSG_DONTWAIT) == 1);
        world_run(&w, idle_ms[i] * MS);
        (void)net_add(&w.path[CLIENT], net_lose(NULL, 0, 1));
        CHECK_EQ(world_send_now(&w, CLIENT, a, "2", 1), 1);
        CHECK_EQ(w.path[CLIENT].lost, 1);
        uint64_t from = w.now_us;
        WORLD_UNTIL(&w, 10 * SECOND, recv(b, &byte, 1, MSG_DONTWAIT) == 1);
        CHECK(byte == '2' && w.now_us - from <= 300 * MS);
        close_pair(&w, &a, &b);
    }
}

/* While data is sent past it again and again the engine is not woken for each piece. */
static void test_send_now_wakes_nobody_in_a_stream_of_it(void)
{
    world w;
    int a, b;
    char bytes[64];
    uint64_t got = 0;
    open_pair(&w, 10 * MS, &a, &b);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(world_send_now(&w, CLIENT, a, "first", 5), 5);
        world_run(&w, 100 * MS);
    }
    uint64_t woken = w.host[CLIENT].turns;
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(world_send_now(&w, CLIENT, a, "data past it", 12), 12);
        world_run(&w, 100); /* us: 10 ms in all, before any acknowledgment */
        ssize_t n = recv(b, bytes, sizeof bytes, MSG_DONTWAIT);
        got += n > 0 ? (uint64_t)n : 0;
    }
    CHECK(w.host[CLIENT].turns - woken <= 5);
    WORLD_UNTIL(&w, SECOND, world_ending(b, &got) == -1 && got == 1210);
    close_pair(&w, &a, &b);
}

/* What stands in the pair goes first; a full window takes what it has room for. */
static void test_send_now_keeps_the_order(void)
{
    static uint8_t large[600000];
    world w;
    int a, b;
    char bytes[8] = {0};
    open_pair(&w, 10 * MS, &a, &b);
    CHECK(send(a, "one", 3, MSG_DONTWAIT) == 3);
    CHECK_EQ(world_send_now(&w, CLIENT, a, "two", 3), 0);
    WORLD_UNTIL(&w, SECOND, recv(b, bytes, 6, MSG_DONTWAIT) == 3);
    CHECK(memcmp(bytes, "one", 3) == 0);
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = net_byte(w.flow_count, i); /* as the next flow's */
    int64_t n = world_send_now(&w, CLIENT, a, large, sizeof large);
    CHECK(n >= 128 * 1300 && n <= 128 * 1376);
    CHECK_EQ(world_send_now(&w, CLIENT, a, large, 1), 0);
    world_flow *f = world_flow_start(&w, a, b, sizeof large); /* the rest through the pair */
    f->sent = (uint64_t)n;
    WORLD_UNTIL(&w, 10 * SECOND, flow_done(f));
    CHECK(shutdown(a, SHUT_WR) == 0);
    CHECK_EQ(world_send_now(&w, CLIENT, a, "x", 1), 0);
    CHECK_EQ(world_send_now(&w, SERVER, a, "x", 1), -ENOTSOCK);
    close_pair(&w, &a, &b);
}

/* Sessions that have data sent past the engine still become quiet, trimmed and kept alive. */
static void test_send_now_then_idle(void)
{
    world w;
    int a, b;
    uint64_t got = 0;
    open_pair(&w, 10 * MS, &a, &b);
    world_run(&w, 3 * SECOND);
    uint64_t idle = ks_mem_used();
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(world_send_now(&w, CLIENT, a, "12345", 5), 5);
        world_run(&w, 30 * MS);
    }
    world_run(&w, 3 * SECOND);
    CHECK(ks_mem_used() <= idle);
    world_run(&w, 120 * (uint64_t)SECOND);
    CHECK(world_ending(b, &got) == -1 && got == 25 && world_session(&w.host[CLIENT], a) != NULL);
    close_pair(&w, &a, &b);
}

/* ---- notes ---- */

typedef struct {
    ks_note note;
    ks_engine *engine;
    int asked, good_after, answer;
} question;

static int run_question(ks_engine *e, ks_note *n)
{
    (void)e;
    question *q = KS_OWNER(n, question, note);
    return ++q->asked >= q->good_after ? 7 : KS_EAGAIN;
}

static void *ask(void *arg)
{
    question *q = arg;
    q->answer = ks_engine_ask(q->engine, &q->note);
    return NULL;
}

/* A thread asks, the engine's turns are ours. -> virtual ms until the answer */
static uint64_t ask_in_world(world *w, question *q)
{
    pthread_t thread;
    host *h = &w->host[CLIENT];
    q->engine = h->engine;
    MUST(pthread_create(&thread, NULL, ask, q) == 0);
    struct pollfd wake = {.fd = h->core->poller.epoll_fd, .events = POLLIN};
    while (q->asked == 0) /* its ring comes in real time */
        (void)(wake.fd >= 0 ? poll(&wake, 1, 100) : 0), (void)host_turn(h), (void)sched_yield();
    uint64_t from = w->now_us;
    for (uint64_t until = from + 20 * SECOND; h->wake_us <= until && w->now_us < until;) {
        int asked = q->asked;
        w->now_us = world_next(w, until);
        world_settle(w);
        if (q->asked == asked)
            break; /* nobody asks it any more: it is answered */
    }
    struct timespec patience;
    clock_gettime(CLOCK_REALTIME, &patience);
    patience.tv_sec += 20;
    MUST(pthread_timedjoin_np(thread, NULL, &patience) == 0);
    return (w->now_us - from) / 1000;
}

static void test_notes_are_asked_again_until_their_time_is_over(void)
{
    world w;
    world_open(&w, 1, 0);
    question once = {.note.run = run_question, .good_after = 1};
    (void)ask_in_world(&w, &once);
    CHECK(once.answer == 7 && once.asked == 1);
    question later = {.note = {.run = run_question, .wait_ms = 1000}, .good_after = 10};
    (void)ask_in_world(&w, &later);
    CHECK(later.answer == 7 && later.asked == 10);
    question never = {.note = {.run = run_question, .wait_ms = 1000}, .good_after = 1 << 30};
    (void)ask_in_world(&w, &never);
    CHECK_EQ(never.answer, -ETIMEDOUT);
    CHECK(never.asked >= 45 && never.asked <= 60); /* each 20 ms */
    question impatient = {.note.run = run_question, .good_after = 1 << 30};
    (void)ask_in_world(&w, &impatient);
    CHECK(impatient.answer == -ETIMEDOUT && impatient.asked == 1);
    world_close(&w);
}

/* ---- ACKs ---- */

/* Question and answer, ten times: the ACK of a question rides on its answer, so there are few packets without data. */
static void test_acks_ride_on_answers(void)
{
    world w;
    int a, b;
    char bytes[64];
    open_pair(&w, MS, &a, &b);
    world_run(&w, SECOND);
    uint64_t packets = world_sent(&w);
    for (int i = 0; i < 20; i++) {
        CHECK(send(a, "question", 8, MSG_DONTWAIT) == 8);
        WORLD_UNTIL(&w, 100 * MS, recv(b, bytes, sizeof bytes, MSG_DONTWAIT) == 8);
        CHECK(send(b, "answer", 6, MSG_DONTWAIT) == 6);
        WORLD_UNTIL(&w, 100 * MS, recv(a, bytes, sizeof bytes, MSG_DONTWAIT) == 6);
    }
    packets = world_sent(&w) - packets;
    CHECK(packets >= 40 && packets <= 46);
    close_pair(&w, &a, &b);
}

/* Two segments or more are acknowledged within 100 us, data or none: no timer of 1 ms is waited for. */
static void test_several_acks_go_within_a_moment(void)
{
    world w;
    int a, b;
    open_pair(&w, MS, &a, &b);
    world_run(&w, SECOND);
    for (int i = 0; i < 5; i++) {
        const world_flow *f = world_flow_start(&w, a, b, 3000);
        uint64_t from = w.now_us;
        WORLD_UNTIL(&w, 100 * MS, flow_done(f) && ks_kcp_unacked(&world_session(&w.host[CLIENT], a)->kcp) == 0);
        CHECK(w.now_us - from <= 2 * MS + 200);
        world_run(&w, 5 * MS);
    }
    close_pair(&w, &a, &b);
}

/* Where data has followed on data, several ACKs wait for it: no packet but the answer's. When none comes they wait 100 us. */
static void test_several_acks_ride_for_a_moment(void)
{
    world w;
    int a, b;
    char bytes[64];
    open_pair(&w, MS, &a, &b);
    world_run(&w, SECOND);
    for (int i = 0; i < 6; i++) {
        const world_flow *asked = world_flow_start(&w, a, b, 3000);
        WORLD_UNTIL(&w, 100 * MS, flow_done(asked));
        uint64_t packets = w.host[SERVER].core->count.out_pkts;
        CHECK(send(b, "answer", 6, MSG_DONTWAIT) == 6);
        WORLD_UNTIL(&w, 100 * MS, recv(a, bytes, sizeof bytes, MSG_DONTWAIT) == 6);
        CHECK(i == 0 || w.host[SERVER].core->count.out_pkts - packets == 1);
        world_run(&w, 30 * MS);
    }
    const world_flow *last = world_flow_start(&w, a, b, 3000);
    WORLD_UNTIL(&w, 100 * MS, flow_done(last));
    uint64_t from = w.now_us;
    WORLD_UNTIL(&w, 100 * MS, ks_kcp_unacked(&world_session(&w.host[CLIENT], a)->kcp) == 0);
    /* A poller that counts in ms can't wait so shortly: there they go at once. */
    uint64_t ride = w.host[SERVER].core->poller.fine ? 90 : 0;
    CHECK(w.now_us - from >= MS + ride && w.now_us - from <= MS + 200);
    close_pair(&w, &a, &b);
}

/* One alone waits for data, an interval at most. */
static void test_lone_ack_waits_no_longer_than_an_interval(void)
{
    world w;
    int a, b;
    char byte;
    open_pair(&w, MS, &a, &b);
    world_run(&w, SECOND);
    CHECK(send(a, "x", 1, MSG_DONTWAIT) == 1);
    uint64_t from = w.now_us;
    WORLD_UNTIL(&w, 10 * MS, recv(b, &byte, 1, MSG_DONTWAIT) == 1);
    WORLD_UNTIL(&w, 100 * MS, ks_kcp_unacked(&world_session(&w.host[CLIENT], a)->kcp) == 0);
    CHECK(w.now_us - from > 5 * MS && w.now_us - from <= 13 * MS);
    close_pair(&w, &a, &b);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_sleeps_for_ever_without_work), TEST(test_sleeps_until_keepalive), TEST(test_lost_packet_of_send_now_is_sent_again),
        TEST(test_send_now_wakes_nobody_in_a_stream_of_it), TEST(test_send_now_keeps_the_order), TEST(test_send_now_then_idle),
        TEST(test_notes_are_asked_again_until_their_time_is_over), TEST(test_acks_ride_on_answers),
        TEST(test_several_acks_go_within_a_moment), TEST(test_several_acks_ride_for_a_moment),
        TEST(test_lone_ack_waits_no_longer_than_an_interval),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
