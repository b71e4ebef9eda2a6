/* SPDX-License-Identifier: MIT */
/* LANES blocks of Salsa20 and ChaCha20: included by keystream.c once per vector width, with TARGET, LANES, LEAVE and NAME(x) defined.
 * Word w of all blocks is one vector, x##w; EACH(M) is M of the sixteen numbers. */

typedef uint32_t NAME(vec) __attribute__((vector_size(4 * LANES)));

#define SET(w) NAME(vec) x##w = (NAME(vec)){0} + base[w];
#define KEEP(w) const NAME(vec) y##w = x##w;
#define SUM(w) \
    x##w += y##w; \
    memcpy(out[w], &x##w, sizeof x##w);
#define TURN(v, n) (((v) << (n)) | ((v) >> (32 - (n))))

#define CHACHA(a, b, c, d) \
    a += b, d ^= a, d = TURN(d, 16), c += d, b ^= c, b = TURN(b, 12), a += b, d ^= a, d = TURN(d, 8), c += d, b ^= c, \
        b = TURN(b, 7)

#define SALSA_STEP(to, a, b, n) t = a + b, to ^= TURN(t, n)
#define SALSA(a, b, c, d) SALSA_STEP(b, a, d, 7), SALSA_STEP(c, b, a, 9), SALSA_STEP(d, c, b, 13), SALSA_STEP(a, d, c, 18)

TARGET static void NAME(chacha20)(const uint32_t base[16], const uint32_t words[4][LANES_MAX], uint32_t out[16][LANES_MAX])
{
    EACH(SET)
    memcpy(&x12, words[0], sizeof x12);
    memcpy(&x13, words[1], sizeof x13);
    memcpy(&x14, words[2], sizeof x14);
    memcpy(&x15, words[3], sizeof x15);
    EACH(KEEP)
    for (int i = 0; i < 10; i++) {
        CHACHA(x0, x4, x8, x12);
        CHACHA(x1, x5, x9, x13);
        CHACHA(x2, x6, x10, x14);
        CHACHA(x3, x7, x11, x15);
        CHACHA(x0, x5, x10, x15);
        CHACHA(x1, x6, x11, x12);
        CHACHA(x2, x7, x8, x13);
        CHACHA(x3, x4, x9, x14);
    }
    EACH(SUM)
    LEAVE
}

TARGET static void NAME(salsa20)(const uint32_t base[16], const uint32_t words[4][LANES_MAX], uint32_t out[16][LANES_MAX])
{
    EACH(SET)
    memcpy(&x6, words[0], sizeof x6);
    memcpy(&x7, words[1], sizeof x7);
    memcpy(&x8, words[2], sizeof x8);
    memcpy(&x9, words[3], sizeof x9);
    EACH(KEEP)
    for (int i = 0; i < 10; i++) {
        NAME(vec) t;
        SALSA(x0, x4, x8, x12);
        SALSA(x5, x9, x13, x1);
        SALSA(x10, x14, x2, x6);
        SALSA(x15, x3, x7, x11);
        SALSA(x0, x1, x2, x3);
        SALSA(x5, x6, x7, x4);
        SALSA(x10, x11, x8, x9);
        SALSA(x15, x12, x13, x14);
    }
    EACH(SUM)
    LEAVE
}

#undef SET
#undef KEEP
#undef SUM
#undef TURN
#undef CHACHA
#undef SALSA_STEP
#undef SALSA
#undef TARGET
#undef LEAVE
#undef LANES
#undef NAME
