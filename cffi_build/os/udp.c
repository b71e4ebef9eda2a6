/* SPDX-License-Identifier: MIT */
#include "os/udp.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/checks.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

#if defined(__linux__) && !defined(KS_PLAIN)
#define HAVE_BATCHES 1
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <netinet/udp.h>
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#else
#define HAVE_BATCHES 0
#endif

#define RX_BYTES 65536u
#define GSO_BYTES_MAX 65000u /* an IP packet's 65,535 less headers, with room to spare */
#define GSO_PACKETS_MAX 64u
#define CONTROL_BYTES 128u
#define GSO_REFUSED_MAX 64u /* runs in a row, then for good */
/* How long a full socket buffer may hold the engine up: that long is a real link's back-pressure, longer is loss. */
#define FULL_WAIT_MS 2

/* ---- addresses ---- */

socklen_t ks_addr_len(const ks_addr *a)
{
    return a->sa.sa_family == AF_INET6 ? sizeof a->in6 : sizeof a->in4;
}

bool ks_addr_equal(const ks_addr *a, const ks_addr *b)
{
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_INET6)
        return a->in6.sin6_port == b->in6.sin6_port && a->in6.sin6_scope_id == b->in6.sin6_scope_id &&
               memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof a->in6.sin6_addr) == 0;
    return a->in4.sin_port == b->in4.sin_port && a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr;
}

uint64_t ks_addr_hash(const ks_addr *a)
{
    if (a->sa.sa_family != AF_INET6)
        return ks_mix((uint64_t)a->in4.sin_addr.s_addr << 16 | a->in4.sin_port);
    uint64_t half[2];
    memcpy(half, &a->in6.sin6_addr, sizeof half);
    return ks_mix(half[0] ^ ks_mix(half[1] ^ ks_mix(a->in6.sin6_port)));
}

/* ---- set-up ---- */

int ks_udp_rx_init(ks_udp_rx *rx)
{
    rx->space = ks_alloc(KS_UDP_RX_BUFFERS * RX_BYTES);
    return rx->space == NULL ? KS_ENOMEM : KS_OK;
}

void ks_udp_rx_free(ks_udp_rx *rx)
{
    ks_free(rx->space);
    rx->space = NULL;
}

static void set_int(int fd, int level, int name, int value)
{
    /* Wishes, not needs: a kernel that refuses one still carries packets. */
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

static bool is_wildcard(const ks_addr *a)
{
    if (a->sa.sa_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
    return a->in4.sin_addr.s_addr == htonl(INADDR_ANY);
}

int ks_udp_set_dscp(ks_udp *u, int dscp)
{
    int tos = dscp << 2;
    bool six = u->family == AF_INET6;
    return setsockopt(u->fd, six ? IPPROTO_IPV6 : IPPROTO_IP, six ? IPV6_TCLASS : IP_TOS, &tos, sizeof tos) < 0 ? -errno : 0;
}

void ks_udp_ignore_path_mtu(ks_udp *u, bool whole)
{
#if defined(__linux__)
    /* Both families: a socket of IPv6's may send IPv4. */
    set_int(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, whole ? IP_PMTUDISC_PROBE : IP_PMTUDISC_OMIT);
    if (u->family == AF_INET6)
        set_int(u->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, whole ? IPV6_PMTUDISC_PROBE : IPV6_PMTUDISC_OMIT);
#else
#ifdef IP_DONTFRAG
    set_int(u->fd, IPPROTO_IP, IP_DONTFRAG, whole);
#endif
#ifdef IPV6_DONTFRAG
    if (u->family == AF_INET6)
        set_int(u->fd, IPPROTO_IPV6, IPV6_DONTFRAG, whole);
#endif
    (void)u;
    (void)whole;
#endif
}

void ks_udp_ignore_path_mtu_v4(ks_udp *u)
{
#if defined(__linux__)
    set_int(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT);
#else
    (void)u;
#endif
}

int ks_udp_init(ks_udp *u, int fd, ks_udp_way way, int sockbuf_bytes, int dscp)
{
    ks_addr name;
    socklen_t len = sizeof name;
    memset(u, 0, sizeof *u);
    u->fd = fd;
    int fl = fcntl(fd, F_GETFL);
    if (fl < 0 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0 || getsockname(fd, &name.sa, &len) < 0)
        return -errno;
    u->family = name.sa.sa_family;
    ks_addr peer;
    len = sizeof peer;
    u->connected = getpeername(fd, &peer.sa, &len) == 0;
    set_int(fd, SOL_SOCKET, SO_RCVBUF, sockbuf_bytes);
    set_int(fd, SOL_SOCKET, SO_SNDBUF, sockbuf_bytes);
    if (dscp > 0)
        (void)ks_udp_set_dscp(u, dscp);
#if HAVE_BATCHES
    u->pktinfo = !u->connected && is_wildcard(&name);
    if (u->pktinfo && u->family == AF_INET6)
        set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    else if (u->pktinfo)
        set_int(fd, IPPROTO_IP, IP_PKTINFO, 1);
    set_int(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
    int quotes = 1;
    u->quotes = u->connected && setsockopt(fd, IPPROTO_IP, IP_RECVERR, &quotes, sizeof quotes) == 0 &&
                (u->family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &quotes, sizeof quotes) == 0);
    u->way = way == KS_UDP_WAY_AUTO ? KS_UDP_WAY_GSO : way;
    int on = 1;
    if (u->way == KS_UDP_WAY_GSO && setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on) < 0)
        u->way = KS_UDP_WAY_MMSG;
#else
    (void)way;
    u->way = KS_UDP_WAY_PLAIN;
#endif
    return 0;
}

static int connect_self(int fd)
{
    ks_addr name;
    socklen_t len = sizeof name;
    memset(&name, 0, sizeof name);
    if (getsockname(fd, &name.sa, &len) < 0)
        return -errno;
    if (is_wildcard(&name) && name.sa.sa_family == AF_INET6)
        name.in6.sin6_addr = in6addr_loopback;
    else if (is_wildcard(&name))
        name.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(fd, &name.sa, len) < 0 ? -errno : 0;
}

/* Binds a socket to a device that does not exist: no packet finds it, and its address stays its own, a wildcard too. */
static int bind_to_no_device(int fd)
{
#if HAVE_BATCHES && defined(SO_BINDTOIFINDEX)
    int none = INT_MAX;
    return setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &none, sizeof none) < 0 ? -errno : 0;
#else
    (void)fd;
    return -EOPNOTSUPP;
#endif
}

/* The device that a socket is bound to, by an option or a link-local address; 0: none. */
static int device_of(int fd)
{
    int device = 0;
#if HAVE_BATCHES && defined(SO_BINDTOIFINDEX)
    socklen_t len = sizeof device;
    if (getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &device, &len) < 0)
        return 0;
#else
    (void)fd;
#endif
    return device;
}

/* On Linux this also takes the device off a socket, for which an option would need a privilege. */
static void disconnect(int fd)
{
    struct sockaddr none;
    memset(&none, 0, sizeof none);
    none.sa_family = AF_UNSPEC;
    (void)connect(fd, &none, sizeof none);
}

int ks_udp_hide(int fd)
{
    if (device_of(fd) == 0 && bind_to_no_device(fd) == 0)
        return 0;
    /* With a device of its own, and on systems that can't hide it: a wildcard becomes one address by this. */
    int error = connect_self(fd);
    if (error == 0)
        return 0;
    disconnect(fd); /* the device has no route to that address */
    return bind_to_no_device(fd) == 0 ? 0 : error;
}

bool ks_udp_is_v6only(int fd)
{
    int on = 0;
    socklen_t len = sizeof on;
    return getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, &len) == 0 && on != 0;
}

void ks_udp_allow_beside(int fd)
{
    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

static void copy_options(int from, int to, bool six)
{
    static const struct {
        int level, name;
        bool six;
    } options[] = {
        {IPPROTO_IP, IP_TOS, false},
        {IPPROTO_IP, IP_TTL, false},
        {IPPROTO_IPV6, IPV6_V6ONLY, true},
        {IPPROTO_IPV6, IPV6_TCLASS, true},
        {IPPROTO_IPV6, IPV6_UNICAST_HOPS, true},
#ifdef __linux__
        {SOL_SOCKET, SO_PRIORITY, false},
        {SOL_SOCKET, SO_MARK, false},
        {IPPROTO_IP, IP_FREEBIND, false},
        {IPPROTO_IP, IP_TRANSPARENT, false},
#endif
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        int value = 0, now = 0;
        socklen_t len = sizeof value, now_len = sizeof now;
        if ((options[i].six && !six) || getsockopt(from, options[i].level, options[i].name, &value, &len) < 0 ||
            getsockopt(to, options[i].level, options[i].name, &now, &now_len) < 0 || value == now)
            continue;
        set_int(to, options[i].level, options[i].name, value);
    }
}

/* A socket belongs to the network namespace of the thread that makes it, which need not be that of the one it was made for. */
static bool are_on_one_host(int a, int b)
{
#if HAVE_BATCHES && defined(SO_NETNS_COOKIE)
    uint64_t mine = 0, other = 0;
    socklen_t len = sizeof mine, other_len = sizeof other;
    return getsockopt(a, SOL_SOCKET, SO_NETNS_COOKIE, &mine, &len) < 0 ||
           getsockopt(b, SOL_SOCKET, SO_NETNS_COOKIE, &other, &other_len) < 0 || mine == other;
#else
    (void)a;
    (void)b;
    return true;
#endif
}

int ks_udp_split(int fd, const ks_addr *local, const ks_addr *peer)
{
    bool six = local->sa.sa_family == AF_INET6;
    int own = socket(local->sa.sa_family, SOCK_DGRAM, 0);
    int error = own < 0 || fcntl(own, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
    if (error == 0 && !are_on_one_host(fd, own))
        error = -EXDEV;
    if (error == 0) {
        copy_options(fd, own, six);
#if HAVE_BATCHES && defined(SO_BINDTOIFINDEX)
        if (device_of(fd) != 0)
            set_int(own, SOL_SOCKET, SO_BINDTOIFINDEX, device_of(fd));
#endif
        ks_udp_allow_beside(own);
        if (bind(own, &local->sa, ks_addr_len(local)) < 0 || connect(own, &peer->sa, ks_addr_len(peer)) < 0)
            error = -errno;
    }
    if (error < 0 && own >= 0)
        (void)close(own);
    return error < 0 ? error : own;
}

/* -> its family, 0: unknown */
static sa_family_t address_of(int fd, ks_addr *address)
{
    socklen_t len = sizeof *address;
    memset(address, 0, sizeof *address);
    if (getsockname(fd, &address->sa, &len) < 0)
        return 0;
    if (address->sa.sa_family == AF_INET6)
        address->in6.sin6_port = 0;
    else
        address->in4.sin_port = 0;
    return address->sa.sa_family;
}

static bool have_one_address(int a, int b)
{
    ks_addr one, other;
    return address_of(a, &one) != 0 && address_of(b, &other) != 0 && ks_addr_equal(&one, &other);
}

bool ks_udp_has_lost_address(int fd)
{
    ks_addr address;
    sa_family_t family = address_of(fd, &address);
    int other = family != 0 ? socket(family, SOCK_DGRAM, 0) : -1;
    if (other < 0)
        return false;
    bool lost = are_on_one_host(fd, other) && bind(other, &address.sa, ks_addr_len(&address)) < 0 && errno == EADDRNOTAVAIL;
    (void)close(other);
    return lost;
}

int ks_udp_renew(int fd, const ks_addr *peer)
{
    bool six = peer->sa.sa_family == AF_INET6;
    int own = socket(peer->sa.sa_family, SOCK_DGRAM, 0);
    int error = own < 0 || fcntl(own, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
    if (error == 0 && !are_on_one_host(fd, own))
        error = -EXDEV;
    if (error == 0) {
        copy_options(fd, own, six);
        if (connect(own, &peer->sa, ks_addr_len(peer)) < 0)
            error = -errno;
    }
    if (error == 0 && have_one_address(fd, own))
        error = -EALREADY;
    if (error < 0 && own >= 0)
        (void)close(own);
    return error < 0 ? error : own;
}

bool ks_udp_spreads(void)
{
    return HAVE_BATCHES;
}

int ks_udp_shut_out(int fd)
{
#if HAVE_BATCHES
    struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog all = {.len = 1, .filter = &drop};
    uint8_t byte;
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof all) < 0)
        return -errno;
    while (recv(fd, &byte, 1, MSG_DONTWAIT) >= 0 || errno == EINTR)
        ;
    return 0;
#else
    (void)fd;
    return -EOPNOTSUPP;
#endif
}

int ks_udp_let_in(int fd)
{
#if HAVE_BATCHES
    int unused = 0;
    return setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) < 0 ? -errno : 0;
#else
    (void)fd;
    return -EOPNOTSUPP;
#endif
}

/* ---- one call a packet ---- */

static int recv_plain(ks_udp *u, ks_udp_rx *rx, ks_udp_packet *packet, void *ctx, ks_counters *count, bool *drained)
{
    int n = 0;
    *drained = false;
    for (; n < (int)KS_UDP_RX_BUFFERS; n++) {
        ks_addr from;
        socklen_t len = sizeof from;
        memset(&from, 0, sizeof from);
        ssize_t size = recvfrom(u->fd, rx->space, RX_BYTES, 0, &from.sa, &len);
        if (size < 0) {
            *drained = errno == EAGAIN || errno == EWOULDBLOCK;
            return n > 0 || *drained || errno == EINTR ? n : -errno;
        }
        count->in_pkts++;
        count->in_bytes += (uint64_t)size;
        packet(ctx, &from, NULL, rx->space, (size_t)size);
    }
    return n;
}

bool ks_udp_is_refusal(int error)
{
    return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH;
}

int ks_udp_take_refusal(ks_udp *u, uint8_t *quoted, size_t room, size_t *size)
{
#if HAVE_BATCHES
    while (u->quotes) {
        union {
            struct cmsghdr align;
            uint8_t bytes[512];
        } space;
        struct iovec iov = {quoted, room};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &space, .msg_controllen = sizeof space};
        ssize_t n = recvmsg(u->fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
            struct sock_extended_err e;
            bool four = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
            bool six = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
            if ((!four && !six) || c->cmsg_len < CMSG_LEN(sizeof e))
                continue;
            memcpy(&e, CMSG_DATA(c), sizeof e);
            *size = (size_t)n < room ? (size_t)n : room;
            if (ks_udp_is_refusal((int)e.ee_errno) && (e.ee_origin == SO_EE_ORIGIN_ICMP || e.ee_origin == SO_EE_ORIGIN_ICMP6))
                return (int)e.ee_errno;
        }
    }
#endif
    (void)u, (void)quoted, (void)room, (void)size;
    return 0;
}

/* What to do about a send that failed: try again, drop this message, or fall back. */
typedef enum { AGAIN, DROP, FALL_BACK } verdict;

/* What this call has met so far. */
typedef struct {
    int waited, stale;
    int result;
} meeting;

/* Our address has gone, or the way to the peer. */
static bool is_no_way(int error)
{
    return error == EINVAL || error == ENETUNREACH || error == EHOSTUNREACH || error == EADDRNOTAVAIL || error == ENETDOWN ||
           error == ENODEV;
}

static verdict judge(ks_udp *u, int error, meeting *met)
{
    if (error == EINTR)
        return AGAIN;
    if (error == ECONNREFUSED) {
        met->result = -ECONNREFUSED; /* an earlier packet's; this one was not sent */
        return AGAIN;
    }
    /* As is, on a connected socket, what else ICMP says of the way: too long, no route. It comes once. */
    bool may_be_stale = error == EMSGSIZE || error == EHOSTUNREACH || error == ENETUNREACH || error == EACCES || error == EPROTO;
    if (may_be_stale && u->connected && met->stale++ == 0)
        return AGAIN;
    u->no_way |= u->connected && is_no_way(error);
    if ((error == EAGAIN || error == EWOULDBLOCK) && met->waited++ == 0) {
        struct pollfd p = {.fd = u->fd, .events = POLLOUT};
        (void)poll(&p, 1, FULL_WAIT_MS);
        return AGAIN;
    }
    if ((error == EIO || error == EINVAL || error == EMSGSIZE) && u->way == KS_UDP_WAY_GSO)
        return FALL_BACK;
    u->too_long |= error == EMSGSIZE;
    return DROP;
}

static int send_plain(ks_udp *u, const ks_datagram *d, size_t n, ks_counters *count)
{
    meeting met = {0};
    for (size_t i = 0; i < n;) {
        ssize_t sent = sendto(u->fd, d[i].data, d[i].size, 0, d[i].to != NULL ? &d[i].to->sa : NULL,
                              d[i].to != NULL ? ks_addr_len(d[i].to) : 0);
        if (sent >= 0) {
            count->out_pkts++;
            count->out_bytes += d[i].size;
            i++;
            met.stale = 0;
        } else if (judge(u, errno, &met) == DROP) {
            count->udp_send_drops++;
            i++;
        }
    }
    return met.result;
}

/* ---- batches ---- */

#if HAVE_BATCHES

typedef union {
    struct cmsghdr align;
    uint8_t bytes[CONTROL_BYTES];
} control;

static void add_cmsg(struct msghdr *m, int level, int type, const void *data, size_t size)
{
    struct cmsghdr *c = (struct cmsghdr *)(void *)((uint8_t *)m->msg_control + m->msg_controllen);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), data, size);
    m->msg_controllen += CMSG_SPACE(size);
    KS_ASSERT(m->msg_controllen <= CONTROL_BYTES);
}

static void add_source(struct msghdr *m, const ks_addr *from)
{
    if (from->sa.sa_family == AF_INET6) {
        struct in6_pktinfo info = {.ipi6_addr = from->in6.sin6_addr, .ipi6_ifindex = from->in6.sin6_scope_id};
        add_cmsg(m, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    } else if (from->sa.sa_family == AF_INET) {
        struct in_pktinfo info = {.ipi_spec_dst = from->in4.sin_addr};
        add_cmsg(m, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    }
}

static size_t run_length(const ks_udp *u, const ks_datagram *d, size_t n)
{
    if (u->way != KS_UDP_WAY_GSO)
        return 1;
    KS_ASSERT(n > 0);
    size_t run = 1, bytes = d[0].size;
    /* Equal sizes to one peer; a shorter one ends the run. */
    while (run < n && run < GSO_PACKETS_MAX && d[run - 1].size == d[0].size && d[run].size <= d[0].size &&
           d[run].to == d[0].to && bytes + d[run].size <= GSO_BYTES_MAX)
        bytes += d[run++].size;
    KS_ASSERT(run <= n && bytes <= GSO_BYTES_MAX);
    return run;
}

static int send_batches(ks_udp *u, const ks_datagram *d, size_t n, ks_counters *count)
{
    struct mmsghdr msgs[KS_UDP_BATCH];
    struct iovec iov[KS_UDP_BATCH];
    control ctl[KS_UDP_BATCH];
    size_t first[KS_UDP_BATCH + 1];
    meeting met = {0};
    size_t singly = 0; /* packets before it go without GSO: their run was refused */
    for (size_t done = 0; done < n;) {
        unsigned used = 0;
        size_t i = done;
        while (i < n && i - done < KS_UDP_BATCH) {
            size_t room = KS_UDP_BATCH - (i - done);
            size_t run = i < singly ? 1 : run_length(u, d + i, n - i < room ? n - i : room);
            struct msghdr *m = &msgs[used].msg_hdr;
            memset(m, 0, sizeof *m);
            for (size_t k = 0; k < run; k++)
                iov[i - done + k] = (struct iovec){(void *)(uintptr_t)d[i + k].data, d[i + k].size};
            m->msg_iov = &iov[i - done];
            m->msg_iovlen = run;
            if (d[i].to != NULL) {
                m->msg_name = (void *)(uintptr_t)&d[i].to->sa;
                m->msg_namelen = ks_addr_len(d[i].to);
            }
            m->msg_control = &ctl[used];
            if (u->pktinfo && d[i].from != NULL)
                add_source(m, d[i].from);
            if (run > 1) {
                uint16_t segment = (uint16_t)d[i].size;
                add_cmsg(m, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
            }
            if (m->msg_controllen == 0)
                m->msg_control = NULL;
            first[used++] = i;
            i += run;
        }
        KS_ASSERT(i > done && i - done <= KS_UDP_BATCH && used <= i - done);
        first[used] = i;
        int sent = sendmmsg(u->fd, msgs, used, 0);
        int error = errno;
        for (size_t k = done; sent > 0 && k < first[sent]; k++) {
            count->out_pkts++;
            count->out_bytes += d[k].size;
        }
        if (sent > 0) {
            for (int k = 0; k < sent; k++)
                if (first[k + 1] - first[k] > 1)
                    u->gso_refused = 0;
            done = first[sent];
            met.stale = 0;
            continue;
        }
        verdict v = judge(u, error, &met);
        if (v == FALL_BACK && first[1] - first[0] > 1) {
            /* The packets may be longer than the interface takes, which ends when their size falls: GSO is given up for good only
             * where it never goes, as without checksums in the device. */
            singly = first[1];
            if (error == EIO || ++u->gso_refused >= GSO_REFUSED_MAX)
                u->way = KS_UDP_WAY_MMSG;
        } else if (v != AGAIN) {
            u->too_long |= error == EMSGSIZE;
            count->udp_send_drops += first[1] - first[0];
            done = first[1];
        }
    }
    return met.result;
}

/* Reads what came beside a packet: our own address, the GRO segment size, the kernel's drop count. */
static size_t read_control(ks_udp *u, struct msghdr *m, ks_addr *local, size_t size, ks_counters *count)
{
    size_t segment = size;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int value;
            memcpy(&value, CMSG_DATA(c), sizeof value);
            if (value > 0)
                segment = (size_t)value;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            local->in4.sin_family = AF_INET;
            local->in4.sin_addr = info.ipi_spec_dst;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            local->in6.sin6_family = AF_INET6;
            local->in6.sin6_addr = info.ipi6_addr;
            local->in6.sin6_scope_id = IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr) ? (uint32_t)info.ipi6_ifindex : 0;
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            uint32_t drops;
            memcpy(&drops, CMSG_DATA(c), sizeof drops);
            count->udp_recv_drops += drops - u->rxq_drops;
            u->rxq_drops = drops;
        }
    }
    return segment;
}

static int recv_batches(ks_udp *u, ks_udp_rx *rx, ks_udp_packet *packet, void *ctx, ks_counters *count, bool *drained)
{
    struct mmsghdr msgs[KS_UDP_RX_BUFFERS];
    struct iovec iov[KS_UDP_RX_BUFFERS];
    ks_addr from[KS_UDP_RX_BUFFERS];
    control ctl[KS_UDP_RX_BUFFERS];
    for (size_t i = 0; i < KS_UDP_RX_BUFFERS; i++) {
        iov[i] = (struct iovec){rx->space + i * RX_BYTES, RX_BYTES};
        msgs[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
                                          .msg_namelen = sizeof from[i],
                                          .msg_iov = &iov[i],
                                          .msg_iovlen = 1,
                                          .msg_control = &ctl[i],
                                          .msg_controllen = sizeof ctl[i]};
    }
    int got = recvmmsg(u->fd, msgs, KS_UDP_RX_BUFFERS, MSG_DONTWAIT, NULL);
    *drained = got < 0 ? errno == EAGAIN || errno == EWOULDBLOCK : got < (int)KS_UDP_RX_BUFFERS;
    if (got < 0)
        return *drained || errno == EINTR ? 0 : -errno;
    int packets = 0;
    for (int i = 0; i < got; i++) {
        ks_addr local;
        memset(&local, 0, sizeof local);
        size_t size = msgs[i].msg_len;
        KS_ASSERT(size <= RX_BYTES);
        size_t segment = read_control(u, &msgs[i].msg_hdr, &local, size, count);
        uint8_t *data = iov[i].iov_base;
        count->in_bytes += size;
        KS_ASSERT(segment > 0 || size == 0); /* else this never ends */
        do {
            size_t take = segment < size ? segment : size;
            count->in_pkts++;
            packets++;
            packet(ctx, &from[i], local.sa.sa_family != 0 ? &local : NULL, data, take);
            data += take;
            size -= take;
        } while (size > 0);
    }
    return packets;
}

#endif

int ks_udp_recv(ks_udp *u, ks_udp_rx *rx, ks_udp_packet *packet, void *ctx, ks_counters *count, bool *drained)
{
#if HAVE_BATCHES
    if (u->way != KS_UDP_WAY_PLAIN)
        return recv_batches(u, rx, packet, ctx, count, drained);
#endif
    return recv_plain(u, rx, packet, ctx, count, drained);
}

/* One socket's packets: it is connected, or each says where it goes. */
KS_CHECKER void check_datagrams(const ks_udp *u, const ks_datagram *d, size_t n)
{
    KS_ASSERT(n <= KS_UDP_BATCH && u->fd >= 0);
    for (size_t i = 0; i < n; i++) {
        KS_ASSERT(d[i].size > 0 && d[i].size <= KS_UDP_PACKET_MAX && d[i].data != NULL);
        KS_ASSERT((d[i].to == NULL) == u->connected);
    }
}

int ks_udp_send(ks_udp *u, const ks_datagram *d, size_t n, ks_counters *count)
{
    KS_CHECK(check_datagrams(u, d, n));
#if HAVE_BATCHES
    if (u->way != KS_UDP_WAY_PLAIN)
        return send_batches(u, d, n, count);
#endif
    return send_plain(u, d, n, count);
}
