/* SPDX-License-Identifier: MIT */
/* smux frames (docs/protocol.md 5), no I/O: a parser that takes the byte stream in any pieces, the heads of frames to send,
 * and the flow control of one version 2 stream. */
#ifndef KS_SMUX_H
#define KS_SMUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KS_SMUX_HEAD 8u
#define KS_SMUX_UPD 16u              /* bytes of a whole UPD frame */
#define KS_SMUX_FRAME_MAX 32768u     /* payload that we put into one frame */
#define KS_SMUX_FIRST_WINDOW 262144u /* of a stream, until its first UPD */

typedef enum { KS_SMUX_SYN = 0, KS_SMUX_FIN = 1, KS_SMUX_PSH = 2, KS_SMUX_NOP = 3, KS_SMUX_UPDATE = 4 } ks_smux_cmd;

typedef struct {
    uint8_t version;
    uint8_t have;     /* bytes of head collected */
    uint8_t head[KS_SMUX_UPD];
    uint32_t left;    /* bytes of the current PSH that are still to come */
    uint32_t sid;     /* of the current PSH */
} ks_smux_parser;

typedef struct {
    ks_smux_cmd cmd;
    uint32_t sid;
    const uint8_t *data; /* PSH: the piece that is here; a frame may come in several pieces */
    size_t size;
    uint32_t consumed, window; /* UPD */
} ks_smux_event;

void ks_smux_parser_init(ks_smux_parser *parser, uint8_t version);
/* Takes bytes from *data, *size on, and gives one event. -> 1 an event, 0 all bytes are used up, KS_EMALFORMED. */
int ks_smux_parse_untrusted(ks_smux_parser *parser, const uint8_t **data, size_t *size, ks_smux_event *event);

void ks_smux_head(uint8_t out[KS_SMUX_HEAD], uint8_t version, ks_smux_cmd cmd, uint16_t length, uint32_t sid);
void ks_smux_upd(uint8_t out[KS_SMUX_UPD], uint32_t sid, uint32_t consumed, uint32_t window);

/* Flow control of one stream; all counts modulo 2^32. */
typedef struct {
    uint32_t sent;                         /* payload bytes put into frames */
    uint32_t peer_consumed, peer_window;   /* of the latest UPD */
    uint32_t consumed, told;               /* by our application; in the latest UPD sent */
    uint32_t window;                       /* what we offer */
    bool started;                          /* the first UPD was sent */
    bool widened;                          /* the next one is due at once */
} ks_smux_flow;

void ks_smux_flow_init(ks_smux_flow *flow, uint32_t window);
/* Payload bytes that the peer has room for. */
uint32_t ks_smux_flow_room(const ks_smux_flow *flow);
/* A UPD came. */
void ks_smux_flow_update(ks_smux_flow *flow, uint32_t consumed, uint32_t window);
/* Our application took so many bytes. -> true when a UPD with (consumed, window) should be sent: told is then set. By these bytes
 * the window falls as long as it is larger than `least`: consumed + window, which is what the peer goes by, never does. */
bool ks_smux_flow_consume(ks_smux_flow *flow, uint32_t bytes, uint32_t least);
/* A larger window. */
void ks_smux_flow_widen(ks_smux_flow *flow, uint32_t window);

#endif
