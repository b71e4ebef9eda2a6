/* SPDX-License-Identifier: MIT */
/* Strays: packets that came to one port of a lobby and are for a session of another. The kernel chooses among a lobby's sockets by
 * the peer's address, so one that moves (moving.h) may come to another engine than the one that has its session. The session stays
 * where it is; its packets are passed on there, opened, by one copy each.
 *
 * A place is a port's among the others. Each has a box, which any port puts packets into and its own takes out; what no longer
 * fits is lost, as in a socket's buffer. And there is one list of which place has which conversations.
 *
 * Any thread may call these. `lock` guards all but a box that was taken. It is taken once for a connection that begins or
 * ends, and for packets that the port has no session for. */
#ifndef KS_STRAYS_H
#define KS_STRAYS_H

#include <stdbool.h>
#include <stdint.h>

#include "crypt/nonces.h"
#include "engine/bell.h"
#include "os/udp.h"

typedef struct ks_strays ks_strays;

#define KS_STRAYS_PLACES 16u

/* A packet that crypt has let pass. */
typedef struct {
    const ks_addr *from, *local; /* local: as in ks_udp_packet */
    const uint8_t *nonce;        /* KS_NONCE_OWN bytes: the port that has the session knows its own */
    uint8_t *data;               /* may be overwritten when it was taken */
    size_t size;                 /* KS_UDP_PACKET_MAX at most */
    bool stray;                  /* another port has passed it on */
} ks_opened;

/* Of letters, one behind the other. */
typedef struct {
    uint8_t *bytes;
    size_t filled, at;
} ks_stray_box;

/* NULL: no memory. */
ks_strays *ks_strays_new(void);
void ks_strays_del(ks_strays *strays);

/* -> a place, or -1: there is none. The bell stays valid until it is left. */
int ks_strays_join(ks_strays *strays, ks_bell *bell);
void ks_strays_leave(ks_strays *strays, int place);

/* A session of that place has this conversation. -> false: no memory, it can't be found */
bool ks_strays_list(ks_strays *strays, int place, uint32_t conv);
/* Once for each time that it was listed. */
void ks_strays_unlist(ks_strays *strays, int place, uint32_t conv);

/* By the conversation, to another place. -> false: none has it */
bool ks_strays_pass(ks_strays *strays, int place, uint32_t conv, const ks_opened *packet);
/* What names no conversation goes where the latest packet from that address went. -> false: none was passed on */
bool ks_strays_pass_after(ks_strays *strays, int place, const ks_opened *packet);
/* The place's box as it is; its own engine calls this, and owns the box until it gives it back. */
ks_stray_box ks_strays_take(ks_strays *strays, int place);
/* The next one in it, valid until the box is given back. -> false: that was all */
bool ks_stray_next(ks_stray_box *box, ks_opened *packet);
/* strays: NULL if the place was left meanwhile. */
void ks_strays_give_back(ks_strays *strays, int place, ks_stray_box *box);

#endif
