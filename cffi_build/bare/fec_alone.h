/* SPDX-License-Identifier: MIT */
/* FEC alone, for tests and benchmarks: an encoder and a decoder behind a small number, what they make in queues.
 *
 * Any thread may call, with any number and any bytes: one lock guards the table and stays held for the length of a call.
 * -EBADF: no such number. -EINVAL: a negative size, no buffer, or no code. */
#ifndef KS_FEC_ALONE_H
#define KS_FEC_ALONE_H

#include <stddef.h>
#include <stdint.h>

#include "base/cdef.h"
#include "fec/gf256.h"

KS_CDEF

/* -> a number; -EMFILE, -ENOMEM. coefs NULL: computed in C. ds and ps 0: no encoder, and a decoder that knows no code. */
int ks_fec_alone_open(int ds, int ps, const uint8_t *coefs, uint32_t first_seqid);
int ks_fec_alone_close(int fec);
/* A KCP packet of at most 2048 bytes goes to the encoder. -> how many parity packets follow it. */
int ks_fec_alone_encode(int fec, const uint8_t *packet, int size, uint64_t now_ms);
/* Takes the oldest packet that encode made. -> its size; 0: none; -EMSGSIZE: it is longer, and stays. */
int ks_fec_alone_output(int fec, uint8_t *packet, int size);
/* A packet from the wire goes to the decoder. -> how many were rebuilt. */
int ks_fec_alone_decode(int fec, const uint8_t *packet, int size);
/* Takes the oldest packet that decode rebuilt. -> its size, perhaps 0; -EAGAIN: none; -EMSGSIZE: it is longer, and stays. */
int ks_fec_alone_rebuilt(int fec, uint8_t *packet, int size);
/* recovered, errs, parity_shards, full_sets, short_sets; the decoder's ds and ps; blocks it holds. */
int ks_fec_alone_counts(int fec, uint64_t counts[8]);
int ks_fec_alone_trim(int fec);

/* The coefficients as C computes them: ps rows of ds bytes. */
int ks_fec_coefficients(int ds, int ps, uint8_t *coefs);
/* ks_gf_muladd on rows `stride` bytes apart; at most 255. */
int ks_gf_muladd_flat(uint8_t *dst, size_t stride, const uint8_t *coefs, size_t rows, const uint8_t *src, size_t n);

/* What a sending or a receiving session does with FEC, over and over: groups of ds packets of packet_bytes (KCP packets,
 * heads not counted). Decoding loses `losses` data packets of each group. -> 0; -EIO: not all was rebuilt. */
int ks_fec_bench_encode(int ds, int ps, const uint8_t *coefs, int packet_bytes, int groups);
int ks_fec_bench_decode(int ds, int ps, const uint8_t *coefs, int packet_bytes, int groups, int losses);

KS_CDEF_END

#endif
