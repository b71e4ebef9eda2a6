/* SPDX-License-Identifier: MIT */
#include "arq/kcp_pieces.h"

#include <string.h>

#include "base/octets.h"

/* Pieces begin and end at multiples of it, so that 32 bits tell what is missing. */
#define BLOCK_BYTES 48u
_Static_assert((KS_SEG_BYTES_MAX + BLOCK_BYTES - 1) / BLOCK_BYTES < 32, "a bit for each block");
_Static_assert(KS_PIECE_LEAST % BLOCK_BYTES == 0, "pieces are whole blocks");

static uint32_t blocks_of(uint32_t bytes)
{
    return (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

bool ks_piece_parse_untrusted(const uint8_t *payload, uint32_t size, ks_piece *piece)
{
    if (size <= KS_PIECE_HEAD)
        return false;
    *piece = (ks_piece){ks_get_le16(payload), ks_get_le16(payload + 2), size - KS_PIECE_HEAD, payload + KS_PIECE_HEAD};
    if (piece->total > KS_SEG_BYTES_MAX || piece->offset >= piece->total || piece->bytes > piece->total - piece->offset ||
        piece->offset % BLOCK_BYTES != 0)
        return false;
    bool is_last = piece->bytes == piece->total - piece->offset;
    return is_last || (piece->bytes % BLOCK_BYTES == 0 && piece->bytes >= KS_PIECE_LEAST);
}

uint32_t ks_piece_bytes(uint32_t mtu)
{
    const uint32_t heads = KS_KCP_HEAD + KS_PIECE_HEAD;
    uint32_t bytes = mtu > heads ? (mtu - heads) / BLOCK_BYTES * BLOCK_BYTES : 0;
    return bytes >= KS_PIECE_LEAST ? bytes : 0;
}

void ks_piece_put_head(uint8_t *at, uint32_t total, uint32_t offset)
{
    ks_put_le16(at, (uint16_t)total);
    ks_put_le16(at + 2, (uint16_t)offset);
}

ks_seg *ks_seg_new_part(ks_seg_pools *pools, uint32_t total)
{
    KS_ASSERT(total > 0);
    ks_seg *seg = ks_seg_new(pools, total);
    if (seg != NULL) {
        seg->len = (uint16_t)total;
        seg->txno = (1u << blocks_of(total)) - 1;
    }
    return seg;
}

void ks_seg_add_piece(ks_seg *part, const ks_piece *piece)
{
    KS_ASSERT(part->len == piece->total && piece->offset + piece->bytes <= part->len);
    memcpy(ks_seg_data(part) + piece->offset, piece->data, piece->bytes);
    uint32_t first = piece->offset / BLOCK_BYTES, end = blocks_of(piece->offset + piece->bytes);
    part->txno &= ~(((1u << (end - first)) - 1) << first);
}
