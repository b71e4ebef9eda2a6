/* SPDX-License-Identifier: MIT */
/* Adaptive senders, and TCP, on one line in virtual time: what each gets of it. */
#ifndef NEIGHBOURS_H
#define NEIGHBOURS_H

#include "scene.h"
#include "tcp.h"

enum { NEIGHBOURS_MAX = 10 };

typedef struct {
    const char *name;
    int ours;               /* so many of our flows */
    bool tcp;               /* and one of TCP: */
    tcp_kind kind;
    double mbit, rtt_ms, queue_kb;
    double later_s;         /* each of ours begins so much after the one before, TCP first */
    double from_s, to_s;    /* what is measured, from the last one's begin on */
    double least_share, most_share;    /* what each seed must give; ours of all */
    double least_smallest, least_jain; /* of ours */
} neighbours;

typedef struct {
    double mbit[NEIGHBOURS_MAX], tcp_mbit; /* of the application's bytes */
    double share, smallest, jain;          /* ours of all; the smallest of ours by the mean; RFC 5166 */
} neighbours_result;

static inline neighbours_result neighbours_run(const neighbours *ns, uint64_t seed)
{
    net_piece line = net_line((uint64_t)(ns->mbit * 125000), (uint64_t)(ns->queue_kb * 1024));
    scene sc = {.name = ns->name, .mbit = ns->mbit, .rtt_ms = ns->rtt_ms, .queue_kb = ns->queue_kb};
    scene_world *w[NEIGHBOURS_MAX];
    tcp_flow *tcp = ns->tcp ? calloc(1, sizeof *tcp) : NULL;
    uint64_t first = SCENE_BEGINS_US + seed * 1237; /* another phase of the timers */
    if (tcp != NULL)
        tcp_init(tcp, ns->kind, &line, (uint64_t)(ns->rtt_ms * 1000), first);
    uint64_t begins[NEIGHBOURS_MAX], received[NEIGHBOURS_MAX] = {0}, tcp_received = 0;
    for (int i = 0; i < ns->ours; i++) {
        w[i] = scene_open(&sc, seed * 100 + (uint64_t)i);
        w[i]->path[0].pieces[0] = net_shared(&line);
        begins[i] = first + (uint64_t)((i + ns->tcp) * ns->later_s * 1e6);
        w[i]->now = begins[i];
        w[i]->end[0].wake_us = begins[i];
        w[i]->to_send = UINT64_C(1) << 40;
    }
    uint64_t last = first + (uint64_t)((ns->ours - 1 + ns->tcp) * ns->later_s * 1e6);
    uint64_t from = last + (uint64_t)(ns->from_s * 1e6), to = last + (uint64_t)(ns->to_s * 1e6);
    if (tcp != NULL)
        tcp_step(tcp, first);
    for (bool measuring = false;;) {
        uint64_t next = tcp != NULL ? tcp_next(tcp) : TCP_NEVER;
        int which = -1;
        for (int i = 0; i < ns->ours; i++)
            if (scene_next(w[i]) < next) {
                next = scene_next(w[i]);
                which = i;
            }
        if (!measuring && next >= from) {
            measuring = true;
            tcp_received = tcp != NULL ? tcp->delivered : 0;
            for (int i = 0; i < ns->ours; i++)
                received[i] = w[i]->received;
        }
        if (next >= to)
            break;
        if (which < 0) {
            tcp_step(tcp, next > tcp->now ? next : tcp->now);
            continue;
        }
        bool got[2];
        scene_world *x = w[which];
        x->now = next > x->now ? next : x->now;
        scene_receive(x, got);
        for (int i = 0; i < 2; i++)
            if (got[i] || x->end[i].wake_us <= x->now)
                scene_turn(x, i);
    }
    neighbours_result r = {0};
    double sum = 0, squares = 0, least = 1e9, seconds = (double)(to - from) / 1e6;
    for (int i = 0; i < ns->ours; i++) {
        r.mbit[i] = (double)(w[i]->received - received[i]) * 8 / 1e6 / seconds;
        sum += r.mbit[i];
        squares += r.mbit[i] * r.mbit[i];
        least = r.mbit[i] < least ? r.mbit[i] : least;
        scene_close(w[i]);
    }
    r.tcp_mbit = tcp != NULL ? (double)(tcp->delivered - tcp_received) * 1448 * 8 / 1e6 / seconds : 0;
    r.share = sum / (sum + r.tcp_mbit);
    r.smallest = least / (sum / ns->ours);
    r.jain = sum * sum / (ns->ours * squares);
    free(tcp);
    return r;
}

/* Behind each what seeds 1 to 6 gave. */
static const neighbours neighbourhoods[] = {
    {.name = "beside cubic", .ours = 1, .tcp = true, .kind = TCP_CUBIC, .mbit = 50, .rtt_ms = 40, .queue_kb = 256, .later_s = 1,
     .from_s = 2, .to_s = 20, .least_share = 0.34, .most_share = 0.66}, /* 0.50 to 0.54 */
    /* The kernel's BBR leaves more than this model of it: 0.21 to 0.37. */
    {.name = "beside BBR", .ours = 1, .tcp = true, .kind = TCP_BBR, .mbit = 50, .rtt_ms = 40, .queue_kb = 256, .later_s = 1,
     .from_s = 2, .to_s = 20, .least_share = 0.05, .most_share = 0.66}, /* 0.06 to 0.08 */
    {.name = "two", .ours = 2, .mbit = 50, .rtt_ms = 40, .queue_kb = 256, .later_s = 1,
     .from_s = 2, .to_s = 20, .least_smallest = 0.68, .least_jain = 0.9}, /* 0.74 to 0.97, 0.935 to 0.999 */
    {.name = "ten", .ours = 10, .mbit = 50, .rtt_ms = 40, .queue_kb = 256, .later_s = 0.3,
     .from_s = 3, .to_s = 20, .least_smallest = 0.4, .least_jain = 0.8}, /* 0.47 to 0.68, 0.837 to 0.921 */
    {.name = "ten, at once", .ours = 10, .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .later_s = 0.01,
     .from_s = 2, .to_s = 20, .least_smallest = 0.18, .least_jain = 0.64}, /* 0.21 to 0.52, 0.677 to 0.868 */
};

#endif
