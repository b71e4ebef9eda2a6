/* SPDX-License-Identifier: MIT */
/* Whole sessions with FEC and the adaptive sender, in virtual time: a steady stream below the rate, a bulk transfer, requests. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "session/profile.h"
#include "world.h"

enum { FRAME_BYTES = 1000, FRAMES_MOST = 24000, AROUND = 28 };

typedef struct {
    double mbit, rtt_ms, jitter_ms, loss, bad_in, bad_out;
    uint32_t every_us, frames;
    int ds, ps, insurance;
    bool fixed, overtaking;
} steady;

/* Beyond the path's one way: as packets come, and in order, as they are read. cost: bytes into the link per byte. needless:
 * segments that came twice. */
typedef struct {
    double arrived_p50_ms, arrived_p99_ms, read_p99_ms, cost;
    uint64_t loss_ppm, again, copies, needless, rebuilt, parity;
    bool one_each;
} steady_result;

/* Counts what goes into the link. */
static void meter_act(network *n, net_piece *p, const uint8_t *packet, size_t size, net_fate *f)
{
    (void)n, (void)packet, (void)f;
    p->state += size + AROUND;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(uint32_t *us, uint32_t count, uint32_t percent)
{
    qsort(us, count, sizeof *us, compare);
    return us[count * percent / 100] / 1e3;
}

static ks_profile steady_profile(const steady *c)
{
    ks_profile p = world_profile();
    p.adaptive = !c->fixed;
    p.insurance = c->insurance;
    p.sndwnd_pkts = c->fixed ? 1024 : 0;
    p.rcvwnd_pkts = 0;
    p.fec_data = c->ds;
    p.fec_parity = c->ps;
    return p;
}

static void steady_open(world *w, const steady *c, uint64_t seed)
{
    world_open(w, seed, 0);
    for (int i = 0; i < HOSTS; i++) {
        net_add(&w->path[i], (net_piece){.act = meter_act});
        net_add(&w->path[i], net_line((uint64_t)(c->mbit * 125000), 262144));
        if (c->loss > 0)
            net_add(&w->path[i], net_loss_of(c->loss));
        if (c->bad_in > 0)
            net_add(&w->path[i], net_bursts(c->bad_in, c->bad_out));
        net_add(&w->path[i], net_delay((uint64_t)(c->rtt_ms * 500), (uint64_t)(c->jitter_ms * 1000)));
        if (!c->overtaking)
            net_add(&w->path[i], net_in_order());
    }
}

static bool has_come(const ks_kcp *k, uint32_t sn)
{
    return ks_after(k->rcv_nxt, sn) || (ks_after(k->rcv_max, sn) && *ks_ring_at(&k->rcv, sn) != NULL);
}

typedef struct {
    uint32_t arrived_us[FRAMES_MOST], read_us[FRAMES_MOST], arrived, read;
    uint64_t bytes;
    steady_result sum;
} measured;

/* A frame every so often; each makes one segment, but where some have waited. */
static void steady_run_one(const steady *c, uint64_t seed, measured *m)
{
    static bool here[FRAMES_MOST];
    world w;
    int client, server;
    ks_profile profile = steady_profile(c);
    steady_open(&w, c, seed);
    world_pair(&w, &profile, &client, &server);
    world_run(&w, 500 * MS);
    ks_session *to = world_session(&w.host[SERVER], server), *from = world_session(&w.host[CLIENT], client);
    MUST(to != NULL && from != NULL && m->read + c->frames <= FRAMES_MOST && ks_kcp_unacked(&from->kcp) == 0);
    const uint32_t first_sn = from->kcp.snd_end;
    uint32_t sent = 0, read = 0, first = 0;
    uint64_t begun = w.now_us, bytes = w.path[CLIENT].pieces[0].state, taken = 0;
    uint8_t frame[FRAME_BYTES] = {1}, sink[65536];
    memset(here, 0, sizeof here);
    while (read < c->frames && w.now_us < begun + 100 * (uint64_t)SECOND) {
        world_settle(&w);
        for (ssize_t n; (n = recv(server, sink, sizeof sink, MSG_DONTWAIT)) > 0;)
            taken += (uint64_t)n;
        for (; first < sent && here[first]; first++)
            ;
        for (uint32_t i = first; i < sent; i++)
            if (!here[i] && has_come(&to->kcp, first_sn + i)) {
                here[i] = true;
                m->arrived_us[m->arrived++] = (uint32_t)(w.now_us - begun - (uint64_t)i * c->every_us);
            }
        for (; read < c->frames && taken >= (uint64_t)(read + 1) * FRAME_BYTES; read++)
            m->read_us[m->read++] = (uint32_t)(w.now_us - begun - (uint64_t)read * c->every_us);
        uint64_t next = sent < c->frames ? begun + (uint64_t)sent * c->every_us : UINT64_MAX;
        if (w.now_us >= next) {
            MUST(send(client, frame, sizeof frame, MSG_DONTWAIT | MSG_NOSIGNAL) == FRAME_BYTES);
            sent++;
            continue;
        }
        w.now_us = world_next(&w, next < w.now_us + SECOND ? next : w.now_us + SECOND);
    }
    CHECK_EQ(read, c->frames);
    m->bytes += w.path[CLIENT].pieces[0].state - bytes;
    ks_info info;
    ks_profile_kcp_info(&from->kcp, &info);
    m->sum.loss_ppm += info.loss_ppm;
    m->sum.again += info.retrans_segs;
    m->sum.copies += info.insured_segs;
    m->sum.needless += to->kcp.count.repeat_segs;
    if (to->decoder != NULL) {
        m->sum.parity += ks_fec_decoder_counts(to->decoder)->fec_parity_shards;
        m->sum.rebuilt += ks_fec_decoder_counts(to->decoder)->fec_recovered;
    }
    close(client);
    close(server);
    world_close(&w);
}

static steady_result steady_run(const steady *c, uint64_t seeds)
{
    static measured m;
    memset(&m, 0, sizeof m);
    for (uint64_t seed = 1; seed <= seeds; seed++)
        steady_run_one(c, seed, &m);
    steady_result r = m.sum;
    r.cost = (double)m.bytes / ((double)m.read * FRAME_BYTES);
    r.loss_ppm /= seeds;
    r.one_each = m.arrived == m.read;
    r.arrived_p50_ms = percentile(m.arrived_us, m.arrived, 50) - c->rtt_ms / 2;
    r.arrived_p99_ms = percentile(m.arrived_us, m.arrived, 99) - c->rtt_ms / 2;
    r.read_p99_ms = percentile(m.read_us, m.read, 99) - c->rtt_ms / 2;
    return r;
}

/* With VERBOSE in the environment. */
static void print(const char *name, const steady_result *r)
{
    if (getenv("VERBOSE") != NULL)
        fprintf(stderr, "%s: p50 %.1f, p99 %.1f ms, in order %.1f; %.3f bytes a byte; loss %.2f %%, again %u, copies %u, needless %u, "
                "rebuilt %u, parity %u\n", name, r->arrived_p50_ms, r->arrived_p99_ms, r->read_p99_ms, r->cost,
                (double)r->loss_ppm / 1e4, (unsigned)r->again, (unsigned)r->copies, (unsigned)r->needless, (unsigned)r->rebuilt,
                (unsigned)r->parity);
}

typedef struct {
    double mbit, cost;
    uint64_t parity, rebuilt;
} bulk_result;

static bulk_result bulk_run(const steady *c, uint64_t bytes, uint64_t seed)
{
    world w;
    int client, server;
    ks_profile profile = steady_profile(c);
    steady_open(&w, c, seed);
    world_pair(&w, &profile, &client, &server);
    world_run(&w, 500 * MS);
    ks_session *to = world_session(&w.host[SERVER], server);
    uint64_t begun = w.now_us, before = w.path[CLIENT].pieces[0].state;
    world_flow *f = world_flow_start(&w, client, server, bytes);
    WORLD_UNTIL(&w, 100 * (uint64_t)SECOND, flow_done(f));
    bulk_result r = {.mbit = (double)bytes * 8 / (double)(w.now_us - begun),
                     .cost = (double)(w.path[CLIENT].pieces[0].state - before) / (double)bytes};
    if (to->decoder != NULL) {
        r.parity = ks_fec_decoder_counts(to->decoder)->fec_parity_shards;
        r.rebuilt = ks_fec_decoder_counts(to->decoder)->fec_recovered;
    }
    close(client);
    close(server);
    world_close(&w);
    return r;
}

/* 200 bytes every 20 ms, answered by 2,000. */
typedef struct {
    double p50_ms, p99_ms, cost;
} request_result;

static request_result requests_run(const steady *c, uint64_t seed)
{
    enum { ASKED = 200, ANSWERED = 2000, EVERY_US = 20000 };
    static uint32_t took[FRAMES_MOST];
    world w;
    int client, server;
    ks_profile profile = steady_profile(c);
    steady_open(&w, c, seed);
    world_pair(&w, &profile, &client, &server);
    world_run(&w, 500 * MS);
    uint64_t begun = w.now_us, before = w.path[CLIENT].pieces[0].state + w.path[SERVER].pieces[0].state, heard = 0, got = 0;
    uint32_t asked = 0, answered = 0, done = 0;
    uint8_t bytes[65536] = {0};
    while (done < c->frames && w.now_us < begun + 200 * (uint64_t)SECOND) {
        world_settle(&w);
        bool any = false;
        for (ssize_t n; (n = recv(server, bytes, sizeof bytes, MSG_DONTWAIT)) > 0;)
            heard += (uint64_t)n;
        for (; heard >= (uint64_t)(answered + 1) * ASKED; answered++, any = true)
            MUST(send(server, bytes, ANSWERED, MSG_DONTWAIT | MSG_NOSIGNAL) == ANSWERED);
        for (ssize_t n; (n = recv(client, bytes, sizeof bytes, MSG_DONTWAIT)) > 0;)
            got += (uint64_t)n;
        for (; got >= (uint64_t)(done + 1) * ANSWERED; done++)
            took[done] = (uint32_t)(w.now_us - begun - (uint64_t)done * EVERY_US);
        uint64_t next = asked < c->frames ? begun + (uint64_t)asked * EVERY_US : UINT64_MAX;
        if (w.now_us >= next) {
            MUST(send(client, bytes, ASKED, MSG_DONTWAIT | MSG_NOSIGNAL) == ASKED);
            asked++;
            any = true;
        }
        if (!any)
            w.now_us = world_next(&w, next < w.now_us + SECOND ? next : w.now_us + SECOND);
    }
    CHECK_EQ(done, c->frames);
    request_result r = {.cost = (double)(w.path[CLIENT].pieces[0].state + w.path[SERVER].pieces[0].state - before) /
                                ((double)c->frames * (ASKED + ANSWERED))};
    r.p50_ms = percentile(took, c->frames, 50);
    r.p99_ms = percentile(took, c->frames, 99);
    close(client);
    close(server);
    world_close(&w);
    return r;
}

/* ---- what must hold ---- */

enum { SEEDS = 3 };

/* 4.2 Mbit/s of 50, three seeds together. In order, a group that lost more than its parity brings holds up what follows for a
 * round trip, so there the 99th percentile is that of a repeat at 5 %. Measured figures stand behind. */
static const struct {
    const char *name;
    steady s;
    double p99_ms, read_p99_ms, cost;
} streams[] = {
    {"8+2, loss 1 %", {.ds = 8, .ps = 2, .loss = 1}, 2, 100, 1.34},
    {"8+2, loss 5 %", {.ds = 8, .ps = 2, .loss = 5}, 15, 100, 1.35},
    {"10+3, loss 1 %", {.ds = 10, .ps = 3, .loss = 1}, 2, 100, 1.35},
    {"10+3, loss 5 %", {.ds = 10, .ps = 3, .loss = 5}, 15, 100, 1.35},
    {"8+2, jitter", {.ds = 8, .ps = 2, .loss = 5, .jitter_ms = 5}, 20, 100, 1.35},
    {"10+3, jitter", {.ds = 10, .ps = 3, .loss = 5, .jitter_ms = 5}, 20, 100, 1.35},
    {"8+2, reordered", {.ds = 8, .ps = 2, .loss = 5, .jitter_ms = 5, .overtaking = true}, 20, 100, 1.35},
    {"10+3, reordered", {.ds = 10, .ps = 3, .loss = 5, .jitter_ms = 5, .overtaking = true}, 20, 100, 1.35},
    /* Bursts of five on average take a group's data and its parity: repeats bring it. */
    {"8+2, bursts", {.ds = 8, .ps = 2, .bad_in = 1, .bad_out = 20}, 130, 130, 1.43},
};

static void test_steady_streams(void)
{
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        steady s = streams[i].s;
        s.mbit = 50, s.rtt_ms = 50, s.every_us = 2000, s.frames = 8000, s.insurance = -1;
        steady_result r = steady_run(&s, SEEDS);
        print(streams[i].name, &r);
        CHECK(r.one_each || s.bad_in > 0);
        CHECK(r.arrived_p99_ms <= streams[i].p99_ms && r.read_p99_ms <= streams[i].read_p99_ms && r.cost <= streams[i].cost);
        /* What parity brought counts as lost: 2.9 to 4.9 at 5 %, 0.46 to 0.74 at 1 (of the last packets, so it depends on chance). */
        CHECK(r.rebuilt > 0 && (double)r.loss_ppm > 4e3 * s.loss && (double)r.loss_ppm < 1.3e4 * (s.loss + s.bad_in * 5));
    }
}

/* Without loss the beacons alone: 8 groups, then 2 of 64. 1.068 would be without any. */
static void test_no_loss_no_parity(void)
{
    steady s = {.mbit = 50, .rtt_ms = 50, .every_us = 2000, .frames = 4000, .insurance = -1, .ds = 8, .ps = 2};
    steady_result r = steady_run(&s, 1);
    print("no loss", &r);
    CHECK(r.cost < 1.085); /* 1.079 */
    CHECK(r.arrived_p99_ms < 1 && r.again == 0 && r.copies == 0);
    CHECK(r.parity >= 2 * 8 && r.parity <= 2 * (8 + 2 * 4000 / 8 / 64));
}

/* As KCP does: all parity, at 1.38 bytes a byte. */
static void test_fixed_sender_sends_all_parity(void)
{
    steady s = {.mbit = 50, .rtt_ms = 50, .every_us = 2000, .frames = 4000, .ds = 8, .ps = 2, .fixed = true};
    steady_result r = steady_run(&s, 1);
    print("fixed", &r);
    CHECK(r.parity >= 2 * 4000 / 8 && r.parity <= 2 * (4000 / 8 + 1));
    CHECK(r.cost > 1.33 && r.cost < 1.34); /* 1.336 */
}

/* The link has 13 % more than the stream, parity takes up to 25: what fills its queue stops. */
static void test_parity_is_no_queue_of_its_own(void)
{
    steady s = {.mbit = 4.8, .rtt_ms = 50, .loss = 1, .every_us = 2000, .frames = 8000, .insurance = -1, .ds = 8, .ps = 2};
    steady_result r = steady_run(&s, SEEDS);
    print("near the rate", &r);
    CHECK(r.arrived_p50_ms < 3 && r.cost < 1.15);
}

/* The rate is used up: parity stays out of it. Three times the beacons' would be 1.2. */
static void test_bulk_goes_without_parity(void)
{
    static const int codes[][2] = {{8, 2}, {10, 3}};
    static const struct { double loss, mbit, cost; } bounds[] = {{0, 85, 1.09}, {5, 70, 1.16}};
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 2; k++) {
            steady s = {.mbit = 100, .rtt_ms = 50, .loss = bounds[i].loss, .insurance = -1, .ds = codes[k][0], .ps = codes[k][1]};
            bulk_result r = bulk_run(&s, 10000000, 1);
            if (getenv("VERBOSE") != NULL)
                fprintf(stderr, "bulk, %d+%d, loss %.0f %%: %.1f Mbit/s, %.3f bytes a byte, parity %u\n", s.ds, s.ps, s.loss, r.mbit, r.cost,
                        (unsigned)r.parity);
            CHECK(r.mbit > bounds[i].mbit && r.cost < bounds[i].cost);
        }
}

/* Their packets are too far apart for parity: they have their copies as ever. Measured: p99 54 and 56 ms at 1 %, 93 and 110 at
 * 5; bytes per byte 2.25 and 2.29, 2.61 and 2.65. */
static void test_requests_keep_their_copies(void)
{
    for (int loss = 1; loss <= 5; loss += 4) {
        double p99[2] = {0, 0}, cost[2] = {0, 0};
        for (int k = 0; k < 2; k++)
            for (uint64_t seed = 1; seed <= SEEDS; seed++) {
                steady s = {.mbit = 100, .rtt_ms = 50, .loss = loss, .insurance = -1, .frames = 2000};
                s.ds = k * 8, s.ps = k * 2;
                request_result r = requests_run(&s, seed);
                CHECK(r.p50_ms < 51);
                p99[k] += r.p99_ms / SEEDS;
                cost[k] += r.cost / SEEDS;
            }
        if (getenv("VERBOSE") != NULL)
            fprintf(stderr, "requests, loss %d %%: p99 %.1f, with FEC %.1f ms; %.3f, %.3f bytes a byte\n", loss, p99[0], p99[1], cost[0],
                    cost[1]);
        CHECK(p99[1] < p99[0] + 25 && cost[1] < cost[0] + 0.12);
    }
}

/* While it goes on parity insures it, where it stops, in the middle of a group, copies do. */
static void test_end_of_a_stream_has_copies(void)
{
    steady s = {.mbit = 50, .rtt_ms = 50, .loss = 5, .every_us = 2000, .frames = 3003, .insurance = -1, .ds = 8, .ps = 2};
    steady_result with = steady_run(&s, 1);
    s.insurance = 0;
    steady_result without = steady_run(&s, 1);
    CHECK(without.copies == 0);
    print("end", &with);
    CHECK(with.copies >= 1 && with.copies < 50);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_steady_streams),
        TEST(test_no_loss_no_parity),
        TEST(test_fixed_sender_sends_all_parity),
        TEST(test_parity_is_no_queue_of_its_own),
        TEST(test_bulk_goes_without_parity),
        TEST(test_requests_keep_their_copies),
        TEST(test_end_of_a_stream_has_copies),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
