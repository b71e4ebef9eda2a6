/* SPDX-License-Identifier: MIT */
#include "session/profile.h"

#include <stddef.h>

#include "path/pmtu.h"

#define BOUNDS(type, name, least, most) {#name, (int64_t)(least), (int64_t)(most)},

const ks_bounds ks_profile_bounds[] = {KS_PROFILE_FIELDS(BOUNDS){NULL, 0, 0}};

static bool fec_is_valid(const ks_profile *p)
{
    if (p->fec_data == 0 && p->fec_parity == 0)
        return true;
    return p->fec_data >= 1 && p->fec_parity >= 1 && p->fec_parity <= (int32_t)KS_FEC_SHARDS_MAX - p->fec_data;
}

bool ks_profile_is_valid(const ks_profile *p)
{
#define ALLOWED(type, name, least, most) ks_profile_allows_##name(p->name) &&
    return KS_PROFILE_FIELDS(ALLOWED) fec_is_valid(p) && !(p->compress != 0 && p->framing == KS_FRAMING_RAW);
#undef ALLOWED
}

bool ks_profile_has_messages(const ks_profile *p)
{
    return p->framing == KS_FRAMING_RAW && p->stream == 0;
}

uint32_t ks_profile_message_bytes(const ks_kcp_config *c)
{
    uint32_t fragments = c->snd_wnd < KS_KCP_FRAGMENTS_MAX ? c->snd_wnd : KS_KCP_FRAGMENTS_MAX;
    return fragments * (c->mtu - KS_KCP_HEAD);
}

bool ks_profile_finds_mtu(const ks_profile *p)
{
    return p->mtu_bytes == (int32_t)KS_MTU_AUTO;
}

uint32_t ks_profile_first_mtu(const ks_profile *p)
{
    return ks_profile_finds_mtu(p) ? KS_PMTU_START : (uint32_t)p->mtu_bytes;
}

uint32_t ks_profile_most_mtu(const ks_profile *p)
{
    return ks_profile_finds_mtu(p) ? KS_MTU_MAX : (uint32_t)p->mtu_bytes;
}

uint32_t ks_profile_rcv_wnd(const ks_profile *p)
{
    return p->rcvwnd_pkts > 0 ? (uint32_t)p->rcvwnd_pkts : KS_KCP_WND_FIRST;
}

/* By itself an adaptive sender has no more under way than the path takes; the others send a window's worth. */
static uint32_t snd_wnd(const ks_profile *p, bool adaptive)
{
    return p->sndwnd_pkts > 0 ? (uint32_t)p->sndwnd_pkts : adaptive ? KS_KCP_WND_MAX : KS_KCP_WND_FIRST;
}

ks_kcp_config ks_profile_kcp_config(const ks_profile *p, uint32_t conv, uint32_t overhead)
{
    bool adaptive = p->adaptive != 0 && p->nc != 0;
    return (ks_kcp_config){
        .conv = conv,
        .mtu = ks_profile_first_mtu(p) - overhead,
        .snd_wnd = snd_wnd(p, adaptive),
        .rcv_wnd = ks_profile_rcv_wnd(p),
        .follow = p->rcvwnd_pkts == 0,
        .interval = (uint16_t)p->interval_ms,
        .resend = (uint16_t)p->resend,
        .nodelay = p->nodelay != 0,
        .nc = p->nc != 0,
        .stream = !ks_profile_has_messages(p),
        .ack_nodelay = p->ack_nodelay != 0,
        .write_delay = p->write_delay != 0,
        .adaptive = adaptive,
        .insurance = p->insurance,
    };
}

static uint32_t capped(uint64_t value)
{
    return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

static uint32_t lost(const ks_kcp *k)
{
    uint32_t count = 0;
    for (uint32_t level = 1; level < KS_KCP_LEVELS; level++)
        for (const ks_seg *seg = k->flight[level].head; seg != NULL; seg = seg->next)
            count++;
    return count;
}

/* How often the oldest segment that is not acknowledged was sent again. */
static uint32_t resent(const ks_kcp *k)
{
    const ks_seg *oldest = k->snd_una != k->snd_nxt ? *ks_ring_at(&k->snd, k->snd_una) : NULL;
    return oldest != NULL && oldest->xmit > 1 ? oldest->xmit - 1u : 0;
}

void ks_profile_kcp_info(const ks_kcp *k, ks_info *i)
{
    i->conv = k->cfg.conv;
    i->srtt_ms = k->srtt8 / 8;
    i->srtt_us = 125 * k->srtt8;
    i->rttvar_ms = k->rttvar4 / 4;
    i->rto_ms = k->rto;
    i->snd_wnd_pkts = k->cfg.snd_wnd;
    i->rcv_wnd_pkts = k->cfg.rcv_wnd;
    i->rmt_wnd_pkts = k->rmt_wnd;
    i->cwnd_pkts = ks_kcp_cwnd(k);
    i->in_flight_pkts = k->snd_nxt - k->snd_una;
    i->queued_pkts = k->snd_end - k->snd_nxt;
    i->unread_pkts = k->rcv_nxt - k->rcv_read;
    i->mss_bytes = k->mss;
    i->resent = resent(k);
    i->lost_pkts = lost(k);
    i->bound_by = (uint32_t)ks_kcp_bound_by(k);
    if (k->cfg.adaptive) {
        ks_path room;
        const ks_path *path = ks_kcp_path(k, &room);
        i->delivery_rate = capped(ks_path_rate(path));
        i->pacing_rate = capped(path->pace);
        i->min_rtt_us = path->least_us;
        i->loss_ppm = (uint32_t)((uint64_t)path->loss * 1000000 / 65536);
        i->srtt_ms = (path->smooth_us + 500) / 1000;
        i->srtt_us = path->smooth_us;
    }
#define COPY(member, name, meaning) i->member = k->count.member;
    KS_KCP_COUNTERS(COPY)
#undef COPY
}
