/* SPDX-License-Identifier: MIT */
/* What the files of KCP know of each other; nobody else includes this.
 *
 *   kcp_flight.c  what is in flight: due times, and which segments are lost
 *   kcp_flush.c   sending what is due
 *   kcp.c         life, the application's side, a packet that came */
#ifndef KS_KCP_PARTS_H
#define KS_KCP_PARTS_H

#include "kcp.h"

enum { CMD_PUSH = 81, CMD_ACK = 82, CMD_WASK = 83, CMD_WINS = 84 };

#define KS_KCP_RTO_MAX_MS 60000u
#define KS_KCP_SSTHRESH_MIN 2u

/* ---- in flight: lists in transmission order, one per back-off level ---- */

static inline void ks_flight_append(ks_kcp *k, ks_seg *seg)
{
    ks_flight *f = &k->flight[seg->level];
    seg->next = NULL;
    seg->prev = f->tail;
    if (f->tail != NULL)
        f->tail->next = seg;
    else
        f->head = seg;
    f->tail = seg;
    k->levels |= 1u << seg->level;
}

static inline void ks_flight_remove(ks_kcp *k, ks_seg *seg)
{
    ks_flight *f = &k->flight[seg->level];
    if (seg->prev != NULL)
        seg->prev->next = seg->next;
    else
        f->head = seg->next;
    if (seg->next != NULL)
        seg->next->prev = seg->prev;
    else
        f->tail = seg->prev;
    if (f->head == NULL)
        k->levels &= ~(1u << seg->level);
}

/* How long a segment of this level waits for its acknowledgment, ms. */
uint32_t ks_flight_rto(const ks_kcp *kcp, uint32_t level);
/* Segments transmitted before *bound count as lost; false when nothing does. */
bool ks_flight_lost(const ks_kcp *kcp, uint32_t *bound, bool *early);
bool ks_flight_has_lost(const ks_kcp *kcp);
/* A transmission was acknowledged. */
void ks_flight_note_passed(ks_kcp *kcp, uint32_t txno);

/* What the receive window has room for, as the header says it. */
uint32_t ks_kcp_window_free(const ks_kcp *kcp);

#endif
