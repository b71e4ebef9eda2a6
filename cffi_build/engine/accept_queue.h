/* SPDX-License-Identifier: MIT */
/* A listener's front: a descriptor pair like a stream's, in which each ready connection is one ks_accept_msg with the
 * connection's A in it. A dozen stand in the pair, of which it is not known yet whether accept() has taken them; the others
 * wait here. Closing it resets what was not accepted. */
#ifndef KS_ACCEPT_QUEUE_H
#define KS_ACCEPT_QUEUE_H

#include "engine/port.h"

/* Gives the port its listener; engine_fd is the port's from now on, closed on failure. 0 or -errno. */
int ks_port_attach_front(ks_port *port, int engine_fd, uint64_t inode);
/* As ks_session_owner has them. */
bool ks_port_is_full(ks_session_owner *owner);
bool ks_port_offer(ks_session_owner *owner, ks_stream *stream);
void ks_port_withdraw(ks_session_owner *owner, ks_stream *stream);
/* A turn's end. What was offered before this turn goes to accept(): by then a connecting socket of the same engine has heard
 * the answer. In TCP too connect() is done before accept() is. */
void ks_ports_offer_ripe(ks_ports *ports);
/* Its front has changed. */
void ks_port_front_event(ks_port *port);
/* The application is about to close its end: what accept() has not taken is reset when that comes. */
void ks_port_closing(ks_port *port);
/* At exit: what accept() has not taken is reset. The front stays, or a thread that waits in accept() would wake. */
void ks_port_drain(ks_port *port);
/* Resets what waits for accept() and closes the front. */
void ks_port_unlisten(ks_port *port);
/* What getsockname() of the listener tells; the role is 2. */
void ks_port_listener_info(const ks_port *port, ks_info *info);
/* Fills the names of a session's ends. */
void ks_port_names(const ks_session *session, ks_accept_msg *names);

#endif
