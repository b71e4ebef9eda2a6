/* SPDX-License-Identifier: MIT */
#include "engine/peers.h"

static uint64_t peer_key(const ks_addr *peer, uint32_t conv)
{
    return ks_addr_hash(peer) ^ ks_mix(conv);
}

bool ks_peers_add(ks_port *p, ks_session *s)
{
    const uint32_t conv = s->kcp.cfg.conv;
    s->in_table = ks_hash_insert(&p->by_peer, &s->by_peer, peer_key(&s->peer, conv)) == KS_OK;
    if (s->in_table) /* without memory for the first one it can not move */
        s->in_convs = ks_hash_insert(&p->by_conv, &s->by_conv, ks_mix(conv)) == KS_OK;
    return s->in_table;
}

void ks_peers_list(ks_port *p, ks_session *s)
{
    if (p->strays != NULL && !s->listed)
        s->listed = ks_strays_list(p->strays, p->place, s->kcp.cfg.conv);
}

static void leave_tables(ks_port *p, ks_session *s)
{
    if (s->in_table)
        ks_hash_remove(&p->by_peer, &s->by_peer);
    if (s->in_convs)
        ks_hash_remove(&p->by_conv, &s->by_conv);
    if (s->in_addresses)
        ks_hash_remove(&p->by_address, &s->by_address);
    s->in_table = s->in_convs = s->in_addresses = false;
}

void ks_peers_remove(ks_port *p, ks_session *s)
{
    if (s->listed)
        ks_strays_unlist(p->strays, p->place, s->kcp.cfg.conv);
    s->listed = false;
    leave_tables(p, s);
}

bool ks_peers_rename(ks_port *p, ks_session *s, const ks_addr *peer, const ks_addr *local)
{
    /* It stays listed: another engine that finds it nowhere, even for a moment, tells its peer that it is gone. */
    const bool had_fec = s->in_addresses;
    leave_tables(p, s);
    s->peer = *peer;
    s->local = *local;
    if (!ks_peers_add(p, s))
        return false;
    if (had_fec)
        ks_peers_note_fec(p, s);
    return true;
}

ks_session *ks_peers_find(const ks_port *p, const ks_addr *peer, uint32_t conv)
{
    for (ks_hnode *n = ks_hash_find(&p->by_peer, peer_key(peer, conv)); n != NULL; n = ks_hash_next(n)) {
        ks_session *s = KS_OWNER(n, ks_session, by_peer);
        if (s->kcp.cfg.conv == conv && ks_addr_equal(&s->peer, peer))
            return s;
    }
    return NULL;
}

ks_session *ks_peers_find_anywhere(const ks_port *p, uint32_t conv)
{
    for (ks_hnode *n = ks_hash_find(&p->by_conv, ks_mix(conv)); n != NULL; n = ks_hash_next(n)) {
        ks_session *s = KS_OWNER(n, ks_session, by_conv);
        if (s->credit.validated && s->state < KS_SESSION_QUIET)
            return s;
    }
    return NULL;
}

void ks_peers_note_fec(ks_port *p, ks_session *s)
{
    if (!s->in_addresses)
        s->in_addresses = ks_hash_insert(&p->by_address, &s->by_address, ks_addr_hash(&s->peer)) == KS_OK;
}

ks_session *ks_peers_find_fec(const ks_port *p, const ks_addr *peer)
{
    for (ks_hnode *n = ks_hash_find(&p->by_address, ks_addr_hash(peer)); n != NULL; n = ks_hash_next(n)) {
        ks_session *s = KS_OWNER(n, ks_session, by_address);
        if (ks_addr_equal(&s->peer, peer))
            return s;
    }
    return NULL;
}
