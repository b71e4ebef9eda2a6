// SPDX-License-Identifier: MIT
//
// lossylink: a UDP relay on loopback that behaves like a bad network. Linux only; one thread, no allocation once it
// runs.
//
//     client A ──┐                up: [bottleneck] → loss → duplication → delay        ┌── socket of A ──►
//     client B ──┴─► listener                                                          ├── socket of B ──►  target
//                ◄──            down: the same, with its own settings and numbers      ◄──
//
// Promises:
// - Random fate is a function of the seed, the direction and the packet's number in that direction: each packet takes
// the same
//   number of draws (DRAWS) whatever the settings, so switching one impairment on leaves the dice of the others as they
//   were.
// - Order is kept unless `reorder` (or `jitter-reorders`) says otherwise.
// - A command on stdin acts after all packets that were sent to the link before it: they are drained first.
// - Per direction, received + duplicated = sent + lost + queue_dropped + blackholed + pool_dropped + oversize +
// orphaned
//   + send_failed + held.  What the kernel dropped before we saw it is kernel_dropped, and not in received.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/sock_diag.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_MEMINFO
#define SO_MEMINFO 55 // asm-generic/socket.h, Linux 4.12; older libc headers lack it
#endif

enum {
    BATCH = 64,           // packets per recvmmsg/sendmmsg
    BATCHES_PER_TURN = 4, // from one socket before the others and the due packets get their turn
    EVENTS = 256,
    SETTLE_TURNS =
        128, // bound on draining before a command: in so many turns a socket yields more than its buffer holds
    BUCKETS = 8192,
};
#define NONE      UINT32_MAX
#define NEVER     UINT64_MAX
#define NS_PER_MS 1e6
#define NS_PER_S  1000000000u

// ---- settings

struct impairments {
    double delay_ms, jitter_ms; // one way; jitter adds 0..jitter_ms, uniformly
    double jitter_reorders; // 1: packets may overtake by jitter (as netem's do); 0: a packet waits for the one before
    double loss, dup, reorder;                   // probabilities
    double reorder_ms;                           // what a reordered packet is held back for
    double burst_enter, burst_leave, burst_loss; // Gilbert-Elliott: good → bad, bad → good, loss while bad
    double rate;                                 // bytes of UDP payload per second; 0: no bottleneck
    double queue; // packets in the bottleneck, the one being served included; only with rate
};

struct setting {
    const char *name;
    size_t offset;
    int values; // this many doubles from offset on, separated by commas
    double min, max;
};

static const struct setting SETTINGS[] = {
    {"delay-ms", offsetof(struct impairments, delay_ms), 1, 0, 1e8},
    {"jitter-ms", offsetof(struct impairments, jitter_ms), 1, 0, 1e8},
    {"jitter-reorders", offsetof(struct impairments, jitter_reorders), 1, 0, 1},
    {"loss", offsetof(struct impairments, loss), 1, 0, 1},
    {"dup", offsetof(struct impairments, dup), 1, 0, 1},
    {"reorder", offsetof(struct impairments, reorder), 1, 0, 1},
    {"reorder-ms", offsetof(struct impairments, reorder_ms), 1, 0, 1e8},
    {"burst-loss", offsetof(struct impairments, burst_enter), 3, 0, 1},
    {"rate", offsetof(struct impairments, rate), 1, 0, 1e12},
    {"queue", offsetof(struct impairments, queue), 1, 1, 1e6},
};

// ---- one direction

struct counts {
    uint64_t received, received_bytes, sent, sent_bytes;
    uint64_t lost, burst_lost; // burst_lost is the part of lost that the bad state took
    uint64_t duplicated, reordered, queue_dropped, blackholed;
    uint64_t pool_dropped;   // no free slot: more in flight than --slots
    uint64_t oversize;       // longer than --packet-bytes
    uint64_t orphaned;       // its client was evicted, or got no socket
    uint64_t send_failed;    // by another error than ECONNREFUSED
    uint64_t refused;        // ECONNREFUSED seen: the target's port is closed
    uint64_t kernel_dropped; // receive buffer overrun, by the kernel's count, of sockets that are closed already
    uint64_t delay_us;       // sum of the delays given (not measured), bottleneck included
    uint64_t late_max_us;    // worst difference between a packet's due time and its sending
};

struct due {
    uint64_t at_ns, order; // order breaks ties: first in, first out
    uint32_t slot;
};

struct direction {
    struct impairments set;
    struct counts n;
    uint64_t dice; // splitmix64's state
    bool bad;      // Gilbert-Elliott's state
    bool blackhole;
    uint64_t floor_ns; // due time of the last packet in order; a later one is not due before
    // The bottleneck: a ring with the departure times of the packets in it; the last one says when it is free.
    uint64_t *departures, free_ns;
    uint32_t departures_head, departures_len;
    // The slots: packet bytes, and per slot its length and client. A slot is free, landing (where the next recvmmsg
    // writes) or due.
    uint8_t *bytes;
    uint32_t *len, *client, *client_gen, *free;
    uint32_t free_len, landing[BATCH];
    // Due packets, as a binary heap.
    struct due *heap;
    uint32_t heap_len;
    uint64_t order;
};

enum { UP, DOWN };
static const char *const NAMES[] = {"up", "down"};
static struct direction dirs[2];
static uint32_t slots = 65536, packet_bytes = 2048, buffer_bytes = 4 << 20;
static uint64_t seed = 1, slack_ns;

// ---- clients

struct client {
    struct sockaddr_storage addr;
    int fd;       // connected to the target; -1: entry is unused
    uint32_t gen; // counts the tenants of this entry, so that packets and events of an evicted one are known as such
    uint32_t bucket, chain_next, newer, older;
};

static struct client *clients;
static uint32_t clients_max = 4096, clients_len, buckets[BUCKETS], newest = NONE, oldest = NONE;
static uint64_t evicted;
static struct sockaddr_storage target, local;
static socklen_t target_len, local_len;
static int listener = -1, epoll = -1, timer = -1;

// What an epoll event is about; a client's is FIRST_CLIENT + index, its gen in the upper half.
enum { EV_LISTENER, EV_STDIN, EV_SIGNAL, EV_TIMER, FIRST_CLIENT };

_Noreturn static void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("lossylink: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

// Not counted by the kernel until touched: a large pool costs what is in use at most.
static void *reserve(size_t count, size_t size)
{
    void *p = mmap(NULL, count * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        die("cannot reserve %zu bytes: %s", count * size, strerror(errno));
    return p;
}

// ---- the dice

static uint64_t mix(uint64_t z) // splitmix64 (Steele, Lea, Flood 2014)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double roll(struct direction *d) // uniform in [0, 1)
{
    return (double)(mix(d->dice += 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53;
}

enum { D_LOSS, D_BURST_STATE, D_BURST_LOSS, D_DUP, D_REORDER, D_JITTER, D_DUP_REORDER, D_DUP_JITTER, DRAWS };

// ---- slots and heap

static void direction_init(struct direction *d, unsigned which)
{
    d->dice = mix(seed * 2 + which + 1);
    d->bytes = reserve(slots, packet_bytes);
    d->len = reserve(slots, sizeof *d->len);
    d->client = reserve(slots, sizeof *d->client);
    d->client_gen = reserve(slots, sizeof *d->client_gen);
    d->free = reserve(slots, sizeof *d->free);
    d->heap = reserve(slots, sizeof *d->heap);
    d->departures = reserve(slots, sizeof *d->departures);
    for (uint32_t i = slots; i-- > 0;)
        d->free[d->free_len++] = i;
    for (int i = 0; i < BATCH; i++)
        d->landing[i] = d->free[--d->free_len];
}

static bool before(const struct due *a, const struct due *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

// The heap cannot overflow: it holds slots, each once.
static void heap_push(struct direction *d, uint64_t at_ns, uint32_t slot)
{
    struct due new = {at_ns, d->order++, slot};
    uint32_t i = d->heap_len++;
    for (; i > 0 && before(&new, &d->heap[(i - 1) / 2]); i = (i - 1) / 2)
        d->heap[i] = d->heap[(i - 1) / 2];
    d->heap[i] = new;
}

static uint32_t heap_pop(struct direction *d)
{
    uint32_t slot = d->heap[0].slot, len = --d->heap_len, i = 0;
    struct due last = d->heap[len];
    for (;;) {
        uint32_t kid = 2 * i + 1;
        if (kid >= len)
            break;
        if (kid + 1 < len && before(&d->heap[kid + 1], &d->heap[kid]))
            kid++;
        if (!before(&d->heap[kid], &last))
            break;
        d->heap[i] = d->heap[kid];
        i = kid;
    }
    d->heap[i] = last;
    return slot;
}

// ---- the link itself

// The packet joins the bottleneck's queue. Returns when it leaves, or NEVER: the queue is full.
static uint64_t bottleneck(struct direction *d, uint64_t now, uint32_t len)
{
    while (d->departures_len > 0 && d->departures[d->departures_head] <= now) {
        d->departures_head = (d->departures_head + 1) % slots;
        d->departures_len--;
    }
    if (d->set.rate <= 0)
        return now;
    if (d->departures_len >= (uint32_t)d->set.queue || d->departures_len == slots)
        return NEVER;
    uint64_t start = d->free_ns > now ? d->free_ns : now;
    double service_ns = (double)len * NS_PER_S / d->set.rate;
    d->free_ns = start + (uint64_t)(service_ns < 1e13 ? service_ns : 1e13); // 1e6 packets in the queue cannot wrap it
    d->departures[(d->departures_head + d->departures_len++) % slots] = d->free_ns;
    return d->free_ns;
}

static void delay(struct direction *d, uint64_t now, uint64_t left, double jitter, bool reorder, uint32_t slot)
{
    uint64_t at = left + (uint64_t)((d->set.delay_ms + d->set.jitter_ms * jitter) * NS_PER_MS);
    if (reorder) {
        at += (uint64_t)(d->set.reorder_ms * NS_PER_MS);
        d->n.reordered++;
    } else if (d->set.jitter_reorders == 0) {
        if (at < d->floor_ns)
            at = d->floor_ns;
        d->floor_ns = at;
    }
    d->n.delay_us += (at - now) / 1000;
    heap_push(d, at, slot);
}

// One packet that came in lies in `slot`. Returns whether the slot is taken (due later); if not, it is free again.
static bool admit(struct direction *d, uint64_t now, uint32_t slot)
{
    double dice[DRAWS];
    for (int i = 0; i < DRAWS; i++)
        dice[i] = roll(d);
    if (d->bad ? dice[D_BURST_STATE] < d->set.burst_leave : dice[D_BURST_STATE] < d->set.burst_enter)
        d->bad = !d->bad;

    uint64_t left = bottleneck(d, now, d->len[slot]);
    if (left == NEVER) {
        d->n.queue_dropped++;
        return false;
    }
    if (dice[D_LOSS] < d->set.loss) {
        d->n.lost++;
        return false;
    }
    if (d->bad && dice[D_BURST_LOSS] < d->set.burst_loss) {
        d->n.lost++;
        d->n.burst_lost++;
        return false;
    }
    delay(d, now, left, dice[D_JITTER], dice[D_REORDER] < d->set.reorder, slot);
    if (dice[D_DUP] < d->set.dup) {
        d->n.duplicated++;
        if (d->free_len == 0) {
            d->n.pool_dropped++;
            return true;
        }
        uint32_t copy = d->free[--d->free_len];
        memcpy(d->bytes + (size_t)copy * packet_bytes, d->bytes + (size_t)slot * packet_bytes, d->len[slot]);
        d->len[copy] = d->len[slot];
        d->client[copy] = d->client[slot];
        d->client_gen[copy] = d->client_gen[slot];
        delay(d, now, left, dice[D_DUP_JITTER], dice[D_DUP_REORDER] < d->set.reorder, copy);
    }
    return true;
}

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
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uint64_t)c->gen << 32 | (FIRST_CLIENT + index)};
    buffers(fd);
    if (connect(fd, (struct sockaddr *)&target, target_len) != 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
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
    static struct mmsghdr msgs[BATCH];
    static struct iovec iov[BATCH];
    static struct sockaddr_storage addr[BATCH];

    for (int turn = 0; turn < BATCHES_PER_TURN; turn++) {
        for (int i = 0; i < BATCH; i++) {
            iov[i] = (struct iovec){d->bytes + (size_t)d->landing[i] * packet_bytes, packet_bytes};
            msgs[i].msg_hdr = (struct msghdr){.msg_name = from == NONE ? &addr[i] : NULL,
                                              .msg_namelen = from == NONE ? sizeof addr[i] : 0,
                                              .msg_iov = &iov[i],
                                              .msg_iovlen = 1};
        }
        int got = recvmmsg(fd, msgs, BATCH, MSG_DONTWAIT, NULL);
        if (got < 0) {
            if (errno == ECONNREFUSED) {
                dirs[UP].n.refused++;
                continue;
            }
            return;
        }
        uint64_t now = now_ns();
        for (int i = 0; i < got; i++) {
            uint32_t slot = d->landing[i];
            d->n.received++;
            d->n.received_bytes += msgs[i].msg_len;
            if (d->blackhole) {
                d->n.blackholed++;
                continue;
            }
            if (msgs[i].msg_hdr.msg_flags & MSG_TRUNC) {
                d->n.oversize++;
                continue;
            }
            uint32_t client = from == NONE ? client_of(&addr[i]) : from;
            if (client == NONE) {
                d->n.orphaned++;
                continue;
            }
            if (d->free_len == 0) { // checked before the dice: the landing slot must have a successor
                d->n.pool_dropped++;
                continue;
            }
            touch(client);
            d->len[slot] = msgs[i].msg_len;
            d->client[slot] = client;
            d->client_gen[slot] = clients[client].gen;
            uint32_t next = d->free[--d->free_len];
            if (admit(d, now, slot))
                d->landing[i] = next;
            else
                d->free[d->free_len++] = next;
        }
        if (got < BATCH)
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
                d->n.sent_bytes += d->len[sent_slots[done + (unsigned)i]];
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
        d->free[d->free_len++] = sent_slots[i];
}

static void send_due(struct direction *d)
{
    static struct mmsghdr msgs[BATCH];
    static struct iovec iov[BATCH];
    uint32_t batch[BATCH];
    unsigned len = 0;
    int fd = -1;

    if (d->heap_len == 0)
        return;
    uint64_t now = now_ns();
    while (d->heap_len > 0 && d->heap[0].at_ns <= now) {
        uint64_t late_us = (now - d->heap[0].at_ns) / 1000;
        uint32_t slot = heap_pop(d);
        struct client *c = &clients[d->client[slot]];
        if (d->blackhole || c->gen != d->client_gen[slot]) {
            *(d->blackhole ? &d->n.blackholed : &d->n.orphaned) += 1;
            d->free[d->free_len++] = slot;
            continue;
        }
        if (late_us > d->n.late_max_us)
            d->n.late_max_us = late_us;
        int through = d == &dirs[UP] ? c->fd : listener;
        if (len == BATCH || (len > 0 && through != fd)) {
            flush(d, fd, msgs, batch, len);
            len = 0;
        }
        fd = through;
        batch[len] = slot;
        iov[len] = (struct iovec){d->bytes + (size_t)slot * packet_bytes, d->len[slot]};
        msgs[len].msg_hdr = (struct msghdr){.msg_name = d == &dirs[UP] ? NULL : &c->addr,
                                            .msg_namelen = d == &dirs[UP] ? 0 : local_len,
                                            .msg_iov = &iov[len],
                                            .msg_iovlen = 1};
        len++;
    }
    if (len > 0)
        flush(d, fd, msgs, batch, len);
}

// ---- words from outside

static void put(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; // nobody reads: not our loss
        text += n;
        len -= (size_t)n;
    }
}

static void print_stats(void)
{
    uint64_t dropped[2] = {dirs[UP].n.kernel_dropped + kernel_drops(listener), dirs[DOWN].n.kernel_dropped};
    uint32_t alive = 0;
    for (uint32_t i = newest; i != NONE; i = clients[i].older, alive++)
        dropped[DOWN] += kernel_drops(clients[i].fd);

    static char text[4096];
    int len = snprintf(text, sizeof text, "{");
    for (int w = UP; w <= DOWN; w++) {
        const struct counts *n = &dirs[w].n;
        const struct {
            const char *name;
            uint64_t value;
        } fields[] = {
            {"received", n->received},           {"lost", n->lost},
            {"duplicated", n->duplicated},       {"reordered", n->reordered},
            {"queue_dropped", n->queue_dropped}, {"sent", n->sent},
            {"held", dirs[w].heap_len},          {"burst_lost", n->burst_lost},
            {"blackholed", n->blackholed},       {"pool_dropped", n->pool_dropped},
            {"oversize", n->oversize},           {"orphaned", n->orphaned},
            {"send_failed", n->send_failed},     {"refused", n->refused},
            {"kernel_dropped", dropped[w]},      {"received_bytes", n->received_bytes},
            {"sent_bytes", n->sent_bytes},       {"delay_us", n->delay_us},
            {"late_max_us", n->late_max_us},
        };
        len += snprintf(text + len, sizeof text - (size_t)len, "\"%s\": {", NAMES[w]);
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            len += snprintf(text + len, sizeof text - (size_t)len, "%s\"%s\": %" PRIu64, i ? ", " : "", fields[i].name,
                            fields[i].value);
        len += snprintf(text + len, sizeof text - (size_t)len, "}, ");
    }
    len +=
        snprintf(text + len, sizeof text - (size_t)len,
                 "\"clients\": %" PRIu32 ", \"evicted\": %" PRIu64 ", \"seed\": %" PRIu64 "}\n", alive, evicted, seed);
    put(text, (size_t)len);
}

// Sets `[up-|down-]name`, in both directions without prefix. Returns NULL, or what is wrong.
static const char *apply(const char *name, const char *value)
{
    bool in[2] = {true, true};
    for (int w = UP; w <= DOWN; w++) {
        size_t len = strlen(NAMES[w]);
        if (strncmp(name, NAMES[w], len) == 0 && name[len] == '-') {
            in[!w] = false;
            name += len + 1;
            break;
        }
    }
    for (size_t i = 0; i < sizeof SETTINGS / sizeof *SETTINGS; i++) {
        const struct setting *s = &SETTINGS[i];
        double parsed[3];
        char *end;
        if (strcmp(name, s->name) != 0)
            continue;
        for (int v = 0; v < s->values; v++) {
            parsed[v] = strtod(value, &end);
            if (end == value || *end != (v + 1 < s->values ? ',' : '\0'))
                return s->values > 1 ? "wants three numbers: ENTER,LEAVE,LOSS" : "wants a number";
            if (!(parsed[v] >= s->min && parsed[v] <= s->max)) // written so that NaN is refused
                return "out of range";
            value = end + 1;
        }
        for (int w = UP; w <= DOWN; w++)
            if (in[w]) {
                memcpy((char *)&dirs[w].set + s->offset, parsed, (size_t)s->values * sizeof *parsed);
                dirs[w].floor_ns = 0; // what is under way keeps its time; what follows need not wait for it
                if (s->offset == offsetof(struct impairments, burst_enter) && parsed[0] == 0)
                    dirs[w].bad = false;
                if (s->offset == offsetof(struct impairments, rate))
                    dirs[w].free_ns = dirs[w].departures_len = 0;
            }
        return NULL;
    }
    return "no such setting";
}

// Returns false on `quit`. Each other command is answered by one line.
static bool command(char *line)
{
    char *rest = NULL, *word = strtok_r(line, " \t\r", &rest);
    char *a = word ? strtok_r(NULL, " \t\r", &rest) : NULL, *b = a ? strtok_r(NULL, " \t\r", &rest) : NULL;
    const char *wrong = NULL;

    if (!word)
        return true;
    if (strcmp(word, "quit") == 0)
        return false;
    if (strcmp(word, "stats") == 0) {
        print_stats();
        return true;
    }
    if (strcmp(word, "blackhole") == 0) {
        bool on = a && strcmp(a, "on") == 0;
        if (!a || (!on && strcmp(a, "off") != 0) || (b && strcmp(b, "up") != 0 && strcmp(b, "down") != 0))
            wrong = "wants on|off [up|down]";
        else
            for (int w = UP; w <= DOWN; w++)
                if (!b || strcmp(b, NAMES[w]) == 0)
                    dirs[w].blackhole = on;
    } else if (strcmp(word, "set") == 0) {
        wrong = a && b ? apply(a, b) : "wants NAME VALUE";
    } else {
        wrong = "no such command (stats, set, blackhole, quit)";
    }
    char text[256];
    int len = wrong ? snprintf(text, sizeof text, "error %.64s %.64s: %s\n", word, a ? a : "", wrong)
                    : snprintf(text, sizeof text, "ok\n");
    put(text, (size_t)len);
    return true;
}

// Returns false when the link shall end: quit, or the other end of stdin is gone.
static bool read_commands(void)
{
    static char buffer[4096];
    static size_t len;
    ssize_t got = read(STDIN_FILENO, buffer + len, sizeof buffer - len);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN;
    if (got == 0)
        return false;
    len += (size_t)got;
    for (char *end; (end = memchr(buffer, '\n', len)) != NULL;) {
        size_t line = (size_t)(end - buffer) + 1;
        *end = '\0';
        if (!command(buffer))
            return false;
        memmove(buffer, buffer + line, len - line);
        len -= line;
    }
    if (len == sizeof buffer)
        len = 0; // a line too long to be ours
    return true;
}

// ---- the loop

struct seen {
    bool packets, words, signal;
};

static struct seen turn(int timeout_ms)
{
    struct epoll_event events[EVENTS];
    struct seen seen = {0};
    int n = epoll_wait(epoll, events, EVENTS, timeout_ms);
    for (int i = 0; i < n; i++) {
        uint32_t what = (uint32_t)events[i].data.u64, gen = (uint32_t)(events[i].data.u64 >> 32);
        if (what == EV_STDIN) {
            seen.words = true;
        } else if (what == EV_SIGNAL) {
            seen.signal = true;
        } else if (what == EV_LISTENER) {
            seen.packets = true;
            receive(&dirs[UP], listener, NONE);
        } else if (what >= FIRST_CLIENT && clients[what - FIRST_CLIENT].gen == gen) {
            seen.packets = true;
            receive(&dirs[DOWN], clients[what - FIRST_CLIENT].fd, what - FIRST_CLIENT);
        }
    }
    send_due(&dirs[UP]);
    send_due(&dirs[DOWN]);
    return seen;
}

static void run(void)
{
    uint64_t armed = NEVER;
    for (;;) {
        uint64_t next = NEVER;
        for (int w = UP; w <= DOWN; w++)
            if (dirs[w].heap_len > 0 && dirs[w].heap[0].at_ns < next)
                next = dirs[w].heap[0].at_ns;
        bool late = next <= now_ns();
        if (next != NEVER)
            next += slack_ns;
        if (!late && next != armed) { // an expired timer is not re-read: it is edge-triggered, and `next` differs then
            struct itimerspec at = {0};
            if (next != NEVER)
                at.it_value = (struct timespec){(time_t)(next / NS_PER_S), (long)(next % NS_PER_S)};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
            armed = next;
        }
        struct seen seen = turn(late ? 0 : -1);
        if (!seen.words && !seen.signal)
            continue;
        for (int i = 0; i < SETTLE_TURNS && turn(0).packets; i++)
            ;
        if (seen.signal || !read_commands())
            return;
    }
}

static void watch(int fd, uint64_t what, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.u64 = what};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

// ---- the start

static const char USAGE[] =
    "usage: lossylink --target HOST:PORT [options]\n"
    "A UDP relay on loopback that behaves like a bad network. Prints `port N` when ready, and counts as JSON at its "
    "end.\n"
    "  --listen HOST:PORT      default 127.0.0.1:0, or [::1]:0 if the target is IPv6\n"
    "  --seed N                of all random decisions (1)\n"
    "  --clients N             client addresses at a time; the one idle longest goes first (4096)\n"
    "  --slots N               packets under way per direction (65536)\n"
    "  --packet-bytes N        the longest packet passed on (2048)\n"
    "  --buffer-bytes N        of each socket, each way; a burst that does not fit is kernel_dropped (4194304)\n"
    "  --slack-us N            due packets may be sent this much later, in one batch: less CPU (0)\n"
    "Both directions, or one with --up-... (to the target) or --down-...; the last one said counts:\n"
    "  --delay-ms D            one way (0)\n"
    "  --jitter-ms J           more delay, uniform in 0..J (0); keeps order, unless\n"
    "  --jitter-reorders 0|1   packets overtake each other by jitter, as under netem (0)\n"
    "  --loss P                probability (0)\n"
    "  --burst-loss E,L,P      Gilbert-Elliott: into the bad state, out of it, loss while in it (0,1,0)\n"
    "  --dup P                 probability (0)\n"
    "  --reorder P             probability of being held back for --reorder-ms (10) on top\n"
    "  --rate BYTES_PER_S      of UDP payload; 0 is no limit (0)\n"
    "  --queue PKTS            before the rate limit; what comes on top is dropped (1000)\n"
    "Commands on stdin, a line each: stats | set [up-|down-]NAME VALUE | blackhole on|off [up|down] | quit\n"
    "Ends on quit, SIGTERM, SIGINT, and when stdin (a pipe or a terminal) ends; with stdin from /dev/null it goes "
    "on.\n";

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

static uint64_t whole(const char *name, const char *value, uint64_t min, uint64_t max)
{
    char *end;
    errno = 0;
    uint64_t n = strtoull(value, &end, 0);
    if (errno || end == value || *end || *value == '-' || n < min || n > max)
        die("--%s %s: want a whole number, %" PRIu64 " to %" PRIu64, name, value, min, max);
    return n;
}

static void parse(int argc, char **argv)
{
    const char *listen_text = NULL;
    for (int w = UP; w <= DOWN; w++)
        dirs[w].set = (struct impairments){.reorder_ms = 10, .burst_leave = 1, .queue = 1000};
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1], *wrong;
        if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
            fputs(USAGE, stdout);
            exit(0);
        }
        if (strncmp(name, "--", 2) != 0 || !value)
            die("%s: %s (see --help)", name, value ? "not an option" : "its value is missing");
        name += 2;
        if (strcmp(name, "target") == 0)
            resolve(value, &target, &target_len);
        else if (strcmp(name, "listen") == 0)
            listen_text = value;
        else if (strcmp(name, "seed") == 0)
            seed = whole(name, value, 0, UINT64_MAX);
        else if (strcmp(name, "clients") == 0)
            clients_max = (uint32_t)whole(name, value, 1, 1 << 20);
        else if (strcmp(name, "slots") == 0)
            slots = (uint32_t)whole(name, value, 2 * BATCH, 1 << 24);
        else if (strcmp(name, "packet-bytes") == 0)
            packet_bytes = (uint32_t)whole(name, value, 1, 65536);
        else if (strcmp(name, "buffer-bytes") == 0)
            buffer_bytes = (uint32_t)whole(name, value, 4096, 1 << 29); // the kernel doubles it, and counts in int
        else if (strcmp(name, "slack-us") == 0)
            slack_ns = 1000 * whole(name, value, 0, 1000000);
        else if ((wrong = apply(name, value)) != NULL)
            die("--%s %s: %s (see --help)", name, value, wrong);
    }
    if (!target_len)
        die("--target HOST:PORT is missing (see --help)");
    resolve(listen_text ? listen_text : target.ss_family == AF_INET6 ? "[::1]:0" : "127.0.0.1:0", &local, &local_len);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    for (unsigned w = UP; w <= DOWN; w++)
        direction_init(&dirs[w], w);
    clients = reserve(clients_max, sizeof *clients);
    memset(buckets, 0xff, sizeof buckets); // NONE

    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);

    // Signals are read like packets: nothing runs in a handler.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    signal(SIGTERM, SIG_DFL); // an inherited "ignore" would keep them from the signalfd
    signal(SIGINT, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    listener = socket(local.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (epoll < 0 || timer < 0 || signal_fd < 0 || listener < 0)
        die("cannot open descriptors: %s", strerror(errno));
    buffers(listener);
    if (bind(listener, (struct sockaddr *)&local, local_len) != 0 ||
        getsockname(listener, (struct sockaddr *)&local, &local_len) != 0)
        die("cannot bind: %s", strerror(errno));
    watch(listener, EV_LISTENER, EPOLLIN);
    watch(signal_fd, EV_SIGNAL, EPOLLIN);
    watch(timer, EV_TIMER, EPOLLIN | EPOLLET);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = EV_STDIN};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &ev) != 0 &&
        errno != EPERM) // EPERM: /dev/null or a file; it tells us nothing
        die("stdin: %s", strerror(errno));

    char text[32];
    in_port_t port = local.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&local)->sin6_port
                                                 : ((struct sockaddr_in *)&local)->sin_port;
    put(text, (size_t)snprintf(text, sizeof text, "port %d\n", ntohs(port)));
    run();
    print_stats();
    return 0;
}
