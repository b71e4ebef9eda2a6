/* SPDX-License-Identifier: MIT */
/* From the settings that cross the border to KCP's, and from KCP's state to what Python is told. */
#ifndef KS_PROFILE_H
#define KS_PROFILE_H

#include "fec/fec.h"
#include "arq/kcp.h"
#include "base/types.h"

/* ks_profile_allows_mtu_bytes(value) and so on: whether it is within the bounds of types.h. */
#define KS_PROFILE_ALLOWS(type, name, least, most)                                                                                 \
    static inline bool ks_profile_allows_##name(int64_t value)                                                                     \
    {                                                                                                                              \
        return value >= (int64_t)(least) && value <= (int64_t)(most);                                                              \
    }
KS_PROFILE_FIELDS(KS_PROFILE_ALLOWS)

/* False when a field is outside its bounds, or does not go with another. */
bool ks_profile_is_valid(const ks_profile *profile);
/* Packets of the receive window, at first. */
uint32_t ks_profile_rcv_wnd(const ks_profile *profile);
/* The path's MTU is found out. */
bool ks_profile_finds_mtu(const ks_profile *profile);
/* UDP payload of a packet, at first, and at most. */
uint32_t ks_profile_first_mtu(const ks_profile *profile);
uint32_t ks_profile_most_mtu(const ks_profile *profile);
/* overhead: bytes that crypt and FEC put around a packet. */
ks_kcp_config ks_profile_kcp_config(const ks_profile *profile, uint32_t conv, uint32_t overhead);
/* Writes keep their borders: raw framing in message mode. */
bool ks_profile_has_messages(const ks_profile *profile);
/* The longest message. */
uint32_t ks_profile_message_bytes(const ks_kcp_config *config);
/* Fills what KCP knows; the other fields stay. */
void ks_profile_kcp_info(const ks_kcp *kcp, ks_info *info);

#endif
