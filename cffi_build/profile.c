/* SPDX-License-Identifier: MIT */
#include "profile.h"

static bool between(int32_t value, int32_t low, int32_t high)
{
    return value >= low && value <= high;
}

bool ks_profile_is_valid(const ks_profile *p)
{
    return between(p->framing, KS_FRAMING_RAW, KS_FRAMING_SMUX) && between(p->smux_version, 1, 2) && between(p->nodelay, 0, 1) &&
           between(p->interval_ms, 10, 5000) && between(p->resend, 0, (int32_t)KS_KCP_RESEND_MAX) && between(p->nc, 0, 1) &&
           between(p->sndwnd_pkts, 1, (int32_t)KS_KCP_WND_MAX) && between(p->rcvwnd_pkts, 1, (int32_t)KS_KCP_WND_MAX) &&
           between(p->mtu_bytes, (int32_t)KS_KCP_MTU_MIN, (int32_t)KS_KCP_MTU_MAX) && between(p->dscp, 0, 63) &&
           p->sockbuf_bytes > 0 && p->keepalive_ms >= 0 && p->keepalive_timeout_ms >= 0;
}

ks_kcp_config ks_profile_kcp_config(const ks_profile *p, uint32_t conv)
{
    return (ks_kcp_config){
        .conv = conv,
        .mtu = (uint32_t)p->mtu_bytes,
        .snd_wnd = (uint32_t)p->sndwnd_pkts,
        .rcv_wnd = (uint32_t)p->rcvwnd_pkts,
        .interval = (uint32_t)p->interval_ms,
        .resend = (uint32_t)p->resend,
        .nodelay = p->nodelay != 0,
        .nc = p->nc != 0,
        .stream = p->stream != 0,
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
