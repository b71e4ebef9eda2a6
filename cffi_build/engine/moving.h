/* SPDX-License-Identifier: MIT */
/* Peers that move: a NAT gives a client another port in mid-connection, or it goes on from another network. Its conversation is
 * known by its number then, and with a crypt that authenticates nobody else can have sealed a packet of it. Yet where a packet comes
 * from anybody can write, and who hears it can send it again from elsewhere: so the session moves when a challenge that
 * went to the new address has been answered from there (RFC 9000 9.3); until then all goes on at the old one.
 *
 * Without such a crypt a session stays where it is. */
#ifndef KS_MOVING_H
#define KS_MOVING_H

#include "engine/port.h"

/* Whether the crypt is one of those; of a port that accepts. */
bool ks_port_lets_move(const ks_port *port);
/* A KCP packet for a session from another address than its own, which crypt has let pass: may have that address asked for proof, or
 * be the proof, and then the session has moved. -> whether the packet is to be taken for the session's */
bool ks_moving_input_untrusted(ks_port *port, ks_session *session, const ks_addr *from, const ks_addr *local,
                               const uint8_t *packet, size_t size);
/* The session of a port that connected can't send (ks_udp.no_way), or hears nothing: it goes on from another address if the way or
 * its own is gone, and there is one. */
void ks_moving_seek(ks_port *port, ks_session *session);
/* The session ends. */
void ks_moving_end(ks_session *session);

#endif
