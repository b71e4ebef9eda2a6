/* SPDX-License-Identifier: MIT */
/* Finds out a peer's code from what its packets say of themselves: a sequence number, and whether they are parity.
 *
 * The answer is the smallest period T so that, of the latest packets, 3 T + 16 in a row agree with it: the highest place
 * (seqid modulo T) of a data packet is next to the lowest place of a parity packet, and both kinds came in groups at least
 * two apart. So the code of 10 + 3 takes 55 packets, 5 groups; the longest, of 255, takes 781, somewhat over 3 groups, and
 * lossy ones are found because a place need be seen once only. Packets before the last one that disagrees don't count: a
 * peer that changes its code is found as soon as its new packets suffice. The wrap doesn't matter, since it is a multiple of
 * T. What it costs is bounded whatever arrives: on average KS_FEC_TUNE_COST looks at a sample for each packet. */
#ifndef KS_FEC_TUNE_H
#define KS_FEC_TUNE_H

#include <stdbool.h>
#include <stdint.h>

#define KS_FEC_TUNE_SAMPLES 1024u
#define KS_FEC_TUNE_COST 128u

typedef struct {
    uint32_t count;   /* samples taken; the latest KS_FEC_TUNE_SAMPLES are kept */
    uint32_t next_at; /* the count at which to look again */
    uint32_t seqid[KS_FEC_TUNE_SAMPLES];
    bool parity[KS_FEC_TUNE_SAMPLES];
} ks_fec_tune;

/* Zeroed memory is ready for use. -> true: the code is found. */
bool ks_fec_tune_add(ks_fec_tune *tune, uint32_t seqid, bool parity, uint32_t *ds, uint32_t *ps);

#endif
