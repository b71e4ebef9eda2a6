/* SPDX-License-Identifier: MIT */
/* Any packets at a decoder: it keeps no more than its window, rebuilds nothing longer than a packet, and in the end no
 * memory is missing. */
#include "fec/fec.h"
#include "main.h"

enum { BLOCK = 64, PACKET = 40 };

static void on_rebuilt(void *ctx, const uint8_t *packet, size_t size)
{
    uint32_t *sum = ctx;
    MUST(size <= BLOCK - 2);
    for (size_t i = 0; i < size; i++)
        *sum += packet[i];
}

static void feed(ks_fec_decoder *d, const uint8_t *packet, size_t size)
{
    static uint32_t sum;
    uint8_t *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, packet, size);
    ks_fec_decode_untrusted(d, copy, size, on_rebuilt, &sum);
    free(copy);
}

static void send_one(ks_fec_decoder *d, ks_fec_encoder *e, uint32_t lost, size_t size)
{
    uint8_t packet[KS_FEC_HEAD + PACKET];
    memset(packet, (int)lost, sizeof packet);
    uint32_t parity = ks_fec_encode(e, packet, KS_FEC_HEAD + size % (PACKET + 1), 0);
    if (lost & 1)
        feed(d, packet, KS_FEC_HEAD + size % (PACKET + 1));
    for (uint32_t i = 0; i < parity; i++) {
        size_t bytes;
        const uint8_t *p = ks_fec_parity(e, i, &bytes);
        if (!(lost >> (i % 7) & 2))
            feed(d, p, bytes);
    }
}

/* Well formed but for what the operands break. */
static void forge(ks_fec_decoder *d, input *in, uint32_t *seqid)
{
    uint8_t packet[128];
    uint32_t how = take(in, 1), size = KS_FEC_HEAD + take(in, 1) % 100;
    *seqid = how & 1 ? take(in, 4) : how & 2 ? *seqid + take(in, 1) - 128 : *seqid + 1;
    memset(packet, (int)how, sizeof packet);
    memcpy(packet, &(uint8_t[]){(uint8_t)*seqid, (uint8_t)(*seqid >> 8), (uint8_t)(*seqid >> 16), (uint8_t)(*seqid >> 24)}, 4);
    packet[4] = how & 4 ? 0xf1 : 0xf2;
    packet[5] = 0;
    if (how & 8) {
        packet[6] = (uint8_t)(size - 6);
        packet[7] = 0;
    }
    feed(d, packet, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, data + size};
    uint64_t start = ks_mem_used();
    uint32_t ds = 1 + take(&in, 1) % 20, ps = 1 + take(&in, 1) % 6, seqid = 0, known = take(&in, 1), ds_now, ps_now;
    ks_pool blocks;
    ks_pool_init(&blocks, BLOCK);
    ks_fec_code *codes[] = {ks_fec_code_new(ds, ps, NULL), ks_fec_code_new(1 + ps, ds, NULL)};
    ks_fec_encoder *encoders[] = {ks_fec_encoder_new(codes[0], KS_FEC_HEAD + PACKET), ks_fec_encoder_new(codes[1], KS_FEC_HEAD + PACKET)};
    ks_fec_decoder *d = ks_fec_decoder_new(known % 3 == 0 ? NULL : codes[known % 3 - 1], &blocks);
    if (known & 128)
        ks_fec_encoder_seek(encoders[0], UINT32_MAX - 60);
    while (in.next < in.end) {
        uint32_t step = take(&in, 1), operand = take(&in, 1);
        if (step < 150)
            send_one(d, encoders[0], operand, step);
        else if (step < 180)
            send_one(d, encoders[1], operand, step);
        else if (step < 245)
            forge(d, &in, &seqid);
        else if (step < 250) {
            size_t raw = operand < (size_t)(in.end - in.next) ? operand : (size_t)(in.end - in.next);
            feed(d, in.next, raw);
            in.next += raw;
        } else if (step < 252)
            ks_fec_decoder_trim(d);
        else if (step < 254)
            ks_fec_encoder_trim(encoders[operand & 1]);
        else
            for (uint32_t n = 0; n < operand; n++)
                send_one(d, encoders[step & 1], n * 37 | (operand & 1), n);
        ks_fec_decoder_code(d, &ds_now, &ps_now);
        uint32_t shards = ds_now + ps_now, window = shards == 0 ? 0 : 32 / shards < 3 ? 3 : 32 / shards;
        MUST(blocks.used <= window * shards);
    }
    ks_fec_decoder_trim(d);
    MUST(blocks.used == 0);
    ks_fec_decoder_del(d);
    for (int i = 0; i < 2; i++) {
        ks_fec_encoder_del(encoders[i]);
        ks_fec_code_unref(codes[i]);
    }
    ks_pool_free(&blocks);
    MUST(ks_mem_used() == start);
    return 0;
}
