/* SPDX-License-Identifier: MIT */
/* Insurance: where nothing follows that would show a loss soon, what may be lost goes once more a little later, so that one
 * burst of losses does not take both. Copies are no new transmissions: whichever arrives is acknowledged alike. */
#include "arq/kcp_parts.h"

#include <string.h>

#define COPIES_FIRST 8u /* powers of two, so that counters that wrap stay in place */
#define COPIES_MAX 256u
#define WATCHED_MAX 16u
#define LOSS_UNIT 65536u
#define SMALL_BYTES 800u
#define TINY_BYTES 400u
#define UNKNOWN_PKTS 32u
#define SOME_PKTS 2u
#define INSURE_BYTES_PER_S 200000u
#define INSURE_BURST 262144u

/* When copies go, after the transmission: further and further away from what may have been one burst of losses. */
#define COPIES_EACH_MAX 3u
static const uint16_t after_us[COPIES_EACH_MAX] = {3000, 8000, 15000};
#define AFTER_MS (3000u / 1000)

struct ks_copy {
    uint32_t sn, txno, due_us;
};

/* Of the latest segments that were copied: did the first transmission, with that time stamp, arrive? */
struct ks_watch {
    uint32_t sn, ts;
    uint16_t bytes;
    bool open;  /* it is not known yet */
    bool again; /* that was a repeat: an earlier one counts as lost */
};

struct ks_insurance {
    struct ks_copy *copies;     /* copies[i & (room - 1)], i in [begin, end): in the order of their times */
    uint32_t begin, end, room;
    struct ks_watch watched[WATCHED_MAX];
    uint32_t watched_at;
};

static bool has_insurance(ks_sender *s)
{
    if (s->insurance == NULL && (s->insurance = ks_alloc(sizeof *s->insurance)) != NULL)
        memset(s->insurance, 0, sizeof *s->insurance);
    return s->insurance != NULL;
}

static struct ks_copy *copy_at(const struct ks_insurance *in, uint32_t i)
{
    return &in->copies[i & (in->room - 1)];
}

/* Few connections ever have more than some copies waiting. -> false: no more are to be, or no memory */
static bool has_room(struct ks_insurance *in)
{
    if (in->end - in->begin < in->room)
        return true;
    uint32_t room = in->room == 0 ? COPIES_FIRST : in->room * 2;
    struct ks_copy *copies = room > COPIES_MAX ? NULL : ks_alloc(room * sizeof *copies);
    if (copies == NULL)
        return false;
    for (uint32_t i = in->begin; i != in->end; i++)
        copies[i & (room - 1)] = *copy_at(in, i);
    ks_free(in->copies);
    in->copies = copies;
    in->room = room;
    return true;
}

static bool insure(ks_sender *s, const ks_seg *seg, uint32_t due_us)
{
    struct ks_insurance *in = s->insurance;
    if (s->insure_left < ks_flight_bytes(seg) || !has_room(in))
        return false; /* then it takes its chance */
    s->insure_left -= ks_flight_bytes(seg);
    uint32_t i = in->end++;
    for (; i != in->begin && ks_after(copy_at(in, i - 1)->due_us, due_us); i--)
        *copy_at(in, i) = *copy_at(in, i - 1);
    *copy_at(in, i) = (struct ks_copy){seg->sn, seg->txno, due_us};
    return true;
}

static void watch(struct ks_insurance *in, const ks_seg *seg)
{
    in->watched[in->watched_at++ % WATCHED_MAX] = (struct ks_watch){
        .sn = seg->sn, .ts = seg->ts, .bytes = (uint16_t)ks_flight_bytes(seg), .open = true, .again = seg->xmit > 1};
}

/* How many copies a segment of the end is worth, by what the path loses: small ones are cheap. While too little was sent to
 * know, these have one, so that the first loss costs no round trip; but not the first of all, whose round trips say
 * whether the path is longer than a copy waits. */
static uint32_t copies_of(const ks_path *path, const ks_seg *seg)
{
    uint32_t loss = path->loss;
    bool small = seg->len <= SMALL_BYTES, tiny = seg->len <= TINY_BYTES;
    if (loss < LOSS_UNIT / 512)
        return small && path->seen > SOME_PKTS && path->seen < UNKNOWN_PKTS && path->least_us > after_us[0];
    bool twice = loss > LOSS_UNIT / 33 && (small || seg->xmit > 1);
    bool thrice = loss > LOSS_UNIT / 10 && tiny;
    return 1 + twice + thrice;
}

static void allow(ks_sender *s, uint64_t bytes)
{
    uint64_t left = s->insure_left + bytes;
    s->insure_left = left < INSURE_BURST ? (uint32_t)left : INSURE_BURST;
}

/* Copies have a rate of their own, so that a steady stream is not doubled ... */
static void refill(ks_kcp *k, uint64_t now_us)
{
    uint32_t passed_us = (uint32_t)now_us - k->sender->insured_us;
    k->sender->insured_us = (uint32_t)now_us;
    if (k->cfg.insurance < 0)
        allow(k->sender, (uint64_t)passed_us * INSURE_BYTES_PER_S / 1000000);
}

/* ... or the share of what is sent that was asked for. */
void ks_insure_sent(ks_kcp *k, uint32_t bytes)
{
    if (k->cfg.insurance > 0)
        allow(k->sender, (uint64_t)bytes * (uint32_t)k->cfg.insurance / 100);
}

void ks_insure_end(ks_kcp *k, uint64_t now_us)
{
    ks_sender *s = k->sender;
    const ks_seg *seg = k->flight[KS_FLIGHT_OUT].tail; /* the latest transmissions stand at the list's end */
    refill(k, now_us);
    for (; seg != NULL && ks_after(seg->txno, s->insured_txno); seg = seg->prev) {
        uint32_t copies = s->copies_held ? 0 : copies_of(&s->path, seg), done = 0;
        if (copies > 0 && !has_insurance(s))
            break;
        while (done < copies && insure(s, seg, (uint32_t)now_us + s->cover_us + after_us[done]))
            done++;
        if (done > 0)
            watch(s->insurance, seg);
        if (done < copies)
            return;
    }
    s->insured_txno = k->txno - 1;
}

void ks_kcp_set_cover(ks_kcp *k, uint32_t us, bool held)
{
    if (!k->cfg.adaptive || k->sender == NULL)
        return; /* there is nothing to send */
    k->sender->cover_us = us;
    k->sender->copies_held = held;
}

void ks_kcp_end_group(ks_kcp *k, bool covered)
{
    ks_sender *s = k->cfg.adaptive ? k->sender : NULL;
    struct ks_insurance *in = s != NULL ? s->insurance : NULL;
    if (s == NULL)
        return;
    uint32_t kept = in != NULL ? in->begin : 0;
    for (uint32_t i = kept; covered && in != NULL && i != in->end; i++) {
        struct ks_copy c = *copy_at(in, i);
        if (ks_after(s->cover_txno, c.txno)) {
            *copy_at(in, kept++) = c;
            continue;
        }
        const ks_seg *seg = c.sn - k->snd_una < k->snd_nxt - k->snd_una ? *ks_ring_at(&k->snd, c.sn) : NULL;
        allow(s, seg != NULL ? ks_flight_bytes(seg) : 0);
    }
    if (covered && in != NULL)
        in->end = kept;
    s->cover_txno = k->txno;
}

ks_seg *ks_insure_next(ks_kcp *k, uint64_t now_us)
{
    struct ks_insurance *in = k->sender->insurance;
    while (in != NULL && in->begin != in->end) {
        const struct ks_copy *c = copy_at(in, in->begin);
        if (ks_after(c->due_us, (uint32_t)now_us))
            return NULL;
        in->begin++;
        ks_seg *seg = c->sn - k->snd_una < k->snd_nxt - k->snd_una ? *ks_ring_at(&k->snd, c->sn) : NULL;
        if (seg != NULL && seg->txno == c->txno && seg->level == KS_FLIGHT_OUT)
            return seg;
    }
    return NULL;
}

uint64_t ks_insure_wait_us(const ks_kcp *k, uint64_t now_us)
{
    const struct ks_insurance *in = k->sender == NULL ? NULL : k->sender->insurance;
    if (in == NULL || in->begin == in->end)
        return UINT64_MAX;
    uint32_t due = copy_at(in, in->begin)->due_us;
    return ks_after(due, (uint32_t)now_us) ? due - (uint32_t)now_us : 0;
}

/* A copy keeps from view that the first transmission was lost, and an una may cover it before its ACK comes (ACKs go behind
 * data). So stamps tell: with una past it, an ACK of anything that left before its copy says that it came itself; an ACK
 * with the copy's stamp that it did not. A peer that puts ACKs off for longer than that names the copy though both came:
 * what it says counts for nothing. */
void ks_insure_heard(ks_kcp *k, uint32_t sn, uint32_t ts, uint32_t una)
{
    struct ks_insurance *in = !k->cfg.adaptive || k->sender == NULL ? NULL : k->sender->insurance;
    if (in == NULL)
        return;
    for (uint32_t i = 0; i < WATCHED_MAX; i++) {
        struct ks_watch *w = &in->watched[i];
        bool covered = w->sn == sn || ks_after(una, w->sn);
        if (!w->open || !covered)
            continue;
        w->open = false;
        /* The earlier one came; una has told it before, or kcp_rack.c would hear it. */
        if (w->sn == sn && w->again && ks_after(w->ts, ts) && ks_after(k->snd_una, sn))
            ks_path_unlost(&k->sender->path, w->bytes, false);
        if (w->sn != sn || (int32_t)(ts - w->ts) < (int32_t)AFTER_MS)
            continue;
        k->count.insured_useful++;
        if (k->sender->path.smooth_us < k->sender->path.least_us + after_us[0])
            ks_path_missed(&k->sender->path);
    }
}

bool ks_insure_knows(const ks_kcp *k, uint32_t sn)
{
    const struct ks_insurance *in = k->sender->insurance;
    for (uint32_t i = 0; in != NULL && i < WATCHED_MAX && i < in->watched_at; i++)
        if (in->watched[i].sn == sn)
            return true;
    return false;
}

void ks_insure_forget(ks_sender *s)
{
    if (s->insurance != NULL)
        ks_free(s->insurance->copies);
    ks_free(s->insurance);
    s->insurance = NULL;
}
