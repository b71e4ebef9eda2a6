/* SPDX-License-Identifier: MIT */
#include "session/session.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "smux/codec.h"
#include "base/err.h"
#include "base/octets.h"
#include "os/front.h"
#include "path/known.h"
#include "wire/oob.h"
#include "session/profile.h"
#include "session/session_data.h"
#include "session/session_end.h"
#include "session/session_frames.h"
#include "session/session_marks.h"
#include "session/session_output.h"
#include "session/session_pmtu.h"
#include "session/session_proof.h"
#include "session/session_silence.h"
#include "session/session_streams.h"
#include "session/stream_window.h"

#if defined(__sun)
#include <sys/filio.h>
#endif

#define QUIET_MS 3000u        /* TIME_WAIT: many times the peers' retransmission timeout */
#define RAW_QUIET_MS 10000u   /* the same without a farewell: the peer may not know for longer */
#define HALF_OPEN_MS 10000u   /* for the first stream of a session that a packet began */
#define TRIM_MS 1000u
#define NOTE_MS 250u          /* a live path is told to the next connection so often: it may begin before this one ends */
/* Turns from the peer's acknowledgment to the application's news of it. In the first one the peer's challenge is answered, in the
 * second a listener of the same engine takes the answer: so accept() knows of a connection when connect() has returned, as over TCP. */
#define SETTLE_TURNS 2u
#define SILENT_MS 1000u       /* then our address may be gone, and with it the way back */
#define STARVED_MS 50u        /* until data that found no memory is tried again: nothing else would wake the session */
#define REFUSALS 3u           /* ICMP refusals of a live session ... */
#define REFUSED_MS 1000u      /* ... for so long, with nothing heard in between, mean that the peer is gone */

/* ---- life ---- */

/* An adaptive sender begins with what an earlier connection has measured. */
static void recall(ks_session *s)
{
    ks_path path;
    if (!s->kcp.cfg.adaptive)
        return;
    ks_path_init(&path, s->kcp.cfg.mtu, 0);
    ks_known_recall(&s->peer, &path, s->core->now_us);
    ks_kcp_resume(&s->kcp, path.resume_rate, path.resume_least_us);
}

ks_session *ks_session_new(ks_core *core, ks_session_owner *owner, uint32_t conv, const ks_addr *peer, const ks_addr *local,
                           bool opener)
{
    const ks_profile *p = &owner->profile;
    if (p->compress != 0 && core->codec_space == NULL && (core->codec_space = ks_alloc(sizeof *core->codec_space)) == NULL)
        return NULL;
    ks_session *s = ks_alloc(sizeof *s);
    ks_proof proof;
    ks_fec_encoder *encoder = owner->fec != NULL ? ks_fec_encoder_new(owner->fec, ks_profile_most_mtu(p)) : NULL;
    uint8_t secret[4];
    if (s == NULL || (owner->fec != NULL && encoder == NULL) || ks_proof_begin(&proof, core, opener) != KS_OK ||
        ks_entropy_take(&core->batch.entropy, secret, sizeof secret) != KS_OK ||
        ks_timers_reserve(&core->timers, core->session_count + 1) != KS_OK) {
        ks_fec_encoder_del(encoder);
        ks_free(s);
        return NULL;
    }
    s->encoder = encoder;
    s->codec = p->compress != 0 ? ks_codec_new() : 0;
    s->dup = (uint8_t)p->dup;
    s->core = core;
    s->owner = owner;
    s->peer = *peer;
    s->local = *local;
    s->opener = s->credit.validated = opener;
    s->smux = p->framing == KS_FRAMING_SMUX;
    s->messages = ks_profile_has_messages(p);
    s->state = !opener ? KS_SESSION_HALF_OPEN : s->smux ? KS_SESSION_CONNECTING : KS_SESSION_OPEN;
    ks_timer_init(&s->timer);
    uint32_t overhead = (uint32_t)ks_link_overhead(&owner->link, owner->fec != NULL);
    ks_kcp_config config = ks_profile_kcp_config(p, conv, overhead);
    config.mtu = ks_session_begin_pmtu(s) - overhead;
    config.secret = ks_get_le32(secret);
    config.doubts = !ks_link_is_authenticated(&owner->link);
    ks_kcp_init(&s->kcp, &config, &core->pools, 0);
    if (encoder != NULL && config.adaptive)
        (void)ks_fec_encoder_adapt(encoder); /* without memory it is as generous as kcp-go's */
    recall(s);
    ks_session_set_rate_limit(s, (uint64_t)p->rate_limit);
    ks_smux_parser_init(&s->parser, (uint8_t)p->smux_version);
    s->buffer_limit = s->buffer_least = ks_session_first_buffer(s);
    s->followed_pkts = config.rcv_wnd;
    s->heard_ms = s->framed_ms = core->now_ms;
    s->noted_ms = (uint32_t)core->now_ms;
    s->until_ms = s->state == KS_SESSION_HALF_OPEN ? core->now_ms + HALF_OPEN_MS : KS_NEVER;
    s->proof = proof;
    s->trim_ms = KS_NEVER;
    s->keepalive_ms = (uint32_t)p->keepalive_ms;
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

static void go_quiet(ks_session *s)
{
    if (s->state == KS_SESSION_QUIET)
        return;
    s->state = KS_SESSION_QUIET;
    (void)ks_session_note_path(s);
    s->until_ms = s->core->now_ms + (s->smux ? QUIET_MS : RAW_QUIET_MS);
}

bool ks_session_is_idle(ks_session *s)
{
    for (ks_stream *st = s->streams; st != NULL; st = st->next) {
        int avail = 0;
        if (!ks_stream_is_connecting(st) && st->src.fd >= 0 && ioctl(st->src.fd, FIONREAD, &avail) == 0 && avail > 0)
            return false;
    }
    return s->state == KS_SESSION_CONNECTING || ks_kcp_unacked(&s->kcp) == 0;
}

/* ---- packets ---- */

static bool is_farewell(const ks_session *s, const uint8_t *frame)
{
    uint8_t farewell[KS_SMUX_HEAD];
    ks_smux_head(farewell, (uint8_t)s->owner->profile.smux_version, KS_SMUX_FIN, 0, 0);
    return memcmp(frame, farewell, sizeof farewell) == 0;
}

/* A refusal has the time stamp of the packet that it answers, which a stranger does not know. It has the sn that was read last,
 * so that a Go peer takes it for a repeat: as the next in order each one would be news to its smux, and keep a session alive whose
 * other end is gone. For us it is the next. */
static bool is_refusal(const ks_session *s, const uint8_t *packet, size_t size)
{
    return s->smux && size == KS_KCP_HEAD + KS_SMUX_HEAD && packet[4] == KS_KCP_PUSH && ks_get_le16(packet + 6) == 0 &&
           ks_get_le32(packet + 12) == s->kcp.rcv_nxt - 1 && ks_get_le32(packet + 16) == 0 &&
           ks_get_le32(packet + 20) == KS_SMUX_HEAD && is_farewell(s, packet + KS_KCP_HEAD) &&
           ks_kcp_knows_stamp(&s->kcp, ks_get_le32(packet + 8), s->core->now_us);
}

/* A peer that has not proved its address, and of which nothing is read, gives up its connect. */
static bool gives_up(const ks_session *s, const uint8_t *packet, size_t size)
{
    return !s->credit.validated && s->smux && s->codec == 0 && size >= KS_KCP_HEAD + KS_SMUX_HEAD &&
           is_farewell(s, packet + size - KS_SMUX_HEAD);
}

/* A challenge came, and nothing is acknowledged: the other end has kept nothing of our SYN, and sent a cookie (challenge.h).
 * So the SYN goes again with the answer, instead of at its timeout. */
static void begin_again(ks_session *s)
{
    if (s->state == KS_SESSION_CONNECTING && s->kcp.answers && !s->kcp.heard_una)
        ks_kcp_peer_moved(&s->kcp, s->core->now_us);
}

static void input_kcp_untrusted(ks_session *s, const uint8_t *packet, size_t size, bool from_fec)
{
    uint8_t refusal[KS_KCP_HEAD + KS_SMUX_HEAD];
    if (s->state == KS_SESSION_ENDED)
        return;
    if (is_refusal(s, packet, size)) {
        memcpy(refusal, packet, sizeof refusal);
        ks_put_le32(refusal + 8, ks_kcp_peer_stamp(&s->kcp, s->core->now_us)); /* it has shown ours: it is believed */
        ks_put_le32(refusal + 12, s->kcp.rcv_nxt);
        packet = refusal;
    }
    /* Words from before count for nothing: a kcp-go listener that has closed a session begins a new one with our next
     * packet, and its acknowledgments would go on until its window is full. */
    bool late = size >= KS_KCP_HEAD && ks_after(s->kcp.snd_una, ks_get_le32(packet + 16));
    const uint64_t doubted = s->kcp.count.doubted_pkts;
    int result = ks_kcp_input_untrusted(&s->kcp, packet, size, s->core->now_us, from_fec);
    if (result < 0) {
        s->core->count.in_errs++;
        s->core->count.kcp_in_errors++;
    } else if (!late && s->kcp.count.doubted_pkts == doubted) {
        s->heard_ms = s->core->now_ms;
        s->refusals = 0;
        begin_again(s);
    }
    ks_dialog_heard(&s->core->dialogs, &s->dialog, s->core->now_us);
    ks_session_mark(s);
    s->bye_rcvd |= result == KS_OK && gives_up(s, packet, size);
}

/* `size` bytes came, within what crypt has around them. */
static void earn(ks_session *s, size_t size)
{
    ks_proof_heard(s);
    ks_credit_earn(&s->credit, size + ks_link_overhead(&s->owner->link, false));
}

void ks_session_input_untrusted(ks_session *s, const uint8_t *packet, size_t size)
{
    earn(s, size);
    input_kcp_untrusted(s, packet, size, false);
}

static void take_rebuilt(void *ctx, const uint8_t *packet, size_t size)
{
    input_kcp_untrusted(ctx, packet, size, true);
}

void ks_session_input_fec_untrusted(ks_session *s, const uint8_t *packet, size_t size)
{
    if (s->state == KS_SESSION_ENDED)
        return;
    earn(s, size);
    if (s->decoder == NULL) /* without memory for it, data packets still count */
        s->decoder = ks_fec_decoder_new(s->owner->fec, &s->core->shards);
    if (ks_get_le16(packet + 4) == KS_FEC_DATA)
        input_kcp_untrusted(s, packet + KS_FEC_HEAD, size - KS_FEC_HEAD, false);
    if (s->decoder != NULL)
        ks_fec_decode_untrusted(s->decoder, packet, size, take_rebuilt, s);
}

void ks_session_input_oob(ks_session *s, const uint8_t *data, size_t size)
{
    earn(s, KS_FEC_HEAD + 4 + size);
    s->count.oob_received++;
    s->heard_ms = s->core->now_ms;
    for (const ks_stream *st = s->streams; st != NULL; st = st->next)
        if (st->oob_id != 0 && !ks_oob_post(st->oob_id, data, size))
            s->core->count.oob_drops++;
}

/* ---- strangers' packets ---- */

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
    ks_put_le16(out + 6, 0);              /* no window: nothing more is wanted */
    memcpy(out + 8, packet + 8, 4);      /* ts */
    ks_put_le32(out + 12, ks_get_le32(packet + 16) - 1); /* sn: what the peer has had last, before its una */
    ks_put_le32(out + 16, 0);             /* una: nothing new, so it is ignored */
    ks_put_le32(out + 20, KS_SMUX_HEAD);
    memcpy(out + KS_KCP_HEAD, farewell, sizeof farewell);
    return KS_KCP_HEAD + KS_SMUX_HEAD;
}

/* ---- the turn ---- */

void ks_session_refused(ks_session *s, int error)
{
    _Static_assert(ECONNREFUSED <= UINT8_MAX && EHOSTUNREACH <= UINT8_MAX && ENETUNREACH <= UINT8_MAX, "it fits");
    s->refused = (uint8_t)error;
    ks_session_mark(s);
}

/* One ICMP refusal ends a connect; a live session only ends when they go on and nothing else is heard: a single one may
 * be late, or forged. That its host can't be reached ends no live session (RFC 1122 4.2.3.9): it may come back. */
static void check_refused(ks_session *s)
{
    const int error = s->refused;
    if (error == 0)
        return;
    s->refused = 0;
    if (s->state == KS_SESSION_CONNECTING) {
        ks_session_fail(s, error);
        return;
    }
    if (error != ECONNREFUSED)
        return;
    if (s->state >= KS_SESSION_CLOSING)
        ks_session_fail(s, ECONNREFUSED);
    else if (s->refusals == 0) {
        s->refusals = 1;
        s->refused_ms = (uint32_t)s->core->now_ms;
        ks_proof_ask_for_life(s); /* who is there answers, and the refusal is forgotten */
    } else if (s->refusals < REFUSALS)
        s->refusals++;
    if (s->refusals >= REFUSALS && (uint32_t)s->core->now_ms - s->refused_ms >= REFUSED_MS)
        ks_session_fail(s, ECONNRESET);
}

static void check_silent(ks_session *s)
{
    if (s->opener && s->state == KS_SESSION_OPEN && ks_kcp_unacked(&s->kcp) > 0 && s->core->now_ms - s->heard_ms >= SILENT_MS)
        s->owner->silent(s->owner);
}

/* What came was acknowledged, but its beginning goes with this session: the peer must not go on. If nothing came, its
 * first packet will come again, and begin another. */
void ks_session_give_way(ks_session *s)
{
    if (s->state == KS_SESSION_HALF_OPEN && s->kcp.rcv_max != 0)
        ks_session_farewell(s);
    ks_session_end(s);
}

/* Moves on when the streams are gone, or time is up. May end the session. */
static void check_end(ks_session *s)
{
    uint64_t now = s->core->now_ms;
    if ((s->state == KS_SESSION_OPEN || s->state == KS_SESSION_HALF_OPEN) && s->streams == NULL &&
        (s->opener || s->bye_rcvd || (!s->smux && s->state == KS_SESSION_OPEN))) {
        s->state = KS_SESSION_CLOSING;
        s->until_ms = now + KS_LINGER_MS;
        if (s->opener && s->smux && !s->bye_rcvd) {
            ks_session_put_frame(s, KS_SMUX_FIN, 0);
            if (s->state == KS_SESSION_ENDED)
                return;
        }
    }
    if (s->state == KS_SESSION_CLOSING && (ks_kcp_unacked(&s->kcp) == 0 || s->bye_rcvd)) {
        if (!s->opener)
            go_quiet(s);
        else if (s->kcp.nacks == 0)
            ks_session_end(s); /* the peer knows that we are gone: nothing will be repeated */
        else {
            s->kcp.flush_now = true; /* the last acknowledgment, then the end */
            ks_session_mark(s);
        }
    } else if (now >= s->until_ms)
        ks_session_give_way(s);
}

static void rearm(ks_session *s)
{
    ks_core *core = s->core;
    uint64_t due = s->until_ms;
    uint32_t wait = ks_kcp_next(&s->kcp, core->now_us);
    if (wait != UINT32_MAX && core->now_ms + wait < due)
        due = core->now_ms + wait;
    if (ks_session_silence_due_ms(s) < due)
        due = ks_session_silence_due_ms(s);
    if (s->proof.due_ms < due)
        due = s->proof.due_ms;
    if (s->trim_ms < due)
        due = s->trim_ms;
    if (ks_session_tokens_due_ms(s) < due)
        due = ks_session_tokens_due_ms(s);
    if (ks_session_pmtu_due_ms(s) < due)
        due = ks_session_pmtu_due_ms(s);
    if (s->starved && core->now_ms + STARVED_MS < due)
        due = core->now_ms + STARVED_MS;
    s->starved = false;
    for (const ks_stream *st = s->opener ? s->streams : NULL; st != NULL; st = st->next)
        if (st->src.fd < 0 && st->orphan_ms + KS_LINGER_MS < due)
            due = st->orphan_ms + KS_LINGER_MS;
    ks_timer_set(&core->timers, &s->timer, due);
}

/* After a moment without work an idle session gives its rings back. */
static void check_trim(ks_session *s, bool worked)
{
    bool idle = ks_kcp_unacked(&s->kcp) == 0 && s->kcp.nacks == 0 && s->buffered == 0;
    if (worked || !idle) {
        s->trimmed = false;
        s->trim_ms = KS_NEVER;
    }
    if (!idle || s->trimmed)
        return;
    if (s->trim_ms == KS_NEVER) {
        s->trim_ms = s->core->now_ms + TRIM_MS;
    } else if (s->core->now_ms >= s->trim_ms) {
        ks_kcp_trim(&s->kcp);
        ks_session_calm_pmtu(s);
        ks_session_fit_buffer(s);
        s->followed_pkts = s->kcp.cfg.rcv_wnd;
        if (s->encoder != NULL)
            ks_fec_encoder_trim(s->encoder);
        if (s->decoder != NULL)
            ks_fec_decoder_trim(s->decoder);
        s->trimmed = true;
        s->trim_ms = KS_NEVER;
    }
}

static void note_live_path(ks_session *s)
{
    if (ks_after((uint32_t)s->heard_ms, s->noted_ms + NOTE_MS) && ks_session_note_path(s))
        s->noted_ms = (uint32_t)s->core->now_ms;
}

/* Several ACKs and no data: they wait for it where it is likely to come, else they go now. */
static void ride_or_flush(ks_session *s)
{
    ks_core *core = s->core;
    if (s->kcp.acks_soon && !s->kcp.flush_now && !s->dialog.riding)
        s->kcp.flush_now = !ks_dialog_ride(&core->dialogs, &s->dialog, core->poller.fine, core->now_us);
}

void ks_session_end_ride(ks_session *s)
{
    ks_dialog_give_up(&s->core->dialogs, &s->dialog, s->core->now_us);
    s->kcp.flush_now = true;
    ks_session_mark(s);
}

void ks_session_turn(ks_session *s)
{
    if (s->state == KS_SESSION_ENDED)
        return;
    uint64_t in = s->kcp.count.in_segs, out = s->kcp.count.out_segs;
    uint64_t heard = s->heard_ms;
    s->held = false;
    check_refused(s);
    if (s->state == KS_SESSION_CONNECTING && s->kcp.heard_una && s->connected_turns++ < SETTLE_TURNS) {
        ride_or_flush(s);
        ks_session_flush_due(s);
        ks_session_mark(s);
        return;
    }
    if (s->state == KS_SESSION_CONNECTING && s->kcp.heard_una) {
        s->state = KS_SESSION_OPEN;
        if (s->streams != NULL)
            ks_stream_established(s->streams);
    }
    if (s->state != KS_SESSION_ENDED)
        ks_proof_turn(s);
    if (s->waiting_sid != 0 && s->state == KS_SESSION_HALF_OPEN)
        ks_session_accept_stream(s, s->waiting_sid);
    if (s->codec != 0 && s->state != KS_SESSION_ENDED) /* acknowledgments don't wait for the GIL */
        ks_session_flush_due(s);
    if (s->state != KS_SESSION_ENDED)
        ks_session_deliver(s);
    if (s->state != KS_SESSION_ENDED)
        ks_session_receive(s);
    if (s->state != KS_SESSION_ENDED)
        ks_session_serve(s);
    if (s->opener && s->state == KS_SESSION_OPEN && s->streams != NULL && s->streams->src.fd < 0)
        (void)ks_stream_settle(s->streams); /* an orphan's time may be up */
    if (s->state != KS_SESSION_ENDED)
        ks_session_check_silence(s);
    check_silent(s);
    if (s->state != KS_SESSION_ENDED)
        check_end(s);
    if (s->state == KS_SESSION_ENDED)
        return;
    if (s->state == KS_SESSION_QUIET)
        ks_kcp_forget_unacked(&s->kcp);
    ride_or_flush(s);
    ks_session_flush_due(s);
    ks_session_turn_pmtu(s);
    /* What was read up to the limit has been written on, so there is room for more: nothing else would wake us for it. */
    if (ks_session_may_receive(s) && ks_kcp_readable(&s->kcp))
        ks_session_mark(s);
    if (s->held && s->bucket.tokens > 0 && s->kcp.has_room && s->kcp.snd_nxt == s->kcp.snd_end)
        ks_session_mark(s); /* all is sent: the next piece */
    note_live_path(s);
    check_trim(s, in != s->kcp.count.in_segs || out != s->kcp.count.out_segs || heard != s->heard_ms);
    rearm(s);
}

size_t ks_stream_send_now(ks_stream *st, const uint8_t *data, size_t size)
{
    ks_session *s = st->session;
    if (s->state != KS_SESSION_OPEN)
        return 0;
    size_t put = ks_stream_put(st, data, size);
    if (put > 0) {
        ks_session_flush_due(s);
        ks_batch_send(&s->core->batch);
        s->trimmed = false;
        s->trim_ms = KS_NEVER; /* the acknowledgment's turn sets it */
        rearm(s);
    }
    return put;
}
