/* SPDX-License-Identifier: MIT */
#include "session/stream_window.h"

#include "base/mem.h"

#define WINDOW_MAX (1u << 30)
#define FOLLOW_MAX (32u << 20)  /* of a window that follows */
#define BUFFER_MIN 4194304u     /* for the applications of one session, as smux's MaxReceiveBuffer */
#define BUFFER_MAX (256u << 20) /* likewise, however many streams have grown */
#define RAW_BUFFER 65536u       /* what one write may leave over: without streams' windows KCP's does the work */
#define MESSAGES_BUFFER (2u * 255u * (KS_KCP_MTU_MAX + KS_SLICE_CHARGE)) /* two messages of the longest kind */

static uint32_t first_window(const ks_session *s)
{
    return (s->kcp.cfg.follow ? s->kcp.rcv_first : s->kcp.cfg.rcv_wnd) * s->kcp.mss;
}

uint32_t ks_session_stream_window(const ks_session *s)
{
    uint32_t window = first_window(s);
    return window < KS_SMUX_FIRST_WINDOW ? KS_SMUX_FIRST_WINDOW : window > WINDOW_MAX ? WINDOW_MAX : window;
}

uint32_t ks_session_first_buffer(const ks_session *s)
{
    if (!s->smux)
        return s->messages ? MESSAGES_BUFFER : RAW_BUFFER;
    return ks_max32(first_window(s) / 2 * 3, BUFFER_MIN);
}

uint32_t ks_session_buffer_limit(const ks_session *s)
{
    return s->buffer_limit > s->buffer_least && !ks_mem_allows(0) ? s->buffer_least : s->buffer_limit;
}

/* One stream's larger window must not take the room of the others. */
void ks_session_fit_buffer(ks_session *s)
{
    uint64_t limit = s->buffer_least;
    uint32_t first = ks_session_stream_window(s);
    for (const ks_stream *st = s->streams; st != NULL; st = st->next)
        if (st->flow.window > first)
            limit += (st->flow.window - first) / 4 * 5; /* with KS_SLICE_CHARGE for each packet's worth */
    limit = limit < BUFFER_MAX ? limit : BUFFER_MAX;
    s->buffer_limit = ks_max32(ks_max32((uint32_t)limit, s->buffered), s->buffer_least);
}

static void widen(ks_stream *st, uint32_t window)
{
    ks_session *s = st->session;
    window = ks_min32(window, FOLLOW_MAX);
    if (window <= st->flow.window || !ks_mem_allows(window - st->flow.window))
        return;
    ks_smux_flow_widen(&st->flow, window);
    ks_session_fit_buffer(s);
}

bool ks_stream_window_follow(ks_stream *st)
{
    const ks_kcp *k = &st->session->kcp;
    widen(st, 2 * k->cfg.rcv_wnd * k->mss); /* it is told a round trip before it is used */
    return st->flow.widened && ks_smux_flow_consume(&st->flow, 0, st->flow.window);
}

bool ks_stream_window_read(ks_stream *st, uint32_t bytes)
{
    ks_session *s = st->session;
    const ks_kcp *k = &s->kcp;
    uint32_t window = st->flow.window, least = window;
    if (k->cfg.follow) {
        uint32_t rtt = k->has_rtt ? k->srtt8 / 8 : KS_FOLLOW_RTT_MS;
        bool fast = ks_follow_read(&st->follow, bytes, window, (uint32_t)s->core->now_ms, rtt);
        if (!ks_mem_allows(0))
            least = ks_session_stream_window(s);
        else if (fast && window < FOLLOW_MAX) /* so that twice of it is no overflow */
            widen(st, 2 * window);
    }
    return ks_smux_flow_consume(&st->flow, bytes, least);
}
