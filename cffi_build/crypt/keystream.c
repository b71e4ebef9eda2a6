/* SPDX-License-Identifier: MIT */
#include "crypt/keystream.h"

#include "base/octets.h"
#include "crypt/simd.h"

#define LANES_MAX 16
#define EACH(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)

#define TARGET
#define LEAVE
#define LANES 4
#define NAME(x) x##_4
#include "crypt/keystream_lanes.h"

#if KS_X86
#define ZERO_UPPER __builtin_ia32_vzeroupper(); /* see crc32.c */
#define TARGET __attribute__((target("avx2")))
#define LEAVE ZERO_UPPER
#define LANES 8
#define NAME(x) x##_8
#include "crypt/keystream_lanes.h"

#define TARGET __attribute__((target("avx512f")))
#define LEAVE ZERO_UPPER
#define LANES 16
#define NAME(x) x##_16
#include "crypt/keystream_lanes.h"
#endif

#define SALSA20_FIRST 6
#define CHACHA20_FIRST 12

static const uint8_t sigma[16] = {'e', 'x', 'p', 'a', 'n', 'd', ' ', '3', '2', '-', 'b', 'y', 't', 'e', ' ', 'k'};

void ks_salsa20_init(ks_keystream *stream, const uint8_t key[32])
{
    memset(stream, 0, sizeof *stream);
    stream->first = SALSA20_FIRST;
    for (size_t i = 0; i < 4; i++) {
        stream->base[5 * i] = ks_get_le32(sigma + 4 * i);
        stream->base[1 + i] = ks_get_le32(key + 4 * i);
        stream->base[11 + i] = ks_get_le32(key + 16 + 4 * i);
    }
}

void ks_chacha20_init(ks_keystream *stream, const uint8_t key[32])
{
    memset(stream, 0, sizeof *stream);
    stream->first = CHACHA20_FIRST;
    for (size_t i = 0; i < 4; i++)
        stream->base[i] = ks_get_le32(sigma + 4 * i);
    for (size_t i = 0; i < 8; i++)
        stream->base[4 + i] = ks_get_le32(key + 4 * i);
}

ks_keystream_run ks_salsa20_run(uint8_t *data, size_t size, const uint8_t nonce[8], uint32_t counter)
{
    return (ks_keystream_run){data, size, {ks_get_le32(nonce), ks_get_le32(nonce + 4), counter, 0}};
}

ks_keystream_run ks_chacha20_run(uint8_t *data, size_t size, const uint8_t nonce[12], uint32_t counter)
{
    return (ks_keystream_run){data, size, {counter, ks_get_le32(nonce), ks_get_le32(nonce + 4), ks_get_le32(nonce + 8)}};
}

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (vec_4){i, j, k, l})
#endif

#if !KS_BIG_ENDIAN
static inline void xor_16(uint8_t *data, vec_4 stream)
{
    vec_4 v;
    memcpy(&v, data, 16);
    v ^= stream;
    memcpy(data, &v, 16);
}
#endif

/* Sixteen words of four lanes from `lane` on are four blocks of 64 bytes: XORed onto those at to[lane]. */
static inline void turn_and_xor(uint32_t words[16][LANES_MAX], size_t lane, uint8_t *const to[LANES_MAX])
{
#if KS_BIG_ENDIAN
    for (size_t b = lane; b < lane + 4; b++) {
        for (size_t w = 0; w < 16; w++)
            ks_put_le32(to[b] + 4 * w, ks_get_le32(to[b] + 4 * w) ^ words[w][b]);
    }
#else
    uint8_t *const *at = to + lane;
    for (size_t w = 0; w < 16; w += 4) {
        vec_4 a, b, c, d, e, f, g, h;
        memcpy(&a, &words[w][lane], 16);
        memcpy(&b, &words[w + 1][lane], 16);
        memcpy(&c, &words[w + 2][lane], 16);
        memcpy(&d, &words[w + 3][lane], 16);
        e = SHUFFLE(a, b, 0, 4, 1, 5);
        f = SHUFFLE(a, b, 2, 6, 3, 7);
        g = SHUFFLE(c, d, 0, 4, 1, 5);
        h = SHUFFLE(c, d, 2, 6, 3, 7);
        xor_16(at[0] + 4 * w, SHUFFLE(e, g, 0, 1, 4, 5));
        xor_16(at[1] + 4 * w, SHUFFLE(e, g, 2, 3, 6, 7));
        xor_16(at[2] + 4 * w, SHUFFLE(f, h, 0, 1, 4, 5));
        xor_16(at[3] + 4 * w, SHUFFLE(f, h, 2, 3, 6, 7));
    }
#endif
}

typedef void kernel(const uint32_t base[16], const uint32_t words[4][LANES_MAX], uint32_t out[16][LANES_MAX]);

/* The narrowest kernel that is enough for that many blocks, or the widest there is. */
static kernel *kernel_for(const ks_keystream *stream, size_t blocks, size_t *lanes)
{
    int salsa = stream->first == SALSA20_FIRST;
#if KS_X86
    ks_simd_level level = ks_simd();
    if (level == KS_SIMD_AVX512 && blocks > 4) { /* also half empty it is faster than the next: AVX2 has no rotations */
        *lanes = 16;
        return salsa ? salsa20_16 : chacha20_16;
    }
    if (level >= KS_SIMD_AVX2 && blocks > 4) {
        *lanes = 8;
        return salsa ? salsa20_8 : chacha20_8;
    }
#endif
    (void)blocks;
    *lanes = 4;
    return salsa ? salsa20_4 : chacha20_4;
}

void ks_keystream_xor(const ks_keystream *stream, const ks_keystream_run *runs, size_t n)
{
    uint32_t words[4][LANES_MAX] = {{0}}, out[16][LANES_MAX];
    uint8_t short_blocks[LANES_MAX][64], *to[LANES_MAX], *data[LANES_MAX];
    size_t sizes[LANES_MAX], left = 0, at = 0; /* left: blocks to do; at: bytes of *runs that are done */
    size_t counter = stream->first == SALSA20_FIRST ? 2 : 0;
    for (size_t i = 0; i < n; i++)
        left += (runs[i].size + 63) / 64;
    while (left > 0) {
        size_t lanes, used = 0;
        kernel *k = kernel_for(stream, left, &lanes);
        while (used < lanes && used < left) {
            if (at >= runs->size) {
                runs++;
                at = 0;
                continue;
            }
            for (size_t w = 0; w < 4; w++)
                words[w][used] = runs->words[w];
            words[counter][used] += (uint32_t)(at / 64);
            data[used] = runs->data + at;
            sizes[used] = runs->size - at < 64 ? runs->size - at : 64;
            at += 64;
            used++;
        }
        for (size_t i = 0; i < lanes; i++) {
            size_t size = i < used ? sizes[i] : 0;
            to[i] = size == 64 ? data[i] : short_blocks[i];
            if (size < 64 && size > 0)
                memcpy(short_blocks[i], data[i], size);
        }
        k(stream->base, (const uint32_t (*)[LANES_MAX])words, out);
        for (size_t lane = 0; lane < used; lane += 4)
            turn_and_xor(out, lane, to);
        for (size_t i = 0; i < used; i++)
            if (sizes[i] < 64)
                memcpy(data[i], short_blocks[i], sizes[i]);
        left -= used;
    }
    ks_wipe(short_blocks, sizeof short_blocks);
    ks_wipe(out, sizeof out);
}
