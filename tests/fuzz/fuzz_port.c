/* SPDX-License-Identifier: MIT */
/* Any packets from some addresses at a listening port, mixed with whatever its application does, in virtual time: after
 * every step the port's and the sessions' counts agree with their lists, nothing grows beyond its limit, and in the end no
 * memory and no descriptor is missing.
 *
 * The input is a program, as in fuzz_kcp.c: a byte chooses a step, the bytes behind it are its operands. Built with
 * -DKS_LIBFUZZER for libFuzzer; else `fuzz_port [RUNS [SEED]]` makes its inputs itself, `fuzz_port FILE...` runs files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "front.h"
#include "listener.h"
#include "mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

enum { PEERS = 3, CONVS = 3, APPS = 8, RCVWND = 32 };

typedef struct {
    const uint8_t *next, *end;
} input;

static struct {
    ks_core core;
    ks_ports ports;
    int listener;       /* the application's end, -1 when closed */
    int apps[APPS];     /* accepted, -1 for none */
} world;

static ks_addr peers[PEERS];
static int sink = -1;

static uint32_t take(input *in, unsigned bytes)
{
    uint32_t v = 0;
    for (; bytes > 0; bytes--)
        v = v << 8 | (in->next < in->end ? *in->next++ : 0u);
    return v;
}

/* ---- the engine's turn, in virtual time ---- */

static void on_event(ks_source *src)
{
    if (src->fd < 0)
        return;
    if (src->kind == KS_SOURCE_PORT)
        src->readable = false; /* its packets come from the input */
    else if (src->kind == KS_SOURCE_LISTENER)
        ks_port_front_event(KS_OWNER(src, ks_port, front));
    else
        ks_stream_mark(KS_OWNER(src, ks_stream, src));
}

static void turn(void)
{
    ks_core *core = &world.core;
    ks_source *changed[64];
    int n = ks_poller_wait(&core->poller, 0, changed, 64);
    for (int i = 0; i < n; i++)
        on_event(changed[i]);
    for (ks_timer *t; (t = ks_timers_pop(&core->timers, core->now_ms)) != NULL;)
        ks_session_mark(KS_OWNER(t, ks_session, timer));
    ks_session *dirty = core->dirty;
    core->dirty = NULL;
    for (ks_session *next; dirty != NULL; dirty = next) {
        next = dirty->dirty_next;
        dirty->dirty = false;
        ks_session_turn(dirty);
    }
    ks_batch_send(&core->batch);
    for (ks_session **at = &core->dirty; *at != NULL;)
        if ((*at)->state == KS_SESSION_ENDED)
            *at = (*at)->dirty_next;
        else
            at = &(*at)->dirty_next;
    while (core->graves != NULL) {
        ks_grave *g = core->graves;
        core->graves = g->next;
        ks_free(g->block);
    }
}

/* ---- invariants ---- */

static void check_session(const ks_session *s, uint32_t *streams, uint32_t *embryos)
{
    uint32_t count = 0, buffered = 0, ready = 0, on_ready = 0;
    for (const ks_stream *st = s->streams; st != NULL; st = st->next) {
        MUST(st->session == s && (st->next == NULL || st->next->prev == st));
        MUST(st->src.fd >= 0 || (st->rx_count == 0 && st->app_fd < 0));
        count++;
        buffered += st->rx_charge;
        on_ready += st->on_ready;
    }
    for (const ks_stream *st = s->ready_head; st != NULL; st = st->ready_next, ready++)
        MUST(st->on_ready && (st->ready_next != NULL || s->ready_tail == st));
    MUST(s->state != KS_SESSION_ENDED);
    MUST(count == s->by_sid.count && buffered == s->buffered && ready == on_ready);
    /* One segment may hold so many frames of one byte. */
    MUST(s->buffered <= s->buffer_limit + 1500 / (KS_SMUX_HEAD + 1) * (KS_SLICE_CHARGE + 1));
    MUST(ks_kcp_unacked(&s->kcp) <= s->kcp.cfg.snd_wnd + 64 + 16);
    MUST(!s->dirty); /* or the next turn comes at once, and so on for ever */
    *streams += count;
    *embryos += s->embryo;
}

static void check_all(void)
{
    const ks_core *core = &world.core;
    uint32_t sessions = 0, streams = 0, embryos = 0, in_ports = 0, embryos_in_ports = 0;
    for (const ks_session *s = core->sessions; s != NULL; s = s->next, sessions++)
        check_session(s, &streams, &embryos);
    for (const ks_port *p = world.ports.all; p != NULL; p = p->next) {
        uint32_t waiting = 0;
        for (const ks_stream *st = p->wait_head; st != NULL; st = st->wait_next, waiting++)
            MUST(st->app_fd >= 0 && (st->wait_next != NULL || p->wait_tail == st));
        MUST(waiting == p->waiting && p->sessions == p->by_peer.count);
        MUST(p->front.fd >= 0 || p->sessions > 0);
        in_ports += p->sessions;
        embryos_in_ports += p->embryos;
    }
    MUST(sessions == core->session_count && sessions == in_ports && embryos == embryos_in_ports);
    MUST(streams == core->stream_count);
    MUST(core->count.curr_estab <= streams);
    MUST(ks_timers_next(&core->timers) > core->now_ms);
}

/* ---- steps ---- */

/* Two settle: what the application did is seen by the poller of the next. */
static void run(void)
{
    turn();
    for (int i = 0; world.core.dirty != NULL; i++) {
        MUST(i < 100);
        turn();
    }
    check_all();
}

static void put_packet(const uint8_t *packet, size_t size, uint32_t peer)
{
    if (world.ports.all == NULL)
        return;
    uint8_t *copy = malloc(size > 0 ? size : 1); /* so that a read behind it is seen */
    memcpy(copy, packet, size);
    ks_port_input_untrusted(world.ports.all, &peers[peer % PEERS], NULL, copy, size);
    free(copy);
}

static ks_session *session_of(uint32_t peer, uint32_t conv)
{
    for (ks_session *s = world.core.sessions; s != NULL; s = s->next)
        if (s->kcp.cfg.conv == conv && ks_addr_equal(&s->peer, &peers[peer % PEERS]))
            return s;
    return NULL;
}

/* A segment that fits: so that the input gets past the ARQ. `kind` chooses the frames in it. */
static void put_fitting(input *in)
{
    uint8_t packet[1500];
    uint32_t peer = take(in, 1), conv = 1 + take(in, 1) % CONVS, kind = take(in, 1);
    const ks_session *s = session_of(peer, conv);
    uint32_t len = 0;
    uint8_t *w = packet + KS_KCP_HEAD;
    for (uint32_t frames = 1 + kind / 16 % 4; frames > 0; frames--) {
        uint32_t sid = take(in, 1) % 6, cmd = take(in, 1), size = cmd % 8 == 2 ? take(in, 1) : 0;
        if (cmd % 8 == 4) {
            ks_smux_upd(w + len, sid, take(in, 4), take(in, 4));
            len += KS_SMUX_UPD;
            continue;
        }
        ks_smux_head(w + len, 2, (ks_smux_cmd)(cmd % 8 < 5 ? cmd % 8 : cmd % 2), (uint16_t)size, sid);
        len += KS_SMUX_HEAD;
        for (; size > 0; size--)
            w[len++] = (uint8_t)size;
    }
    ks_store32(packet, conv);
    packet[4] = 81;
    packet[5] = 0;
    ks_store16(packet + 6, kind % 8 == 0 ? 0 : 64);
    ks_store32(packet + 8, (uint32_t)world.core.now_ms);
    ks_store32(packet + 12, s == NULL ? 0 : s->kcp.rcv_nxt + (kind % 16 == 15));
    ks_store32(packet + 16, s == NULL ? 0 : kind % 4 == 3 ? s->kcp.snd_una : s->kcp.snd_nxt);
    ks_store32(packet + 20, len);
    put_packet(packet, KS_KCP_HEAD + len, peer);
}

static void put_any(input *in)
{
    uint8_t packet[1500];
    uint32_t peer = take(in, 1), flags = take(in, 1), size = flags % 16 == 0 ? take(in, 1) * 6 : take(in, 1) % 64;
    if (size > sizeof packet)
        size = sizeof packet;
    for (uint32_t i = 0; i < size; i++)
        packet[i] = (uint8_t)take(in, 1);
    if (size >= KS_KCP_HEAD && flags & 2) { /* the conversation and the command are right, the rest is anything */
        ks_store32(packet, 1 + packet[0] % CONVS);
        packet[4] = (uint8_t)(81 + packet[4] % 4);
        if (flags & 4)
            ks_store32(packet + 20, size - KS_KCP_HEAD);
    }
    put_packet(packet, size, peer);
}

static void accept_one(void)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } ctl;
    ks_accept_msg names;
    struct iovec iov = {&names, sizeof names};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof ctl};
    if (world.listener < 0 || recvmsg(world.listener, &m, MSG_DONTWAIT) != (ssize_t)sizeof names)
        return;
    int fd, place = 0;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    while (place < APPS - 1 && world.apps[place] >= 0)
        place++;
    if (world.apps[place] >= 0)
        close(world.apps[place]);
    world.apps[place] = fd;
}

static void close_listener(void)
{
    if (world.listener >= 0)
        close(world.listener);
    world.listener = -1;
}

static void step(input *in)
{
    static uint8_t bytes[65536];
    uint32_t what = take(in, 1);
    int *app = &world.apps[what / 16 % APPS];
    switch (what % 16) {
    case 0: case 1:
        put_any(in);
        break;
    case 2: case 3: case 4: case 5: case 6:
        put_fitting(in);
        break;
    case 7:
        accept_one();
        break;
    case 8:
        if (*app >= 0)
            (void)!recv(*app, bytes, 1 + take(in, 2), MSG_DONTWAIT);
        break;
    case 9:
        if (*app >= 0)
            (void)!send(*app, bytes, 1 + take(in, 2), MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case 10:
        if (*app >= 0)
            shutdown(*app, (int)(take(in, 1) % 3));
        break;
    case 11:
        if (*app >= 0)
            close(*app);
        *app = -1;
        break;
    case 12:
        world.core.now_ms += take(in, 1);
        break;
    case 13: {
        uint64_t due = ks_timers_next(&world.core.timers);
        if (due != KS_NEVER && due > world.core.now_ms)
            world.core.now_ms = due;
        break;
    }
    case 14:
        ks_mem_fail_after(take(in, 1) % 8);
        break;
    default:
        if (what / 16 == 0 && take(in, 1) < 16)
            close_listener();
        else if (world.core.sessions != NULL && world.core.sessions->streams != NULL && what / 16 == 1 &&
                 world.core.sessions->streams->src.fd >= 0)
            ks_stream_reset(world.core.sessions->streams, 0);
    }
}

/* ---- a run ---- */

static int udp_socket(ks_addr *name)
{
    socklen_t len = sizeof *name;
    memset(name, 0, sizeof *name);
    name->in4.sin_family = AF_INET;
    name->in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    MUST(bind(fd, &name->sa, sizeof name->in4) == 0 && getsockname(fd, &name->sa, &len) == 0);
    return fd;
}

static void open_world(uint32_t flags)
{
    ks_profile p = {
        .framing = flags & 1 ? KS_FRAMING_RAW : KS_FRAMING_SMUX, .smux_version = 2, .nodelay = flags >> 1 & 1,
        .interval_ms = 10, .resend = 2, .nc = flags >> 2 & 1, .sndwnd_pkts = 16, .rcvwnd_pkts = RCVWND, .mtu_bytes = 1400,
        .stream = 1, .sockbuf_bytes = 65536, .keepalive_ms = flags & 8 ? 1000 : 0, .keepalive_timeout_ms = 3000,
    };
    ks_addr name;
    int engine, udp = udp_socket(&name);
    memset(&world, 0, sizeof world);
    memset(world.apps, -1, sizeof world.apps);
    world.core.now_ms = 1000;
    world.core.way = KS_UDP_WAY_AUTO;
    ks_seg_pools_init(&world.core.pools);
    ks_batch_init(&world.core.batch, &world.core.count, ks_port_refused);
    MUST(ks_poller_init(&world.core.poller) == 0);
    MUST(ks_front_pair(&world.listener, &engine, 0) == 0);
    ks_front_own(udp);
    MUST(ks_port_listen(&world.core, &world.ports, udp, &(ks_settings){.profile = &p}, engine, ks_front_inode(world.listener), 3) == 0);
}

static void close_world(void)
{
    close_listener();
    for (int i = 0; i < APPS; i++)
        if (world.apps[i] >= 0)
            close(world.apps[i]);
    /* With nobody left at this end, all ends by itself, whatever the peers do: keepalive off leaves sessions that wait. */
    for (int i = 0; i < 200 && world.ports.all != NULL; i++) {
        run();
        uint64_t due = ks_timers_next(&world.core.timers);
        if (due != KS_NEVER && due > world.core.now_ms)
            world.core.now_ms = due;
    }
    while (world.ports.all != NULL) {
        ks_port *p = world.ports.all;
        ks_port_unlisten(p);
        ks_port_del(p);
    }
    turn();
    MUST(world.core.session_count == 0 && world.core.stream_count == 0 && world.core.by_inode.count == 0);
    MUST(world.core.count.curr_estab == 0);
    MUST(world.core.pools.small.used + world.core.pools.large.used == 0);
    ks_poller_free(&world.core.poller);
    ks_timers_free(&world.core.timers);
    ks_seg_pools_free(&world.core.pools);
}

static int lowest_free(void)
{
    int fd = dup(sink);
    close(fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (sink < 0) {
        MUST(ks_front_init() == 0);
        sink = udp_socket(&peers[0]); /* never read: answers fill it up and are gone */
        for (uint32_t i = 1; i < PEERS; i++) {
            peers[i] = peers[0];
            peers[i].in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i);
        }
    }
    input in = {data, data + size};
    uint64_t used = ks_mem_used();
    int fd = lowest_free();
    open_world(take(&in, 1));
    while (in.next < in.end) {
        step(&in);
        run();
    }
    ks_mem_fail_after(0);
    close_world();
    MUST(ks_mem_used() == used);
    MUST(lowest_free() == fd);
    return 0;
}

#ifndef KS_LIBFUZZER
static uint64_t random_state;

static uint32_t random32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}

static int run_file(const char *name)
{
    static uint8_t bytes[1 << 20];
    FILE *f = fopen(name, "rb");
    if (f == NULL)
        return 0;
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    LLVMFuzzerTestOneInput(bytes, size);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc > 1 && run_file(argv[1])) {
        for (int i = 2; i < argc; i++)
            if (!run_file(argv[i]))
                return 2;
        printf("%d files: no invariant broken\n", argc - 1);
        return 0;
    }
    unsigned long runs = argc > 1 ? strtoul(argv[1], NULL, 10) : 3000, seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    printf("fuzz_port: %lu runs, seeds from %lu: ", runs, seed);
    fflush(stdout);
    for (unsigned long run = 0; run < runs; run++) {
        static uint8_t bytes[4096];
        random_state = (seed + run) * 0x9e3779b97f4a7c15u + 1;
        size_t size = random32() % sizeof bytes;
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)random32();
        fprintf(stderr, "\rseed %lu ", seed + run); /* the last words of a run that breaks: its seed makes it again */
        LLVMFuzzerTestOneInput(bytes, size);
    }
    fprintf(stderr, "\r");
    printf("no invariant broken\n");
    return 0;
}
#endif
