/* SPDX-License-Identifier: MIT */
/* Any packets from some addresses at a listening port, or from the peer of a connecting one, mixed with whatever its application does, in virtual time: after
 * every step the port's and the sessions' counts agree with their lists, nothing grows beyond its limit, and in the end no
 * memory and no descriptor is missing.
 *
 * The first two bytes say what the port has: framing, FEC, a checksum (crypt "none"), message mode, copies and a rate limit,
 * compression (by a codec of our own, which swells, breaks and ends as the input says).
 * The peers' FEC packets come from encoders; some of them are lost, so that the port rebuilds them, and some are forged. */
#include "crypt/crc32.h"
#include "host.h"
#include "main.h"
#include "wire/oob.h"
#include "base/octets.h"

enum { PEERS = 3, CONVS = 3, APPS = 8, RCVWND = 32, MAX_STREAMS = 4 };
enum { RAW = 1, NODELAY = 2, NC = 4, KEEPALIVE = 8, FEC = 16, CRYPT = 32, MESSAGES = 64, DUP_AND_LIMIT = 128, CONNECTS = 256,
       COMPRESS = 512 };
enum { CRYPT_HEAD = 20, DS = 3, PS = 2 };

static struct {
    host host;
    uint64_t now_us;
    int listener;       /* the application's end, -1 when closed */
    int apps[APPS];     /* accepted, -1 for none */
    uint32_t flags;
    ks_fec_encoder *encoders[PEERS]; /* the peers'; NULL without FEC */
} world;

static ks_addr peers[PEERS];
static int sink = -1;
static int swollen; /* bytes that the codec still has to give */

/* Bytes stand for themselves, but for one that swells beyond the engine's space and one that is broken. */
static int run_codec(uint64_t id, int what, const uint8_t *in, int size, uint8_t *out, int cap)
{
    MUST(id != 0 && (what == KS_CODEC_CLOSE || (size <= cap && cap == (int)KS_CODEC_BYTES)));
    if (what == KS_CODEC_COMPRESS && size > 0)
        memcpy(out, in, (size_t)size);
    if (what == KS_CODEC_DECOMPRESS) {
        swollen = size > 0 ? size : swollen;
        if (size > 0 && in[size - 1] == 0xbb)
            swollen = 2 * (int)KS_CODEC_BYTES + in[size / 2];
        if (size > 0 && in[size - 1] == 0xee)
            return -1;
        int n = swollen < cap ? swollen : cap;
        memset(out, 0, (size_t)n);
        memcpy(out, in, (size_t)(size < n ? size : n));
        swollen -= n;
        return n;
    }
    return what == KS_CODEC_CLOSE ? 0 : size;
}

/* ---- steps ---- */

static void run(void)
{
    host_step_in(&world.host);
    host_settle(&world.host);
}

/* Or to the next timer, with 0. */
static void pass_time(uint64_t ms)
{
    uint64_t due = ks_timers_next(&world.host.core->timers), now_ms = world.now_us / 1000;
    if (ms == 0)
        ms = due != KS_NEVER && due > now_ms ? due - now_ms : 0;
    world.now_us += ms * 1000;
    host_step_in(&world.host);
}

static void put_bytes(const uint8_t *packet, size_t size, uint32_t peer)
{
    if (world.host.ports->all == NULL)
        return;
    uint8_t *copy = malloc(size > 0 ? size : 1); /* so that a read behind it is seen */
    memcpy(copy, packet, size);
    ks_port_input_untrusted(world.host.ports->all, &peers[peer % PEERS], NULL, copy, size);
    free(copy);
}

/* With the checksum that the port asks for, if it does. */
static void put_packet(const uint8_t *packet, size_t size, uint32_t peer)
{
    uint8_t sealed[CRYPT_HEAD + 1600] = {0};
    if (world.host.ports->all == NULL || world.host.ports->all->owner.link.crypt == NULL) {
        put_bytes(packet, size, peer);
        return;
    }
    memcpy(sealed + CRYPT_HEAD, packet, size);
    ks_put_le32(sealed + 16, ks_crc32(packet, size));
    put_bytes(sealed, CRYPT_HEAD + size, peer);
}

/* A KCP packet behind a FEC head, and the parity packets that follow it; some of them are lost. */
static void put_by_fec(const uint8_t *packet, size_t size, uint32_t peer, uint32_t lost)
{
    uint8_t bytes[KS_FEC_HEAD + 1500];
    ks_fec_encoder *e = world.encoders[peer % PEERS];
    memcpy(bytes + KS_FEC_HEAD, packet, size);
    uint32_t parities = ks_fec_encode(e, bytes, KS_FEC_HEAD + size, world.host.core->now_ms);
    if (!(lost & 1))
        put_packet(bytes, KS_FEC_HEAD + size, peer);
    for (uint32_t i = 0; i < parities; i++) {
        const uint8_t *parity = ks_fec_parity(e, i, &size);
        if (!(lost >> i & 2))
            put_packet(parity, size, peer);
    }
}

/* A connecting port has one session, whose number is its own choice. */
static uint32_t conversation(uint32_t choice)
{
    bool connects = world.flags & CONNECTS && world.host.core->sessions != NULL;
    return connects ? world.host.core->sessions->kcp.cfg.conv : 1 + choice % CONVS;
}

static ks_session *session_of(uint32_t peer, uint32_t conv)
{
    for (ks_session *s = world.host.core->sessions; s != NULL; s = s->next)
        if (s->kcp.cfg.conv == conv && ks_addr_equal(&s->peer, &peers[peer % PEERS]))
            return s;
    return NULL;
}

/* A segment that fits: so that the input gets past the ARQ. `kind` chooses the frames in it. */
static void put_fitting(input *in)
{
    uint8_t packet[1500];
    uint32_t how = take(in, 1), peer = world.flags & CONNECTS ? 0 : how % PEERS, conv = conversation(take(in, 1)), kind = take(in, 1);
    const ks_session *s = session_of(peer, conv);
    uint32_t len = 0;
    uint8_t *w = packet + KS_KCP_HEAD;
    if (world.flags & COMPRESS && s == NULL)
        w[len++] = 0xff;
    for (uint32_t frames = 1 + kind / 16 % 4; frames > 0; frames--) {
        uint32_t sid = take(in, 1) % 6, cmd = take(in, 1), size = cmd % 8 == 2 ? take(in, 1) : 0;
        if (cmd % 8 == 4) {
            ks_smux_upd(w + len, sid, cmd & 128 ? 0 : take(in, 4), cmd & 128 ? 0 : take(in, 4)); /* 0, 0: shut */
            len += KS_SMUX_UPD;
            continue;
        }
        ks_smux_head(w + len, 2, (ks_smux_cmd)(cmd % 8 < 5 ? cmd % 8 : cmd % 2), (uint16_t)size, sid);
        len += KS_SMUX_HEAD;
        for (; size > 0; size--)
            w[len++] = (uint8_t)size;
    }
    if (world.flags & COMPRESS && how & 32)
        w[len++] = how & 128 ? 0xbb : 0xee;
    ks_put_le32(packet, conv);
    packet[4] = 81;
    packet[5] = world.flags & MESSAGES ? (uint8_t)(how / 4 % 4) : 0;
    ks_put_le16(packet + 6, kind % 8 == 0 ? 0 : 64);
    ks_put_le32(packet + 8, (uint32_t)world.host.core->now_ms);
    ks_put_le32(packet + 12, s == NULL ? 0 : s->kcp.rcv_nxt + (kind % 16 == 15));
    ks_put_le32(packet + 16, s == NULL ? 0 : kind % 4 == 3 ? s->kcp.snd_una : s->kcp.snd_nxt);
    ks_put_le32(packet + 20, len);
    if (world.flags & FEC && how & 64)
        put_by_fec(packet, KS_KCP_HEAD + len, peer, how / 128 | (how / 4 & 6));
    else
        put_packet(packet, KS_KCP_HEAD + len, peer);
}

/* A FEC head with a number near the encoder's, or anywhere, and any kind of size; behind it, perhaps, a conversation. */
static void put_forged_fec(input *in)
{
    static const uint8_t types[] = {0xf1, 0xf2, 0xf2, 0xf3};
    uint8_t packet[600];
    uint32_t how = take(in, 1), size = KS_FEC_HEAD + take(in, 1) * (how & 1 ? 2 : 1);
    memset(packet, (int)how, sizeof packet);
    ks_put_le32(packet, how & 2 ? UINT32_MAX - take(in, 1) : how & 4 ? take(in, 4) : take(in, 1));
    ks_put_le16(packet + 4, types[how / 8 % 4]);
    ks_put_le16(packet + 6, (uint16_t)(how & 32 ? take(in, 2) : size - 6));
    ks_put_le32(packet + KS_FEC_HEAD, conversation(take(in, 1)));
    packet[KS_FEC_HEAD + 4] = (uint8_t)(81 + how / 64);
    ks_put_le32(packet + KS_FEC_HEAD + 20, how & 16 || size < 32 ? take(in, 1) : size - 32);
    (how & 128 ? put_bytes : put_packet)(packet, size, how);
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
        ks_put_le32(packet, conversation(packet[0]));
        packet[4] = (uint8_t)(81 + packet[4] % 4);
        if (flags & 4)
            ks_put_le32(packet + 20, size - KS_KCP_HEAD);
    }
    (flags & 8 ? put_bytes : put_packet)(packet, size, peer);
}

static void accept_one(void)
{
    int fd = world.listener < 0 ? -1 : host_accept(world.listener), place = 0;
    if (fd < 0)
        return;
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

static ks_profile profile_of(uint32_t flags)
{
    return (ks_profile){
        .framing = flags & RAW ? KS_FRAMING_RAW : KS_FRAMING_SMUX, .smux_version = 2, .nodelay = flags / NODELAY & 1,
        .interval_ms = 10, .resend = 2, .nc = flags / NC & 1, .sndwnd_pkts = 16, .rcvwnd_pkts = RCVWND, .mtu_bytes = 1400,
        .stream = !(flags & MESSAGES), .sockbuf_bytes = 65536, .keepalive_ms = flags & KEEPALIVE ? 1000 : 0,
        .keepalive_timeout_ms = 3000, .max_streams = MAX_STREAMS, .max_half_open = flags & KEEPALIVE ? 64 : 2,
        .fec_data = flags & FEC ? DS : 0, .fec_parity = flags & FEC ? PS : 0,
        .compress = flags & COMPRESS && !(flags & RAW), .dup = flags & DUP_AND_LIMIT ? 1 : 0, .rate_limit = flags & DUP_AND_LIMIT ? 50000 : 0,
    };
}

static ks_crypt *crypt_of(uint32_t flags)
{
    return flags & CRYPT ? ks_crypt_new(KS_CRYPT_NONE, NULL, 0, NULL) : NULL;
}

/* On the port that a closed listener's sessions hold, with other settings. */
static void listen_again(uint32_t flags)
{
    ks_profile p = profile_of(flags);
    ks_settings with = {.profile = &p};
    int engine, udp = world.host.ports->all != NULL ? ks_port_adopt(world.host.ports, &world.host.ports->all->local, false, true) : -1;
    if (udp < 0)
        return;
    ks_front_own(udp);
    MUST(ks_front_pair(&world.listener, &engine, 0) == 0);
    with.crypt = crypt_of(flags);
    const ks_session_owner *old = &world.host.ports->all->owner;
    bool suits = (with.crypt == NULL || old->link.crypt != NULL) && p.compress == old->profile.compress;
    ks_lobby *lobby = NULL;
    int result = ks_port_find(world.host.ports, ks_front_inode(udp), &with, &lobby);
    if (result == 0) {
        ks_lobby_reopen(lobby, 3);
        result = ks_port_relisten(world.host.ports, lobby, &with, engine, ks_front_inode(world.listener));
        MUST(!ks_lobby_rest(lobby));
        ks_lobby_unref(lobby);
    } else {
        ks_crypt_del(with.crypt);
        ks_front_close(engine);
    }
    ks_front_close(udp);
    MUST(suits ? result == 0 || result == -ENOMEM : result == -EADDRINUSE);
    if (result < 0)
        close_listener();
}

/* What an application may ask of a live connection. */
static void set_live(input *in)
{
    ks_session *s = world.host.core->sessions;
    static const uint8_t data[1500] = {0};
    uint32_t what = take(in, 1);
    if (s == NULL || s->streams == NULL)
        return;
    if (what % 4 == 0)
        s->streams->oob_id = what;
    else if (what % 4 == 1)
        (void)ks_session_send_oob(s, data, take(in, 1) * 6);
    else if (what % 4 == 2)
        s->dup = what % (KS_DUP_MAX + 1);
    else
        ks_session_set_rate_limit(s, what & 8 ? (uint64_t)take(in, 4) << what % 32 : take(in, 2));
    ks_session_mark(s);
}

static void step(input *in)
{
    static uint8_t bytes[65536];
    uint32_t what = take(in, 1);
    int *app = &world.apps[what / 16 % APPS];
    switch (what % 16) {
    case 0:
        put_any(in);
        break;
    case 1:
        (world.flags & (FEC | CRYPT | MESSAGES | DUP_AND_LIMIT) ? put_forged_fec : put_any)(in);
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
    case 13:
        pass_time(what % 16 == 12 ? 1 + take(in, 1) : 0);
        break;
    case 14:
        ks_mem_fail_after(take(in, 1) % 8);
        break;
    default:
        if (what / 16 == 0 && take(in, 1) < 16)
            close_listener();
        else if (what / 16 == 2 && world.listener < 0 && !(world.flags & CONNECTS))
            listen_again(world.flags ^ take(in, 1) % 4 * FEC);
        else if (what / 16 > 10)
            set_live(in);
        else if (world.host.core->sessions != NULL && world.host.core->sessions->streams != NULL && what / 16 == 1 &&
                 world.host.core->sessions->streams->src.fd >= 0)
            ks_stream_reset(world.host.core->sessions->streams, 0);
    }
}

/* ---- a run ---- */

static void open_world(uint32_t flags)
{
    ks_profile p = profile_of(flags);
    ks_settings with = {.profile = &p, .crypt = crypt_of(flags)};
    ks_addr name;
    int udp = host_udp_socket(&name);
    memset(&world, 0, sizeof world);
    memset(world.apps, -1, sizeof world.apps);
    world.flags = flags;
    world.now_us = 1000000;
    world.listener = -1;
    host_open(&world.host, &world.now_us, KS_UDP_WAY_AUTO);
    if (flags & CONNECTS) {
        MUST(connect(udp, &peers[0].sa, sizeof peers[0].in4) == 0);
        world.apps[0] = host_connect(&world.host, udp, &with);
    } else
        world.listener = host_listen(&world.host, udp, &with, 3);
    ks_fec_code *code = flags & FEC ? ks_fec_code_new(DS, PS, NULL) : NULL;
    for (int i = 0; code != NULL && i < PEERS; i++)
        world.encoders[i] = ks_fec_encoder_new(code, KS_FEC_HEAD + 1500);
    ks_fec_code_unref(code);
}

static void close_world(void)
{
    close_listener();
    for (int i = 0; i < APPS; i++)
        if (world.apps[i] >= 0)
            close(world.apps[i]);
    /* With nobody left at this end, all ends by itself, whatever the peers do: keepalive off leaves sessions that wait. */
    for (int i = 0; i < 200 && world.host.ports->all != NULL; i++) {
        run();
        pass_time(0);
    }
    host_close(&world.host);
    for (int i = 0; i < PEERS; i++)
        ks_fec_encoder_del(world.encoders[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (sink < 0) {
        MUST(ks_front_init() == 0 && ks_oob_fd() >= 0);
        ks_codec_use(run_codec);
        sink = host_udp_socket(&peers[0]); /* never read: answers fill it up and are gone */
        for (uint32_t i = 1; i < PEERS; i++) {
            peers[i] = peers[0];
            peers[i].in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i);
        }
    }
    input in = {data, data + size};
    uint64_t used = ks_mem_used();
    int fd = host_lowest_free_fd();
    uint32_t flags = take(&in, 1);
    open_world(flags | take(&in, 1) << 8);
    while (in.next < in.end) {
        step(&in);
        run();
    }
    ks_mem_fail_after(0);
    close_world();
    MUST(ks_mem_used() == used);
    MUST(host_lowest_free_fd() == fd);
    return 0;
}
