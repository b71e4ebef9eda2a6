/* SPDX-License-Identifier: MIT */
/* What every fuzzer has: a program as input (a byte chooses a step, the bytes behind it are its operands), and a way to run
 * without libFuzzer: `fuzz_x [RUNS [SEED]]` makes its inputs itself, `fuzz_x FILE...` runs files. Built with
 * -DKS_LIBFUZZER for libFuzzer (make -C tests/c libfuzzer). */
#ifndef KS_FUZZ_MAIN_H
#define KS_FUZZ_MAIN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    const uint8_t *next, *end;
} input;

/* The next bytes as one number; behind the end stand zeros. */
static inline uint32_t take(input *in, unsigned bytes)
{
    uint32_t v = 0;
    for (; bytes > 0; bytes--)
        v = v << 8 | (in->next < in->end ? *in->next++ : 0u);
    return v;
}

#ifndef KS_LIBFUZZER
static uint64_t random_state;

static uint32_t random32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}

static int run_file(const char *name)
{
    static uint8_t bytes[1 << 20];
    FILE *f = fopen(name, "rb");
    if (f == NULL)
        return 0;
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    LLVMFuzzerTestOneInput(bytes, size);
    return 1;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    if (argc > 1 && run_file(argv[1])) {
        for (int i = 2; i < argc; i++)
            if (!run_file(argv[i]))
                return 2;
        printf("%d files: no invariant broken\n", argc - 1);
        return 0;
    }
    unsigned long runs = argc > 1 ? strtoul(argv[1], NULL, 10) : 3000, seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    printf("%s: %lu runs, seeds from %lu: ", slash != NULL ? slash + 1 : argv[0], runs, seed);
    fflush(stdout);
    for (unsigned long run = 0; run < runs; run++) {
        static uint8_t bytes[4096];
        random_state = (seed + run) * 0x9e3779b97f4a7c15u + 1;
        size_t size = random32() % sizeof bytes;
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)random32();
        fprintf(stderr, "\rseed %lu ", seed + run); /* the last words of a run that breaks: its seed makes it again */
        LLVMFuzzerTestOneInput(bytes, size);
    }
    fprintf(stderr, "\r");
    printf("no invariant broken\n");
    return 0;
}
#endif

#endif
