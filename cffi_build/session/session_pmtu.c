/* SPDX-License-Identifier: MIT */
#include "session/session_pmtu.h"

#include "path/known.h"
#include "session/profile.h"
#include "session/session_marks.h"
#include "session/session_output.h"

#define PAYS_BYTES 262144u   /* sent: from here on a packet that is 5 % longer is worth a few pads */
#define ANSWER_MS 50u        /* that a peer may put an ACK off, and more */
#define ANSWER_MOST_MS 2000u
#define ANSWER_FIRST_MS 300u /* before a round trip is known */

static bool is_ipv4(const ks_addr *a)
{
    return a->sa.sa_family != AF_INET6 || IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr);
}

uint32_t ks_session_begin_pmtu(ks_session *s)
{
    const ks_profile *p = &s->owner->profile;
    if (!ks_profile_finds_mtu(p)) {
        ks_pmtu_init_fixed(&s->pmtu, (uint32_t)p->mtu_bytes);
        return s->pmtu.size;
    }
    uint32_t known = ks_known_mtu(&s->peer, s->core->now_us);
    ks_pmtu_init(&s->pmtu, known > 0 ? known : ks_profile_first_mtu(p), is_ipv4(&s->peer) ? KS_PMTU_MOST_4 : KS_PMTU_MOST_6,
                 known > 0, (uint32_t)s->core->now_ms);
    return s->pmtu.size;
}

/* How long the answer to a pad may take. The variation of the first round trip is a guess, and a large one. */
static uint32_t answer_ms(const ks_session *s)
{
    const ks_kcp *k = &s->kcp;
    uint32_t rtt_ms = k->srtt8 / 8, vary_ms = k->rttvar4;
    bool known = k->has_rtt;
    if (k->cfg.adaptive) {
        ks_path room;
        const ks_path *path = ks_kcp_path(k, &room);
        rtt_ms = path->smooth_us / 1000;
        vary_ms = 4 * path->var_us / 1000;
        known = known && path->smooth_us > 0;
    }
    if (!known)
        return ANSWER_FIRST_MS;
    return ks_min32(rtt_ms + ks_min32(vary_ms, rtt_ms / 2) + ANSWER_MS, ANSWER_MOST_MS);
}

/* Only to who hears us, since pads are long. */
static bool may_pad(const ks_session *s)
{
    return (s->state == KS_SESSION_OPEN || s->state == KS_SESSION_CLOSING) && s->credit.validated && s->kcp.heard_ack;
}

static void send_pads(ks_session *s, unsigned slots)
{
    uint8_t pad[KS_KCP_MTU_MAX];
    size_t around = ks_link_overhead(&s->owner->link, false);
    if (s->pmtu.fresh)
        ks_kcp_begin_pads(&s->kcp, s->core->now_us);
    s->pmtu.fresh = false;
    /* The longest last: of several that come at once kcp-go acknowledges that one alone. */
    for (unsigned slot = KS_PMTU_SLOTS; slot-- > 0;) {
        if ((slots >> slot & 1u) == 0)
            continue;
        uint32_t size = ks_pmtu_slot_bytes(&s->pmtu, slot) - (uint32_t)around;
        ks_kcp_put_pad(&s->kcp, slot, pad, size);
        s->core->count.mtu_probes++;
        if (s->kcp.cfg.adaptive && s->kcp.sender != NULL)
            ks_path_spend(&s->kcp.sender->path, size);
        if (!ks_session_send_whole(s, pad, size))
            ks_pmtu_refused(&s->pmtu, slot, (uint32_t)s->core->now_ms);
    }
}

static void apply(ks_session *s, uint32_t before)
{
    if (s->pmtu.size < before)
        s->core->count.mtu_falls++;
    ks_kcp_set_mtu(&s->kcp, s->pmtu.size - (uint32_t)ks_link_overhead(&s->owner->link, s->encoder != NULL), s->core->now_us);
    ks_session_mark(s); /* what can go by the new size does */
}

void ks_session_turn_pmtu(ks_session *s)
{
    ks_pmtu *m = &s->pmtu;
    uint32_t now = (uint32_t)s->core->now_ms, before = m->size, settled = m->settled_ms;
    if (m->state == KS_PMTU_FIXED || !may_pad(s))
        return;
    if (ks_kcp_suspects_mtu(&s->kcp, s->core->now_us))
        ks_pmtu_suspect(m, now);
    uint8_t state = m->state;
    unsigned acked = ks_kcp_take_pads_acked(&s->kcp);
    bool probes = ks_pmtu_wait_ms(m, now) != UINT32_MAX;
    unsigned slots = probes ? ks_pmtu_step(m, acked, answer_ms(s), now) : 0;
    /* A search goes on while nothing else does. */
    if (state == KS_PMTU_SEARCH && m->state == KS_PMTU_WAIT && ks_kcp_unacked(&s->kcp) == 0) {
        ks_session_calm_pmtu(s);
        slots = ks_pmtu_step(m, 0, answer_ms(s), now);
    }
    send_pads(s, slots);
    if (m->size != before)
        apply(s, before);
    if (m->size != before || m->settled_ms != settled)
        ks_known_note_mtu(&s->peer, m->size, s->core->now_us);
}

void ks_session_calm_pmtu(ks_session *s)
{
    ks_pmtu_calm(&s->pmtu, s->count.bytes_sent >= PAYS_BYTES, (uint32_t)s->core->now_ms);
}

uint64_t ks_session_pmtu_due_ms(const ks_session *s)
{
    uint32_t wait = may_pad(s) ? ks_pmtu_wait_ms(&s->pmtu, (uint32_t)s->core->now_ms) : UINT32_MAX;
    return wait == UINT32_MAX ? KS_NEVER : s->core->now_ms + wait;
}
