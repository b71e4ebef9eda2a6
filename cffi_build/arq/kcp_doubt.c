/* SPDX-License-Identifier: MIT */
/* Where no tag tells the peer's packets from forged ones: who knows addresses and conversation, but hears nothing, can write any
 * sequence number, window and end into a packet. What he can not do is to guess 32 bits often. So a packet is believed by what it
 * says that he would have to guess, and it is one guess, however many segments it has:
 *
 *   an ACK               has a time stamp of ours, with which that segment was sent. Where our stamps begin is a secret
 *   a challenge's ACK    has the challenge's stamp
 *   PUSH, WASK, WINS     have a time stamp that fits the peer's clock: RFC 7323 5 (PAWS), but both ways
 *
 * A PUSH that would bring something, with a stamp that does not fit, is dropped with all that stands beside it but such ACKs. una
 * and window count in a believed packet alone. Else, where they would change something, the peer is challenged, as in RFC 5961:
 * it answers, and its answer, which every KCP gives, says what una and window are.
 *
 * KCP does not say what a clock is. kcp-go's and ours count ms, from any moment on; a program of the C version passes what it
 * likes. So a clock is known only when two PUSHes have shown that it goes as ours does; a stamp is checked by a known one
 * alone. A clock that was set, or had slept, is learnt anew, so that a genuine peer always gets through: at once from a packet
 * with an answer or an ACK that is believed; else when what we expect next has come for so long that nobody else sends what fits: smux's
 * keepalive (10 s) would have, twice, and a peer's own patience (30 s) has not ended. */
#include "arq/kcp_parts.h"

#include "base/octets.h"

#define FIT_MS 65536u         /* one of 2^15 stamps fits */
#define LEARN_LEAST_MS 100u   /* between the two PUSHes */
#define LEARN_MOST_MS 4000u
#define RATE_MS 60000u        /* a known clock is looked at again after it: one that goes 10 % too fast is none */
#define RATE_SLACK_MS 2000u
#define ODD_MS 25000u
#define ODD_COPIES 3u
#define ASK_AGAIN_MS 20u
#define CHALLENGE_OLD_PKTS (1u << 20)

enum { CLOCK_UNHEARD, CLOCK_HEARD, CLOCK_KNOWN, CLOCK_STRANGE };

/* ---- the peer's clock ---- */

static uint32_t distance(uint32_t a, uint32_t b)
{
    return ks_after(a, b) ? a - b : b - a;
}

static bool fits(const ks_kcp *k, uint32_t ts)
{
    return k->clock_is == CLOCK_KNOWN && distance(ts - k->now, k->peer_clock) < FIT_MS;
}

static void set_clock(ks_kcp *k, uint8_t is, uint32_t clock)
{
    k->clock_is = is;
    k->peer_clock = clock;
    k->clock_at = k->now;
    k->odd_copies = 0;
}

void ks_doubt_learn(ks_kcp *k, uint32_t ts)
{
    if (!k->cfg.doubts || k->clock_is == CLOCK_STRANGE)
        return;
    const uint32_t clock = ts - k->now, passed = k->now - k->clock_at, error = distance(clock, k->peer_clock);
    k->odd_copies = 0;
    if (k->clock_is == CLOCK_KNOWN && passed >= RATE_MS)
        set_clock(k, error > passed / 16 + RATE_SLACK_MS ? CLOCK_STRANGE : CLOCK_KNOWN, clock);
    else if (k->clock_is == CLOCK_HEARD && passed >= LEARN_LEAST_MS && error <= passed / 8)
        set_clock(k, CLOCK_KNOWN, clock);
    else if (k->clock_is == CLOCK_UNHEARD || (k->clock_is == CLOCK_HEARD && passed >= LEARN_MOST_MS))
        set_clock(k, CLOCK_HEARD, clock);
}

uint32_t ks_kcp_peer_stamp(const ks_kcp *k, uint64_t now_us)
{
    return (uint32_t)(now_us / 1000) + k->peer_clock;
}

/* The next one expected has come, with a stamp that does not fit. -> it has come for long, and by one clock */
static bool insists(ks_kcp *k, uint32_t ts)
{
    const uint32_t clock = ts - k->now, passed = k->now - k->odd_at;
    if (k->odd_copies == 0 || distance(clock, k->odd_clock) > passed / 16 + RATE_SLACK_MS) {
        k->odd_copies = 1;
        k->odd_clock = clock;
        k->odd_at = k->now;
        return false;
    }
    if (k->odd_copies < ODD_COPIES)
        k->odd_copies++;
    return k->odd_copies == ODD_COPIES && passed >= ODD_MS;
}

/* ---- a packet ---- */

/* What a packet says that can be guessed, and what can not. */
typedef struct {
    bool acked;       /* an ACK with a stamp of ours, or a challenge's */
    bool misses;      /* an ACK of something under way, with another stamp */
    bool timed;       /* a stamp that fits the peer's clock */
    bool odd, odd_is_next;
    uint32_t odd_ts;  /* of the first PUSH that would bring something, with one that does not fit */
    bool moves;       /* una or window would change what we do */
} claims;

bool ks_doubt_knows_stamp(const ks_kcp *k, const ks_seg *seg, uint32_t ts)
{
    const uint32_t last = k->cfg.adaptive ? k->now : seg->ts; /* copies (kcp_insure.c) are later, and leave no trace */
    return ts - seg->first_ts <= last - seg->first_ts;
}

static void hear_ack(const ks_kcp *k, uint32_t sn, uint32_t ts, claims *c)
{
    if (k->challenge_open && sn == k->challenge.sn && ts == k->challenge.ts) {
        c->acked = true;
        return;
    }
    const ks_seg *seg = sn - k->snd_una < k->snd_nxt - k->snd_una ? *ks_ring_at(&k->snd, sn) : NULL;
    if (seg == NULL || c->misses)
        return;
    if (ks_doubt_knows_stamp(k, seg, ts - k->cfg.secret))
        c->acked = true;
    else
        c->misses = true;
}

static void hear_push(const ks_kcp *k, uint32_t sn, uint32_t ts, const uint8_t *data, uint32_t len, claims *c)
{
    ks_piece piece;
    if (ks_kcp_is_aside(k->rcv_read, sn)) {
        if (!ks_piece_parse_untrusted(data, len, &piece))
            return; /* a pad, whose stamp is no time */
        sn += KS_KCP_ASIDE;
    } else if (len == 0 && ks_after(k->rcv_nxt, sn))
        return; /* a challenge, likewise */
    if (fits(k, ts))
        c->timed = true;
    else if (k->clock_is == CLOCK_KNOWN && !c->odd && ks_kcp_lacks(k, sn)) {
        c->odd = true;
        c->odd_ts = ts;
        c->odd_is_next = sn == k->rcv_nxt;
    }
}

static void hear_head(const ks_kcp *k, uint32_t una, uint32_t wnd, claims *c)
{
    const uint32_t sent = k->snd_nxt - k->snd_una, ahead = una - k->snd_una;
    if (ahead > 0 && ahead <= sent)
        c->moves = true;
    if (ahead == 0 && k->heard_wnd && wnd > k->rmt_wnd && (sent == 0 || sent >= k->rmt_wnd))
        c->moves = true; /* else an ACK of what is under way will tell */
}

static claims hear_untrusted(const ks_kcp *k, const uint8_t *packet, size_t size)
{
    claims c = {0};
    while (size >= KS_KCP_HEAD && ks_get_le32(packet) == k->cfg.conv) {
        const uint8_t cmd = packet[4];
        const uint32_t ts = ks_get_le32(packet + 8), sn = ks_get_le32(packet + 12), len = ks_get_le32(packet + 20);
        if (len > size - KS_KCP_HEAD || len > KS_SEG_BYTES_MAX)
            break;
        hear_head(k, ks_get_le32(packet + 16), ks_get_le16(packet + 6), &c);
        if (cmd == CMD_ACK)
            hear_ack(k, sn, ts, &c);
        else if (cmd == CMD_PUSH)
            hear_push(k, sn, ts, packet + KS_KCP_HEAD, len, &c);
        else if (fits(k, ts))
            c.timed = true;
        packet += KS_KCP_HEAD + len;
        size -= KS_KCP_HEAD + len;
    }
    return c;
}

ks_belief ks_doubt_judge_untrusted(ks_kcp *k, const uint8_t *packet, size_t size)
{
    if (!k->cfg.doubts)
        return (ks_belief){true, true, true};
    const claims c = hear_untrusted(k, packet, size);
    const bool acked = c.acked && !c.misses;
    bool odd = c.odd;
    if (odd && (acked || (c.odd_is_next && insists(k, c.odd_ts)))) {
        set_clock(k, CLOCK_KNOWN, c.odd_ts - k->now);
        odd = false;
    }
    const ks_belief belief = {.pushes = !odd, .acks = !c.misses, .heads = acked || (c.timed && !odd && !c.misses)};
    if (odd || c.misses || (c.moves && !belief.heads)) {
        k->count.doubted_pkts++;
        ks_doubt_ask(k);
        k->flush_now |= k->challenge_due;
    }
    return belief;
}

void ks_doubt_ask(ks_kcp *k)
{
    if (k->now - k->asked < (k->challenge_open ? ASK_AGAIN_MS : 1))
        return;
    k->asked = k->now;
    /* One that is not answered yet stays as it is: a round trip may be longer than the time between two of them. */
    const uint32_t sn = k->snd_una - 1;
    if (!k->challenge_open || sn - k->challenge.sn > CHALLENGE_OLD_PKTS) {
        uint32_t stamp = k->challenge.ts ^ k->cfg.secret; /* mixed as by MurmurHash3, so that who knows neither knows nothing */
        stamp = (stamp ^ stamp >> 16) * 0x85ebca6bu;
        stamp = (stamp ^ stamp >> 13) * 0xc2b2ae35u;
        k->challenge = (struct ks_ack){sn, stamp ^ stamp >> 16};
    }
    k->challenge_open = k->challenge_due = true;
}
