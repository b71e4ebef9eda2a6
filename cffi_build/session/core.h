/* SPDX-License-Identifier: MIT */
/* What an engine lends to its sessions and ports: clock, timers, memory, readiness, the outgoing batch, counters.
 * One thread uses it, the engine's. */
#ifndef KS_CORE_H
#define KS_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "smux/codec.h"
#include "base/counters.h"
#include "base/hash.h"
#include "base/siphash.h"
#include "arq/kcp.h"
#include "os/poller.h"
#include "base/timer.h"
#include "os/udp.h"
#include "session/dialog.h"
#include "wire/wire.h"

/* Freed memory that this turn's events may still point to; it goes at the turn's end. */
typedef struct ks_grave {
    struct ks_grave *next;
    void *block;
} ks_grave;

struct ks_session;

/* A process may be stopped, and a machine asleep. Nobody is to be held silent who could not be heard. */
#define KS_STOP_MS 500u
#define KS_STOP_LONG_MS 5000u

typedef struct {
    uint64_t now_ms, now_us;     /* read once per turn */
    /* When the engine last ran again after it could not for a while (KS_STOP_MS), and for a long one; 0: never. */
    uint64_t resumed_ms, resumed_late_ms;
    ks_poller poller;
    ks_timers timers;            /* room for one timer per session is reserved when the session is made */
    ks_seg_pools pools;
    ks_pool shards;              /* packets kept for FEC */
    ks_udp_rx rx;
    ks_codec_space *codec_space; /* NULL until a session compresses */
    ks_udp_way way;
    ks_batch batch;
    ks_siphash_key secret;       /* of the engine's alone, never told: what strangers must not be able to foresee */
    ks_counters count;
    ks_hash by_inode;            /* streams and listeners by KS_FRONT_KEY of A's inode */
    struct ks_session *sessions; /* all, doubly linked */
    uint32_t session_count, stream_count;
    struct ks_session *dirty;    /* to be turned at the end of this turn */
    ks_dialogs dialogs;
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
