/* SPDX-License-Identifier: MIT */
#include "engine/moving.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/octets.h"
#include "engine/peers.h"
#include "os/front.h"

#define ASK_AGAIN_MS 200u
/* A place that is considered gives way to another when nothing has come from it for so long, or when it has had so long. */
#define UNHEARD_MS 1000u
#define TENURE_MS 4000u
#define SEEK_EVERY_MS 100u

/* Where a session may go on, and what was asked there. */
struct ks_moving {
    ks_addr to, from;     /* from: ours, which its packets went to; family 0: not known */
    ks_credit credit;     /* of `to` */
    uint32_t stamp, sn;   /* of its challenge, also when that is sent again: a round trip may be longer than the time between */
    uint64_t begun_ms, heard_ms, asked_ms;
};

bool ks_port_lets_move(const ks_port *p)
{
    return ks_link_is_authenticated(&p->owner.link) && !p->owner.link.udp.connected;
}

void ks_moving_end(ks_session *s)
{
    ks_free(s->moving);
    s->moving = NULL;
}

static bool is_answer_untrusted(const struct ks_moving *m, const uint8_t *packet, size_t size)
{
    while (size >= KS_KCP_HEAD) {
        uint32_t len = ks_get_le32(packet + 20);
        if (packet[4] == KS_KCP_ACK && ks_get_le32(packet + 8) == m->stamp && ks_get_le32(packet + 12) == m->sn)
            return true;
        if (len > size - KS_KCP_HEAD)
            return false;
        packet += KS_KCP_HEAD + len;
        size -= KS_KCP_HEAD + len;
    }
    return false;
}

/* -> false: not now */
static bool consider(ks_session *s, const ks_addr *to, const ks_addr *from)
{
    struct ks_moving *m = s->moving;
    const uint64_t now = s->core->now_ms;
    uint8_t stamp[4];
    if (m != NULL && now < m->heard_ms + UNHEARD_MS && now < m->begun_ms + TENURE_MS)
        return false;
    if (ks_entropy_take(&s->core->batch.entropy, stamp, sizeof stamp) != KS_OK)
        return false;
    if (m == NULL && (m = ks_alloc(sizeof *m)) == NULL)
        return false;
    s->moving = m;
    *m = (struct ks_moving){.to = *to, .stamp = ks_get_le32(stamp), .begun_ms = now};
    if (from != NULL)
        m->from = *from;
    return true;
}

static void ask(ks_port *p, ks_session *s)
{
    struct ks_moving *m = s->moving;
    uint8_t packet[KS_KCP_HEAD];
    if (m->asked_ms == 0)
        m->sn = ks_kcp_challenge_sn(&s->kcp);
    ks_kcp_write_challenge(&s->kcp, packet, m->sn, m->stamp);
    m->asked_ms = p->core->now_ms;
    struct iovec iov = {packet, sizeof packet};
    ks_route route = {.link = &p->owner.link, .to = &m->to, .from = m->from.sa.sa_family != 0 ? &m->from : NULL, .credit = &m->credit};
    (void)ks_batch_put(&p->core->batch, &route, &iov, 1, sizeof packet, p->core->now_ms);
    ks_batch_send(&p->core->batch);
}

static void move(ks_port *p, ks_session *s)
{
    struct ks_moving *m = s->moving;
    ks_batch_send(&p->core->batch); /* it refers to the old address */
    if (p->parity_due == s)
        p->parity_due = NULL;
    bool named = ks_peers_rename(p, s, &m->to, &m->from);
    ks_moving_end(s);
    p->core->count.moves++;
    if (!named) {
        ks_session_fail(s, ENOMEM);
        return;
    }
    ks_kcp_peer_moved(&s->kcp, p->core->now_us);
    ks_session_mark(s);
}

bool ks_moving_input_untrusted(ks_port *p, ks_session *s, const ks_addr *from, const ks_addr *local, const uint8_t *packet,
                               size_t size)
{
    bool known = s->moving != NULL && ks_addr_equal(&s->moving->to, from);
    if (known && is_answer_untrusted(s->moving, packet, size)) {
        move(p, s);
        return true;
    }
    /* Known data may be what is sent again because we acknowledge it where nobody is. */
    if (known || consider(s, from, local)) {
        s->moving->heard_ms = p->core->now_ms;
        ks_credit_earn(&s->moving->credit, size + ks_link_overhead(&p->owner.link, false));
        if (s->moving->asked_ms + ASK_AGAIN_MS <= p->core->now_ms)
            ask(p, s);
    }
    return ks_kcp_is_news_untrusted(&s->kcp, packet, size);
}

/* Another descriptor in the place of the port's. -> 0 or -errno, and then it has none. */
static int replace_socket(ks_port *p, int fd)
{
    const ks_profile *profile = &p->owner.profile;
    ks_batch_send(&p->core->batch); /* on the old one, if that is what it holds */
    ks_poller_del(&p->core->poller, &p->src);
    ks_front_close(p->src.fd);
    p->src = (ks_source){.fd = fd, .kind = KS_SOURCE_PORT};
    ks_front_own(fd);
    int error = ks_udp_init(&p->owner.link.udp, fd, p->core->way, profile->sockbuf_bytes, 0);
    if (error == 0)
        ks_port_doubt_icmp(p);
    if (error == 0)
        error = ks_poller_add(&p->core->poller, &p->src);
    if (error < 0) {
        ks_front_close(fd);
        p->src.fd = -1;
        return error;
    }
    socklen_t len = sizeof p->local;
    memset(&p->local, 0, sizeof p->local);
    (void)getsockname(fd, &p->local.sa, &len);
    p->local_port = ntohs(p->local.sa.sa_family == AF_INET6 ? p->local.in6.sin6_port : p->local.in4.sin_port);
    return 0;
}

void ks_moving_seek(ks_port *p, ks_session *s)
{
    const bool no_way = p->owner.link.udp.no_way;
    p->owner.link.udp.no_way = p->silent = false;
    if (!s->opener || !ks_link_is_authenticated(&p->owner.link) || p->core->now_ms - p->sought_ms < SEEK_EVERY_MS)
        return; /* the next packet that can't leave asks again */
    p->sought_ms = p->core->now_ms;
    int fd = no_way || ks_udp_has_lost_address(p->src.fd) ? ks_udp_renew(p->src.fd, &s->peer) : -EALREADY;
    if (fd < 0)
        return;
    int error = replace_socket(p, fd);
    if (error < 0) {
        ks_session_fail(s, -error);
        return;
    }
    p->core->count.moves++;
    ks_kcp_peer_moved(&s->kcp, p->core->now_us);
    ks_session_mark(s);
}
