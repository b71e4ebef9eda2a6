/* SPDX-License-Identifier: MIT */
/* The front of a socket: the descriptor that an application has, and what must be known of it in every process that holds it.
 *
 * A front is a pair of connected AF_UNIX sockets. The application's end is called A, the engine's E: what the one writes, the
 * other reads.
 *
 * - A is named by its inode, which all duplicates share, also in a forked child.
 * - The obituary table keeps, by A's inode, the errno of what ended a connection (its obituary), until the application asks:
 *   through the pair it learns no more than that E was closed. It is shared with forked children; an entry is taken once.
 *   Notes from an application to its engine stand there too, under the inode's complement.
 * - The owned set lists the descriptors that engines hold in this process, so that a forked child, which must not keep
 *   them open and can't trust the engine's memory (it was copied in the middle of something), closes them all.
 * All functions may be called by any thread. */
#ifndef KS_FRONT_H
#define KS_FRONT_H

#include <stdbool.h>
#include <stdint.h>

/* Once per process, before anything else. 0 or -errno. */
int ks_front_init(void);

/* A connected AF_UNIX pair, close-on-exec; the engine's end is non-blocking and owned. messages: it keeps borders, and A
 * refuses messages of more than message_bytes with EMSGSIZE; else a stream, and message_bytes is 0. 0 or -errno. */
int ks_front_pair(int *app, int *engine, uint32_t message_bytes);
/* Makes app_fd itself, a stream socket of AF_UNIX that has no peer yet, the A of a new pair: its open file stays, so that
 * what has it in an epoll set, or is its duplicate, goes on. 0 or -errno: it has a peer, or the system can't. */
int ks_front_join(int app_fd, int *engine);
/* Fills A's send buffer with zeros (the filler), so that A is not writable before the connection is established, as with TCP. -> bytes, or
 * -errno. Undone by restoring `*sndbuf` on A and reading them from E. */
int ks_front_fill(int app, int *sndbuf);
/* Likewise for good: a listener is never writable. ks_front_unblock, on E, takes out what lies there, so that its close is none over
 * unread data, which A would be told. 0 or -errno. */
int ks_front_block(int app);
void ks_front_unblock(int engine);
/* Makes `app`'s open file that of the number app_fd (dup3), keeping that number's O_NONBLOCK. 0 or -errno; the number `app` is
 * closed either way. */
int ks_front_install(int app, int app_fd);

/* The inode, or 0 when fd is no socket. */
uint64_t ks_front_inode(int fd);
/* Writes an obituary: `error`, more than 0, ended the connection whose A has that inode. */
void ks_front_bury(uint64_t inode, int error);
/* Takes it out: the errno, once; 0 none. */
int ks_front_exhume(uint64_t inode);

/* Keeps for the engine, whose reads can't tell it, that the application ended its direction before it closed. */
void ks_front_note_end(uint64_t inode);
/* Whether it did, once. */
bool ks_front_had_end(uint64_t inode);

void ks_front_own(int fd);
/* close(), and no longer owned. */
void ks_front_close(int fd);
/* Owned no more, but left open: it is somebody else's now. */
void ks_front_disown(int fd);
/* In a forked child: closes all that the parent's engines own. */
void ks_front_forget(void);

#endif
