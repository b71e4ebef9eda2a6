/* SPDX-License-Identifier: MIT */
/* A code from inside, for the encoder and the decoder, and the few facts of the wire that both use. */
#ifndef KS_FEC_CODE_H
#define KS_FEC_CODE_H

#include "base/octets.h"
#include "fec/fec.h"

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

/* Everything before the body. */
static inline void ks_fec_put_head(uint8_t *p, uint32_t seqid, uint32_t type)
{
    ks_put_le32(p, seqid);
    ks_put_le16(p + 4, (uint16_t)type);
}

/* rows: n rows of 2n bytes, a matrix and room; after it the room holds the inverse. false: there is none. */
bool ks_fec_invert(uint8_t *rows, uint32_t n);

#endif
