/* SPDX-License-Identifier: MIT */
/* What this process has found out about the paths to its peers, one memory for all engines: where the next connection to
 * the same address begins (careful resume, draft-ietf-tsvwg-careful-resume). It is bounded, and forgets after ten minutes. */
#ifndef KS_KNOWN_H
#define KS_KNOWN_H

#include "os/udp.h"
#include "path/path.h"

/* A connection has measured this. Any thread. -> false: nothing that would serve another */
bool ks_known_note(const ks_addr *peer, const ks_path *path, uint64_t now_us);
/* A connection begins. */
void ks_known_recall(const ks_addr *peer, ks_path *path, uint64_t now_us);
/* The path takes packets of so many bytes of UDP payload. Any thread. */
void ks_known_note_mtu(const ks_addr *peer, uint32_t bytes, uint64_t now_us);
/* -> 0: not known */
uint32_t ks_known_mtu(const ks_addr *peer, uint64_t now_us);
/* In a forked child, where the lock may be that of a thread which is not there. What it guards is right at any moment. */
void ks_known_forget_holder(void);

#endif
