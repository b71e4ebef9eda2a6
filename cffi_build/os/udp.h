/* SPDX-License-Identifier: MIT */
/* UDP in batches: GSO and GRO where the kernel has them, else sendmmsg and recvmmsg, else one call a packet.
 * The way is chosen per socket and only ever falls back. Packets are at most KS_UDP_PACKET_MAX bytes. */
#ifndef KS_UDP_H
#define KS_UDP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/counters.h"

#define KS_UDP_PACKET_MAX 1500u
#define KS_UDP_BATCH 128u
#define KS_UDP_RX_BUFFERS 16u

typedef union {
    struct sockaddr sa;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
} ks_addr;

/* AUTO is GSO where it exists. */
typedef enum { KS_UDP_WAY_AUTO, KS_UDP_WAY_PLAIN, KS_UDP_WAY_MMSG, KS_UDP_WAY_GSO } ks_udp_way;

typedef struct {
    int fd;
    ks_udp_way way;
    sa_family_t family;
    bool connected;
    bool pktinfo;      /* bound to a wildcard: our address is received and sent with each packet */
    uint32_t rxq_drops; /* the kernel's count at the latest packet, SO_RXQ_OVFL */
    uint32_t gso_refused; /* runs in a row that the device did not take */
    bool quotes;       /* the kernel keeps what ICMP errors quote */
    bool too_long;     /* the kernel has refused a packet for its length; who asks clears it */
    bool no_way;       /* connected: it has refused one since our address or the way there is gone; likewise */
} ks_udp;

/* A packet to send. `to` is NULL on a connected socket; `from` is our own address, used when pktinfo is set. */
typedef struct {
    const ks_addr *to, *from;
    const uint8_t *data;
    size_t size;
} ks_datagram;

#define KS_UDP_RX_BYTES (KS_UDP_RX_BUFFERS * 65536u)

/* Buffers to receive into; one per engine. */
typedef struct {
    uint8_t *space; /* KS_UDP_RX_BYTES */
} ks_udp_rx;

/* from, local and data are valid during the call only, and data may be overwritten. local is NULL without pktinfo. */
typedef void ks_udp_packet(void *ctx, const ks_addr *from, const ks_addr *local, uint8_t *data, size_t size);

int ks_udp_rx_init(ks_udp_rx *rx);
void ks_udp_rx_free(ks_udp_rx *rx);

/* Takes over a bound or connected descriptor: non-blocking, buffers, dscp, pktinfo. 0 or -errno. */
int ks_udp_init(ks_udp *udp, int fd, ks_udp_way way, int sockbuf_bytes, int dscp);
/* Receives one batch. -> packets handed on, or -errno (ks_udp_is_refusal: ICMP said so; the socket may hold more).
 * *drained: the socket was empty after it. */
int ks_udp_recv(ks_udp *udp, ks_udp_rx *rx, ks_udp_packet *packet, void *ctx, ks_counters *count, bool *drained);
/* Sends all, waiting a moment when the socket's buffer is full; what the kernel refuses is dropped and counted.
 * -> 0, or -ECONNREFUSED when an ICMP error was met (all the same the rest is sent). */
int ks_udp_send(ks_udp *udp, const ks_datagram *d, size_t n, ks_counters *count);

/* What ICMP says of a peer that is not there: its port, its host or its network can't be reached. */
bool ks_udp_is_refusal(int error);
/* The next packet that such an ICMP message quotes, as far as it does: anybody may have written that. Each is told once.
 * -> the errno; 0: there is no more, or the system keeps none (`quotes`). */
int ks_udp_take_refusal(ks_udp *udp, uint8_t *quoted, size_t room, size_t *size);

int ks_udp_set_dscp(ks_udp *udp, int dscp);

/* Packets are as long as their sender says: what ICMP tells of the path's MTU counts for nothing, and what is longer may be cut on
 * the way. `whole`: nobody may cut them; one that the interface does not take is refused (too_long). No effect where the system has
 * no such options. */
void ks_udp_ignore_path_mtu(ks_udp *udp, bool whole);
/* IPv4 alone, and not whole: there routers cut what is too long, while for IPv6 the sender has to, when it is told. */
void ks_udp_ignore_path_mtu_v4(ks_udp *udp);

/* Hides a bound socket from all packets, as if nobody were bound there: strangers get ICMP port unreachable, the address stays
 * taken. For good: what it takes leaves traces in a socket, so who wants to hear binds another one. 0 or -errno. */
int ks_udp_hide(int fd);

bool ks_udp_is_v6only(int fd); /* false for IPv4, too */
/* Sets SO_REUSEADDR: other sockets that have it too, and these alone, may then bind to its address. */
void ks_udp_allow_beside(int fd);
/* A socket for one peer of an unconnected one, from our address `local` on the same port: connected, so that the kernel prefers
 * it. `fd` must have been allowed others, the new one is. -> its descriptor, or -errno. */
int ks_udp_split(int fd, const ks_addr *local, const ks_addr *peer);

/* Whether a bound socket's address is this host's no more. */
bool ks_udp_has_lost_address(int fd);
/* A socket to the same peer as a connected one's, with its options, whose address and port the kernel has chosen anew. -> its
 * descriptor, or -errno: -EALREADY when it would have the same address, since then that one serves as well. */
int ks_udp_renew(int fd, const ks_addr *peer);

/* Whether the kernel spreads peers over several sockets of one address (SO_REUSEPORT). Which of them a peer is given to
 * depends on how many there are, so none may see a packet before all are bound: until then a socket filter that drops all
 * packets shuts each of them out. */
bool ks_udp_spreads(void);
int ks_udp_shut_out(int fd);
int ks_udp_let_in(int fd);

bool ks_addr_equal(const ks_addr *a, const ks_addr *b);
uint64_t ks_addr_hash(const ks_addr *a);
socklen_t ks_addr_len(const ks_addr *a);

#endif
