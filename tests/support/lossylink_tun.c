// SPDX-License-Identifier: MIT
//
// The face for any program, the kernel's TCP too: a TUN device in each of two network namespaces, and IP packets between them.
// Whoever started us gives the devices their addresses. They go when we end.

#define _GNU_SOURCE
#include "lossylink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { NEAR, FAR }; // where the packets of UP and of DOWN come in
static struct end {
    char place[128], device[IFNAMSIZ];
    int fd, numbers; // numbers: /proc/net/dev there
} ends[2] = {{.fd = -1, .numbers = -1}, {.fd = -1, .numbers = -1}};

static void end_open(struct end *end)
{
    int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(end->place, O_RDONLY | O_CLOEXEC);
    if (here < 0 || there < 0 || setns(there, CLONE_NEWNET) != 0)
        die("cannot enter %s: %s", end->place, strerror(errno));
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI}; // no offloads: packets as they would be on a wire
    memcpy(request.ifr_name, end->device, sizeof request.ifr_name);
    end->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (end->fd < 0 || ioctl(end->fd, TUNSETIFF, &request) != 0)
        die("cannot make a TUN device %s: %s", end->device, strerror(errno));
    end->numbers = open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC);
    if (end->numbers < 0 || setns(here, CLONE_NEWNET) != 0)
        die("cannot come back from %s: %s", end->place, strerror(errno));
    close(here);
    close(there);
}

// Packets that found the device's queue full.
static uint64_t kernel_drops(const struct end *end)
{
    char text[4096], name[IFNAMSIZ + 2];
    ssize_t len = pread(end->numbers, text, sizeof text - 1, 0);
    text[len > 0 ? len : 0] = '\0';
    snprintf(name, sizeof name, "%s:", end->device);
    const char *line = strstr(text, name);
    uint64_t dropped = 0;
    // Behind the name: eight numbers of what was received, then bytes, packets, errors and drops of what was sent.
    if (line)
        sscanf(line + strlen(name), "%*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &dropped);
    return dropped;
}

// The Internet checksum (RFC 1071) over what begins with that sum.
static uint16_t checksum(uint32_t sum, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i += 2)
        sum += (uint32_t)bytes[i] << 8 | (i + 1 < len ? bytes[i + 1] : 0u);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

// What a router with a narrow link behind it sends: with the head and the first bytes of the packet, in the name of its
// target. -> its length, 0: it is none that is told anything
static size_t too_long_v4(uint8_t *to, const uint8_t *packet, size_t len, uint32_t mtu)
{
    struct ip was, ip = {.ip_v = 4, .ip_hl = 5, .ip_ttl = 64, .ip_p = IPPROTO_ICMP};
    struct icmp icmp = {.icmp_type = ICMP_UNREACH, .icmp_code = ICMP_UNREACH_NEEDFRAG};
    size_t quoted = len < 128 ? len : 128, told = 8 + quoted;
    if (len < sizeof was)
        return 0;
    memcpy(&was, packet, sizeof was);
    if (was.ip_p == IPPROTO_ICMP)
        return 0;
    ip.ip_src = was.ip_dst;
    ip.ip_dst = was.ip_src;
    ip.ip_len = htons((uint16_t)(sizeof ip + told));
    ip.ip_sum = checksum(0, (const uint8_t *)&ip, sizeof ip);
    icmp.icmp_nextmtu = htons((uint16_t)mtu);
    memcpy(to, &ip, sizeof ip);
    memcpy(to + sizeof ip, &icmp, 8);
    memcpy(to + sizeof ip + 8, packet, quoted);
    uint16_t sum = checksum(0, to + sizeof ip, told);
    memcpy(to + sizeof ip + 2, &sum, 2);
    return sizeof ip + told;
}

static size_t too_long_v6(uint8_t *to, const uint8_t *packet, size_t len, uint32_t mtu)
{
    struct ip6_hdr was, ip = {.ip6_hlim = 64, .ip6_nxt = IPPROTO_ICMPV6};
    struct icmp6_hdr icmp = {.icmp6_type = ICMP6_PACKET_TOO_BIG, .icmp6_mtu = htonl(mtu)};
    size_t quoted = len < 1000 ? len : 1000, told = sizeof icmp + quoted;
    if (len < sizeof was)
        return 0;
    memcpy(&was, packet, sizeof was);
    if (was.ip6_nxt == IPPROTO_ICMPV6)
        return 0;
    ip.ip6_vfc = 6 << 4;
    ip.ip6_plen = htons((uint16_t)told);
    ip.ip6_src = was.ip6_dst;
    ip.ip6_dst = was.ip6_src;
    memcpy(to, &ip, sizeof ip);
    memcpy(to + sizeof ip, &icmp, sizeof icmp);
    memcpy(to + sizeof ip + sizeof icmp, packet, quoted);
    // With the pseudo head: both addresses, which stand last in the head, the length, the protocol.
    uint32_t pseudo = (uint32_t)told + IPPROTO_ICMPV6;
    uint16_t sum = checksum(pseudo, to + offsetof(struct ip6_hdr, ip6_src), 2 * sizeof ip.ip6_src + told);
    memcpy(to + sizeof ip + 2, &sum, 2);
    return sizeof ip + told;
}

static void tell_too_long(const struct end *end, const struct direction *d, const uint8_t *packet, size_t len)
{
    uint8_t icmp[1280];
    uint32_t mtu = (uint32_t)d->set.path_mtu;
    if (d->set.path_mtu_told <= 0 || mtu == 0 || len <= mtu)
        return;
    size_t size = packet[0] >> 4 == 4 ? too_long_v4(icmp, packet, len, mtu) : too_long_v6(icmp, packet, len, mtu);
    if (size > 0 && write(end->fd, icmp, size) != (ssize_t)size)
        die("cannot write to the TUN device %s: %s", end->device, strerror(errno));
}

static bool tun_event(uint64_t event)
{
    struct direction *d = &dirs[event - EV_FACE];
    for (int i = 0; i < LANDING * BATCHES_PER_TURN; i++) {
        uint32_t *landing = &d->landing[i % LANDING];
        ssize_t len = read(ends[event - EV_FACE].fd, direction_bytes(d, *landing), packet_bytes);
        if (len < 0)
            break;
        if (direction_hears(d, (uint32_t)len)) {
            tell_too_long(&ends[event - EV_FACE], d, direction_bytes(d, *landing), (size_t)len);
            direction_takes(d, now_ns(), landing, (struct packet){.len = (uint32_t)len});
        }
    }
    return true;
}

static void tun_send(struct direction *d, uint64_t now)
{
    int fd = ends[d == &dirs[UP] ? FAR : NEAR].fd;
    uint32_t slot;
    while (direction_due(d, now, &slot)) {
        uint32_t len = d->packets[slot].len;
        if (write(fd, direction_bytes(d, slot), len) == (ssize_t)len) {
            d->n.sent++;
            d->n.sent_bytes += len;
        } else {
            d->n.send_failed++; // the device is down
        }
        direction_give_back(d, slot);
    }
}

static int tun_stats(char *text, size_t size, uint64_t kernel_dropped[2])
{
    (void)text, (void)size;
    kernel_dropped[UP] = kernel_drops(&ends[NEAR]);
    kernel_dropped[DOWN] = kernel_drops(&ends[FAR]);
    return 0;
}

static bool tun_option(const char *name, const char *value)
{
    struct end *end = strcmp(name, "near") == 0 ? &ends[NEAR] : strcmp(name, "far") == 0 ? &ends[FAR] : NULL;
    if (!end)
        return false;
    const char *colon = strrchr(value, ':');
    size_t place = colon ? (size_t)(colon - value) : 0;
    if (place == 0 || place >= sizeof end->place || !colon[1] || strlen(colon + 1) >= sizeof end->device)
        die("--%s %s: want PATH_OF_A_NAMESPACE:DEVICE", name, value);
    memcpy(end->place, value, place);
    strcpy(end->device, colon + 1);
    return true;
}

static void tun_open(void)
{
    for (unsigned i = NEAR; i <= FAR; i++) {
        if (!ends[i].place[0])
            die("--%s PATH_OF_A_NAMESPACE:DEVICE is missing (see --help)", i == NEAR ? "near" : "far");
        end_open(&ends[i]);
        if (!watch(ends[i].fd, EV_FACE + i))
            die("epoll_ctl: %s", strerror(errno));
    }
    put("ready\n", 6);
}

const struct face tun_face = {tun_option, tun_open, tun_event, tun_send, tun_stats};
