/* SPDX-License-Identifier: MIT */
/* How an engine is woken from outside: by a byte in its pipe. */
#ifndef KS_BELL_H
#define KS_BELL_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

typedef struct {
    int wake_fd;
    atomic_bool strays; /* there are some for one of its ports, it seems (strays.h) */
} ks_bell;

/* Any thread may. */
static inline void ks_bell_ring(int wake_fd)
{
    ssize_t n;
    do
        n = write(wake_fd, "", 1);
    while (n < 0 && errno == EINTR); /* a full pipe rings as well */
}

#endif
