/* SPDX-License-Identifier: MIT */
/* Engines in threads of their own, driven through api.h by several application threads at once; and the same life of a
 * connection with each allocation failing in turn: bare, and with FEC and a cipher. Meant for the address and the thread sanitizer. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include "api/api.h"
#include "check.h"
#include "base/mem.h"
#include "arq/seg.h"
#include "smux/smux.h"
#include "base/octets.h"

#define LONG_MS 40000
#define ENGINES 2
#define CLIENTS 6

#ifdef __SANITIZE_THREAD__
#define ROUNDS 12
#else
#define ROUNDS 40
#endif

static int engine[ENGINES];
static bool sealed; /* what is opened now has FEC, copies and a cipher */

static ks_profile profile_of(int framing, int version)
{
    return (ks_profile){
        .framing = framing, .smux_version = version, .nodelay = 1, .interval_ms = 10, .resend = 2, .nc = 1,
        .sndwnd_pkts = 256, .rcvwnd_pkts = 256, .mtu_bytes = 1400, .stream = 1, .sockbuf_bytes = 1 << 20,
        .keepalive_ms = 10000, .keepalive_timeout_ms = 30000, .max_streams = 1024, .max_half_open = 1024,
    };
}

static void *run_engine(void *arg)
{
    ks_engine_run(*(int *)arg);
    return NULL;
}

/* ---- sockets ---- */

static int udp_socket(struct sockaddr_in *name)
{
    socklen_t len = sizeof *name;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    *name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)name, sizeof *name) < 0 || getsockname(fd, (struct sockaddr *)name, &len) < 0)
        abort();
    return fd;
}

/* A crypt belongs to one connection or listener. -> what ks_crypt_open says, 0 without one */
static int seal(ks_profile *p)
{
    static const uint8_t key[32] = "thirty-two bytes, no more, less";
    if (!sealed)
        return 0;
    p->fec_data = 3;
    p->fec_parity = 2;
    p->dup = 1;
    p->crypt = ks_crypt_open(KS_CRYPT_GCM, KS_CIPHER_TWOFISH, key, sizeof key, 0);
    return p->crypt < 0 ? p->crypt : 0;
}

static int stand_in(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* In `count` engines, where the kernel spreads peers over their sockets; else in the first. */
static int open_listener(const int *e, int count, const ks_profile *profile, int backlog, struct sockaddr_in *name, int *error)
{
    int app = stand_in(), udp[ENGINES], crypts[ENGINES] = {0}, on = 1;
    ks_profile p = *profile;
    if (!ks_udp_can_spread())
        count = 1;
    udp[0] = udp_socket(name);
    *error = 0;
    for (int i = 0; i < count; i++) {
        if (i > 0)
            udp[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (count > 1 && setsockopt(udp[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)
            abort();
        if (i > 0 && bind(udp[i], (struct sockaddr *)name, sizeof *name) < 0)
            abort();
        int bad = seal(&p);
        crypts[i] = bad < 0 ? 0 : p.crypt;
        *error = bad < 0 ? bad : *error;
    }
    if (*error == 0)
        *error = ks_listen(e, udp, crypts, count, app, &p, backlog);
    else
        for (int i = 0; i < count; i++) {
            close(udp[i]);
            if (crypts[i] != 0)
                ks_crypt_close(crypts[i]);
        }
    return app;
}

static int open_client(int e, const ks_profile *profile, const struct sockaddr_in *to, int *error)
{
    struct sockaddr_in name;
    int app = stand_in(), udp = udp_socket(&name);
    if (connect(udp, (const struct sockaddr *)to, sizeof *to) < 0)
        abort();
    ks_profile p = *profile;
    *error = seal(&p);
    if (*error == 0)
        *error = ks_connect(e, app, udp, &p);
    else
        close(udp);
    return app;
}

static int wait_for(int fd, int events)
{
    int result;
    do
        result = ks_poll(fd, events, LONG_MS);
    while (result == -EINTR);
    return result;
}

/* -> the connection's A, or -1 when the listener has ended or nothing comes. */
static int take_connection(int listener)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } ctl;
    ks_accept_msg names;
    struct iovec iov = {&names, sizeof names};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof ctl};
    int fd = -1;
    if (recvmsg(listener, &m, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof names || CMSG_FIRSTHDR(&m) == NULL)
        return -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

/* By either way, past the descriptor and through it, whichever the bytes left come to. */
static int write_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        int64_t n = size % 2 != 0 ? ks_send_now(fd, data, (int64_t)(size / 3 + 1)) : 0;
        if (n == 0)
            n = send(fd, data, size % 3 != 0 ? size / 3 + 1 : size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static size_t read_all(int fd, uint8_t *data, size_t size)
{
    size_t have = 0;
    while (have < size) {
        ssize_t n = recv(fd, data + have, size - have, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    return have;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* A pipe's two ends, and epoll's. */
#if defined(__linux__) && !defined(KS_PLAIN)
#define ENGINE_FDS 3
#else
#define ENGINE_FDS 2
#endif

static int open_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* An engine closes its socket of a listener when another tells it that the last session has gone. */
static int wait_for_descriptors(int n)
{
    for (int i = 0; i < LONG_MS / 10 && open_descriptors() != n; i++)
        (void)poll(NULL, 0, 10);
    return open_descriptors();
}

/* Until the engines hold neither sessions nor streams. */
static int wait_until_empty(void)
{
    ks_stats stats;
    for (int i = 0; i < LONG_MS / 10; i++) {
        ks_get_stats(&stats);
        if (stats.sessions == 0 && stats.streams == 0)
            return 1;
        (void)poll(NULL, 0, 10);
    }
    printf("%llu sessions, %llu streams left\n", (unsigned long long)stats.sessions, (unsigned long long)stats.streams);
    return 0;
}

/* ---- everything at once ---- */

typedef struct {
    struct sockaddr_in address;
    ks_profile profile;
    int listener;
    uint32_t seed;
    atomic_int *wrong;
} actor;

static void *echo(void *arg)
{
    static const size_t piece = 16384;
    int fd = (int)(intptr_t)arg;
    uint8_t *data = malloc(piece);
    for (;;) {
        ssize_t n = recv(fd, data, piece, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || write_all(fd, data, (size_t)n) < 0)
            break;
    }
    close(fd);
    free(data);
    return NULL;
}

static void *serve(void *arg)
{
    const actor *a = arg;
    pthread_t threads[CLIENTS * ROUNDS * 2];
    int n = 0, fd;
    while (n < (int)(sizeof threads / sizeof *threads) && (fd = take_connection(a->listener)) >= 0)
        if (pthread_create(&threads[n++], NULL, echo, (void *)(intptr_t)fd) != 0)
            abort();
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    return NULL;
}

static void poke(int fd, uint32_t *random)
{
    static const int options[] = {KS_OPT_NODELAY, KS_OPT_INTERVAL, KS_OPT_RESEND, KS_OPT_NC, KS_OPT_SNDWND, KS_OPT_RCVWND,
                                  KS_OPT_ACK_NODELAY, KS_OPT_KEEPALIVE, KS_OPT_RCVBUF, KS_OPT_DUP, KS_OPT_DSCP, KS_OPT_OOB, 99};
    ks_info info;
    ks_stats stats;
    int option = options[next_random(random) % (sizeof options / sizeof *options)];
    int64_t value = option == KS_OPT_SNDWND || option == KS_OPT_RCVWND ? 128 : next_random(random) % 16 + 1;
    (void)ks_set_option(fd, option, option == KS_OPT_RCVBUF ? 65536 : option == KS_OPT_KEEPALIVE ? 10000 : value);
    (void)ks_send_oob(fd, (const uint8_t *)"beside", 6);
    (void)ks_get_info(fd, &info);
    (void)ks_is_kcp(fd);
    (void)ks_get_stats(&stats);
}

static void *dial(void *arg)
{
    enum { SIZE = 60000 };
    const actor *a = arg;
    uint32_t random = a->seed;
    uint8_t *out = malloc(SIZE), *back = malloc(SIZE);
    for (int round = 0; round < ROUNDS; round++) {
        int error;
        int fd = open_client(engine[next_random(&random) % ENGINES], &a->profile, &a->address, &error);
        uint32_t way = next_random(&random) % 6;
        size_t size = next_random(&random) % SIZE + 1;
        for (size_t i = 0; i < size; i++)
            out[i] = (uint8_t)next_random(&random);
        if (error < 0)
            atomic_fetch_add(a->wrong, 1);
        if (way == 0)
            ks_reset(fd); /* perhaps before it stands */
        else if (wait_for(fd, POLLOUT) <= 0)
            atomic_fetch_add(a->wrong, 1);
        else {
            poke(fd, &random);
            /* Half of it stays in buffers when the pair is full; the echo makes room. */
            int bad = write_all(fd, out, size) < 0;
            poke(fd, &random);
            if (way == 1)
                ks_reset(fd);
            else if (way == 2)
                (void)ks_set_option(fd, KS_OPT_LINGER, 0);
            else {
                size_t got = read_all(fd, back, size);
                if (bad || got != size || memcmp(out, back, size) != 0) {
                    printf("round %d of %x: %zu of %zu, errno %d\n", round, (unsigned)a->seed, got, size, ks_take_error(fd));
                    atomic_fetch_add(a->wrong, 1);
                }
                if (way == 3 && (shutdown(fd, SHUT_WR) < 0 || ks_linger(fd, LONG_MS) != 0))
                    atomic_fetch_add(a->wrong, 1);
            }
        }
        (void)ks_take_error(fd);
        close(fd);
#ifndef __SANITIZE_THREAD__ /* which takes what follows for our own race */
        poke(fd, &random); /* by now anybody's, or nobody's: an error at worst */
#endif
    }
    free(out);
    free(back);
    return NULL;
}

static void run_everything(int framing, int version)
{
    atomic_int wrong = 0;
    actor servers[ENGINES], clients[CLIENTS];
    pthread_t server_threads[ENGINES], client_threads[CLIENTS];
    int fds = open_descriptors();
    for (int i = 0; i < ENGINES; i++) {
        int error;
        servers[i].profile = profile_of(framing, version);
        /* The first one's engines are all. */
        servers[i].listener = open_listener(engine + i, ENGINES - i, &servers[i].profile, 128, &servers[i].address, &error);
        CHECK_EQ(error, 0);
        if (pthread_create(&server_threads[i], NULL, serve, &servers[i]) != 0)
            abort();
    }
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = servers[i % ENGINES];
        clients[i].seed = 0x51ed0000u + (uint32_t)(i + version * 256);
        clients[i].wrong = &wrong;
        if (pthread_create(&client_threads[i], NULL, dial, &clients[i]) != 0)
            abort();
    }
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(client_threads[i], NULL);
    CHECK_EQ(wrong, 0);
    for (int i = 0; i < ENGINES; i++) {
        ks_reset(servers[i].listener); /* wakes its thread: the engine's end closes */
        pthread_join(server_threads[i], NULL);
        close(servers[i].listener);
    }
    CHECK(wait_until_empty());
    CHECK_EQ(wait_for_descriptors(fds), fds);
}

static void test_everything_smux_2(void)
{
    run_everything(KS_FRAMING_SMUX, 2);
}

static void test_everything_smux_1(void)
{
    run_everything(KS_FRAMING_SMUX, 1);
}

static void test_everything_sealed(void)
{
    sealed = true;
    run_everything(KS_FRAMING_SMUX, 2);
    sealed = false;
}

static void test_numbers_of_nothing(void)
{
    ks_info info;
    ks_profile p = profile_of(KS_FRAMING_SMUX, 2), bad = p;
    struct sockaddr_in name;
    int plain = udp_socket(&name), file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int none[] = {-1, 1 << 20, plain, file};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        CHECK_EQ(ks_is_kcp(none[i]), 0);
        CHECK_EQ(ks_take_error(none[i]), 0);
        CHECK_EQ(ks_reset(none[i]), -ENOTSOCK);
        CHECK_EQ(ks_set_option(none[i], KS_OPT_NC, 1), -ENOTSOCK);
        CHECK_EQ(ks_get_info(none[i], &info), -ENOTSOCK);
        CHECK_EQ(ks_linger(none[i], 0), 0);
        CHECK_EQ(ks_send_now(none[i], (const uint8_t *)"x", 1), 0);
    }
    CHECK_EQ(ks_get_info(plain, NULL), -EFAULT);
    CHECK_EQ(ks_get_stats(NULL), -EFAULT);
    CHECK_EQ(ks_engine_run(15), -ESRCH);
    CHECK_EQ(ks_engine_stop(-1), -ESRCH);
    CHECK_EQ(ks_engine_drain(99, 0), -ESRCH);
    CHECK_EQ(ks_engine_open(77, 0), -EINVAL);
    bad.mtu_bytes = 48;
    CHECK_EQ(ks_connect(engine[0], plain, udp_socket(&name), &bad), -EINVAL);
    bad.mtu_bytes = KS_MTU_MAX + 1;
    CHECK_EQ(ks_connect(engine[0], plain, udp_socket(&name), &bad), -EINVAL);
    CHECK_EQ(ks_connect(engine[0], plain, udp_socket(&name), NULL), -EINVAL);
    CHECK_EQ(ks_connect(15, plain, udp_socket(&name), &p), -ESRCH);
    CHECK_EQ(ks_connect(engine[0], file, udp_socket(&name), &p), -ENOTSOCK);
    CHECK(ks_connect(engine[0], stand_in(), -1, &p) < 0);
    close(plain);
    close(file);
}

/* ---- a peer made by hand ---- */

enum { CONV = 7, SIDS = 16 };

typedef struct {
    int fd;
    uint32_t sn, una;
    int fins[SIDS]; /* FIN frames that came, of each stream */
} hand_made;

/* Answers the listener's challenge. */
static void prove(const hand_made *peer)
{
    for (;;) {
        uint8_t packet[1500];
        ssize_t size = wait_for(peer->fd, POLLIN) == POLLIN ? recv(peer->fd, packet, sizeof packet, 0) : -1;
        if (!CHECK(size > 0))
            return;
        for (uint8_t *at = packet; size >= (ssize_t)KS_KCP_HEAD; at += KS_KCP_HEAD, size -= (ssize_t)KS_KCP_HEAD)
            if (at[4] == KS_KCP_PUSH && ks_get_le32(at + 12) == UINT32_MAX) {
                at[4] = KS_KCP_ACK;
                CHECK(send(peer->fd, at, KS_KCP_HEAD, 0) > 0);
                return;
            }
    }
}

/* A segment with such a frame for each of `n` streams. */
static void put_frames(hand_made *peer, ks_smux_cmd cmd, const uint32_t *sids, uint32_t n)
{
    uint8_t packet[KS_KCP_HEAD + SIDS * KS_SMUX_HEAD] = {0};
    ks_put_le32(packet, CONV);
    packet[4] = KS_KCP_PUSH;
    ks_put_le16(packet + 6, 128);
    ks_put_le32(packet + 12, peer->sn++);
    ks_put_le32(packet + 16, peer->una);
    ks_put_le32(packet + 20, n * KS_SMUX_HEAD);
    for (uint32_t i = 0; i < n; i++)
        ks_smux_head(packet + KS_KCP_HEAD + i * KS_SMUX_HEAD, 2, cmd, 0, sids[i]);
    CHECK(send(peer->fd, packet, KS_KCP_HEAD + n * KS_SMUX_HEAD, 0) > 0);
    if (peer->sn == 1)
        prove(peer);
}

static void take_frames(hand_made *peer, const uint8_t *data, size_t size)
{
    ks_smux_parser parser;
    ks_smux_event ev;
    ks_smux_parser_init(&parser, 2);
    while (ks_smux_parse_untrusted(&parser, &data, &size, &ev) > 0)
        if (ev.cmd == KS_SMUX_FIN && ev.sid < SIDS)
            peer->fins[ev.sid]++;
}

/* Reads what the listener sends, until so many FINs of the stream have come. */
static int wait_for_fins(hand_made *peer, uint32_t sid, int fins)
{
    while (peer->fins[sid] < fins) {
        uint8_t packet[1500];
        ssize_t size = wait_for(peer->fd, POLLIN) == POLLIN ? recv(peer->fd, packet, sizeof packet, 0) : -1;
        if (size < 0)
            return -1;
        uint32_t len;
        for (const uint8_t *at = packet; size >= (ssize_t)KS_KCP_HEAD; at += KS_KCP_HEAD + len, size -= (ssize_t)(KS_KCP_HEAD + len)) {
            len = ks_get_le32(at + 20);
            if (at[4] == KS_KCP_PUSH && ks_get_le32(at + 12) == peer->una) {
                peer->una++;
                take_frames(peer, at + KS_KCP_HEAD, len);
            }
        }
    }
    return peer->fins[sid];
}

static int wait_for_streams(uint64_t n)
{
    ks_stats stats = {0};
    for (int i = 0; i < LONG_MS / 10; i++) {
        ks_get_stats(&stats);
        if (stats.streams == n)
            return 1;
        (void)poll(NULL, 0, 10);
    }
    return 0;
}

static void test_streams_of_a_session_are_limited(void)
{
    static const uint32_t sids[] = {1, 3, 5, 7, 9, 11, 13}, bye = 0;
    ks_profile p = profile_of(KS_FRAMING_SMUX, 2);
    ks_stats before, after;
    struct sockaddr_in address, name;
    int error, fds[4];
    CHECK(wait_until_empty());
    ks_get_stats(&before);
    p.max_streams = 3;
    int listener = open_listener(engine, 1, &p, 16, &address, &error);
    hand_made peer = {.fd = udp_socket(&name)};
    if (!CHECK_EQ(error, 0) || !CHECK_EQ(connect(peer.fd, (struct sockaddr *)&address, sizeof address), 0))
        return;
    put_frames(&peer, KS_SMUX_SYN, sids, 5);
    for (int i = 0; i < 3; i++)
        CHECK((fds[i] = take_connection(listener)) >= 0);
    if (!CHECK_EQ(wait_for_fins(&peer, 7, 2), 2))
        return;
    CHECK_EQ(wait_for_fins(&peer, 9, 2), 2);
    CHECK(peer.fins[1] == 0 && peer.fins[3] == 0 && peer.fins[5] == 0);
    ks_get_stats(&after);
    CHECK_EQ(after.streams, 3);
    CHECK_EQ(after.stream_drops - before.stream_drops, 2);
    CHECK_EQ(after.resets_sent - before.resets_sent, 2);

    close(fds[0]); /* both ends close one: there is room for another, and for no second one */
    CHECK_EQ(wait_for_fins(&peer, 1, 1), 1);
    put_frames(&peer, KS_SMUX_FIN, &sids[0], 1);
    CHECK(wait_for_streams(2));
    put_frames(&peer, KS_SMUX_SYN, &sids[5], 2);
    CHECK((fds[3] = take_connection(listener)) >= 0);
    CHECK_EQ(wait_for_fins(&peer, 13, 2), 2);
    CHECK_EQ(peer.fins[11], 0);
    ks_get_stats(&after);
    CHECK_EQ(after.stream_drops - before.stream_drops, 3);

    put_frames(&peer, KS_SMUX_FIN, &bye, 1);
    for (int i = 1; i < 4; i++)
        close(fds[i]);
    close(peer.fd);
    close(listener);
    CHECK(wait_until_empty());
}

/* ---- without memory ---- */

/* connect, accept, both ways, close, with the n-th allocation failing. -> whether all went well */
static int live_without(uint64_t n, int version)
{
    /* An end whose peer's session died without the memory for a farewell would wait for keepalive. */
    const struct timeval patience = {.tv_usec = 300000};
    static uint8_t out[20000], back[20000];
    ks_profile p = profile_of(KS_FRAMING_SMUX, version);
    struct sockaddr_in name;
    int error, well = 0, conn = -1;
    p.keepalive_ms = 500;
    p.keepalive_timeout_ms = 2000;
    int listener = open_listener(engine, 1, &p, 5, &name, &error);
    CHECK_EQ(error, 0);
    ks_mem_fail_after(n);
    int client = open_client(engine[0], &p, &name, &error);
    if (error == 0 && wait_for(client, POLLOUT) > 0 && write_all(client, out, sizeof out) == 0) {
        /* The listener's end may have been refused for want of memory: then the client is told. */
        struct pollfd p2[2] = {{.fd = listener, .events = POLLIN}, {.fd = client, .events = POLLIN}};
        (void)poll(p2, 2, LONG_MS);
        CHECK(p2[0].revents != 0 || p2[1].revents != 0);
        conn = p2[0].revents != 0 ? take_connection(listener) : -1;
    }
    if (conn >= 0) {
        (void)shutdown(client, SHUT_WR);
        CHECK(setsockopt(conn, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
        CHECK(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
        well = read_all(conn, back, sizeof back) == sizeof back && memcmp(out, back, sizeof out) == 0;
        well &= write_all(conn, out, sizeof out) == 0;
        (void)shutdown(conn, SHUT_WR);
        well &= read_all(client, back, sizeof back) == sizeof back;
        close(conn);
    }
    ks_mem_fail_after(0);
    (void)ks_take_error(client);
    close(client);
    close(listener);
    return well;
}

/* n rises until ten in a row reach no allocation any more. */
static void walk_allocations(int version)
{
    int well_in_a_row = 0, bad = 0;
    for (uint64_t n = 1; n < 200 && well_in_a_row < 10; n++) {
        int well = live_without(n, version);
        well_in_a_row = well ? well_in_a_row + 1 : 0;
        bad += !well;
    }
    printf("smux %d%s: without one of %d allocations it did not go well\n", version, sealed ? ", sealed" : "", bad);
    CHECK(bad > 3);
    CHECK_EQ(well_in_a_row, 10);
}

static void test_allocations_fail(void)
{
    int fds = open_descriptors();
    CHECK(live_without(0, 2));
    CHECK(wait_until_empty());
    /* The pools keep some spare chunks, the timers' heap its size: used up to here once, they are no leak. */
    uint64_t used = ks_mem_used() + (KS_POOL_SPARE * 2) * KS_CHUNK_BYTES;
    walk_allocations(2);
    walk_allocations(1);
    sealed = true;
    walk_allocations(2);
    sealed = false;
    CHECK(wait_until_empty());
    CHECK(ks_mem_used() <= used);
    CHECK_EQ(open_descriptors(), fds);
}

/* ---- the end ---- */

static atomic_int stopped;

static void *linger_for_ever(void *arg)
{
    int answer;
    do
        answer = ks_linger(*(int *)arg, LONG_MS); /* nobody answers: not before the engine stops */
    while (!atomic_load(&stopped) && answer == -ETIMEDOUT);
    return NULL;
}

/* Whoever asks while an engine stops gets an answer, and the engine leaves nothing behind but its poller and its pipe. */
static void test_stop_answers_all(void)
{
    enum { ASKERS = 4 };
    int fds = open_descriptors(), error, e = ks_engine_open(KS_UDP_PLAIN, 0);
    pthread_t loop, asker[ASKERS];
    ks_profile p = profile_of(KS_FRAMING_SMUX, 2);
    struct sockaddr_in silent;
    int sink = udp_socket(&silent);
    if (!CHECK(e >= 0) || pthread_create(&loop, NULL, run_engine, &e) != 0)
        abort();
    int fd = open_client(e, &p, &silent, &error);
    CHECK_EQ(error, 0);
    for (int i = 0; i < ASKERS; i++)
        if (pthread_create(&asker[i], NULL, linger_for_ever, &fd) != 0)
            abort();
    CHECK(ks_engine_drain(e, 10) >= 0);
    atomic_store(&stopped, 1);
    CHECK_EQ(ks_engine_stop(e), 0);
    pthread_join(loop, NULL);
    for (int i = 0; i < ASKERS; i++)
        pthread_join(asker[i], NULL);
    close(fd);
    close(sink);
    CHECK_EQ(ks_engine_drain(e, 10), -ESHUTDOWN);
    /* The engine's own, and the connection's: E, the duplicate of A, the UDP socket. */
    CHECK_EQ(open_descriptors(), fds + ENGINE_FDS + 3);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_numbers_of_nothing), TEST(test_everything_smux_2), TEST(test_everything_smux_1), TEST(test_everything_sealed),
        TEST(test_streams_of_a_session_are_limited),
        TEST(test_allocations_fail), TEST(test_stop_answers_all),
    };
    pthread_t threads[ENGINES];
    for (int i = 0; i < ENGINES; i++) {
        engine[i] = ks_engine_open(i == 0 ? KS_UDP_AUTO : KS_UDP_MMSG, 1);
        if (engine[i] < 0 || pthread_create(&threads[i], NULL, run_engine, &engine[i]) != 0)
            abort();
    }
    int result = check_main(argc, argv, tests, sizeof tests / sizeof *tests);
    for (int i = 0; i < ENGINES; i++) {
        ks_engine_stop(engine[i]);
        pthread_join(threads[i], NULL);
    }
    return result;
}
