/* SPDX-License-Identifier: MIT */
/* From the settings that cross the border to KCP's, and from KCP's state to what Python is told. */
#ifndef KS_PROFILE_H
#define KS_PROFILE_H

#include "kcp.h"
#include "types.h"

/* False when a field is outside what api.cdef allows. */
bool ks_profile_is_valid(const ks_profile *profile);
/* stream as the profile says: framing is not asked. */
ks_kcp_config ks_profile_kcp_config(const ks_profile *profile, uint32_t conv);
/* Fills what KCP knows; the other fields stay. */
void ks_profile_kcp_info(const ks_kcp *kcp, ks_info *info);

#endif
