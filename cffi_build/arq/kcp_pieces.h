/* SPDX-License-Identifier: MIT */
/* Segments that were cut for a longer packet than the path takes by now. Their numbers are given, and so is what stands in
 * them; so each goes in *pieces*, which a peer of our kind puts together (docs/protocol.md 1).
 *
 * A piece is a PUSH whose sn lies KS_KCP_ASIDE before that of its segment. To any other KCP that is a repeat from long ago: it
 * acknowledges it, and throws it away. Its payload: `total u16 | offset u16 | bytes`. A pad (pmtu.h) is such a PUSH, too, with
 * zeros in it: its total is 0.
 *
 * What has come of a segment lies in the segment itself, in its place of the receive window, so that pieces take no more
 * memory than the segments they belong to. */
#ifndef KS_KCP_PIECES_H
#define KS_KCP_PIECES_H

#include "arq/seg.h"

#define KS_KCP_ASIDE (1u << 30) /* so far behind lies no repeat: a window is 2^15 */
#define KS_PIECE_HEAD 4u
#define KS_PIECE_LEAST 240u     /* bytes of one that is not the last: else a window could be filled by less than it holds */

/* sn is that of a pad or piece, as seen from any number of the present windows. */
static inline bool ks_kcp_is_aside(uint32_t present, uint32_t sn)
{
    return present - sn > KS_KCP_ASIDE / 2 && present - sn < KS_KCP_ASIDE / 2 * 3;
}

typedef struct {
    uint32_t total, offset, bytes; /* of the segment's payload; where this begins; of this */
    const uint8_t *data;           /* the packet's */
} ks_piece;

/* -> false: a pad, or nonsense. */
bool ks_piece_parse_untrusted(const uint8_t *payload, uint32_t size, ks_piece *piece);
/* Payload of a segment that fits into a piece, in packets of mtu bytes; 0: packets are too short for pieces. */
uint32_t ks_piece_bytes(uint32_t mtu);
void ks_piece_put_head(uint8_t *at, uint32_t total, uint32_t offset);

/* The segment, in the receive window, is not all there yet. */
static inline bool ks_seg_is_part(const ks_seg *seg)
{
    return seg->txno != 0; /* what of it is missing; else unused where it is received */
}

/* For pieces of a segment of that length. NULL: no memory. */
ks_seg *ks_seg_new_part(ks_seg_pools *pools, uint32_t total);
/* The piece has the total that the part was made for. When it was the last one missing, the segment is whole. */
void ks_seg_add_piece(ks_seg *part, const ks_piece *piece);

#endif
