/* SPDX-License-Identifier: MIT */
/* What the receive window takes. */
#include "arq/kcp_parts.h"

bool ks_kcp_takes(const ks_kcp *k, uint32_t offset)
{
    if (offset >= ks_min32(ks_max32(k->rcv_edge - k->rcv_read, KS_KCP_RCV_LEAST_PKTS), k->rcv_most))
        return false;
    return !k->cfg.follow || offset < ks_max32(k->rcv_first, KS_KCP_RCV_LEAST_PKTS) || ks_mem_allows(0);
}

bool ks_kcp_lacks(const ks_kcp *k, uint32_t sn)
{
    if (ks_after(k->rcv_nxt, sn) || !ks_kcp_takes(k, sn - k->rcv_read))
        return false;
    const ks_seg *seg = ks_after(k->rcv_max, sn) ? *ks_ring_at(&k->rcv, sn) : NULL;
    return seg == NULL || ks_seg_is_part(seg);
}
