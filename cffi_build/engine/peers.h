/* SPDX-License-Identifier: MIT */
/* Whose packet is it: a port's sessions by their peers' address and conversation, and by each of the two alone. */
#ifndef KS_PEERS_H
#define KS_PEERS_H

#include "engine/port.h"

/* By its peer. -> false: no memory, it is in no table. */
bool ks_peers_add(ks_port *port, ks_session *session);
void ks_peers_remove(ks_port *port, ks_session *session);
/* It is in the tables, and has another address from now on; `local` is ours. -> as ks_peers_add */
bool ks_peers_rename(ks_port *port, ks_session *session, const ks_addr *peer, const ks_addr *local);

/* It has a stream: the lobby's other ports may come to see packets of its peer's from now on (strays.h), if that may move. */
void ks_peers_list(ks_port *port, ks_session *session);

ks_session *ks_peers_find(const ks_port *port, const ks_addr *peer, uint32_t conv);
/* One that is alive, and whose peer has proved its address, whichever that is. */
ks_session *ks_peers_find_anywhere(const ks_port *port, uint32_t conv);

/* It has received FEC packets: parity packets name no conversation. */
void ks_peers_note_fec(ks_port *port, ks_session *session);
ks_session *ks_peers_find_fec(const ks_port *port, const ks_addr *peer);

#endif
