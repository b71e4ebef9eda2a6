/* SPDX-License-Identifier: MIT */
/* Reed-Solomon forward error correction over packets (docs/protocol.md 2): an 8-byte head, and parity packets. A code is how
 * many data packets (ds) and parity packets (ps) make a group, and their coefficients. The packets of a group are its shards.
 *
 * An encoder belongs to one sending session, a decoder to one receiving session; neither does I/O nor reads a clock.
 * A code is shared by them and counted (one thread). */
#ifndef KS_FEC_H
#define KS_FEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counters.h"
#include "base/mem.h"

#define KS_FEC_HEAD 8u          /* seqid u32, type u16, size u16 */
#define KS_FEC_DATA 0x00f1u
#define KS_FEC_PARITY 0x00f2u
#define KS_FEC_OOB 0x00f3u
#define KS_FEC_OOB_SEQID 0xffffffffu
#define KS_FEC_SHARDS_MAX 255u  /* data and parity together */

/* The coefficients for ds data and ps parity packets. */
typedef struct ks_fec_code ks_fec_code;
/* coefficients: ps rows of ds bytes, copied; NULL: computed here. NULL: no memory, or not 1 <= ds, ps and ds + ps <= 255. */
ks_fec_code *ks_fec_code_new(uint32_t ds, uint32_t ps, const uint8_t *coefficients);
ks_fec_code *ks_fec_code_ref(ks_fec_code *code);
/* NULL is allowed. */
void ks_fec_code_unref(ks_fec_code *code);
/* coefficients: room for ps rows of ds bytes, as above. */
void ks_fec_code_read(const ks_fec_code *code, uint8_t *coefficients);
/* 0 when the code is NULL. */
uint32_t ks_fec_parity_count(const ks_fec_code *code);

/* ---- sending ---- */

typedef struct ks_fec_encoder ks_fec_encoder;
typedef struct ks_fec_cover ks_fec_cover;
/* Takes a reference. packet_max: bytes of the longest packet, head included. NULL: no memory. */
ks_fec_encoder *ks_fec_encoder_new(ks_fec_code *code, size_t packet_max);
void ks_fec_encoder_del(ks_fec_encoder *encoder);
/* packet has KS_FEC_HEAD bytes of room, which are filled, then a KCP packet; size counts both and is at most packet_max.
 * -> how many parity packets follow it now: 0, or the group's, all or, of an encoder that adapts, some of them. Without memory a
 * group goes without parity. */
uint32_t ks_fec_encode(ks_fec_encoder *encoder, uint8_t *packet, size_t size, uint64_t now_ms);
/* The i-th of them, head included; valid until the next ks_fec_encode. */
const uint8_t *ks_fec_parity(const ks_fec_encoder *encoder, uint32_t i, size_t *size);
/* From now on parity is sent where it is of use only, else as kcp-go does, always (fec_cover.h). -> false: no memory. */
bool ks_fec_encoder_adapt(ks_fec_encoder *encoder);
/* What the sender knows of its path. */
typedef struct {
    bool limited;    /* the application has less to send than the path takes, and that for a whole round trip */
    uint32_t loss;   /* of 65536 packets, lately */
    uint32_t rtt_ms; /* 0: not known yet */
    bool queue;      /* packets wait on their way */
} ks_fec_way;
/* For an encoder that adapts; others take no notice. */
void ks_fec_encoder_see(ks_fec_encoder *encoder, ks_fec_way way, uint64_t now_ms);
/* Likewise: so many segments of new data have left, not counting what was sent again. */
void ks_fec_encoder_sent(ks_fec_encoder *encoder, uint32_t segments, uint64_t now_ms);
/* So many packets, as short as they can be, should be encoded at once: they make a group whole whose parity would come too
 * late. */
uint32_t ks_fec_pads(const ks_fec_encoder *encoder);
/* ms after which the parity of what leaves now is out; 0: it may never be. held: since parity would fill a queue. */
uint32_t ks_fec_covered_ms(const ks_fec_encoder *encoder, bool *held);
/* Whether the group is whole whose packet was encoded last. */
bool ks_fec_is_whole(const ks_fec_encoder *encoder);
/* The next group begins at seqid, rounded down to a group's start: tests start near the wrap. Before the first packet. */
void ks_fec_encoder_seek(ks_fec_encoder *encoder, uint32_t seqid);
/* An idle session gives its memory back; the group that was begun goes without parity. */
void ks_fec_encoder_trim(ks_fec_encoder *encoder);

/* ---- receiving ---- */

typedef struct ks_fec_decoder ks_fec_decoder;
/* A KCP packet that was rebuilt, valid during the call. */
typedef void ks_fec_rebuilt(void *ctx, const uint8_t *packet, size_t size);
/* code: what the peer is believed to use (a reference is taken), or NULL: it is found out. Packets are kept in blocks of
 * `blocks`, whose block_bytes bound a packet's size. NULL: no memory.
 *
 * A wrong code is dangerous: coefficients of a row add up to 1, so what it rebuilds from packets that agree in a byte has
 * that byte too, and passes for a segment of this conversation. So nothing is rebuilt before a code is confirmed: the last
 * data packet and the first parity packet of a group seen in their places, in two groups (group 0 itself needs one). What
 * was missing until then is rebuilt then, if its group is still held. A packet whose type contradicts its place ends that,
 * until enough packets in a row agree on one code, the old or another (fec_tune.h). */
ks_fec_decoder *ks_fec_decoder_new(ks_fec_code *code, ks_pool *blocks);
void ks_fec_decoder_del(ks_fec_decoder *decoder);
/* Any packet of type DATA or PARITY, head included. The KCP packet inside a DATA one is the caller's to use; what can be
 * rebuilt now is handed to `rebuilt`, which must not call the decoder. */
void ks_fec_decode_untrusted(ks_fec_decoder *decoder, const uint8_t *packet, size_t size, ks_fec_rebuilt *rebuilt, void *ctx);
/* Whether the next packet, if none is lost or overtaken, is a parity packet of a group that is whole. NULL: no. */
bool ks_fec_parity_due(const ks_fec_decoder *decoder);
/* The first bytes of any packet, when one is due. -> true: it is that one; it is counted, and needed for nothing. */
bool ks_fec_skip_untrusted(ks_fec_decoder *decoder, const uint8_t packet[KS_FEC_HEAD]);
/* An idle session gives its memory back; groups that were begun are given up. */
void ks_fec_decoder_trim(ks_fec_decoder *decoder);
const ks_fec_counts *ks_fec_decoder_counts(const ks_fec_decoder *decoder);
/* The code in use; both 0 while it is not known. */
void ks_fec_decoder_code(const ks_fec_decoder *decoder, uint32_t *ds, uint32_t *ps);

#endif
