/* SPDX-License-Identifier: MIT */
/* A session: one KCP conversation with a peer, and its streams (smux framing: any number; raw framing: one).
 *
 * What drives it: packets (ks_session_input), timers and descriptors that became ready (both only mark it dirty), and once
 * per engine turn ks_session_turn, which does all the work: received data to the applications, their data into KCP,
 * frames, flush, end of life. A session ends by itself and then tells its owner; it belongs to one engine's thread.
 *
 * States:
 *   CONNECTING  the opener's SYN is not acknowledged yet (smux only)
 *   HALF_OPEN   an accepting one that a packet began: its peer has not proved its address yet (session_proof.h), or has opened no
 *               stream yet (smux)
 *   OPEN
 *   CLOSING     its streams are gone; what was sent is being acknowledged, KS_LINGER_MS at most
 *   QUIET       over; it only acknowledges repeats, as TCP's TIME_WAIT does
 *   ENDED       told to the owner; the memory goes at the turn's end */
#ifndef KS_SESSION_H
#define KS_SESSION_H

#include "base/types.h"
#include "session/bucket.h"
#include "session/core.h"
#include "session/dialog.h"
#include "path/pmtu.h"
#include "session/stream.h"
#include "smux/smux.h"

#define KS_LINGER_MS 30000u /* how long what was sent before close() may take to be acknowledged */

typedef enum {
    KS_SESSION_CONNECTING,
    KS_SESSION_HALF_OPEN,
    KS_SESSION_OPEN,
    KS_SESSION_CLOSING,
    KS_SESSION_QUIET,
    KS_SESSION_ENDED,
} ks_session_state;

/* What session_proof.c knows of its challenge. */
typedef struct {
    uint32_t stamp;                 /* what the answer must say */
    uint32_t wait_ms;               /* after the next one */
    uint64_t asked_ms, due_ms;      /* the latest, the next; KS_NEVER: none */
} ks_proof;

/* Who made the session: a port. */
typedef struct ks_session_owner {
    ks_link link;
    ks_profile profile;
    ks_fec_code *fec;               /* what we send with; NULL: no FEC */
    /* Whether a new peer must wait: accept() is far behind, or perhaps over. */
    bool (*is_full)(struct ks_session_owner *owner);
    /* The peer opened a stream; its app_fd is the new connection's A. false: nobody listens. */
    bool (*offer)(struct ks_session_owner *owner, ks_stream *stream);
    /* The stream, offered before, is being deleted while it waits for accept(). */
    void (*withdraw)(struct ks_session_owner *owner, ks_stream *stream);
    void (*ended)(struct ks_session_owner *owner, struct ks_session *session);
    /* The peer, which the session connected to, acknowledges nothing any more; asked rarely. Must not end the session. */
    void (*silent)(struct ks_session_owner *owner);
    struct ks_session *line_first, *line_last; /* see session_line.h */
} ks_session_owner;

/* What session_silence.c makes of its streams' options: the least of each, ... */
typedef struct {
    uint32_t idle_ms, interval_ms, silence_ms, unacked_ms;
    uint64_t since_ms;              /* ... when one was set last, ... */
    bool changed;                   /* ... whether all that is to be found anew */
} ks_impatience;

typedef struct ks_session {
    ks_core *core;
    ks_session_owner *owner;
    ks_grave grave;
    struct ks_session *prev, *next; /* in core->sessions */
    struct ks_session *dirty_next;
    ks_hnode by_peer;               /* for the owner's table */
    ks_hnode by_address;            /* likewise, by the address alone: parity packets name no conversation */
    ks_hnode by_conv;               /* likewise, by the conversation alone: its peer may have moved */
    struct ks_moving *moving;       /* the owner's: where the peer seems to have moved to; NULL: nowhere */
    struct ks_session *half_open_prev, *half_open_next; /* the owner's: neighbours by age, while half_open */
    ks_timer timer;
    ks_credit credit;               /* of the peer's address; without limit for who connected to it, or has proved it */
    ks_proof proof;                 /* while it has not */
    ks_addr peer, local;            /* local: the address the peer used, family 0 when not known; its port is 0 */
    ks_session_state state;
    bool opener;                    /* we connected */
    bool smux;
    bool messages;                  /* raw framing, message mode: a write is a message */
    bool dirty;
    uint8_t connected_turns;        /* of an opener, since the peer's first acknowledgment */
    bool bye_rcvd;                  /* FIN on stream 0: see docs/protocol.md */
    bool trimmed;
    bool after_fin;                 /* the latest frame that came was a FIN, on stream fin_sid */
    bool in_table : 1, in_addresses : 1, in_convs : 1, listed : 1; /* the owner's: it is in these tables */
    bool half_open : 1;             /* the owner's: it has had no stream yet */
    bool in_line : 1;               /* it waits for a descriptor, see session_line.h */
    bool held : 1;                  /* the limit has kept applications' data back in this turn */
    bool starved : 1;               /* this turn had no memory for data that waits */
    uint8_t refused;                /* the errno of one more ICMP refusal, which is to be looked at; 0: none */
    uint8_t dup;
    uint8_t refusals;               /* ICMP refusals since the peer was heard */
    uint32_t fin_sid;
    uint32_t waiting_sid;           /* the peer's first stream, for which there was no descriptor yet; 0: none */
    struct ks_session *line_prev, *line_next; /* while in_line: neighbours in the owner's */
    ks_kcp kcp;
    ks_pmtu pmtu;
    ks_smux_parser parser;
    uint32_t refused_ms;            /* the first of `refusals`; low bits */
    ks_hash by_sid;
    ks_stream *streams;
    ks_stream *ready_head, *ready_tail;
    uint32_t buffer_limit;          /* of what waits for the applications, by KS_SLICE_CHARGE's count: see stream_window.h */
    uint32_t buffer_least;          /* what it began with */
    uint32_t followed_pkts;         /* KCP's receive window when a stream's last followed it */
    uint32_t buffered;
    uint32_t answers, answers_mark; /* packets that our own frames began, since all before sn answers_mark were sent */
    uint64_t heard_ms;              /* a valid packet came */
    uint64_t framed_ms;             /* we put a frame into KCP */
    uint64_t until_ms;              /* when its state ends at the latest, and the session with it; KS_NEVER: no limit */
    uint64_t trim_ms;
    uint32_t keepalive_ms;          /* 0 = off */
    uint32_t noted_ms;              /* its path was told to the next connection; low bits */
    ks_impatience *impatience;      /* NULL: no option of a stream's says more of silence than the profile */
    ks_session_counts count;
    ks_fec_encoder *encoder;        /* NULL: we send without FEC */
    ks_fec_decoder *decoder;        /* made when the peer's first FEC packet comes */
    uint64_t codec;                 /* of ks_codec_new: what KCP carries is compressed; 0: it is not */
    ks_bucket bucket;               /* the limit of its rate */
    ks_dialog dialog;
} ks_session;

/* NULL: no memory. The caller puts it into its own table and drives it from now on. */
ks_session *ks_session_new(ks_core *core, ks_session_owner *owner, uint32_t conv, const ks_addr *peer, const ks_addr *local,
                           bool opener);
/* The opener's one stream. app_fd (a duplicate of A), fill_bytes and app_sndbuf as in ks_stream; app_fd -1 with raw framing.
 * KS_OK or KS_ENOMEM; the descriptors are taken over either way. */
int ks_session_open_stream(ks_session *session, int engine_fd, uint64_t inode, int app_fd, int fill_bytes, int app_sndbuf);
/* A KCP packet that came for it; any bytes. */
void ks_session_input_untrusted(ks_session *session, const uint8_t *packet, size_t size);
/* A packet with a FEC head of type DATA or PARITY; any bytes. */
void ks_session_input_fec_untrusted(ks_session *session, const uint8_t *packet, size_t size);
/* The payload of an out-of-band packet that came for it. */
void ks_session_input_oob(ks_session *session, const uint8_t *data, size_t size);
/* 0, -EOPNOTSUPP: without FEC there is no such packet; -EMSGSIZE: it does not fit into one. */
int ks_session_send_oob(ks_session *session, const uint8_t *data, size_t size);
void ks_session_set_rate_limit(ks_session *session, uint64_t bytes_per_s);
/* The kernel had an ICMP refusal for its (connected) socket, see ks_udp_is_refusal: looked at in its next turn. */
void ks_session_refused(ks_session *session, int error);
void ks_session_mark(ks_session *session);
/* Something happened at a stream's descriptor, or to its options. */
void ks_stream_mark(ks_stream *stream);
void ks_session_turn(ks_session *session);
/* Sends application data past the stream's pair, in this moment. -> bytes taken, as many as the windows have room for; 0
 * also when what was written before still stands in the pair. Ends no session. */
size_t ks_stream_send_now(ks_stream *stream, const uint8_t *data, size_t size);
/* The data that its ACKs wait for has not come: they go in this turn. */
void ks_session_end_ride(ks_session *session);
/* Ends it now; its applications get `error`. */
void ks_session_fail(ks_session *session, int error);
/* Of an accepting end: ends it now, in favour of another peer's; what was acknowledged of it is told to be lost. */
void ks_session_give_way(ks_session *session);
/* Abandons one stream: the peer gets a reset, the application `error` (0: nothing). */
void ks_stream_reset(ks_stream *stream, int error);
/* Everything the application wrote has been acknowledged. */
bool ks_stream_is_flushed(ks_stream *stream);
/* At exit: nothing is left to send. */
bool ks_session_is_idle(ks_session *session);

/* Adds what it and its parts have counted. */
void ks_session_add_counts(const ks_session *session, ks_counters *to);

/* A packet that tells a peer, whose packet belonged to no session, that there is none; what it answers must be at least a
 * KCP header. -> its size, or 0: this one is not answered. */
size_t ks_session_refusal_untrusted(const uint8_t *packet, size_t size, uint8_t smux_version, uint8_t out[32]);

#endif
