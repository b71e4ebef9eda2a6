/* SPDX-License-Identifier: MIT */
/* From the settings that cross the border to KCP's, and from KCP's state to what Python is told. */
#ifndef KS_PROFILE_H
#define KS_PROFILE_H

#include "kcp.h"
#include "types.h"

/* False when a field is outside what api.cdef allows. */
bool ks_profile_is_valid(const ks_profile *profile);
/* overhead: bytes that crypt and FEC put around a packet. */
ks_kcp_config ks_profile_kcp_config(const ks_profile *profile, uint32_t conv, uint32_t overhead);
/* Writes keep their borders: raw framing in message mode. */
bool ks_profile_has_messages(const ks_profile *profile);
/* The longest message. */
uint32_t ks_profile_message_bytes(const ks_kcp_config *config);
/* Fills what KCP knows; the other fields stay. */
void ks_profile_kcp_info(const ks_kcp *kcp, ks_info *info);

#endif
