/* SPDX-License-Identifier: MIT */
/* TCP senders with endless data, as neighbours on a line: cubic (RFC 9438, with HyStart's delay) and BBR
 * (draft-cardwell-iccrg-bbr-congestion-control-00). What a model needs that shares a queue: a window or a pace, and
 * losses; a lost packet is not sent again, another one is in its place. Their ACKs are never lost. */
#ifndef TCP_H
#define TCP_H

#include <math.h>

#include "network.h"

enum { TCP_PACKET = 1500, TCP_RING = 1 << 14, TCP_RTO_US = 200000 };
#define TCP_NEVER UINT64_MAX

typedef enum { TCP_CUBIC, TCP_BBR } tcp_kind;

typedef struct {
    uint64_t sent_us, ack_us; /* ack_us: TCP_NEVER when it is lost */
    uint64_t delivered, delivered_us;
} tcp_packet;

typedef struct {
    tcp_kind kind;
    net_piece *line;
    uint64_t rtt_us, now;
    tcp_packet ring[TCP_RING];
    uint64_t una, nxt;          /* packets; [una, nxt) under way */
    uint64_t delivered, delivered_us, lost;
    double cwnd;
    uint64_t least_us, round_end, rounds;
    /* cubic */
    double ssthresh, w_max, epoch_us, w_est;
    uint64_t recovery;
    /* BBR */
    enum { BBR_STARTUP, BBR_DRAIN, BBR_PROBE_BW, BBR_PROBE_RTT } state;
    double rates[10], full_rate; /* of the latest rounds; packets/us */
    uint32_t full_rounds, phase;
    uint64_t phase_us, least_at_us, probe_rtt_us, pace_us;
} tcp_flow;

static inline void tcp_init(tcp_flow *t, tcp_kind kind, net_piece *line, uint64_t rtt_us, uint64_t now)
{
    memset(t, 0, sizeof *t);
    t->kind = kind;
    t->line = line;
    t->rtt_us = rtt_us;
    t->now = t->delivered_us = t->pace_us = t->least_at_us = now;
    t->cwnd = 10;
    t->ssthresh = 1e9;
}

static inline double bbr_rate(const tcp_flow *t)
{
    double most = 0;
    for (int i = 0; i < 10; i++)
        most = t->rates[i] > most ? t->rates[i] : most;
    return most;
}

static inline double bbr_gain(const tcp_flow *t)
{
    return t->state == BBR_STARTUP ? 2.885 : t->state == BBR_DRAIN ? 1 / 2.885 : t->state == BBR_PROBE_RTT ? 1 :
           t->phase == 0 ? 1.25 : t->phase == 1 ? 0.75 : 1;
}

static inline double tcp_window(const tcp_flow *t)
{
    if (t->kind == TCP_CUBIC)
        return t->cwnd;
    double product = bbr_rate(t) * (double)t->least_us, gain = t->state == BBR_PROBE_BW ? 2 : 2.885;
    if (t->state == BBR_PROBE_RTT)
        return 4;
    return product == 0 ? 10 : product * gain + 3 > 4 ? product * gain + 3 : 4;
}

static inline void tcp_send(tcp_flow *t)
{
    while ((double)(t->nxt - t->una) < tcp_window(t) && t->nxt - t->una < TCP_RING &&
           (t->kind == TCP_CUBIC || t->pace_us <= t->now)) {
        net_fate fate = {.copies = 1, .due = {t->now}};
        t->line->act(NULL, t->line, NULL, TCP_PACKET, &fate);
        t->lost += fate.copies == 0;
        if (t->una == t->nxt)
            t->delivered_us = t->now;
        uint64_t ack_us = fate.copies ? fate.due[0] + t->rtt_us : TCP_NEVER;
        t->ring[t->nxt++ % TCP_RING] = (tcp_packet){t->now, ack_us, t->delivered, t->delivered_us};
        double rate = bbr_rate(t) * bbr_gain(t);
        if (t->kind == TCP_BBR)
            t->pace_us = (t->pace_us > t->now ? t->pace_us : t->now) +
                         (uint64_t)(rate > 0 ? 1 / rate : (double)t->rtt_us / 25);
    }
}

static inline void cubic_acked(tcp_flow *t, uint64_t rtt)
{
    if (t->cwnd < t->ssthresh) {
        t->cwnd++;
        uint64_t margin = t->least_us / 8 < 4000 ? 4000 : t->least_us / 8 > 16000 ? 16000 : t->least_us / 8;
        if (t->cwnd >= 16 && rtt > t->least_us + margin)
            t->ssthresh = t->cwnd;
        return;
    }
    if (t->epoch_us == 0) {
        t->epoch_us = (double)t->now;
        t->w_max = t->w_max > t->cwnd ? t->w_max : t->cwnd;
        t->w_est = t->cwnd;
    }
    double k = cbrt((t->w_max * 0.3) / 0.4), at = ((double)t->now - t->epoch_us + (double)t->least_us) / 1e6 - k;
    double target = 0.4 * at * at * at + t->w_max;
    t->w_est += 0.53 / t->cwnd;
    target = target > 1.5 * t->cwnd ? 1.5 * t->cwnd : target;
    if (target > t->cwnd)
        t->cwnd += (target - t->cwnd) / t->cwnd;
    if (t->w_est > t->cwnd)
        t->cwnd = t->w_est;
}

static inline void cubic_lost(tcp_flow *t)
{
    if (t->una < t->recovery)
        return;
    t->recovery = t->nxt;
    t->w_max = t->cwnd < t->w_max ? t->cwnd * 0.85 : t->cwnd;
    t->cwnd = t->cwnd * 0.7 > 2 ? t->cwnd * 0.7 : 2;
    t->ssthresh = t->cwnd;
    t->epoch_us = 0;
}

static inline void bbr_acked(tcp_flow *t, const tcp_packet *p, bool round)
{
    uint64_t took = t->now - p->delivered_us;
    double rate = (double)(t->delivered - p->delivered) / (double)(took > 0 ? took : 1);
    if (round)
        t->rates[t->rounds % 10] = 0;
    if (rate > t->rates[t->rounds % 10])
        t->rates[t->rounds % 10] = rate;
    double inflight = (double)(t->nxt - t->una), product = bbr_rate(t) * (double)t->least_us;
    if (t->state == BBR_STARTUP && round) {
        t->full_rounds = bbr_rate(t) > t->full_rate * 1.25 ? 0 : t->full_rounds + 1;
        t->full_rate = t->full_rounds == 0 ? bbr_rate(t) : t->full_rate;
        if (t->full_rounds >= 3)
            t->state = BBR_DRAIN;
    }
    if (t->state == BBR_DRAIN && inflight <= product) {
        t->state = BBR_PROBE_BW;
        t->phase = 2;
        t->phase_us = t->now;
    }
    if (t->state == BBR_PROBE_BW) {
        bool over = t->now - t->phase_us > t->least_us;
        if (t->phase == 0 ? over && inflight >= 1.25 * product * 0.98 : t->phase == 1 ? over || inflight <= product : over) {
            t->phase = (t->phase + 1) % 8;
            t->phase_us = t->now;
        }
    }
    if (t->state == BBR_PROBE_RTT && inflight <= 4 && t->probe_rtt_us == 0)
        t->probe_rtt_us = t->now + 200000;
    if (t->state == BBR_PROBE_RTT && t->probe_rtt_us > 0 && t->now >= t->probe_rtt_us) {
        t->state = t->full_rounds >= 3 ? BBR_PROBE_BW : BBR_STARTUP;
        t->phase = 2;
        t->phase_us = t->least_at_us = t->now;
    }
    if (t->state != BBR_PROBE_RTT && t->now - t->least_at_us > 10000000) {
        t->state = BBR_PROBE_RTT;
        t->probe_rtt_us = 0;
        t->least_us = TCP_NEVER;
    }
}

/* When the next thing happens to it. */
static inline uint64_t tcp_next(const tcp_flow *t)
{
    uint64_t next = TCP_NEVER;
    for (uint64_t i = t->una; i < t->nxt && next == TCP_NEVER; i++)
        next = t->ring[i % TCP_RING].ack_us;
    if (next == TCP_NEVER && t->una < t->nxt)
        next = t->ring[(t->nxt - 1) % TCP_RING].sent_us + TCP_RTO_US + t->rtt_us;
    if (t->kind == TCP_BBR && (double)(t->nxt - t->una) < tcp_window(t))
        next = t->pace_us < next ? t->pace_us : next;
    return next;
}

static inline void tcp_step(tcp_flow *t, uint64_t now)
{
    t->now = now;
    while (t->una < t->nxt) {
        const tcp_packet *p = &t->ring[t->una % TCP_RING];
        if (p->ack_us == TCP_NEVER) { /* lost, once something later has come, or nothing does for long */
            uint64_t later = t->una;
            while (later < t->nxt && t->ring[later % TCP_RING].ack_us == TCP_NEVER)
                later++;
            uint64_t timeout = t->ring[(t->nxt - 1) % TCP_RING].sent_us + TCP_RTO_US + t->rtt_us;
            uint64_t found = later < t->nxt ? t->ring[later % TCP_RING].ack_us : timeout;
            if (found > now)
                break;
            if (t->kind == TCP_CUBIC)
                cubic_lost(t);
            t->una++;
            continue;
        }
        if (p->ack_us > now)
            break;
        uint64_t rtt = now - p->sent_us;
        bool round = t->una >= t->round_end;
        if (round) {
            t->round_end = t->nxt;
            t->rounds++;
        }
        if (t->least_us == 0 || rtt <= t->least_us) {
            t->least_us = rtt;
            t->least_at_us = now;
        }
        t->delivered++;
        t->delivered_us = now;
        if (t->kind == TCP_CUBIC)
            cubic_acked(t, rtt);
        else
            bbr_acked(t, p, round);
        t->una++;
    }
    tcp_send(t);
}

#endif
