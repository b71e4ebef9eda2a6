/* SPDX-License-Identifier: MIT */
/* The coefficients of a code. A parity packet's byte is the value at point ds + r of the polynomial of degree < ds that has
 * the data packets' bytes as its values at 0..ds-1 (numbers taken as field elements), so data packet i counts in it with
 * the Lagrange polynomial L_i(ds + r) = product over j != i of (ds + r - j) / (i - j). Minus is XOR here. */
#include "fec/fec_code.h"

#include <string.h>

#include "base/checks.h"
#include "fec/gf256.h"

static void lagrange(ks_fec_code *code)
{
    for (uint32_t i = 0; i < code->ds; i++) {
        uint8_t below = 1;
        for (uint32_t j = 0; j < code->ds; j++)
            if (j != i)
                below = ks_gf_mul(below, (uint8_t)(i ^ j));
        for (uint32_t r = 0; r < code->ps; r++)
            code->by_data[i * code->ps + r] = ks_gf_inv(ks_gf_mul(below, (uint8_t)((code->ds + r) ^ i)));
    }
    for (uint32_t r = 0; r < code->ps; r++) {
        uint8_t above = 1;
        for (uint32_t j = 0; j < code->ds; j++)
            above = ks_gf_mul(above, (uint8_t)((code->ds + r) ^ j));
        for (uint32_t i = 0; i < code->ds; i++)
            code->by_data[i * code->ps + r] = ks_gf_mul(code->by_data[i * code->ps + r], above);
    }
}

ks_fec_code *ks_fec_code_new(uint32_t ds, uint32_t ps, const uint8_t *coefficients)
{
    if (ds < 1 || ps < 1 || ds >= KS_FEC_SHARDS_MAX || ps > KS_FEC_SHARDS_MAX - ds)
        return NULL;
    ks_fec_code *code = ks_alloc(sizeof *code + (size_t)ds * ps);
    if (code == NULL)
        return NULL;
    code->refs = 1;
    code->ds = ds;
    code->ps = ps;
    code->shards = ds + ps;
    code->wrap = UINT32_MAX / code->shards * code->shards;
    KS_ASSERT(code->wrap % code->shards == 0 && UINT32_MAX - code->wrap < code->shards); /* groups are whole over the wrap */
    if (coefficients == NULL)
        lagrange(code);
    else
        for (uint32_t r = 0; r < ps; r++)
            for (uint32_t i = 0; i < ds; i++)
                code->by_data[i * ps + r] = coefficients[r * ds + i];
    return code;
}

ks_fec_code *ks_fec_code_ref(ks_fec_code *code)
{
    KS_ASSERT(code->refs > 0);
    code->refs++;
    return code;
}

void ks_fec_code_unref(ks_fec_code *code)
{
    KS_ASSERT(code == NULL || code->refs > 0);
    if (code != NULL && --code->refs == 0)
        ks_free(code);
}

void ks_fec_code_read(const ks_fec_code *code, uint8_t *coefficients)
{
    for (uint32_t r = 0; r < code->ps; r++)
        for (uint32_t i = 0; i < code->ds; i++)
            coefficients[r * code->ds + i] = code->by_data[i * code->ps + r];
}

uint32_t ks_fec_parity_count(const ks_fec_code *code)
{
    return code == NULL ? 0 : code->ps;
}

bool ks_fec_invert(uint8_t *rows, uint32_t n)
{
    const size_t width = 2 * (size_t)n;
    KS_ASSERT(n > 0 && n <= KS_FEC_SHARDS_MAX);
    uint8_t swap[2 * KS_FEC_SHARDS_MAX];
    for (uint32_t i = 0; i < n; i++) {
        memset(rows + i * width + n, 0, n);
        rows[i * width + n + i] = 1;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *pivot = rows + i * width;
        uint32_t k = i;
        while (k < n && rows[k * width + i] == 0)
            k++;
        if (k == n)
            return false;
        if (k != i) {
            memcpy(swap, pivot, width);
            memcpy(pivot, rows + k * width, width);
            memcpy(rows + k * width, swap, width);
        }
        KS_ASSERT(pivot[i] != 0);
        uint8_t scale = ks_gf_inv(pivot[i]) ^ 1;
        ks_gf_muladd(&pivot, &scale, 1, pivot, width); /* in place: the row times 1/pivot */
        for (k = 0; k < n; k++) {
            uint8_t *row = rows + k * width, factor = row[i];
            if (k != i && factor != 0)
                ks_gf_muladd(&row, &factor, 1, pivot, width);
        }
    }
    return true;
}
