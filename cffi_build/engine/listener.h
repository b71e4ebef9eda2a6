/* SPDX-License-Identifier: MIT */
/* What is done with ports: they listen, connect, and are left to their sessions when another listener wants the name; and
 * their packets, each of which is opened, finds its session by (peer address, conv), or begins one. */
#ifndef KS_LISTENER_H
#define KS_LISTENER_H

#include "engine/port.h"

/* Takes over udp_fd and engine_fd (closed on failure). -> 0 or -errno. */
int ks_port_listen(ks_core *core, ks_ports *ports, ks_lobby *lobby, int udp_fd, const ks_settings *with, int engine_fd,
                   uint64_t inode);
/* A duplicate of the UDP socket bound to `name`, with IPV6_V6ONLY or without, that no listener holds any more, though
 * sessions do; -EADDRINUSE when a listener holds it or `reuse` (SO_REUSEADDR) is not given; -ENOENT: no port of ours. */
int ks_port_adopt(ks_ports *ports, const ks_addr *name, bool v6only, bool reuse);
/* Ports of that number (host order) that sessions alone still hold: `allow_beside`, in all engines, then `scatter` gives each
 * session a connected socket and a port of its own. The name of the listener that was is free then, and their own addresses
 * are for those who come with SO_REUSEADDR, as TCP's connections keep them. */
void ks_ports_allow_beside(ks_ports *ports, uint16_t number);
void ks_ports_scatter(ks_ports *ports, uint16_t number);
/* The lobby of the port whose socket is that one, entered (ks_lobby_enter). -ENOENT: there is none. -EADDRINUSE: a listener
 * holds it, or the sessions that still do can't live with these settings. */
int ks_port_find(ks_ports *ports, uint64_t socket_inode, const ks_settings *with, ks_lobby **lobby);
/* As ks_port_listen, on this engine's port of a lobby that was found. -ENOENT, and nothing taken over: there is none. */
int ks_port_relisten(ks_ports *ports, ks_lobby *lobby, const ks_settings *with, int engine_fd, uint64_t inode);
/* Likewise; app_fd, fill_bytes and app_sndbuf as in ks_session_open_stream. */
int ks_port_connect(ks_core *core, ks_ports *ports, int udp_fd, const ks_settings *with, int engine_fd, uint64_t inode,
                    int app_fd, int fill_bytes, int app_sndbuf);
/* Listeners that their applications have closed are closed, though no event has told it yet; then ks_ports_bury_idle. */
void ks_ports_look(ks_ports *ports);
/* Its socket is readable: takes some packets. */
void ks_port_receive(ks_port *port);
/* Again from those that had more than their turn's share. */
void ks_ports_receive_more(ks_ports *ports);
/* The engine was woken: packets that other engines' ports have passed on to its own. */
void ks_ports_take_strays(ks_ports *ports);
/* For ks_batch. */
void ks_port_failed(ks_link *link);
/* Any bytes from anywhere, overwritten: the one entry point of packets. */
void ks_port_input_untrusted(ks_port *port, const ks_addr *from, const ks_addr *local, uint8_t *packet, size_t size);

#endif
