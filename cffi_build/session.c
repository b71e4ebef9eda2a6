/* SPDX-License-Identifier: MIT */
#include "session.h"

#include <errno.h>
#include <string.h>
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
#define QUIET_MS 3000u        /* TIME_WAIT: many times the peers' retransmission timeout */
#define RAW_QUIET_MS 10000u   /* the same without a farewell: the peer may not know for longer */
#define EMBRYO_MS 10000u      /* a session that was created by a packet and never opened a stream */
#define DEAF_MS 30000u        /* a segment was sent often enough to give up, if nothing was heard for so long */
#define TRIM_MS 1000u
#define STARVED_MS 50u        /* until data that found no memory is tried again: nothing else would wake the session */
#define BUFFER_MIN 4194304u   /* for the applications of one session, as smux's MaxReceiveBuffer */
#define REFUSALS 3u           /* ICMP refusals of a live session ... */
#define REFUSED_MS 1000u      /* ... for so long, with nothing heard in between, mean that the peer is gone */
#define STREAM_WINDOW_MAX (1u << 30)
#define TURN_PIECES 64
#define ANSWERS_PKTS 64u      /* our own frames that may wait on top of the send window before the peer's are read on */

static void deliver_ready(ks_session *s);
static void output(void *ctx, const struct iovec *iov, int pieces, size_t size);

/* ---- marks ---- */

void ks_session_mark(ks_session *s)
{
    if (s->dirty || s->state == KS_SESSION_ENDED)
        return;
    s->dirty = true;
    s->dirty_next = s->core->dirty;
    s->core->dirty = s;
}

static void ready_append(ks_stream *st)
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

static ks_stream *ready_pop(ks_session *s)
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
    ready_append(st);
    ks_session_mark(st->session);
}

/* ---- frames ---- */

/* What goes into KCP must go in whole: half a frame would garble all that follows. */
static void put_bytes(ks_session *s, const uint8_t *data, uint32_t size)
{
    s->framed_ms = s->core->now_ms;
    if (ks_kcp_send(&s->kcp, data, size) != (int)size)
        ks_session_fail(s, ENOMEM);
}

static void put_frame(ks_session *s, ks_smux_cmd cmd, uint32_t sid)
{
    uint8_t head[KS_SMUX_HEAD];
    if (!s->smux || s->state == KS_SESSION_ENDED)
        return;
    ks_smux_head(head, s->parser.version, cmd, 0, sid);
    put_bytes(s, head, sizeof head);
}

static void put_fin(ks_stream *st)
{
    if (!st->fin_sent)
        put_frame(st->session, KS_SMUX_FIN, st->sid);
    st->fin_sent = true;
}

static void put_reset(ks_stream *st)
{
    if (st->reset_sent)
        return;
    put_fin(st);
    put_frame(st->session, KS_SMUX_FIN, st->sid);
    st->reset_sent = true;
    st->session->core->count.resets_sent++;
}

/* ---- life ---- */

ks_session *ks_session_new(ks_core *core, ks_session_owner *owner, uint32_t conv, const ks_addr *peer, const ks_addr *local,
                           bool opener)
{
    const ks_profile *p = &owner->profile;
    ks_session *s = ks_alloc(sizeof *s);
    if (s == NULL || ks_timers_reserve(&core->timers, core->session_count + 1) != KS_OK) {
        ks_free(s);
        return NULL;
    }
    s->core = core;
    s->owner = owner;
    s->peer = *peer;
    s->local = *local;
    s->opener = opener;
    s->smux = p->framing == KS_FRAMING_SMUX;
    s->state = opener && s->smux ? KS_SESSION_CONNECTING : KS_SESSION_OPEN;
    ks_timer_init(&s->timer);
    ks_kcp_config config = ks_profile_kcp_config(p, conv);
    config.stream = config.stream || s->smux;
    ks_kcp_init(&s->kcp, &config, &core->pools, 0);
    ks_smux_parser_init(&s->parser, (uint8_t)p->smux_version);
    /* Without the parser's flow control the KCP window does the work: only what one write may leave over is held here. */
    uint32_t window = config.rcv_wnd * s->kcp.mss;
    s->buffer_limit = !s->smux ? 65536u : window / 2 * 3 > BUFFER_MIN ? window / 2 * 3 : BUFFER_MIN;
    s->heard_ms = s->framed_ms = core->now_ms;
    s->until_ms = s->smux && !opener ? core->now_ms + EMBRYO_MS : KS_NEVER;
    s->trim_ms = KS_NEVER;
    s->keepalive_ms = (uint32_t)p->keepalive_ms;
    s->keepalive_timeout_ms = (uint32_t)p->keepalive_timeout_ms;
    s->next = core->sessions;
    if (s->next != NULL)
        s->next->prev = s;
    core->sessions = s;
    core->session_count++;
    if (opener)
        core->count.active_opens++;
    else
        core->count.passive_opens++;
    return s;
}

void ks_session_add_counts(const ks_session *s, ks_counters *to)
{
    const ks_kcp_counts *c = &s->kcp.count;
    to->in_segs += c->in_segs;
    to->out_segs += c->out_segs;
    to->retrans_segs += c->retrans_segs;
    to->fast_retrans_segs += c->fast_retrans_segs;
    to->early_retrans_segs += c->early_retrans_segs;
    to->lost_segs += c->lost_segs;
    to->repeat_segs += c->repeat_segs;
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

static void close_front(ks_stream *st)
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

static void stream_remove(ks_stream *st)
{
    close_front(st);
    list_remove(st->session, st);
    ks_stream_del(st->session->core, st);
}

static void session_end(ks_session *s)
{
    if (s->state == KS_SESSION_ENDED)
        return;
    while (s->streams != NULL)
        stream_remove(s->streams);
    ks_core *core = s->core;
    s->state = KS_SESSION_ENDED;
    /* What the batch refers to lies in our segments. */
    ks_batch_send(&core->batch);
    ks_timer_set(&core->timers, &s->timer, KS_NEVER);
    ks_session_add_counts(s, &core->count);
    ks_kcp_free(&s->kcp);
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        core->sessions = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    core->session_count--;
    s->owner->ended(s->owner, s);
    ks_core_bury(core, &s->grave, s);
}

void ks_session_fail(ks_session *s, int error)
{
    if (s->state == KS_SESSION_ENDED)
        return;
    for (ks_stream *st = s->streams; st != NULL; st = st->next)
        if (st->src.fd >= 0 && error != 0)
            ks_front_bury(st->by_inode.key >> 1, error);
    session_end(s);
}

static void go_quiet(ks_session *s)
{
    if (s->state == KS_SESSION_QUIET)
        return;
    s->state = KS_SESSION_QUIET;
    s->until_ms = s->core->now_ms + (s->smux ? QUIET_MS : RAW_QUIET_MS);
}

/* ---- streams ---- */

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
    put_frame(s, KS_SMUX_SYN, st->sid);
    ks_session_mark(s);
    return KS_OK;
}

/* The peer has acknowledged the SYN: the filler goes, and A becomes writable. */
static void stream_established(ks_stream *st)
{
    /* The buffer first: writable with the small one, A would take part of the application's first write. */
    (void)setsockopt(st->app_fd, SOL_SOCKET, SO_SNDBUF, &st->app_sndbuf, sizeof st->app_sndbuf);
    drain_filler(st);
    ks_front_close(st->app_fd);
    st->app_fd = -1;
    st->connecting = false;
    count_established(st->session->core);
    ready_append(st);
}

static ks_stream *stream_find(const ks_session *s, uint32_t sid)
{
    ks_hnode *n = ks_hash_find(&s->by_sid, sid);
    return n != NULL ? KS_OWNER(n, ks_stream, by_sid) : NULL;
}

/* The other end is gone, or we end it: no more to send, `error` for the application after what it can still read. */
static void stream_doom(ks_stream *st, int error)
{
    if (st->src.fd < 0) {
        stream_remove(st);
        return;
    }
    if (error != 0)
        ks_front_bury(st->by_inode.key >> 1, error);
    st->doomed = true;
    st->app_eof = st->fin_sent = st->fin_rcvd = true;
    if (st->rx_count > 0 && !st->app_closed && !st->app_deaf)
        shutdown(st->src.fd, SHUT_RD); /* the application's writes fail from now on, its reads go on */
    ready_append(st);
}

/* One FIN on stream 0 whose acknowledgment nobody waits for: the session ends now. */
static void farewell(ks_session *s)
{
    put_frame(s, KS_SMUX_FIN, 0);
    if (s->state != KS_SESSION_ENDED)
        ks_kcp_flush(&s->kcp, (uint32_t)s->core->now_ms, output, s);
}

void ks_stream_reset(ks_stream *st, int error)
{
    ks_session *s = st->session;
    if (st->connecting || !s->smux) {
        if (st->connecting && s->kcp.count.out_segs > 0)
            farewell(s); /* the SYN may have come through */
        ks_session_fail(s, error);
        return;
    }
    put_reset(st);
    if (s->state == KS_SESSION_ENDED)
        return; /* without memory for it */
    st->app_deaf = true;
    stream_doom(st, error);
    ks_session_mark(s);
}

static void refuse_stream(ks_session *s, uint32_t sid)
{
    put_frame(s, KS_SMUX_FIN, sid);
    put_frame(s, KS_SMUX_FIN, sid);
    s->core->count.resets_sent++;
}

static void accept_stream(ks_session *s, uint32_t sid)
{
    int app, engine;
    s->kcp.flush_now = true; /* the connecting end waits for the acknowledgment */
    s->until_ms = KS_NEVER;
    if (ks_front_pair(&app, &engine) < 0) {
        s->core->count.backlog_drops++; /* no descriptor to be had */
        refuse_stream(s, sid);
        return;
    }
    ks_front_own(app);
    ks_stream *st = stream_add(s, sid, engine, ks_front_inode(app));
    if (st == NULL) {
        ks_front_close(app);
        refuse_stream(s, sid);
        return;
    }
    count_established(s->core);
    st->app_fd = app;
    if (!s->owner->offer(s->owner, st)) {
        ks_front_close(st->app_fd);
        st->app_fd = -1; /* so that it is not withdrawn */
        put_reset(st);
        if (s->state != KS_SESSION_ENDED) /* without memory for the reset */
            stream_remove(st);
    }
}

void ks_session_accept_raw(ks_session *s)
{
    accept_stream(s, 1);
    if (s->streams == NULL)
        session_end(s);
}

/* ---- received data ---- */

static void take_data(ks_stream *st, ks_seg *seg, size_t off, size_t len)
{
    ks_session *s = st->session;
    s->bytes_received += len;
    s->core->count.bytes_received += len;
    if (st->app_closed || st->src.fd < 0) {
        /* Nobody will ever read it: TCP's answer is RST (RFC 9293 3.10.7.1). */
        if (s->smux && !st->reset_sent) {
            put_reset(st);
            st->fin_rcvd = true; /* no more is expected */
            ready_append(st);
        }
        return;
    }
    if (len == 0)
        return;
    uint32_t before = st->rx_charge;
    if (ks_stream_take(st, seg, (uint16_t)off, (uint16_t)len) != KS_OK) {
        ks_session_fail(s, ENOMEM);
        return;
    }
    s->buffered += st->rx_charge - before;
    ready_append(st);
}

/* The peer leaves: what it has not finished is reset. */
static void bye(ks_session *s)
{
    s->bye_rcvd = true;
    if (s->state == KS_SESSION_CONNECTING) {
        s->core->count.resets_received++;
        ks_session_fail(s, ECONNREFUSED);
        return;
    }
    for (ks_stream *st = s->streams, *next; st != NULL; st = next) {
        next = st->next;
        if (st->fin_rcvd && st->src.fd >= 0)
            stream_doom(st, 0);
        else {
            if (st->src.fd >= 0)
                s->core->count.resets_received++;
            stream_doom(st, ECONNRESET);
        }
    }
    s->kcp.flush_now = true;
}

static void take_event(ks_session *s, ks_seg *seg, const ks_smux_event *ev)
{
    ks_stream *st = stream_find(s, ev->sid);
    switch (ev->cmd) {
    case KS_SMUX_SYN:
        /* A repeated SYN changes nothing; a stream towards a connecting end has nobody to accept it. */
        if (s->opener)
            refuse_stream(s, ev->sid);
        else if (st == NULL && ev->sid != 0)
            accept_stream(s, ev->sid);
        break;
    case KS_SMUX_FIN:
        if (ev->sid == 0)
            bye(s);
        else if (st != NULL && st->fin_rcvd && !st->doomed) {
            s->core->count.resets_received++;
            stream_doom(st, ECONNRESET);
        } else if (st != NULL) {
            st->fin_rcvd = true;
            s->kcp.flush_now = true; /* what follows a close should not wait for a deferred ACK */
            ready_append(st);
        }
        break;
    case KS_SMUX_PSH:
        if (st != NULL && !st->doomed)
            take_data(st, seg, (size_t)(ev->data - ks_seg_data(seg)), ev->size);
        break;
    case KS_SMUX_UPDATE:
        if (st != NULL) {
            ks_smux_flow_update(&st->flow, ev->consumed, ev->window);
            ready_append(st);
        }
        break;
    case KS_SMUX_NOP:
        break;
    }
}

static void take_segment_untrusted(ks_session *s, ks_seg *seg)
{
    const uint8_t *data = ks_seg_data(seg);
    size_t size = seg->len;
    if (!s->smux) {
        if (s->streams != NULL)
            take_data(s->streams, seg, 0, size);
        return;
    }
    ks_smux_event ev;
    int result;
    while (s->state != KS_SESSION_ENDED && (result = ks_smux_parse_untrusted(&s->parser, &data, &size, &ev)) != 0) {
        if (result < 0) {
            s->core->count.smux_errors++;
            ks_session_fail(s, ECONNRESET);
            return;
        }
        take_event(s, seg, &ev);
    }
}

/* Frames may ask for answers (resets, updates), and these ask for no window: who makes us answer must also acknowledge. */
static bool owes_answers(const ks_session *s)
{
    return ks_kcp_unacked(&s->kcp) >= s->kcp.cfg.snd_wnd + ANSWERS_PKTS;
}

static bool may_receive(const ks_session *s)
{
    return s->state < KS_SESSION_QUIET && s->buffered < s->buffer_limit && !owes_answers(s);
}

static void receive(ks_session *s)
{
    while (may_receive(s)) {
        ks_seg *seg = ks_kcp_pop(&s->kcp);
        if (seg == NULL)
            return;
        take_segment_untrusted(s, seg);
        ks_seg_unref(seg);
    }
    if (s->state == KS_SESSION_QUIET)
        for (ks_seg *seg; (seg = ks_kcp_pop(&s->kcp)) != NULL;)
            ks_seg_unref(seg);
}

static void write_front(ks_stream *st)
{
    ks_session *s = st->session;
    uint32_t before = st->rx_charge;
    uint32_t n = ks_stream_write(st);
    s->buffered -= before - st->rx_charge;
    if (n > 0 && s->smux && s->parser.version == 2 && !st->fin_rcvd && ks_smux_flow_consume(&st->flow, n)) {
        uint8_t upd[KS_SMUX_UPD];
        ks_smux_upd(upd, st->sid, st->flow.consumed, st->flow.window);
        put_bytes(s, upd, sizeof upd);
    }
}

/* ---- data to send ---- */

/* Reads `avail` bytes or less from E straight into segments, behind a frame head with smux. -> bytes, 0 when there is no room. */
static uint32_t collect_frame(ks_stream *st, uint32_t avail)
{
    ks_session *s = st->session;
    uint32_t head = s->smux ? KS_SMUX_HEAD : 0, room = ks_kcp_room(&s->kcp);
    uint32_t want = avail < KS_SMUX_FRAME_MAX ? avail : KS_SMUX_FRAME_MAX;
    if (room <= head)
        return 0;
    if (want > room - head)
        want = room - head;
    if (s->smux && s->parser.version == 2 && want > ks_smux_flow_room(&st->flow))
        want = ks_smux_flow_room(&st->flow);
    if (want == 0)
        return 0;
    struct iovec iov[TURN_PIECES], *at = iov;
    int pieces = ks_kcp_alloc_tail(&s->kcp, head + want, iov, TURN_PIECES);
    size_t space = 0;
    for (int i = 0; i < pieces; i++)
        space += iov[i].iov_len;
    if (space <= head) {
        ks_kcp_commit(&s->kcp, 0);
        s->starved = true;
        return 0;
    }
    if (want > space - head)
        want = (uint32_t)(space - head);
    uint8_t frame[KS_SMUX_HEAD];
    ks_smux_head(frame, s->parser.version, KS_SMUX_PSH, (uint16_t)want, st->sid);
    for (uint32_t done = 0; done < head;) {
        size_t take = at->iov_len < head - done ? at->iov_len : head - done;
        memcpy(at->iov_base, frame + done, take);
        done += (uint32_t)take;
        at->iov_base = (uint8_t *)at->iov_base + take;
        at->iov_len -= take;
        if (at->iov_len == 0) {
            at++;
            pieces--;
        }
    }
    ssize_t n = readv(st->src.fd, at, pieces);
    if (n != (ssize_t)want) {
        /* The kernel said that so much was there, and nobody else reads E. A frame head can't be taken back. */
        if (n > 0)
            ks_session_fail(s, EIO);
        else
            ks_kcp_commit(&s->kcp, 0);
        return 0;
    }
    ks_kcp_commit(&s->kcp, head + want);
    st->flow.sent += want;
    s->framed_ms = s->core->now_ms;
    s->bytes_sent += want;
    s->core->count.bytes_sent += want;
    return want;
}

/* Moves one frame's worth. -> true when there may be more and there was room. */
static bool collect(ks_stream *st)
{
    ks_session *s = st->session;
    if (!st->src.readable || st->app_eof || st->connecting || st->src.fd < 0)
        return false;
    if (ks_kcp_room(&s->kcp) <= KS_SMUX_HEAD)
        return false;
    int avail = 0;
    if (ioctl(st->src.fd, FIONREAD, &avail) < 0)
        avail = 0;
    if (avail > 0)
        return collect_frame(st, (uint32_t)avail) > 0;
    char peek;
    ssize_t n = recv(st->src.fd, &peek, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0)
        return true;
    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        st->src.readable = false;
        if (!s->core->draining)
            return false;
        st->app_closed = true;
    }
    /* 0: the application's EOF; ECONNRESET: it closed with data unread, all it sent has been read. */
    st->app_eof = true;
    if (!(st->app_closed && st->linger_s == 0))
        put_fin(st);
    return false;
}

/* What the state of both directions now allows or demands. -> false when the stream is gone. */
static bool stream_settle(ks_stream *st)
{
    ks_session *s = st->session;
    if (st->src.hung_up && !st->app_closed) {
        st->app_closed = st->app_deaf = true;
        write_front(st); /* drops what waits */
    }
    if (st->app_closed && st->linger_s == 0 && s->smux && !st->doomed && !st->reset_sent) {
        put_reset(st);
        st->app_eof = st->fin_rcvd = true;
    }
    bool read_all = st->rx_count == 0;
    if (st->src.fd >= 0 && st->fin_rcvd && read_all && !st->eof_told && !st->doomed) {
        shutdown(st->src.fd, SHUT_WR);
        st->eof_told = true;
    }
    if ((st->doomed && read_all) || (st->app_eof && (st->app_closed || st->eof_told)))
        close_front(st);
    if (s->state == KS_SESSION_ENDED)
        return false;
    if (st->src.fd >= 0 || (s->smux && !st->fin_rcvd && !st->doomed && s->core->now_ms - st->orphan_ms < LINGER_MS))
        return true;
    stream_remove(st);
    return false;
}

/* Data waits in the pair that no window has room for. */
static bool is_blocked(const ks_stream *st)
{
    return st->src.fd >= 0 && st->src.readable && !st->app_eof && !st->connecting && !st->doomed;
}

/* Serves the streams in turn, a frame each, until nobody can move. Blocked ones stay on the list: an acknowledgment or a
 * window update marks the session again. */
static void serve_streams(ks_session *s)
{
    const ks_stream *first_blocked = NULL; /* since somebody moved: back at it, a whole round brought nothing */
    for (ks_stream *st; (st = ready_pop(s)) != NULL;) {
        write_front(st);
        bool moved = s->state != KS_SESSION_ENDED && collect(st);
        if (s->state == KS_SESSION_ENDED)
            return;
        if (st == first_blocked || moved)
            first_blocked = NULL;
        bool alive = stream_settle(st);
        if (s->state == KS_SESSION_ENDED)
            return;
        if (alive && (moved || is_blocked(st))) {
            ready_append(st);
            if (!moved && first_blocked == NULL)
                first_blocked = st;
        }
        if (first_blocked != NULL && s->ready_head == first_blocked)
            return;
    }
}

/* ---- the turn ---- */

void ks_session_input_untrusted(ks_session *s, const uint8_t *packet, size_t size)
{
    if (s->state == KS_SESSION_ENDED)
        return;
    int result = ks_kcp_input_untrusted(&s->kcp, packet, size, (uint32_t)s->core->now_ms, false);
    if (result < 0) {
        s->core->count.in_errs++;
        s->core->count.kcp_in_errors++;
    } else {
        s->heard_ms = s->core->now_ms;
        s->refusals = 0;
    }
    ks_session_mark(s);
}

void ks_session_refused(ks_session *s)
{
    s->refused = true;
    ks_session_mark(s);
}

/* One ICMP refusal ends a connect; a live session only ends when they go on and nothing else is heard: a single one may
 * be late, or forged. */
static void check_refused(ks_session *s)
{
    if (!s->refused)
        return;
    s->refused = false;
    if (s->state == KS_SESSION_CONNECTING || s->state >= KS_SESSION_CLOSING)
        ks_session_fail(s, ECONNREFUSED);
    else if (s->refusals++ == 0)
        s->refused_ms = s->core->now_ms;
    else if (s->refusals >= REFUSALS && s->core->now_ms - s->refused_ms >= REFUSED_MS)
        ks_session_fail(s, ECONNRESET);
}

static void output(void *ctx, const struct iovec *iov, int pieces, size_t size)
{
    ks_session *s = ctx;
    ks_batch_put(&s->core->batch, &s->owner->udp, &s->peer, s->local.sa.sa_family != 0 ? &s->local : NULL, iov, pieces, size);
}

/* Has the peer gone? May end the session. */
static void check_alive(ks_session *s)
{
    uint64_t silent = s->core->now_ms - s->heard_ms;
    bool keeps_alive = s->smux && s->keepalive_ms > 0;
    if (keeps_alive && s->state == KS_SESSION_OPEN ? silent >= s->keepalive_timeout_ms
                                                   : s->kcp.dead && silent >= DEAF_MS)
        ks_session_fail(s, ETIMEDOUT);
    else if (keeps_alive && s->state == KS_SESSION_OPEN && s->core->now_ms - s->framed_ms >= s->keepalive_ms)
        put_frame(s, KS_SMUX_NOP, 0);
}

/* Moves on when the streams are gone, or time is up. May end the session. */
static void check_end(ks_session *s)
{
    uint64_t now = s->core->now_ms;
    if (s->state == KS_SESSION_OPEN && s->streams == NULL && (s->opener || s->bye_rcvd || !s->smux)) {
        s->state = KS_SESSION_CLOSING;
        s->until_ms = now + LINGER_MS;
        if (s->opener && s->smux && !s->bye_rcvd) {
            put_frame(s, KS_SMUX_FIN, 0);
            if (s->state == KS_SESSION_ENDED)
                return;
        }
    }
    if (s->state == KS_SESSION_CLOSING && (ks_kcp_unacked(&s->kcp) == 0 || s->bye_rcvd)) {
        if (!s->opener)
            go_quiet(s);
        else if (s->kcp.nacks == 0)
            session_end(s); /* the peer knows that we are gone: nothing will be repeated */
        else {
            s->kcp.flush_now = true; /* the last acknowledgment, then the end */
            ks_session_mark(s);
        }
    } else if (now >= s->until_ms) {
        /* What came was acknowledged, but its beginning went to a session that is gone: the peer must not go on. */
        if (s->embryo)
            farewell(s);
        session_end(s);
    }
}

static void rearm(ks_session *s)
{
    ks_core *core = s->core;
    uint64_t due = s->until_ms;
    uint32_t wait = ks_kcp_next(&s->kcp, (uint32_t)core->now_ms);
    if (wait != UINT32_MAX && core->now_ms + wait < due)
        due = core->now_ms + wait;
    if (s->smux && s->keepalive_ms > 0 && s->state == KS_SESSION_OPEN) {
        uint64_t nop = s->framed_ms + s->keepalive_ms, dead = s->heard_ms + s->keepalive_timeout_ms;
        due = nop < due ? nop : due;
        due = dead < due ? dead : due;
    }
    if (s->trim_ms < due)
        due = s->trim_ms;
    if (s->starved && core->now_ms + STARVED_MS < due)
        due = core->now_ms + STARVED_MS;
    s->starved = false;
    for (const ks_stream *st = s->opener ? s->streams : NULL; st != NULL; st = st->next)
        if (st->src.fd < 0 && st->orphan_ms + LINGER_MS < due)
            due = st->orphan_ms + LINGER_MS;
    ks_timer_set(&core->timers, &s->timer, due);
}

/* After a moment without work an idle session gives its rings back. */
static void check_trim(ks_session *s, bool worked)
{
    bool idle = ks_kcp_unacked(&s->kcp) == 0 && s->kcp.nacks == 0 && s->buffered == 0;
    if (worked || !idle) {
        s->trimmed = false;
        s->trim_ms = idle ? s->core->now_ms + TRIM_MS : KS_NEVER;
    } else if (!s->trimmed && s->core->now_ms >= s->trim_ms) {
        ks_kcp_trim(&s->kcp);
        s->trimmed = true;
        s->trim_ms = KS_NEVER;
    }
}

void ks_session_turn(ks_session *s)
{
    if (s->state == KS_SESSION_ENDED)
        return;
    uint64_t in = s->kcp.count.in_segs, out = s->kcp.count.out_segs;
    uint64_t heard = s->heard_ms;
    check_refused(s);
    if (s->state == KS_SESSION_CONNECTING && s->kcp.heard_una) {
        s->state = KS_SESSION_OPEN;
        if (s->streams != NULL)
            stream_established(s->streams);
    }
    if (s->state != KS_SESSION_ENDED)
        deliver_ready(s);
    if (s->state != KS_SESSION_ENDED)
        receive(s);
    if (s->state != KS_SESSION_ENDED)
        serve_streams(s);
    if (s->opener && s->state == KS_SESSION_OPEN && s->streams != NULL && s->streams->src.fd < 0)
        (void)stream_settle(s->streams); /* an orphan's time may be up */
    if (s->state != KS_SESSION_ENDED)
        check_alive(s);
    if (s->state != KS_SESSION_ENDED)
        check_end(s);
    if (s->state == KS_SESSION_ENDED)
        return;
    if (s->state == KS_SESSION_QUIET)
        ks_kcp_forget_unacked(&s->kcp);
    if (ks_kcp_next(&s->kcp, (uint32_t)s->core->now_ms) == 0)
        ks_kcp_flush(&s->kcp, (uint32_t)s->core->now_ms, output, s);
    /* What was read up to the limit has been written on, so there is room for more: nothing else would wake us for it. */
    if (may_receive(s) && ks_kcp_readable(&s->kcp))
        ks_session_mark(s);
    check_trim(s, in != s->kcp.count.in_segs || out != s->kcp.count.out_segs || heard != s->heard_ms);
    rearm(s);
}

/* Before new data is parsed, what waits is written where there is room: so a full buffer drains. */
static void deliver_ready(ks_session *s)
{
    if (s->buffered < s->buffer_limit)
        return;
    for (ks_stream *st = s->ready_head; st != NULL && s->state != KS_SESSION_ENDED; st = st->ready_next)
        write_front(st);
}

bool ks_stream_is_flushed(ks_stream *st)
{
    int avail = 0;
    if (st->src.fd >= 0 && ioctl(st->src.fd, FIONREAD, &avail) == 0 && avail > 0)
        return false;
    return (st->src.fd < 0 || st->app_eof) && ks_kcp_unacked(&st->session->kcp) == 0;
}

bool ks_session_is_idle(ks_session *s)
{
    for (ks_stream *st = s->streams; st != NULL; st = st->next) {
        int avail = 0;
        if (!st->connecting && st->src.fd >= 0 && ioctl(st->src.fd, FIONREAD, &avail) == 0 && avail > 0)
            return false;
    }
    return s->state == KS_SESSION_CONNECTING || ks_kcp_unacked(&s->kcp) == 0;
}

/* ---- for packets without a session ---- */

size_t ks_session_refusal_untrusted(const uint8_t *packet, size_t size, uint8_t smux_version, uint8_t out[32])
{
    uint8_t farewell[KS_SMUX_HEAD];
    ks_smux_head(farewell, smux_version, KS_SMUX_FIN, 0, 0);
    bool is_push = packet[4] == 81;
    /* A refusal is never answered, or two ends would refuse each other for ever; an ACK alone needs no answer. */
    if (!is_push || (size == KS_KCP_HEAD + KS_SMUX_HEAD && memcmp(packet + KS_KCP_HEAD, farewell, sizeof farewell) == 0))
        return 0;
    memcpy(out, packet, 4);              /* conv */
    out[4] = 81;                         /* PUSH */
    out[5] = 0;
    ks_store16(out + 6, 0);              /* no window: nothing more is wanted */
    memcpy(out + 8, packet + 8, 4);      /* ts */
    memcpy(out + 12, packet + 16, 4);    /* sn: what the peer expects next is its una */
    ks_store32(out + 16, 0);             /* una: nothing new, so it is ignored */
    ks_store32(out + 20, KS_SMUX_HEAD);
    memcpy(out + KS_KCP_HEAD, farewell, sizeof farewell);
    return KS_KCP_HEAD + KS_SMUX_HEAD;
}
