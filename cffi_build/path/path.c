/* SPDX-License-Identifier: MIT */
#include "path/path.h"

#include <string.h>

#include "base/checks.h"
#include "base/serial.h"

#define SECOND_US UINT64_C(1000000)

/* What was found by the scenes of tests/c/scenes.c; docs/link.md says what each is for. */
#define BLIND_PKTS 10u         /* under way before a round trip is known (RFC 6928) */
#define FIRST_PKTS 64u         /* the first flight, after that: spread over half a round trip, FIRST_US at most */
#define FIRST_US 80000u
#define NEAR_US 1000u         /* round trip of a near path */
#define NEAR_ACK_US 5000u      /* a queue of NEAR_PKTS at 100 Mbit/s is shorter; kcp-go's ACKs wait for up to 10 ms */
#define NEAR_PKTS 32u          /* its first flight */
#define LEAST_PKTS 4u          /* under way, whatever the product */
#define SLACK_US 4000u         /* of the rate, under way beside two products: acknowledgments may be as late */
#define BURST_US 1500u         /* of the rate, at once: timers are late by up to 1 ms */
#define BACKLOG_US 25000u      /* of the rate, unsent */
#define BACKLOG_PKTS 32u
#define ACK_DELAY_US 40000u    /* a peer may put ACKs off for so long */
#define LEAST_AGE_US (10 * SECOND_US)
#define CUT_AGE_US (UINT32_MAX / 4)
#define CRUISE_ROUNDS 6u
#define DRAIN_ROUNDS 3u        /* the product may have been overestimated */
#define PROBE_ROUNDS 2u
#define FLAT_ROUNDS 3u         /* START ends after so many round trips without growth */
/* In a queue that others keep filled. What each adds is the same whatever it has, what a loss takes is a part: so shares
 * become alike (Chiu and Jain). */
#define SHARE_PKTS 64u         /* of ours in it, at most; half of them after a loss */
#define SHARE_LEAST_PKTS 8u
#define SHARE_STEP_PKTS 4u     /* more for each CRUISE */
#define SHARE_US 25000u        /* of our rate, and SHARE_LEAST_PKTS: of who is slow they would be a long queue */
#define PROBE_STEP_PKTS 16u    /* a round trip, in PROBE beside its gain; as much as half of the rate */
#define MARGIN_US 4000u        /* a round trip so far above the least tells of a queue; on near paths less: */
#define NEAR_LEAST_US 500u
#define VAIN_MAX 5u            /* STARTs in vain, each of which doubles the time until the next */
#define SOME_RTTS 8u
#define SOME_BUNCHES 2u
#define SHORT_PKTS 12u         /* that START measures a rate by, at least */
#define SHORT_LEAST_US 1000u
#define BUNCH_PKTS 6u
#define ROUND_PKTS 16u         /* fewer say nothing about loss */
#define LOSS_UNIT 65536u
#define LOSS_SHARE 512u        /* of the latest segments, in the loss of late */
#define HEAVY_LOSS (LOSS_UNIT / 4) /* above the floor: so much in a round trip ends START; */
#define HEAVY_ROUNDS 2u        /* where a packet has many ACKs and no queue is seen, in so many in a row */
#define CUT_LOSS (LOSS_UNIT / 25) /* above the floor, with a queue: more was sent than the path takes */

/* Gains, of 1024. */
#define UNITY 1024u
#define GAIN_START 2560u
/* A large product tends to stand before a queue that holds but a part of it. */
#define GAIN_START_BIG 1900u
#define GAIN_START_HUGE 1400u
#define BIG_PRODUCT 200000u
#define HUGE_PRODUCT 800000u
#define GAIN_DRAIN 768u
#define GAIN_CRUISE 1019u
#define GAIN_PROBE 1147u
#define GAIN_PROBE_SHARED 1200u

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t per_second(uint64_t bytes, uint32_t us)
{
    uint64_t rate = bytes * SECOND_US / (us > 0 ? us : 1);
    return rate < KS_PATH_RATE_MAX ? rate : KS_PATH_RATE_MAX;
}

/* Bytes that a rate brings in so many us; both are bounded, so it fits. */
static uint64_t in_time(uint64_t rate, uint64_t us)
{
    return rate * us / SECOND_US;
}

void ks_path_init(ks_path *p, uint32_t packet_bytes, uint64_t now_us)
{
    memset(p, 0, sizeof *p);
    p->packet_bytes = packet_bytes;
    p->filled_us = now_us;
    p->some_rtt_us = p->round_rtt_us = p->losses[0] = p->losses[1] = UINT32_MAX;
    p->tokens = (int64_t)packet_bytes * (int64_t)LEAST_PKTS * (int64_t)SECOND_US;
}

uint64_t ks_path_rate(const ks_path *p)
{
    return max64(p->rate[0], p->rate[1]);
}

uint64_t ks_path_proven_rate(const ks_path *p)
{
    return p->state == KS_PATH_START ? 0 : ks_path_rate(p);
}

void ks_path_resume(ks_path *p, uint64_t rate, uint32_t least_us)
{
    p->resume_rate = rate < KS_PATH_RATE_MAX ? rate : KS_PATH_RATE_MAX;
    p->resume_least_us = least_us;
}

uint64_t ks_path_product(const ks_path *p)
{
    return in_time(ks_path_rate(p), p->least_us);
}

/* ---- how fast, how much ---- */

static uint32_t start_gain(uint64_t product)
{
    return product < BIG_PRODUCT ? GAIN_START : product < HUGE_PRODUCT ? GAIN_START_BIG : GAIN_START_HUGE;
}

static uint32_t gain(const ks_path *p)
{
    switch (p->state) {
    case KS_PATH_START:
        return start_gain(ks_path_product(p));
    case KS_PATH_DRAIN:
        return GAIN_DRAIN;
    case KS_PATH_CRUISE:
        return p->shared ? GAIN_PROBE_SHARED : GAIN_CRUISE;
    default:
        return p->shared ? GAIN_PROBE_SHARED : GAIN_PROBE;
    }
}

/* Half of what an earlier connection found, then as much as that, but no more than twice what this one finds. */
static uint64_t resumed_rate(const ks_path *p)
{
    if (p->resume_rate == 0 || p->least_us == 0)
        return 0;
    bool alike = p->least_us <= 2 * p->resume_least_us && p->least_us >= p->resume_least_us - p->resume_least_us / 4;
    if (!alike)
        return 0;
    uint64_t rate = max64(p->resume_rate / 2, 2 * ks_path_rate(p));
    return rate < p->resume_rate ? rate : p->resume_rate;
}

static void set_pace(ks_path *p)
{
    p->pace = ks_path_rate(p) * gain(p) / UNITY;
    if (p->shared && p->state == KS_PATH_PROBE && p->smooth_us > 0) {
        uint64_t step = per_second((uint64_t)PROBE_STEP_PKTS * p->packet_bytes, p->smooth_us);
        p->pace += step < ks_path_rate(p) / 2 ? step : ks_path_rate(p) / 2;
    }
    if (p->state == KS_PATH_START && p->least_us > 0) {
        uint32_t over = p->least_us / 2 < FIRST_US ? p->least_us / 2 : FIRST_US;
        p->pace = max64(p->pace, per_second((uint64_t)FIRST_PKTS * p->packet_bytes, over));
        p->pace = max64(p->pace, resumed_rate(p));
    }
    if (p->state != KS_PATH_DRAIN) /* what is lost anyhow leaves room for as much */
        p->pace = p->pace * LOSS_UNIT / (LOSS_UNIT - p->floor);
    /* What may always be under way goes out within a round trip, or a wrong rate could not be found to be wrong. */
    if (p->smooth_us > 0)
        p->pace = max64(p->pace, per_second((uint64_t)LEAST_PKTS * p->packet_bytes, p->smooth_us));
}

/* Within a building the path holds little, and so do the queues of its switches: NEAR_PKTS begin, at once, and half more
 * than the product goes on; unless acknowledgments come late. Not what the application limits: its bursts are what they are. */
static bool starts_near(const ks_path *p)
{
    return p->state == KS_PATH_START && !p->round_limited && p->least_us > 0 && p->least_us < NEAR_US &&
           p->now_rtt_us < NEAR_ACK_US;
}

/* Bytes of ours that may stand in a queue that others keep filled. */
static uint64_t queue_share(const ks_path *p)
{
    uint64_t most = (uint64_t)p->share_pkts * p->packet_bytes;
    uint64_t bound = in_time(ks_path_rate(p), SHARE_US) + SHARE_LEAST_PKTS * (uint64_t)p->packet_bytes;
    return most < bound ? most : bound;
}

/* Bytes that may be under way. */
static uint64_t most_in_flight(const ks_path *p)
{
    uint64_t rate = ks_path_rate(p), product = ks_path_product(p), least = (uint64_t)LEAST_PKTS * p->packet_bytes;
    if (starts_near(p))
        return max64(product + product / 2, (uint64_t)NEAR_PKTS * p->packet_bytes);
    if (rate == 0)
        return max64((uint64_t)(p->least_us > 0 ? FIRST_PKTS : BLIND_PKTS) * p->packet_bytes,
                     in_time(resumed_rate(p), p->least_us));
    uint64_t most = 2 * product + in_time(rate, SLACK_US) + (p->extra[0] > p->extra[1] ? p->extra[0] : p->extra[1]);
    if (p->shared && p->state != KS_PATH_START)
        most = product + queue_share(p);
    if (p->state == KS_PATH_START)
        most = max64(most, max64((uint64_t)FIRST_PKTS * p->packet_bytes, in_time(resumed_rate(p), p->least_us)));
    if (p->state == KS_PATH_DRAIN) {
        /* Should the path have become slow, its acknowledgments tell at once: for four that come three go. */
        uint64_t drained = (p->delivered - p->drain_delivered) / 4;
        uint64_t left = p->drain_in_flight > drained ? p->drain_in_flight - drained : 0;
        most = left < most ? left : most;
    }
    return max64(most, least);
}

static int64_t burst(const ks_path *p)
{
    return (int64_t)max64(in_time(p->pace, BURST_US), 2 * (uint64_t)p->packet_bytes) * (int64_t)SECOND_US;
}

static void fill(ks_path *p, uint64_t now_us)
{
    uint64_t passed = now_us - p->filled_us;
    p->filled_us = now_us;
    if (p->pace == 0)
        return;
    /* A long pause pays no more than a burst, and the product fits. */
    p->tokens += (int64_t)(p->pace * (passed < SECOND_US ? passed : SECOND_US));
    int64_t most = burst(p);
    p->tokens = p->tokens < most ? p->tokens : most;
}

int64_t ks_path_room(ks_path *p, uint64_t now_us)
{
    fill(p, now_us);
    int64_t room = (int64_t)most_in_flight(p) - (int64_t)p->in_flight;
    if (p->pace == 0)
        return room;
    /* Rounded up: a part of a byte lets a packet go, which overdraws. */
    int64_t paced = p->tokens > 0 ? p->tokens / (int64_t)SECOND_US + 1 : 0;
    return room < paced ? room : paced;
}

bool ks_path_is_full(const ks_path *p)
{
    return most_in_flight(p) <= p->in_flight;
}

uint64_t ks_path_wait_us(const ks_path *p, uint64_t now_us)
{
    if (ks_path_is_full(p))
        return UINT64_MAX;
    if (p->pace == 0 || p->tokens > 0)
        return 0;
    uint64_t due = p->filled_us + (uint64_t)-p->tokens / p->pace + 1;
    return due > now_us ? due - now_us : 0;
}

uint64_t ks_path_backlog(const ks_path *p)
{
    return max64(in_time(p->pace, BACKLOG_US), BACKLOG_PKTS * (uint64_t)p->packet_bytes);
}

/* ---- a segment's way ---- */

/* The share of the lost among the latest some hundred; with few it is a cautious guess. */
static void note_loss(ks_path *p, uint32_t lost)
{
    p->seen += 1;
    p->seen_lost += lost;
    if (p->seen >= 2 * LOSS_SHARE) {
        p->seen /= 2;
        p->seen_lost -= p->seen_lost / 2;
    }
    p->loss = p->seen_lost * LOSS_UNIT / (p->seen + LOSS_SHARE / 8);
}

void ks_path_sent(ks_path *p, ks_path_mark *mark, uint32_t bytes, uint64_t now_us)
{
    uint32_t now = (uint32_t)now_us;
    if (p->in_flight == 0) {
        p->first_us = p->delivered_us = now;
        p->extra_us = now;
        p->extra_acked = 0;
    }
    *mark = (ks_path_mark){now, p->first_us, p->delivered_us, p->delivered, p->limited};
    p->in_flight += bytes;
    ks_path_spend(p, bytes);
}

void ks_path_acked(ks_path *p, const ks_path_mark *mark, uint32_t bytes, uint32_t rtt_us, uint64_t now_us)
{
    uint32_t now = (uint32_t)now_us;
    KS_ASSERT(bytes <= p->in_flight);
    p->in_flight -= bytes;
    p->delivered += bytes;
    p->delivered_us = now;
    p->acked_bytes += bytes;
    p->round_delivered += bytes;
    note_loss(p, 0);
    p->bunch++;
    p->acked = true;
    if (mark != NULL && (!p->marked || ks_after(mark->sent_us, p->newest.sent_us))) {
        p->marked = true;
        p->newest = *mark;
    }
    if (rtt_us == 0)
        return;
    if (!p->timed || rtt_us < p->rtt_us)
        p->rtt_us = rtt_us;
    p->timed = true;
}

void ks_path_lost(ks_path *p, const ks_path_mark *mark, uint32_t bytes)
{
    KS_ASSERT(bytes <= p->in_flight);
    p->in_flight -= bytes;
    bool ours = p->state != KS_PATH_START && !ks_after(mark->sent_us, p->cut_us); /* the queue's, that we filled */
    if (!ours)
        p->round_lost += bytes;
    if (!ours && (mark->limited || p->state != KS_PATH_START))
        note_loss(p, 1);
}

void ks_path_unlost(ks_path *p, uint32_t bytes, bool gone)
{
    if (gone)
        p->in_flight += bytes;
    p->round_lost -= p->round_lost < bytes ? p->round_lost : bytes;
    p->seen_lost -= p->seen_lost > 0;
}

void ks_path_missed(ks_path *p)
{
    note_loss(p, 1);
}

void ks_path_spend(ks_path *p, uint32_t bytes)
{
    p->tokens -= (int64_t)bytes * (int64_t)SECOND_US;
}

void ks_path_silent(ks_path *p)
{
    p->round_limited = true;
}

void ks_path_idle(ks_path *p)
{
    p->limited = true;
    p->limited_until = p->delivered + p->in_flight;
    p->round_limited = true;
}

/* ---- the model ---- */

/* A queue is so far above the least. Within a building it holds less than the margin that far paths need. */
static uint32_t queue_margin(const ks_path *p)
{
    uint32_t near = p->least_us > NEAR_LEAST_US ? p->least_us : NEAR_LEAST_US;
    uint32_t far = MARGIN_US > p->least_us / 16 ? MARGIN_US : p->least_us / 16;
    return near < far ? near : far;
}

static bool is_above(const ks_path *p, uint32_t rtt_us, uint32_t base_us)
{
    uint32_t margin = queue_margin(p);
    margin = margin > 2 * p->var_us ? margin : 2 * p->var_us; /* the peer's ACKs may wait, as kcp-go's do, or the path jitter */
    return rtt_us != UINT32_MAX && p->least_us > 0 && rtt_us > base_us + margin;
}

/* A round trip that says: there is a queue. */
static bool is_queue(const ks_path *p, uint32_t rtt_us)
{
    return is_above(p, rtt_us, p->least_us);
}

/* And it is ours: above what stays when we let ours drain. */
static bool is_our_queue(const ks_path *p, uint32_t rtt_us)
{
    return is_above(p, rtt_us, p->standing_us > p->least_us ? p->standing_us : p->least_us);
}

/* Round trips come down as far as a queue would lift them, and a queue that grows lets none: they tell of jitter. */
static bool is_jittery(const ks_path *p)
{
    uint32_t fall = p->falls_us[0] > p->falls_us[1] ? p->falls_us[0] : p->falls_us[1];
    return fall > queue_margin(p);
}

/* A token bucket lets some more pass for a while: who starts each time that a probe was faster, loses all of that. */
static void judge_start(ks_path *p)
{
    if (p->restart_rate == 0)
        return;
    bool vain = ks_path_rate(p) < p->restart_rate + p->restart_rate / 4;
    p->vain_starts = !vain ? 0 : p->vain_starts < VAIN_MAX ? p->vain_starts + 1 : VAIN_MAX;
    p->skip_starts = (1u << p->vain_starts) - 1;
}

static void enter(ks_path *p, ks_path_state state)
{
    if (state == KS_PATH_DRAIN && p->state == KS_PATH_START) {
        p->cut_us = p->delivered_us;
        p->cruise_rounds = 1;
    } else if (state == KS_PATH_DRAIN && p->state == KS_PATH_PROBE)
        p->cruise_rounds = p->cruise_rounds < CRUISE_ROUNDS / 2 ? p->cruise_rounds * 2 : CRUISE_ROUNDS;
    if (state == KS_PATH_DRAIN) {
        p->drain_in_flight = p->in_flight;
        p->drain_delivered = p->delivered;
    }
    if (p->state == KS_PATH_START) {
        p->resume_rate = 0;
        judge_start(p);
    }
    p->state = state;
    p->rounds = 0;
    p->flat_rounds = 0;
    if (state == KS_PATH_START) {
        p->restart_rate = ks_path_rate(p);
        p->heavy_rounds = 0;
        p->start_rate = 0;
        p->now_rtt_us = p->peak_us = p->falls_us[0] = p->falls_us[1] = 0;
        p->short_rate = 0;
        p->short_count = p->short_at = 0;
    }
    if (state == KS_PATH_CRUISE) { /* a cycle begins */
        /* What DRAIN has saved would on a near path be more at once than a queue there holds. */
        int64_t few = (int64_t)max64(ks_path_product(p) / 2, 2 * (uint64_t)p->packet_bytes) * (int64_t)SECOND_US;
        if (p->tokens > few)
            p->tokens = few;
        if (!p->limited) {
            p->rate[1] = p->rate[0];
            p->rate[0] = 0;
            p->extra[1] = p->extra[0];
            p->extra[0] = 0;
            p->losses[1] = p->losses[0];
            p->losses[0] = UINT32_MAX;
        }
    }
}

static void know_rate(ks_path *p, uint64_t rate)
{
    p->rate[0] = rate;
    p->rate[1] = 0;
}

/* The queue does not fall then: it grows, or there is none of ours. */
static bool may_tell_jitter(const ks_path *p)
{
    return p->state == KS_PATH_START || (p->state == KS_PATH_CRUISE && p->rounds > 0);
}

static void take_rtt(ks_path *p, uint64_t now_us)
{
    if (!p->timed)
        return;
    if (p->smooth_us == 0) {
        p->smooth_us = p->rtt_us;
        p->var_us = p->rtt_us / 2;
    } else {
        uint32_t off = p->rtt_us > p->smooth_us ? p->rtt_us - p->smooth_us : p->smooth_us - p->rtt_us;
        p->var_us = (uint32_t)(((uint64_t)p->var_us * 3 + off) / 4);
        p->smooth_us = (uint32_t)(((uint64_t)p->smooth_us * 7 + p->rtt_us) / 8);
    }
    if (p->least_us == 0 || p->rtt_us <= p->least_us) {
        p->least_us = p->rtt_us;
        p->least_at_us = now_us;
    }
    if (p->recent_us == 0 || p->rtt_us <= p->recent_us || now_us - p->recent_at_us > LEAST_AGE_US / 2) {
        p->recent_us = p->rtt_us;
        p->recent_at_us = now_us;
    }
    if (now_us - p->least_at_us > LEAST_AGE_US) { /* the path has grown */
        p->least_us = p->recent_us;
        p->least_at_us = p->recent_at_us;
    }
    p->round_rtt_us = p->rtt_us < p->round_rtt_us ? p->rtt_us : p->round_rtt_us;
    uint32_t now = (uint32_t)now_us, span;
    if (p->some_count++ == 0)
        p->some_since_us = now;
    p->some_rtt_us = p->rtt_us < p->some_rtt_us ? p->rtt_us : p->some_rtt_us;
    span = now - p->some_since_us;
    /* A packet that acknowledges many is the least of many. */
    uint32_t some = p->bunches < BUNCH_PKTS ? SOME_RTTS : SOME_BUNCHES;
    if ((p->some_count >= some && span >= p->least_us / 32) || (p->some_count > 1 && span >= p->least_us)) {
        p->now_rtt_us = p->some_rtt_us;
        p->some_rtt_us = UINT32_MAX;
        p->some_count = 0;
        if (!may_tell_jitter(p))
            return;
        if (p->now_rtt_us > p->peak_us)
            p->peak_us = p->now_rtt_us;
        else if (p->peak_us - p->now_rtt_us > p->falls_us[0])
            p->falls_us[0] = p->peak_us - p->now_rtt_us;
    }
}

static void take_rate(ks_path *p)
{
    const ks_path_mark *m = &p->newest;
    uint32_t bytes = p->delivered - m->delivered;
    uint32_t sent = m->sent_us - m->first_us, acked = p->delivered_us - m->delivered_us;
    uint32_t took = sent > acked ? sent : acked;
    p->first_us = m->sent_us;
    if (took == 0 || (p->least_us > 0 && took < p->least_us))
        return; /* acknowledged before it can have arrived: the time is wrong */
    if (p->shared && !ks_after(m->sent_us, p->cut_us))
        return; /* what was too much, we have just found */
    uint64_t rate = per_second(bytes, took);
    if (!m->limited || rate > ks_path_rate(p))
        p->rate[0] = max64(p->rate[0], rate);
}

/* While it starts a whole round trip is long: a quarter of one, that moves on in steps of a sixteenth. */
static void take_short_rate(ks_path *p)
{
    const ks_path_mark *m = &p->newest;
    uint32_t whole = p->least_us / 4 > SHORT_LEAST_US ? p->least_us / 4 : SHORT_LEAST_US;
    uint32_t last = (p->short_at + KS_PATH_SHORTS - 1) % KS_PATH_SHORTS;
    if (p->short_count > 0 && p->delivered_us - p->shorts[last].us < whole / KS_PATH_SHORTS)
        return;
    if (p->short_count > 0) {
        uint32_t oldest = p->short_count < KS_PATH_SHORTS ? 0 : p->short_at;
        uint32_t acked = p->delivered_us - p->shorts[oldest].us, sent = m->sent_us - p->shorts[oldest].sent_us;
        uint32_t bytes = p->delivered - p->shorts[oldest].delivered;
        if (acked >= whole - whole / KS_PATH_SHORTS && bytes >= SHORT_PKTS * p->packet_bytes) {
            bool in_order = ks_after(m->sent_us, p->shorts[oldest].sent_us);
            p->short_rate = per_second(bytes, in_order && sent > acked ? sent : acked);
            if (!m->limited || p->short_rate > p->rate[0])
                p->rate[0] = max64(p->rate[0], p->short_rate);
        }
    }
    p->shorts[p->short_at].us = p->delivered_us;
    p->shorts[p->short_at].sent_us = m->sent_us;
    p->shorts[p->short_at].delivered = p->delivered;
    p->short_at = (p->short_at + 1) % KS_PATH_SHORTS;
    p->short_count += p->short_count < KS_PATH_SHORTS;
}

/* How far acknowledgments run ahead of the rate, when many come at once (BBR's extra_acked). */
static void take_extra(ks_path *p)
{
    uint64_t expected = in_time(ks_path_rate(p), p->delivered_us - p->extra_us);
    if (p->extra_acked <= expected) {
        p->extra_acked = 0;
        p->extra_us = p->delivered_us;
        expected = 0;
    }
    p->extra_acked += p->acked_bytes;
    uint64_t extra = p->extra_acked > expected ? p->extra_acked - expected : 0;
    if (extra > p->extra[0])
        p->extra[0] = (uint32_t)(extra < UINT32_MAX ? extra : UINT32_MAX);
}

static void check_start(ks_path *p)
{
    if (p->limited || !is_our_queue(p, p->now_rtt_us) || (is_jittery(p) && p->flat_rounds == 0))
        return;
    if (p->short_rate > 0)
        know_rate(p, p->short_rate);
    enter(p, KS_PATH_DRAIN);
}

static uint32_t round_loss(const ks_path *p)
{
    uint64_t all = (uint64_t)p->round_lost + p->round_delivered;
    return all < (uint64_t)ROUND_PKTS * p->packet_bytes ? 0 : (uint32_t)((uint64_t)p->round_lost * LOSS_UNIT / all);
}

static void end_round(ks_path *p)
{
    uint32_t loss = round_loss(p), took = p->delivered_us - p->round_us;
    if (p->delivered_us - p->cut_us > CUT_AGE_US)
        p->cut_us = p->delivered_us - CUT_AGE_US; /* never so old that it looks like one to come */
    bool enough = (uint64_t)p->round_lost + p->round_delivered >= (uint64_t)ROUND_PKTS * p->packet_bytes;
    bool queue = is_queue(p, p->round_rtt_us), far = p->round_rtt_us != UINT32_MAX && p->round_rtt_us > 2 * p->least_us + ACK_DELAY_US;
    uint64_t rate = took > 0 ? per_second(p->round_delivered, took) : 0;
    /* Never more than the least that was seen: what a queue loses is not the path's. */
    if (enough && ks_after(p->round_sent_us, p->cut_us)) {
        p->losses[0] = loss < p->losses[0] ? loss : p->losses[0];
        p->floor = p->losses[0] < p->losses[1] ? p->losses[0] : p->losses[1];
        p->floor = p->floor < KS_PATH_FLOOR_MAX ? p->floor : KS_PATH_FLOOR_MAX;
    }
    if (!queue && p->state != KS_PATH_START)
        p->shared = false;
    if (p->state == KS_PATH_START) {
        uint64_t now = ks_path_rate(p);
        if (!p->round_limited) {
            if (now >= p->start_rate + p->start_rate / 4) {
                p->start_rate = now;
                p->flat_rounds = 0;
            } else
                p->flat_rounds++;
        }
        bool lossy = loss > p->floor + HEAVY_LOSS && !p->round_limited;
        p->heavy_rounds = lossy ? p->heavy_rounds + 1 : 0;
        /* Without a queue a lost packet may look like that, where so many ACKs are in one. */
        bool over = lossy && (p->bunches < BUNCH_PKTS || is_queue(p, p->now_rtt_us) || p->heavy_rounds >= HEAVY_ROUNDS);
        /* It is as fast as it was: should it be faster now, a probe finds that. */
        bool known = resumed_rate(p) > 0 && now >= p->resume_rate - p->resume_rate / 16;
        if (over || known || p->flat_rounds >= FLAT_ROUNDS) {
            if (p->short_rate > 0 && lossy)
                know_rate(p, p->short_rate);
            enter(p, KS_PATH_DRAIN);
        }
        return;
    }
    bool cut = (enough && queue && loss > p->floor + CUT_LOSS) || (far && !p->shared);
    if (!p->round_limited && rate > 0 && rate < ks_path_rate(p) && cut) {
        p->share_pkts = p->share_pkts / 2 > SHARE_LEAST_PKTS ? p->share_pkts / 2 : SHARE_LEAST_PKTS;
        know_rate(p, rate);
        p->cut_us = p->delivered_us;
        enter(p, KS_PATH_DRAIN);
    }
}

/* Others' queue is clearly above what our own rate, a little too high, would leave. */
static uint32_t share_margin(const ks_path *p)
{
    return 2 * queue_margin(p) > p->least_us / 8 ? 2 * queue_margin(p) : p->least_us / 8;
}

static void advance(ks_path *p, bool round, uint32_t rtt_us)
{
    uint64_t product = ks_path_product(p);
    switch (p->state) {
    case KS_PATH_START:
        check_start(p);
        break;
    case KS_PATH_DRAIN:
        p->drained = p->in_flight <= product;
        if (p->drained || p->rounds >= DRAIN_ROUNDS)
            enter(p, KS_PATH_CRUISE);
        break;
    case KS_PATH_CRUISE:
        if (round && p->rounds >= p->cruise_rounds) {
            p->start_rate = ks_path_rate(p);
            enter(p, KS_PATH_PROBE);
        } else if (round && p->rounds == 1) {
            /* No more than the product was under way for a whole round trip: that queue is not ours. */
            bool stays = p->drained && is_queue(p, rtt_us) && rtt_us > p->least_us + share_margin(p);
            if (stays && !p->shared)
                p->share_pkts = SHARE_PKTS;
            else if (stays && p->share_pkts < SHARE_PKTS)
                p->share_pkts += SHARE_STEP_PKTS;
            p->shared = p->shared || stays;
            p->standing_us = stays ? rtt_us : 0;
        } else if (round && is_our_queue(p, rtt_us) && !p->shared) {
            enter(p, KS_PATH_DRAIN);
        }
        break;
    case KS_PATH_PROBE:
        if (!p->shared && is_our_queue(p, p->now_rtt_us) && !is_jittery(p))
            enter(p, KS_PATH_DRAIN);
        else if (round && p->rounds >= PROBE_ROUNDS) {
            bool faster = ks_path_rate(p) > p->start_rate + p->start_rate / 16;
            bool start = faster && !is_our_queue(p, rtt_us) && p->skip_starts == 0;
            p->skip_starts -= faster && p->skip_starts > 0;
            enter(p, start ? KS_PATH_START : KS_PATH_DRAIN);
        }
        break;
    }
}

void ks_path_update(ks_path *p, uint64_t now_us)
{
    if (!p->acked)
        return;
    if (p->limited && ks_after(p->delivered, p->limited_until))
        p->limited = false;
    take_rtt(p, now_us);
    if (p->marked) {
        take_rate(p);
        if (p->state == KS_PATH_START)
            take_short_rate(p);
    }
    take_extra(p);
    uint32_t rtt_us = p->timed ? p->rtt_us : UINT32_MAX;
    bool round = p->marked && !ks_after(p->round_end, p->newest.delivered);
    if (round) {
        p->rounds++;
        uint32_t round_rtt = p->round_rtt_us;
        end_round(p);
        p->round_end = p->delivered;
        p->round_us = p->delivered_us;
        p->round_sent_us = p->newest.sent_us;
        p->round_delivered = p->round_lost = 0;
        p->round_rtt_us = UINT32_MAX;
        if (may_tell_jitter(p)) {
            p->peak_us = p->now_rtt_us;
            p->falls_us[1] = p->falls_us[0];
            p->falls_us[0] = 0;
        }
        p->round_limited = p->limited;
        rtt_us = round_rtt;
    }
    advance(p, round, rtt_us);
    p->bunches = (p->bunches + p->bunch) / 2;
    p->bunch = 0;
    p->acked = p->timed = p->marked = false;
    p->acked_bytes = 0;
    set_pace(p);
}
