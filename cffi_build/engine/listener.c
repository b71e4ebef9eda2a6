/* SPDX-License-Identifier: MIT */
#include "listener_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "front.h"

#define RECEIVE_ROUNDS 4     /* batches from one socket before the others get their turn */
#define EMBRYOS_MAX 1024u    /* sessions that a packet made and no stream has followed: a flood stops here */
#define SNAPPY_FIRST_BYTE 0xff /* of the stream identifier, with which a compressed stream begins */

/* ---- sessions ---- */

static uint64_t peer_key(const ks_addr *peer, uint32_t conv)
{
    return ks_addr_hash(peer) ^ ks_mix(conv);
}

static ks_session *find(const ks_port *p, const ks_addr *from, uint32_t conv)
{
    for (ks_hnode *n = ks_hash_find(&p->by_peer, peer_key(from, conv)); n != NULL; n = ks_hash_next(n)) {
        ks_session *s = KS_OWNER(n, ks_session, by_peer);
        if (s->kcp.cfg.conv == conv && ks_addr_equal(&s->peer, from))
            return s;
    }
    return NULL;
}

static ks_session *session_add(ks_port *p, uint32_t conv, const ks_addr *peer, const ks_addr *local, bool opener)
{
    ks_session *s = ks_session_new(p->core, &p->owner, conv, peer, local, opener);
    if (s == NULL)
        return NULL;
    p->sessions++;
    s->embryo = !opener && s->smux;
    p->embryos += s->embryo;
    s->in_table = ks_hash_insert(&p->by_peer, &s->by_peer, peer_key(peer, conv)) == KS_OK;
    if (!s->in_table) {
        ks_session_fail(s, ENOMEM);
        return NULL;
    }
    return s;
}

void ks_port_rest(ks_port *p)
{
    if (p->sessions > 0 || p->front.fd >= 0 || p->closing || p->idle)
        return;
    if (p->lobby == NULL || ks_lobby_rest(p->lobby)) {
        p->rested = true;
        ks_port_del(p);
        return;
    }
    p->idle = p->rested = true;
    p->idle_next = p->ports->idle;
    p->ports->idle = p;
}

static void idle_remove(ks_port *p)
{
    ks_port **at = &p->ports->idle;
    while (*at != NULL && *at != p)
        at = &(*at)->idle_next;
    if (*at != NULL)
        *at = p->idle_next;
    p->idle = false;
}

static void ended(ks_session_owner *owner, ks_session *s)
{
    ks_port *p = ks_port_of(owner);
    if (s->in_table)
        ks_hash_remove(&p->by_peer, &s->by_peer);
    if (s->in_addresses)
        ks_hash_remove(&p->by_address, &s->by_address);
    if (p->parity_due == s)
        p->parity_due = NULL;
    ks_port_hatch(p, s);
    p->sessions--;
    ks_port_rest(p);
}

/* A packet may begin a session if it is what an opener sends first: data from the first window, nothing received yet. */
static bool begins_session(const ks_port *p, const uint8_t *packet, size_t size)
{
    uint32_t len = ks_load32(packet + 20);
    if (packet[4] != 81 || len > size - KS_KCP_HEAD || ks_load32(packet + 16) != 0 ||
        ks_load32(packet + 12) >= (uint32_t)p->owner.profile.rcvwnd_pkts)
        return false;
    const uint8_t *data = packet + KS_KCP_HEAD;
    bool first = ks_load32(packet + 12) == 0;
    if (p->owner.profile.compress != 0 && first)
        return len > 0 && data[0] == SNAPPY_FIRST_BYTE;
    if (p->owner.profile.framing == KS_FRAMING_SMUX && first && len >= KS_SMUX_HEAD)
        return data[0] == p->owner.profile.smux_version && (data[1] == KS_SMUX_SYN || data[1] == KS_SMUX_NOP);
    return true;
}

static void refuse(ks_port *p, const ks_addr *from, const ks_addr *local, const uint8_t *packet, size_t size)
{
    uint8_t answer[32];
    /* Compressed, an answer would cost the GIL for any stranger's packet: there the peer finds out by its timeout. */
    if (p->owner.profile.framing != KS_FRAMING_SMUX || p->owner.profile.compress != 0)
        return;
    size_t n = ks_session_refusal_untrusted(packet, size, (uint8_t)p->owner.profile.smux_version, answer);
    if (n == 0)
        return;
    struct iovec iov = {answer, n};
    ks_route route = {.link = &p->owner.link, .to = from, .from = local};
    p->core->count.resets_sent++;
    (void)ks_batch_put(&p->core->batch, &route, &iov, 1, n, p->core->now_ms);
    ks_batch_send(&p->core->batch); /* from and local are the receive buffer's */
}

/* A session for a first packet. NULL: there is none now. */
static ks_session *begin_session(ks_port *p, const ks_addr *from, const ks_addr *local, uint32_t conv)
{
    if (ks_lobby_is_full(p->lobby) || p->embryos >= EMBRYOS_MAX) {
        p->core->count.backlog_drops++; /* the peer's retransmission tries again, as with TCP */
        return NULL;
    }
    ks_addr none;
    memset(&none, 0, sizeof none);
    ks_session *s = session_add(p, conv, from, local != NULL ? local : &none, false);
    if (s == NULL || s->smux)
        return s;
    ks_session_accept_raw(s);
    return s->state == KS_SESSION_ENDED ? NULL : s;
}

/* The session of a KCP packet, begun by it if need be. */
static ks_session *session_for(ks_port *p, const ks_addr *from, const ks_addr *local, const uint8_t *packet, size_t size)
{
    if (size < KS_KCP_HEAD) {
        p->core->count.in_errs++;
        return NULL;
    }
    uint32_t conv = ks_load32(packet);
    ks_session *s = find(p, from, conv);
    if (s != NULL)
        return s;
    if (p->owner.link.udp.connected) {
        p->core->count.in_errs++; /* a connected socket has one session, ours */
        return NULL;
    }
    if (p->front.fd < 0 || !begins_session(p, packet, size)) {
        p->core->count.in_errs++;
        refuse(p, from, local, packet, size);
        return NULL;
    }
    return begin_session(p, from, local, conv);
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

static void input_data(ks_port *p, const ks_addr *from, const ks_addr *local, const uint8_t *packet, size_t size)
{
    ks_session *s = session_for(p, from, local, packet + KS_FEC_HEAD, size - KS_FEC_HEAD);
    if (s == NULL)
        return;
    if (!s->in_addresses)
        s->in_addresses = ks_hash_insert(&p->by_address, &s->by_address, ks_addr_hash(from)) == KS_OK;
    input_fec(p, s, packet, size);
}

/* A parity packet names no conversation: it goes to the session at that address that has FEC. Were there several, which
 * no known peer makes, the wrong one would rebuild packets of another conversation, and KCP refuse them. */
static void input_parity(ks_port *p, const ks_addr *from, const uint8_t *packet, size_t size)
{
    for (ks_hnode *n = ks_hash_find(&p->by_address, ks_addr_hash(from)); n != NULL; n = ks_hash_next(n)) {
        ks_session *s = KS_OWNER(n, ks_session, by_address);
        if (ks_addr_equal(&s->peer, from)) {
            input_fec(p, s, packet, size);
            return;
        }
    }
    p->core->count.in_errs++;
}

static void input_oob(ks_port *p, const ks_addr *from, const ks_addr *local, const uint8_t *packet, size_t size)
{
    if (size < KS_FEC_HEAD + 4) {
        p->core->count.in_errs++;
        return;
    }
    uint32_t conv = ks_load32(packet + KS_FEC_HEAD);
    ks_session *s = find(p, from, conv);
    if (s == NULL && p->front.fd >= 0 && p->owner.profile.framing == KS_FRAMING_RAW)
        s = begin_session(p, from, local, conv); /* as kcp-go does */
    if (s == NULL)
        p->core->count.oob_drops++;
    else
        ks_session_input_oob(s, packet + KS_FEC_HEAD + 4, size - KS_FEC_HEAD - 4);
}

void ks_port_input_untrusted(ks_port *p, const ks_addr *from, const ks_addr *local, uint8_t *packet, size_t size)
{
    if (p->closing)
        return; /* its crypt is gone: what comes now would be read as plaintext */
    if (skip_parity(p, from, packet, size))
        return;
    if (p->owner.link.crypt != NULL &&
        ks_crypt_open_untrusted(p->owner.link.crypt, packet, size, &packet, &size) != KS_OK) {
        p->core->count.in_csum_errors++;
        return;
    }
    /* The two bytes after the first four tell FEC from bare KCP, whose command is 81 to 84. */
    switch (size >= KS_FEC_HEAD ? ks_load16(packet + 4) : 0) {
    case KS_FEC_DATA:
        input_data(p, from, local, packet, size);
        break;
    case KS_FEC_PARITY:
        input_parity(p, from, packet, size);
        break;
    case KS_FEC_OOB:
        input_oob(p, from, local, packet, size);
        break;
    default: {
        ks_session *s = session_for(p, from, local, packet, size);
        if (s != NULL)
            ks_session_input_untrusted(s, packet, size);
    }
    }
}

/* ---- ports ---- */

/* Settings and crypt are the owner's from now on. -> 0 or -errno, and then the owner is as it was. */
static int take_settings(ks_session_owner *o, const ks_settings *with)
{
    const ks_profile *profile = with->profile;
    ks_fec_code *fec = NULL;
    if (profile->fec_data > 0) {
        fec = ks_fec_code_new((uint32_t)profile->fec_data, (uint32_t)profile->fec_parity, profile->fec_coefficients);
        if (fec == NULL)
            return -ENOMEM;
    }
    ks_crypt_del(o->link.crypt);
    ks_fec_code_unref(o->fec);
    o->link.crypt = with->crypt;
    o->fec = fec;
    o->profile = *profile;
    o->profile.fec_coefficients = NULL; /* the caller's */
    return 0;
}

static void drop_settings(ks_session_owner *o)
{
    ks_crypt_del(o->link.crypt);
    ks_fec_code_unref(o->fec);
    o->link.crypt = NULL;
    o->fec = NULL;
}

static ks_port *port_new(ks_core *core, ks_ports *ports, int udp_fd, const ks_settings *with, int *error)
{
    const ks_profile *profile = with->profile;
    ks_port *p = ks_alloc(sizeof *p);
    *error = p == NULL ? -ENOMEM : take_settings(&p->owner, with);
    if (*error < 0) {
        ks_crypt_del(with->crypt);
        ks_free(p);
        ks_front_close(udp_fd);
        return NULL;
    }
    p->core = core;
    p->ports = ports;
    p->owner.offer = ks_port_offer;
    p->owner.withdraw = ks_port_withdraw;
    p->owner.ended = ended;
    p->front.fd = -1;
    p->front.kind = KS_SOURCE_LISTENER;
    p->src.fd = udp_fd;
    p->src.kind = KS_SOURCE_PORT;
    *error = ks_udp_init(&p->owner.link.udp, udp_fd, core->way, profile->sockbuf_bytes, profile->dscp);
    socklen_t len = sizeof p->local;
    if (*error == 0 && getsockname(udp_fd, &p->local.sa, &len) < 0)
        *error = -errno;
    if (*error == 0)
        *error = ks_poller_add(&core->poller, &p->src);
    if (*error < 0) {
        drop_settings(&p->owner);
        ks_front_close(udp_fd);
        ks_free(p);
        return NULL;
    }
    p->local_port = ntohs(p->local.sa.sa_family == AF_INET6 ? p->local.in6.sin6_port : p->local.in4.sin_port);
    p->next = ports->all;
    if (p->next != NULL)
        p->next->prev = p;
    ports->all = p;
    return p;
}

static void more_append(ks_port *p)
{
    ks_ports *ports = p->ports;
    if (p->on_more)
        return;
    p->on_more = true;
    p->more_next = NULL;
    p->more_prev = ports->more_tail;
    if (p->more_prev != NULL)
        p->more_prev->more_next = p;
    else
        ports->more_head = p;
    ports->more_tail = p;
}

static void more_remove(ks_port *p)
{
    ks_ports *ports = p->ports;
    if (!p->on_more)
        return;
    p->on_more = false;
    if (p->more_prev != NULL)
        p->more_prev->more_next = p->more_next;
    else
        ports->more_head = p->more_next;
    if (p->more_next != NULL)
        p->more_next->more_prev = p->more_prev;
    else
        ports->more_tail = p->more_prev;
}

void ks_port_del(ks_port *p)
{
    ks_ports *ports = p->ports;
    if (p->closing)
        return;
    p->closing = true;
    for (uint32_t b = 0; p->by_peer.count > 0;) {
        ks_hnode *n = ks_hash_first(&p->by_peer, &b);
        ks_session_fail(KS_OWNER(n, ks_session, by_peer), 0);
    }
    ks_batch_send(&p->core->batch);
    ks_poller_del(&p->core->poller, &p->src);
    ks_front_close(p->src.fd);
    p->src.fd = -1;
    drop_settings(&p->owner);
    if (p->prev != NULL)
        p->prev->next = p->next;
    else
        ports->all = p->next;
    if (p->next != NULL)
        p->next->prev = p->prev;
    more_remove(p);
    idle_remove(p);
    if (p->lobby != NULL) {
        if (!p->rested)
            (void)ks_lobby_rest(p->lobby);
        ks_lobby_leave(p->lobby, ports->wake_fd);
    }
    ks_core_bury(p->core, &p->grave, p);
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
    if (ks_lobby_join(lobby, ports->wake_fd) != KS_OK) {
        ks_front_close(engine_fd);
        ks_port_del(p);
        return -ENOMEM;
    }
    p->lobby = lobby;
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

int ks_port_adopt(ks_ports *ports, const ks_addr *name, bool reuse)
{
    for (const ks_port *p = ports->all; p != NULL; p = p->next)
        if (!p->owner.link.udp.connected && ks_addr_equal(&p->local, name)) {
            int fd = is_vacant(p) && reuse ? fcntl(p->src.fd, F_DUPFD_CLOEXEC, 3) : -1;
            return fd >= 0 ? fd : -EADDRINUSE;
        }
    return -ENOENT;
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
    int error = is_vacant(p) ? take_settings(&p->owner, with) : -EADDRINUSE;
    if (error < 0) {
        ks_crypt_del(with->crypt);
        ks_front_close(engine_fd);
        return error;
    }
    if (p->idle) {
        idle_remove(p);
        p->rested = false;
        ks_lobby_hold(lobby);
    }
    error = ks_port_attach_front(p, engine_fd, inode);
    ks_port_rest(p);
    return error;
}

void ks_ports_bury_idle(ks_ports *ports)
{
    for (ks_port *p = ports->idle, *next; p != NULL; p = next) {
        next = p->idle_next;
        if (ks_lobby_is_over(p->lobby))
            ks_port_del(p);
    }
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

static void on_packet(void *ctx, const ks_addr *from, const ks_addr *local, uint8_t *data, size_t size)
{
    ks_port_input_untrusted(ctx, from, local, data, size);
}

void ks_port_receive(ks_port *p)
{
    for (int round = 0; round < RECEIVE_ROUNDS && p->src.readable && !p->closing; round++) {
        bool drained = false;
        int n = ks_udp_recv(&p->owner.link.udp, &p->core->rx, on_packet, p, &p->core->count, &drained);
        if (n == -ECONNREFUSED)
            ks_port_refused(&p->owner.link);
        if (drained)
            p->src.readable = false;
    }
    if (p->src.readable && !p->closing)
        more_append(p);
}

void ks_ports_receive_more(ks_ports *ports)
{
    /* Once for each that stands here now; who still has more comes back behind the last. */
    const ks_port *last = ports->more_tail;
    for (ks_port *p = ports->more_head; p != NULL; p = ports->more_head) {
        bool done = p == last;
        more_remove(p);
        ks_port_receive(p);
        if (done)
            return;
    }
}

void ks_port_refused(ks_link *link)
{
    ks_port *p = ks_port_of(KS_OWNER(link, ks_session_owner, link));
    if (!link->udp.connected)
        return; /* an unconnected socket's errors name no peer */
    uint32_t b = 0;
    ks_hnode *n = ks_hash_first(&p->by_peer, &b);
    if (n != NULL)
        ks_session_refused(KS_OWNER(n, ks_session, by_peer));
}
