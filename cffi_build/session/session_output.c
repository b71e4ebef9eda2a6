/* SPDX-License-Identifier: MIT */
#include "session/session_output.h"

#include <errno.h>
#include <string.h>

#include "base/octets.h"

#define QUEUE_US 8000u /* more than jitter adds to the least of eight round trips */

_Static_assert(KS_BATCH_BY_REFERENCE >= KS_KCP_BY_REFERENCE, "what the batch refers to must lie in a segment of KCP");

static ks_route route_of(ks_session *s, ks_fec_encoder *fec)
{
    return (ks_route){.link = &s->owner->link,
                      .to = &s->peer,
                      .from = s->local.sa.sa_family != 0 ? &s->local : NULL,
                      .fec = fec,
                      .dup = s->dup,
                      .credit = &s->credit};
}

/* What a packet costs with all that goes beside it. */
static uint32_t packet_cost(const ks_session *s)
{
    return (1 + s->dup) * (1 + ks_fec_parity_count(s->owner->fec)) * s->pmtu.size;
}

/* Acknowledgments and out-of-band packets go without tokens, and so may overdraw. */
static void spend(ks_session *s, size_t bytes)
{
    if (s->bucket.rate != 0)
        s->kcp.budget = ks_bucket_spend(&s->bucket, bytes); /* copies, parity and headers count too, in this flush already */
    if (!s->kcp.heard_ack)
        s->count.pre_ack_bytes += bytes;
}

int ks_session_send_oob(ks_session *s, const uint8_t *data, size_t size)
{
    uint8_t head[KS_FEC_HEAD + 4];
    size_t around = ks_link_overhead(&s->owner->link, false) + sizeof head;
    if (s->encoder == NULL)
        return -EOPNOTSUPP;
    if (size + around > s->pmtu.size)
        return -EMSGSIZE;
    ks_put_le32(head, KS_FEC_OOB_SEQID);
    ks_put_le16(head + 4, KS_FEC_OOB);
    ks_put_le16(head + 6, (uint16_t)(4 + size + 2));
    ks_put_le32(head + KS_FEC_HEAD, s->kcp.cfg.conv);
    struct iovec iov[] = {{head, sizeof head}, {(void *)(uintptr_t)data, size}};
    ks_route route = route_of(s, NULL);
    size_t put = ks_batch_put(&s->core->batch, &route, iov, 2, sizeof head + size, s->core->now_ms);
    spend(s, put);
    if (put > 0)
        s->count.oob_sent++;
    else
        s->core->count.oob_drops++; /* more than may go to a peer that has acknowledged nothing yet */
    return 0;
}

/* -> bytes that leave. A path that is adapted to is told of those that KCP doesn't know. */
static size_t put(ks_session *s, const struct iovec *iov, int pieces, size_t size)
{
    ks_route route = route_of(s, s->encoder);
    size_t bytes = ks_batch_put(&s->core->batch, &route, iov, pieces, size, s->core->now_ms);
    size_t own = (1 + s->dup) * (size + ks_link_overhead(&s->owner->link, s->encoder != NULL));
    if (s->encoder == NULL || !s->kcp.cfg.adaptive)
        return bytes;
    /* Below the rate there is room beside it, which the rate of the application's own does not tell. */
    ks_sender *sender = s->kcp.sender;
    if (bytes > own && sender != NULL && !sender->path.limited)
        ks_path_spend(&sender->path, (uint32_t)(bytes - own));
    if (ks_fec_is_whole(s->encoder))
        ks_kcp_end_group(&s->kcp, bytes > own);
    return bytes;
}

/* WINS says nothing new to any peer. */
static size_t put_pads(ks_session *s, const uint8_t *head)
{
    uint8_t pad[KS_KCP_HEAD] = {0};
    const struct iovec iov = {pad, sizeof pad};
    size_t bytes = 0;
    memcpy(pad, head, 4);                     /* conv */
    pad[4] = 84;                              /* WINS */
    memcpy(pad + 6, head + 6, 6);             /* window, time stamp */
    memcpy(pad + 16, head + 16, 4);           /* una */
    for (uint32_t left = ks_fec_pads(s->encoder); left > 0; left--)
        bytes += put(s, &iov, 1, sizeof pad);
    return bytes;
}

static void output(void *ctx, const struct iovec *iov, int pieces, size_t size)
{
    ks_session *s = ctx;
    size_t bytes = put(s, iov, pieces, size);
    if (s->encoder != NULL && s->credit.validated && ks_fec_pads(s->encoder) > 0)
        bytes += put_pads(s, iov[0].iov_base);
    spend(s, bytes);
}

/* The least of some round trips in a row is clearly above the least of all. */
static bool has_queue(const ks_path *p)
{
    uint32_t margin = p->least_us / 8 > QUEUE_US ? p->least_us / 8 : QUEUE_US;
    return p->now_rtt_us > p->least_us + margin;
}

/* FEC and KCP learn of each other what they need: how the path is and what leaves, and what parity will bring. */
static void flush(ks_session *s)
{
    const uint32_t next = s->kcp.snd_nxt;
    const bool adapts = s->encoder != NULL && s->kcp.cfg.adaptive;
    if (adapts) {
        ks_path room;
        const ks_path *path = ks_kcp_path(&s->kcp, &room);
        ks_fec_way way = {.limited = path->limited, .loss = path->loss, .rtt_ms = path->smooth_us / 1000,
                          .queue = has_queue(path)};
        ks_fec_encoder_see(s->encoder, way, s->core->now_ms);
        bool held;
        uint32_t covered_ms = ks_fec_covered_ms(s->encoder, &held);
        ks_kcp_set_cover(&s->kcp, 1000 * covered_ms, held);
    }
    ks_kcp_flush(&s->kcp, s->core->now_us, output, s);
    if (adapts)
        ks_fec_encoder_sent(s->encoder, s->kcp.snd_nxt - next, s->core->now_ms);
}

bool ks_session_send_whole(ks_session *s, const uint8_t *packet, size_t size)
{
    ks_route route = route_of(s, NULL);
    route.dup = 0;
    bool taken = ks_batch_send_whole(&s->core->batch, &route, packet, size, s->core->now_ms);
    spend(s, size + ks_link_overhead(&s->owner->link, false));
    return taken;
}

void ks_session_flush_due(ks_session *s)
{
    if (s->bucket.rate != 0) {
        ks_bucket_set_cost(&s->bucket, packet_cost(s)); /* copies may have been asked for since */
        ks_kcp_set_budget(&s->kcp, ks_bucket_fill(&s->bucket, s->core->now_ms));
    }
    s->kcp.more_waits = s->held;
    if (ks_kcp_next(&s->kcp, s->core->now_us) == 0)
        flush(s);
    if (!s->kcp.acks_soon)
        ks_dialog_leave(&s->core->dialogs, &s->dialog);
}

void ks_session_flush_all(ks_session *s)
{
    ks_kcp_set_budget(&s->kcp, INT64_MAX);
    flush(s);
}

void ks_session_set_rate_limit(ks_session *s, uint64_t bytes_per_s)
{
    ks_bucket_init(&s->bucket, bytes_per_s, s->pmtu.size, packet_cost(s), s->core->now_ms);
    ks_kcp_set_budget(&s->kcp, ks_bucket_fill(&s->bucket, s->core->now_ms));
}

uint64_t ks_session_tokens_due_ms(const ks_session *s)
{
    if (s->bucket.rate == 0 || s->bucket.tokens > 0 || ks_kcp_unacked(&s->kcp) == 0)
        return KS_NEVER;
    return ks_bucket_due_ms(&s->bucket, s->pmtu.size);
}
