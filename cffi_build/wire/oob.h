/* SPDX-License-Identifier: MIT */
/* The way of received out-of-band packets to Python: one descriptor per process, from which each is read as one datagram,
 * its receiver's id (u64, native order) before it. Any thread may call. */
#ifndef KS_OOB_H
#define KS_OOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The descriptor to read from, made by the first call; a forked child makes its own. Or -errno. */
int ks_oob_fd(void);
/* false: dropped, since nobody reads, or not fast enough. */
bool ks_oob_post(uint64_t id, const uint8_t *data, size_t size);
/* In a forked child, whose copies of the descriptors are closed. */
void ks_oob_forget(void);

#endif
