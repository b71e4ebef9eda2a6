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

#include "counters.h"

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
/* Receives one batch. -> packets handed on, or -errno (-ECONNREFUSED: ICMP said so; the socket may hold more).
 * *drained: the socket was empty after it. */
int ks_udp_recv(ks_udp *udp, ks_udp_rx *rx, ks_udp_packet *packet, void *ctx, ks_counters *count, bool *drained);
/* Sends all, waiting a moment when the socket's buffer is full; what the kernel refuses is dropped and counted.
 * -> 0, or -ECONNREFUSED when an ICMP error was met (all the same the rest is sent). */
int ks_udp_send(ks_udp *udp, const ks_datagram *d, size_t n, ks_counters *count);

int ks_udp_set_dscp(ks_udp *udp, int dscp);

/* For descriptors that no engine holds yet; 0 or -errno. */
int ks_udp_connect_self(int fd);
int ks_udp_disconnect(int fd);

/* Whether the kernel spreads peers over several sockets of one address (SO_REUSEPORT). Which of them a peer is given to
 * depends on how many there are, so none may see a packet before all are bound: until then they are shut out. */
bool ks_udp_spreads(void);
int ks_udp_shut_out(int fd);
int ks_udp_let_in(int fd);

bool ks_addr_equal(const ks_addr *a, const ks_addr *b);
uint64_t ks_addr_hash(const ks_addr *a);
socklen_t ks_addr_len(const ks_addr *a);

#endif
