/* SPDX-License-Identifier: MIT */
#include "engine/strays.h"

#include <string.h>

#include "base/checks.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/mem.h"

#define BOX_BYTES (256u * 1024u) /* made with the first packet */
#define PASSED 16u               /* addresses remembered, a power of two */

/* A packet in a box; its bytes follow. */
typedef struct {
    ks_addr from, local;
    bool has_local;
    uint8_t nonce[KS_NONCE_OWN];
    uint16_t size;
} letter;

typedef struct {
    ks_bell *bell; /* NULL: nobody has the place */
    uint8_t *box, *spare;
    size_t filled;
    struct {
        ks_addr from;
        int to; /* place, + 1; 0: none */
    } passed[PASSED];
} place;

/* Sessions of one place that have one conversation's number. */
typedef struct {
    ks_hnode node;
    uint32_t count;
} listed;

struct ks_strays {
    ks_lock lock;
    place places[KS_STRAYS_PLACES];
    ks_hash convs;
};

ks_strays *ks_strays_new(void)
{
    ks_strays *x = ks_alloc(sizeof *x);
    if (x != NULL)
        ks_lock_init(&x->lock, KS_RANK_STRAYS);
    return x;
}

void ks_strays_del(ks_strays *x)
{
    if (x == NULL)
        return;
    KS_ASSERT(x->convs.count == 0);
    for (uint32_t i = 0; i < KS_STRAYS_PLACES; i++)
        KS_ASSERT(x->places[i].bell == NULL);
    ks_lock_destroy(&x->lock);
    ks_free(x);
}

int ks_strays_join(ks_strays *x, ks_bell *bell)
{
    int at = -1;
    ks_lock_take(&x->lock);
    for (int i = 0; at < 0 && i < (int)KS_STRAYS_PLACES; i++)
        if (x->places[i].bell == NULL)
            at = i;
    if (at >= 0)
        x->places[at] = (place){.bell = bell};
    ks_lock_release(&x->lock);
    return at;
}

void ks_strays_leave(ks_strays *x, int at)
{
    place *p = &x->places[at];
    ks_lock_take(&x->lock);
    ks_free(p->box);
    ks_free(p->spare);
    *p = (place){0};
    ks_lock_release(&x->lock);
}

static uint64_t conv_key(int at, uint32_t conv)
{
    _Static_assert(KS_STRAYS_PLACES == 16, "four bits");
    return (uint64_t)conv << 4 | (uint32_t)at;
}

static listed *find(const ks_strays *x, int at, uint32_t conv)
{
    ks_hnode *n = ks_hash_find(&x->convs, conv_key(at, conv));
    return n != NULL ? KS_OWNER(n, listed, node) : NULL;
}

bool ks_strays_list(ks_strays *x, int at, uint32_t conv)
{
    ks_lock_take(&x->lock);
    listed *l = find(x, at, conv);
    if (l == NULL && (l = ks_alloc(sizeof *l)) != NULL && ks_hash_insert(&x->convs, &l->node, conv_key(at, conv)) != KS_OK) {
        ks_free(l);
        l = NULL;
    }
    if (l != NULL)
        l->count++;
    ks_lock_release(&x->lock);
    return l != NULL;
}

void ks_strays_unlist(ks_strays *x, int at, uint32_t conv)
{
    ks_lock_take(&x->lock);
    listed *l = find(x, at, conv);
    KS_ASSERT(l != NULL && l->count > 0);
    if (--l->count == 0) {
        ks_hash_remove(&x->convs, &l->node);
        ks_free(l);
    }
    ks_lock_release(&x->lock);
}

static size_t letter_bytes(size_t size)
{
    return (sizeof(letter) + size + 7) & ~(size_t)7;
}

/* Without room or memory it is lost. */
static void put(place *to, const ks_opened *s)
{
    const size_t need = letter_bytes(s->size);
    KS_ASSERT(s->size <= KS_UDP_PACKET_MAX);
    if (to->box == NULL && (to->box = ks_alloc(BOX_BYTES)) == NULL)
        return;
    if (need > BOX_BYTES - to->filled)
        return;
    letter *l = (letter *)(void *)(to->box + to->filled); /* aligned: letter_bytes() */
    *l = (letter){.from = *s->from, .has_local = s->local != NULL, .size = (uint16_t)s->size};
    if (s->local != NULL)
        l->local = *s->local;
    memcpy(l->nonce, s->nonce, sizeof l->nonce);
    memcpy(l + 1, s->data, s->size);
    bool first = to->filled == 0;
    to->filled += need;
    if (!first)
        return;
    atomic_store(&to->bell->strays, true);
    ks_bell_ring(to->bell->wake_fd);
}

bool ks_strays_pass(ks_strays *x, int at, uint32_t conv, const ks_opened *s)
{
    bool found = false;
    uint64_t slot = ks_addr_hash(s->from) & (PASSED - 1);
    ks_lock_take(&x->lock);
    for (int i = 0; !found && x->convs.count > 0 && i < (int)KS_STRAYS_PLACES; i++)
        if (i != at && x->places[i].bell != NULL && find(x, i, conv) != NULL) {
            found = true;
            put(&x->places[i], s);
            x->places[at].passed[slot].from = *s->from;
            x->places[at].passed[slot].to = i + 1;
        }
    ks_lock_release(&x->lock);
    return found;
}

bool ks_strays_pass_after(ks_strays *x, int at, const ks_opened *s)
{
    uint64_t slot = ks_addr_hash(s->from) & (PASSED - 1);
    ks_lock_take(&x->lock);
    int to = x->places[at].passed[slot].to - 1;
    bool found = to >= 0 && x->places[to].bell != NULL && ks_addr_equal(&x->places[at].passed[slot].from, s->from);
    if (found)
        put(&x->places[to], s);
    ks_lock_release(&x->lock);
    return found;
}

ks_stray_box ks_strays_take(ks_strays *x, int at)
{
    place *p = &x->places[at];
    ks_lock_take(&x->lock);
    ks_stray_box box = {.bytes = p->box, .filled = p->filled};
    p->box = p->spare;
    p->spare = NULL;
    p->filled = 0;
    ks_lock_release(&x->lock);
    return box;
}

bool ks_stray_next(ks_stray_box *box, ks_opened *s)
{
    if (box->at == box->filled)
        return false;
    letter *l = (letter *)(void *)(box->bytes + box->at);
    *s = (ks_opened){.from = &l->from, .nonce = l->nonce, .data = (uint8_t *)(l + 1), .size = l->size, .stray = true};
    s->local = l->has_local ? &l->local : NULL;
    box->at += letter_bytes(l->size);
    return true;
}

void ks_strays_give_back(ks_strays *x, int at, ks_stray_box *box)
{
    if (x != NULL && box->bytes != NULL) {
        ks_lock_take(&x->lock);
        if (x->places[at].spare == NULL) {
            x->places[at].spare = box->bytes;
            box->bytes = NULL;
        }
        ks_lock_release(&x->lock);
    }
    ks_free(box->bytes);
    *box = (ks_stray_box){0};
}
