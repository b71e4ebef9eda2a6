/* SPDX-License-Identifier: MIT */
#include "base/mem.h"

#include <stdlib.h>

#include "check.h"

static void test_alloc_counts(void)
{
    uint64_t start = ks_mem_used();
    uint8_t *p = ks_alloc(100);
    CHECK(p != NULL && ks_mem_used() == start + 100);
    for (int i = 0; i < 100; i++)
        CHECK(p[i] == 0);
    memset(p, 7, 100);
    p = ks_realloc(p, 5000);
    CHECK(p != NULL && p[99] == 7 && ks_mem_used() == start + 5000);
    p = ks_realloc(p, 10);
    CHECK(p != NULL && p[9] == 7 && ks_mem_used() == start + 10);
    ks_free(p);
    ks_free(NULL);
    CHECK_EQ(ks_mem_used(), start);
    p = ks_realloc(NULL, 3);
    CHECK(p != NULL && ks_mem_used() == start + 3);
    ks_free(p);
    CHECK(ks_alloc(SIZE_MAX) == NULL);
    CHECK_EQ(ks_mem_used(), start);
}

static void test_alloc_alignment(void)
{
    for (size_t size = 0; size < 70; size++) {
        void *p = ks_alloc(size);
        CHECK((uintptr_t)p % _Alignof(max_align_t) == 0);
        ks_free(p);
    }
}

static void test_fail_after_fails_once(void)
{
    uint64_t start = ks_mem_used();
    ks_mem_fail_after(2);
    void *a = ks_alloc(1), *b = ks_alloc(1), *c = ks_alloc(1);
    CHECK(a != NULL && b == NULL && c != NULL);
    ks_mem_fail_after(1);
    CHECK(ks_realloc(a, 2) == NULL);
    CHECK_EQ(ks_mem_used(), start + 2);
    ks_mem_fail_after(1);
    ks_mem_fail_after(0);
    b = ks_alloc(1);
    CHECK(b != NULL);
    ks_free(a);
    ks_free(b);
    ks_free(c);

    ks_pool pool;
    ks_pool_init(&pool, 64);
    ks_mem_fail_after(1);
    CHECK(ks_pool_get(&pool) == NULL);
    void *block = ks_pool_get(&pool);
    CHECK(block != NULL);
    ks_pool_put(block);
    ks_pool_free(&pool);
    CHECK_EQ(ks_mem_used(), start);
}

/* Blocks neither overlap nor leave their chunk, whatever the order in which they come and go. */
static void test_pool_random_use(void)
{
    enum { BLOCKS = 3000 };
    static uint8_t *held[BLOCKS];
    static uint8_t mark[BLOCKS];
    uint64_t start = ks_mem_used();
    static const size_t sizes[] = {1, 16, 100, 256, 1560, 30000};
    srand(3);
    for (size_t z = 0; z < sizeof sizes / sizeof *sizes; z++) {
        ks_pool pool;
        ks_pool_init(&pool, sizes[z]);
        CHECK(pool.block_bytes >= sizes[z] && pool.block_bytes % 16 == 0);
        size_t used = 0;
        memset(held, 0, sizeof held);
        for (int step = 0; step < 40000; step++) {
            /* tides: mostly taking, then mostly giving back */
            int i = rand() % BLOCKS, take = rand() % 4 < (step / 5000 % 2 ? 1 : 3);
            if (take && held[i] == NULL) {
                held[i] = ks_pool_get(&pool);
                CHECK(held[i] != NULL && (uintptr_t)held[i] % 16 == 0);
                mark[i] = (uint8_t)rand();
                memset(held[i], mark[i], sizes[z]);
                used++;
            } else if (!take && held[i] != NULL) {
                CHECK(held[i][0] == mark[i] && held[i][sizes[z] - 1] == mark[i]);
                ks_pool_put(held[i]);
                held[i] = NULL;
                used--;
            }
            CHECK_EQ(pool.used, used);
            CHECK(pool.spare <= KS_POOL_SPARE);
        }
        for (int i = 0; i < BLOCKS; i++)
            if (held[i] != NULL)
                ks_pool_put(held[i]);
        CHECK(pool.used == 0 && ks_mem_used() - start <= KS_POOL_SPARE * KS_CHUNK_BYTES);
        ks_pool_free(&pool);
        CHECK_EQ(ks_mem_used(), start);
    }
}

static void test_pool_shrinks_after_burst(void)
{
    enum { BLOCKS = 10000 };
    static void *held[BLOCKS];
    uint64_t start = ks_mem_used();
    ks_pool pool;
    ks_pool_init(&pool, 1500);
    for (int i = 0; i < BLOCKS; i++)
        held[i] = ks_pool_get(&pool);
    CHECK(ks_mem_used() - start >= BLOCKS * 1500u);
    for (int i = 1; i < BLOCKS; i++)
        ks_pool_put(held[i]);
    CHECK(ks_mem_used() - start <= (KS_POOL_SPARE + 1) * KS_CHUNK_BYTES);
    ks_pool_trim(&pool);
    CHECK_EQ(ks_mem_used() - start, KS_CHUNK_BYTES);
    ks_pool_trim(&pool);
    ks_pool_put(held[0]);
    ks_pool_free(&pool);
    CHECK_EQ(ks_mem_used(), start);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_alloc_counts),
        TEST(test_alloc_alignment),
        TEST(test_fail_after_fails_once),
        TEST(test_pool_random_use),
        TEST(test_pool_shrinks_after_burst),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
