/* SPDX-License-Identifier: MIT */
/* What an engine lends to its sessions and ports: clock, timers, memory, readiness, the outgoing batch, counters.
 * One thread uses it, the engine's. */
#ifndef KS_CORE_H
#define KS_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "codec.h"
#include "counters.h"
#include "hash.h"
#include "kcp.h"
#include "poller.h"
#include "timer.h"
#include "udp.h"
#include "wire.h"

/* Freed memory that this turn's events may still point to; it goes at the turn's end. */
typedef struct ks_grave {
    struct ks_grave *next;
    void *block;
} ks_grave;

struct ks_session;

typedef struct {
    uint64_t now_ms, now_us;     /* read once per turn */
    ks_poller poller;
    ks_timers timers;            /* room for one timer per session is reserved when the session is made */
    ks_seg_pools pools;
    ks_pool shards;              /* packets kept for FEC */
    ks_udp_rx rx;
    ks_codec_space *codec_space; /* NULL until a session compresses */
    ks_udp_way way;
    ks_batch batch;
    ks_counters count;
    ks_hash by_inode;            /* streams and listeners by KS_FRONT_KEY of A's inode */
    struct ks_session *sessions; /* all, doubly linked */
    uint32_t session_count, stream_count;
    struct ks_session *dirty;    /* to be turned at the end of this turn */
    struct ks_session *riders;   /* whose ACKs wait for data to ride on, doubly linked, */
    uint64_t ride_over_us;       /* until then */
    /* For engine.c: whose packet came last, whether we answer its peer at once, and how many waits in a row were short while
     * no other session was heard. */
    const struct ks_session *talker;
    bool talker_answers;
    uint32_t short_waits;
    ks_grave *graves;
    bool draining;               /* the process exits: every application end counts as closed */
} ks_core;

/* A key of by_inode: a stream or a listener. */
#define KS_FRONT_KEY(inode, listener) ((uint64_t)(inode) << 1 | (listener))

static inline void ks_core_bury(ks_core *core, ks_grave *grave, void *block)
{
    grave->block = block;
    grave->next = core->graves;
    core->graves = grave;
}

#endif
