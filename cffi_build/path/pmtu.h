/* SPDX-License-Identifier: MIT */
/* How long packets may be on the path to a peer: packetization layer path MTU discovery (RFC 8899) by *pads*, packets that carry
 * nothing, so that no data is risked. No ICMP is needed, and none is believed.
 *
 * States:
 *   FIXED    the size was given; nothing is done
 *   CONFIRM  pads of the size that the connection began with: does it pass?
 *   SUSPECT  long packets get lost: pads of the size and of smaller ones. If smaller ones arrive and it does not, it falls
 *   SEARCH   pads of a larger size: does it pass?
 *   WAIT     a larger one is to be tried, as soon as the connection is calm
 *   DONE     nothing to be found out; after RAISE_MS a larger size is tried again
 *
 * Sizes are bytes of UDP payload. A *round* is the pads of one question, which is asked several times before it is answered by
 * silence; a *slot* is one size of a round. No clock: the time is an argument, in ms, and may wrap or jump. */
#ifndef KS_PMTU_H
#define KS_PMTU_H

#include <stdbool.h>
#include <stdint.h>

#define KS_PMTU_LEAST 548u    /* IPv4's 576 less 28: nothing smaller is tried */
#define KS_PMTU_START 1400u
#define KS_PMTU_MOST_4 1472u  /* 1,500 less the headers of IP and UDP */
#define KS_PMTU_MOST_6 1452u
#define KS_PMTU_SLOTS 4u

typedef enum {
    KS_PMTU_FIXED,
    KS_PMTU_CONFIRM,
    KS_PMTU_SUSPECT,
    KS_PMTU_SEARCH,
    KS_PMTU_WAIT,
    KS_PMTU_DONE,
} ks_pmtu_state;

typedef struct {
    uint16_t size;          /* of our packets, at most */
    uint16_t ceiling;       /* the least that is known not to pass; most + 1: none is */
    uint16_t most;
    uint16_t target;        /* WAIT, SEARCH: to be tried */
    uint8_t state;
    uint8_t tries;          /* of this round */
    uint8_t seen;           /* slots of this round that have arrived */
    uint8_t backoff;        /* SUSPECT: nothing at all arrives, so the wait doubles */
    bool fresh;             /* a round begins: earlier pads tell nothing about it */
    uint16_t rtt_ms;        /* of the first smaller pad of this round that has arrived; 0: none has */
    uint32_t begun_ms, sent_ms; /* the round; its latest try */
    uint32_t due_ms;        /* of the next try; WAIT, DONE: no suspicion before, if that is soon */
    uint32_t settled_ms;    /* the size was found out */
} ks_pmtu;

void ks_pmtu_init_fixed(ks_pmtu *pmtu, uint32_t size);
/* known: an earlier connection has found it out. */
void ks_pmtu_init(ks_pmtu *pmtu, uint32_t size, uint32_t most, bool known, uint32_t now_ms);
/* Losses look as if long packets did not pass. */
void ks_pmtu_suspect(ks_pmtu *pmtu, uint32_t now_ms);
/* Nothing is under way, nor was of late. pays: enough is sent that a larger size is worth finding. */
void ks_pmtu_calm(ks_pmtu *pmtu, bool pays, uint32_t now_ms);
/* acked: slots that have arrived. wait_ms: how long an answer may take. May change the size. -> slots to send now, a bit each */
unsigned ks_pmtu_step(ks_pmtu *pmtu, unsigned acked, uint32_t wait_ms, uint32_t now_ms);
/* A slot's bytes; 0: there is no such slot. */
uint32_t ks_pmtu_slot_bytes(const ks_pmtu *pmtu, unsigned slot);
/* The system does not send a packet as long as that slot's. */
void ks_pmtu_refused(ks_pmtu *pmtu, unsigned slot, uint32_t now_ms);
/* ms until ks_pmtu_step has something to do by time alone; UINT32_MAX: nothing. */
uint32_t ks_pmtu_wait_ms(const ks_pmtu *pmtu, uint32_t now_ms);

#endif
