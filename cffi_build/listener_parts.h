/* SPDX-License-Identifier: MIT */
/* What the two files of a port know of each other; nobody else includes this.
 *
 *   accept_queue.c  the listener's front
 *   listener.c      the port: its socket, sessions, packets, its end */
#ifndef KS_LISTENER_PARTS_H
#define KS_LISTENER_PARTS_H

#include "listener.h"

static inline ks_port *ks_port_of(ks_session_owner *owner)
{
    return KS_OWNER(owner, ks_port, owner);
}

/* It has a stream, or ends: no embryo any more. */
static inline void ks_port_hatch(ks_port *port, ks_session *session)
{
    port->embryos -= session->embryo;
    session->embryo = false;
}

/* As ks_session_owner has them. */
bool ks_port_offer(ks_session_owner *owner, ks_stream *stream);
void ks_port_withdraw(ks_session_owner *owner, ks_stream *stream);

/* Gives the port its listener; engine_fd is the port's from now on, closed on failure. 0 or -errno. */
int ks_port_attach_front(ks_port *port, int engine_fd, uint64_t inode);

/* Without a listener and sessions it goes, but with its lobby's other ports. */
void ks_port_rest(ks_port *port);

#endif
