/* SPDX-License-Identifier: MIT */
/* The smallest test frame: CHECK counts a failure of the running test and goes on, MUST is an invariant without which nothing
 * after it means anything: it aborts. check_main runs a table of tests; with CHECK_NAMES in the environment it names each first.
 * A program's last line is "N passed, M failed"; its exit status is 0 when M is 0. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    void (*run)(void);
} check_test;

#define TEST(function) {#function, function}

static int check_failures; /* of the running test */

#define CHECK(condition) check_that((condition) ? 1 : 0, __FILE__, __LINE__, #condition)
#define CHECK_EQ(a, b) check_equal((long long)(a), (long long)(b), __FILE__, __LINE__, #a, #b)

#define MUST(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

static inline int check_that(int ok, const char *file, int line, const char *what)
{
    if (!ok && ++check_failures <= 10)
        printf("%s:%d: not true: %s\n", file, line, what);
    return ok;
}

static inline int check_equal(long long a, long long b, const char *file, int line, const char *what_a, const char *what_b)
{
    if (a != b && ++check_failures <= 10)
        printf("%s:%d: %s is %lld, %s is %lld\n", file, line, what_a, a, what_b, b);
    return a == b;
}

/* An argument names the tests to run: those whose name contains it. */
static inline int check_main(int argc, char **argv, const check_test *tests, size_t count)
{
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0); /* what was said before a crash is not lost */
    for (size_t i = 0; i < count; i++) {
        if (argc > 1 && strstr(tests[i].name, argv[1]) == NULL)
            continue;
        check_failures = 0;
        if (getenv("CHECK_NAMES") != NULL) {
            printf("RUN %s\n", tests[i].name);
            fflush(stdout);
        }
        tests[i].run();
        if (check_failures == 0)
            passed++;
        else {
            failed++;
            printf("FAILED %s\n", tests[i].name);
        }
        fflush(stdout);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

#endif
