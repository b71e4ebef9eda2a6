/* SPDX-License-Identifier: MIT */
/* A code from inside, for the encoder and the decoder, and the few facts of the wire that both use. */
#ifndef KS_FEC_CODE_H
#define KS_FEC_CODE_H

#include "fec.h"

struct ks_fec_code {
    uint32_t refs;
    uint32_t ds, ps, shards; /* shards: ds + ps */
    uint32_t wrap;           /* seqids are below; a multiple of shards */
    uint8_t by_data[];       /* [i * ps + r]: the coefficient of data packet i in parity packet r */
};

/* Parity runs over a data packet from its size field on. */
#define KS_FEC_BODY 6u
/* The longest gap between a group's last two data packets, beyond which its parity would come too late to be of use. */
#define KS_FEC_GAP_MS 500u

static inline uint32_t ks_fec_get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint32_t ks_fec_get16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

/* Everything before the body. */
static inline void ks_fec_put_head(uint8_t *p, uint32_t seqid, uint32_t type)
{
    p[0] = (uint8_t)seqid;
    p[1] = (uint8_t)(seqid >> 8);
    p[2] = (uint8_t)(seqid >> 16);
    p[3] = (uint8_t)(seqid >> 24);
    p[4] = (uint8_t)type;
    p[5] = (uint8_t)(type >> 8);
}

/* rows: n rows of 2n bytes, a matrix and room; after it the room holds the inverse. false: there is none. */
bool ks_fec_invert(uint8_t *rows, uint32_t n);

#endif
