/* SPDX-License-Identifier: MIT */
#include "smux/codec.h"

#include <stdatomic.h>
#include <stddef.h>

#include "base/lock.h"

static _Atomic(ks_codec_run *) code;
static _Atomic uint64_t ids;

void ks_codec_use(ks_codec_run *run)
{
    atomic_store(&code, run);
}

int ks_codec_call(uint64_t id, int what, const uint8_t *in, int size, uint8_t *out, int cap)
{
    ks_codec_run *run = atomic_load(&code);
    if (run == NULL)
        return -1;
    ks_python_enter();
    int result = run(id, what, in, size, out, cap);
    ks_python_leave();
    return result;
}

uint64_t ks_codec_new(void)
{
    return atomic_fetch_add(&ids, 1) + 1;
}
