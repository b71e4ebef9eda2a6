// SPDX-License-Identifier: MIT
//
// The face that needs no rights: a UDP relay on loopback. The link carries what is in UDP datagrams; IP's and UDP's heads count
// for the rate all the same, so that figures compare with those of the other face.
//
//     client A ──┐                                 ┌── socket of A ──►
//     client B ──┴─► listener  ◄── two directions ─┼── socket of B ──►  target

#define _GNU_SOURCE
#include "lossylink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sock_diag.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_MEMINFO
#define SO_MEMINFO 55 // asm-generic/socket.h, Linux 4.12; older libc headers lack it
#endif

enum { BUCKETS = 8192, IPV4_UDP_BYTES = 28, IPV6_UDP_BYTES = 48 };
#define NONE UINT32_MAX

// ---- clients

struct client {
    struct sockaddr_storage addr;
    int fd;       // connected to the target; -1: entry is unused
    uint32_t gen; // counts the tenants of this entry, so that packets and events of an evicted one are known as such
    uint32_t bucket, chain_next, newer, older;
};

static struct client *clients;
static uint32_t buffer_bytes = 4 << 20;
static uint32_t clients_max = 4096, clients_len, buckets[BUCKETS], newest = NONE, oldest = NONE;
static uint64_t evicted;
static struct sockaddr_storage target, local;
static socklen_t target_len, local_len;
static int listener = -1;

// What an event is about: the listener, or FIRST_CLIENT + the client's index, its gen in the upper half.
enum { LISTENER = EV_FACE, FIRST_CLIENT };

// ---- clients' sockets

static void buffers(int fd)
{
    int bytes = (int)buffer_bytes;
    // FORCE passes over net.core.[rw]mem_max, and needs CAP_NET_ADMIN.
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

static uint64_t kernel_drops(int fd)
{
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t len = sizeof info;
    return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) == 0 ? info[SK_MEMINFO_DROPS] : 0;
}

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family)
        return false;
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *x = (const void *)a, *y = (const void *)b;
        return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
    }
    const struct sockaddr_in6 *x = (const void *)a, *y = (const void *)b;
    return x->sin6_port == y->sin6_port && x->sin6_scope_id == y->sin6_scope_id &&
           memcmp(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr) == 0;
}

static uint32_t bucket_of(const struct sockaddr_storage *a)
{
    uint64_t h;
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *x = (const void *)a;
        h = (uint64_t)x->sin_addr.s_addr << 16 | x->sin_port;
    } else {
        const struct sockaddr_in6 *x = (const void *)a;
        uint64_t half[2];
        memcpy(half, &x->sin6_addr, sizeof half);
        h = mix(half[0]) ^ half[1] ^ x->sin6_port;
    }
    return (uint32_t)(mix(h) % BUCKETS);
}

static void unlink_age(struct client *c)
{
    *(c->newer == NONE ? &newest : &clients[c->newer].older) = c->older;
    *(c->older == NONE ? &oldest : &clients[c->older].newer) = c->newer;
}

static void link_newest(uint32_t index)
{
    struct client *c = &clients[index];
    c->newer = NONE;
    c->older = newest;
    *(newest == NONE ? &oldest : &clients[newest].newer) = index;
    newest = index;
}

static void touch(uint32_t index)
{
    if (newest != index) {
        unlink_age(&clients[index]);
        link_newest(index);
    }
}

// Frees the entry of the client that was idle longest, and returns its index.
static uint32_t evict(void)
{
    uint32_t index = oldest, *link;
    struct client *c = &clients[index];
    dirs[DOWN].n.kernel_dropped += kernel_drops(c->fd);
    close(c->fd);
    c->fd = -1;
    c->gen++;
    unlink_age(c);
    for (link = &buckets[c->bucket]; *link != index; link = &clients[*link].chain_next)
        ;
    *link = c->chain_next;
    evicted++;
    return index;
}

// Returns the index, or NONE if no socket is to be had.
static uint32_t client_of(const struct sockaddr_storage *addr)
{
    uint32_t bucket = bucket_of(addr), index;
    for (index = buckets[bucket]; index != NONE; index = clients[index].chain_next)
        if (same_address(&clients[index].addr, addr))
            return index;

    static uint32_t spare = NONE; // an entry that was evicted, but whose successor then got no socket
    if (spare != NONE)
        index = spare;
    else if (clients_len < clients_max)
        index = clients_len++;
    else
        index = evict();
    spare = index;
    int fd = socket(target.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 && errno == EMFILE && oldest != NONE) {
        clients_max = clients_len > 2 ? clients_len - 1 : 1; // fewer descriptors than we were promised: live with it
        index = spare = evict();
        fd = socket(target.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    }
    if (fd < 0)
        return NONE;
    struct client *c = &clients[index];
    buffers(fd);
    if (connect(fd, (struct sockaddr *)&target, target_len) != 0 ||
        !watch(fd, (uint64_t)c->gen << 32 | (FIRST_CLIENT + index))) {
        close(fd);
        return NONE;
    }
    spare = NONE;
    c->addr = *addr;
    c->fd = fd;
    c->bucket = bucket;
    c->chain_next = buckets[bucket];
    buckets[bucket] = index;
    link_newest(index);
    return index;
}

// ---- in and out

// Packets land in slots straight from the kernel. `from` is the client whose upstream socket this is, or NONE: the
// listener.
static void receive(struct direction *d, int fd, uint32_t from)
{
    static struct mmsghdr msgs[LANDING];
    static struct iovec iov[LANDING];
    static struct sockaddr_storage addr[LANDING];

    for (int turn = 0; turn < BATCHES_PER_TURN; turn++) {
        for (int i = 0; i < LANDING; i++) {
            iov[i] = (struct iovec){direction_bytes(d, d->landing[i]), packet_bytes};
            msgs[i].msg_hdr = (struct msghdr){.msg_name = from == NONE ? &addr[i] : NULL,
                                              .msg_namelen = from == NONE ? sizeof addr[i] : 0,
                                              .msg_iov = &iov[i],
                                              .msg_iovlen = 1};
        }
        int got = recvmmsg(fd, msgs, LANDING, MSG_DONTWAIT | MSG_TRUNC, NULL); // TRUNC: the length as it was sent
        if (got < 0) {
            if (errno == ECONNREFUSED) {
                dirs[UP].n.refused++;
                continue;
            }
            return;
        }
        uint64_t now = now_ns();
        for (int i = 0; i < got; i++) {
            if (!direction_hears(d, msgs[i].msg_len))
                continue;
            uint32_t client = from == NONE ? client_of(&addr[i]) : from;
            if (client == NONE) {
                d->n.orphaned++;
                continue;
            }
            touch(client);
            direction_takes(
                d, now, &d->landing[i],
                (struct packet){.len = msgs[i].msg_len, .client = client, .client_gen = clients[client].gen});
        }
        if (got < LANDING)
            return;
    }
}

// Sends msgs[0..len), which lie in `sent_slots`, and frees their slots.
static void flush(struct direction *d, int fd, struct mmsghdr *msgs, const uint32_t *sent_slots, unsigned len)
{
    unsigned done = 0, refusals = 0;
    while (done < len) {
        int n = sendmmsg(fd, msgs + done, len - done, 0); // blocks if the send buffer is full: nothing is lost unseeded
        if (n > 0) {
            for (int i = 0; i < n; i++)
                d->n.sent_bytes += d->packets[sent_slots[done + (unsigned)i]].len;
            d->n.sent += (unsigned)n;
            done += (unsigned)n;
            refusals = 0;
        } else if (errno == EINTR) {
            continue;
        } else if (errno == ECONNREFUSED && refusals++ < 3) {
            d->n.refused++; // tells of an earlier packet; this one was not tried yet
        } else {
            d->n.send_failed++;
            done++;
        }
    }
    for (unsigned i = 0; i < len; i++)
        direction_give_back(d, sent_slots[i]);
}

static void relay_send(struct direction *d, uint64_t now)
{
    static struct mmsghdr msgs[LANDING];
    static struct iovec iov[LANDING];
    uint32_t batch[LANDING], slot;
    unsigned len = 0;
    int fd = -1;

    while (direction_due(d, now, &slot)) {
        const struct packet *packet = &d->packets[slot];
        struct client *c = &clients[packet->client];
        if (c->gen != packet->client_gen) {
            d->n.orphaned++;
            direction_give_back(d, slot);
            continue;
        }
        int through = d == &dirs[UP] ? c->fd : listener;
        if (len == LANDING || (len > 0 && through != fd)) {
            flush(d, fd, msgs, batch, len);
            len = 0;
        }
        fd = through;
        batch[len] = slot;
        iov[len] = (struct iovec){direction_bytes(d, slot), packet->len};
        msgs[len].msg_hdr = (struct msghdr){.msg_name = d == &dirs[UP] ? NULL : &c->addr,
                                            .msg_namelen = d == &dirs[UP] ? 0 : local_len,
                                            .msg_iov = &iov[len],
                                            .msg_iovlen = 1};
        len++;
    }
    if (len > 0)
        flush(d, fd, msgs, batch, len);
}

static bool relay_event(uint64_t event)
{
    uint32_t what = (uint32_t)event, gen = (uint32_t)(event >> 32);
    if (what == LISTENER) {
        receive(&dirs[UP], listener, NONE);
        return true;
    }
    struct client *c = &clients[what - FIRST_CLIENT];
    if (c->gen != gen)
        return false;
    receive(&dirs[DOWN], c->fd, what - FIRST_CLIENT);
    return true;
}

static int relay_stats(char *text, size_t size, uint64_t kernel_dropped[2])
{
    uint32_t alive = 0;
    kernel_dropped[UP] = kernel_drops(listener);
    for (uint32_t i = newest; i != NONE; i = clients[i].older, alive++)
        kernel_dropped[DOWN] += kernel_drops(clients[i].fd);
    return snprintf(text, size, "\"clients\": %" PRIu32 ", \"evicted\": %" PRIu64 ", ", alive, evicted);
}

// ---- the start

static void resolve(const char *text, struct sockaddr_storage *addr, socklen_t *len)
{
    char host[256];
    const char *colon = strrchr(text, ':');
    size_t host_len = colon ? (size_t)(colon - text) : 0;
    if (!colon || host_len == 0 || host_len >= sizeof host)
        die("%s: want HOST:PORT, or [HOST]:PORT for IPv6", text);
    if (text[0] == '[' && text[host_len - 1] == ']') {
        text++;
        host_len -= 2;
    }
    memcpy(host, text, host_len);
    host[host_len] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV}, *found;
    int error = getaddrinfo(host, colon + 1, &hints, &found);
    if (error)
        die("%s port %s: %s", host, colon + 1, gai_strerror(error));
    memcpy(addr, found->ai_addr, found->ai_addrlen);
    *len = found->ai_addrlen;
    freeaddrinfo(found);
}

static const char *listen_text;

static bool relay_option(const char *name, const char *value)
{
    if (strcmp(name, "target") == 0)
        resolve(value, &target, &target_len);
    else if (strcmp(name, "listen") == 0)
        listen_text = value;
    else if (strcmp(name, "clients") == 0)
        clients_max = (uint32_t)whole(name, value, 1, 1 << 20);
    else if (strcmp(name, "buffer-bytes") == 0)
        buffer_bytes = (uint32_t)whole(name, value, 4096, 1 << 29); // the kernel doubles it, and counts in int
    else
        return false;
    return true;
}

static void relay_open(void)
{
    if (!target_len)
        die("--target HOST:PORT is missing (see --help)");
    bool is_v6 = target.ss_family == AF_INET6;
    resolve(listen_text ? listen_text : is_v6 ? "[::1]:0" : "127.0.0.1:0", &local, &local_len);
    dirs[UP].head_bytes = dirs[DOWN].head_bytes = is_v6 ? IPV6_UDP_BYTES : IPV4_UDP_BYTES;
    clients = reserve(clients_max, sizeof *clients);
    memset(buckets, 0xff, sizeof buckets); // NONE
    listener = socket(local.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        die("cannot open a socket: %s", strerror(errno));
    buffers(listener);
    if (bind(listener, (struct sockaddr *)&local, local_len) != 0 ||
        getsockname(listener, (struct sockaddr *)&local, &local_len) != 0)
        die("cannot bind: %s", strerror(errno));
    if (!watch(listener, LISTENER))
        die("epoll_ctl: %s", strerror(errno));
    in_port_t port = local.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&local)->sin6_port
                                                 : ((struct sockaddr_in *)&local)->sin_port;
    char text[32];
    put(text, (size_t)snprintf(text, sizeof text, "port %d\n", ntohs(port)));
}

const struct face relay_face = {relay_option, relay_open, relay_event, relay_send, relay_stats};
