/* SPDX-License-Identifier: MIT */
#include "bare/arq.h"

#include <errno.h>
#include <string.h>

#include "base/lock.h"
#include "base/err.h"
#include "arq/kcp.h"
#include "base/mem.h"
#include "session/profile.h"

#define ARQS_MAX 1024

typedef struct packet {
    struct packet *next;
    int size;
    uint8_t bytes[];
} packet;

typedef struct {
    ks_kcp kcp;
    ks_seg_pools pools;
    ks_seg *open;       /* popped, read up to open_read; stream mode */
    uint32_t open_read;
    packet *head, *tail;
    uint64_t bytes_sent, bytes_received;
} arq_end;

static ks_lock table_lock = KS_LOCK_INIT(KS_RANK_ARQ);
static arq_end *table[ARQS_MAX];

/* Locks the table in any case; every use ends with leave(). */
static arq_end *enter(int arq)
{
    ks_lock_take(&table_lock);
    return arq < 0 || arq >= ARQS_MAX ? NULL : table[arq];
}

static int leave(int result)
{
    ks_lock_release(&table_lock);
    return result;
}

int ks_arq_open(uint32_t conv, const ks_profile *profile, uint32_t first_sn)
{
    if (profile == NULL || !ks_profile_is_valid(profile))
        return -EINVAL;
    ks_kcp_config config = ks_profile_kcp_config(profile, conv, 0);
    config.stream = profile->stream != 0; /* framing is not asked: there is none */
    ks_lock_take(&table_lock);
    int arq = 0;
    while (arq < ARQS_MAX && table[arq] != NULL)
        arq++;
    if (arq == ARQS_MAX)
        return leave(-EMFILE);
    arq_end *e = ks_alloc(sizeof *e);
    if (e == NULL)
        return leave(-ENOMEM);
    ks_seg_pools_init(&e->pools);
    ks_kcp_init(&e->kcp, &config, &e->pools, first_sn);
    table[arq] = e;
    return leave(arq);
}

int ks_arq_close(int arq)
{
    arq_end *e = enter(arq);
    if (e == NULL)
        return leave(-EBADF);
    table[arq] = NULL;
    for (packet *p = e->head, *next; p != NULL; p = next) {
        next = p->next;
        ks_free(p);
    }
    if (e->open != NULL)
        ks_seg_unref(e->open);
    ks_kcp_free(&e->kcp);
    ks_seg_pools_free(&e->pools);
    ks_free(e);
    return leave(0);
}

int ks_arq_send(int arq, const uint8_t *data, int size)
{
    arq_end *e = enter(arq);
    if (e == NULL)
        return leave(-EBADF);
    if (size < 0 || (data == NULL && size > 0))
        return leave(-EINVAL);
    uint32_t room = ks_kcp_room(&e->kcp), bytes = (uint32_t)size;
    if (room == 0)
        return leave(-EAGAIN);
    if (e->kcp.cfg.stream && bytes > room)
        bytes = room;
    int result = ks_kcp_send(&e->kcp, data, bytes);
    if (result == KS_EMALFORMED)
        return leave(-EMSGSIZE);
    if (result < 0)
        return leave(-ENOMEM);
    e->bytes_sent += (uint32_t)result;
    return leave(result);
}

static int recv_message(arq_end *e, uint8_t *data, int size)
{
    int64_t bytes = ks_kcp_message_size(&e->kcp);
    if (bytes < 0)
        return -EAGAIN;
    if (bytes > size)
        return -EMSGSIZE;
    /* The first fragment says how many there are; what the others say is the peer's word and nothing hangs on it. */
    for (uint32_t left = 1, first = 1; left > 0; left--) {
        ks_seg *seg = ks_kcp_pop(&e->kcp);
        if (first)
            left += seg->frg;
        first = 0;
        memcpy(data, ks_seg_data(seg), seg->len);
        data += seg->len;
        ks_seg_unref(seg);
    }
    return (int)bytes;
}

static int recv_stream(arq_end *e, uint8_t *data, uint32_t size)
{
    uint32_t done = 0;
    while (done < size) {
        if (e->open == NULL) {
            e->open = ks_kcp_pop(&e->kcp);
            e->open_read = 0;
        }
        if (e->open == NULL)
            break;
        uint32_t take = e->open->len - e->open_read;
        if (take > size - done)
            take = size - done;
        memcpy(data + done, ks_seg_data(e->open) + e->open_read, take);
        done += take;
        e->open_read += take;
        if (e->open_read == e->open->len) {
            ks_seg_unref(e->open);
            e->open = NULL;
        }
    }
    return done > 0 || size == 0 ? (int)done : -EAGAIN;
}

int ks_arq_recv(int arq, uint8_t *data, int size)
{
    arq_end *e = enter(arq);
    if (e == NULL)
        return leave(-EBADF);
    if (size < 0 || data == NULL)
        return leave(-EINVAL);
    int result = e->kcp.cfg.stream ? recv_stream(e, data, (uint32_t)size) : recv_message(e, data, size);
    if (result > 0)
        e->bytes_received += (uint32_t)result;
    return leave(result);
}

int ks_arq_input(int arq, const uint8_t *bytes, int size, uint32_t now_ms)
{
    arq_end *e = enter(arq);
    if (e == NULL)
        return leave(-EBADF);
    if (size < 0 || (bytes == NULL && size > 0))
        return leave(-EINVAL);
    return leave(ks_kcp_input_untrusted(&e->kcp, bytes, (size_t)size, (uint64_t)now_ms * 1000, false) < 0 ? -EBADMSG : 0);
}

typedef struct {
    arq_end *end;
    int made;
} queueing;

/* Without memory the packet is lost, as on any network. */
static void queue_packet(void *ctx, const struct iovec *iov, int pieces, size_t size)
{
    queueing *q = ctx;
    packet *p = ks_alloc(sizeof *p + size);
    if (p == NULL)
        return;
    for (int i = 0; i < pieces; i++) {
        memcpy(p->bytes + p->size, iov[i].iov_base, iov[i].iov_len);
        p->size += (int)iov[i].iov_len;
    }
    if (q->end->head == NULL)
        q->end->head = p;
    else
        q->end->tail->next = p;
    q->end->tail = p;
    q->made++;
}

int ks_arq_flush(int arq, uint32_t now_ms, int force)
{
    arq_end *e = enter(arq);
    if (e == NULL)
        return leave(-EBADF);
    queueing q = {e, 0};
    if (force || ks_kcp_next(&e->kcp, (uint64_t)now_ms * 1000) == 0)
        ks_kcp_flush(&e->kcp, (uint64_t)now_ms * 1000, queue_packet, &q);
    return leave(q.made);
}

int ks_arq_output(int arq, uint8_t *bytes, int size)
{
    arq_end *e = enter(arq);
    if (e == NULL)
        return leave(-EBADF);
    packet *p = e->head;
    if (p == NULL)
        return leave(0);
    if (p->size > size)
        return leave(-EMSGSIZE);
    if (bytes == NULL)
        return leave(-EINVAL);
    int result = p->size;
    memcpy(bytes, p->bytes, (size_t)result);
    e->head = p->next;
    ks_free(p);
    return leave(result);
}

int64_t ks_arq_next(int arq, uint32_t now_ms)
{
    arq_end *e = enter(arq);
    if (e == NULL)
        return leave(-EBADF);
    uint32_t wait = ks_kcp_next(&e->kcp, (uint64_t)now_ms * 1000);
    leave(0);
    return wait == UINT32_MAX ? -1 : (int64_t)wait;
}

int ks_arq_info(int arq, ks_info *info)
{
    arq_end *e = enter(arq);
    if (e == NULL)
        return leave(-EBADF);
    if (info == NULL)
        return leave(-EINVAL);
    *info = (ks_info){.bytes_sent = e->bytes_sent, .bytes_received = e->bytes_received, .role = 1};
    ks_profile_kcp_info(&e->kcp, info);
    return leave(0);
}

int ks_arq_is_dead(int arq)
{
    arq_end *e = enter(arq);
    return leave(e == NULL ? -EBADF : e->kcp.dead);
}
