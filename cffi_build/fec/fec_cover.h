/* SPDX-License-Identifier: MIT */
/* Which groups get parity, and how much, when the sender adapts to its path (docs/link.md). All of it costs as much as it may
 * save: in a bulk transfer the rate is used up, and a repeat costs less. But a steady stream below the rate, or one whose
 * packets are close together, gets what it lost from parity long before a repeat could come.
 *
 * Parity that is left out has its seqids all the same, so groups stay where the peer looks for them. Now and then two groups in
 * a row have all of theirs, by which a peer with another code finds out ours.
 *
 * Pure: time, loss and the sender's state are arguments. Belongs to an encoder. */
#ifndef KS_FEC_COVER_H
#define KS_FEC_COVER_H

#include "fec/fec.h"

struct ks_fec_cover {
    ks_fec_way way;
    uint64_t held_ms;    /* there was a queue: no parity until then, or it would be what fills it */
    bool held;
    uint32_t groups;     /* begun so far, wraps */
    uint32_t gap;        /* between two packets of new data, smoothed; 16ths of a ms */
    uint64_t last_ms;    /* the latest of these; 0: none yet */
    uint64_t begun_ms;   /* this group's first packet */
    int64_t credit;      /* bytes that parity may take; less than none: the beacons took more */
    uint32_t pads;    /* packets that are to come only to make this group whole */
    bool beacon, covers; /* this group: all of its parity goes, whatever happens; it goes if it is in time */
};

void ks_fec_cover_see(ks_fec_cover *cover, ks_fec_way way, uint64_t now_ms);
/* So many segments of new data have just left. */
void ks_fec_cover_sent(ks_fec_cover *cover, uint32_t segments, uint64_t now_ms);
/* A group begins. -> whether its parity is to be computed. */
bool ks_fec_cover_begin(ks_fec_cover *cover, uint32_t ds, uint64_t now_ms);
/* A packet of so many bytes, head included, has come into the group, the count-th of it; how many more should come at once to
 * make it whole is in `pads` then. packet_max: bytes of the longest packet. */
void ks_fec_cover_packet(ks_fec_cover *cover, uint32_t ds, uint32_t ps, uint32_t count, size_t size, size_t packet_max,
                         uint64_t now_ms);
/* The group is whole. -> how many of its ps parity packets, of so many bytes, are sent. */
uint32_t ks_fec_cover_end(ks_fec_cover *cover, uint32_t ds, uint32_t ps, size_t size, uint64_t now_ms);
/* ms after which the parity of what leaves now is out; 0: there will be none. *held: because of a queue alone. */
uint32_t ks_fec_cover_ms(const ks_fec_cover *cover, uint32_t ds, bool *held);

#endif
