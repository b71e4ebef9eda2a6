/* SPDX-License-Identifier: MIT */
#include "session/stream.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#ifdef __linux__
#include <linux/sockios.h>
#endif

#include "base/checks.h"
#include "os/front.h"

#define IOV_MAX_PIECES 64u
#define RX_FIRST 2u
#define MESSAGE_PIECES 256u /* a message's fragments and one */

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* The ring of slices, and what they count against the session's buffer. */
KS_CHECKER void check_rx(const ks_stream *st)
{
    KS_ASSERT((st->rx == NULL) == (st->rx_cap == 0) && (st->rx_cap & (st->rx_cap - 1)) == 0);
    KS_ASSERT(st->rx_count <= st->rx_cap && (st->rx_cap == 0 ? st->rx_head == 0 : st->rx_head < st->rx_cap));
    KS_ASSERT(st->rx_charge >= st->rx_count * KS_SLICE_CHARGE && (st->rx_count > 0 || st->rx_charge == 0));
    KS_ASSERT(st->rx_count == 0 || st->src.fd >= 0);
    uint32_t charge = 0;
    for (uint32_t i = 0; st->rx_count <= 64 && i < st->rx_count; i++) {
        const ks_slice *s = &st->rx[(st->rx_head + i) & (st->rx_cap - 1)];
        KS_ASSERT(s->seg->refs > 0 && s->off + s->len <= s->seg->len);
        charge += s->len + KS_SLICE_CHARGE;
    }
    KS_ASSERT(st->rx_count > 64 || charge == st->rx_charge);
}

ks_stream *ks_stream_new(ks_core *core, struct ks_session *session, uint32_t sid, int engine_fd, uint64_t inode, uint32_t window)
{
    ks_stream *st = ks_alloc(sizeof *st);
    if (st == NULL) {
        ks_front_close(engine_fd);
        return NULL;
    }
    st->src.fd = engine_fd;
    st->src.kind = KS_SOURCE_STREAM;
    st->session = session;
    st->sid = sid;
    st->app_fd = -1;
    st->linger_s = -1;
    st->sending = KS_SENDING_OPEN;
    ks_smux_flow_init(&st->flow, window);
    if (ks_hash_insert(&core->by_inode, &st->by_inode, KS_FRONT_KEY(inode, false)) != KS_OK) {
        ks_front_close(engine_fd);
        ks_free(st);
        return NULL;
    }
    if (ks_poller_add(&core->poller, &st->src) < 0) {
        ks_hash_remove(&core->by_inode, &st->by_inode);
        ks_front_close(engine_fd);
        ks_free(st);
        return NULL;
    }
    core->stream_count++;
    return st;
}

static void drop_head(ks_stream *st)
{
    ks_slice *s = &st->rx[st->rx_head];
    KS_ASSERT(st->rx_count > 0 && st->rx_charge >= s->len + KS_SLICE_CHARGE);
    st->rx_charge -= s->len + KS_SLICE_CHARGE;
    ks_seg_unref(s->seg);
    st->rx_head = (st->rx_head + 1) & (st->rx_cap - 1);
    st->rx_count--;
}

void ks_stream_close_front(ks_core *core, ks_stream *st)
{
    if (st->app_fd >= 0) {
        ks_front_close(st->app_fd);
        st->app_fd = -1;
    }
    if (st->src.fd < 0)
        return;
    ks_poller_del(&core->poller, &st->src);
    ks_hash_remove(&core->by_inode, &st->by_inode);
    ks_front_close(st->src.fd);
    st->src.fd = -1;
    st->src.readable = st->src.writable = false;
    while (st->rx_count > 0)
        drop_head(st);
    ks_free(st->rx);
    st->rx = NULL;
    st->rx_cap = st->rx_head = 0;
    KS_CHECK(check_rx(st));
}

void ks_stream_del(ks_core *core, ks_stream *st)
{
    ks_stream_close_front(core, st);
    KS_ASSERT(core->stream_count > 0 && st->src.fd < 0 && st->app_fd < 0);
    core->stream_count--;
    ks_free(st->patience);
    st->patience = NULL;
    ks_core_bury(core, &st->grave, st);
}

int ks_stream_take(ks_stream *st, ks_seg *seg, uint16_t off, uint16_t len)
{
    if (st->rx_count == st->rx_cap) {
        uint32_t cap = st->rx_cap ? st->rx_cap * 2 : RX_FIRST;
        ks_slice *rx = ks_alloc(cap * sizeof *rx);
        if (rx == NULL)
            return KS_ENOMEM;
        for (uint32_t i = 0; i < st->rx_count; i++)
            rx[i] = st->rx[(st->rx_head + i) & (st->rx_cap - 1)];
        ks_free(st->rx);
        st->rx = rx;
        st->rx_cap = cap;
        st->rx_head = 0;
    }
    KS_ASSERT(off + len <= seg->len);
    ks_seg_ref(seg);
    st->rx[(st->rx_head + st->rx_count++) & (st->rx_cap - 1)] = (ks_slice){seg, off, len};
    st->rx_charge += len + KS_SLICE_CHARGE;
    KS_CHECK(check_rx(st));
    return KS_OK;
}

/* Takes n bytes, which stood in `pieces` slices at most, off the queue's head. */
static void consume(ks_stream *st, size_t n, size_t pieces)
{
    while (pieces-- > 0) {
        ks_slice *s = &st->rx[st->rx_head];
        KS_ASSERT(st->rx_count > 0);
        if (n < s->len) {
            s->off = (uint16_t)(s->off + n);
            s->len = (uint16_t)(s->len - n);
            st->rx_charge -= (uint32_t)n;
            return;
        }
        n -= s->len;
        drop_head(st);
    }
    KS_ASSERT(n == 0); /* the slices held all that was taken */
    /* An empty queue keeps no memory beyond its first size. */
    if (st->rx_count == 0 && st->rx_cap > 64) {
        ks_free(st->rx);
        st->rx = NULL;
        st->rx_cap = st->rx_head = 0;
    }
}

/* What goes to E with one call. -> pieces, *whole: the last one ends a message. */
static size_t gather(const ks_stream *st, struct iovec *iov, size_t max, size_t *bytes, bool *whole)
{
    size_t pieces = 0;
    *bytes = 0;
    *whole = false;
    while (pieces < st->rx_count && pieces < max && !(st->messages && *whole)) {
        const ks_slice *s = &st->rx[(st->rx_head + pieces) & (st->rx_cap - 1)];
        iov[pieces++] = (struct iovec){ks_seg_data(s->seg) + s->off, s->len};
        *bytes += s->len;
        *whole = s->seg->frg == 0;
    }
    return pieces;
}

bool ks_stream_has_endless_message(const ks_stream *st)
{
    struct iovec iov[MESSAGE_PIECES];
    size_t bytes;
    bool whole;
    return st->messages && st->rx_count >= MESSAGE_PIECES && gather(st, iov, MESSAGE_PIECES, &bytes, &whole) == MESSAGE_PIECES && !whole;
}

int ks_stream_in_pair(const ks_stream *st)
{
    int fill = -1;
#if defined(SIOCOUTQ) && !defined(KS_PLAIN)
    if (ioctl(st->src.fd, SIOCOUTQ, &fill) < 0)
        fill = -1;
#else
    (void)st;
#endif
    return fill;
}

bool ks_stream_has_unread(const ks_stream *st)
{
    return st->rx_count > 0 || ks_stream_in_pair(st) > 0;
}

bool ks_stream_is_hung_up(const ks_stream *st)
{
    struct pollfd p = {.fd = st->src.fd};
    return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0;
}

uint32_t ks_stream_write(ks_stream *st, ks_poller *poller)
{
    uint32_t total = 0;
    KS_CHECK(check_rx(st));
    while (st->rx_count > 0) {
        struct iovec iov[MESSAGE_PIECES];
        size_t bytes;
        bool whole;
        size_t pieces = gather(st, iov, st->messages ? MESSAGE_PIECES : IOV_MAX_PIECES, &bytes, &whole);
        if (st->messages && !whole && !ks_stream_is_deaf(st))
            break;
        if (st->messages && bytes == 0) {
            consume(st, 0, pieces); /* written, it would look like the end */
        } else if (!ks_stream_is_deaf(st) && st->src.writable) {
            struct msghdr m = {.msg_iov = iov, .msg_iovlen = pieces};
            ssize_t n = sendmsg(st->src.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n >= 0) {
                if ((size_t)n < bytes)
                    ks_poller_blocked(poller, &st->src);
                consume(st, (size_t)n, pieces);
                total += (uint32_t)n;
            } else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM)
                ks_poller_blocked(poller, &st->src);
            else if (errno != EINTR) {
                st->unread |= errno == ECONNRESET; /* told once: by this call, or by the next read */
                ks_reader_step(&st->reader, KS_READER_ON_DEAFENED);
            }
        } else if (ks_stream_is_deaf(st)) {
            consume(st, bytes, pieces);
            total += (uint32_t)bytes;
            st->unread |= bytes > 0 && !ks_stream_is_hung_up(st); /* what comes after close() was not there to be read */
        } else
            break;
    }
    KS_CHECK(check_rx(st));
    return total;
}
