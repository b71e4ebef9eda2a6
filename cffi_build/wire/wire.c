/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include <string.h>

#include "err.h"
#include "kcp.h"

#ifndef SEALED_PKTS
#define SEALED_PKTS 32u
#endif

void ks_batch_init(ks_batch *b, ks_counters *count, void (*refused)(ks_link *link))
{
    b->link = NULL;
    b->n = b->scratch_used = 0;
    b->entropy.left = 0;
    b->count = count;
    b->refused = refused;
}

size_t ks_link_overhead(const ks_link *l, bool fec)
{
    return (l->crypt != NULL ? ks_crypt_head(l->crypt) + ks_crypt_tail(l->crypt) : 0) + (fec ? KS_FEC_HEAD : 0);
}

static int seal(ks_batch *b)
{
    ks_packet packets[KS_UDP_BATCH];
    for (size_t i = 0; i < b->n; i++)
        packets[i] = (ks_packet){(uint8_t *)(uintptr_t)b->d[i].data, b->d[i].size}; /* all in our scratch */
    return ks_crypt_seal(b->link->crypt, &b->entropy, packets, b->n);
}

void ks_batch_send(ks_batch *b)
{
    if (b->n > 0 && b->link->crypt != NULL && seal(b) != KS_OK) {
        b->count->udp_send_drops += b->n; /* never in the clear */
        b->n = 0;
    }
    if (b->n > 0 && ks_udp_send(&b->link->udp, b->d, b->n, b->count) < 0)
        b->refused(b->link);
    b->link = NULL;
    b->n = b->scratch_used = 0;
}

/* A sealed batch goes out in parts: while the next is sealed, another core, or the peer, opens the one before. */
static bool is_full(const ks_batch *b, const ks_link *link)
{
    return b->n >= (link->crypt != NULL ? SEALED_PKTS : KS_UDP_BATCH);
}

static ks_datagram *add(ks_batch *b, const ks_route *r, size_t size)
{
    b->link = r->link;
    ks_datagram *d = &b->d[b->n++];
    d->to = r->link->udp.connected ? NULL : r->to;
    d->from = r->from;
    d->size = size;
    return d;
}

/* Room in scratch for one packet with `size` bytes inside crypt's head and tail. -> where those bytes go. */
static uint8_t *add_copy(ks_batch *b, const ks_route *r, size_t size)
{
    const ks_crypt *c = r->link->crypt;
    size_t head = c != NULL ? ks_crypt_head(c) : 0, tail = c != NULL ? ks_crypt_tail(c) : 0;
    if (is_full(b, r->link) || b->scratch_used + head + size + tail > sizeof b->scratch)
        ks_batch_send(b);
    uint8_t *at = b->scratch + b->scratch_used;
    b->scratch_used += head + size + tail;
    add(b, r, head + size + tail)->data = at;
    return at + head;
}

static size_t add_copies(ks_batch *b, const ks_route *r, const uint8_t *data, size_t size, uint32_t copies)
{
    for (uint32_t i = 0; i < copies; i++)
        memcpy(add_copy(b, r, size), data, size);
    return copies * (size + ks_link_overhead(r->link, false));
}

size_t ks_batch_put(ks_batch *b, const ks_route *r, const struct iovec *iov, int pieces, size_t size, uint64_t now_ms)
{
    if ((b->link != NULL && b->link != r->link) || is_full(b, r->link))
        ks_batch_send(b);
    if (r->link->crypt == NULL && r->fec == NULL && pieces == 1 && size >= KS_KCP_BY_REFERENCE) {
        for (uint32_t i = 0; i <= r->dup; i++) {
            if (is_full(b, r->link))
                ks_batch_send(b);
            add(b, r, size)->data = iov[0].iov_base;
        }
        return (r->dup + 1) * size;
    }
    size_t head = r->fec != NULL ? KS_FEC_HEAD : 0;
    uint8_t *packet = add_copy(b, r, head + size), *at = packet + head;
    for (int i = 0; i < pieces; i++) {
        memcpy(at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    size += head;
    uint32_t parities = r->fec != NULL ? ks_fec_encode(r->fec, packet, size, now_ms) : 0;
    size_t total = size + ks_link_overhead(r->link, false);
    /* A full batch is sealed when it is sent: `packet` must be copied before that, or not at all. */
    if (r->dup > 0) {
        uint8_t plain[KS_UDP_PACKET_MAX];
        memcpy(plain, packet, size);
        total += add_copies(b, r, plain, size, r->dup);
    }
    for (uint32_t i = 0; i < parities; i++) {
        const uint8_t *parity = ks_fec_parity(r->fec, i, &size);
        total += add_copies(b, r, parity, size, 1 + r->dup);
    }
    return total;
}
