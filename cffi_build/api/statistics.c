/* SPDX-License-Identifier: MIT */
/* The numbers of a connection, and those of the whole process. */
#include "api/api_parts.h"

#include <errno.h>
#include <string.h>

#include "session/profile.h"
#include "engine/accept_queue.h"

static void fill_info(const ks_session *s, ks_info *i)
{
    ks_counters c = {0};
    ks_session_add_counts(s, &c);
#define COPY(member, name, meaning) i->member = c.member;
    KS_INFO_COUNTERS(COPY)
#undef COPY
    if (s->decoder != NULL)
        ks_fec_decoder_code(s->decoder, &i->fec_data, &i->fec_parity);
    ks_profile_kcp_info(&s->kcp, i);
    i->path_mtu = s->pmtu.size;
    i->streams = s->by_sid.count;
    i->role = 1;
    i->silent_ms = (uint32_t)(s->core->now_ms - s->heard_ms);
    i->unsent_ms = (uint32_t)(s->core->now_ms - s->framed_ms);
    ks_port_names(s, &i->names);
}

typedef struct {
    ks_front_note front;
    ks_info *info;
} info_note;

static int run_info(ks_engine *e, ks_note *n)
{
    const info_note *i = (const info_note *)n;
    ks_port *port;
    const ks_stream *st = ks_engine_stream(e, i->front.inode, &port);
    if (st != NULL)
        fill_info(st->session, i->info);
    else if (port != NULL)
        ks_port_listener_info(port, i->info);
    return st != NULL || port != NULL ? 0 : -ENOTSOCK;
}

int ks_get_info(int app_fd, ks_info *info)
{
    info_note i = {.info = info};
    if (info == NULL)
        return -EFAULT;
    memset(info, 0, sizeof *info);
    return ks_front_ask(app_fd, &i.front, run_info);
}

typedef struct {
    ks_note note;
    ks_stats *stats;
} stats_note;

static int run_stats(ks_engine *e, ks_note *n)
{
    ks_stats *to = ((stats_note *)n)->stats;
    const ks_core *core = ks_engine_core(e);
    ks_counters c = core->count;
    for (const ks_session *s = core->sessions; s != NULL; s = s->next) {
        ks_session_add_counts(s, &c);
        to->snd_queue_pkts += s->kcp.snd_end - s->kcp.snd_nxt;
        to->snd_buffer_pkts += s->kcp.snd_nxt - s->kcp.snd_una;
        to->rcv_queue_pkts += s->kcp.rcv_nxt - s->kcp.rcv_read;
    }
#define ADD(member, name, meaning) to->member += c.member;
    KS_COUNTERS(ADD, ADD, ADD, ADD, KS_SKIP)
#undef ADD
    to->sessions += core->session_count;
    to->streams += core->stream_count;
    return 0;
}

int ks_get_stats(ks_stats *stats)
{
    if (stats == NULL)
        return -EFAULT;
    memset(stats, 0, sizeof *stats);
    for (int i = 0; i < KS_ENGINES_MAX; i++) {
        ks_engine *e = ks_engine_of(i);
        stats_note s = {.note = {.run = run_stats}, .stats = stats};
        if (e != NULL)
            (void)ks_engine_ask(e, &s.note); /* a stopped engine has nothing to add */
    }
    stats->memory_bytes = ks_mem_used();
    return 0;
}
