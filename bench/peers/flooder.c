/* SPDX-License-Identifier: MIT */
/* Sends one UDP payload again and again, each time with another conversation's number (its first four bytes) and from another
 * address, which is forged: flooder TARGET PORT PACKETS_PER_S SECONDS HEX. Its route says where answers go; it hears none.
 * Needs CAP_NET_RAW. Says how many it has sent, in which time; as many as it can, where that is less than asked. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, PAYLOAD_MAX = 1400, IP_HEAD = 20, UDP_HEAD = 8, HEADS = IP_HEAD + UDP_HEAD };
#define FORGED_NET 0xc6120000u /* 198.18.0.0/15, kept for benchmarks (RFC 2544) */
#define FORGED_BITS 17
#define MS 1000000

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t draw(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void put_be16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void forge(uint8_t *packet, size_t payload, const struct sockaddr_in *to, uint64_t *state)
{
    uint64_t number = draw(state), other = draw(state);
    uint32_t from = htonl(FORGED_NET | (uint32_t)(number >> (64 - FORGED_BITS)));
    memcpy(packet + 12, &from, 4);
    memcpy(packet + 16, &to->sin_addr, 4);
    put_be16(packet + IP_HEAD, 1024 + (number & 0x7fff));
    memcpy(packet + IP_HEAD + 2, &to->sin_port, 2);
    put_be16(packet + IP_HEAD + 4, UDP_HEAD + payload);
    memcpy(packet + HEADS, &other, 4);
}

static size_t read_hex(const char *text, uint8_t *out)
{
    size_t n = 0;
    for (unsigned byte; n < PAYLOAD_MAX && sscanf(text + 2 * n, "%2x", &byte) == 1; n++)
        out[n] = (uint8_t)byte;
    return n;
}

int main(int argc, char **argv)
{
    static uint8_t packets[BATCH][HEADS + PAYLOAD_MAX];
    struct iovec iov[BATCH];
    struct mmsghdr messages[BATCH];
    struct sockaddr_in to = {.sin_family = AF_INET};
    uint8_t payload[PAYLOAD_MAX];
    int room = 4 << 20;
    size_t size = argc == 6 ? read_hex(argv[5], payload) : 0;
    if (size < 4 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 || atof(argv[3]) <= 0) {
        fprintf(stderr, "usage: flooder IPv4-ADDRESS PORT PACKETS_PER_S SECONDS HEX\n");
        return 2;
    }
    to.sin_port = htons((uint16_t)atoi(argv[2]));
    const double per_ns = atof(argv[3]) / 1e9;
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        perror("flooder");
        return 1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BATCH; i++) {
        packets[i][0] = 0x45;
        put_be16(packets[i] + 2, HEADS + size);
        packets[i][8] = 64;
        packets[i][9] = IPPROTO_UDP;
        memcpy(packets[i] + HEADS, payload, size);
        iov[i] = (struct iovec){packets[i], HEADS + size};
        messages[i].msg_hdr.msg_iov = &iov[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    const uint64_t from = now_ns(), until = from + (uint64_t)(atof(argv[4]) * 1e9);
    uint64_t sent = 0, refused = 0, state = from, now = from;
    for (; now < until; now = now_ns()) {
        if ((double)(sent + BATCH) > (double)(now - from) * per_ns) {
            nanosleep(&(struct timespec){.tv_nsec = MS / 4}, NULL);
            continue;
        }
        for (int i = 0; i < BATCH; i++)
            forge(packets[i], size, &to, &state);
        int n = sendmmsg(fd, messages, BATCH, 0);
        if (n > 0) {
            sent += (uint64_t)n;
        } else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED) {
            perror("flooder");
            return 1;
        } else
            refused++;
    }
    printf("{\"sent\": %llu, \"seconds\": %.3f, \"refused\": %llu}\n", (unsigned long long)sent, (double)(now - from) / 1e9,
           (unsigned long long)refused);
    return 0;
}
