/* SPDX-License-Identifier: MIT */
/* Whole sessions in virtual time: two hosts, each with an engine, and a simulated network between them.
 *
 * Applications, descriptor pairs and UDP sockets are the kernel's, as in life. But no socket of a host reaches the other's: each
 * connection has a relay, a socket of the test, which both ends take for their peer. What arrives there goes through the
 * network's pieces and is sent on when it is due. An engine wakes as it would in life: when its poller tells of something, or
 * when the time is over that it wanted to sleep. When nothing is left to do at a moment, the clock jumps to the next.
 *
 * So what is lost, late or twice, a wake that is missed, a timer that is not set again shows within milliseconds, and each
 * run is the same: chance comes from a seed. */
#ifndef WORLD_H
#define WORLD_H

#include "host.h"
#include "network.h"
#include "base/octets.h"

enum { CLIENT, SERVER, HOSTS };
enum { WORLD_ROUTES = 64, WORLD_FLOWS = 16, WORLD_REBINDS = 8 };
#define MS 1000u
#define SECOND 1000000u

/* One connection's relay; or a stranger, whose packets the test makes itself and who keeps the last answer. */
typedef struct {
    int fd;                  /* -1: its socket is gone, and who sends there is refused by ICMP */
    int outer[WORLD_REBINDS], rebinds; /* the sockets that the server has seen since, by world_rebind; those before the latest hear no more */
    ks_addr name, client;    /* its own; the client's socket */
    bool stranger;
    bool holding;            /* what the client sends is kept in `sent` alone */
    uint8_t sent[KS_UDP_PACKET_MAX]; /* the client's latest packet */
    size_t sent_size;
    uint32_t answers;
    size_t answer_size;
    uint8_t answer[KS_UDP_PACKET_MAX];
    uint8_t challenge[KS_KCP_HEAD]; /* a stranger's: the latest that came */
} world_route;

/* Bytes on their way from one application to another: written and read as there is room, and looked at. */
typedef struct {
    int from, to, which;
    uint64_t size, sent, received, wrong;
    bool paused;             /* `to` does not read */
} world_flow;

typedef struct {
    uint64_t now_us;
    host host[HOSTS];
    network net;
    net_path path[HOSTS];    /* of what that host sends */
    world_route routes[WORLD_ROUTES];
    int route_count;
    world_flow flows[WORLD_FLOWS];
    int flow_count;
    int listener;            /* the application's end, -1: closed */
    ks_addr server;          /* where it listens */
    uint64_t collected;
    uint64_t memory;
    int lowest_fd;
} world;

static inline ks_profile world_profile(void)
{
    return (ks_profile){
        .framing = KS_FRAMING_SMUX, .smux_version = 2, .nodelay = 1, .interval_ms = 10, .resend = 2, .nc = 1,
        .sndwnd_pkts = 128, .rcvwnd_pkts = 128, .mtu_bytes = 1400, .stream = 1, .sockbuf_bytes = 1 << 20,
        .keepalive_ms = 10000, .keepalive_timeout_ms = 30000, .max_streams = 1024, .max_half_open = 1024,
    };
}

/* ---- the world's life ---- */

static inline void world_open(world *w, uint64_t seed, uint64_t delay_us)
{
    MUST(ks_front_init() == 0);
    memset(w, 0, sizeof *w);
    w->memory = ks_mem_used();
    w->lowest_fd = host_lowest_free_fd();
    w->now_us = 1000 * (uint64_t)SECOND; /* a machine that has been up for longer than any timeout */
    w->listener = -1;
    net_init(&w->net, seed);
    for (int i = 0; i < HOSTS; i++) {
        host_open(&w->host[i], &w->now_us, KS_UDP_WAY_AUTO);
        if (delay_us > 0)
            (void)net_add(&w->path[i], net_delay(delay_us, 0));
    }
}

static inline void world_close_app(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* At the other end of the network. */
static inline void world_listen(world *w, const ks_profile *profile, ks_crypt *crypt, int backlog)
{
    ks_settings with = {.profile = profile, .crypt = crypt};
    int udp = host_udp_socket(&w->server);
    w->listener = host_listen(&w->host[SERVER], udp, &with, backlog);
}

static inline int world_relay_socket(ks_addr *name)
{
    int room = 4 << 20, fd = host_udp_socket(name);
    MUST(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
    return fd;
}

/* -> the application's end; the relay is routes[route_count - 1] */
static inline int world_connect(world *w, const ks_profile *profile, ks_crypt *crypt)
{
    ks_settings with = {.profile = profile, .crypt = crypt};
    MUST(w->route_count < WORLD_ROUTES);
    world_route *r = &w->routes[w->route_count++];
    r->fd = world_relay_socket(&r->name);
    int udp = host_udp_socket(&r->client);
    MUST(connect(udp, &r->name.sa, sizeof r->name.in4) == 0);
    return host_connect(&w->host[CLIENT], udp, &with);
}

static inline world_route *world_stranger(world *w)
{
    MUST(w->route_count < WORLD_ROUTES);
    world_route *r = &w->routes[w->route_count++];
    r->fd = host_udp_socket(&r->name);
    r->stranger = true;
    return r;
}

/* From now on the client of that route is told by ICMP that nobody is there. */
static inline void world_unplug(world *w, int route)
{
    world_close_app(&w->routes[route].fd);
}

/* As a NAT does that has forgotten a flow: from now on the server sees its packets come from another port, and what it sends to the
 * one before gets lost. */
static inline void world_rebind(world *w, int route)
{
    ks_addr name;
    world_route *r = &w->routes[route];
    MUST(r->rebinds < WORLD_REBINDS);
    r->outer[r->rebinds++] = world_relay_socket(&name);
}

/* ---- the network ---- */

static inline uint64_t world_sent(const world *w)
{
    return w->host[CLIENT].core->count.out_pkts + w->host[SERVER].core->count.out_pkts;
}

static inline void world_note_challenge(world_route *r)
{
    for (size_t at = 0; at + KS_KCP_HEAD <= r->answer_size; at += KS_KCP_HEAD + ks_get_le32(r->answer + at + 20))
        if (r->answer[at + 4] == KS_KCP_PUSH && ks_get_le32(r->answer + at + 20) == 0)
            memcpy(r->challenge, r->answer + at, sizeof r->challenge);
}

static inline int world_outer(const world_route *r)
{
    return r->rebinds > 0 ? r->outer[r->rebinds - 1] : r->fd;
}

/* What has come at one socket of a route. */
static inline bool world_take(world *w, int route, int fd, uint8_t bytes[KS_UDP_PACKET_MAX + 1])
{
    world_route *r = &w->routes[route];
    for (bool any = false;; any = true) {
        ks_addr from;
        socklen_t len = sizeof from;
        memset(&from, 0, sizeof from);
        ssize_t n = fd < 0 ? -1 : recvfrom(fd, bytes, KS_UDP_PACKET_MAX + 1, MSG_DONTWAIT, &from.sa, &len);
        if (n < 0)
            return any;
        MUST(n <= (ssize_t)KS_UDP_PACKET_MAX);
        w->collected++;
        if (r->stranger) {
            r->answers++;
            memcpy(r->answer, bytes, r->answer_size = (size_t)n);
            world_note_challenge(r);
            continue;
        }
        int sender = ks_addr_equal(&from, &r->client) ? CLIENT : SERVER;
        MUST(sender == CLIENT || ks_addr_equal(&from, &w->server));
        if (sender == CLIENT)
            memcpy(r->sent, bytes, r->sent_size = (size_t)n);
        if (sender == CLIENT ? !r->holding : fd == world_outer(r))
            net_send(&w->net, &w->path[sender], w->now_us, 2 * route + !sender, bytes, (size_t)n);
    }
}

/* Takes what the hosts have sent from the relays; the kernel may be a moment late. */
static inline void world_collect(world *w)
{
    uint8_t bytes[KS_UDP_PACKET_MAX + 1];
    bool gone = false;
    for (int patience = 0; w->collected != world_sent(w) && patience < 50;) {
        bool any = false;
        for (int i = 0; i < w->route_count; i++) {
            gone |= w->routes[i].fd < 0;
            any |= world_take(w, i, w->routes[i].fd, bytes);
            for (int j = 0; j < w->routes[i].rebinds; j++)
                any |= world_take(w, i, w->routes[i].outer[j], bytes);
        }
        if (gone) /* what went to a relay that is no more was counted as sent */
            break;
        if (!any) {
            (void)poll(NULL, 0, 1);
            patience++;
        }
    }
    MUST(gone || w->collected == world_sent(w));
    w->collected = world_sent(w);
}

/* Sends on what is due. */
static inline void world_deliver(world *w)
{
    while (w->net.count > 0 && net_is_due(w->net.heap[0]->due, w->now_us)) {
        net_packet *p = net_take(&w->net);
        const world_route *r = &w->routes[p->to / 2];
        const ks_addr *to = p->to % 2 == SERVER ? &w->server : &r->client;
        int fd = p->to % 2 == SERVER ? world_outer(r) : r->fd;
        if (fd >= 0)
            (void)sendto(fd, p->bytes, p->size, 0, &to->sa, sizeof to->in4);
        free(p);
    }
}

/* ---- applications ---- */

/* -> true: something moved */
static inline bool flow_move(world_flow *f)
{
    uint8_t bytes[16384];
    bool moved = false;
    while (f->sent < f->size) {
        size_t want = f->size - f->sent < sizeof bytes ? (size_t)(f->size - f->sent) : sizeof bytes;
        for (size_t i = 0; i < want; i++)
            bytes[i] = net_byte(f->which, f->sent + i);
        ssize_t n = send(f->from, bytes, want, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            break;
        f->sent += (uint64_t)n;
        moved = true;
    }
    while (f->to >= 0 && !f->paused && f->received < f->size) {
        ssize_t n = recv(f->to, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            f->wrong += bytes[i] != net_byte(f->which, f->received + (uint64_t)i);
        f->received += (uint64_t)n;
        moved = true;
    }
    return moved;
}

/* Goes on by itself from now on; valid until the world ends. */
static inline world_flow *world_flow_start(world *w, int from, int to, uint64_t size)
{
    MUST(w->flow_count < WORLD_FLOWS);
    world_flow *f = &w->flows[w->flow_count];
    *f = (world_flow){.from = from, .to = to, .which = w->flow_count++, .size = size};
    return f;
}

static inline bool flow_done(const world_flow *f)
{
    return f->received == f->size && f->wrong == 0;
}

/* ---- time ---- */

/* All that happens at this moment. */
static inline void world_settle(world *w)
{
    for (int spins = 0;; spins++) {
        bool any = false;
        for (int i = 0; i < HOSTS; i++)
            any |= host_turn(&w->host[i]);
        for (int i = 0; i < w->flow_count; i++)
            any |= flow_move(&w->flows[i]);
        world_collect(w);
        if (w->net.count > 0 && net_is_due(w->net.heap[0]->due, w->now_us)) {
            world_deliver(w);
            any = true;
        }
        if (!any)
            return;
        MUST(spins < 10000); /* or it spins */
    }
}

/* To the server, at once. */
static inline void world_stranger_send(world *w, world_route *r, const uint8_t *packet, size_t size)
{
    MUST(sendto(r->fd, packet, size, 0, &w->server.sa, sizeof w->server.in4) == (ssize_t)size);
    world_settle(w);
}

/* Answers the latest challenge, as every KCP peer does. */
static inline void world_stranger_proves(world *w, world_route *r)
{
    MUST(r->challenge[4] == KS_KCP_PUSH);
    r->challenge[4] = KS_KCP_ACK;
    ks_put_le32(r->challenge + 16, 0); /* una: it has received nothing else */
    world_stranger_send(w, r, r->challenge, sizeof r->challenge);
}

/* When something happens next, at most `until`. */
static inline uint64_t world_next(const world *w, uint64_t until)
{
    for (int i = 0; i < HOSTS; i++)
        until = w->host[i].wake_us < until ? w->host[i].wake_us : until;
    if (w->net.count > 0 && w->net.heap[0]->due < until)
        until = w->net.heap[0]->due;
    return until > w->now_us ? until : w->now_us;
}

static inline void world_run(world *w, uint64_t us)
{
    for (uint64_t until = w->now_us + us;; w->now_us = world_next(w, until)) {
        world_settle(w);
        if (w->now_us >= until)
            return;
    }
}

/* Runs until the condition holds, at most so long; a failure if it does not come to hold. */
#define WORLD_UNTIL(w, us, condition) \
    do { \
        int holds_ = 0; \
        for (uint64_t until_ = (w)->now_us + (us); !holds_; (w)->now_us = world_next((w), until_)) { \
            world_settle(w); \
            holds_ = (condition) ? 1 : 0; \
            if (holds_ || (w)->now_us >= until_) \
                break; \
        } \
        check_that(holds_, __FILE__, __LINE__, #condition); \
    } while (0)

/* With all applications gone, the sessions must end by themselves, and leave nothing. */
static inline void world_close(world *w)
{
    world_close_app(&w->listener);
    WORLD_UNTIL(w, 300 * (uint64_t)SECOND, w->host[CLIENT].ports->all == NULL && w->host[SERVER].ports->all == NULL);
    for (int i = 0; i < w->flow_count; i++)
        CHECK_EQ(w->flows[i].wrong, 0);
    for (int i = 0; i < HOSTS; i++)
        host_close(&w->host[i]);
    for (int i = 0; i < w->route_count; i++) {
        world_close_app(&w->routes[i].fd);
        for (int j = 0; j < w->routes[i].rebinds; j++)
            world_close_app(&w->routes[i].outer[j]);
    }
    net_free(&w->net);
    CHECK_EQ(ks_mem_used(), w->memory);
    CHECK_EQ(host_lowest_free_fd(), w->lowest_fd);
}

/* ---- what applications see ---- */

static inline short world_poll(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
    return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

/* Whatever can be read is. -> 0 a clean end, an errno as recv() would give it, or -1: it has not ended */
static inline int world_ending(int fd, uint64_t *received)
{
    uint8_t bytes[4096];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        *received += (uint64_t)n;
    int error = n == 0 ? 0 : errno;
    if (error == EAGAIN || error == EWOULDBLOCK)
        return -1;
    int buried = ks_front_exhume(ks_front_inode(fd));
    return buried != 0 ? buried : error;
}

/* The session of an application's descriptor, NULL when it is over. */
static inline ks_session *world_session(const host *h, int fd)
{
    ks_hnode *n = ks_hash_find(&h->core->by_inode, KS_FRONT_KEY(ks_front_inode(fd), false));
    return n != NULL ? KS_OWNER(n, ks_stream, by_inode)->session : NULL;
}

static inline ks_stream *world_stream(const host *h, int fd)
{
    ks_hnode *n = ks_hash_find(&h->core->by_inode, KS_FRONT_KEY(ks_front_inode(fd), false));
    return n != NULL ? KS_OWNER(n, ks_stream, by_inode) : NULL;
}

/* Past the descriptor, in this moment. -> as ks_engine_send */
static inline int64_t world_send_now(world *w, int at, int fd, const void *data, size_t size)
{
    int64_t n = ks_engine_send(w->host[at].engine, ks_front_inode(fd), data, size);
    world_collect(w);
    return n;
}

/* -> true: the next connection is there, at *fd, which was -1 */
static inline bool world_accepted(const world *w, int *fd)
{
    if (*fd < 0)
        *fd = host_accept(w->listener);
    return *fd >= 0;
}

/* Client and server applications' ends of one connection that stands. Raw framing knows no SYN: a byte must go first. */
static inline void world_pair(world *w, const ks_profile *profile, int *client, int *server)
{
    if (w->listener < 0)
        world_listen(w, profile, NULL, 16);
    *client = world_connect(w, profile, NULL);
    *server = -1;
    bool raw = profile->framing == KS_FRAMING_RAW;
    char byte;
    CHECK(!raw || send(*client, "!", 1, MSG_DONTWAIT) == 1);
    WORLD_UNTIL(w, 10 * SECOND, (world_poll(*client) & POLLOUT) && world_accepted(w, server));
    if (raw)
        WORLD_UNTIL(w, 10 * SECOND, recv(*server, &byte, 1, MSG_DONTWAIT) == 1);
}

#endif
