/* SPDX-License-Identifier: MIT */
/* A transfer over a link as users have it (a rate, a queue, a round trip, loss), in virtual time: two ARQs, driven as an
 * engine drives them, with timers of whole ms. One scene and one seed give one result. */
#ifndef SCENE_H
#define SCENE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arq/kcp.h"
#include "base/err.h"
#include "base/octets.h"
#include "network.h"

#define SCENE_AROUND 28u /* IP and UDP */
#define SCENE_BEGINS_US 1000000000u

/* What becomes of a segment that the receiver sends. */
typedef void scene_lie(uint8_t *segment, uint64_t now_us);

typedef struct {
    const char *name;
    double mbit, rtt_ms, jitter_ms, loss, queue_kb;   /* each direction the same; loss in percent */
    double bad_in, bad_out;                           /* Gilbert-Elliott: percent, to and from the bad state, where all is lost */
    double mb;                                        /* to be carried */
    double later_mbit, later_s;                       /* the rate changes then; 0: never */
    double resumed_mbit;                              /* an earlier connection has found that; 0: there was none */
    uint32_t wnd;                                     /* of both ends; 0: 8192 */
    uint32_t ack_ms;                                  /* the receiver acknowledges at such times only, as kcp-go does ... */
    bool ack_once;                                    /* ... or when a packet is full of ACKs, and says none twice, as kcp-go too */
    bool overtaking;                                  /* jitter changes the order */
    double back_mbit, back_queue_kb;                  /* of the ACKs' way; 0: as of the data's */
    double back_loss, back_bad_in, back_bad_out;      /* there alone, beside the others */
    double back_bunch_ms;                             /* ACKs arrive at multiples of that alone (Wi-Fi, 4G) */
    double police_mbit, police_kb;                    /* behind the line: a token bucket, its size; 0: none */
    double stop_s, stop_ms;                           /* then the relay carries nothing for so long, either way */
    int32_t insurance;                                /* percent of what is sent; 0: auto, -1: none */
    bool fixed;                                       /* the sender does not adapt */
    scene_lie *lie;   /* what becomes of the receiver's segments */
    double least_mbit, most_cost, most_queue_ms;      /* what each seed must give; the queue by its 99th percentile */
    bool nothing_lost;                                /* and that */
} scene;

typedef struct {
    double seconds, mbit, cost;  /* cost: bytes into the link per byte delivered */
    uint64_t overflowed, lost, sent;   /* packets: at the queue, on the way or by a policer, all */
    double queue_p50_ms, queue_p99_ms; /* as packets met it */
    double still_ms;                   /* the longest time in which the sender sent nothing */
    ks_kcp_counts count;
} scene_result;

typedef struct {
    ks_kcp kcp;
    ks_seg_pools pools;
    uint64_t wake_us;
} scene_end;

typedef struct {
    uint64_t now;
    scene_end end[2];
    network net;
    net_path path[2];
    uint64_t carried[2];
    uint64_t left_us, still_us; /* the latest packet of the sender's; the longest time between two */
    uint64_t to_send, received;
    scene_lie *lie;
    uint32_t ack_us;
    bool ack_once;
    uint32_t *queue_us;
    size_t queue_count;
} scene_world;

typedef struct {
    scene_world *w;
    int from;
} scene_sender;

static void scene_output(void *ctx, const struct iovec *iov, int pieces, size_t size)
{
    const scene_sender *c = ctx;
    uint8_t bytes[KS_KCP_MTU_MAX + SCENE_AROUND] = {0};
    size_t n = 0;
    for (int i = 0; i < pieces; i++) {
        memcpy(bytes + n, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    if (n != size)
        abort();
    scene_world *w = c->w;
    for (size_t at = 0; c->from == 1 && w->lie != NULL && at < n; at += KS_KCP_HEAD + ks_get_le32(bytes + at + 20))
        w->lie(bytes + at, w->now);
    w->carried[c->from] += n + SCENE_AROUND;
    if (c->from == 0) {
        w->still_us = w->now - w->left_us > w->still_us ? w->now - w->left_us : w->still_us;
        w->left_us = w->now;
        const net_piece *line = &w->path[0].pieces[0];
        w->queue_us[w->queue_count++ % 1000000] = (uint32_t)(line->state > w->now ? line->state - w->now : 0);
    }
    net_send(&w->net, &w->path[c->from], w->now, !c->from, bytes, n + SCENE_AROUND);
}

/* With TRACE=MS in the environment: what the sender knows and does, each MS and when its state changes. */
static void scene_trace(const scene_world *w)
{
    static uint64_t last;
    static int state = -1;
    static const char *const names[] = {"START", "DRAIN", "CRUISE", "PROBE"};
    const char *every = getenv("TRACE");
    const ks_kcp *k = &w->end[0].kcp;
    ks_path room;
    const ks_path *p = every != NULL && k->cfg.adaptive ? ks_kcp_path(k, &room) : NULL;
    if (p == NULL || (w->now >= last && w->now - last < 1000 * strtoull(every, NULL, 10) && state == (int)p->state))
        return;
    last = w->now;
    state = (int)p->state;
    const net_piece *line = &w->path[0].pieces[0];
    printf("%8.1f ms %-6s %u%s: rate %.2f, pace %.2f Mbit/s; round trip %.1f, least %.1f ms; ",
           (double)(w->now - SCENE_BEGINS_US) / 1e3, names[p->state], p->rounds, p->shared ? ", shared" : "", (double)ks_path_rate(p) * 8e-6, (double)p->pace * 8e-6,
           p->smooth_us / 1e3, p->least_us / 1e3);
    printf("out %u of %llu KB, queued %u packets, floor %.3f; share %u; queue %.1f ms, %llu lost there\n", p->in_flight / 1000,
           (unsigned long long)ks_path_product(p) / 1000, k->snd_end - k->snd_nxt, p->floor / 65536.0, p->share_pkts,
           line->state > w->now ? (double)(line->state - w->now) / 1e3 : 0, (unsigned long long)line->lost);
}

/* What a session does in its turn. */
static void scene_turn(scene_world *w, int at)
{
    scene_sender ctx = {w, at};
    ks_kcp *k = &w->end[at].kcp;
    ks_seg *seg;
    while ((seg = ks_kcp_pop(k)) != NULL) {
        w->received += seg->len;
        ks_seg_unref(seg);
    }
    bool full = w->ack_once && k->nacks >= k->cfg.mtu / KS_KCP_HEAD;
    if (at == 1 && w->ack_once)
        k->ntold = 0;
    if (at == 1 && w->ack_us > 0 && w->now % w->ack_us != 0 && !full) {
        w->end[at].wake_us = w->now + w->ack_us - w->now % w->ack_us;
        return;
    }
    for (int spins = 0;; spins++) {
        if (at == 0) {
            uint64_t backlog = ks_kcp_backlog(k), room = ks_kcp_room(k), want = backlog < room ? backlog : room;
            k->more_waits = want < room && want < w->to_send;
            if (want > w->to_send)
                want = w->to_send;
            if (want >= 16 * k->mss || want == w->to_send || k->snd_nxt == k->snd_end)
                while (want > 0) {
                    struct iovec iov;
                    if (ks_kcp_alloc_tail(k, (uint32_t)(want < 60000 ? want : 60000), &iov, 1) == 0)
                        abort();
                    memset(iov.iov_base, 1, iov.iov_len);
                    ks_kcp_commit(k, (uint32_t)iov.iov_len);
                    w->to_send -= iov.iov_len;
                    want -= iov.iov_len;
                }
        }
        if (k->acks_soon)
            k->flush_now = true;
        if (ks_kcp_next(k, w->now) == 0)
            ks_kcp_flush(k, w->now, scene_output, &ctx);
        if (at == 1 || k->snd_nxt != k->snd_end || w->to_send == 0 || ks_kcp_backlog(k) == 0 || spins > 1000)
            break;
        if (!k->has_room || ks_kcp_room(k) == 0)
            break;
    }
    if (at == 0)
        scene_trace(w);
    uint32_t wait = ks_kcp_next(k, w->now);
    w->end[at].wake_us = wait == UINT32_MAX ? UINT64_MAX : (w->now / 1000 + wait) * 1000;
}

static int scene_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static scene_world *scene_open(const scene *sc, uint64_t seed)
{
    scene_world *w = calloc(1, sizeof *w);
    w->queue_us = malloc(1000000 * sizeof *w->queue_us);
    net_init(&w->net, seed);
    w->now = SCENE_BEGINS_US;
    w->lie = sc->lie;
    w->ack_us = sc->ack_ms * 1000;
    w->ack_once = sc->ack_once;
    ks_kcp_config config = {.conv = 7, .mtu = 1400, .snd_wnd = sc->wnd ? sc->wnd : 8192, .rcv_wnd = sc->wnd ? sc->wnd : 8192,
                            .interval = 10, .resend = 2, .nodelay = true, .nc = true, .stream = true, .adaptive = !sc->fixed,
                            .insurance = sc->insurance == 0 ? -1 : sc->insurance < 0 ? 0 : sc->insurance};
    for (int i = 0; i < 2; i++) {
        ks_seg_pools_init(&w->end[i].pools);
        ks_kcp_init(&w->end[i].kcp, &config, &w->end[i].pools, 0);
        w->end[i].wake_us = UINT64_MAX;
        double mbit = i == 1 && sc->back_mbit > 0 ? sc->back_mbit : sc->mbit;
        double queue_kb = i == 1 && sc->back_queue_kb > 0 ? sc->back_queue_kb : sc->queue_kb;
        net_add(&w->path[i], net_line((uint64_t)(mbit * 125000), (uint64_t)(queue_kb * 1024)));
        net_add(&w->path[i], net_loss_of(i == 1 ? sc->loss + sc->back_loss : sc->loss));
        if (sc->bad_in > 0)
            net_add(&w->path[i], net_bursts(sc->bad_in, sc->bad_out));
        else if (i == 1 && sc->back_bad_in > 0)
            net_add(&w->path[i], net_bursts(sc->back_bad_in, sc->back_bad_out));
        if (sc->police_mbit > 0)
            net_add(&w->path[i], net_policer((uint64_t)(sc->police_mbit * 125000), (uint64_t)(sc->police_kb * 1024)));
        net_add(&w->path[i], net_delay((uint64_t)(sc->rtt_ms * 500), (uint64_t)(sc->jitter_ms * 1000)));
        if (i == 1 && sc->back_bunch_ms > 0)
            net_add(&w->path[i], net_bunch((uint64_t)(sc->back_bunch_ms * 1000)));
        if (!sc->overtaking)
            net_add(&w->path[i], net_in_order());
    }
    return w;
}

static void scene_close(scene_world *w)
{
    for (int i = 0; i < 2; i++) {
        ks_kcp_free(&w->end[i].kcp);
        ks_seg_pools_free(&w->end[i].pools);
    }
    net_free(&w->net);
    free(w->queue_us);
    free(w);
}

/* When something happens next. */
static uint64_t scene_next(const scene_world *w)
{
    uint64_t next = w->end[0].wake_us < w->end[1].wake_us ? w->end[0].wake_us : w->end[1].wake_us;
    return w->net.count > 0 && w->net.heap[0]->due < next ? w->net.heap[0]->due : next;
}

/* What has arrived by now, and who got something. */
static void scene_receive(scene_world *w, bool got[2])
{
    got[0] = got[1] = false;
    while (w->net.count > 0 && w->net.heap[0]->due <= w->now) {
        net_packet *p = net_take(&w->net);
        if (ks_kcp_input_untrusted(&w->end[p->to].kcp, p->bytes, p->size - SCENE_AROUND, w->now, false) != KS_OK)
            abort();
        got[p->to] = true;
        free(p);
    }
}

/* Runs for so long. */
static inline void scene_advance(scene_world *w, uint64_t us)
{
    uint64_t until = w->now + us;
    scene_turn(w, 0);
    for (uint64_t next; (next = scene_next(w)) < until;) {
        bool got[2];
        w->now = next > w->now ? next : w->now;
        scene_receive(w, got);
        for (int i = 0; i < 2; i++)
            if (got[i] || w->end[i].wake_us <= w->now)
                scene_turn(w, i);
    }
    w->now = until;
}

static inline scene_result scene_run(const scene *sc, uint64_t seed)
{
    scene_world *w = scene_open(sc, seed);
    if (sc->resumed_mbit > 0)
        ks_kcp_resume(&w->end[0].kcp, (uint64_t)(sc->resumed_mbit * 125000), (uint32_t)(sc->rtt_ms * 1000));
    /* The handshake. */
    w->to_send = 8;
    scene_turn(w, 0);
    uint64_t begun = w->now, size = (uint64_t)(sc->mb * 1000000), limit = w->now + UINT64_C(600000000);
    bool started = false, changed = sc->later_s == 0, stopped = sc->stop_s == 0;
    w->received = 0;
    while (w->now < limit && w->received < size + 8) {
        uint64_t next = scene_next(w);
        if (next == UINT64_MAX)
            break;
        w->now = next > w->now ? next : w->now;
        if (!changed && w->now - begun > (uint64_t)(sc->later_s * 1e6)) {
            changed = true;
            for (int i = 0; i < 2; i++)
                w->path[i].pieces[0].a = (uint64_t)(sc->later_mbit * 125000);
        }
        if (!stopped && w->now - begun > (uint64_t)(sc->stop_s * 1e6)) {
            stopped = true;
            for (int i = 0; i < 2; i++) {
                net_piece *line = &w->path[i].pieces[0];
                line->state = (line->state > w->now ? line->state : w->now) + (uint64_t)(sc->stop_ms * 1000);
            }
        }
        bool dirty[2];
        scene_receive(w, dirty);
        if (!started && w->end[0].kcp.heard_una) {
            started = true;
            begun = w->now;
            w->to_send = size;
            w->left_us = w->now;
            w->still_us = 0;
        }
        for (int i = 0; i < 2; i++)
            if (dirty[i] || w->end[i].wake_us <= w->now)
                scene_turn(w, i);
    }
    scene_result r = {.seconds = (double)(w->now - begun) / 1e6, .sent = w->path[0].carried, .count = w->end[0].kcp.count};
    r.mbit = (double)(w->received - 8) * 8 / 1e6 / r.seconds;
    r.cost = (double)w->carried[0] / (double)w->received;
    r.still_ms = (double)w->still_us / 1e3;
    r.overflowed = w->path[0].pieces[0].lost;
    r.lost = w->path[0].lost - r.overflowed;
    size_t n = w->queue_count < 1000000 ? w->queue_count : 1000000;
    qsort(w->queue_us, n, sizeof *w->queue_us, scene_compare);
    r.queue_p50_ms = n ? w->queue_us[n / 2] / 1e3 : 0;
    r.queue_p99_ms = n ? w->queue_us[n * 99 / 100] / 1e3 : 0;
    scene_close(w);
    return r;
}

/* ---- requests: 200 bytes every 20 ms, answered by 2,000 ---- */

#define REQUEST_EVERY_US 20000u
#define REQUEST_BYTES 208u  /* with smux's head */
#define ANSWER_BYTES 2016u

typedef struct {
    double p50_ms, p99_ms, cost; /* both directions together */
} request_result;

static inline void request_turn(scene_world *w, int at, uint64_t *received, uint64_t owed)
{
    scene_sender ctx = {w, at};
    ks_kcp *k = &w->end[at].kcp;
    ks_seg *seg;
    while ((seg = ks_kcp_pop(k)) != NULL) {
        *received += seg->len;
        ks_seg_unref(seg);
    }
    static const uint8_t zeros[ANSWER_BYTES];
    while (owed > 0) {
        uint32_t n = owed < sizeof zeros ? (uint32_t)owed : (uint32_t)sizeof zeros;
        if (ks_kcp_send(k, zeros, n) != (int)n)
            abort();
        owed -= n;
    }
    if (k->acks_soon)
        k->flush_now = true;
    if (ks_kcp_next(k, w->now) == 0)
        ks_kcp_flush(k, w->now, scene_output, &ctx);
    uint32_t wait = ks_kcp_next(k, w->now);
    w->end[at].wake_us = wait == UINT32_MAX ? UINT64_MAX : (w->now / 1000 + wait) * 1000;
}

static inline request_result request_run(const scene *sc, uint64_t seed, uint32_t requests)
{
    scene_world *w = scene_open(sc, seed);
    uint32_t *took = calloc(requests, sizeof *took);
    uint64_t received[2] = {0, 0}, answered = 0, asked = 0, done = 0, begun = w->now;
    while (done < requests && w->now < begun + UINT64_C(600000000)) {
        uint64_t next = begun + asked * REQUEST_EVERY_US;
        if (asked == requests || scene_next(w) < next)
            next = scene_next(w);
        if (next == UINT64_MAX)
            break;
        w->now = next > w->now ? next : w->now;
        bool dirty[2];
        scene_receive(w, dirty);
        uint64_t owed = 0;
        while (asked < requests && w->now >= begun + asked * REQUEST_EVERY_US) {
            owed += REQUEST_BYTES;
            asked++;
        }
        if (dirty[0] || owed > 0 || w->end[0].wake_us <= w->now)
            request_turn(w, 0, &received[0], owed);
        if (dirty[1] || w->end[1].wake_us <= w->now) {
            request_turn(w, 1, &received[1], 0);
            uint64_t complete = received[1] / REQUEST_BYTES;
            if (complete > answered) {
                request_turn(w, 1, &received[1], (complete - answered) * ANSWER_BYTES);
                answered = complete;
            }
        }
        for (; done < requests && received[0] >= (done + 1) * ANSWER_BYTES; done++)
            took[done] = (uint32_t)(w->now - begun - done * REQUEST_EVERY_US);
    }
    request_result r = {.cost = (double)(w->carried[0] + w->carried[1]) / (double)(requests * 2200u)};
    qsort(took, requests, sizeof *took, scene_compare);
    r.p50_ms = done < requests ? 1e9 : took[requests / 2] / 1e3;
    r.p99_ms = done < requests ? 1e9 : took[requests * 99 / 100] / 1e3;
    free(took);
    scene_close(w);
    return r;
}

#endif
