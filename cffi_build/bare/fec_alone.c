/* SPDX-License-Identifier: MIT */
#include "bare/fec_alone.h"

#include <errno.h>
#include <string.h>

#include "base/lock.h"
#include "fec/fec.h"
#include "base/mem.h"

#define ENDS_MAX 1024
#define PACKET_MAX 2048 /* KCP packet */

typedef struct packet {
    struct packet *next;
    int size;
    uint8_t bytes[];
} packet;

typedef struct {
    packet *head, *tail;
    int made;
} queue;

typedef struct {
    ks_fec_encoder *encoder; /* NULL when there is no code */
    ks_fec_decoder *decoder;
    ks_pool blocks;
    queue wire, rebuilt;
} fec_end;

static ks_lock table_lock = KS_LOCK_INIT(KS_RANK_FEC);
static fec_end *table[ENDS_MAX];

/* Locks the table in any case; every use ends with leave(). */
static fec_end *enter(int fec)
{
    ks_lock_take(&table_lock);
    return fec < 0 || fec >= ENDS_MAX ? NULL : table[fec];
}

static int leave(int result)
{
    ks_lock_release(&table_lock);
    return result;
}

/* Without memory the packet is lost. */
static void push(queue *q, const uint8_t *bytes, size_t size)
{
    packet *p = ks_alloc(sizeof *p + size);
    if (p == NULL)
        return;
    p->size = (int)size;
    if (size > 0)
        memcpy(p->bytes, bytes, size);
    if (q->head == NULL)
        q->head = p;
    else
        q->tail->next = p;
    q->tail = p;
    q->made++;
}

static int pop(queue *q, uint8_t *bytes, int size, int none)
{
    packet *p = q->head;
    if (p == NULL)
        return none;
    if (p->size > size)
        return -EMSGSIZE;
    if (bytes == NULL)
        return -EINVAL;
    int result = p->size;
    memcpy(bytes, p->bytes, (size_t)result);
    q->head = p->next;
    ks_free(p);
    return result;
}

static void end_del(fec_end *e)
{
    while (e->wire.head != NULL || e->rebuilt.head != NULL) {
        queue *q = e->wire.head != NULL ? &e->wire : &e->rebuilt;
        packet *p = q->head;
        q->head = p->next;
        ks_free(p);
    }
    ks_fec_encoder_del(e->encoder);
    ks_fec_decoder_del(e->decoder);
    ks_pool_free(&e->blocks);
    ks_free(e);
}

static fec_end *end_new(ks_fec_code *code, uint32_t first_seqid)
{
    fec_end *e = ks_alloc(sizeof *e);
    if (e == NULL)
        return NULL;
    ks_pool_init(&e->blocks, PACKET_MAX + KS_FEC_HEAD);
    e->decoder = ks_fec_decoder_new(code, &e->blocks);
    if (code != NULL)
        e->encoder = ks_fec_encoder_new(code, PACKET_MAX + KS_FEC_HEAD);
    if (e->decoder == NULL || (code != NULL && e->encoder == NULL)) {
        end_del(e);
        return NULL;
    }
    if (code != NULL)
        ks_fec_encoder_seek(e->encoder, first_seqid);
    return e;
}

static bool is_code(int ds, int ps)
{
    return ds >= 1 && ps >= 1 && ds < (int)KS_FEC_SHARDS_MAX && ps <= (int)KS_FEC_SHARDS_MAX - ds;
}

int ks_fec_alone_open(int ds, int ps, const uint8_t *coefs, uint32_t first_seqid)
{
    bool known = ds != 0 || ps != 0;
    if (known && !is_code(ds, ps))
        return -EINVAL;
    ks_lock_take(&table_lock);
    int fec = 0;
    while (fec < ENDS_MAX && table[fec] != NULL)
        fec++;
    if (fec == ENDS_MAX)
        return leave(-EMFILE);
    ks_fec_code *code = known ? ks_fec_code_new((uint32_t)ds, (uint32_t)ps, coefs) : NULL;
    if (!known || code != NULL)
        table[fec] = end_new(code, first_seqid);
    ks_fec_code_unref(code);
    return leave(table[fec] == NULL ? -ENOMEM : fec);
}

int ks_fec_alone_close(int fec)
{
    fec_end *e = enter(fec);
    if (e == NULL)
        return leave(-EBADF);
    table[fec] = NULL;
    end_del(e);
    return leave(0);
}

int ks_fec_alone_encode(int fec, const uint8_t *bytes, int size, uint64_t now_ms)
{
    fec_end *e = enter(fec);
    if (e == NULL)
        return leave(-EBADF);
    if (size < 0 || size > PACKET_MAX || (bytes == NULL && size > 0) || e->encoder == NULL)
        return leave(-EINVAL);
    uint8_t whole[KS_FEC_HEAD + PACKET_MAX];
    if (size > 0)
        memcpy(whole + KS_FEC_HEAD, bytes, (size_t)size);
    uint32_t parity = ks_fec_encode(e->encoder, whole, KS_FEC_HEAD + (size_t)size, now_ms);
    push(&e->wire, whole, KS_FEC_HEAD + (size_t)size);
    for (uint32_t i = 0; i < parity; i++) {
        size_t parity_size;
        const uint8_t *p = ks_fec_parity(e->encoder, i, &parity_size);
        push(&e->wire, p, parity_size);
    }
    return leave((int)parity);
}

int ks_fec_alone_output(int fec, uint8_t *bytes, int size)
{
    fec_end *e = enter(fec);
    return leave(e == NULL ? -EBADF : pop(&e->wire, bytes, size, 0));
}

static void on_rebuilt(void *ctx, const uint8_t *bytes, size_t size)
{
    push(ctx, bytes, size);
}

int ks_fec_alone_decode(int fec, const uint8_t *bytes, int size)
{
    fec_end *e = enter(fec);
    if (e == NULL)
        return leave(-EBADF);
    if (size < 0 || bytes == NULL)
        return leave(-EINVAL);
    e->rebuilt.made = 0;
    ks_fec_decode_untrusted(e->decoder, bytes, (size_t)size, on_rebuilt, &e->rebuilt);
    return leave(e->rebuilt.made);
}

int ks_fec_alone_rebuilt(int fec, uint8_t *bytes, int size)
{
    fec_end *e = enter(fec);
    return leave(e == NULL ? -EBADF : pop(&e->rebuilt, bytes, size, -EAGAIN));
}

int ks_fec_alone_counts(int fec, uint64_t counts[8])
{
    fec_end *e = enter(fec);
    if (e == NULL)
        return leave(-EBADF);
    if (counts == NULL)
        return leave(-EINVAL);
    const ks_fec_counts *c = ks_fec_decoder_counts(e->decoder);
    uint32_t ds, ps;
    ks_fec_decoder_code(e->decoder, &ds, &ps);
    const uint64_t all[8] = {c->fec_recovered, c->fec_errs, c->fec_parity_shards, c->fec_full_sets, c->fec_short_sets, ds, ps, e->blocks.used};
    memcpy(counts, all, sizeof all);
    return leave(0);
}

int ks_fec_alone_trim(int fec)
{
    fec_end *e = enter(fec);
    if (e == NULL)
        return leave(-EBADF);
    if (e->encoder != NULL)
        ks_fec_encoder_trim(e->encoder);
    ks_fec_decoder_trim(e->decoder);
    ks_pool_trim(&e->blocks);
    return leave(0);
}

int ks_fec_coefficients(int ds, int ps, uint8_t *coefs)
{
    if (!is_code(ds, ps) || coefs == NULL)
        return -EINVAL;
    ks_fec_code *code = ks_fec_code_new((uint32_t)ds, (uint32_t)ps, NULL);
    if (code == NULL)
        return -ENOMEM;
    ks_fec_code_read(code, coefs);
    ks_fec_code_unref(code);
    return 0;
}

int ks_gf_muladd_flat(uint8_t *dst, size_t stride, const uint8_t *coefs, size_t rows, const uint8_t *src, size_t n)
{
    uint8_t *each[KS_FEC_SHARDS_MAX];
    if (rows > KS_FEC_SHARDS_MAX || dst == NULL || coefs == NULL || src == NULL)
        return -EINVAL;
    for (size_t r = 0; r < rows; r++)
        each[r] = dst + r * stride;
    ks_gf_muladd(each, coefs, rows, src, n);
    return 0;
}
