/* SPDX-License-Identifier: MIT */
/* A port: one UDP socket and the sessions on it, found by (peer address, conv). It serves either one connecting session on
 * a connected socket, or any number of accepted ones and, while the application has not closed it, a listener, perhaps
 * together with ports of other engines (lobby.h).
 *
 * The listener's front is a descriptor pair like a stream's; each ready connection is one ks_accept_msg with the
 * connection's A in it. Closing it resets what was not accepted; accepted sessions keep the port open until they end. */
#ifndef KS_LISTENER_H
#define KS_LISTENER_H

#include "lobby.h"
#include "session.h"

struct ks_port;

/* The lists that an engine keeps of its ports. */
typedef struct {
    struct ks_port *all;
    struct ks_port *more_head, *more_tail; /* to be received from again at once */
    struct ks_port *idle;                  /* those that stay only for the other ports of their lobbies */
    int wake_fd;                           /* a byte written there wakes the engine */
} ks_ports;

typedef struct ks_port {
    ks_session_owner owner;      /* first: the batch's socket leads back to the port */
    ks_core *core;
    ks_ports *ports;
    ks_grave grave;
    ks_source src;               /* the UDP socket */
    struct ks_port *prev, *next; /* among the engine's ports */
    struct ks_port *more_prev, *more_next; /* among those whose socket was not emptied, while on_more */
    bool on_more;
    bool closing;
    ks_lobby *lobby;             /* a listener's port, also after its listener: what it shares; else NULL */
    struct ks_port *idle_next;   /* in ports->idle, while idle */
    bool idle, rested;           /* rested: the lobby knows that it is not busy */
    ks_hash by_peer;
    ks_hash by_address;          /* the sessions that have received FEC packets */
    ks_session *parity_due;      /* whose next packet is parity that it won't need, it seems; NULL: none, or it need not be opened */
    uint32_t sessions;
    uint32_t embryos;            /* accepted by a packet, no stream yet */
    uint16_t local_port;         /* host order */
    ks_addr local;               /* what the socket is bound to */

    ks_source front;             /* the listener's E; front.fd is -1 without one */
    ks_hnode by_inode;           /* in core->by_inode while front is open */
    uint32_t waiting;
    ks_stream *wait_head, *wait_tail;
    /* Handed over and, for all we know, still in the pair: linked by wait_next too, a dozen at most. */
    ks_stream *handed_head, *handed_tail;
} ks_port;

/* What a port is to do; the crypt (NULL: none) is taken over, deleted on failure. */
typedef struct {
    const ks_profile *profile;
    ks_crypt *crypt;
} ks_settings;

/* Takes over udp_fd and engine_fd (closed on failure). -> 0 or -errno. */
int ks_port_listen(ks_core *core, ks_ports *ports, ks_lobby *lobby, int udp_fd, const ks_settings *with, int engine_fd,
                   uint64_t inode);
/* A duplicate of the UDP socket bound to `name` that no listener holds any more, though sessions do; -EADDRINUSE when a
 * listener holds it or `reuse` (SO_REUSEADDR) is not given; -ENOENT: no port of ours. */
int ks_port_adopt(ks_ports *ports, const ks_addr *name, bool reuse);
/* The lobby of the port whose socket is that one, entered (ks_lobby_enter). -ENOENT: there is none. -EADDRINUSE: a listener
 * holds it, or the sessions that still do can't live with these settings. */
int ks_port_find(ks_ports *ports, uint64_t socket_inode, const ks_settings *with, ks_lobby **lobby);
/* As ks_port_listen, on this engine's port of a lobby that was found. -ENOENT, and nothing taken over: there is none. */
int ks_port_relisten(ks_ports *ports, ks_lobby *lobby, const ks_settings *with, int engine_fd, uint64_t inode);
/* Likewise; app_fd, fill_bytes and app_sndbuf as in ks_session_open_stream. */
int ks_port_connect(ks_core *core, ks_ports *ports, int udp_fd, const ks_settings *with, int engine_fd, uint64_t inode,
                    int app_fd, int fill_bytes, int app_sndbuf);
/* The engine was woken: ports whose lobbies are over go. */
void ks_ports_bury_idle(ks_ports *ports);
/* The same, and listeners that their applications have closed are closed, though no event has told it yet. */
void ks_ports_look(ks_ports *ports);
/* Its socket is readable: takes some packets. */
void ks_port_receive(ks_port *port);
/* Again from those that had more than their turn's share. */
void ks_ports_receive_more(ks_ports *ports);
/* Its front has changed. */
void ks_port_front_event(ks_port *port);
/* The application is about to close its end: what accept() has not taken is reset when that comes. */
void ks_port_closing(ks_port *port);
/* Resets what waits for accept() and closes the front. */
void ks_port_unlisten(ks_port *port);
/* Ends its sessions and closes its socket; with the last session, a port without a listener does so by itself. */
void ks_port_del(ks_port *port);
/* For ks_batch. */
void ks_port_refused(ks_link *link);
/* Any bytes from anywhere, overwritten: the one entry point of packets. */
void ks_port_input_untrusted(ks_port *port, const ks_addr *from, const ks_addr *local, uint8_t *packet, size_t size);
/* What getsockname() of the listener tells; the role is 2. */
void ks_port_listener_info(const ks_port *port, ks_info *info);
/* Fills the names of a session's ends. */
void ks_port_names(const ks_session *session, ks_accept_msg *names);

#endif
