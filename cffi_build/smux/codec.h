/* SPDX-License-Identifier: MIT */
/* Compression between KCP's byte stream and smux frames (docs/protocol.md 6). The work is done by a library of Python's,
 * so these calls take the GIL: sessions that use them live in an engine of their own. */
#ifndef KS_CODEC_H
#define KS_CODEC_H

#include <stdint.h>

#include "base/cdef.h"

/* What an engine lends to the sessions that compress. */
#define KS_CODEC_BYTES 65536u
typedef struct {
    uint8_t inflated[KS_CODEC_BYTES];
    uint8_t plain[KS_CODEC_BYTES];
    uint8_t deflated[KS_CODEC_BYTES];
} ks_codec_space;

KS_CDEF
enum { KS_CODEC_COMPRESS, KS_CODEC_DECOMPRESS, KS_CODEC_CLOSE };

/* id: whose stream. Turns `size` bytes of `in` into at most `cap` bytes of `out`. -> bytes; when these are `cap`, what is
 * left is given by further calls with size 0. -1: broken data, or no memory. CLOSE: forgets the stream. */
typedef int ks_codec_run(uint64_t id, int what, const uint8_t *in, int size, uint8_t *out, int cap);

/* Once, before the first session that compresses. */
void ks_codec_use(ks_codec_run *run);
KS_CDEF_END

/* -1 as long as there is none. */
int ks_codec_call(uint64_t id, int what, const uint8_t *in, int size, uint8_t *out, int cap);
/* A new stream; never 0. */
uint64_t ks_codec_new(void);

#endif
