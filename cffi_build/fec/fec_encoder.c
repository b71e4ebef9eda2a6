/* SPDX-License-Identifier: MIT */
/* Each data packet is multiplied into the group's parity packets as it passes, so none is kept. */
#include <string.h>

#include "fec_code.h"
#include "gf256.h"

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
    ks_free(e);
}

void ks_fec_encoder_seek(ks_fec_encoder *e, uint32_t seqid)
{
    seqid -= seqid % e->code->shards;
    e->next = seqid < e->code->wrap ? seqid : 0;
}

void ks_fec_encoder_trim(ks_fec_encoder *e)
{
    ks_free(e->memory);
    e->memory = NULL;
    e->without_parity = true; /* unless a new group begins */
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
    return true;
}

uint32_t ks_fec_encode(ks_fec_encoder *e, uint8_t *packet, size_t size, uint64_t now_ms)
{
    const ks_fec_code *code = e->code;
    if (e->count == code->ds)
        e->count = 0;
    if (e->count == 0) {
        e->body_bytes = 0;
        e->without_parity = e->memory == NULL && !take_memory(e);
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
    if (++e->count < code->ds)
        return 0;

    uint32_t seqid = e->next;
    e->next += code->ps; /* passed over when there is no parity */
    if (e->next == code->wrap)
        e->next = 0;
    if (e->without_parity || gap)
        return 0;
    for (uint32_t r = 0; r < code->ps; r++)
        ks_fec_put_head(e->rows[r] - KS_FEC_BODY, seqid + r, KS_FEC_PARITY);
    return code->ps;
}

const uint8_t *ks_fec_parity(const ks_fec_encoder *e, uint32_t i, size_t *size)
{
    *size = KS_FEC_BODY + e->body_bytes;
    return e->rows[i] - KS_FEC_BODY;
}
