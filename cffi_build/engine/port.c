/* SPDX-License-Identifier: MIT */
#include "engine/port.h"

#include <errno.h>
#include <sys/socket.h>

#include "os/front.h"
#include "session/profile.h"

int ks_settings_take(ks_session_owner *o, const ks_settings *with)
{
    const ks_profile *profile = with->profile;
    ks_fec_code *fec = NULL;
    if (profile->fec_data > 0) {
        fec = ks_fec_code_new((uint32_t)profile->fec_data, (uint32_t)profile->fec_parity, profile->fec_coefficients);
        if (fec == NULL)
            return -ENOMEM;
    }
    ks_crypt_del(o->link.crypt);
    ks_fec_code_unref(o->fec);
    o->link.crypt = with->crypt;
    o->fec = fec;
    o->profile = *profile;
    o->profile.fec_coefficients = NULL; /* the caller's */
    return 0;
}

static void drop_settings(ks_session_owner *o)
{
    ks_crypt_del(o->link.crypt);
    ks_fec_code_unref(o->fec);
    o->link.crypt = NULL;
    o->fec = NULL;
}

void ks_port_doubt_icmp(ks_port *p)
{
    if (ks_profile_finds_mtu(&p->owner.profile))
        ks_udp_ignore_path_mtu(&p->owner.link.udp, false);
    else
        ks_udp_ignore_path_mtu_v4(&p->owner.link.udp);
}

ks_port *ks_port_new(ks_core *core, ks_ports *ports, int udp_fd, const ks_settings *with, int *error)
{
    const ks_profile *profile = with->profile;
    ks_port *p = ks_alloc(sizeof *p);
    *error = p == NULL ? -ENOMEM : ks_settings_take(&p->owner, with);
    if (*error < 0) {
        ks_crypt_del(with->crypt);
        ks_free(p);
        ks_front_close(udp_fd);
        return NULL;
    }
    p->core = core;
    p->ports = ports;
    p->front.fd = -1;
    p->front.kind = KS_SOURCE_LISTENER;
    p->src.fd = udp_fd;
    p->src.kind = KS_SOURCE_PORT;
    *error = ks_udp_init(&p->owner.link.udp, udp_fd, core->way, profile->sockbuf_bytes, profile->dscp);
    if (*error == 0)
        ks_port_doubt_icmp(p);
    socklen_t len = sizeof p->local;
    if (*error == 0 && getsockname(udp_fd, &p->local.sa, &len) < 0)
        *error = -errno;
    if (*error == 0)
        *error = ks_poller_add(&core->poller, &p->src);
    if (*error < 0) {
        drop_settings(&p->owner);
        ks_front_close(udp_fd);
        ks_free(p);
        return NULL;
    }
    p->local_port = ntohs(p->local.sa.sa_family == AF_INET6 ? p->local.in6.sin6_port : p->local.in4.sin_port);
    p->next = ports->all;
    if (p->next != NULL)
        p->next->prev = p;
    ports->all = p;
    return p;
}

void ks_port_count_half_open(ks_port *p, ks_session *s)
{
    s->half_open = true;
    s->half_open_next = NULL;
    s->half_open_prev = p->half_open_newest;
    if (s->half_open_prev != NULL)
        s->half_open_prev->half_open_next = s;
    else
        p->half_open_oldest = s;
    p->half_open_newest = s;
    p->half_open++;
}

void ks_port_uncount_half_open(ks_port *p, ks_session *s)
{
    if (!s->half_open)
        return;
    s->half_open = false;
    if (s->half_open_prev != NULL)
        s->half_open_prev->half_open_next = s->half_open_next;
    else
        p->half_open_oldest = s->half_open_next;
    if (s->half_open_next != NULL)
        s->half_open_next->half_open_prev = s->half_open_prev;
    else
        p->half_open_newest = s->half_open_prev;
    p->half_open--;
}

void ks_port_more_append(ks_port *p)
{
    ks_ports *ports = p->ports;
    if (p->on_more)
        return;
    p->on_more = true;
    p->more_next = NULL;
    p->more_prev = ports->more_tail;
    if (p->more_prev != NULL)
        p->more_prev->more_next = p;
    else
        ports->more_head = p;
    ports->more_tail = p;
}

void ks_port_more_remove(ks_port *p)
{
    ks_ports *ports = p->ports;
    if (!p->on_more)
        return;
    p->on_more = false;
    if (p->more_prev != NULL)
        p->more_prev->more_next = p->more_next;
    else
        ports->more_head = p->more_next;
    if (p->more_next != NULL)
        p->more_next->more_prev = p->more_prev;
    else
        ports->more_tail = p->more_prev;
}

void ks_port_rest(ks_port *p)
{
    if (p->sessions > 0 || p->front.fd >= 0 || p->closing || p->idle)
        return;
    if (p->lobby == NULL || ks_lobby_rest(p->lobby)) {
        p->rested = true;
        ks_port_del(p);
        return;
    }
    p->idle = p->rested = true;
    p->idle_next = p->ports->idle;
    p->ports->idle = p;
}

static void idle_remove(ks_port *p)
{
    ks_port **at = &p->ports->idle;
    while (*at != NULL && *at != p)
        at = &(*at)->idle_next;
    if (*at != NULL)
        *at = p->idle_next;
    p->idle = false;
}

void ks_port_resume(ks_port *p)
{
    if (!p->idle)
        return;
    idle_remove(p);
    p->rested = false;
    ks_lobby_hold(p->lobby);
}

void ks_port_del(ks_port *p)
{
    ks_ports *ports = p->ports;
    if (p->closing)
        return;
    p->closing = true;
    for (uint32_t b = 0; p->by_peer.count > 0;) {
        ks_hnode *n = ks_hash_first(&p->by_peer, &b);
        ks_session_fail(KS_OWNER(n, ks_session, by_peer), 0);
    }
    ks_batch_send(&p->core->batch);
    if (p->src.fd >= 0) /* moving.c may have lost it */
        ks_poller_del(&p->core->poller, &p->src);
    ks_front_close(p->src.fd);
    p->src.fd = -1;
    drop_settings(&p->owner);
    if (p->prev != NULL)
        p->prev->next = p->next;
    else
        ports->all = p->next;
    if (p->next != NULL)
        p->next->prev = p->prev;
    ks_port_more_remove(p);
    idle_remove(p);
    if (p->strays != NULL)
        ks_strays_leave(p->strays, p->place);
    p->strays = NULL;
    if (p->lobby != NULL) {
        if (!p->rested)
            (void)ks_lobby_rest(p->lobby);
        ks_lobby_leave(p->lobby, ports->bell.wake_fd);
    }
    ks_core_bury(p->core, &p->grave, p);
}

void ks_ports_bury_idle(ks_ports *ports)
{
    for (ks_port *p = ports->idle, *next; p != NULL; p = next) {
        next = p->idle_next;
        if (ks_lobby_is_over(p->lobby))
            ks_port_del(p);
    }
}
