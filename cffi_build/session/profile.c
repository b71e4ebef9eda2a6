/* SPDX-License-Identifier: MIT */
#include "profile.h"

#include "fec.h"

static bool between(int32_t value, int32_t low, int32_t high)
{
    return value >= low && value <= high;
}

static bool fec_is_valid(const ks_profile *p)
{
    if (p->fec_data == 0 && p->fec_parity == 0)
        return true;
    return p->fec_data >= 1 && p->fec_parity >= 1 && p->fec_data <= (int32_t)KS_FEC_SHARDS_MAX &&
           p->fec_parity <= (int32_t)KS_FEC_SHARDS_MAX - p->fec_data;
}

bool ks_profile_is_valid(const ks_profile *p)
{
    return between(p->framing, KS_FRAMING_RAW, KS_FRAMING_SMUX) && between(p->smux_version, 1, 2) && between(p->nodelay, 0, 1) &&
           between(p->interval_ms, 10, 5000) && between(p->resend, 0, (int32_t)KS_KCP_RESEND_MAX) && between(p->nc, 0, 1) &&
           between(p->sndwnd_pkts, 1, (int32_t)KS_KCP_WND_MAX) && between(p->rcvwnd_pkts, 1, (int32_t)KS_KCP_WND_MAX) &&
           between(p->mtu_bytes, (int32_t)KS_KCP_MTU_MIN, (int32_t)KS_KCP_MTU_MAX) && between(p->dscp, 0, 63) &&
           p->sockbuf_bytes > 0 && p->keepalive_ms >= 0 && p->keepalive_timeout_ms >= 0 && between(p->dup, 0, (int32_t)KS_DUP_MAX) &&
           between(p->compress, 0, 1) && p->rate_limit >= 0 && fec_is_valid(p) &&
           !(p->compress != 0 && p->framing == KS_FRAMING_RAW);
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

ks_kcp_config ks_profile_kcp_config(const ks_profile *p, uint32_t conv, uint32_t overhead)
{
    return (ks_kcp_config){
        .conv = conv,
        .mtu = (uint32_t)p->mtu_bytes - overhead,
        .snd_wnd = (uint32_t)p->sndwnd_pkts,
        .rcv_wnd = (uint32_t)p->rcvwnd_pkts,
        .interval = (uint32_t)p->interval_ms,
        .resend = (uint32_t)p->resend,
        .nodelay = p->nodelay != 0,
        .nc = p->nc != 0,
        .stream = !ks_profile_has_messages(p),
        .ack_nodelay = p->ack_nodelay != 0,
        .write_delay = p->write_delay != 0,
    };
}

void ks_profile_kcp_info(const ks_kcp *k, ks_info *i)
{
    i->conv = k->cfg.conv;
    i->srtt_ms = k->srtt8 / 8;
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
    i->out_segs = k->count.out_segs;
    i->in_segs = k->count.in_segs;
    i->retrans_segs = k->count.retrans_segs;
    i->fast_retrans_segs = k->count.fast_retrans_segs;
    i->early_retrans_segs = k->count.early_retrans_segs;
    i->lost_segs = k->count.lost_segs;
    i->repeat_segs = k->count.repeat_segs;
}
