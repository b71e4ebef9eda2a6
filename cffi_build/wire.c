/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include <string.h>

#include "kcp.h"

void ks_batch_init(ks_batch *b, ks_counters *count, void (*refused)(ks_udp *udp))
{
    b->udp = NULL;
    b->n = b->scratch_used = 0;
    b->count = count;
    b->refused = refused;
}

void ks_batch_send(ks_batch *b)
{
    if (b->n > 0 && ks_udp_send(b->udp, b->d, b->n, b->count) < 0)
        b->refused(b->udp);
    b->udp = NULL;
    b->n = b->scratch_used = 0;
}

void ks_batch_put(ks_batch *b, ks_udp *udp, const ks_addr *to, const ks_addr *from, const struct iovec *iov, int pieces,
                  size_t size)
{
    bool by_reference = pieces == 1 && size >= KS_KCP_BY_REFERENCE;
    if ((b->udp != NULL && b->udp != udp) || b->n == KS_UDP_BATCH || (!by_reference && b->scratch_used + size > sizeof b->scratch))
        ks_batch_send(b);
    b->udp = udp;
    ks_datagram *d = &b->d[b->n++];
    d->to = udp->connected ? NULL : to;
    d->from = from;
    d->size = size;
    if (by_reference) {
        d->data = iov[0].iov_base;
        return;
    }
    uint8_t *at = b->scratch + b->scratch_used;
    d->data = at;
    for (int i = 0; i < pieces; i++) {
        memcpy(at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    b->scratch_used += size;
}
