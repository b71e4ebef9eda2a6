/* SPDX-License-Identifier: MIT */
#include "session/session_frames.h"

#include <errno.h>

#include "session/session_marks.h"
#include "session/session_output.h"
#include "session/stream_window.h"
#include "smux/codec.h"

#define ANSWERS_PKTS 64u /* unacknowledged ones, or twice that, before the peer's frames are read on */
#define OPENING_BYTES (13 * KS_SMUX_HEAD) /* with KCP's header 128 */

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

bool ks_session_owes_answers(ks_session *s)
{
    if (!ks_after(s->answers_mark, s->kcp.snd_una)) {
        s->answers_mark = s->kcp.snd_end;
        s->answers = 0;
    }
    return s->answers >= ANSWERS_PKTS;
}

/* A frame of our own, which asks for no window and waits for no room: so it counts. */
static void put_own(ks_session *s, const uint8_t *data, uint32_t size)
{
    uint32_t end = s->kcp.snd_end;
    ks_session_put_bytes(s, data, size);
    s->answers += s->kcp.snd_end - end;
}

void ks_session_put_frame(ks_session *s, ks_smux_cmd cmd, uint32_t sid)
{
    uint8_t head[KS_SMUX_HEAD];
    if (!s->smux || s->state == KS_SESSION_ENDED)
        return;
    ks_smux_head(head, s->parser.version, cmd, 0, sid);
    put_own(s, head, sizeof head);
}

void ks_stream_put_fin(ks_stream *st)
{
    ks_sending_step(&st->sending, KS_SENDING_ON_FIN_SENT);
    ks_session_put_frame(st->session, KS_SMUX_FIN, st->sid);
}

/* Two FINs, one right after the other and in one segment: were the first read before the second has come, the application
 * would be told of a clean end. After an earlier FIN one more, with a frame before it that keeps the two apart. */
static void put_reset(ks_session *s, uint32_t sid, bool fin_sent)
{
    uint8_t frames[3 * KS_SMUX_HEAD], *end = frames;
    if (!s->smux || s->state == KS_SESSION_ENDED)
        return;
    uint32_t space = ks_kcp_tail_room(&s->kcp);
    if (fin_sent || (s->codec == 0 && space >= KS_SMUX_HEAD && space < 2 * KS_SMUX_HEAD)) {
        ks_smux_head(end, s->parser.version, KS_SMUX_NOP, 0, 0);
        end += KS_SMUX_HEAD;
    }
    for (int fins = fin_sent ? 1 : 2; fins > 0; fins--) {
        ks_smux_head(end, s->parser.version, KS_SMUX_FIN, 0, sid);
        end += KS_SMUX_HEAD;
    }
    put_own(s, frames, (uint32_t)(end - frames));
    s->core->count.resets_sent++;
}

void ks_stream_put_reset(ks_stream *st)
{
    bool fin_sent = st->sending == KS_SENDING_FIN;
    if (st->sending == KS_SENDING_RESET || st->sending == KS_SENDING_OVER)
        return;
    ks_sending_step(&st->sending, KS_SENDING_ON_RESET_SENT);
    put_reset(st->session, st->sid, fin_sent);
}

void ks_session_refuse_stream(ks_session *s, uint32_t sid)
{
    put_reset(s, sid, false);
}

void ks_stream_abort(ks_stream *st)
{
    if (!st->session->smux || ks_stream_is_connecting(st) || st->receiving == KS_RECEIVING_DOOMED ||
        st->sending == KS_SENDING_RESET)
        return;
    ks_stream_put_reset(st);
    ks_receiving_step(&st->receiving, KS_RECEIVING_ON_PEER_ENDED);
    ks_stream_ready(st);
}

/* A SYN, and NOPs that make its packet long: an accepting end may answer with three times its bytes before it knows that we hear
 * it (credit.h), and several challenges should fit. QUIC pads its first packet for the same reason. Peers ignore a NOP. */
void ks_session_put_opening(ks_session *s, uint32_t sid)
{
    uint8_t frames[OPENING_BYTES];
    uint32_t size = s->codec != 0 ? KS_SMUX_HEAD : ks_min32(sizeof frames, s->kcp.mss / KS_SMUX_HEAD * KS_SMUX_HEAD);
    for (uint32_t at = 0; at < size; at += KS_SMUX_HEAD)
        ks_smux_head(frames + at, s->parser.version, at == 0 ? KS_SMUX_SYN : KS_SMUX_NOP, 0, at == 0 ? sid : 0);
    ks_session_put_bytes(s, frames, size);
}

void ks_session_farewell(ks_session *s)
{
    ks_session_put_frame(s, KS_SMUX_FIN, 0);
    if (s->state != KS_SESSION_ENDED)
        ks_session_flush_all(s);
}

static void put_upd(ks_stream *st)
{
    uint8_t upd[KS_SMUX_UPD];
    ks_smux_upd(upd, st->sid, st->flow.consumed, st->flow.window);
    put_own(st->session, upd, sizeof upd);
}

void ks_session_follow_window(ks_session *s)
{
    if (s->state == KS_SESSION_ENDED || !s->kcp.cfg.follow || s->kcp.cfg.rcv_wnd <= s->followed_pkts)
        return;
    s->followed_pkts = s->kcp.cfg.rcv_wnd;
    ks_hnode *n = s->smux && s->parser.version == 2 ? ks_hash_find(&s->by_sid, s->parser.sid) : NULL;
    ks_stream *st = n != NULL ? KS_OWNER(n, ks_stream, by_sid) : NULL;
    if (st != NULL && st->receiving == KS_RECEIVING_OPEN && st->src.writable && ks_stream_window_follow(st))
        put_upd(st);
}

/* SO_RCVLOWAT: its application is to see nothing of fewer bytes, which poll() of the pair would tell of. While more can come: not
 * after the end, nor when the session has no room for more, nor where the pair may hold the rest of them. */
static bool is_too_little(const ks_stream *st)
{
    uint32_t least = ks_min32((uint32_t)st->lowat, st->flow.window / 2);
    return st->lowat > 1 && st->rx_charge - st->rx_count * KS_SLICE_CHARGE < least && !st->messages &&
           st->receiving == KS_RECEIVING_OPEN && st->reader == KS_READER_READS &&
           st->session->buffered < st->session->buffer_least / 2 && ks_stream_in_pair(st) == 0;
}

void ks_stream_deliver(ks_stream *st)
{
    ks_session *s = st->session;
    uint32_t before = st->rx_charge;
    if (is_too_little(st))
        return;
    uint32_t n = ks_stream_write(st, &s->core->poller);
    s->buffered -= before - st->rx_charge;
    if (n > 0 && s->smux && s->parser.version == 2 && st->receiving == KS_RECEIVING_OPEN && ks_stream_window_read(st, n))
        put_upd(st);
}
