/* SPDX-License-Identifier: MIT */
/* The loop of ks_gf_muladd, once for every kernel that gf256.c includes it for; no include guard, therefore. It wants
 *   NAME(x)           a name of this kernel's own
 *   TARGET            the attribute that lets the compiler use the kernel's instructions
 *   VEC, WIDTH        the vector type, its bytes
 *   TABLE             what multiplies by one coefficient; table_of(c) makes it, times(TABLE, VEC) uses it
 *   load, store, load_part, store_part, plus    on VEC; the parts are the first k < WIDTH bytes, and touch no others
 * and undefines them all. */

/* `rows` is a constant where this is inlined, so a loop for each of 1..4 rows comes out, with the tables in registers: the
 * source is read once for four rows. */
static inline __attribute__((always_inline)) TARGET void NAME(some)(uint8_t *const *dst, const uint8_t *coef, const size_t rows,
                                                                    const uint8_t *src, size_t n)
{
    const TABLE t0 = NAME(table_of)(coef[0]), t1 = NAME(table_of)(coef[rows > 1 ? 1 : 0]);
    const TABLE t2 = NAME(table_of)(coef[rows > 2 ? 2 : 0]), t3 = NAME(table_of)(coef[rows > 3 ? 3 : 0]);
    uint8_t *d0 = dst[0], *d1 = dst[rows > 1 ? 1 : 0], *d2 = dst[rows > 2 ? 2 : 0], *d3 = dst[rows > 3 ? 3 : 0];
    size_t i = 0;
    for (; n - i >= WIDTH; i += WIDTH) {
        const VEC x = NAME(load)(src + i);
        NAME(store)(d0 + i, NAME(plus)(NAME(load)(d0 + i), NAME(times)(t0, x)));
        if (rows > 1)
            NAME(store)(d1 + i, NAME(plus)(NAME(load)(d1 + i), NAME(times)(t1, x)));
        if (rows > 2)
            NAME(store)(d2 + i, NAME(plus)(NAME(load)(d2 + i), NAME(times)(t2, x)));
        if (rows > 3)
            NAME(store)(d3 + i, NAME(plus)(NAME(load)(d3 + i), NAME(times)(t3, x)));
    }
    const size_t k = n - i;
    if (k == 0)
        return;
    const VEC x = NAME(load_part)(src + i, k);
    NAME(store_part)(d0 + i, k, NAME(plus)(NAME(load_part)(d0 + i, k), NAME(times)(t0, x)));
    if (rows > 1)
        NAME(store_part)(d1 + i, k, NAME(plus)(NAME(load_part)(d1 + i, k), NAME(times)(t1, x)));
    if (rows > 2)
        NAME(store_part)(d2 + i, k, NAME(plus)(NAME(load_part)(d2 + i, k), NAME(times)(t2, x)));
    if (rows > 3)
        NAME(store_part)(d3 + i, k, NAME(plus)(NAME(load_part)(d3 + i, k), NAME(times)(t3, x)));
}

static TARGET void NAME(muladd)(uint8_t *const *dst, const uint8_t *coef, size_t rows, const uint8_t *src, size_t n)
{
    for (; rows >= 4; rows -= 4, dst += 4, coef += 4)
        NAME(some)(dst, coef, 4, src, n);
    if (rows == 3)
        NAME(some)(dst, coef, 3, src, n);
    else if (rows == 2)
        NAME(some)(dst, coef, 2, src, n);
    else if (rows == 1)
        NAME(some)(dst, coef, 1, src, n);
}

#undef NAME
#undef TARGET
#undef VEC
#undef WIDTH
#undef TABLE
