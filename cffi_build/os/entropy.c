/* SPDX-License-Identifier: MIT */
#include "os/entropy.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__) && !defined(KS_PLAIN)
#include <sys/random.h>
#elif defined(__APPLE__)
#include <sys/random.h>
#endif

#include "base/checks.h"
#include "base/err.h"
#include "base/octets.h"

static int fill(uint8_t *out, size_t n)
{
#if defined(__linux__) && !defined(KS_PLAIN)
    size_t done = 0;
    while (done < n) {
        ssize_t got = getrandom(out + done, n - done, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    if (done == n)
        return KS_OK;
#endif
    for (size_t at = 0; at < n; at += 256) { /* the most that getentropy gives at once */
        if (getentropy(out + at, n - at < 256 ? n - at : 256) < 0)
            return KS_EAGAIN;
    }
    return KS_OK;
}

int ks_entropy_take(ks_entropy *entropy, uint8_t *out, size_t n)
{
    KS_ASSERT(entropy->left <= sizeof entropy->bytes);
    if (n > sizeof entropy->bytes)
        return KS_EAGAIN;
    if (entropy->left < n) {
        entropy->left = 0;
        if (fill(entropy->bytes, sizeof entropy->bytes) < 0)
            return KS_EAGAIN;
        entropy->left = sizeof entropy->bytes;
    }
    uint8_t *from = entropy->bytes + entropy->left - n;
    memcpy(out, from, n);
    memset(from, 0, n); /* kept by the compiler: the memory is the caller's */
    entropy->left -= n;
    return KS_OK;
}
