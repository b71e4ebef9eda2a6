/* SPDX-License-Identifier: MIT */
#include "session.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "codec.h"
#include "err.h"
#include "front.h"
#include "oob.h"
#include "profile.h"
#include "session_parts.h"

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
#define MESSAGES_BUFFER (2u * 255u * (KS_KCP_MTU_MAX + KS_SLICE_CHARGE)) /* two messages of the longest kind */
#define RATE_BURST_MS 10u      /* a limited session's burst: timers have a resolution of 1 ms, turns are a few */
#define RATE_IDLE_MS 60000u

/* ---- life ---- */

ks_session *ks_session_new(ks_core *core, ks_session_owner *owner, uint32_t conv, const ks_addr *peer, const ks_addr *local,
                           bool opener)
{
    const ks_profile *p = &owner->profile;
    if (p->compress != 0 && core->codec_space == NULL && (core->codec_space = ks_alloc(sizeof *core->codec_space)) == NULL)
        return NULL;
    ks_session *s = ks_alloc(sizeof *s);
    ks_fec_encoder *encoder = owner->fec != NULL ? ks_fec_encoder_new(owner->fec, (size_t)p->mtu_bytes) : NULL;
    if (s == NULL || (owner->fec != NULL && encoder == NULL) ||
        ks_timers_reserve(&core->timers, core->session_count + 1) != KS_OK) {
        ks_fec_encoder_del(encoder);
        ks_free(s);
        return NULL;
    }
    s->encoder = encoder;
    s->codec = p->compress != 0 ? ks_codec_new() : 0;
    s->dup = (uint32_t)p->dup;
    s->core = core;
    s->owner = owner;
    s->peer = *peer;
    s->local = *local;
    s->opener = opener;
    s->smux = p->framing == KS_FRAMING_SMUX;
    s->messages = ks_profile_has_messages(p);
    s->state = opener && s->smux ? KS_SESSION_CONNECTING : KS_SESSION_OPEN;
    ks_timer_init(&s->timer);
    ks_kcp_config config = ks_profile_kcp_config(p, conv, (uint32_t)ks_link_overhead(&owner->link, owner->fec != NULL));
    ks_kcp_init(&s->kcp, &config, &core->pools, 0);
    ks_session_set_rate_limit(s, (uint64_t)p->rate_limit);
    ks_smux_parser_init(&s->parser, (uint8_t)p->smux_version);
    /* Without the parser's flow control the KCP window does the work: only what one write may leave over is held here. */
    uint32_t window = config.rcv_wnd * s->kcp.mss;
    s->buffer_limit = s->messages ? MESSAGES_BUFFER : !s->smux ? 65536u : window / 2 * 3 > BUFFER_MIN ? window / 2 * 3 : BUFFER_MIN;
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

static void leave_riders(ks_session *s)
{
    if (!s->riding)
        return;
    s->riding = false;
    if (s->rider_prev != NULL)
        s->rider_prev->rider_next = s->rider_next;
    else
        s->core->riders = s->rider_next;
    if (s->rider_next != NULL)
        s->rider_next->rider_prev = s->rider_prev;
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
    if (s->decoder == NULL)
        return;
    const ks_fec_counts *f = ks_fec_decoder_counts(s->decoder);
    to->fec_recovered += f->recovered;
    to->fec_errs += f->errs;
    to->fec_parity_shards += f->parity_shards;
    to->fec_full_sets += f->full_sets;
    to->fec_short_sets += f->short_sets;
}

void ks_session_end(ks_session *s)
{
    if (s->state == KS_SESSION_ENDED)
        return;
    while (s->streams != NULL)
        ks_stream_remove(s->streams);
    ks_core *core = s->core;
    s->state = KS_SESSION_ENDED;
    leave_riders(s);
    /* What the batch refers to lies in our segments. */
    ks_batch_send(&core->batch);
    ks_timer_set(&core->timers, &s->timer, KS_NEVER);
    ks_session_add_counts(s, &core->count);
    ks_kcp_free(&s->kcp);
    if (s->codec != 0)
        (void)ks_codec_call(s->codec, KS_CODEC_CLOSE, NULL, 0, NULL, 0);
    ks_fec_encoder_del(s->encoder);
    ks_fec_decoder_del(s->decoder);
    s->encoder = NULL;
    s->decoder = NULL;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        core->sessions = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    core->session_count--;
    if (core->talker == s)
        core->talker = NULL;
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
    ks_session_end(s);
}

static void go_quiet(ks_session *s)
{
    if (s->state == KS_SESSION_QUIET)
        return;
    s->state = KS_SESSION_QUIET;
    s->until_ms = s->core->now_ms + (s->smux ? QUIET_MS : RAW_QUIET_MS);
}

void ks_session_accept_raw(ks_session *s)
{
    ks_session_accept_stream(s, 1);
    if (s->streams == NULL)
        ks_session_end(s);
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

/* ---- packets ---- */

/* A refusal has the sn that was read last, so that a Go peer takes it for a repeat: as the next in order each one would
 * be news to its smux, and keep a session alive whose other end is gone. For us it is the next. */
static bool is_refusal(const ks_session *s, const uint8_t *packet, size_t size)
{
    uint8_t farewell[KS_SMUX_HEAD];
    if (!s->smux || size != KS_KCP_HEAD + KS_SMUX_HEAD || packet[4] != 81 || ks_load16(packet + 6) != 0 ||
        ks_load32(packet + 12) != s->kcp.rcv_nxt - 1 || ks_load32(packet + 16) != 0 ||
        ks_load32(packet + 20) != KS_SMUX_HEAD)
        return false;
    ks_smux_head(farewell, (uint8_t)s->owner->profile.smux_version, KS_SMUX_FIN, 0, 0);
    return memcmp(packet + KS_KCP_HEAD, farewell, sizeof farewell) == 0;
}

static void note_talker(const ks_session *s)
{
    ks_core *core = s->core;
    if (core->talker != s)
        core->short_waits = 0;
    core->talker = s;
    core->talker_answers = core->now_us - s->answered_us < KS_DIALOG_US;
}

static void input_kcp_untrusted(ks_session *s, const uint8_t *packet, size_t size, bool from_fec)
{
    uint8_t refusal[KS_KCP_HEAD + KS_SMUX_HEAD];
    if (s->state == KS_SESSION_ENDED)
        return;
    if (is_refusal(s, packet, size)) {
        memcpy(refusal, packet, sizeof refusal);
        ks_store32(refusal + 12, s->kcp.rcv_nxt);
        packet = refusal;
    }
    /* Words from before count for nothing: a kcp-go listener that has closed a session begins a new one with our next
     * packet, and its acknowledgments would go on until its window is full. */
    bool late = size >= KS_KCP_HEAD && ks_after(s->kcp.snd_una, ks_load32(packet + 16));
    int result = ks_kcp_input_untrusted(&s->kcp, packet, size, (uint32_t)s->core->now_ms, from_fec);
    if (result < 0) {
        s->core->count.in_errs++;
        s->core->count.kcp_in_errors++;
    } else if (!late) {
        s->heard_ms = s->core->now_ms;
        s->refusals = 0;
    }
    note_talker(s);
    ks_session_mark(s);
}

void ks_session_input_untrusted(ks_session *s, const uint8_t *packet, size_t size)
{
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
    if (s->decoder == NULL) /* without memory for it, data packets still count */
        s->decoder = ks_fec_decoder_new(s->owner->fec, &s->core->shards);
    if (ks_load16(packet + 4) == KS_FEC_DATA)
        input_kcp_untrusted(s, packet + KS_FEC_HEAD, size - KS_FEC_HEAD, false);
    if (s->decoder != NULL)
        ks_fec_decode_untrusted(s->decoder, packet, size, take_rebuilt, s);
}

void ks_session_input_oob(ks_session *s, const uint8_t *data, size_t size)
{
    s->oob_received++;
    s->core->count.oob_packets++;
    s->heard_ms = s->core->now_ms;
    for (const ks_stream *st = s->streams; st != NULL; st = st->next)
        if (st->oob_id != 0 && !ks_oob_post(st->oob_id, data, size))
            s->core->count.oob_drops++;
}

static ks_route route_of(ks_session *s, ks_fec_encoder *fec)
{
    return (ks_route){.link = &s->owner->link,
                      .to = &s->peer,
                      .from = s->local.sa.sa_family != 0 ? &s->local : NULL,
                      .fec = fec,
                      .dup = s->dup};
}

static int64_t bucket_size(const ks_session *s)
{
    uint64_t moment = s->rate_limit / 1000 * RATE_BURST_MS, least = 4ull * (uint64_t)s->owner->profile.mtu_bytes;
    return (int64_t)(moment > least ? moment : least);
}

/* Acknowledgments and out-of-band packets go without tokens, and so may overdraw; but data must not wait for long after. */
static void spend(ks_session *s, size_t bytes)
{
    int64_t packet = (int64_t)(1 + s->dup) * (1 + ks_fec_parity_count(s->owner->fec)) * s->owner->profile.mtu_bytes;
    int64_t least = -bucket_size(s) - 2 * packet; /* what data overdraws is paid back: two packets, since KCP packs ahead */
    s->tokens -= (int64_t)bytes;
    if (s->tokens < least)
        s->tokens = least;
}

int ks_session_send_oob(ks_session *s, const uint8_t *data, size_t size)
{
    uint8_t head[KS_FEC_HEAD + 4];
    size_t around = ks_link_overhead(&s->owner->link, false) + sizeof head;
    if (s->encoder == NULL)
        return -EOPNOTSUPP;
    if (size > (size_t)s->owner->profile.mtu_bytes - around)
        return -EMSGSIZE;
    ks_store32(head, KS_FEC_OOB_SEQID);
    ks_store16(head + 4, KS_FEC_OOB);
    ks_store16(head + 6, (uint16_t)(4 + size + 2));
    ks_store32(head + KS_FEC_HEAD, s->kcp.cfg.conv);
    struct iovec iov[] = {{head, sizeof head}, {(void *)(uintptr_t)data, size}};
    ks_route route = route_of(s, NULL);
    spend(s, ks_batch_put(&s->core->batch, &route, iov, 2, sizeof head + size, s->core->now_ms));
    s->oob_sent++;
    return 0;
}

static void output(void *ctx, const struct iovec *iov, int pieces, size_t size)
{
    ks_session *s = ctx;
    ks_route route = route_of(s, s->encoder);
    spend(s, ks_batch_put(&s->core->batch, &route, iov, pieces, size, s->core->now_ms));
    if (s->rate_limit != 0)
        s->kcp.budget = s->tokens; /* copies, parity and headers count too, in this flush already */
}

/* One FIN on stream 0 whose acknowledgment nobody waits for: the session ends now. */
void ks_session_farewell(ks_session *s)
{
    ks_session_put_frame(s, KS_SMUX_FIN, 0);
    ks_kcp_set_budget(&s->kcp, INT64_MAX);
    if (s->state != KS_SESSION_ENDED)
        ks_kcp_flush(&s->kcp, (uint32_t)s->core->now_ms, output, s);
}

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
    ks_store32(out + 12, ks_load32(packet + 16) - 1); /* sn: what the peer has had last, before its una */
    ks_store32(out + 16, 0);             /* una: nothing new, so it is ignored */
    ks_store32(out + 20, KS_SMUX_HEAD);
    memcpy(out + KS_KCP_HEAD, farewell, sizeof farewell);
    return KS_KCP_HEAD + KS_SMUX_HEAD;
}

/* ---- rate limit ---- */

void ks_session_set_rate_limit(ks_session *s, uint64_t bytes_per_s)
{
    s->rate_limit = bytes_per_s;
    s->tokens = bucket_size(s);
    s->tokens_ms = s->core->now_ms;
    ks_kcp_set_budget(&s->kcp, bytes_per_s == 0 ? INT64_MAX : s->tokens);
}

static void fill_bucket(ks_session *s)
{
    if (s->rate_limit == 0)
        return;
    uint64_t passed_ms = s->core->now_ms - s->tokens_ms, gained = passed_ms * s->rate_limit / 1000;
    int64_t size = bucket_size(s);
    if (passed_ms >= RATE_IDLE_MS || s->tokens + (int64_t)gained >= size) {
        s->tokens = s->tokens < size ? size : s->tokens;
        s->tokens_ms = s->core->now_ms;
    } else if (gained > 0) {
        s->tokens += (int64_t)gained;
        s->tokens_ms += gained * 1000 / s->rate_limit; /* what did not make a whole byte is not lost */
    }
    ks_kcp_set_budget(&s->kcp, s->tokens);
}

/* When data that waits for tokens may go on, KS_NEVER if none does. */
static uint64_t bucket_due(const ks_session *s)
{
    if (s->rate_limit == 0 || s->tokens > 0 || ks_kcp_unacked(&s->kcp) == 0)
        return KS_NEVER;
    uint64_t lacking = (uint64_t)(1 - s->tokens) + (uint64_t)s->owner->profile.mtu_bytes;
    return s->tokens_ms + lacking * 1000 / s->rate_limit + 1;
}

/* ---- the turn ---- */

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

/* Has the peer gone? May end the session. */
static void check_alive(ks_session *s)
{
    uint64_t silent = s->core->now_ms - s->heard_ms;
    bool keeps_alive = s->smux && s->keepalive_ms > 0;
    if (keeps_alive && s->state == KS_SESSION_OPEN ? silent >= s->keepalive_timeout_ms
                                                   : s->kcp.dead && silent >= DEAF_MS)
        ks_session_fail(s, ETIMEDOUT);
    else if (keeps_alive && s->state == KS_SESSION_OPEN && s->core->now_ms - s->framed_ms >= s->keepalive_ms)
        ks_session_put_frame(s, KS_SMUX_NOP, 0);
}

/* Moves on when the streams are gone, or time is up. May end the session. */
static void check_end(ks_session *s)
{
    uint64_t now = s->core->now_ms;
    if (s->state == KS_SESSION_OPEN && s->streams == NULL && (s->opener || s->bye_rcvd || !s->smux)) {
        s->state = KS_SESSION_CLOSING;
        s->until_ms = now + LINGER_MS;
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
    } else if (now >= s->until_ms) {
        /* What came was acknowledged, but its beginning went to a session that is gone: the peer must not go on. */
        if (s->embryo)
            ks_session_farewell(s);
        ks_session_end(s);
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
    if (bucket_due(s) < due)
        due = bucket_due(s);
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
        if (s->encoder != NULL)
            ks_fec_encoder_trim(s->encoder);
        if (s->decoder != NULL)
            ks_fec_decoder_trim(s->decoder);
        s->trimmed = true;
        s->trim_ms = KS_NEVER;
    }
}

static void flush_due(ks_session *s)
{
    fill_bucket(s);
    if (ks_kcp_next(&s->kcp, (uint32_t)s->core->now_ms) == 0)
        ks_kcp_flush(&s->kcp, (uint32_t)s->core->now_ms, output, s);
    if (!s->kcp.acks_soon)
        leave_riders(s);
}

/* Several ACKs and no data: they wait for it where it is likely to come, else they go now. A packet less to make, seal
 * and open for each request, and for the peer's engine a wake less. */
static void ride_or_flush(ks_session *s)
{
    ks_core *core = s->core;
    if (!s->kcp.acks_soon || s->kcp.flush_now || s->riding)
        return;
    if (!s->converses || !core->poller.fine) {
        s->kcp.flush_now = true;
        s->acked_us = core->now_us;
        return;
    }
    if (core->riders == NULL)
        core->ride_over_us = core->now_us + KS_RIDE_US;
    else
        core->riders->rider_prev = s;
    s->rider_prev = NULL;
    s->rider_next = core->riders;
    core->riders = s;
    s->riding = true;
}

void ks_session_end_ride(ks_session *s)
{
    leave_riders(s);
    s->converses = false;
    s->kcp.flush_now = true;
    s->acked_us = s->core->now_us;
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
    if (s->state == KS_SESSION_CONNECTING && s->kcp.heard_una) {
        s->state = KS_SESSION_OPEN;
        if (s->streams != NULL)
            ks_stream_established(s->streams);
    }
    if (s->codec != 0) /* acknowledgments don't wait for the GIL */
        flush_due(s);
    if (s->state != KS_SESSION_ENDED)
        ks_session_deliver(s);
    if (s->state != KS_SESSION_ENDED)
        ks_session_receive(s);
    if (s->state != KS_SESSION_ENDED)
        ks_session_serve(s);
    if (s->opener && s->state == KS_SESSION_OPEN && s->streams != NULL && s->streams->src.fd < 0)
        (void)ks_stream_settle(s->streams); /* an orphan's time may be up */
    if (s->state != KS_SESSION_ENDED)
        check_alive(s);
    if (s->state != KS_SESSION_ENDED)
        check_end(s);
    if (s->state == KS_SESSION_ENDED)
        return;
    if (s->state == KS_SESSION_QUIET)
        ks_kcp_forget_unacked(&s->kcp);
    ride_or_flush(s);
    flush_due(s);
    /* What was read up to the limit has been written on, so there is room for more: nothing else would wake us for it. */
    if (ks_session_may_receive(s) && ks_kcp_readable(&s->kcp))
        ks_session_mark(s);
    if (s->held && s->tokens > 0 && s->kcp.snd_nxt == s->kcp.snd_end)
        ks_session_mark(s); /* all is sent: the next piece */
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
        flush_due(s);
        ks_batch_send(&s->core->batch);
        s->trimmed = false;
        s->trim_ms = KS_NEVER; /* the acknowledgment's turn sets it */
        rearm(s);
    }
    return put;
}
