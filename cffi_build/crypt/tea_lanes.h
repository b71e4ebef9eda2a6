/* SPDX-License-Identifier: MIT */
/* TEA and XTEA on 2 * LANES blocks: included by tea.c once per vector width, with TARGET, LANES, LEAVE and NAME(x) defined.
 * Two vectors of blocks run side by side: one chain of dependent instructions would leave half of the units idle. */

typedef uint32_t NAME(vec) __attribute__((vector_size(4 * LANES)));

TARGET static void NAME(tea)(const uint32_t key[4], uint32_t v0[2 * LANES], uint32_t v1[2 * LANES])
{
    NAME(vec) a, b, c, d;
    memcpy(&a, v0, sizeof a);
    memcpy(&c, v0 + LANES, sizeof c);
    memcpy(&b, v1, sizeof b);
    memcpy(&d, v1 + LANES, sizeof d);
    uint32_t sum = 0;
    for (int i = 0; i < TEA_CYCLES; i++) {
        sum += DELTA;
        a += ((b << 4) + key[0]) ^ (b + sum) ^ ((b >> 5) + key[1]);
        c += ((d << 4) + key[0]) ^ (d + sum) ^ ((d >> 5) + key[1]);
        b += ((a << 4) + key[2]) ^ (a + sum) ^ ((a >> 5) + key[3]);
        d += ((c << 4) + key[2]) ^ (c + sum) ^ ((c >> 5) + key[3]);
    }
    memcpy(v0, &a, sizeof a);
    memcpy(v0 + LANES, &c, sizeof c);
    memcpy(v1, &b, sizeof b);
    memcpy(v1 + LANES, &d, sizeof d);
    LEAVE
}

TARGET static void NAME(xtea)(const uint32_t round[2 * XTEA_CYCLES], uint32_t v0[2 * LANES], uint32_t v1[2 * LANES])
{
    NAME(vec) a, b, c, d;
    memcpy(&a, v0, sizeof a);
    memcpy(&c, v0 + LANES, sizeof c);
    memcpy(&b, v1, sizeof b);
    memcpy(&d, v1 + LANES, sizeof d);
    for (int i = 0; i < 2 * XTEA_CYCLES; i += 2) {
        a += (((b << 4) ^ (b >> 5)) + b) ^ round[i];
        c += (((d << 4) ^ (d >> 5)) + d) ^ round[i];
        b += (((a << 4) ^ (a >> 5)) + a) ^ round[i + 1];
        d += (((c << 4) ^ (c >> 5)) + c) ^ round[i + 1];
    }
    memcpy(v0, &a, sizeof a);
    memcpy(v0 + LANES, &c, sizeof c);
    memcpy(v1, &b, sizeof b);
    memcpy(v1 + LANES, &d, sizeof d);
    LEAVE
}

#undef TARGET
#undef LEAVE
#undef LANES
#undef NAME
