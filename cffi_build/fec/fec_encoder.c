/* SPDX-License-Identifier: MIT */
/* Each data packet is multiplied into the group's parity packets as it passes, so none is kept. */
#include <string.h>

#include "base/checks.h"
#include "fec/fec_code.h"
#include "fec/fec_cover.h"
#include "fec/gf256.h"

/* Vectors want their rows on cache lines: a row's head stands right before a multiple of this. */
#define LINE 64u

struct ks_fec_encoder {
    ks_fec_code *code;
    size_t packet_max;
    uint32_t next;        /* seqid of the next data packet */
    uint32_t count;       /* data packets of this group so far; ds: parity was made, or passed over */
    size_t body_bytes;    /* of the longest of them: each row holds so many bytes of parity */
    uint64_t last_ms;     /* when the last of them passed */
    bool without_parity;  /* this group */
    ks_fec_cover *cover;  /* NULL: all parity is sent */
    uint8_t *memory;      /* from a group's first packet on, until trim */
    uint8_t *rows[];      /* ps parity packets' bodies; their heads stand before them. Valid while there is memory */
};

ks_fec_encoder *ks_fec_encoder_new(ks_fec_code *code, size_t packet_max)
{
    ks_fec_encoder *e = ks_alloc(sizeof *e + code->ps * sizeof e->rows[0]);
    if (e == NULL)
        return NULL;
    e->code = ks_fec_code_ref(code);
    e->packet_max = packet_max < KS_FEC_HEAD ? KS_FEC_HEAD : packet_max;
    return e;
}

void ks_fec_encoder_del(ks_fec_encoder *e)
{
    if (e == NULL)
        return;
    ks_fec_code_unref(e->code);
    ks_free(e->memory);
    ks_free(e->cover);
    ks_free(e);
}

bool ks_fec_encoder_adapt(ks_fec_encoder *e)
{
    KS_ASSERT(e->cover == NULL);
    e->cover = ks_alloc(sizeof *e->cover);
    return e->cover != NULL;
}

void ks_fec_encoder_see(ks_fec_encoder *e, ks_fec_way way, uint64_t now_ms)
{
    if (e->cover != NULL)
        ks_fec_cover_see(e->cover, way, now_ms);
}

void ks_fec_encoder_sent(ks_fec_encoder *e, uint32_t segments, uint64_t now_ms)
{
    if (e->cover != NULL)
        ks_fec_cover_sent(e->cover, segments, now_ms);
}

uint32_t ks_fec_pads(const ks_fec_encoder *e)
{
    return e->cover != NULL ? e->cover->pads : 0;
}

uint32_t ks_fec_covered_ms(const ks_fec_encoder *e, bool *held)
{
    *held = false;
    return e->cover != NULL ? ks_fec_cover_ms(e->cover, e->code->ds, held) : 0;
}

bool ks_fec_is_whole(const ks_fec_encoder *e)
{
    return e->count == e->code->ds;
}

void ks_fec_encoder_seek(ks_fec_encoder *e, uint32_t seqid)
{
    KS_ASSERT(e->count == 0 || e->count == e->code->ds); /* no group is begun */
    seqid -= seqid % e->code->shards;
    e->next = seqid < e->code->wrap ? seqid : 0;
}

void ks_fec_encoder_trim(ks_fec_encoder *e)
{
    ks_free(e->memory);
    e->memory = NULL;
    e->without_parity = true; /* unless a new group begins */
}

/* seqids of data packets are those of their places in the group; behind the last data packet they skip the parity's. */
KS_CHECKER void check_encoder(const ks_fec_encoder *e)
{
    KS_ASSERT(e->count <= e->code->ds && e->next < e->code->wrap);
    KS_ASSERT(e->next % e->code->shards == e->count % e->code->ds);
    KS_ASSERT(e->body_bytes <= e->packet_max - KS_FEC_BODY);
    KS_ASSERT(e->count == 0 || e->without_parity || e->memory != NULL);
}

static bool take_memory(ks_fec_encoder *e)
{
    const size_t stride = LINE + (e->packet_max - KS_FEC_BODY + LINE - 1) / LINE * LINE;
    e->memory = ks_alloc(LINE + e->code->ps * stride);
    if (e->memory == NULL)
        return false;
    uint8_t *first = e->memory + LINE - (uintptr_t)e->memory % LINE + LINE;
    for (uint32_t r = 0; r < e->code->ps; r++)
        e->rows[r] = first + r * stride;
    KS_ASSERT((uintptr_t)first % LINE == 0 && first - e->memory >= (ptrdiff_t)KS_FEC_BODY); /* its head fits before it */
    KS_ASSERT(first + e->code->ps * stride <= e->memory + LINE + LINE + e->code->ps * stride);
    return true;
}

uint32_t ks_fec_encode(ks_fec_encoder *e, uint8_t *packet, size_t size, uint64_t now_ms)
{
    const ks_fec_code *code = e->code;
    KS_CHECK(check_encoder(e));
    KS_ASSERT(size >= KS_FEC_HEAD);
    if (e->count == code->ds)
        e->count = 0;
    if (e->count == 0) {
        bool wanted = e->cover == NULL || ks_fec_cover_begin(e->cover, code->ds, now_ms);
        e->body_bytes = 0;
        e->without_parity = !wanted || (e->memory == NULL && !take_memory(e));
    }
    const size_t body_bytes = size - KS_FEC_BODY;
    uint8_t *body = packet + KS_FEC_BODY;
    ks_fec_put_head(packet, e->next, KS_FEC_DATA);
    body[0] = (uint8_t)body_bytes;
    body[1] = (uint8_t)(body_bytes >> 8);
    e->next++;

    if (size > e->packet_max)
        e->without_parity = true;
    if (!e->without_parity) {
        if (body_bytes > e->body_bytes) {
            for (uint32_t r = 0; r < code->ps; r++)
                memset(e->rows[r] + e->body_bytes, 0, body_bytes - e->body_bytes);
            e->body_bytes = body_bytes;
        }
        ks_gf_muladd(e->rows, code->by_data + e->count * code->ps, code->ps, body, body_bytes);
    }
    bool gap = e->count > 0 && now_ms > e->last_ms && now_ms - e->last_ms > KS_FEC_GAP_MS;
    e->last_ms = now_ms;
    e->count++;
    if (e->cover != NULL)
        ks_fec_cover_packet(e->cover, code->ds, code->ps, e->count, size, e->packet_max, now_ms);
    if (e->count < code->ds) {
        KS_CHECK(check_encoder(e));
        return 0;
    }

    uint32_t seqid = e->next;
    e->next += code->ps; /* passed over when there is no parity */
    if (e->next == code->wrap)
        e->next = 0;
    KS_CHECK(check_encoder(e));
    if (e->without_parity || gap)
        return 0;
    uint32_t sent = e->cover == NULL ? code->ps : ks_fec_cover_end(e->cover, code->ds, code->ps, KS_FEC_BODY + e->body_bytes, now_ms);
    KS_ASSERT(sent <= code->ps);
    for (uint32_t r = 0; r < sent; r++)
        ks_fec_put_head(e->rows[r] - KS_FEC_BODY, seqid + r, KS_FEC_PARITY);
    return sent;
}

const uint8_t *ks_fec_parity(const ks_fec_encoder *e, uint32_t i, size_t *size)
{
    KS_ASSERT(i < e->code->ps && e->count == e->code->ds && e->memory != NULL); /* its group is whole */
    *size = KS_FEC_BODY + e->body_bytes;
    return e->rows[i] - KS_FEC_BODY;
}
