/* SPDX-License-Identifier: MIT */
/* Connecting and listening, and what is asked and told of one descriptor: checks of what comes from outside, and the notes
 * that carry each call to the engine's thread. */
#include "api/api_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/accept_queue.h"
#include "engine/listener.h"
#include "os/front.h"
#include "session/profile.h"

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
                ks_profile_first_mtu(p) >= KS_KCP_MTU_MIN + overhead(with);
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
    ks_engine *e = ks_engine_of(engine);
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

static int run_reset(ks_engine *e, ks_note *n);

/* The lobby of the closed listener whose sessions hold this socket, or a new one. Held and referred to, for us. */
static int find_lobby(int udp_fd, const ks_settings *with, int backlog, int engines, ks_lobby **lobby, bool *found)
{
    open_note look = {.note = {.run = run_find}, .inode = ks_front_inode(udp_fd), .with = *with};
    int answer = -ENOENT;
    for (int i = 0; i < KS_ENGINES_MAX && (answer == -ENOENT || answer == -ESHUTDOWN); i++) {
        ks_engine *e = ks_engine_of(i);
        answer = e == NULL ? -ENOENT : ks_engine_ask(e, &look.note);
    }
    *found = answer == 0;
    if (answer == 0)
        ks_lobby_reopen(look.lobby, backlog);
    else if (answer != -ENOENT && answer != -ESHUTDOWN)
        return answer;
    *lobby = *found ? look.lobby : ks_lobby_new(backlog, engines);
    return *lobby == NULL ? -ENOMEM : 0;
}

/* Hands each engine its part; what it has taken over is no longer in `o`. -> 0 when one at least listens. */
static int spread_listener(ks_engine *const *e, open_note *o, int count, int backlog)
{
    ks_lobby *lobby = NULL;
    bool found;
    int error = find_lobby(o[0].udp_fd, &o[0].with, backlog, count, &lobby, &found), listening = 0;
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
        ks_front_note f = {.note = {.run = run_reset}, .inode = o[0].inode};
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
    ks_engine *e[KS_ENGINES_MAX];
    open_note o[KS_ENGINES_MAX];
    int error = 0;
    if (count < 1 || count > KS_ENGINES_MAX)
        return -EINVAL;
    for (int i = 0; i < count; i++) {
        e[i] = ks_engine_of(numbers[i]);
        o[i] = (open_note){.udp_fd = udp_fds[i], .engine_fd = -1, .app_fd = -1, .with = {.profile = profile}};
        int bad = take_crypt(&o[i].with, crypts[i]);
        ks_front_own(udp_fds[i]);
        if (error == 0)
            error = bad < 0 ? bad : e[i] == NULL ? -ESRCH : 0;
    }
    if (error == 0)
        error = ks_front_inode(app_fd) == 0 ? -ENOTSOCK : make_front(&o[0], app_fd, false, 0);
    if (error == 0)
        error = ks_front_block(app_fd);
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

ks_stream *ks_engine_stream(ks_engine *e, uint64_t inode, ks_port **port)
{
    const ks_hash *table = &ks_engine_core(e)->by_inode;
    ks_hnode *n = ks_hash_find(table, KS_FRONT_KEY(inode, true));
    *port = n != NULL ? KS_OWNER(n, ks_port, by_inode) : NULL;
    n = ks_hash_find(table, KS_FRONT_KEY(inode, false));
    return n != NULL ? KS_OWNER(n, ks_stream, by_inode) : NULL;
}

int ks_front_ask(int app_fd, ks_front_note *f, ks_note_run *run)
{
    int result = -ENOTSOCK;
    f->inode = ks_front_inode(app_fd);
    f->note.run = run;
    for (int i = 0; i < KS_ENGINES_MAX && f->inode != 0; i++) {
        ks_engine *e = ks_engine_of(i);
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
    const ks_stream *st = ks_engine_stream(e, ((ks_front_note *)n)->inode, &port);
    return st != NULL ? 1 : port != NULL ? 2 : -ENOTSOCK;
}

int ks_is_kcp(int app_fd)
{
    ks_front_note f = {0};
    int answer = ks_front_ask(app_fd, &f, run_kind);
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
    ks_stream *st = ks_engine_stream(e, ((ks_front_note *)n)->inode, &port);
    if (port != NULL)
        ks_port_unlisten(port);
    else if (st != NULL)
        ks_stream_reset(st, 0);
    return st != NULL || port != NULL ? 0 : -ENOTSOCK;
}

int ks_reset(int app_fd)
{
    ks_front_note f = {.all = true};
    return ks_front_ask(app_fd, &f, run_reset);
}

static int run_closing(ks_engine *e, ks_note *n)
{
    ks_port *port;
    const ks_stream *st = ks_engine_stream(e, ((ks_front_note *)n)->inode, &port);
    if (port != NULL)
        ks_port_closing(port);
    return st != NULL || port != NULL ? 0 : -ENOTSOCK;
}

int ks_closing(int app_fd)
{
    ks_front_note f = {0};
    return ks_front_ask(app_fd, &f, run_closing);
}

void ks_note_end(int app_fd)
{
    uint64_t inode = ks_front_inode(app_fd);
    if (inode != 0 && ks_front_init() == 0)
        ks_front_note_end(inode);
}

static int run_linger(ks_engine *e, ks_note *n)
{
    ks_port *port;
    ks_stream *st = ks_engine_stream(e, ((ks_front_note *)n)->inode, &port);
    if (st == NULL)
        return port != NULL ? 0 : -ENOTSOCK;
    return ks_stream_is_flushed(st) ? 0 : KS_EAGAIN;
}

int ks_linger(int app_fd, int timeout_ms)
{
    ks_front_note f = {.note = {.wait_ms = (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms)}};
    int answer = ks_front_ask(app_fd, &f, run_linger);
    return answer == -ENOTSOCK ? 0 : answer; /* it has ended, so nothing is left to wait for */
}

typedef struct {
    ks_front_note front;
    const uint8_t *data;
    int size;
} oob_note;

static int run_oob(ks_engine *e, ks_note *n)
{
    const oob_note *o = (const oob_note *)n;
    ks_port *port;
    ks_stream *st = ks_engine_stream(e, o->front.inode, &port);
    if (st == NULL || ks_stream_is_connecting(st))
        return port != NULL || st != NULL ? -ENOTCONN : -ENOTSOCK;
    return ks_session_send_oob(st->session, o->data, (size_t)o->size);
}

int ks_send_oob(int app_fd, const uint8_t *data, int size)
{
    oob_note o = {.data = data, .size = size};
    if (size < 0 || (data == NULL && size > 0))
        return -EINVAL;
    return ks_front_ask(app_fd, &o.front, run_oob);
}

void ks_settle(void)
{
    for (int i = 0; i < KS_ENGINES_MAX; i++) {
        ks_engine *e = ks_engine_of(i);
        if (e != NULL)
            ks_engine_end_of_turn(e);
    }
}

int64_t ks_send_now(int app_fd, const uint8_t *data, int64_t size)
{
    if (data == NULL || size <= 0)
        return 0;
    uint64_t inode = 0; /* asked for late: most calls of who sends without a pause end before */
    for (int i = 0; i < KS_ENGINES_MAX; i++) {
        ks_engine *e = ks_engine_of(i);
        if (e == NULL || !ks_engine_asleep(e) || (inode == 0 && (inode = ks_front_inode(app_fd)) == 0))
            continue;
        int64_t sent = ks_engine_send(e, inode, data, (size_t)size);
        if (sent > 0)
            return sent;
    }
    return 0;
}
