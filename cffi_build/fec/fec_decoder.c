/* SPDX-License-Identifier: MIT */
/* Keeps the packets of the latest groups, and rebuilds what is missing as soon as any ds packets of a group are here.
 *
 * The groups held are the newest one and those right before it. A packet from elsewhere moves that window only when it is
 * slightly ahead; when it is far off, only once a few in a row agree on where they are: after a long outage they are the
 * peer's, and a forged one costs nothing. Memory is bounded by the window, whoever sends. */
#include <string.h>

#include "base/checks.h"
#include "fec/fec_code.h"
#include "fec/fec_tune.h"
#include "fec/gf256.h"

/* Groups held: three; more of short ones, which a network reorders across more easily. */
#define GROUPS_MIN 3u
#define WINDOW_PKTS 32u
/* So far ahead the window follows at once; less than a window if that is longer. */
#define AHEAD_GROUPS 8u
/* Packets in a row from outside the window (strays) that move it there; LATE_STRAYS of them when they are from no more than
 * LATE_GROUPS before it: those may only be late. */
#define STRAYS 3u
#define LATE_GROUPS 128u
#define LATE_STRAYS 64u
/* So many packets against a confirmed code, while so many groups come, make it doubtful. */
#define DOUBT_PKTS 4u
#define DOUBT_GROUPS 8u

typedef struct {
    uint8_t *body; /* a block; NULL: not here */
    uint32_t bytes;
} shard;

typedef struct {
    uint32_t have, have_data;         /* shards held */
    uint32_t parity_bytes, data_bytes; /* of the parity packets, which are equal; of the longest data packet; 0: none yet */
    bool done;                        /* complete, or past help: later packets are not kept */
    bool last_data, first_parity;     /* seen in their places */
    bool certain;                     /* group 0, and both were seen: it has the code, whatever later groups turn out to have */
    shard *shards;
} group;

struct ks_fec_decoder {
    ks_fec_code *code;            /* NULL: not known yet */
    ks_pool *blocks;
    ks_fec_tune *tune;            /* while the code is unknown or in doubt; else NULL */
    bool confirmed;               /* then only is anything rebuilt, but for a certain group; never while there is doubt */
    uint32_t against, against_at; /* packets that contradicted a confirmed code, and the newest group when the first of them came */
    uint32_t boundaries;          /* groups whose last data and first parity packet stood where the code has them */
    uint32_t held;                /* groups in the window */
    group *groups;                /* a ring; NULL: nothing was received since the start, or trim */
    uint32_t head, newest;        /* the newest group's index in the ring, and its number: seqid / shards */
    uint32_t latest;              /* seqid of the packet that was kept or skipped last */
    uint32_t strays, stray_group; /* packets in a row from outside the window, and where the latest belonged */
    ks_fec_counts counts;
};

typedef struct {
    ks_fec_rebuilt *call;
    void *ctx;
} handing;

static void release(group *g, uint32_t shards)
{
    for (uint32_t i = 0; i < shards; i++)
        if (g->shards[i].body != NULL) {
            ks_pool_put(g->shards[i].body);
            g->shards[i].body = NULL;
        }
    g->have = g->have_data = 0;
    g->done = true;
}

/* What is held of a group; of one that is done, nothing. */
KS_CHECKER void check_group(const ks_fec_decoder *d, const group *g)
{
    KS_ASSERT(g->have <= d->code->shards && g->have_data <= g->have && g->have_data < d->code->ds);
    KS_ASSERT(!g->done || g->have == 0);
    KS_ASSERT((g->have == g->have_data) || g->parity_bytes >= g->data_bytes); /* no packet is longer than its parity */
    uint32_t have = 0, have_data = 0;
    for (uint32_t i = 0; i < d->code->shards; i++)
        if (g->shards[i].body != NULL) {
            have++;
            have_data += i < d->code->ds;
            KS_ASSERT(g->shards[i].bytes <= d->blocks->block_bytes);
            KS_ASSERT(i < d->code->ds ? g->shards[i].bytes <= g->data_bytes : g->shards[i].bytes == g->parity_bytes);
        }
    KS_ASSERT(have == g->have && have_data == g->have_data);
}

KS_CHECKER void check_decoder(const ks_fec_decoder *d)
{
    KS_ASSERT(!d->confirmed || (d->code != NULL && d->tune == NULL)); /* nothing is rebuilt in doubt */
    KS_ASSERT(d->groups == NULL || d->code != NULL);
    KS_ASSERT(d->held >= GROUPS_MIN && d->held <= WINDOW_PKTS && d->head < d->held);
    KS_ASSERT(d->groups == NULL || d->newest < d->code->wrap / d->code->shards);
    KS_ASSERT(d->strays < LATE_STRAYS);
    static _Thread_local uint32_t calls; /* a look at all that is held costs more than a packet */
    for (uint32_t i = 0; d->groups != NULL && i < d->held && calls % 16 == 0; i++)
        check_group(d, &d->groups[i]);
    calls++;
}

/* Makes room for another group. */
static void give_up(ks_fec_decoder *d, group *g)
{
    if (g->have > 0) {
        d->counts.fec_short_sets++;
        release(g, d->code->shards);
    }
    *g = (group){.shards = g->shards};
}

void ks_fec_decoder_trim(ks_fec_decoder *d)
{
    for (uint32_t i = 0; d->groups != NULL && i < d->held; i++)
        give_up(d, &d->groups[i]);
    ks_free(d->groups);
    ks_free(d->tune);
    d->groups = NULL;
    d->tune = NULL;
    d->strays = d->boundaries = 0;
}

/* Takes the reference. */
static void set_code(ks_fec_decoder *d, ks_fec_code *code)
{
    ks_fec_decoder_trim(d);
    ks_fec_code_unref(d->code);
    d->code = code;
    d->held = code == NULL || WINDOW_PKTS / code->shards < GROUPS_MIN ? GROUPS_MIN : WINDOW_PKTS / code->shards;
    d->confirmed = false;
}

ks_fec_decoder *ks_fec_decoder_new(ks_fec_code *code, ks_pool *blocks)
{
    ks_fec_decoder *d = ks_alloc(sizeof *d);
    if (d == NULL)
        return NULL;
    d->blocks = blocks;
    set_code(d, code == NULL ? NULL : ks_fec_code_ref(code));
    return d;
}

void ks_fec_decoder_del(ks_fec_decoder *d)
{
    if (d == NULL)
        return;
    set_code(d, NULL);
    ks_free(d);
}

const ks_fec_counts *ks_fec_decoder_counts(const ks_fec_decoder *d)
{
    return &d->counts;
}

void ks_fec_decoder_code(const ks_fec_decoder *d, uint32_t *ds, uint32_t *ps)
{
    *ds = d->code == NULL ? 0 : d->code->ds;
    *ps = d->code == NULL ? 0 : d->code->ps;
}

/* ---- rebuilding ---- */

/* At most so many data packets can be missing and be rebuilt. */
#define MISSING_MAX (KS_FEC_SHARDS_MAX / 2)

typedef struct {
    uint32_t count;                  /* data packets missing, and parity packets used: as many */
    uint8_t *bodies[MISSING_MAX];    /* of those parity packets */
    uint8_t parity[MISSING_MAX];     /* their rows */
    uint8_t missing[MISSING_MAX];    /* places */
    uint8_t rows[2 * MISSING_MAX * MISSING_MAX];
} puzzle;

static void pick(const ks_fec_code *code, const group *g, puzzle *p)
{
    KS_ASSERT(g->have >= code->ds && g->have_data < code->ds); /* enough to rebuild, and something to be rebuilt */
    p->count = 0;
    for (uint32_t i = 0; i < code->ds; i++)
        if (g->shards[i].body == NULL)
            p->missing[p->count++] = (uint8_t)i;
    for (uint32_t r = 0, n = 0; n < p->count; r++)
        if (g->shards[code->ds + r].body != NULL) {
            p->parity[n] = (uint8_t)r;
            p->bodies[n++] = g->shards[code->ds + r].body;
        }
    KS_ASSERT(p->count == code->ds - g->have_data && p->count <= code->ps && p->count <= MISSING_MAX);
}

/* Takes what is known of the data out of the parity packets, so that they hold what the missing ones alone give. */
static void subtract_known(const ks_fec_code *code, const group *g, const puzzle *p)
{
    uint8_t coefs[MISSING_MAX];
    for (uint32_t i = 0; i < code->ds; i++) {
        if (g->shards[i].body == NULL)
            continue;
        for (uint32_t k = 0; k < p->count; k++)
            coefs[k] = code->by_data[i * code->ps + p->parity[k]];
        ks_gf_muladd(p->bodies, coefs, p->count, g->shards[i].body, g->shards[i].bytes);
    }
}

/* -> false: no memory. The missing packets then stand in the group. */
static bool solve(ks_fec_decoder *d, group *g, puzzle *p)
{
    const ks_fec_code *code = d->code;
    const uint32_t n = p->count, bytes = g->parity_bytes;
    for (uint32_t row = 0; row < n; row++)
        for (uint32_t k = 0; k < n; k++)
            p->rows[row * 2 * n + k] = code->by_data[p->missing[k] * code->ps + p->parity[row]];
    if (!ks_fec_invert(p->rows, n)) /* impossible with a code of ours */
        return false;
    subtract_known(code, g, p);
    uint8_t *found[MISSING_MAX], coefs[MISSING_MAX];
    for (uint32_t k = 0; k < n; k++) {
        found[k] = ks_pool_get(d->blocks);
        if (found[k] == NULL)
            return false;
        KS_ASSERT(bytes <= d->blocks->block_bytes && g->shards[p->missing[k]].body == NULL);
        g->shards[p->missing[k]] = (shard){found[k], bytes};
        memset(found[k], 0, bytes);
    }
    for (uint32_t row = 0; row < n; row++) {
        for (uint32_t k = 0; k < n; k++)
            coefs[k] = p->rows[k * 2 * n + n + row];
        ks_gf_muladd(found, coefs, n, p->bodies[row], bytes);
    }
    return true;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* What is no packet with its padding shows that something in the group was not the peer's. */
static bool is_packet(const uint8_t *body, uint32_t bytes)
{
    uint32_t size = ks_get_le16(body);
    return size >= 2 && size <= bytes && is_zero(body + size, bytes - size);
}

static void rebuild(ks_fec_decoder *d, group *g, const handing *to)
{
    puzzle p;
    pick(d->code, g, &p);
    uint64_t errs = d->counts.fec_errs;
    bool solved = solve(d, g, &p);
    for (uint32_t k = 0; solved && k < p.count; k++) {
        const shard *s = &g->shards[p.missing[k]];
        KS_ASSERT(s->body != NULL && s->bytes == g->parity_bytes);
        if (is_packet(s->body, s->bytes)) {
            d->counts.fec_recovered++;
            to->call(to->ctx, s->body + 2, ks_get_le16(s->body) - 2);
        } else
            d->counts.fec_errs++;
    }
    if (solved && d->counts.fec_errs == errs)
        d->counts.fec_full_sets++;
    else
        d->counts.fec_short_sets++;
    release(g, d->code->shards);
}

static void settle(ks_fec_decoder *d, group *g, const handing *to)
{
    if (g->done || g->have < d->code->ds)
        return;
    if (g->have_data == d->code->ds) {
        d->counts.fec_full_sets++;
        release(g, d->code->shards);
    } else if (d->confirmed || (g->certain && d->tune == NULL))
        rebuild(d, g, to);
}

/* ---- the window ---- */

static bool begin(ks_fec_decoder *d, uint32_t number)
{
    const uint32_t shards = d->code->shards;
    if (d->groups == NULL) {
        d->groups = ks_alloc(d->held * (sizeof(group) + shards * sizeof(shard)));
        if (d->groups == NULL)
            return false;
        shard *first = (shard *)(void *)(d->groups + d->held);
        for (uint32_t i = 0; i < d->held; i++)
            d->groups[i].shards = first + i * shards;
    } else
        for (uint32_t i = 0; i < d->held; i++)
            give_up(d, &d->groups[i]);
    d->head = 0;
    d->newest = number;
    d->strays = 0;
    return true;
}

/* NULL: the packet is not kept. */
static group *find(ks_fec_decoder *d, uint32_t number)
{
    if (d->groups == NULL && !begin(d, number))
        return NULL;
    const uint32_t numbers = d->code->wrap / d->code->shards;
    KS_ASSERT(number < numbers && d->newest < numbers);
    uint32_t ahead = number >= d->newest ? number - d->newest : number + (numbers - d->newest);
    uint32_t behind = ahead == 0 ? 0 : numbers - ahead;
    KS_ASSERT(ahead < numbers && behind < numbers && (ahead + behind) % numbers == 0);
    if (behind < d->held) {
        d->strays = 0;
        return &d->groups[(d->head + d->held - behind) % d->held];
    }
    if (ahead <= (d->held > AHEAD_GROUPS ? d->held : AHEAD_GROUPS)) {
        for (; ahead > 0; ahead--) {
            d->head = (d->head + 1) % d->held;
            give_up(d, &d->groups[d->head]);
        }
        d->newest = number;
        d->strays = 0;
        return &d->groups[d->head];
    }
    bool near = number == d->stray_group || number == (d->stray_group + 1) % numbers || (number + 1) % numbers == d->stray_group;
    d->strays = near && d->strays > 0 ? d->strays + 1 : 1;
    d->stray_group = number;
    if (d->strays < (behind < LATE_GROUPS ? LATE_STRAYS : STRAYS))
        return NULL;
    return begin(d, number) ? &d->groups[0] : NULL;
}

/* ---- which code ---- */

/* One packet that contradicts a code which was confirmed is a stranger's, or a recorded one of another connection's: it takes some of
 * them close to each other, which another code has in any two groups. */
static bool is_doubtful(ks_fec_decoder *d)
{
    if (d->code == NULL || !d->confirmed)
        return true;
    if (d->against == 0 || d->newest - d->against_at > DOUBT_GROUPS) {
        d->against = 0;
        d->against_at = d->newest;
    }
    return ++d->against >= DOUBT_PKTS;
}

/* A packet contradicts the code, or there is none. Without memory the next such packet tries again. */
static void doubt(ks_fec_decoder *d)
{
    d->against = 0;
    d->confirmed = false;
    d->boundaries = 0;
    if (d->tune == NULL)
        d->tune = ks_alloc(sizeof *d->tune);
}

static void tune(ks_fec_decoder *d, uint32_t seqid, bool parity)
{
    uint32_t ds, ps;
    if (!ks_fec_tune_add(d->tune, seqid, parity, &ds, &ps))
        return;
    if (d->code == NULL || d->code->ds != ds || d->code->ps != ps) {
        ks_fec_code *code = ks_fec_code_new(ds, ps, NULL);
        if (code == NULL)
            return;
        set_code(d, code);
    }
    ks_free(d->tune);
    d->tune = NULL;
    d->confirmed = true;
}

static bool contradicts(const ks_fec_code *code, uint32_t seqid, bool parity)
{
    return seqid >= code->wrap || (seqid % code->shards >= code->ds) != parity;
}

/* A packet stood where the code has it. */
static void confirm(ks_fec_decoder *d, group *g, uint32_t number, uint32_t place)
{
    bool stood = g->last_data && g->first_parity;
    g->last_data |= place + 1 == d->code->ds;
    g->first_parity |= place == d->code->ds;
    if (stood || !g->last_data || !g->first_parity || d->confirmed || d->tune != NULL)
        return;
    g->certain = number == 0;
    d->confirmed = ++d->boundaries >= 2;
}

/* ---- packets ---- */

/* -> false: refused, it can't be of this group. */
static bool keep(ks_fec_decoder *d, group *g, uint32_t place, const uint8_t *body, uint32_t bytes)
{
    bool parity = place >= d->code->ds;
    KS_ASSERT(place < d->code->shards && bytes <= d->blocks->block_bytes);
    shard *s = &g->shards[place];
    if (g->done || s->body != NULL)
        return true;
    if (parity ? bytes < g->data_bytes || (g->parity_bytes != 0 && bytes != g->parity_bytes)
               : g->parity_bytes != 0 && bytes > g->parity_bytes)
        return false;
    if (!parity && g->have_data + 1 == d->code->ds) { /* nothing is missing: no need to keep it */
        d->counts.fec_full_sets++;
        release(g, d->code->shards);
        return true;
    }
    s->body = ks_pool_get(d->blocks);
    if (s->body == NULL)
        return true; /* lost, as on any network */
    memcpy(s->body, body, bytes);
    s->bytes = bytes;
    g->have++;
    g->have_data += !parity;
    if (parity)
        g->parity_bytes = bytes;
    else if (bytes > g->data_bytes)
        g->data_bytes = bytes;
    return true;
}

void ks_fec_decode_untrusted(ks_fec_decoder *d, const uint8_t *packet, size_t size, ks_fec_rebuilt *rebuilt, void *ctx)
{
    KS_CHECK(check_decoder(d));
    const uint32_t type = size < KS_FEC_HEAD ? 0 : ks_get_le16(packet + 4);
    const bool parity = type == KS_FEC_PARITY;
    const uint8_t *body = packet + KS_FEC_BODY;
    const size_t bytes = size - KS_FEC_BODY;
    d->counts.fec_parity_shards += parity;
    if ((!parity && type != KS_FEC_DATA) || bytes > UINT16_MAX || bytes > d->blocks->block_bytes ||
        (!parity && ks_get_le16(body) != bytes)) {
        d->counts.fec_errs++;
        return;
    }
    const uint32_t seqid = ks_get_le32(packet);
    if ((d->code == NULL || contradicts(d->code, seqid, parity)) && is_doubtful(d))
        doubt(d);
    const bool was_confirmed = d->confirmed;
    if (d->tune != NULL)
        tune(d, seqid, parity);
    if (d->code == NULL || contradicts(d->code, seqid, parity))
        return;

    const uint32_t number = seqid / d->code->shards, place = seqid % d->code->shards;
    const handing to = {rebuilt, ctx};
    group *g = find(d, number);
    if (g == NULL)
        return;
    if (!keep(d, g, place, body, (uint32_t)bytes)) {
        d->counts.fec_errs++;
        return;
    }
    d->latest = seqid;
    confirm(d, g, number, place);
    if (d->confirmed && !was_confirmed)
        for (uint32_t i = 1; i <= d->held; i++) /* the oldest first */
            settle(d, &d->groups[(d->head + i) % d->held], &to);
    else
        settle(d, g, &to);
    KS_CHECK(check_decoder(d));
}

bool ks_fec_parity_due(const ks_fec_decoder *d)
{
    if (d == NULL || !d->confirmed || d->groups == NULL || d->latest / d->code->shards != d->newest || !d->groups[d->head].done)
        return false;
    uint32_t next = d->latest % d->code->shards + 1;
    return next >= d->code->ds && next < d->code->shards;
}

bool ks_fec_skip_untrusted(ks_fec_decoder *d, const uint8_t packet[KS_FEC_HEAD])
{
    if (ks_get_le16(packet + 4) != KS_FEC_PARITY || ks_get_le32(packet) != d->latest + 1)
        return false;
    d->latest++;
    d->counts.fec_parity_shards++;
    return true;
}
