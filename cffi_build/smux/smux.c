/* SPDX-License-Identifier: MIT */
#include "smux/smux.h"

#include <string.h>

#include "base/checks.h"
#include "base/err.h"
#include "base/octets.h"
#include "base/serial.h"

void ks_smux_parser_init(ks_smux_parser *p, uint8_t version)
{
    memset(p, 0, sizeof *p);
    p->version = version;
}

/* Fills head up to `want` bytes; true when they are all there. */
static bool gather(ks_smux_parser *p, size_t want, const uint8_t **data, size_t *size)
{
    KS_ASSERT(p->have <= want && want <= sizeof p->head);
    size_t take = want - p->have < *size ? want - p->have : *size;
    memcpy(p->head + p->have, *data, take);
    p->have = (uint8_t)(p->have + take);
    *data += take;
    *size -= take;
    return p->have == want;
}

int ks_smux_parse_untrusted(ks_smux_parser *p, const uint8_t **data, size_t *size, ks_smux_event *ev)
{
    for (;;) {
        /* Either within a frame's head or within a PSH's payload. */
        KS_ASSERT(p->left <= UINT16_MAX && p->have < KS_SMUX_UPD && (p->left == 0 || p->have == 0));
        if (p->left > 0) {
            if (*size == 0)
                return 0;
            ev->cmd = KS_SMUX_PSH;
            ev->sid = p->sid;
            ev->data = *data;
            ev->size = p->left < *size ? p->left : *size;
            p->left -= (uint32_t)ev->size;
            *data += ev->size;
            *size -= ev->size;
            KS_ASSERT(ev->size > 0);
            return 1;
        }
        if (p->have < KS_SMUX_HEAD && !gather(p, KS_SMUX_HEAD, data, size))
            return 0;
        uint8_t cmd = p->head[1];
        uint16_t length = ks_get_le16(p->head + 2);
        ev->cmd = (ks_smux_cmd)cmd;
        ev->sid = ks_get_le32(p->head + 4);
        if (p->head[0] != p->version || cmd > KS_SMUX_UPDATE || (cmd == KS_SMUX_UPDATE && p->version != 2))
            return KS_EMALFORMED;
        if (cmd == KS_SMUX_PSH) {
            p->left = length;
            p->sid = ev->sid;
            p->have = 0;
            continue;
        }
        if (length != (cmd == KS_SMUX_UPDATE ? KS_SMUX_UPD - KS_SMUX_HEAD : 0))
            return KS_EMALFORMED;
        if (cmd == KS_SMUX_UPDATE) {
            if (!gather(p, KS_SMUX_UPD, data, size))
                return 0;
            ev->consumed = ks_get_le32(p->head + 8);
            ev->window = ks_get_le32(p->head + 12);
        }
        p->have = 0;
        return 1;
    }
}

void ks_smux_head(uint8_t out[KS_SMUX_HEAD], uint8_t version, ks_smux_cmd cmd, uint16_t length, uint32_t sid)
{
    KS_ASSERT((version == 1 && cmd < KS_SMUX_UPDATE) || version == 2);
    out[0] = version;
    out[1] = (uint8_t)cmd;
    ks_put_le16(out + 2, length);
    ks_put_le32(out + 4, sid);
}

void ks_smux_upd(uint8_t out[KS_SMUX_UPD], uint32_t sid, uint32_t consumed, uint32_t window)
{
    ks_smux_head(out, 2, KS_SMUX_UPDATE, KS_SMUX_UPD - KS_SMUX_HEAD, sid);
    ks_put_le32(out + 8, consumed);
    ks_put_le32(out + 12, window);
}

void ks_smux_flow_init(ks_smux_flow *f, uint32_t window)
{
    memset(f, 0, sizeof *f);
    f->window = window;
    f->peer_window = KS_SMUX_FIRST_WINDOW;
}

uint32_t ks_smux_flow_room(const ks_smux_flow *f)
{
    uint32_t out = f->sent - f->peer_consumed;
    return out < f->peer_window ? f->peer_window - out : 0;
}

void ks_smux_flow_update(ks_smux_flow *f, uint32_t consumed, uint32_t window)
{
    /* More consumed than sent would make room out of nothing: such an update is not believed. */
    if (f->sent - consumed > f->sent - f->peer_consumed)
        return;
    f->peer_consumed = consumed;
    f->peer_window = window;
}

void ks_smux_flow_widen(ks_smux_flow *f, uint32_t window)
{
    KS_ASSERT(window >= f->window);
    f->window = window;
    f->widened = true;
}

bool ks_smux_flow_consume(ks_smux_flow *f, uint32_t bytes, uint32_t least)
{
    KS_ASSERT(f->started || f->consumed == f->told); /* the first bytes are told at once */
    KS_ASSERT(f->consumed == f->told || f->consumed - f->told < f->window / 2);
    f->consumed += bytes;
    if (f->window > least)
        f->window -= ks_min32(bytes, f->window - least);
    if (f->started && !f->widened && f->consumed - f->told < f->window / 2)
        return false;
    f->started = true;
    f->widened = false;
    f->told = f->consumed;
    return true;
}
