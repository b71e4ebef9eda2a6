/* SPDX-License-Identifier: MIT */
/* One stream's front half: the descriptor E, the data that waits for its application, and how far either direction has
 * come. It moves bytes to E; the session above reads from E and speaks with the peer. */
#ifndef KS_STREAM_H
#define KS_STREAM_H

#include "base/types.h"
#include "session/core.h"
#include "session/stream_states.h"
#include "smux/smux.h"

/* Received bytes inside a segment, by reference. */
typedef struct {
    ks_seg *seg;
    uint16_t off, len;
} ks_slice;

typedef struct ks_stream {
    ks_source src;               /* E; src.fd is -1 once it is closed. First: the poller hands out &src. */
    uint32_t handed_no;          /* while handed: the number of its message in the listener's pair */
    ks_grave grave;
    struct ks_session *session;
    struct ks_stream *prev, *next;         /* among the session's streams */
    struct ks_stream *ready_next;          /* among those with something to do, while on_ready */
    struct ks_stream *wait_next;           /* among those that wait for accept(): while app_fd >= 0, or handed */
    ks_hnode by_inode, by_sid;             /* in core->by_inode while E is open; in session->by_sid always */
    uint32_t sid;
    ks_smux_flow flow;
    ks_follow follow;            /* what the application has read of its window */

    ks_slice *rx;                /* ring of slices for the application */
    uint32_t rx_head, rx_count, rx_cap, rx_charge;

    uint32_t burst;              /* bytes that the next read of E offers room for; 0: not known yet */
    int app_fd;                  /* A: of an accepted stream until accept() gets it, of a connecting one until it stands; else -1 */
    int fill_bytes, app_sndbuf;  /* a connecting stream: the filler in the pair, and what A's buffer was */
    uint64_t oob_id;             /* under which out-of-band packets go to Python; 0: they don't */
    int linger_s;                /* SO_LINGER: -1 off; 0 makes the close a reset */
    int lowat;                   /* SO_RCVLOWAT: fewer bytes wait here, unless it is all that can; see ks_stream_deliver */
    ks_patience *patience;       /* what its options say; NULL: nothing */
    uint64_t orphan_ms;          /* when E was closed while the peer had not finished */

    bool messages;               /* E and A keep borders: what is written to E is whole messages */
    bool on_ready;
    bool handed;                 /* among the owner's streams whose A was sent to the listener's application */
    bool unread;                 /* the application has data that it will not read: thrown away, or left when it closed */
    ks_sending sending;
    ks_receiving receiving;
    ks_reader reader;
} ks_stream;

static inline bool ks_stream_is_connecting(const ks_stream *stream)
{
    return stream->sending == KS_SENDING_SYN;
}

/* The application will send no more. */
static inline bool ks_stream_has_ended(const ks_stream *stream)
{
    return stream->sending >= KS_SENDING_ENDED;
}

/* What comes for the application is dropped. */
static inline bool ks_stream_is_deaf(const ks_stream *stream)
{
    return stream->reader == KS_READER_DEAF || stream->reader == KS_READER_GONE;
}

/* The application is gone, or counts as gone. */
static inline bool ks_stream_is_closed(const ks_stream *stream)
{
    return stream->reader >= KS_READER_LEAVING;
}

/* Registers E (owned by the stream from now on, closed on failure) under A's inode. NULL: no memory or no poller slot. */
ks_stream *ks_stream_new(ks_core *core, struct ks_session *session, uint32_t sid, int engine_fd, uint64_t inode, uint32_t window);
/* Closes E if it is open, drops what waits; the memory goes at the turn's end. */
void ks_stream_del(ks_core *core, ks_stream *stream);
void ks_stream_close_front(ks_core *core, ks_stream *stream);
/* Queues bytes of seg (a reference is taken). KS_OK or KS_ENOMEM. */
int ks_stream_take(ks_stream *stream, ks_seg *seg, uint16_t off, uint16_t len);
/* Writes what E takes. -> payload bytes that left the queue, dropped ones included. */
uint32_t ks_stream_write(ks_stream *stream, ks_poller *poller);
/* Data for the application waits here or, as far as the kernel tells, in the pair. */
bool ks_stream_has_unread(const ks_stream *stream);
/* What stands in the pair unread, by the kernel's way of counting; -1 where it does not tell. */
int ks_stream_in_pair(const ks_stream *stream);
/* Both directions of the pair have ended on the application's side. */
bool ks_stream_is_hung_up(const ks_stream *stream);
/* Message mode: more fragments wait than a message can have. */
bool ks_stream_has_endless_message(const ks_stream *stream);
/* What a slice counts against the session's buffer: its bytes and its share of the slab around them. */
#define KS_SLICE_CHARGE 256u

#endif
