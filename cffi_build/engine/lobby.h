/* SPDX-License-Identifier: MIT */
/* A lobby: what the ports of one listener share, so called as connections wait there for accept(). With several engines each
 * has a port on the listener's address: a UDP socket of its own, among which the kernel spreads the peers (SO_REUSEPORT), and a
 * duplicate of the E of the listener's pair.
 *
 * - Which of a group's sockets the kernel gives a peer to changes when one of them is closed. So a port is busy while it has
 *   the listener or sessions, then it rests, and no port of a lobby closes its socket before all rest. The lobby is over then;
 *   who rests last wakes the other engines.
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

#include "engine/strays.h"

typedef struct ks_lobby ks_lobby;

#define KS_LOBBY_PORTS_MAX 16u

/* For the ports of so many engines. The caller counts as busy, and has a reference. NULL: no memory. */
ks_lobby *ks_lobby_new(int backlog, int engines);
void ks_lobby_unref(ks_lobby *lobby);

/* A busy port comes; wake_fd: a byte written there wakes its engine. KS_OK, or KS_ENOMEM when it is full. */
int ks_lobby_join(ks_lobby *lobby, int wake_fd);
/* A port that rests is gone, and its reference too. */
void ks_lobby_leave(ks_lobby *lobby, int wake_fd);

/* One more is busy: a port again, or a caller who needs the sockets to stay open. Only while another is: the caller knows. */
void ks_lobby_hold(ks_lobby *lobby);
/* The same with a reference, if somebody is busy. */
bool ks_lobby_enter(ks_lobby *lobby);
/* Undoes one of joining, holding and entering. -> true: it was the last, all ports may go, and their engines are woken. */
bool ks_lobby_rest(ks_lobby *lobby);
/* Nobody is busy, nor ever will be. */
bool ks_lobby_is_over(ks_lobby *lobby);

/* NULL: there is one engine alone. */
ks_strays *ks_lobby_strays(const ks_lobby *lobby);

/* Another listener takes over: an empty pair, its backlog. */
void ks_lobby_reopen(ks_lobby *lobby, int backlog);

/* A connection waits in a port's list, or no longer does. */
void ks_lobby_queue(ks_lobby *lobby, int change);
bool ks_lobby_is_full(ks_lobby *lobby);
/* How many wait for accept(), those in the pair too; and the backlog. `fd`: a duplicate of its E. */
void ks_lobby_count(ks_lobby *lobby, int fd, uint32_t *waiting, uint32_t *backlog);

/* Sends one connection's message into the pair, by a duplicate of its E, without waiting. -> as sendmsg(); its number, and
 * the first number that may still stand in the pair. */
ssize_t ks_lobby_send(ks_lobby *lobby, int fd, const struct msghdr *message, uint32_t *number, uint32_t *standing);
/* The listener's application is about to close it: reads what stands in the pair. */
void ks_lobby_closing(ks_lobby *lobby, int fd, uint64_t now_ms);
/* That was a moment ago, so whether it still listens will show; another process may hold it too. */
bool ks_lobby_is_closing(ks_lobby *lobby, uint64_t now_ms);
/* -> whether that was told after the last message; the first number that stood in the pair then. */
bool ks_lobby_was_closing(ks_lobby *lobby, uint32_t *standing);

#endif
