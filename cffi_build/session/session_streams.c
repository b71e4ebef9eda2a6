/* SPDX-License-Identifier: MIT */
#include "session/session_streams.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "os/front.h"
#include "session/profile.h"
#include "session/session_end.h"
#include "session/session_frames.h"
#include "session/session_line.h"
#include "session/session_marks.h"
#include "session/stream_window.h"

#if defined(__sun)
#include <sys/filio.h>
#endif

static void count_established(ks_core *core)
{
    if (++core->count.curr_estab > core->count.max_conn)
        core->count.max_conn = core->count.curr_estab;
}

static ks_stream *stream_add(ks_session *s, uint32_t sid, int engine_fd, uint64_t inode)
{
    ks_stream *st = ks_stream_new(s->core, s, sid, engine_fd, inode, ks_session_stream_window(s));
    if (st == NULL)
        return NULL;
    if (ks_hash_insert(&s->by_sid, &st->by_sid, sid) != KS_OK) {
        ks_stream_del(s->core, st);
        return NULL;
    }
    st->messages = s->messages;
    st->next = s->streams;
    if (st->next != NULL)
        st->next->prev = st;
    s->streams = st;
    return st;
}

int ks_session_open_stream(ks_session *s, int engine_fd, uint64_t inode, int app_fd, int fill_bytes, int app_sndbuf)
{
    ks_stream *st = stream_add(s, 1, engine_fd, inode);
    if (st == NULL) {
        ks_front_close(app_fd);
        return KS_ENOMEM;
    }
    st->app_fd = app_fd;
    st->fill_bytes = fill_bytes;
    st->app_sndbuf = app_sndbuf;
    if (s->smux) {
        st->sending = KS_SENDING_SYN;
        ks_session_put_opening(s, st->sid);
    } else
        count_established(s->core);
    ks_session_mark(s);
    return KS_OK;
}

/* The peer has acknowledged the SYN: the filler goes, and A becomes writable. */
void ks_stream_established(ks_stream *st)
{
    /* The buffer first: writable with the small one, A would take part of the application's first write. */
    (void)setsockopt(st->app_fd, SOL_SOCKET, SO_SNDBUF, &st->app_sndbuf, sizeof st->app_sndbuf);
    ks_stream_drain_filler(st);
    ks_front_close(st->app_fd);
    st->app_fd = -1;
    ks_sending_step(&st->sending, KS_SENDING_ON_ACKNOWLEDGED);
    count_established(st->session->core);
    ks_stream_ready(st);
}

ks_stream *ks_stream_find(const ks_session *s, uint32_t sid)
{
    ks_hnode *n = ks_hash_find(&s->by_sid, sid);
    return n != NULL ? KS_OWNER(n, ks_stream, by_sid) : NULL;
}

/* Closing over data that the application wrote would tell ECONNRESET to its reads, which shall go on to the end. */
static void drop_unsent(const ks_stream *st)
{
    char waste[4096];
    shutdown(st->src.fd, SHUT_RD);
    while (recv(st->src.fd, waste, sizeof waste, MSG_DONTWAIT) > 0)
        ;
}

/* The other end is gone, or we end it: no more to send, `error` for the application after what it can still read. */
void ks_stream_doom(ks_stream *st, int error)
{
    if (st->src.fd < 0) {
        ks_stream_remove(st);
        return;
    }
    if (error != 0)
        ks_front_bury(st->by_inode.key >> 1, error);
    if (error == EPIPE)
        drop_unsent(st);
    ks_sending_step(&st->sending, KS_SENDING_ON_DOOMED);
    ks_receiving_step(&st->receiving, KS_RECEIVING_ON_DOOMED);
    if (st->rx_count > 0 && st->reader == KS_READER_READS)
        shutdown(st->src.fd, SHUT_RD); /* the application's writes fail from now on, its reads go on */
    ks_stream_ready(st);
}

void ks_stream_reset(ks_stream *st, int error)
{
    ks_session *s = st->session;
    if (ks_stream_is_connecting(st) || !s->smux) {
        if (ks_stream_is_connecting(st) && s->kcp.count.out_segs > 0)
            ks_session_farewell(s); /* the SYN may have come through */
        ks_session_fail(s, error);
        return;
    }
    ks_stream_put_reset(st);
    if (s->state == KS_SESSION_ENDED)
        return; /* without memory for it */
    ks_reader_step(&st->reader, KS_READER_ON_DEAFENED);
    ks_stream_doom(st, error);
    ks_session_mark(s);
}

/* A new peer's first stream waits where TCP's connection would, in the queue: nothing more is read of it meanwhile. */
static void wait_with(ks_session *s, uint32_t sid)
{
    s->core->count.backlog_drops += s->waiting_sid == 0;
    s->waiting_sid = sid;
    ks_session_join_line(s);
    s->starved = ks_session_is_first_in_line(s);
}

/* It is this process that has no descriptor, and the peer can't know: it waits as long as it likes. */
static void wait_patiently_with(ks_session *s, uint32_t sid)
{
    s->until_ms = KS_NEVER;
    wait_with(s, sid);
}

void ks_session_accept_stream(ks_session *s, uint32_t sid)
{
    int app, engine;
    const bool first = s->state == KS_SESSION_HALF_OPEN;
    s->kcp.flush_now = true; /* the connecting end waits for the acknowledgment */
    if (s->by_sid.count >= (uint32_t)s->owner->profile.max_streams) {
        s->core->count.stream_drops++;
        ks_session_refuse_stream(s, sid);
        return;
    }
    if (first && s->owner->is_full(s->owner)) {
        wait_with(s, sid);
        return;
    }
    if (first && !ks_session_is_first_in_line(s)) {
        wait_patiently_with(s, sid);
        return;
    }
    if (ks_front_pair(&app, &engine, s->messages ? ks_profile_message_bytes(&s->kcp.cfg) : 0) < 0) {
        if (first)
            wait_patiently_with(s, sid);
        else {
            s->core->count.backlog_drops++;
            ks_session_refuse_stream(s, sid);
        }
        return;
    }
    if (first) {
        s->state = KS_SESSION_OPEN;
        s->until_ms = KS_NEVER;
        s->waiting_sid = 0;
        ks_session_leave_line(s);
    }
    ks_front_own(app);
    ks_stream *st = stream_add(s, sid, engine, ks_front_inode(app));
    if (st == NULL) {
        ks_front_close(app);
        ks_session_refuse_stream(s, sid);
        return;
    }
    count_established(s->core);
    st->app_fd = app;
    if (!s->owner->offer(s->owner, st)) {
        ks_front_close(st->app_fd);
        st->app_fd = -1; /* so that it is not withdrawn */
        ks_stream_put_reset(st);
        if (s->state != KS_SESSION_ENDED) /* without memory for the reset */
            ks_stream_remove(st);
        return;
    }
}

/* The application ended its direction first and has closed now: did it read all? */
static bool left_unread(const ks_stream *st)
{
    char peek;
    return st->unread || (recv(st->src.fd, &peek, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == ECONNRESET);
}

/* What the state of both directions now allows or demands. -> false when the stream is gone. */
bool ks_stream_settle(ks_stream *st)
{
    ks_session *s = st->session;
    if (st->src.hung_up && !ks_stream_is_closed(st)) {
        ks_reader_step(&st->reader, KS_READER_ON_CLOSED);
        ks_stream_deliver(st); /* drops what waits */
        if (ks_stream_has_ended(st) && left_unread(st))
            ks_stream_abort(st);
    }
    if (ks_stream_is_closed(st) && st->linger_s == 0) {
        if (ks_stream_is_connecting(st)) {
            ks_stream_reset(st, 0); /* the attempt is given up */
            return false;
        }
        ks_stream_abort(st);
    }
    bool read_all = st->rx_count == 0;
    if (st->src.fd >= 0 && st->receiving == KS_RECEIVING_FIN && read_all) {
        shutdown(st->src.fd, SHUT_WR);
        ks_receiving_step(&st->receiving, KS_RECEIVING_ON_END_TOLD);
    }
    if ((st->receiving == KS_RECEIVING_DOOMED && read_all) ||
        (ks_stream_has_ended(st) && (ks_stream_is_closed(st) || st->receiving == KS_RECEIVING_TOLD)))
        ks_stream_end_front(st);
    if (s->state == KS_SESSION_ENDED)
        return false;
    if (st->src.fd >= 0)
        return true;
    /* At exit nobody will read what may still come: what was sent has arrived, and the farewell follows. */
    bool leaving = s->core->draining && ks_kcp_unacked(&s->kcp) == 0;
    if (s->smux && st->receiving == KS_RECEIVING_OPEN && !leaving && s->core->now_ms - st->orphan_ms < KS_LINGER_MS)
        return true;
    ks_stream_remove(st);
    return false;
}

bool ks_stream_is_flushed(ks_stream *st)
{
    int avail = 0;
    if (st->src.fd >= 0 && ioctl(st->src.fd, FIONREAD, &avail) == 0 && avail > 0)
        return false;
    return (st->src.fd < 0 || ks_stream_has_ended(st)) && ks_kcp_unacked(&st->session->kcp) == 0;
}
