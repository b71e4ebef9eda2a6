/* SPDX-License-Identifier: MIT */
/* What an adaptive sender needs to send stands in memory of its own, which an idle connection does not hold. */
#include "arq/kcp_parts.h"

bool ks_sender_need(ks_kcp *k)
{
    if (!k->cfg.adaptive || k->sender != NULL)
        return true;
    ks_sender *s = ks_alloc(sizeof *s);
    if (s == NULL)
        return false;
    *s = (ks_sender){
        .is_new = true,
        .reorder_us = k->rest.reorder_us,
        .reorder_txno = k->txno,
        .insured_txno = k->txno - 1,
        .insure_left = k->rest.insure_left,
        .insured_us = k->rest.insured_us,
    };
    ks_path_init(&s->path, k->cfg.mtu, 0);
    k->sender = s;
    return true;
}

void ks_sender_begin(ks_kcp *k, uint64_t now_us)
{
    if (!k->sender->is_new)
        return;
    k->sender->is_new = false;
    ks_path_wake(&k->sender->path, &k->rest.path, k->cfg.mtu, now_us);
}

void ks_sender_free(ks_kcp *k)
{
    if (!k->cfg.adaptive || k->sender == NULL)
        return;
    ks_insure_forget(k->sender);
    ks_free(k->sender);
    k->sender = NULL;
}

void ks_sender_rest_now(ks_kcp *k)
{
    if (!k->cfg.adaptive || k->sender == NULL)
        return;
    KS_ASSERT(k->snd_una == k->snd_end);
    if (!k->sender->is_new)
        ks_path_sleep(&k->sender->path, &k->rest.path);
    k->rest.reorder_us = k->sender->reorder_us;
    k->rest.insure_left = k->sender->insure_left;
    k->rest.insured_us = k->sender->insured_us;
    ks_sender_free(k);
}

const ks_path *ks_kcp_path(const ks_kcp *k, ks_path *room)
{
    KS_ASSERT(k->cfg.adaptive);
    if (k->sender != NULL && !k->sender->is_new)
        return &k->sender->path;
    ks_path_wake(room, &k->rest.path, k->cfg.mtu, (uint64_t)k->now * 1000);
    return room;
}

void ks_kcp_resume(ks_kcp *k, uint64_t rate, uint32_t least_us)
{
    ks_path path;
    KS_ASSERT(k->cfg.adaptive && k->sender == NULL);
    ks_path_init(&path, k->cfg.mtu, 0);
    ks_path_resume(&path, rate, least_us);
    ks_path_sleep(&path, &k->rest.path);
}
