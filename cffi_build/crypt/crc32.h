/* SPDX-License-Identifier: MIT */
/* CRC-32 of IEEE 802.3 (reflected, polynomial 0x04C11DB7), as zlib computes it. */
#ifndef KS_CRC32_H
#define KS_CRC32_H

#include <stddef.h>
#include <stdint.h>

uint32_t ks_crc32(const uint8_t *data, size_t n);

#endif
