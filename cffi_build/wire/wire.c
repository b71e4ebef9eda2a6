/* SPDX-License-Identifier: MIT */
#include "wire/wire.h"

#include <string.h>

#include "base/checks.h"
#include "base/err.h"
#include "base/octets.h"

#ifndef SEALED_PKTS
#define SEALED_PKTS 32u
#endif

KS_CHECKER void check_batch(const ks_batch *b)
{
    KS_ASSERT(b->n <= KS_UDP_BATCH && (b->n == 0) == (b->link == NULL)); /* all of a batch is of one link */
    KS_ASSERT(b->scratch_used <= sizeof b->scratch && b->entropy.left <= sizeof b->entropy.bytes);
}

void ks_batch_init(ks_batch *b, ks_counters *count, void (*failed)(ks_link *link))
{
    b->link = NULL;
    b->n = b->scratch_used = 0;
    b->entropy.left = 0;
    b->count = count;
    b->failed = failed;
}

size_t ks_link_overhead(const ks_link *l, bool fec)
{
    return (l->crypt != NULL ? ks_crypt_head(l->crypt) + ks_crypt_tail(l->crypt) : 0) + (fec ? KS_FEC_HEAD : 0);
}

bool ks_link_is_authenticated(const ks_link *link)
{
    return link->crypt != NULL && ks_crypt_tail(link->crypt) > 0;
}

static int seal(ks_batch *b)
{
    ks_packet packets[KS_UDP_BATCH];
    for (size_t i = 0; i < b->n; i++) {
        /* Never in a segment: it would be sent again, sealed twice. */
        KS_ASSERT(b->d[i].data >= b->scratch && b->d[i].data + b->d[i].size <= b->scratch + b->scratch_used);
        packets[i] = (ks_packet){(uint8_t *)(uintptr_t)b->d[i].data, b->d[i].size}; /* all in our scratch */
    }
    return ks_crypt_seal(b->link->crypt, &b->link->nonces, &b->entropy, packets, b->n);
}

void ks_batch_send(ks_batch *b)
{
    KS_CHECK(check_batch(b));
    if (b->n > 0 && b->link->crypt != NULL && seal(b) != KS_OK) {
        b->count->udp_send_drops += b->n; /* never in the clear */
        b->n = 0;
    }
    if (b->n > 0 && (ks_udp_send(&b->link->udp, b->d, b->n, b->count) < 0 || b->link->udp.no_way))
        b->failed(b->link);
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
    KS_ASSERT(b->n < KS_UDP_BATCH && (b->link == NULL || b->link == r->link));
    KS_ASSERT(size > 0 && size <= KS_UDP_PACKET_MAX);
    KS_ASSERT(r->link->udp.connected || r->to != NULL);
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
    KS_ASSERT(b->scratch_used + head + size + tail <= sizeof b->scratch);
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

/* The pieces make up the packet, and with what goes around them it is no longer than a packet may be. */
KS_CHECKER void check_put(const ks_route *r, const struct iovec *iov, int pieces, size_t size)
{
    size_t sum = 0;
    for (int i = 0; i < pieces; i++)
        sum += iov[i].iov_len;
    KS_ASSERT(pieces > 0 && sum == size && size + ks_link_overhead(r->link, r->fec != NULL) <= KS_UDP_PACKET_MAX);
}

/* alone: credit is limited, so the packet goes without copies and parity. */
size_t ks_batch_put(ks_batch *b, const ks_route *r, const struct iovec *iov, int pieces, size_t size, uint64_t now_ms)
{
    KS_CHECK(check_batch(b));
    KS_CHECK(check_put(r, iov, pieces, size));
    const bool alone = r->credit != NULL && !r->credit->validated;
    const uint32_t dup = alone ? 0 : r->dup;
    if (alone && !ks_credit_spend(r->credit, size + ks_link_overhead(r->link, r->fec != NULL)))
        return 0;
    if ((b->link != NULL && b->link != r->link) || is_full(b, r->link))
        ks_batch_send(b);
    if (r->link->crypt == NULL && r->fec == NULL && pieces == 1 && size >= KS_BATCH_BY_REFERENCE) {
        for (uint32_t i = 0; i <= dup; i++) {
            if (is_full(b, r->link))
                ks_batch_send(b);
            add(b, r, size)->data = iov[0].iov_base;
        }
        return (dup + 1) * size;
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
    if (alone)
        return total;
    /* A full batch is sealed when it is sent: `packet` must be copied before that, or not at all. */
    if (dup > 0) {
        uint8_t plain[KS_UDP_PACKET_MAX];
        memcpy(plain, packet, size);
        total += add_copies(b, r, plain, size, dup);
    }
    for (uint32_t i = 0; i < parities; i++) {
        const uint8_t *parity = ks_fec_parity(r->fec, i, &size);
        KS_ASSERT(size + ks_link_overhead(r->link, false) <= KS_UDP_PACKET_MAX); /* as long as the longest of its group */
        total += add_copies(b, r, parity, size, 1 + dup);
    }
    return total;
}

void ks_batch_put_answer(ks_batch *b, const ks_route *r, const uint8_t *packet, size_t size, uint64_t now_ms)
{
    struct iovec iov = {(void *)(uintptr_t)packet, size};
    KS_ASSERT(size < KS_BATCH_BY_REFERENCE && r->fec == NULL && r->dup == 0 && r->to != NULL);
    if (ks_batch_put(b, r, &iov, 1, size, now_ms) == 0)
        return;
    ks_datagram *d = &b->d[b->n - 1];
    if (d->to != NULL) {
        b->addresses[b->n - 1].to = *d->to;
        d->to = &b->addresses[b->n - 1].to;
    }
    if (d->from != NULL) {
        b->addresses[b->n - 1].from = *d->from;
        d->from = &b->addresses[b->n - 1].from;
    }
}

bool ks_batch_send_whole(ks_batch *b, const ks_route *r, const uint8_t *packet, size_t size, uint64_t now_ms)
{
    struct iovec iov = {(void *)(uintptr_t)packet, size};
    ks_udp *udp = &r->link->udp;
    ks_batch_send(b);
    udp->too_long = false;
    ks_udp_ignore_path_mtu(udp, true);
    (void)ks_batch_put(b, r, &iov, 1, size, now_ms);
    ks_batch_send(b);
    ks_udp_ignore_path_mtu(udp, false);
    return !udp->too_long;
}
