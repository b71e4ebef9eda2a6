/* SPDX-License-Identifier: MIT */
/* The key streams of Salsa20 (Bernstein; 64-bit nonce and counter) and ChaCha20 (RFC 8439; 96-bit nonce, 32-bit counter),
 * XORed over any number of runs: blocks of all runs share the vectors, so short packets cost no more per byte. */
#ifndef KS_KEYSTREAM_H
#define KS_KEYSTREAM_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t base[16]; /* constants and key; 0 where the four words of a run go */
    int first;         /* where those stand: 6 Salsa20, 12 ChaCha20 */
} ks_keystream;

typedef struct {
    uint8_t *data;
    size_t size;
    uint32_t words[4]; /* nonce and counter in the cipher's order */
} ks_keystream_run;

void ks_salsa20_init(ks_keystream *stream, const uint8_t key[32]);
void ks_chacha20_init(ks_keystream *stream, const uint8_t key[32]);
/* A run's key stream begins with block `counter`; at most 2^32 blocks. */
ks_keystream_run ks_salsa20_run(uint8_t *data, size_t size, const uint8_t nonce[8], uint32_t counter);
ks_keystream_run ks_chacha20_run(uint8_t *data, size_t size, const uint8_t nonce[12], uint32_t counter);
void ks_keystream_xor(const ks_keystream *stream, const ks_keystream_run *runs, size_t n);

#endif
