/* SPDX-License-Identifier: MIT */
#include "engine/accept_queue.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/moving.h"
#include "engine/peers.h"
#include "os/front.h"

#define WAITING_MAX 65536u
#define FRONT_SNDBUF 16384 /* a dozen connections stand in the pair, the others here */

static void set_name(const ks_addr *a, uint8_t addr[16], uint32_t *scope, uint32_t *flowinfo)
{
    if (a->sa.sa_family == AF_INET6) {
        memcpy(addr, &a->in6.sin6_addr, 16);
        *scope = a->in6.sin6_scope_id;
        *flowinfo = ntohl(a->in6.sin6_flowinfo);
    } else
        memcpy(addr, &a->in4.sin_addr, 4);
}

void ks_port_names(const ks_session *s, ks_accept_msg *m)
{
    const ks_port *p = ks_port_of(s->owner);
    memset(m, 0, sizeof *m);
    m->family = s->peer.sa.sa_family;
    m->peer_port = ntohs(s->peer.sa.sa_family == AF_INET6 ? s->peer.in6.sin6_port : s->peer.in4.sin_port);
    m->local_port = p->local_port;
    set_name(&s->peer, m->peer_addr, &m->peer_scope, &m->peer_flowinfo);
    set_name(s->local.sa.sa_family != 0 ? &s->local : &p->local, m->local_addr, &m->local_scope, &m->local_flowinfo);
}

void ks_port_listener_info(const ks_port *p, ks_info *i)
{
    i->role = 2;
    i->names.family = p->local.sa.sa_family;
    i->names.local_port = p->local_port;
    ks_lobby_count(p->lobby, p->front.fd, &i->waiting, &i->backlog);
    set_name(&p->local, i->names.local_addr, &i->names.local_scope, &i->names.local_flowinfo);
}

/* -> 1 handed over, 0 the pair is full, -1 it never will be. standing: as of ks_lobby_send. */
static int hand_over(ks_port *p, ks_stream *st, uint32_t *standing)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } ctl;
    ks_accept_msg names;
    ks_port_names(st->session, &names);
    struct iovec iov = {&names, sizeof names};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof ctl};
    memset(&ctl, 0, sizeof ctl);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &st->app_fd, sizeof(int));
    ssize_t n = ks_lobby_send(p->lobby, p->front.fd, &m, &st->handed_no, standing);
    if (n == (ssize_t)sizeof names)
        return 1;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS)) {
        if (errno != EINTR)
            ks_poller_blocked(&p->core->poller, &p->front);
        return 0;
    }
    return -1;
}

/* The streams from `head` on, one out. -> false: it is not among them. */
static bool unlink_stream(ks_stream **head, ks_stream **tail, ks_stream *st)
{
    ks_stream *before = NULL, *at = *head;
    while (at != NULL && at != st) {
        before = at;
        at = at->wait_next;
    }
    if (at == NULL)
        return false;
    if (before != NULL)
        before->wait_next = st->wait_next;
    else
        *head = st->wait_next;
    if (*tail == st)
        *tail = before;
    return true;
}

static void append_stream(ks_stream **head, ks_stream **tail, ks_stream *st)
{
    st->wait_next = NULL;
    if (*tail != NULL)
        (*tail)->wait_next = st;
    else
        *head = st;
    *tail = st;
}

static void unhand(ks_port *p, ks_stream *st)
{
    st->handed = false;
    (void)unlink_stream(&p->handed_head, &p->handed_tail, st);
}

/* Lets go of those that accept() has taken: `standing` is the first number that it may not have. */
static void prune_handed(ks_port *p, uint32_t standing)
{
    while (p->handed_head != NULL && (int32_t)(standing - p->handed_head->handed_no) > 0)
        unhand(p, p->handed_head);
}

void ks_port_closing(ks_port *p)
{
    ks_lobby_closing(p->lobby, p->front.fd, p->core->now_ms);
}

static void no_longer_waits(ks_port *p, ks_stream *st)
{
    if (!unlink_stream(&p->wait_head, &p->wait_tail, st))
        return;
    p->waiting--;
    if (p->ripe > p->waiting)
        p->ripe = p->waiting;
    ks_lobby_queue(p->lobby, -1);
}

static void pump(ks_port *p)
{
    while (p->ripe > 0 && p->front.writable && !ks_lobby_is_closing(p->lobby, p->core->now_ms)) {
        ks_stream *st = p->wait_head;
        uint32_t standing;
        int result = hand_over(p, st, &standing);
        if (result == 0)
            continue; /* writable says whether to go on */
        p->ripe--;
        no_longer_waits(p, st);
        ks_front_close(st->app_fd);
        st->app_fd = -1;
        if (result < 0) {
            p->core->count.backlog_drops++;
            ks_stream_reset(st, 0);
            continue;
        }
        append_stream(&p->handed_head, &p->handed_tail, st);
        st->handed = true;
        prune_handed(p, standing);
    }
}

bool ks_port_is_full(ks_session_owner *owner)
{
    const ks_port *p = ks_port_of(owner);
    return p->front.fd >= 0 && (ks_lobby_is_full(p->lobby) || ks_lobby_is_closing(p->lobby, p->core->now_ms));
}

bool ks_port_offer(ks_session_owner *owner, ks_stream *st)
{
    ks_port *p = ks_port_of(owner);
    ks_port_uncount_half_open(p, st->session);
    if (ks_port_lets_move(p))
        ks_peers_list(p, st->session);
    if (p->front.fd < 0 || p->waiting >= WAITING_MAX)
        return false;
    append_stream(&p->wait_head, &p->wait_tail, st);
    p->waiting++;
    ks_lobby_queue(p->lobby, 1);
    if (!p->offers) {
        p->offers = true;
        p->offering_next = p->ports->offering;
        p->ports->offering = p;
    }
    return true;
}

static void offers_no_more(ks_port *p)
{
    ks_port **at = &p->ports->offering;
    if (!p->offers)
        return;
    while (*at != p)
        at = &(*at)->offering_next;
    *at = p->offering_next;
    p->offers = false;
}

void ks_ports_offer_ripe(ks_ports *ports)
{
    ports->offers_later = true;
    for (ks_port *p = ports->offering, *next; p != NULL; p = next) {
        next = p->offering_next;
        pump(p);
        ports->offers_later = ports->offers_later && ks_lobby_is_closing(p->lobby, p->core->now_ms);
        if (p->waiting == 0 || !p->front.writable)
            offers_no_more(p);
        p->ripe = p->waiting;
    }
}

void ks_port_withdraw(ks_session_owner *owner, ks_stream *st)
{
    ks_port *p = ks_port_of(owner);
    if (st->handed)
        unhand(p, st);
    else
        no_longer_waits(p, st);
}

int ks_port_attach_front(ks_port *p, int engine_fd, uint64_t inode)
{
    int sndbuf = FRONT_SNDBUF, error = 0;
    (void)setsockopt(engine_fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf);
    p->front = (ks_source){.fd = engine_fd, .kind = KS_SOURCE_LISTENER};
    if (ks_hash_insert(&p->core->by_inode, &p->by_inode, KS_FRONT_KEY(inode, true)) != KS_OK)
        error = -ENOMEM;
    else if ((error = ks_poller_add(&p->core->poller, &p->front)) < 0)
        ks_hash_remove(&p->core->by_inode, &p->by_inode);
    if (error < 0) {
        p->front.fd = -1;
        ks_front_close(engine_fd);
    }
    return error;
}

static void reset_queue(ks_port *p)
{
    uint32_t standing;
    bool told = ks_lobby_was_closing(p->lobby, &standing);
    prune_handed(p, standing);
    while (p->handed_head != NULL) {
        /* Without word from the application it is not known which of them were accepted at the last moment. */
        if (told)
            p->handed_head->linger_s = 0; /* the close that is about to be seen is a reset */
        unhand(p, p->handed_head);
    }
    while (p->wait_head != NULL) {
        ks_stream *st = p->wait_head;
        ks_port_withdraw(&p->owner, st);
        ks_front_close(st->app_fd);
        st->app_fd = -1;
        ks_stream_reset(st, 0);
    }
}

void ks_port_unlisten(ks_port *p)
{
    if (p->front.fd < 0)
        return;
    ks_poller_del(&p->core->poller, &p->front);
    ks_hash_remove(&p->core->by_inode, &p->by_inode);
    ks_front_unblock(p->front.fd);
    ks_front_close(p->front.fd);
    p->front.fd = -1;
    reset_queue(p);
    offers_no_more(p);
    ks_port_rest(p);
}

void ks_port_drain(ks_port *p)
{
    if (p->front.fd < 0)
        return;
    ks_port_closing(p);
    reset_queue(p);
}

void ks_port_front_event(ks_port *p)
{
    char byte;
    ssize_t n = p->front.readable ? recv(p->front.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) : -1;
    if (p->front.hung_up || n == 0) {
        ks_port_unlisten(p);
        return;
    }
    p->front.readable = n > 0; /* what keeps A from being writable stays there: no news */
    pump(p);
}
