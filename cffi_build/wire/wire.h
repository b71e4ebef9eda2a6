/* SPDX-License-Identifier: MIT */
/* From KCP packets to datagrams: FEC and crypt around them, and the batch that an engine fills during a turn.
 *
 *   KCP packet -> FEC head, parity packets -> copies (dup) -> nonce, checksum, encryption -> socket
 *
 * A batch is sealed as a whole when it is sent. Where nothing is put around a packet, large payloads are sent from where
 * they lie (KS_BATCH_BY_REFERENCE), so the batch must be sent before any input is processed or a session freed: the engine
 * sends it at the end of each turn, and whoever frees earlier sends it before. */
#ifndef KS_WIRE_H
#define KS_WIRE_H

#include <sys/uio.h>

#include "base/counters.h"
#include "wire/credit.h"
#include "crypt/crypt.h"
#include "fec/fec.h"
#include "os/udp.h"

/* A link: the UDP socket of a port, and what is around all of its packets. */
typedef struct {
    ks_udp udp;
    ks_crypt *crypt;         /* NULL: nothing; the link's own */
    ks_nonces nonces;        /* of what is sealed for this link */
} ks_link;

/* Where a packet goes, and how. `to` and `from` must stay valid until the batch is sent. */
typedef struct {
    ks_link *link;
    const ks_addr *to, *from;
    ks_fec_encoder *fec;     /* NULL: no FEC head */
    uint32_t dup;            /* copies sent beside each packet */
    ks_credit *credit;       /* what may go to `to`; NULL: anything */
} ks_route;

typedef struct {
    ks_link *link;           /* of all that is collected, NULL when nothing is */
    ks_datagram d[KS_UDP_BATCH];
    size_t n;
    size_t scratch_used;
    uint8_t scratch[KS_UDP_BATCH * KS_UDP_PACKET_MAX];
    struct { ks_addr to, from; } addresses[KS_UDP_BATCH]; /* of ks_batch_put_answer */
    ks_entropy entropy;
    ks_counters *count;
    void (*failed)(ks_link *link); /* ICMP said that the peer of this socket is not there, or there is no way; must not send or free */
} ks_batch;

void ks_batch_init(ks_batch *batch, ks_counters *count, void (*failed)(ks_link *link));
/* A single piece of so many bytes is not copied where neither crypt nor FEC touches it: it must stay until the batch is sent. */
#define KS_BATCH_BY_REFERENCE 512u
/* Adds one packet, with what follows it by FEC and dup. size and the overhead together are KS_UDP_PACKET_MAX at most.
 * While `credit` is limited a packet goes alone, without copies and parity, and one that it does not cover is dropped.
 * -> bytes of UDP payload added. */
size_t ks_batch_put(ks_batch *batch, const ks_route *route, const struct iovec *iov, int pieces, size_t size,
                    uint64_t now_ms);
/* The same of a packet shorter than KS_BATCH_BY_REFERENCE, alone, to who has no session: nothing of the route but its link
 * needs to stay. */
void ks_batch_put_answer(ks_batch *batch, const ks_route *route, const uint8_t *packet, size_t size, uint64_t now_ms);
void ks_batch_send(ks_batch *batch);
/* Sends one packet alone, now, which nobody on the way may cut. -> false: the interface does not take one so long. */
bool ks_batch_send_whole(ks_batch *batch, const ks_route *route, const uint8_t *packet, size_t size, uint64_t now_ms);

/* Bytes around a KCP packet: crypt's, and with `fec` the FEC head. */
size_t ks_link_overhead(const ks_link *link, bool fec);
/* A tag tells its packets from forged ones. */
bool ks_link_is_authenticated(const ks_link *link);

#endif
