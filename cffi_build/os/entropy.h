/* SPDX-License-Identifier: MIT */
/* Random bytes of the system's CSPRNG, fetched many at a time. One thread uses it. */
#ifndef KS_ENTROPY_H
#define KS_ENTROPY_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t bytes[4096];
    size_t left;
} ks_entropy;

/* n at most sizeof bytes. What was handed out is wiped from the buffer. KS_OK, or KS_EAGAIN: the system gave none. */
int ks_entropy_take(ks_entropy *entropy, uint8_t *out, size_t n);

#endif
