/* SPDX-License-Identifier: MIT */
#include "fec/fec_cover.h"

#define LOSS_UNIT 65536u
#define LOSS_LEAST (LOSS_UNIT / 512) /* as for copies (arq/kcp_insure.c) */
#define FAILS_MOST 0.002       /* groups that lose more than parity can rebuild */
#define SPAN_MOST_MS 40u       /* of a group; what is further apart is insured by copies */
#define LATE_MS 15u            /* a group that would be older than that when it is whole is made whole before ... */
#define PADDED_SHARE 5u        /* ... by pads, no more than a fifth of it */
#define PAD_BYTES 32u       /* FEC's and KCP's heads */
#define AROUND_BYTES 28u       /* IP's and UDP's */
#define HOLD_MS 3000u          /* after a queue */
#define GAP_MOST_MS 100u
#define GAP_UNIT 16u
#define MARGIN_MS 6u
#define FIRST_BEACONS 8u       /* groups: a peer knows our code after two, if it loses none */
#define BEACON_EVERY 64u       /* groups; then two in a row */
#define SHARE_UNIT 1024u

static uint32_t span_ms(const ks_fec_cover *c, uint32_t ds)
{
    return (ds - 1) * c->gap / GAP_UNIT;
}

static bool is_in_time(const ks_fec_cover *c, uint32_t ms)
{
    return ms <= SPAN_MOST_MS && (c->way.rtt_ms == 0 || ms <= c->way.rtt_ms);
}

/* A steady stream below the rate that loses something. */
static bool is_worth(const ks_fec_cover *c, uint32_t ds)
{
    return c->way.limited && c->way.loss >= LOSS_LEAST && is_in_time(c, span_ms(c, ds));
}

static bool is_wanted(const ks_fec_cover *c, uint32_t ds)
{
    return !c->held && is_worth(c, ds);
}

void ks_fec_cover_see(ks_fec_cover *c, ks_fec_way way, uint64_t now_ms)
{
    c->way = way;
    if (way.queue)
        c->held_ms = now_ms + HOLD_MS;
    c->held = now_ms < c->held_ms;
}

void ks_fec_cover_sent(ks_fec_cover *c, uint32_t segments, uint64_t now_ms)
{
    uint64_t since = now_ms > c->last_ms ? now_ms - c->last_ms : 0;
    if (c->last_ms == 0 || since > GAP_MOST_MS)
        since = GAP_MOST_MS;
    for (; segments > 0; segments--, since = 0) {
        c->gap = (c->gap * 7 + (uint32_t)since * GAP_UNIT) / 8;
        c->last_ms = now_ms;
        if (c->gap == 0 && since == 0)
            return;
    }
}

bool ks_fec_cover_begin(ks_fec_cover *c, uint32_t ds, uint64_t now_ms)
{
    uint32_t group = c->groups++;
    c->begun_ms = now_ms;
    c->pads = 0;
    c->beacon = group < FIRST_BEACONS || group % BEACON_EVERY < 2;
    c->covers = is_wanted(c, ds);
    return c->beacon || c->covers;
}

/* Of what is sent, in SHARE_UNITs, parity may be that: a quarter, or one packet of a shorter group; more where more is lost. */
static uint32_t share(const ks_fec_cover *c, uint32_t ds)
{
    uint32_t least = ds < 4 ? SHARE_UNIT / ds + 1 : SHARE_UNIT / 4, by_loss = 3 * c->way.loss / (LOSS_UNIT / SHARE_UNIT);
    return by_loss > least ? by_loss : least;
}

static void pay_pads(ks_fec_cover *c, uint32_t count)
{
    c->pads = count;
    c->credit -= count * (PAD_BYTES + AROUND_BYTES);
}

void ks_fec_cover_packet(ks_fec_cover *c, uint32_t ds, uint32_t ps, uint32_t count, size_t size, size_t packet_max,
                         uint64_t now_ms)
{
    if (c->pads > 0) {
        c->pads--;
        return;
    }
    int64_t most = (int64_t)(ps + 1) * (int64_t)(packet_max + AROUND_BYTES);
    c->credit += (int64_t)(size + AROUND_BYTES) * share(c, ds) / SHARE_UNIT;
    c->credit = c->credit < most ? c->credit : most;
    uint64_t age = now_ms - c->begun_ms;
    if (c->covers && is_wanted(c, ds) && count < ds && (ds - count) * PADDED_SHARE <= ds && age <= LATE_MS &&
        age * GAP_UNIT + c->gap > LATE_MS * GAP_UNIT)
        pay_pads(c, ds - count);
}

/* The chance that of so many packets more than `spare` are lost, by the binomial distribution. */
static double chance_of_more(uint32_t packets, uint32_t spare, double loss)
{
    double term = 1, sum;
    for (uint32_t i = 0; i < packets; i++)
        term *= 1 - loss;
    sum = term;
    for (uint32_t k = 1; k <= spare; k++) {
        term *= loss / (1 - loss) * (packets - k + 1) / k;
        sum += term;
    }
    return 1 - sum;
}

static uint32_t needed(const ks_fec_cover *c, uint32_t ds, uint32_t ps)
{
    double loss = (double)c->way.loss / LOSS_UNIT;
    uint32_t n = 1;
    if (c->way.loss >= LOSS_UNIT / 2)
        return ps;
    while (n < ps && chance_of_more(ds + n, n, loss) > FAILS_MOST)
        n++;
    return n;
}

uint32_t ks_fec_cover_end(ks_fec_cover *c, uint32_t ds, uint32_t ps, size_t size, uint64_t now_ms)
{
    const int64_t each = (int64_t)size + AROUND_BYTES;
    c->pads = 0;
    if (c->beacon && c->covers && c->groups > FIRST_BEACONS)
        c->credit -= ps * each;
    if (c->beacon)
        return ps;
    uint64_t age = now_ms - c->begun_ms;
    if (!c->covers || !c->way.limited || c->held || age > SPAN_MOST_MS || !is_in_time(c, (uint32_t)age))
        return 0;
    uint32_t n = needed(c, ds, ps);
    while (n > 1 && n * each > c->credit) /* what the beacons took is given back little by little */
        n--;
    c->credit -= n * each;
    return n;
}

uint32_t ks_fec_cover_ms(const ks_fec_cover *c, uint32_t ds, bool *held)
{
    *held = c->held && is_worth(c, ds);
    return is_wanted(c, ds) ? span_ms(c, ds) + MARGIN_MS : 0;
}
