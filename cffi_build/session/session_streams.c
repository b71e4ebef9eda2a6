/* SPDX-License-Identifier: MIT */
#include "session_parts.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "err.h"
#include "front.h"
#include "profile.h"

#if defined(__sun)
#include <sys/filio.h>
#endif

#define LINGER_MS 30000u      /* how long what was sent before close() may take to be acknowledged */
#define STREAM_WINDOW_MAX (1u << 30)

/* ---- marks ---- */

void ks_session_mark(ks_session *s)
{
    if (s->dirty || s->state == KS_SESSION_ENDED)
        return;
    s->dirty = true;
    s->dirty_next = s->core->dirty;
    s->core->dirty = s;
}

void ks_stream_ready(ks_stream *st)
{
    ks_session *s = st->session;
    if (st->on_ready)
        return;
    st->on_ready = true;
    st->ready_next = NULL;
    if (s->ready_tail != NULL)
        s->ready_tail->ready_next = st;
    else
        s->ready_head = st;
    s->ready_tail = st;
}

ks_stream *ks_session_next_ready(ks_session *s)
{
    ks_stream *st = s->ready_head;
    if (st == NULL)
        return NULL;
    s->ready_head = st->ready_next;
    if (s->ready_head == NULL)
        s->ready_tail = NULL;
    st->on_ready = false;
    return st;
}

void ks_stream_mark(ks_stream *st)
{
    ks_stream_ready(st);
    ks_session_mark(st->session);
}

/* ---- frames ---- */

/* What goes into KCP must go in whole: half a frame would garble all that follows. */
void ks_session_put_bytes(ks_session *s, const uint8_t *data, uint32_t size)
{
    s->framed_ms = s->core->now_ms;
    uint8_t *deflated = s->codec != 0 ? s->core->codec_space->deflated : NULL;
    int n;
    do {
        if (s->codec != 0) {
            n = ks_codec_call(s->codec, KS_CODEC_COMPRESS, data, (int)size, deflated, (int)KS_CODEC_BYTES);
            data = deflated;
            size = 0;
        } else
            n = (int)size;
        if (n < 0 || ks_kcp_send(&s->kcp, data, (uint32_t)n) != n)
            ks_session_fail(s, ENOMEM);
    } while (s->state != KS_SESSION_ENDED && s->codec != 0 && n == (int)KS_CODEC_BYTES);
}

void ks_session_put_frame(ks_session *s, ks_smux_cmd cmd, uint32_t sid)
{
    uint8_t head[KS_SMUX_HEAD];
    if (!s->smux || s->state == KS_SESSION_ENDED)
        return;
    ks_smux_head(head, s->parser.version, cmd, 0, sid);
    ks_session_put_bytes(s, head, sizeof head);
}

void ks_stream_put_fin(ks_stream *st)
{
    if (!st->fin_sent)
        ks_session_put_frame(st->session, KS_SMUX_FIN, st->sid);
    st->fin_sent = true;
}

void ks_stream_put_reset(ks_stream *st)
{
    if (st->reset_sent)
        return;
    ks_stream_put_fin(st);
    ks_session_put_frame(st->session, KS_SMUX_FIN, st->sid);
    st->reset_sent = true;
    st->session->core->count.resets_sent++;
}

/* ---- a stream's life ---- */

static void count_established(ks_core *core)
{
    if (++core->count.curr_estab > core->count.max_conn)
        core->count.max_conn = core->count.curr_estab;
}

static uint32_t stream_window(const ks_session *s)
{
    uint32_t window = s->kcp.cfg.rcv_wnd * s->kcp.mss;
    return window < KS_SMUX_FIRST_WINDOW ? KS_SMUX_FIRST_WINDOW : window > STREAM_WINDOW_MAX ? STREAM_WINDOW_MAX : window;
}

static ks_stream *stream_add(ks_session *s, uint32_t sid, int engine_fd, uint64_t inode)
{
    ks_stream *st = ks_stream_new(s->core, s, sid, engine_fd, inode, stream_window(s));
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
    st->connecting = s->smux;
    if (!st->connecting)
        count_established(s->core);
    ks_session_put_frame(s, KS_SMUX_SYN, st->sid);
    ks_session_mark(s);
    return KS_OK;
}

static void list_remove(ks_session *s, ks_stream *st)
{
    if (st->prev != NULL)
        st->prev->next = st->next;
    else
        s->streams = st->next;
    if (st->next != NULL)
        st->next->prev = st->prev;
    ks_hash_remove(&s->by_sid, &st->by_sid);
    if (st->on_ready) {
        /* Rare (a stream dies while others are being served): the list is short, so it is searched. */
        ks_stream *before = NULL;
        for (ks_stream *at = s->ready_head; at != st; at = at->ready_next)
            before = at;
        if (before != NULL)
            before->ready_next = st->ready_next;
        else
            s->ready_head = st->ready_next;
        if (s->ready_tail == st)
            s->ready_tail = before;
        st->on_ready = false;
    }
}

/* Takes the filler of a connecting stream's pair out again. */
static void drain_filler(ks_stream *st)
{
    char waste[4096];
    while (st->fill_bytes > 0) {
        ssize_t n = read(st->src.fd, waste, st->fill_bytes < (int)sizeof waste ? (size_t)st->fill_bytes : sizeof waste);
        if (n <= 0)
            break;
        st->fill_bytes -= (int)n;
    }
}

void ks_stream_end_front(ks_stream *st)
{
    ks_session *s = st->session;
    if (st->src.fd < 0)
        return;
    if (st->connecting)
        drain_filler(st); /* closing over unread data would tell the application ECONNRESET */
    else
        s->core->count.curr_estab--;
    if ((st->app_fd >= 0 && !st->connecting) || st->handed)
        s->owner->withdraw(s->owner, st);
    s->buffered -= st->rx_charge;
    ks_stream_close_front(s->core, st);
    st->orphan_ms = s->core->now_ms;
}

void ks_stream_remove(ks_stream *st)
{
    ks_stream_end_front(st);
    list_remove(st->session, st);
    ks_stream_del(st->session->core, st);
}

/* The peer has acknowledged the SYN: the filler goes, and A becomes writable. */
void ks_stream_established(ks_stream *st)
{
    /* The buffer first: writable with the small one, A would take part of the application's first write. */
    (void)setsockopt(st->app_fd, SOL_SOCKET, SO_SNDBUF, &st->app_sndbuf, sizeof st->app_sndbuf);
    drain_filler(st);
    ks_front_close(st->app_fd);
    st->app_fd = -1;
    st->connecting = false;
    count_established(st->session->core);
    ks_stream_ready(st);
}

ks_stream *ks_stream_find(const ks_session *s, uint32_t sid)
{
    ks_hnode *n = ks_hash_find(&s->by_sid, sid);
    return n != NULL ? KS_OWNER(n, ks_stream, by_sid) : NULL;
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
    st->doomed = true;
    st->app_eof = st->fin_sent = st->fin_rcvd = true;
    if (st->rx_count > 0 && !st->app_closed && !st->app_deaf)
        shutdown(st->src.fd, SHUT_RD); /* the application's writes fail from now on, its reads go on */
    ks_stream_ready(st);
}

void ks_stream_reset(ks_stream *st, int error)
{
    ks_session *s = st->session;
    if (st->connecting || !s->smux) {
        if (st->connecting && s->kcp.count.out_segs > 0)
            ks_session_farewell(s); /* the SYN may have come through */
        ks_session_fail(s, error);
        return;
    }
    ks_stream_put_reset(st);
    if (s->state == KS_SESSION_ENDED)
        return; /* without memory for it */
    st->app_deaf = true;
    ks_stream_doom(st, error);
    ks_session_mark(s);
}

void ks_session_refuse_stream(ks_session *s, uint32_t sid)
{
    ks_session_put_frame(s, KS_SMUX_FIN, sid);
    ks_session_put_frame(s, KS_SMUX_FIN, sid);
    s->core->count.resets_sent++;
}

void ks_session_accept_stream(ks_session *s, uint32_t sid)
{
    int app, engine;
    s->kcp.flush_now = true; /* the connecting end waits for the acknowledgment */
    s->until_ms = KS_NEVER;
    if (ks_front_pair(&app, &engine, s->messages ? ks_profile_message_bytes(&s->kcp.cfg) : 0) < 0) {
        s->core->count.backlog_drops++; /* no descriptor to be had */
        ks_session_refuse_stream(s, sid);
        return;
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
    }
}

/* What the state of both directions now allows or demands. -> false when the stream is gone. */
bool ks_stream_settle(ks_stream *st)
{
    ks_session *s = st->session;
    if (st->src.hung_up && !st->app_closed) {
        st->app_closed = st->app_deaf = true;
        ks_stream_deliver(st); /* drops what waits */
    }
    if (st->app_closed && st->linger_s == 0 && s->smux && !st->doomed && !st->reset_sent) {
        ks_stream_put_reset(st);
        st->app_eof = st->fin_rcvd = true;
    }
    bool read_all = st->rx_count == 0;
    if (st->src.fd >= 0 && st->fin_rcvd && read_all && !st->eof_told && !st->doomed) {
        shutdown(st->src.fd, SHUT_WR);
        st->eof_told = true;
    }
    if ((st->doomed && read_all) || (st->app_eof && (st->app_closed || st->eof_told)))
        ks_stream_end_front(st);
    if (s->state == KS_SESSION_ENDED)
        return false;
    if (st->src.fd >= 0)
        return true;
    /* At exit nobody will read what may still come: what was sent has arrived, and the farewell follows. */
    bool leaving = s->core->draining && ks_kcp_unacked(&s->kcp) == 0;
    if (s->smux && !st->fin_rcvd && !st->doomed && !leaving && s->core->now_ms - st->orphan_ms < LINGER_MS)
        return true;
    ks_stream_remove(st);
    return false;
}

bool ks_stream_is_flushed(ks_stream *st)
{
    int avail = 0;
    if (st->src.fd >= 0 && ioctl(st->src.fd, FIONREAD, &avail) == 0 && avail > 0)
        return false;
    return (st->src.fd < 0 || st->app_eof) && ks_kcp_unacked(&st->session->kcp) == 0;
}
