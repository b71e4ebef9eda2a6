/* SPDX-License-Identifier: MIT */
#include "session/session_data.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "os/front.h"
#include "session/session_frames.h"
#include "session/session_marks.h"
#include "session/session_streams.h"
#include "session/stream_window.h"
#include "smux/codec.h"

#if defined(__sun)
#include <sys/filio.h>
#endif

#define TURN_PIECES 64
#define RATE_AHEAD_MS 50u
#define BURST_LEAST 2048u     /* bytes that a read of E offers room for, at least */
#define LAG_BYTES 65536u      /* with the pair's buffer less than makes KCP's window grow: who never reads gets no larger one */
#define CODEC_SLACK 64u /* what a piece that can't be compressed grows by, and the stream's beginning */

/* ---- received ---- */

static void take_data(ks_stream *st, ks_seg *seg, size_t off, size_t len)
{
    ks_session *s = st->session;
    s->count.bytes_received += len;
    ks_dialog_took(&s->dialog, s->core->now_us);
    if (ks_stream_is_closed(st) || st->src.fd < 0) {
        /* Nobody will ever read it: TCP's answer is RST (RFC 9293 3.10.7.1). */
        ks_stream_abort(st);
        return;
    }
    if (len == 0 && !st->messages)
        return;
    uint32_t before = st->rx_charge;
    if (ks_stream_take(st, seg, (uint16_t)off, (uint16_t)len) != KS_OK) {
        ks_session_fail(s, ENOMEM);
        return;
    }
    s->buffered += st->rx_charge - before;
    if (ks_stream_has_endless_message(st)) {
        s->core->count.kcp_in_errors++;
        ks_session_fail(s, ECONNRESET);
        return;
    }
    ks_stream_ready(st);
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
        if (st->receiving != KS_RECEIVING_OPEN && st->src.fd >= 0)
            ks_stream_doom(st, 0);
        else {
            if (st->src.fd >= 0)
                s->core->count.resets_received++;
            ks_stream_doom(st, ECONNRESET);
        }
    }
    s->kcp.flush_now = true;
}

static void take_event(ks_session *s, ks_seg *seg, const ks_smux_event *ev)
{
    ks_stream *st = ks_stream_find(s, ev->sid);
    bool again = s->after_fin && s->fin_sid == ev->sid;
    s->after_fin = ev->cmd == KS_SMUX_FIN;
    s->fin_sid = ev->sid;
    switch (ev->cmd) {
    case KS_SMUX_SYN:
        /* A repeated SYN changes nothing; a stream towards a connecting end has nobody to accept it. */
        if (s->opener)
            ks_session_refuse_stream(s, ev->sid);
        else if (st == NULL && ev->sid != 0)
            ks_session_accept_stream(s, ev->sid);
        break;
    case KS_SMUX_FIN:
        if (ev->sid == 0)
            bye(s);
        else if (st != NULL && (st->receiving == KS_RECEIVING_FIN || st->receiving == KS_RECEIVING_TOLD)) {
            /* Apart from the first, it comes after the end of the stream: a reset in TCP's CLOSE_WAIT. */
            s->core->count.resets_received++;
            if (ks_stream_is_connecting(st))
                ks_session_fail(s, ECONNREFUSED);
            else
                ks_stream_doom(st, again ? ECONNRESET : EPIPE);
        } else if (st != NULL) {
            if (st->receiving == KS_RECEIVING_OPEN)
                ks_receiving_step(&st->receiving, KS_RECEIVING_ON_PEER_ENDED);
            s->kcp.flush_now = true; /* what follows a close should not wait for a deferred ACK */
            ks_stream_ready(st);
        }
        break;
    case KS_SMUX_PSH:
        if (st != NULL && st->receiving != KS_RECEIVING_DOOMED)
            take_data(st, seg, (size_t)(ev->data - ks_seg_data(seg)), ev->size);
        break;
    case KS_SMUX_UPDATE:
        if (st != NULL) {
            ks_smux_flow_update(&st->flow, ev->consumed, ev->window);
            ks_stream_ready(st);
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
static void take_compressed_untrusted(ks_session *s, const ks_seg *seg)
{
    const uint8_t *inflated = s->core->codec_space->inflated;
    int size = seg->len, n;
    do {
        n = ks_codec_call(s->codec, KS_CODEC_DECOMPRESS, seg->wire + KS_KCP_HEAD, size, s->core->codec_space->inflated,
                          (int)KS_CODEC_BYTES);
        if (n < 0) {
            s->core->count.smux_errors++;
            ks_session_fail(s, ECONNRESET);
        }
        for (uint32_t done = 0, take; (int)done < n && s->state != KS_SESSION_ENDED; done += take) {
            take = (uint32_t)n - done < KS_SEG_BYTES_MAX ? (uint32_t)n - done : KS_SEG_BYTES_MAX;
            ks_seg *plain = ks_seg_new(&s->core->pools, take);
            if (plain == NULL) {
                ks_session_fail(s, ENOMEM);
                return;
            }
            memcpy(ks_seg_data(plain), inflated + done, take);
            plain->len = (uint16_t)take;
            take_segment_untrusted(s, plain);
            ks_seg_unref(plain);
        }
        size = 0;
    } while (n == (int)KS_CODEC_BYTES && s->state != KS_SESSION_ENDED);
}

bool ks_session_may_receive(ks_session *s)
{
    return s->state < KS_SESSION_QUIET && s->credit.validated && s->waiting_sid == 0 &&
           s->buffered < ks_session_buffer_limit(s) && !ks_session_owes_answers(s);
}

void ks_session_receive(ks_session *s)
{
    while (ks_session_may_receive(s)) {
        s->kcp.reader_lags = s->buffered > LAG_BYTES;
        ks_seg *seg = ks_kcp_pop(&s->kcp);
        if (seg == NULL)
            break;
        if (s->codec != 0)
            take_compressed_untrusted(s, seg);
        else
            take_segment_untrusted(s, seg);
        ks_seg_unref(seg);
    }
    ks_session_follow_window(s);
    if (s->state == KS_SESSION_QUIET)
        for (ks_seg *seg; (seg = ks_kcp_pop(&s->kcp)) != NULL;)
            ks_seg_unref(seg);
}

/* Before new data is parsed, what waits is written where there is room: so a full buffer drains. */
void ks_session_deliver(ks_session *s)
{
    if (s->buffered < ks_session_buffer_limit(s))
        return;
    for (ks_stream *st = s->ready_head; st != NULL && s->state != KS_SESSION_ENDED; st = st->ready_next)
        ks_stream_deliver(st);
}

/* ---- to send ---- */

/* What KCP takes now. At a rate, the path's or a limit, it gets no more than it can send soon: what stands in its queue delays the frames
 * that come after, window updates among them. */
static uint32_t room_of(const ks_session *s)
{
    uint64_t backlog = ks_kcp_backlog(&s->kcp);
    uint32_t room = ks_kcp_room(&s->kcp);
    room = backlog < room ? (uint32_t)backlog : room;
    if (s->bucket.rate == 0)
        return room;
    uint64_t ahead = s->bucket.rate * RATE_AHEAD_MS / 1000, least = 8ull * s->kcp.mss;
    uint64_t queued = (uint64_t)(s->kcp.snd_end - s->kcp.snd_nxt) * s->kcp.mss;
    ahead = ahead > least ? ahead : least;
    ahead = ahead > queued ? ahead - queued : 0;
    return ahead < room ? (uint32_t)ahead : room;
}

static uint32_t bytes_within(uint32_t room, uint32_t around, uint32_t most)
{
    uint32_t left = room > around ? room - around : 0;
    return left < most ? left : most;
}

/* Bytes of `avail` that the windows have room for, in one frame with `around` bytes about it. */
static uint32_t frame_room(const ks_stream *st, uint32_t avail, uint32_t around)
{
    ks_session *s = st->session;
    uint32_t most = s->smux && s->parser.version == 2 ? ks_smux_flow_room(&st->flow) : UINT32_MAX;
    most = most < KS_SMUX_FRAME_MAX ? most : KS_SMUX_FRAME_MAX;
    most = most < avail ? most : avail;
    uint32_t all = bytes_within(ks_kcp_room(&s->kcp), around, most), want = bytes_within(room_of(s), around, most);
    s->held |= want < all; /* by the rate alone: what a window keeps back waits for the peer's word */
    return want;
}

static uint32_t count_sent(ks_stream *st, uint32_t bytes)
{
    ks_session *s = st->session;
    if (bytes == 0)
        return 0;
    st->flow.sent += bytes;
    ks_dialog_sent(&s->dialog, s->core->now_us);
    s->framed_ms = s->core->now_ms;
    s->count.bytes_sent += bytes;
    return bytes;
}

/* The application will send no more. */
static void end_application(ks_stream *st, int error)
{
    ks_sending_step(&st->sending, KS_SENDING_ON_APP_ENDED);
    if (st->linger_s == 0 && (ks_stream_is_closed(st) || st->src.hung_up || ks_stream_is_hung_up(st))) {
        st->src.hung_up |= !ks_stream_is_closed(st); /* the event may be still to come */
        return;                 /* a reset follows */
    }
    bool cut = error == ECONNRESET || st->unread; /* the peer must not take that for a clean end */
    if (!cut || ks_front_had_end(st->by_inode.key >> 1))
        ks_stream_put_fin(st);
    if (cut)
        ks_stream_abort(st);
}

/* A read from E gave 0, or failed with `error`. -> true: try again */
static bool after_failed_read(ks_stream *st, ssize_t n, int error)
{
    if (n < 0 && error == EINTR)
        return true;
    if (n < 0 && (error == EAGAIN || error == EWOULDBLOCK)) {
        st->src.readable = false;
        if (!st->session->core->draining)
            return false;
        ks_reader_step(&st->reader, KS_READER_ON_EXITS);
        error = ks_stream_has_unread(st) ? ECONNRESET : 0;
    }
    /* 0: the application's EOF; ECONNRESET: it closed with data unread, all it sent has been read. */
    end_application(st, n < 0 ? error : 0);
    return false;
}

/* How much the next read offers room for, by what this one found: a short read tells that E is empty. */
static void learn_burst(ks_stream *st, uint32_t offered, uint32_t got)
{
    uint32_t most = got < offered ? 2 * got : 4 * offered;
    st->burst = most < BURST_LEAST ? BURST_LEAST : most > KS_SMUX_FRAME_MAX ? KS_SMUX_FRAME_MAX : most;
}

/* A frame's room in KCP's segments, its head left out: that may lie across two of them. Raw framing has none. */
typedef struct {
    struct iovec iov[TURN_PIECES], *at;
    size_t pieces, space;
    uint8_t *head[KS_SMUX_HEAD];
} frame_space;

/* Room for up to `want` bytes of payload. -> false: no memory. Else frame_close must follow. */
static bool frame_open(ks_stream *st, uint32_t want, frame_space *f)
{
    ks_session *s = st->session;
    uint32_t head = s->smux ? KS_SMUX_HEAD : 0;
    f->at = f->iov;
    f->pieces = (size_t)ks_kcp_alloc_tail(&s->kcp, head + want, f->iov, TURN_PIECES);
    f->space = 0;
    for (size_t i = 0; i < f->pieces; i++)
        f->space += f->iov[i].iov_len;
    if (f->space <= head) {
        ks_kcp_commit(&s->kcp, 0);
        s->starved = true;
        return false;
    }
    f->space -= head;
    for (uint32_t done = 0; done < head; done++) {
        f->head[done] = f->at->iov_base;
        f->at->iov_base = (uint8_t *)f->at->iov_base + 1;
        if (--f->at->iov_len == 0) {
            f->at++;
            f->pieces--;
        }
    }
    return true;
}

/* It holds `got` bytes of payload; 0: it is given back. */
static void frame_close(ks_stream *st, const frame_space *f, uint32_t got)
{
    ks_session *s = st->session;
    uint32_t head = s->smux && got > 0 ? KS_SMUX_HEAD : 0;
    uint8_t bytes[KS_SMUX_HEAD];
    ks_smux_head(bytes, s->parser.version, KS_SMUX_PSH, (uint16_t)got, st->sid);
    for (uint32_t done = 0; done < head; done++)
        *f->head[done] = bytes[done];
    ks_kcp_commit(&s->kcp, head + got);
    (void)count_sent(st, got);
}

static uint32_t head_size(const ks_stream *st)
{
    return st->session->smux ? KS_SMUX_HEAD : 0;
}

/* Reads from E straight into segments, behind a frame head with smux. -> true when there may be more and there was room. */
static bool collect_frame(ks_stream *st)
{
    uint32_t want = frame_room(st, st->burst > 0 ? st->burst : BURST_LEAST, head_size(st));
    frame_space f;
    if (want == 0 || !frame_open(st, want, &f))
        return false;
    struct msghdr m = {.msg_iov = f.at, .msg_iovlen = f.pieces};
    ssize_t n = recvmsg(st->src.fd, &m, MSG_DONTWAIT);
    if (n <= 0) {
        int error = errno;
        frame_close(st, &f, 0);
        return after_failed_read(st, n, error);
    }
    frame_close(st, &f, (uint32_t)n);
    learn_burst(st, want, (uint32_t)n);
    /* SCM_RIGHTS (MSG_CTRUNC) end a read early; after the last byte comes the end, which the kernel has told already. */
    if ((size_t)n < f.space && (m.msg_flags & MSG_CTRUNC) == 0 && !st->src.read_end && !st->session->core->draining)
        st->src.readable = false;
    return st->src.readable;
}

/* Nothing that was written before still stands in the pair, and the application has not ended its direction. */
static bool pair_is_empty(ks_stream *st)
{
    char peek;
    if (recv(st->src.fd, &peek, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
        return false;
    st->unread |= errno == ECONNRESET; /* the kernel tells it once */
    return errno == EAGAIN || errno == EWOULDBLOCK;
}

size_t ks_stream_put(ks_stream *st, const uint8_t *data, size_t size)
{
    const ks_session *s = st->session;
    size_t put = 0;
    if (st->src.fd < 0 || st->sending != KS_SENDING_OPEN || st->messages || s->codec != 0 ||
        s->bucket.rate != 0 || !pair_is_empty(st))
        return 0;
    /* What would wait for the path waits in the pair, which takes all of it at once, as TCP's buffer does. */
    if (size + (size / KS_SMUX_FRAME_MAX + 1) * head_size(st) > ks_kcp_backlog(&s->kcp))
        return 0;
    while (put < size) {
        uint32_t most = size - put < KS_SMUX_FRAME_MAX ? (uint32_t)(size - put) : KS_SMUX_FRAME_MAX;
        uint32_t want = frame_room(st, most, head_size(st));
        frame_space f;
        if (want == 0 || !frame_open(st, want, &f))
            break;
        uint32_t got = 0;
        for (size_t i = 0; i < f.pieces && got < want; i++) {
            size_t take = want - got < f.at[i].iov_len ? want - got : f.at[i].iov_len;
            memcpy(f.at[i].iov_base, data + put + got, take);
            got += (uint32_t)take;
        }
        frame_close(st, &f, got);
        put += got;
    }
    return put;
}

/* As collect_frame, on a session that compresses: a frame goes through the codec as one piece, as kcptun does it. */
static uint32_t collect_compressed(ks_stream *st, uint32_t avail)
{
    ks_session *s = st->session;
    uint8_t *frame = s->core->codec_space->plain;
    uint32_t want = frame_room(st, avail, KS_SMUX_HEAD + CODEC_SLACK);
    ssize_t n = want > 0 ? read(st->src.fd, frame + KS_SMUX_HEAD, want) : 0;
    if (n <= 0)
        return 0;
    ks_smux_head(frame, s->parser.version, KS_SMUX_PSH, (uint16_t)n, st->sid);
    ks_session_put_bytes(s, frame, KS_SMUX_HEAD + (uint32_t)n);
    return count_sent(st, (uint32_t)n);
}

/* Reads one message from E. -> false: it must wait for room. */
static bool collect_message(ks_stream *st)
{
    ks_session *s = st->session;
    uint8_t *message = s->core->rx.space; /* free between two receptions, and larger than any message */
    char peek;
    ssize_t size = recv(st->src.fd, &peek, 1, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
    if (size < 0 || ((size_t)size > ks_kcp_room(&s->kcp) && ks_kcp_unacked(&s->kcp) > 0))
        return false;
    if ((size_t)size > room_of(s) && s->kcp.snd_nxt != s->kcp.snd_end) {
        s->held = true;
        return false;
    }
    ssize_t n = recv(st->src.fd, message, KS_UDP_RX_BYTES, MSG_DONTWAIT);
    if (n <= 0)
        return n == 0;
    int result = ks_kcp_send(&s->kcp, message, (uint32_t)n);
    if (result < 0) {
        /* The application has enlarged its buffer, or there is no memory: a message can't be sent in part. */
        ks_session_fail(s, result == KS_EMALFORMED ? EMSGSIZE : ENOMEM);
        return false;
    }
    return count_sent(st, (uint32_t)n) > 0;
}

/* recv() gave 0: an empty message, which like an empty write sends nothing, or the end? */
static bool is_empty_message(const ks_stream *st)
{
#ifdef POLLRDHUP
    struct pollfd p = {.fd = st->src.fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) == 0;
#else
    (void)st;
    return false;
#endif
}

/* Moves one message, or one frame's worth that is compressed. -> true when there may be more and there was room. */
static bool collect_piece(ks_stream *st)
{
    int avail = 0;
    if (ioctl(st->src.fd, FIONREAD, &avail) < 0)
        avail = 0;
    if (avail > 0)
        return st->messages ? collect_message(st) : collect_compressed(st, (uint32_t)avail) > 0;
    char peek;
    ssize_t n = recv(st->src.fd, &peek, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0)
        return true;
    if (n == 0 && st->messages && is_empty_message(st)) {
        (void)recv(st->src.fd, &peek, 1, MSG_DONTWAIT);
        return true;
    }
    return after_failed_read(st, n, errno);
}

/* -> true when something moved or may move at once: there may be more, and there was room. */
static bool collect(ks_stream *st)
{
    ks_session *s = st->session;
    if (!st->src.readable || st->sending != KS_SENDING_OPEN || st->src.fd < 0)
        return false;
    if (ks_kcp_room(&s->kcp) <= KS_SMUX_HEAD)
        return false;
    return st->messages || s->codec != 0 ? collect_piece(st) : collect_frame(st);
}

/* Data waits in the pair that no window has room for. */
static bool is_blocked(const ks_stream *st)
{
    return st->src.fd >= 0 && st->src.readable && st->sending == KS_SENDING_OPEN;
}

/* Serves the streams in turn, a frame each, until nobody can move. Blocked ones stay on the list: an acknowledgment or a
 * window update marks the session again. */
void ks_session_serve(ks_session *s)
{
    const ks_stream *first_blocked = NULL; /* since somebody moved: back at it, a whole round brought nothing */
    for (ks_stream *st; (st = ks_session_next_ready(s)) != NULL;) {
        ks_stream_deliver(st);
        bool moved = s->state != KS_SESSION_ENDED && collect(st);
        if (s->state == KS_SESSION_ENDED)
            return;
        if (st == first_blocked || moved)
            first_blocked = NULL;
        bool alive = ks_stream_settle(st);
        if (s->state == KS_SESSION_ENDED)
            return;
        if (alive && (moved || is_blocked(st))) {
            ks_stream_ready(st);
            if (!moved && first_blocked == NULL)
                first_blocked = st;
        }
        if (first_blocked != NULL && s->ready_head == first_blocked)
            return;
    }
}
