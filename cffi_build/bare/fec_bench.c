/* SPDX-License-Identifier: MIT */
/* FEC's speed, measured through the very calls that a session makes. Who calls reads the clock. */
#include <errno.h>
#include <string.h>

#include "bare/fec_alone.h"
#include "fec/fec_code.h"

/* One group on the wire. Its parity doesn't depend on seqids, so it serves as every group. */
typedef struct {
    ks_fec_code *code;
    ks_fec_encoder *encoder;
    size_t stride, data_bytes, parity_bytes; /* of packets, heads included */
    uint8_t *packets;
} train;

static void train_free(train *t)
{
    ks_fec_encoder_del(t->encoder);
    ks_fec_code_unref(t->code);
    ks_free(t->packets);
}

static int train_init(train *t, int ds, int ps, const uint8_t *coefs, int packet_bytes)
{
    memset(t, 0, sizeof *t);
    if (ds < 1 || ps < 1 || ds + ps > (int)KS_FEC_SHARDS_MAX || packet_bytes < 0 || packet_bytes > UINT16_MAX - 2)
        return -EINVAL;
    t->data_bytes = KS_FEC_HEAD + (size_t)packet_bytes;
    t->stride = (t->data_bytes + 63) & ~(size_t)63;
    t->code = ks_fec_code_new((uint32_t)ds, (uint32_t)ps, coefs);
    t->packets = ks_alloc((size_t)(ds + ps) * t->stride);
    if (t->code != NULL)
        t->encoder = ks_fec_encoder_new(t->code, t->data_bytes);
    if (t->encoder == NULL || t->packets == NULL)
        return -ENOMEM;
    uint32_t noise = 1;
    for (uint8_t *p = t->packets; p < t->packets + (size_t)ds * t->stride; p++) {
        noise = noise * 1664525u + 1013904223u;
        *p = (uint8_t)(noise >> 24);
    }
    return 0;
}

static uint32_t encode_group(train *t)
{
    uint32_t parity = 0;
    for (uint32_t i = 0; i < t->code->ds; i++)
        parity = ks_fec_encode(t->encoder, t->packets + i * t->stride, t->data_bytes, 0);
    return parity;
}

int ks_fec_bench_encode(int ds, int ps, const uint8_t *coefs, int packet_bytes, int groups)
{
    train t;
    int result = train_init(&t, ds, ps, coefs, packet_bytes);
    for (int g = 0; result == 0 && g < groups; g++)
        if (encode_group(&t) != (uint32_t)ps)
            result = -EIO;
    train_free(&t);
    return result;
}

typedef struct {
    uint64_t packets, bytes;
} rebuilt_sum;

static void on_rebuilt(void *ctx, const uint8_t *packet, size_t size)
{
    rebuilt_sum *sum = ctx;
    sum->packets++;
    sum->bytes += size > 0 ? packet[size - 1] : 0;
}

/* All parity packets arrive, as on a network. Which data packets are lost changes from group to group. */
static void decode_group(ks_fec_decoder *d, train *t, uint32_t group, uint32_t losses, rebuilt_sum *sum)
{
    const uint32_t first = group % (t->code->wrap / t->code->shards) * t->code->shards;
    const uint32_t ds = t->code->ds;
    for (uint32_t i = 0; i < t->code->shards; i++) {
        bool parity = i >= ds;
        uint8_t *p = t->packets + i * t->stride;
        if (!parity && (i + group) % ds < losses)
            continue;
        ks_fec_put_head(p, first + i, parity ? KS_FEC_PARITY : KS_FEC_DATA);
        ks_fec_decode_untrusted(d, p, parity ? t->parity_bytes : t->data_bytes, on_rebuilt, sum);
    }
}

int ks_fec_bench_decode(int ds, int ps, const uint8_t *coefs, int packet_bytes, int groups, int losses)
{
    train t;
    int result = train_init(&t, ds, ps, coefs, packet_bytes);
    if (result == 0 && (losses < 0 || losses > ps || losses > ds))
        result = -EINVAL;
    if (result < 0) {
        train_free(&t);
        return result;
    }
    const uint32_t parity = encode_group(&t);
    for (uint32_t i = 0; i < parity; i++)
        memcpy(t.packets + (t.code->ds + i) * t.stride, ks_fec_parity(t.encoder, i, &t.parity_bytes), t.data_bytes);
    ks_pool blocks;
    ks_pool_init(&blocks, t.data_bytes);
    ks_fec_decoder *d = ks_fec_decoder_new(t.code, &blocks);
    rebuilt_sum sum = {0};
    if (d == NULL)
        result = -ENOMEM;
    else {
        decode_group(d, &t, 0, 0, &sum); /* two whole groups first: they confirm the code */
        decode_group(d, &t, 1, 0, &sum);
        for (int g = 0; g < groups; g++)
            decode_group(d, &t, 2 + (uint32_t)g, (uint32_t)losses, &sum);
        if (sum.packets != (uint64_t)groups * (uint64_t)losses || ks_fec_decoder_counts(d)->fec_errs != 0)
            result = -EIO;
    }
    ks_fec_decoder_del(d);
    ks_pool_free(&blocks);
    train_free(&t);
    return result;
}
