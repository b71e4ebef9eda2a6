/* SPDX-License-Identifier: MIT */
#include "engine/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "engine/accept_queue.h"
#include "engine/moving.h"
#include "engine/peers.h"
#include "os/front.h"
#include "session/challenge.h"
#include "session/profile.h"
#include "session/session_line.h"
#include "base/octets.h"
#include "base/serial.h"

#define RECEIVE_ROUNDS 4     /* batches from one socket before the others get their turn */
#define ANSWERED_MAX 1024u   /* half-open sessions of one port beyond max_half_open, of who has answered a cookie */
#define HALF_OPEN_PKTS 8192u /* that all of these keep together, or one each */
#define COOKIE_WND_PKTS 32u  /* what kcp-go takes a peer's window for before it hears of one */
#define SNAPPY_FIRST_BYTE 0xff /* of the stream identifier, with which a compressed stream begins */

/* ---- sessions ---- */

static ks_session *session_add(ks_port *p, uint32_t conv, const ks_addr *peer, const ks_addr *local, bool opener)
{
    ks_session *s = ks_session_new(p->core, &p->owner, conv, peer, local, opener);
    if (s == NULL)
        return NULL;
    p->sessions++;
    if (!opener)
        ks_port_count_half_open(p, s);
    if (!ks_peers_add(p, s)) {
        ks_session_fail(s, ENOMEM);
        return NULL;
    }
    return s;
}

static void ended(ks_session_owner *owner, ks_session *s)
{
    ks_port *p = ks_port_of(owner);
    ks_peers_remove(p, s);
    ks_moving_end(s);
    if (p->parity_due == s)
        p->parity_due = NULL;
    ks_port_uncount_half_open(p, s);
    p->sessions--;
    ks_port_rest(p);
}

static void silent(ks_session_owner *owner)
{
    ks_port *p = ks_port_of(owner);
    p->silent = true;
    ks_port_more_append(p); /* in the next turn */
}

/* All that a packet opens it also ends, by a farewell or by a reset of its one stream: there is nobody to serve. */
static bool is_over_at_once_untrusted(uint8_t version, const uint8_t *data, size_t size)
{
    ks_smux_parser parser;
    ks_smux_event event, last = {.cmd = KS_SMUX_NOP};
    uint32_t opened = 0;
    bool over = false;
    ks_smux_parser_init(&parser, version);
    while (ks_smux_parse_untrusted(&parser, &data, &size, &event) == 1) {
        opened += event.cmd == KS_SMUX_SYN;
        bool reset = opened == 1 && last.cmd == KS_SMUX_FIN && last.sid == event.sid;
        over = event.cmd == KS_SMUX_FIN && (event.sid == 0 || reset);
        last = event;
    }
    return over;
}

/* A packet may begin a session if it is what an opener sends first: data from the first window, nothing received yet. */
static bool begins_session(const ks_port *p, const uint8_t *packet, size_t size)
{
    uint32_t len = ks_get_le32(packet + 20);
    if (packet[4] != 81 || len > size - KS_KCP_HEAD || ks_get_le32(packet + 16) != 0 ||
        ks_get_le32(packet + 12) >= ks_profile_rcv_wnd(&p->owner.profile))
        return false;
    const uint8_t *data = packet + KS_KCP_HEAD;
    bool first = ks_get_le32(packet + 12) == 0;
    if (p->owner.profile.compress != 0 && first)
        return len > 0 && data[0] == SNAPPY_FIRST_BYTE;
    if (p->owner.profile.framing == KS_FRAMING_SMUX && first && len >= KS_SMUX_HEAD)
        return data[0] == p->owner.profile.smux_version && (data[1] == KS_SMUX_SYN || data[1] == KS_SMUX_NOP) &&
               !(len == size - KS_KCP_HEAD && is_over_at_once_untrusted(data[0], data, len));
    return true;
}

/* Answers a packet that belongs to no session, with those of this turn. `earned`: bytes that came. */
static void answer(ks_port *p, const ks_addr *from, const ks_addr *local, const uint8_t *packet, size_t size,
                   size_t earned)
{
    ks_credit credit = {.validated = false};
    ks_credit_earn(&credit, earned + ks_link_overhead(&p->owner.link, false)); /* always enough: it is 24 at least */
    ks_route route = {.link = &p->owner.link, .to = from, .from = local, .credit = &credit};
    ks_batch_put_answer(&p->core->batch, &route, packet, size, p->core->now_ms);
}

static void refuse(ks_port *p, const ks_addr *from, const ks_addr *local, const uint8_t *packet, size_t size)
{
    uint8_t refusal[32];
    /* Compressed, an answer would cost the GIL for any stranger's packet: there the peer finds out by its timeout. */
    if (p->owner.profile.framing != KS_FRAMING_SMUX || p->owner.profile.compress != 0)
        return;
    size_t n = ks_session_refusal_untrusted(packet, size, (uint8_t)p->owner.profile.smux_version, refusal);
    if (n == 0)
        return;
    p->core->count.resets_sent++;
    answer(p, from, local, refusal, n, size);
}

/* Too many are half open for one more. Who hears the cookie answers it, and has a place of its own; its first packet it will
 * send again. Nothing is kept of it here. */
static void send_cookie(ks_port *p, const ks_addr *from, const ks_addr *local, uint32_t conv)
{
    uint8_t challenge[KS_KCP_HEAD];
    ks_challenge_write(challenge, conv, COOKIE_WND_PKTS, ks_cookie(&p->core->secret, from, conv, p->core->now_ms));
    p->core->count.cookies_sent++;
    answer(p, from, local, challenge, sizeof challenge, sizeof challenge);
}

static bool has_cookie(const ks_port *p, const ks_addr *from, uint32_t conv, const uint8_t *packet, size_t size)
{
    uint32_t cookie;
    return ks_challenge_find_untrusted(packet, size, &cookie) &&
           ks_cookie_is_good(&p->core->secret, from, conv, p->core->now_ms, cookie);
}

/* A session for a first packet, or for the answer to a cookie. NULL: there is none now. */
static ks_session *begin_session(ks_port *p, const ks_addr *from, const ks_addr *local, uint32_t conv, bool answered)
{
    const uint32_t most = (uint32_t)p->owner.profile.max_half_open + (answered ? ANSWERED_MAX : 0);
    if (ks_lobby_is_full(p->lobby)) {
        p->core->count.backlog_drops++; /* the peer's retransmission tries again, as with TCP */
        return NULL;
    }
    if (!answered && p->half_open >= most) {
        send_cookie(p, from, local, conv);
        return NULL;
    }
    /* Who answers is there. Who has waited longest, for its proof or for a descriptor, has had its time. */
    if (p->half_open >= most)
        ks_session_give_way(p->half_open_oldest);
    ks_addr none;
    memset(&none, 0, sizeof none);
    ks_session *s = session_add(p, conv, from, local != NULL ? local : &none, false);
    if (s != NULL)
        ks_session_mark(s); /* what begins it may be an out-of-band packet, which marks nothing */
    return s;
}

/* -> whether the session of this conversation is at another of the lobby's ports, and the packet on its way there. What may begin
 * one stays: it may be another peer's first, of the same number by chance or by choice. */
static bool passes_on(const ks_port *p, uint32_t conv, const ks_opened *o, const uint8_t *kcp)
{
    bool first = kcp != NULL && kcp[4] == KS_KCP_PUSH && ks_get_le32(kcp + 12) == 0;
    bool passed = p->strays != NULL && !o->stray && !first && ks_port_lets_move(p) && ks_strays_pass(p->strays, p->place, conv, o);
    p->core->count.stray_pkts += passed;
    return passed;
}

/* The session of a KCP packet, which is the last `size` bytes of what was opened; begun by it if need be. */
static ks_session *session_for(ks_port *p, const ks_opened *o, const uint8_t *packet, size_t size)
{
    if (size < KS_KCP_HEAD) {
        p->core->count.in_errs++;
        return NULL;
    }
    uint32_t conv = ks_get_le32(packet);
    ks_session *s = ks_peers_find(p, o->from, conv);
    if (s != NULL) {
        if (!s->credit.validated) /* together they fit into memory, alone one has all that it wants */
            ks_kcp_take_most(&s->kcp, ks_max32(1, HALF_OPEN_PKTS / ks_max32(1, p->half_open)));
        return s;
    }
    if (p->owner.link.udp.connected) {
        p->core->count.in_errs++; /* a connected socket has one session, ours */
        return NULL;
    }
    ks_session *elsewhere = ks_peers_find_anywhere(p, conv);
    if (elsewhere != NULL && ks_port_lets_move(p)) {
        if (ks_moving_input_untrusted(p, elsewhere, o->from, o->local, packet, size))
            return elsewhere;
        if (ks_get_le32(packet + 12) != 0) /* else as passes_on() says */
            return NULL;
    }
    if (o->stray) {
        p->core->count.in_errs++; /* its session has ended meanwhile */
        return NULL;
    }
    if (passes_on(p, conv, o, packet))
        return NULL;
    bool answered = p->front.fd >= 0 && has_cookie(p, o->from, conv, packet, size);
    if (!answered && (p->front.fd < 0 || !begins_session(p, packet, size))) {
        p->core->count.in_errs++;
        if (elsewhere == NULL) /* or who is there would be told that its connection is none */
            refuse(p, o->from, o->local, packet, size);
        return NULL;
    }
    return begin_session(p, o->from, o->local, conv, answered);
}

static void input_fec(ks_port *p, ks_session *s, const uint8_t *packet, size_t size)
{
    ks_session_input_fec_untrusted(s, packet, size);
    p->parity_due = p->owner.link.crypt != NULL && ks_fec_parity_due(s->decoder) ? s : NULL;
}

/* A quarter of the packets, where nothing is lost, and opening them were a tenth of all work: thrown away by their heads. They
 * are not verified, so nothing else may come of them. */
static bool skip_parity(ks_port *p, const ks_addr *from, const uint8_t *packet, size_t size)
{
    uint8_t start[KS_CRYPT_PEEK];
    ks_session *s = p->parity_due;
    if (s == NULL || !ks_addr_equal(&s->peer, from) ||
        ks_crypt_peek_untrusted(p->owner.link.crypt, packet, size, start) != KS_OK || !ks_fec_skip_untrusted(s->decoder, start))
        return false;
    if (!ks_fec_parity_due(s->decoder))
        p->parity_due = NULL;
    return true;
}

static void input_data(ks_port *p, const ks_opened *o)
{
    ks_session *s = session_for(p, o, o->data + KS_FEC_HEAD, o->size - KS_FEC_HEAD);
    if (s == NULL)
        return;
    ks_peers_note_fec(p, s);
    input_fec(p, s, o->data, o->size);
}

/* A parity packet names no conversation: it goes to the session at that address that has FEC. Were there several, which
 * no known peer makes, the wrong one would rebuild packets of another conversation, and KCP refuse them. */
static void input_parity(ks_port *p, const ks_opened *o)
{
    ks_session *s = ks_peers_find_fec(p, o->from);
    if (s != NULL)
        input_fec(p, s, o->data, o->size);
    else if (!o->stray && p->strays != NULL && ks_strays_pass_after(p->strays, p->place, o))
        p->core->count.stray_pkts++;
    else
        p->core->count.in_errs++;
}

static void input_oob(ks_port *p, const ks_opened *o)
{
    if (o->size < KS_FEC_HEAD + 4) {
        p->core->count.in_errs++;
        return;
    }
    uint32_t conv = ks_get_le32(o->data + KS_FEC_HEAD);
    ks_session *s = ks_peers_find(p, o->from, conv);
    if (s == NULL && passes_on(p, conv, o, NULL))
        return;
    if (s == NULL && p->front.fd >= 0 && !o->stray && p->owner.profile.framing == KS_FRAMING_RAW &&
        ks_peers_find_anywhere(p, conv) == NULL)
        s = begin_session(p, o->from, o->local, conv, false); /* as kcp-go does */
    if (s == NULL)
        p->core->count.oob_drops++;
    else
        ks_session_input_oob(s, o->data + KS_FEC_HEAD + 4, o->size - KS_FEC_HEAD - 4);
}

static void input_opened(ks_port *p, const ks_opened *o)
{
    if (p->owner.link.crypt != NULL && ks_nonces_is_own(&p->owner.link.nonces, o->nonce)) {
        p->core->count.reflected_pkts++;
        return;
    }
    /* The two bytes after the first four tell FEC from bare KCP, whose command is 81 to 84. */
    switch (o->size >= KS_FEC_HEAD ? ks_get_le16(o->data + 4) : 0) {
    case KS_FEC_DATA:
        input_data(p, o);
        break;
    case KS_FEC_PARITY:
        input_parity(p, o);
        break;
    case KS_FEC_OOB:
        input_oob(p, o);
        break;
    default: {
        ks_session *s = session_for(p, o, o->data, o->size);
        if (s != NULL)
            ks_session_input_untrusted(s, o->data, o->size);
    }
    }
}

void ks_port_input_untrusted(ks_port *p, const ks_addr *from, const ks_addr *local, uint8_t *packet, size_t size)
{
    if (p->closing)
        return; /* its crypt is gone: what comes now would be read as plaintext */
    if (skip_parity(p, from, packet, size))
        return;
    ks_opened o = {.from = from, .local = local, .nonce = packet, .data = packet, .size = size};
    if (p->owner.link.crypt != NULL && ks_crypt_open_untrusted(p->owner.link.crypt, packet, size, &o.data, &o.size) != KS_OK) {
        p->core->count.in_csum_errors++;
        return;
    }
    input_opened(p, &o);
}

static void take_strays(ks_port *p)
{
    ks_stray_box box = ks_strays_take(p->strays, p->place);
    ks_opened o;
    while (ks_stray_next(&box, &o) && !p->closing)
        input_opened(p, &o);
    ks_strays_give_back(p->strays, p->place, &box);
}

void ks_ports_take_strays(ks_ports *ports)
{
    if (!atomic_exchange(&ports->bell.strays, false))
        return;
    for (ks_port *p = ports->all, *next; p != NULL; p = next) {
        next = p->next;
        if (p->strays != NULL)
            take_strays(p);
    }
}

/* ---- ports ---- */

static ks_port *port_new(ks_core *core, ks_ports *ports, int udp_fd, const ks_settings *with, int *error)
{
    ks_port *p = ks_port_new(core, ports, udp_fd, with, error);
    if (p == NULL)
        return NULL;
    p->owner.is_full = ks_port_is_full;
    p->owner.offer = ks_port_offer;
    p->owner.withdraw = ks_port_withdraw;
    p->owner.ended = ended;
    p->owner.silent = silent;
    return p;
}

int ks_port_connect(ks_core *core, ks_ports *ports, int udp_fd, const ks_settings *with, int engine_fd, uint64_t inode,
                    int app_fd, int fill_bytes, int app_sndbuf)
{
    int error = 0;
    uint32_t conv;
    ks_addr peer, none;
    socklen_t len = sizeof peer;
    memset(&peer, 0, sizeof peer);
    memset(&none, 0, sizeof none);
    if (getpeername(udp_fd, &peer.sa, &len) < 0 || getentropy(&conv, sizeof conv) < 0) {
        error = -errno;
        ks_crypt_del(with->crypt);
        ks_front_close(udp_fd);
    }
    ks_port *p = error == 0 ? port_new(core, ports, udp_fd, with, &error) : NULL;
    ks_session *s = p != NULL ? session_add(p, conv, &peer, &none, true) : NULL;
    if (s == NULL) {
        ks_front_close(engine_fd);
        ks_front_close(app_fd);
        if (p != NULL)
            ks_port_del(p);
        return error < 0 ? error : -ENOMEM;
    }
    if (ks_session_open_stream(s, engine_fd, inode, app_fd, fill_bytes, app_sndbuf) != KS_OK) {
        ks_port_del(p);
        return -ENOMEM;
    }
    return 0;
}

int ks_port_listen(ks_core *core, ks_ports *ports, ks_lobby *lobby, int udp_fd, const ks_settings *with, int engine_fd,
                   uint64_t inode)
{
    int error = 0;
    ks_port *p = port_new(core, ports, udp_fd, with, &error);
    if (p == NULL) {
        ks_front_close(engine_fd);
        return error;
    }
    if (ks_lobby_join(lobby, ports->bell.wake_fd) != KS_OK) {
        ks_front_close(engine_fd);
        ks_port_del(p);
        return -ENOMEM;
    }
    p->lobby = lobby;
    ks_strays *strays = ks_lobby_strays(lobby);
    p->place = strays != NULL ? ks_strays_join(strays, &ports->bell) : -1;
    p->strays = p->place >= 0 ? strays : NULL;
    error = ks_port_attach_front(p, engine_fd, inode);
    if (error < 0)
        ks_port_del(p);
    return error;
}

/* A port that its listener has left and sessions still hold, its own or its lobby's. */
static bool is_vacant(const ks_port *p)
{
    return p->front.fd < 0 && !p->owner.link.udp.connected && !p->closing;
}

int ks_port_adopt(ks_ports *ports, const ks_addr *name, bool v6only, bool reuse)
{
    for (const ks_port *p = ports->all; p != NULL; p = p->next)
        if (!p->owner.link.udp.connected && ks_addr_equal(&p->local, name) && ks_udp_is_v6only(p->src.fd) == v6only) {
            int fd = is_vacant(p) && reuse ? fcntl(p->src.fd, F_DUPFD_CLOEXEC, 3) : -1;
            return fd >= 0 ? fd : -EADDRINUSE;
        }
    return -ENOENT;
}

void ks_ports_allow_beside(ks_ports *ports, uint16_t number)
{
    for (const ks_port *p = ports->all; p != NULL; p = p->next)
        if (is_vacant(p) && p->local_port == number)
            ks_udp_allow_beside(p->src.fd);
}

/* A port for one session of a vacant one, on a socket of its own. NULL: the system had none. */
static ks_port *port_split(ks_port *p, const ks_session *s)
{
    int error = 0;
    ks_addr local = s->local.sa.sa_family != 0 ? s->local : p->local;
    if (local.sa.sa_family == AF_INET6)
        local.in6.sin6_port = p->local.in6.sin6_port;
    else
        local.in4.sin_port = p->local.in4.sin_port;
    int fd = ks_udp_split(p->src.fd, &local, &s->peer);
    if (fd < 0)
        return NULL;
    ks_front_own(fd);
    ks_profile profile = p->owner.profile;
    profile.fec_data = 0; /* the code is shared */
    ks_settings with = {.profile = &profile, .crypt = ks_crypt_ref(p->owner.link.crypt)};
    ks_port *own = port_new(p->core, p->ports, fd, &with, &error);
    if (own == NULL)
        return NULL;
    own->owner.profile = p->owner.profile;
    own->owner.fec = p->owner.fec != NULL ? ks_fec_code_ref(p->owner.fec) : NULL;
    return own;
}

static void move_session(ks_port *from, ks_port *to, ks_session *s)
{
    const bool waits = s->in_line;
    ks_port_uncount_half_open(from, s);
    ks_session_leave_line(s);
    if (from->parity_due == s)
        from->parity_due = NULL;
    bool had_fec = s->in_addresses;
    ks_peers_remove(from, s);
    from->sessions--;
    to->sessions++;
    s->owner = &to->owner;
    if (waits)
        ks_session_join_line(s);
    if (!ks_peers_add(to, s))
        ks_session_fail(s, ENOMEM);
    else if (had_fec)
        ks_peers_note_fec(to, s);
}

static void port_scatter(ks_port *p)
{
    ks_batch_send(&p->core->batch); /* it refers to the old socket */
    for (uint32_t n = p->by_peer.count; n > 0; n--) {
        uint32_t b = 0;
        ks_session *s = KS_OWNER(ks_hash_first(&p->by_peer, &b), ks_session, by_peer);
        ks_port *own = port_split(p, s);
        if (own == NULL)
            return; /* no descriptor is left: the name stays taken */
        move_session(p, own, s);
    }
    ks_port_rest(p);
}

void ks_ports_scatter(ks_ports *ports, uint16_t number)
{
    for (ks_port *p = ports->all, *next; p != NULL; p = next) {
        next = p->next; /* new ones come before the first */
        if (is_vacant(p) && p->local_port == number && !p->idle)
            port_scatter(p);
    }
}

/* Whether the sessions that are left can live with a new listener's settings: their packets must still fit, and sessions
 * that compress have an engine of their own. */
static bool suits(const ks_port *p, const ks_settings *with)
{
    ks_link link = {.crypt = with->crypt};
    return ks_link_overhead(&link, false) <= ks_link_overhead(&p->owner.link, false) &&
           with->profile->compress == p->owner.profile.compress;
}

int ks_port_find(ks_ports *ports, uint64_t socket_inode, const ks_settings *with, ks_lobby **lobby)
{
    for (ks_port *p = ports->all; p != NULL; p = p->next)
        if (p->lobby != NULL && !p->closing && ks_front_inode(p->src.fd) == socket_inode) {
            if (!is_vacant(p) || !suits(p, with))
                return -EADDRINUSE;
            if (!ks_lobby_enter(p->lobby))
                return -ENOENT;
            *lobby = p->lobby;
            return 0;
        }
    return -ENOENT;
}

int ks_port_relisten(ks_ports *ports, ks_lobby *lobby, const ks_settings *with, int engine_fd, uint64_t inode)
{
    ks_port *p = ports->all;
    while (p != NULL && p->lobby != lobby)
        p = p->next;
    if (p == NULL)
        return -ENOENT;
    /* For new sessions; the others have taken over what they need, but the key is one for all. */
    ks_batch_send(&p->core->batch);
    int error = is_vacant(p) ? ks_settings_take(&p->owner, with) : -EADDRINUSE;
    if (error < 0) {
        ks_crypt_del(with->crypt);
        ks_front_close(engine_fd);
        return error;
    }
    ks_port_resume(p);
    error = ks_port_attach_front(p, engine_fd, inode);
    ks_port_rest(p);
    return error;
}

void ks_ports_look(ks_ports *ports)
{
    for (ks_port *p = ports->all, *next; p != NULL; p = next) {
        next = p->next;
        struct pollfd front = {.fd = p->front.fd};
        if (p->front.fd >= 0 && poll(&front, 1, 0) > 0)
            ks_port_unlisten(p);
    }
    ks_ports_bury_idle(ports);
}

/* Of a port that connects. */
static ks_session *only_session(const ks_port *p)
{
    uint32_t b = 0;
    ks_hnode *n = ks_hash_first(&p->by_peer, &b);
    return n != NULL ? KS_OWNER(n, ks_session, by_peer) : NULL;
}

static void on_packet(void *ctx, const ks_addr *from, const ks_addr *local, uint8_t *data, size_t size)
{
    ks_port_input_untrusted(ctx, from, local, data, size);
}

/* Who is not on the path knows neither the conversation's number nor, with a key, how it looks when it is sealed (RFC 5927 4). */
static bool is_ours_untrusted(const ks_port *p, const ks_session *s, const uint8_t *packet, size_t size)
{
    uint8_t start[KS_CRYPT_PEEK];
    _Static_assert(KS_CRYPT_PEEK >= KS_FEC_HEAD, "a FEC head can be seen");
    if (p->owner.link.crypt != NULL) {
        if (ks_crypt_peek_untrusted(p->owner.link.crypt, packet, size, start) != KS_OK)
            return false;
        packet = start;
        size = sizeof start;
    }
    if (size < KS_FEC_HEAD)
        return false;
    if (ks_get_le32(packet) == s->kcp.cfg.conv)
        return true;
    uint16_t kind = ks_get_le16(packet + 4);
    if (s->encoder == NULL || (kind != KS_FEC_DATA && kind != KS_FEC_PARITY))
        return false;
    if (p->owner.link.crypt != NULL) /* nobody else makes that */
        return true;
    return kind == KS_FEC_DATA && size >= KS_FEC_HEAD + 4 && ks_get_le32(packet + KS_FEC_HEAD) == s->kcp.cfg.conv;
}

static void take_refusals(ks_port *p)
{
    ks_session *s = only_session(p);
    uint8_t quoted[64];
    size_t size;
    int error;
    while ((error = ks_udp_take_refusal(&p->owner.link.udp, quoted, sizeof quoted, &size)) != 0) {
        if (s != NULL && is_ours_untrusted(p, s, quoted, size))
            ks_session_refused(s, error);
        else
            p->core->count.in_errs++;
    }
}

static void take_refused(ks_port *p, int error)
{
    if (!p->owner.link.udp.connected)
        return; /* an unconnected socket's errors name no peer */
    ks_session *s = only_session(p);
    if (p->owner.link.udp.quotes)
        take_refusals(p);
    else if (s != NULL)
        ks_session_refused(s, error);
}

void ks_port_receive(ks_port *p)
{
    ks_session *s = p->owner.link.udp.no_way || p->silent ? only_session(p) : NULL;
    if (s != NULL)
        ks_moving_seek(p, s);
    if (p->src.read_end && p->owner.link.udp.quotes) { /* of a UDP socket that means: an error */
        p->src.read_end = false;
        take_refusals(p);
    }
    for (int round = 0; round < RECEIVE_ROUNDS && p->src.readable && !p->closing; round++) {
        bool drained = false;
        int n = ks_udp_recv(&p->owner.link.udp, &p->core->rx, on_packet, p, &p->core->count, &drained);
        if (n < 0 && ks_udp_is_refusal(-n))
            take_refused(p, -n);
        if (drained)
            p->src.readable = false;
    }
    if (p->src.readable && !p->closing)
        ks_port_more_append(p);
}

void ks_ports_receive_more(ks_ports *ports)
{
    /* Once for each that stands here now; who still has more comes back behind the last. */
    const ks_port *last = ports->more_tail;
    for (ks_port *p = ports->more_head; p != NULL; p = ports->more_head) {
        bool done = p == last;
        ks_port_more_remove(p);
        ks_port_receive(p);
        if (done)
            return;
    }
}

void ks_port_failed(ks_link *link)
{
    ks_port *p = ks_port_of(KS_OWNER(link, ks_session_owner, link));
    if (link->udp.no_way)
        ks_port_more_append(p); /* in the next turn, when nothing refers to its socket */
    else
        take_refused(p, ECONNREFUSED);
}
