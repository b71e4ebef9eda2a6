/* SPDX-License-Identifier: MIT */
/* Options of a live connection. */
#include "api/api_parts.h"

#include <errno.h>
#include <sys/socket.h>

#include "session/profile.h"
#include "session/session_silence.h"

static int set_kcp_option(ks_session *s, int option, int64_t value)
{
    ks_kcp_config *c = &s->kcp.cfg;
    switch (option) {
    case KS_OPT_NODELAY:
        c->nodelay = value != 0;
        return 0;
    case KS_OPT_INTERVAL:
        if (!ks_profile_allows_interval_ms(value))
            return -EINVAL;
        c->interval = (uint16_t)value;
        return 0;
    case KS_OPT_RESEND:
        if (!ks_profile_allows_resend(value))
            return -EINVAL;
        ks_kcp_set_resend(&s->kcp, (uint32_t)value);
        return 0;
    case KS_OPT_NC:
        c->nc = value != 0;
        return 0;
    case KS_OPT_SNDWND:
        if (value < 1 || !ks_profile_allows_sndwnd_pkts(value))
            return -EINVAL;
        ks_kcp_set_snd_wnd(&s->kcp, (uint32_t)value);
        return 0;
    case KS_OPT_RCVWND:
        if (value < 1 || !ks_profile_allows_rcvwnd_pkts(value))
            return -EINVAL;
        ks_kcp_set_rcv_wnd(&s->kcp, (uint32_t)value);
        return 0;
    case KS_OPT_ACK_NODELAY:
        c->ack_nodelay = value != 0;
        return 0;
    case KS_OPT_WRITE_DELAY:
        c->write_delay = value != 0;
        return 0;
    case KS_OPT_KEEPALIVE:
        if (!ks_profile_allows_keepalive_ms(value))
            return -EINVAL;
        s->keepalive_ms = (uint32_t)value;
        if (s->impatience != NULL)
            s->impatience->changed = true;
        return 0;
    case KS_OPT_DUP:
        if (!ks_profile_allows_dup(value))
            return -EINVAL;
        s->dup = (uint8_t)value;
        return 0;
    case KS_OPT_RATE_LIMIT:
        if (!ks_profile_allows_rate_limit(value))
            return -EINVAL;
        ks_session_set_rate_limit(s, (uint64_t)value);
        return 0;
    case KS_OPT_DSCP:
        if (!ks_profile_allows_dscp(value))
            return -EINVAL;
        return s->opener ? ks_udp_set_dscp(&s->owner->link.udp, (int)value) : -ENOPROTOOPT; /* else many share the socket */
    default:
        return -ENOPROTOOPT;
    }
}

typedef struct {
    ks_front_note front;
    int option;
    int64_t value;
} option_note;

static int run_set_option(ks_engine *e, ks_note *n)
{
    const option_note *o = (const option_note *)n;
    ks_port *port;
    ks_stream *st = ks_engine_stream(e, o->front.inode, &port);
    if (st == NULL)
        return port != NULL ? -ENOPROTOOPT : -ENOTSOCK;
    int value = o->value > INT32_MAX ? INT32_MAX : o->value < 0 ? -1 : (int)o->value;
    if (o->option == KS_OPT_LINGER) {
        st->linger_s = value;
        return 0;
    }
    if (o->option == KS_OPT_RCVLOWAT) {
        st->lowat = value;
        ks_stream_mark(st);
        return 0;
    }
    if (o->option == KS_OPT_OOB) {
        st->oob_id = (uint64_t)o->value;
        return 0;
    }
    if (o->option == KS_OPT_RCVBUF && st->messages)
        return 0; /* a message that does not fit would not wait but be refused: see ks_front_pair */
    if (o->option == KS_OPT_RCVBUF)
        return setsockopt(st->src.fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value) < 0 ? -errno : 0;
    ks_session_mark(st->session);
    return set_kcp_option(st->session, o->option, o->value);
}

int ks_set_option(int app_fd, int option, int64_t value)
{
    option_note o = {.option = option, .value = value};
    return ks_front_ask(app_fd, &o.front, run_set_option);
}

typedef struct {
    ks_front_note front;
    const ks_patience *patience;
} patience_note;

static int run_set_patience(ks_engine *e, ks_note *n)
{
    const patience_note *p = (const patience_note *)n;
    ks_port *port;
    ks_stream *st = ks_engine_stream(e, p->front.inode, &port);
    if (st == NULL)
        return port != NULL ? -ENOPROTOOPT : -ENOTSOCK;
    return ks_stream_set_patience(st, p->patience) == KS_OK ? 0 : -ENOMEM;
}

int ks_set_patience(int app_fd, const ks_patience *patience)
{
    patience_note p = {.patience = patience};
    return patience == NULL ? -EFAULT : ks_front_ask(app_fd, &p.front, run_set_patience);
}

typedef struct {
    ks_front_note front;
    int level, option, size;
    const uint8_t *value;
} udp_note;

static int run_set_udp_option(ks_engine *e, ks_note *n)
{
    const udp_note *u = (const udp_note *)n;
    ks_port *port;
    const ks_stream *st = ks_engine_stream(e, u->front.inode, &port);
    if (st == NULL || !st->session->opener)
        return st == NULL && port == NULL ? -ENOTSOCK : -ENOPROTOOPT;
    return setsockopt(st->session->owner->link.udp.fd, u->level, u->option, u->value, (socklen_t)u->size) < 0 ? -errno : 0;
}

int ks_set_udp_option(int app_fd, int level, int option, const uint8_t *value, int size)
{
    udp_note u = {.level = level, .option = option, .value = value, .size = size};
    return value == NULL || size < 0 ? -EINVAL : ks_front_ask(app_fd, &u.front, run_set_udp_option);
}
