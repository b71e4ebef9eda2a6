/* SPDX-License-Identifier: MIT */
/* From KCP packets to datagrams: the batch that an engine fills during a turn. Crypt and FEC belong here.
 *
 * Large payloads are sent from where they lie (KS_KCP_BY_REFERENCE), so the batch must be sent before any input is
 * processed or a session freed: the engine sends it at the end of each session's turn that filled it, and before anything else. */
#ifndef KS_WIRE_H
#define KS_WIRE_H

#include <sys/uio.h>

#include "counters.h"
#include "udp.h"

typedef struct {
    ks_udp *udp;             /* the socket of all that is collected, NULL when nothing is */
    ks_datagram d[KS_UDP_BATCH];
    size_t n;
    size_t scratch_used;
    uint8_t scratch[KS_UDP_BATCH * KS_UDP_PACKET_MAX / 4];
    ks_counters *count;
    void (*refused)(ks_udp *udp); /* ICMP said that the peer of this socket is not there; must not send or free */
} ks_batch;

void ks_batch_init(ks_batch *batch, ks_counters *count, void (*refused)(ks_udp *udp));
/* Adds one packet. to and from must stay valid until the batch is sent. */
void ks_batch_put(ks_batch *batch, ks_udp *udp, const ks_addr *to, const ks_addr *from, const struct iovec *iov, int pieces,
                  size_t size);
void ks_batch_send(ks_batch *batch);

#endif
