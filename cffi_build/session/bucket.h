/* SPDX-License-Identifier: MIT */
/* A token bucket: how many bytes may be sent now, at a limited rate. No clock: the time is an argument, and never goes back.
 *
 * What is sent spends tokens, also what must not wait for them (acknowledgments, say), so the bucket may be overdrawn; it
 * never owes more than `debt`, so that what waits goes on soon after. */
#ifndef KS_BUCKET_H
#define KS_BUCKET_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t rate;      /* bytes/s, 2^40 at most; 0: no limit */
    /* In thousandths of a byte: */
    int64_t size;       /* it holds at most: the longest burst */
    int64_t debt;       /* it owes at most */
    int64_t tokens;     /* 0 or less: nothing may be sent */
    uint64_t filled_ms; /* up to when the rate has been paid in */
} ks_bucket;

/* Full, at a new rate. packet_bytes: the largest packet that is spent for; packet_cost: what it costs with all that goes
 * with it, copies and parity say. */
void ks_bucket_init(ks_bucket *bucket, uint64_t rate, uint32_t packet_bytes, uint32_t packet_cost, uint64_t now_ms);
/* What a packet costs has changed. */
void ks_bucket_set_cost(ks_bucket *bucket, uint32_t packet_cost);
/* Pays in what has come due. -> bytes that may be sent, INT64_MAX without a limit. */
int64_t ks_bucket_fill(ks_bucket *bucket, uint64_t now_ms);
/* Sent. -> bytes that may still be sent. */
int64_t ks_bucket_spend(ks_bucket *bucket, size_t bytes);
/* When there are tokens for `bytes` (0: for anything at all), as things stand; 0: now. */
uint64_t ks_bucket_due_ms(const ks_bucket *bucket, uint32_t bytes);

#endif
