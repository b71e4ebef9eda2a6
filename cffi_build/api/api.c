/* SPDX-License-Identifier: MIT */
/* The functions of api.cdef: numbers for engines, checks of what comes from outside, and the notes that carry each call to
 * the engine's thread. */
#include "api.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"
#include "front.h"
#include "oob.h"
#include "profile.h"

#define ENGINES_MAX 16

/* An engine is made once and stays until the process ends (or forks): a number never names a freed one. */
static _Atomic(ks_engine *) engines[ENGINES_MAX];

static ks_engine *engine_of(int number)
{
    return number < 0 || number >= ENGINES_MAX ? NULL : atomic_load(&engines[number]);
}

/* ---- engines ---- */

int ks_engine_open(int udp_mode, int busy_poll)
{
    int error = ks_front_init();
    if (error < 0)
        return error;
    if (udp_mode < KS_UDP_AUTO || udp_mode > KS_UDP_GSO)
        return -EINVAL;
    ks_engine *e = ks_engine_new((ks_udp_way)udp_mode, busy_poll != 0, &error);
    if (e == NULL)
        return error;
    for (int i = 0; i < ENGINES_MAX; i++) {
        ks_engine *none = NULL;
        if (atomic_compare_exchange_strong(&engines[i], &none, e))
            return i;
    }
    ks_engine_del(e);
    return -EMFILE;
}

int ks_engine_run(int engine)
{
    ks_engine *e = engine_of(engine);
    if (e == NULL)
        return -ESRCH;
    ks_engine_loop(e);
    return 0;
}

int ks_engine_stop(int engine)
{
    ks_engine *e = engine_of(engine);
    if (e == NULL)
        return -ESRCH;
    ks_engine_halt(e);
    return 0;
}

typedef struct {
    ks_note note;
    int left;
} drain_note;

static int run_drain(ks_engine *e, ks_note *n)
{
    drain_note *d = (drain_note *)n;
    ks_core *core = ks_engine_core(e);
    core->draining = true;
    d->left = 0;
    for (ks_session *s = core->sessions; s != NULL; s = s->next) {
        d->left += !ks_session_is_idle(s);
        if (s->smux && s->opener && s->streams != NULL && s->streams->src.fd < 0) {
            ks_session_mark(s); /* to say farewell: else the peer's own close would wait for an answer */
            d->left++;
        }
        for (ks_stream *st = s->streams; st != NULL; st = st->next)
            if (!st->app_eof && !st->connecting) {
                st->src.readable = true; /* a look at the pair: what is there goes out, then FIN */
                ks_stream_mark(st);
                d->left += st->src.fd >= 0;
            }
    }
    return d->left == 0 ? 0 : KS_EAGAIN;
}

int ks_engine_drain(int engine, int timeout_ms)
{
    ks_engine *e = engine_of(engine);
    if (e == NULL)
        return -ESRCH;
    drain_note d = {.note = {.run = run_drain, .due_ms = ks_clock_ms() + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms)}};
    int answer = ks_engine_ask(e, &d.note);
    return answer == -ETIMEDOUT ? d.left : answer;
}

void ks_forget_engines(void)
{
    /* Their memory is lost to this process: the fork copied it in the middle of something. */
    for (int i = 0; i < ENGINES_MAX; i++)
        atomic_store(&engines[i], NULL);
    if (ks_front_init() == 0)
        ks_front_forget();
    ks_oob_forget();
}

/* ---- connections and listeners ---- */

typedef struct {
    ks_note note;
    int udp_fd, engine_fd, app_fd, fill_bytes, app_sndbuf;
    uint64_t inode; /* A's; run_find: the UDP socket's */
    ks_settings with;
    ks_lobby *lobby;
} open_note;

static int run_connect(ks_engine *e, ks_note *n)
{
    const open_note *o = (const open_note *)n;
    return ks_port_connect(ks_engine_core(e), ks_engine_ports(e), o->udp_fd, &o->with, o->engine_fd, o->inode, o->app_fd,
                           o->fill_bytes, o->app_sndbuf);
}

/* The pair, with A on the number app_fd: what is there becomes A itself where it can (ks_front_join). With `fill`, A is
 * not writable, and the engine gets a duplicate of it. message_bytes: see ks_front_pair. */
static int make_front(open_note *o, int app_fd, bool fill, uint32_t message_bytes)
{
    int app = app_fd, error = message_bytes == 0 ? ks_front_join(app_fd, &o->engine_fd) : -EPROTOTYPE;
    bool joined = error == 0;
    o->app_fd = -1;
    if (!joined)
        error = ks_front_pair(&app, &o->engine_fd, message_bytes);
    if (error < 0)
        return error;
    o->inode = ks_front_inode(app);
    if (fill) {
        o->fill_bytes = ks_front_fill(app, &o->app_sndbuf);
        o->app_fd = o->fill_bytes < 0 ? -1 : fcntl(app, F_DUPFD_CLOEXEC, 3);
        error = o->fill_bytes < 0 ? o->fill_bytes : o->app_fd < 0 ? -errno : 0;
        ks_front_own(o->app_fd);
    }
    if (!joined && error == 0)
        error = ks_front_install(app, app_fd);
    else if (!joined)
        close(app);
    if (error < 0) {
        ks_front_close(o->engine_fd);
        ks_front_close(o->app_fd);
        o->engine_fd = o->app_fd = -1;
    }
    return error;
}

static uint32_t overhead(const ks_settings *with)
{
    ks_link link = {.crypt = with->crypt};
    return (uint32_t)ks_link_overhead(&link, with->profile->fec_data > 0);
}

static uint32_t message_bytes(const ks_settings *with)
{
    ks_kcp_config config = ks_profile_kcp_config(with->profile, 0, overhead(with));
    return ks_profile_has_messages(with->profile) ? ks_profile_message_bytes(&config) : 0;
}

/* The crypt of that number becomes ours. -EINVAL: the profile is not valid, or does not go with it. */
static int take_crypt(ks_settings *with, int number)
{
    const ks_profile *p = with->profile;
    if (p == NULL)
        return -EINVAL;
    with->crypt = number != 0 ? ks_crypt_take(number) : NULL;
    bool good = ks_profile_is_valid(p) && (number == 0) == (with->crypt == NULL) &&
                (uint32_t)p->mtu_bytes >= KS_KCP_MTU_MIN + overhead(with);
    return good ? 0 : -EINVAL;
}

/* What no engine has taken over. */
static void drop(open_note *o)
{
    ks_crypt_del(o->with.crypt);
    ks_front_close(o->udp_fd);
    ks_front_close(o->engine_fd);
    ks_front_close(o->app_fd);
}

int ks_connect(int engine, int app_fd, int udp_fd, const ks_profile *profile)
{
    ks_engine *e = engine_of(engine);
    open_note o = {.note = {.run = run_connect}, .udp_fd = udp_fd, .engine_fd = -1, .app_fd = -1, .with = {.profile = profile}};
    int error = take_crypt(&o.with, profile != NULL ? profile->crypt : 0);
    ks_front_own(udp_fd);
    if (error == 0)
        error = e == NULL ? -ESRCH : ks_front_inode(app_fd) == 0 ? -ENOTSOCK : 0;
    if (error == 0)
        error = make_front(&o, app_fd, profile->framing == KS_FRAMING_SMUX, message_bytes(&o.with));
    int answer = error < 0 ? -ESHUTDOWN : ks_engine_ask(e, &o.note);
    if (answer == -ESHUTDOWN)
        drop(&o);
    return error < 0 ? error : answer;
}

static int run_find(ks_engine *e, ks_note *n)
{
    open_note *o = (open_note *)n;
    return ks_port_find(ks_engine_ports(e), o->inode, &o->with, &o->lobby);
}

static int run_listen(ks_engine *e, ks_note *n)
{
    const open_note *o = (const open_note *)n;
    if (o->udp_fd < 0)
        return -ENOENT;
    return ks_port_listen(ks_engine_core(e), ks_engine_ports(e), o->lobby, o->udp_fd, &o->with, o->engine_fd, o->inode);
}

static int run_relisten(ks_engine *e, ks_note *n)
{
    const open_note *o = (const open_note *)n;
    return ks_port_relisten(ks_engine_ports(e), o->lobby, &o->with, o->engine_fd, o->inode);
}

typedef struct {
    ks_note note;
    uint64_t inode;
    int option;
    int64_t value;
    ks_info *info;
    bool all; /* each engine that has it is asked */
} front_note;

static int run_reset(ks_engine *e, ks_note *n);

/* The lobby of the closed listener whose sessions hold this socket, or a new one. Held and referred to, for us. */
static int find_lobby(int udp_fd, const ks_settings *with, int backlog, ks_lobby **lobby, bool *found)
{
    open_note look = {.note = {.run = run_find}, .inode = ks_front_inode(udp_fd), .with = *with};
    int answer = -ENOENT;
    for (int i = 0; i < ENGINES_MAX && (answer == -ENOENT || answer == -ESHUTDOWN); i++) {
        ks_engine *e = engine_of(i);
        answer = e == NULL ? -ENOENT : ks_engine_ask(e, &look.note);
    }
    *found = answer == 0;
    if (answer == 0)
        ks_lobby_reopen(look.lobby, backlog);
    else if (answer != -ENOENT && answer != -ESHUTDOWN)
        return answer;
    *lobby = *found ? look.lobby : ks_lobby_new(backlog);
    return *lobby == NULL ? -ENOMEM : 0;
}

/* Hands each engine its part; what it has taken over is no longer in `o`. -> 0 when one at least listens. */
static int spread_listener(ks_engine *const *e, open_note *o, int count, int backlog)
{
    ks_lobby *lobby = NULL;
    bool found;
    int error = find_lobby(o[0].udp_fd, &o[0].with, backlog, &lobby, &found), listening = 0;
    if (error < 0)
        return error;
    for (int i = 0; i < count && error == 0; i++) {
        o[i].lobby = lobby;
        o[i].note.run = found ? run_relisten : run_listen;
        int answer = ks_engine_ask(e[i], &o[i].note);
        if (answer == -ENOENT || answer == -ESHUTDOWN)
            continue;
        listening += answer == 0;
        error = answer;
        o[i].with.crypt = NULL;
        o[i].engine_fd = -1;
        if (!found)
            o[i].udp_fd = -1; /* else it was needed to find the lobby only */
    }
    if (error == 0 && listening == 0)
        error = -ESHUTDOWN;
    if (error < 0 && listening > 0) {
        front_note f = {.note = {.run = run_reset}, .inode = o[0].inode};
        for (int i = 0; i < count; i++)
            (void)ks_engine_ask(e[i], &f.note);
    }
    (void)ks_lobby_rest(lobby);
    ks_lobby_unref(lobby);
    return error;
}

int ks_listen(const int *numbers, const int *udp_fds, const int *crypts, int count, int app_fd, const ks_profile *profile,
              int backlog)
{
    ks_engine *e[ENGINES_MAX];
    open_note o[ENGINES_MAX];
    int error = 0;
    if (count < 1 || count > ENGINES_MAX)
        return -EINVAL;
    for (int i = 0; i < count; i++) {
        e[i] = engine_of(numbers[i]);
        o[i] = (open_note){.udp_fd = udp_fds[i], .engine_fd = -1, .app_fd = -1, .with = {.profile = profile}};
        int bad = take_crypt(&o[i].with, crypts[i]);
        ks_front_own(udp_fds[i]);
        if (error == 0)
            error = bad < 0 ? bad : e[i] == NULL ? -ESRCH : 0;
    }
    if (error == 0)
        error = ks_front_inode(app_fd) == 0 ? -ENOTSOCK : make_front(&o[0], app_fd, false, 0);
    for (int i = 1; i < count && error == 0; i++) {
        o[i].inode = o[0].inode;
        o[i].engine_fd = fcntl(o[0].engine_fd, F_DUPFD_CLOEXEC, 3);
        ks_front_own(o[i].engine_fd);
        error = o[i].engine_fd < 0 ? -errno : 0;
    }
    if (error == 0)
        error = spread_listener(e, o, count, backlog);
    for (int i = 0; i < count; i++)
        drop(&o[i]);
    return error;
}

/* ---- questions about one descriptor ---- */

/* The stream of that inode, or its listening port. */
static ks_stream *stream_of(ks_engine *e, uint64_t inode, ks_port **port)
{
    const ks_hash *table = &ks_engine_core(e)->by_inode;
    ks_hnode *n = ks_hash_find(table, KS_FRONT_KEY(inode, true));
    *port = n != NULL ? KS_OWNER(n, ks_port, by_inode) : NULL;
    n = ks_hash_find(table, KS_FRONT_KEY(inode, false));
    return n != NULL ? KS_OWNER(n, ks_stream, by_inode) : NULL;
}

/* Asks each engine until one that has the descriptor answers; several may have a listener's. */
static int ask_front(int app_fd, front_note *f, ks_note_run *run)
{
    int result = -ENOTSOCK;
    f->inode = ks_front_inode(app_fd);
    f->note.run = run;
    for (int i = 0; i < ENGINES_MAX && f->inode != 0; i++) {
        ks_engine *e = engine_of(i);
        int answer = e == NULL ? -ENOTSOCK : ks_engine_ask(e, &f->note);
        if (answer == -ENOTSOCK || answer == -ESHUTDOWN)
            continue;
        result = answer;
        if (!f->all)
            break;
    }
    return result;
}

static int run_kind(ks_engine *e, ks_note *n)
{
    ks_port *port;
    const ks_stream *st = stream_of(e, ((front_note *)n)->inode, &port);
    return st != NULL ? 1 : port != NULL ? 2 : -ENOTSOCK;
}

int ks_is_kcp(int app_fd)
{
    front_note f = {0};
    int answer = ask_front(app_fd, &f, run_kind);
    return answer < 0 ? 0 : answer;
}

int ks_take_error(int app_fd)
{
    uint64_t inode = ks_front_inode(app_fd);
    return inode == 0 || ks_front_init() < 0 ? 0 : ks_front_exhume(inode);
}

static int run_reset(ks_engine *e, ks_note *n)
{
    ks_port *port;
    ks_stream *st = stream_of(e, ((front_note *)n)->inode, &port);
    if (port != NULL)
        ks_port_unlisten(port);
    else if (st != NULL)
        ks_stream_reset(st, 0);
    return st != NULL || port != NULL ? 0 : -ENOTSOCK;
}

int ks_reset(int app_fd)
{
    front_note f = {.all = true};
    return ask_front(app_fd, &f, run_reset);
}

static int run_closing(ks_engine *e, ks_note *n)
{
    ks_port *port;
    const ks_stream *st = stream_of(e, ((front_note *)n)->inode, &port);
    if (port != NULL)
        ks_port_closing(port);
    return st != NULL || port != NULL ? 0 : -ENOTSOCK;
}

int ks_closing(int app_fd)
{
    front_note f = {0};
    return ask_front(app_fd, &f, run_closing);
}

static int run_linger(ks_engine *e, ks_note *n)
{
    ks_port *port;
    ks_stream *st = stream_of(e, ((front_note *)n)->inode, &port);
    if (st == NULL)
        return port != NULL ? 0 : -ENOTSOCK;
    return ks_stream_is_flushed(st) ? 0 : KS_EAGAIN;
}

int ks_linger(int app_fd, int timeout_ms)
{
    front_note f = {.note = {.due_ms = ks_clock_ms() + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms)}};
    int answer = ask_front(app_fd, &f, run_linger);
    return answer == -ENOTSOCK ? 0 : answer; /* it has ended, so nothing is left to wait for */
}

static int set_kcp_option(ks_session *s, int option, int64_t value)
{
    ks_kcp_config *c = &s->kcp.cfg;
    switch (option) {
    case KS_OPT_NODELAY:
        c->nodelay = value != 0;
        return 0;
    case KS_OPT_INTERVAL:
        c->interval = (uint32_t)(value < 10 ? 10 : value > 5000 ? 5000 : value);
        return 0;
    case KS_OPT_RESEND:
        if (value < 0 || value > (int64_t)KS_KCP_RESEND_MAX)
            return -EINVAL;
        ks_kcp_set_resend(&s->kcp, (uint32_t)value);
        return 0;
    case KS_OPT_NC:
        c->nc = value != 0;
        return 0;
    case KS_OPT_SNDWND:
    case KS_OPT_RCVWND:
        if (value < 1 || value > (int64_t)KS_KCP_WND_MAX)
            return -EINVAL;
        ks_kcp_set_windows(&s->kcp, option == KS_OPT_SNDWND ? (uint32_t)value : c->snd_wnd,
                           option == KS_OPT_RCVWND ? (uint32_t)value : c->rcv_wnd);
        return 0;
    case KS_OPT_ACK_NODELAY:
        c->ack_nodelay = value != 0;
        return 0;
    case KS_OPT_WRITE_DELAY:
        c->write_delay = value != 0;
        return 0;
    case KS_OPT_KEEPALIVE:
        if (value < 0 || value > INT32_MAX)
            return -EINVAL;
        s->keepalive_ms = (uint32_t)value;
        return 0;
    case KS_OPT_DUP:
        if (value < 0 || value > (int64_t)KS_DUP_MAX)
            return -EINVAL;
        s->dup = (uint32_t)value;
        return 0;
    case KS_OPT_RATE_LIMIT:
        if (value < 0)
            return -EINVAL;
        ks_session_set_rate_limit(s, (uint64_t)value);
        return 0;
    case KS_OPT_DSCP:
        if (value < 0 || value > 63)
            return -EINVAL;
        return s->opener ? ks_udp_set_dscp(&s->owner->link.udp, (int)value) : -ENOPROTOOPT; /* else many share the socket */
    default:
        return -ENOPROTOOPT;
    }
}

static int run_set_option(ks_engine *e, ks_note *n)
{
    const front_note *f = (const front_note *)n;
    ks_port *port;
    ks_stream *st = stream_of(e, f->inode, &port);
    if (st == NULL)
        return port != NULL ? -ENOPROTOOPT : -ENOTSOCK;
    int value = f->value > INT32_MAX ? INT32_MAX : f->value < 0 ? -1 : (int)f->value;
    if (f->option == KS_OPT_LINGER) {
        st->linger_s = value;
        return 0;
    }
    if (f->option == KS_OPT_OOB) {
        st->oob_id = (uint64_t)f->value;
        return 0;
    }
    if (f->option == KS_OPT_RCVBUF && st->messages)
        return 0; /* a message that does not fit would not wait but be refused: see ks_front_pair */
    if (f->option == KS_OPT_RCVBUF)
        return setsockopt(st->src.fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value) < 0 ? -errno : 0;
    ks_session_mark(st->session);
    return set_kcp_option(st->session, f->option, f->value);
}

int ks_set_option(int app_fd, int option, int64_t value)
{
    front_note f = {.option = option, .value = value};
    return ask_front(app_fd, &f, run_set_option);
}

typedef struct {
    front_note front;
    const uint8_t *data;
    int size;
} oob_note;

static int run_oob(ks_engine *e, ks_note *n)
{
    const oob_note *o = (const oob_note *)n;
    ks_port *port;
    ks_stream *st = stream_of(e, o->front.inode, &port);
    if (st == NULL || st->connecting)
        return port != NULL || st != NULL ? -ENOTCONN : -ENOTSOCK;
    return ks_session_send_oob(st->session, o->data, (size_t)o->size);
}

int ks_send_oob(int app_fd, const uint8_t *data, int size)
{
    oob_note o = {.data = data, .size = size};
    if (size < 0 || (data == NULL && size > 0))
        return -EINVAL;
    return ask_front(app_fd, &o.front, run_oob);
}

int64_t ks_send_now(int app_fd, const uint8_t *data, int64_t size)
{
    if (data == NULL || size <= 0)
        return 0;
    uint64_t inode = 0; /* asked for late: most calls of who sends without a pause end before */
    for (int i = 0; i < ENGINES_MAX; i++) {
        ks_engine *e = engine_of(i);
        if (e == NULL || !ks_engine_asleep(e) || (inode == 0 && (inode = ks_front_inode(app_fd)) == 0))
            continue;
        int64_t sent = ks_engine_send(e, inode, data, (size_t)size);
        if (sent > 0)
            return sent;
    }
    return 0;
}

static void fill_info(const ks_session *s, ks_info *i)
{
    ks_counters c = {0};
    ks_session_add_counts(s, &c);
    i->fec_recovered = c.fec_recovered;
    i->fec_errs = c.fec_errs;
    i->fec_parity_shards = c.fec_parity_shards;
    i->fec_full_sets = c.fec_full_sets;
    i->fec_short_sets = c.fec_short_sets;
    if (s->decoder != NULL)
        ks_fec_decoder_code(s->decoder, &i->fec_data, &i->fec_parity);
    i->oob_sent = s->oob_sent;
    i->oob_received = s->oob_received;

    ks_profile_kcp_info(&s->kcp, i);
    i->bytes_sent = s->bytes_sent;
    i->bytes_received = s->bytes_received;
    i->streams = s->by_sid.count;
    i->role = 1;
    ks_port_names(s, &i->names);
}

static int run_info(ks_engine *e, ks_note *n)
{
    front_note *f = (front_note *)n;
    ks_port *port;
    const ks_stream *st = stream_of(e, f->inode, &port);
    if (st != NULL)
        fill_info(st->session, f->info);
    else if (port != NULL)
        ks_port_listener_info(port, f->info);
    return st != NULL || port != NULL ? 0 : -ENOTSOCK;
}

int ks_get_info(int app_fd, ks_info *info)
{
    front_note f = {.info = info};
    if (info == NULL)
        return -EFAULT;
    memset(info, 0, sizeof *info);
    return ask_front(app_fd, &f, run_info);
}

/* ---- statistics ---- */

typedef struct {
    ks_note note;
    ks_stats *stats;
} stats_note;

static int run_stats(ks_engine *e, ks_note *n)
{
    ks_stats *to = ((stats_note *)n)->stats;
    const ks_core *core = ks_engine_core(e);
    ks_counters c = core->count;
    for (const ks_session *s = core->sessions; s != NULL; s = s->next) {
        ks_session_add_counts(s, &c);
        to->snd_queue_pkts += s->kcp.snd_end - s->kcp.snd_nxt;
        to->snd_buffer_pkts += s->kcp.snd_nxt - s->kcp.snd_una;
        to->rcv_queue_pkts += s->kcp.rcv_nxt - s->kcp.rcv_read;
    }
#define ADD(name) to->name += c.name
    ADD(bytes_sent), ADD(bytes_received), ADD(max_conn), ADD(active_opens), ADD(passive_opens), ADD(curr_estab), ADD(in_errs);
    ADD(in_csum_errors), ADD(kcp_in_errors), ADD(in_pkts), ADD(out_pkts), ADD(in_segs), ADD(out_segs), ADD(in_bytes);
    ADD(out_bytes), ADD(retrans_segs), ADD(fast_retrans_segs), ADD(early_retrans_segs), ADD(lost_segs), ADD(repeat_segs);
    ADD(smux_errors), ADD(udp_send_drops), ADD(udp_recv_drops), ADD(resets_sent), ADD(resets_received), ADD(backlog_drops);
    ADD(busy_polls), ADD(fec_recovered), ADD(fec_errs), ADD(fec_parity_shards), ADD(fec_full_sets), ADD(fec_short_sets);
    ADD(oob_packets), ADD(oob_drops);
#undef ADD
    to->sessions += core->session_count;
    to->streams += core->stream_count;
    return 0;
}

int ks_get_stats(ks_stats *stats)
{
    if (stats == NULL)
        return -EFAULT;
    memset(stats, 0, sizeof *stats);
    for (int i = 0; i < ENGINES_MAX; i++) {
        ks_engine *e = engine_of(i);
        stats_note s = {.note = {.run = run_stats}, .stats = stats};
        if (e != NULL)
            (void)ks_engine_ask(e, &s.note); /* a stopped engine has nothing to add */
    }
    stats->memory_bytes = ks_mem_used();
    return 0;
}

/* ---- plain descriptors ---- */

int ks_udp_park(int udp_fd)
{
    return ks_udp_connect_self(udp_fd);
}

int ks_udp_unpark(int udp_fd)
{
    return ks_udp_disconnect(udp_fd);
}

int ks_udp_can_spread(void)
{
    return ks_udp_spreads();
}

int ks_udp_shut(int udp_fd)
{
    return ks_udp_shut_out(udp_fd);
}

int ks_udp_open(int udp_fd)
{
    return ks_udp_let_in(udp_fd);
}

typedef struct {
    ks_note note;
    ks_addr name;
    bool reuse;
} adopt_note;

static int run_adopt(ks_engine *e, ks_note *n)
{
    const adopt_note *a = (const adopt_note *)n;
    ks_ports_look(ks_engine_ports(e));
    return ks_port_adopt(ks_engine_ports(e), &a->name, a->reuse);
}

static int run_look(ks_engine *e, ks_note *n)
{
    (void)n;
    ks_ports_look(ks_engine_ports(e));
    return 0;
}

int ks_udp_adopt(int family, const uint8_t address[16], int port, uint32_t scope, int reuse)
{
    adopt_note a = {.note = {.run = run_adopt}, .reuse = reuse != 0};
    if ((family != AF_INET && family != AF_INET6) || port < 0 || port > UINT16_MAX || address == NULL)
        return -EINVAL;
    a.name.sa.sa_family = (sa_family_t)family;
    if (family == AF_INET6) {
        memcpy(&a.name.in6.sin6_addr, address, 16);
        a.name.in6.sin6_port = htons((uint16_t)port);
        a.name.in6.sin6_scope_id = scope;
    } else {
        memcpy(&a.name.in4.sin_addr, address, 4);
        a.name.in4.sin_port = htons((uint16_t)port);
    }
    for (int i = 0; i < ENGINES_MAX; i++) {
        ks_engine *e = engine_of(i);
        ks_note look = {.run = run_look};
        if (e != NULL)
            (void)ks_engine_ask(e, &look); /* all first: a port may be held by another engine's for its listener */
    }
    for (int i = 0; i < ENGINES_MAX; i++) {
        ks_engine *e = engine_of(i);
        int answer = e == NULL ? -ENOENT : ks_engine_ask(e, &a.note);
        if (answer != -ENOENT && answer != -ESHUTDOWN)
            return answer;
    }
    return -ENOENT;
}

int ks_poll(int fd, int events, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = (short)events};
    return poll(&p, 1, timeout_ms) < 0 ? -errno : p.revents;
}
