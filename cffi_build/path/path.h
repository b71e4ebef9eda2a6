/* SPDX-License-Identifier: MIT */
/* A model of the path to a peer, and what follows from it: how fast to send, and how much may be under way.
 *
 * It learns from the sender's own segments alone: each carries a mark (what had been delivered when it left), and its
 * acknowledgment gives a delivery rate (draft-cheng-iccrg-delivery-rate-estimation) and a round trip. From these come the
 * path's rate, its round trip without a queue, and the part of the packets that it loses without one. Sending follows BBR
 * (draft-ietf-ccwg-bbr) with other gains (docs/link.md).
 *
 * States:
 *   START   2.5 times the rate that was measured, over and over, until a queue, a loss or a rate that grows no more shows
 *           the path's own
 *   DRAIN   0.75 of it, until no more is under way than the path holds without a queue
 *   CRUISE  as fast as it goes, for some round trips
 *   PROBE   a little more, for one: does it go faster by now?
 *
 * No clock: the time is an argument, in us, and never goes back. One owner. */
#ifndef KS_PATH_H
#define KS_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KS_PATH_RATE_MAX (UINT64_C(1) << 36) /* bytes/s */

#define KS_PATH_FLOOR_MAX (65536u * 3 / 10) /* of 65536 */

#define KS_PATH_SHORTS 4u

typedef enum { KS_PATH_START, KS_PATH_DRAIN, KS_PATH_CRUISE, KS_PATH_PROBE } ks_path_state;

/* Of a segment under way. Times in us, bytes: both wrap. */
typedef struct {
    uint32_t sent_us;       /* it left */
    uint32_t first_us;      /* the segment left whose acknowledgment was the latest then */
    uint32_t delivered_us;  /* and that acknowledgment came */
    uint32_t delivered;     /* bytes, acknowledged until then */
    bool limited;           /* the application had too little to send: the rate may be more than the sample */
} ks_path_mark;

typedef struct {
    ks_path_state state;
    uint32_t packet_bytes;      /* a full one */

    /* what is under way, and what came through; bytes */
    uint32_t in_flight;
    uint32_t delivered, delivered_us, first_us;
    uint32_t limited_until;     /* samples of what was sent before that many were delivered are limited ones ... */
    bool limited;               /* ... while this is set */

    /* the latest packet of acknowledgments, until ks_path_update */
    bool acked, timed, marked;
    uint32_t acked_bytes, rtt_us; /* the least of it */
    ks_path_mark newest;
    uint32_t bunch, bunches;    /* segments of it; of the latest such packets, smoothed */

    /* the round trip that is under way */
    uint32_t round_end;         /* it ends when what leaves after so many delivered is acknowledged */
    uint32_t round_us, round_sent_us; /* it began; what was acknowledged then had been sent */
    uint32_t round_delivered, round_lost, round_rtt_us; /* bytes, bytes, the least */
    bool round_limited;
    uint32_t rounds;            /* in this state */
    uint32_t drain_in_flight, drain_delivered; /* as DRAIN began */
    uint32_t cruise_rounds;     /* so long until the next PROBE: short at first, the start may have ended too soon */
    uint32_t cut_us;            /* what left before that tells nothing more about losses: too much was sent */

    /* the path */
    uint32_t least_us;          /* round trip; 0: none yet */
    uint32_t recent_us;         /* the least of the last LEAST_AGE_US */
    uint64_t least_at_us, recent_at_us;
    uint32_t smooth_us, var_us; /* of the round trip, RFC 6298; 0: none yet */
    uint64_t rate[2];           /* bytes/s: the most of this cycle, and of the one before */
    uint64_t resume_rate;       /* what ks_path_resume said, bytes/s and us; 0: nothing, or it is of no use any more */
    uint32_t resume_least_us;
    uint64_t start_rate;        /* the most when the rate last grew by a quarter */
    uint64_t restart_rate;      /* of the PROBE that the present START came from; 0: it is the first */
    uint32_t vain_starts, skip_starts; /* that brought no more, in a row; so many PROBEs bring none now */
    uint32_t extra[2];          /* bytes that acknowledgments were ahead of the rate, likewise: they come in bunches */
    uint32_t extra_acked, extra_us;
    uint32_t loss;              /* of 65536: lost lately, of all that was sent */
    uint32_t seen, seen_lost;   /* segments that this comes from */
    uint32_t losses[2];         /* of 65536: the least that a round trip lost, likewise; UINT32_MAX: none yet */
    uint32_t floor;             /* of 65536: lost whatever we do */
    uint32_t heavy_rounds;      /* START: in a row, that lost far more than the floor */
    uint32_t flat_rounds;       /* START: round trips without growth */
    bool shared;                /* others keep a queue filled: it stays though we have let ours drain */
    bool drained;               /* no more was under way than the product when DRAIN ended */
    uint32_t share_pkts;        /* so many of ours stand in that queue */
    uint32_t standing_us;       /* the round trip with no more under way than the product; 0: that is the least */

    /* START: a rate over less than a round trip */
    struct { uint32_t us, sent_us, delivered; } shorts[KS_PATH_SHORTS]; /* it begins at the oldest of these */
    uint32_t short_count, short_at;
    uint32_t some_rtt_us, some_count, some_since_us; /* the least of some round trips in a row; so many, since then */
    uint32_t now_rtt_us;        /* that of the latest such few; 0: none yet. One alone may have met a busy machine */
    uint64_t short_rate;
    uint32_t peak_us, falls_us[2]; /* the most of now_rtt_us in this round trip; how far it fell in this and the last */

    /* pacing */
    uint64_t pace;              /* bytes/s; 0: nothing is known yet */
    int64_t tokens;             /* millionths of a byte */
    uint64_t filled_us;
} ks_path;

void ks_path_init(ks_path *path, uint32_t packet_bytes, uint64_t now_us);
/* An earlier connection to the same peer has measured that: the first flight may be half of it, if the round trip is
 * about the same. Before anything was sent. */
void ks_path_resume(ks_path *path, uint64_t rate, uint32_t least_us);
/* The rate that an application has filled, bytes/s; 0: none has. */
uint64_t ks_path_proven_rate(const ks_path *path);
/* A segment of so many bytes leaves. */
void ks_path_sent(ks_path *path, ks_path_mark *mark, uint32_t bytes, uint64_t now_us);
/* It was acknowledged. mark NULL: it is not known which of its transmissions was. rtt_us: the round trip; 0: not known. */
void ks_path_acked(ks_path *path, const ks_path_mark *mark, uint32_t bytes, uint32_t rtt_us, uint64_t now_us);
/* It counts as lost; and no longer, since it has arrived. `gone`: it is not under way any more, not by a repeat either. */
void ks_path_lost(ks_path *path, const ks_path_mark *mark, uint32_t bytes);
void ks_path_unlost(ks_path *path, uint32_t bytes, bool gone);
/* It did not arrive, but a copy of it did. */
void ks_path_missed(ks_path *path);
/* Bytes leave beside the segments. */
void ks_path_spend(ks_path *path, uint32_t bytes);
/* After all that one packet acknowledged. */
void ks_path_update(ks_path *path, uint64_t now_us);
/* Nothing has come for longer than a round trip: the rate of this one tells nothing about the path's. */
void ks_path_silent(ks_path *path);
/* Nothing waits to be sent, though more could go. */
void ks_path_idle(ks_path *path);
/* Bytes that may leave now; 0 or less: none. */
int64_t ks_path_room(ks_path *path, uint64_t now_us);
/* us until room has come by time alone; 0: now; UINT64_MAX: it takes an acknowledgment. */
uint64_t ks_path_wait_us(const ks_path *path, uint64_t now_us);
/* As much is under way as may be. */
bool ks_path_is_full(const ks_path *path);
/* bytes/s, 0: not known yet */
uint64_t ks_path_rate(const ks_path *path);
/* Bytes that the path holds without a queue. */
uint64_t ks_path_product(const ks_path *path);
/* Bytes that should wait unsent at most. */
uint64_t ks_path_backlog(const ks_path *path);

#endif
