/* SPDX-License-Identifier: MIT */
/* A port: one UDP socket and the sessions on it, found by (peer address, conv). It serves either one connecting session on
 * a connected socket, or any number of accepted ones and, while the application has not closed it, a listener, perhaps
 * together with ports of other engines (lobby.h). Accepted sessions keep it open after its listener, until they end.
 *
 * Here is what it is made of, how it begins and ends, and the engine's lists of them. Its listener's front is in
 * accept_queue.h; packets and all that sockets ask of it in listener.h. */
#ifndef KS_PORT_H
#define KS_PORT_H

#include "engine/lobby.h"
#include "session/session.h"

struct ks_port;

/* The lists that an engine keeps of its ports. */
typedef struct {
    struct ks_port *all;
    struct ks_port *more_head, *more_tail; /* to be received from again at once */
    struct ks_port *idle;                  /* those that stay only for the other ports of their lobbies */
    struct ks_port *offering;              /* accept() is to hear of more in the next turn, ... */
    bool offers_later;                     /* ... or later: all of these may be about to close */
    ks_bell bell;                          /* of the engine */
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
    ks_strays *strays;           /* the lobby's, if it has a place there; else NULL */
    int place;
    ks_hash by_peer, by_conv, by_address; /* peers.h */
    /* Whose next packet is parity that it won't need, it seems; NULL: none, or it need not be opened. */
    ks_session *parity_due;
    bool silent;                 /* its session hears nothing: another way is to be looked for (moving.h) ... */
    uint64_t sought_ms;          /* ... as it was then */
    uint32_t sessions;
    uint32_t half_open;          /* of these: begun by a packet, no stream has followed; as in TCP's SYN queue */
    ks_session *half_open_oldest, *half_open_newest; /* linked by half_open_next */
    uint16_t local_port;         /* host order */
    ks_addr local;               /* what the socket is bound to */

    ks_source front;             /* the listener's E; front.fd is -1 without one */
    ks_hnode by_inode;           /* in core->by_inode while front is open */
    uint32_t waiting, ripe;      /* ripe: of these, the first ones, which were there when the last turn ended */
    ks_stream *wait_head, *wait_tail;
    struct ks_port *offering_next; /* in ports->offering, while offers */
    bool offers;
    /* Handed over and, for all we know, still in the pair: linked by wait_next too, a dozen at most. */
    ks_stream *handed_head, *handed_tail;
} ks_port;

/* What a port is to do; the crypt (NULL: none) is taken over, deleted on failure. */
typedef struct {
    const ks_profile *profile;
    ks_crypt *crypt;
} ks_settings;

static inline ks_port *ks_port_of(ks_session_owner *owner)
{
    return KS_OWNER(owner, ks_port, owner);
}

/* A packet has begun it. */
void ks_port_count_half_open(ks_port *port, ks_session *session);
/* It has a stream, or ends: half-open no more. It may be so already. */
void ks_port_uncount_half_open(ks_port *port, ks_session *session);

/* Settings and crypt are the owner's from now on. -> 0 or -errno, and then the owner is as it was. */
int ks_settings_take(ks_session_owner *owner, const ks_settings *with);

/* Takes over udp_fd (closed on failure). The caller sets the owner's functions. NULL: `error` is -errno. */
ks_port *ks_port_new(ks_core *core, ks_ports *ports, int udp_fd, const ks_settings *with, int *error);
/* What ICMP tells its socket of a path's MTU anybody may have written: it is not to count, where that is possible. */
void ks_port_doubt_icmp(ks_port *port);
/* Put among those to be received from again, behind the last, and taken out. It may be there, or out, already. */
void ks_port_more_append(ks_port *port);
void ks_port_more_remove(ks_port *port);
/* Without a listener and sessions it goes, but with its lobby's other ports: until then it is idle. */
void ks_port_rest(ks_port *port);
/* It gets a listener again: idle no more. */
void ks_port_resume(ks_port *port);
/* Ends its sessions and closes its socket; with the last session, a port without a listener does so by itself. */
void ks_port_del(ks_port *port);
/* The engine was woken: ports whose lobbies are over go. */
void ks_ports_bury_idle(ks_ports *ports);

#endif
