/* SPDX-License-Identifier: MIT */
/* What the ports of one listener share: with several engines each has a port on the listener's address, a UDP socket of its
 * own among which the kernel spreads the peers (SO_REUSEPORT), and a duplicate of the pair's E.
 *
 * - Which of a group's sockets a peer is given to changes when one of them is closed. So no port of a lobby closes its socket
 *   while another is busy, with the listener or with sessions. Who rests last wakes the other engines.
 * - The backlog is the listener's. The connections that wait for it stand in their ports' lists.
 * - Messages in the pair are numbered, so that each port can tell which of its own accept() has taken.
 *
 * Any thread may call these. `lock` is taken when a connection is handed over and when a port comes, rests or goes, never
 * for a packet. */
#ifndef KS_LOBBY_H
#define KS_LOBBY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

typedef struct ks_lobby ks_lobby;

#define KS_LOBBY_PORTS_MAX 16u

/* Held and referred to once, by the caller. NULL: no memory. */
ks_lobby *ks_lobby_new(int backlog);
void ks_lobby_unref(ks_lobby *lobby);

/* A busy port comes; wake_fd: a byte written there wakes its engine. KS_OK, or KS_ENOMEM when it is full. */
int ks_lobby_join(ks_lobby *lobby, int wake_fd);
/* A port that rests is gone, and its reference too. */
void ks_lobby_leave(ks_lobby *lobby, int wake_fd);

/* One more is busy: a port again, or a caller who needs the sockets to stay. Only while another is, which the caller knows. */
void ks_lobby_hold(ks_lobby *lobby);
/* The same with a reference, if somebody is busy. */
bool ks_lobby_enter(ks_lobby *lobby);
/* Undoes one of joining, holding and entering. -> true: it was the last, all ports may go, and their engines are woken. */
bool ks_lobby_rest(ks_lobby *lobby);
/* Nobody is busy any more, for ever. */
bool ks_lobby_is_over(ks_lobby *lobby);

/* Another listener takes over: an empty pair, its backlog. */
void ks_lobby_reopen(ks_lobby *lobby, int backlog);

/* A connection waits in a port's list, or no longer does. */
void ks_lobby_queue(ks_lobby *lobby, int change);
bool ks_lobby_is_full(ks_lobby *lobby);

/* Sends one connection's message into the pair, by a duplicate of its E, without waiting. -> as sendmsg(); its number, and
 * the first number that may still stand in the pair. */
ssize_t ks_lobby_send(ks_lobby *lobby, int fd, const struct msghdr *message, uint32_t *number, uint32_t *standing);
/* The listener's application is about to close it: reads what stands in the pair. */
void ks_lobby_closing(ks_lobby *lobby, int fd);
/* -> whether that was told after the last message; the first number that stood in the pair then. */
bool ks_lobby_was_closing(ks_lobby *lobby, uint32_t *standing);

#endif
