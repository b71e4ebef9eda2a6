/* SPDX-License-Identifier: MIT */
#include "base/timer.h"

#include "base/checks.h"
#include "base/err.h"
#include "base/mem.h"

/* Each is due no later than the two below it, and knows its place. */
KS_CHECKER void check_at(const ks_timers *t, uint32_t place)
{
    KS_ASSERT(t->count <= t->capacity && place < t->count);
    KS_ASSERT(t->heap[place]->place == place && t->heap[place]->due_ms != KS_NEVER);
    KS_ASSERT(place == 0 || t->heap[(place - 1) / 2]->due_ms <= t->heap[place]->due_ms);
    for (uint32_t child = 2 * place + 1; child < t->count && child <= 2 * place + 2; child++)
        KS_ASSERT(t->heap[place]->due_ms <= t->heap[child]->due_ms);
}

void ks_timer_init(ks_timer *timer)
{
    timer->due_ms = KS_NEVER;
    timer->place = 0;
}

void ks_timers_free(ks_timers *t)
{
    ks_free(t->heap);
    *t = (ks_timers){0};
}

int ks_timers_reserve(ks_timers *t, uint32_t count)
{
    if (count <= t->capacity)
        return KS_OK;
    uint32_t capacity = t->capacity ? t->capacity : 16;
    while (capacity < count)
        capacity *= 2;
    ks_timer **heap = ks_realloc(t->heap, capacity * sizeof *heap);
    if (heap == NULL)
        return KS_ENOMEM;
    t->heap = heap;
    t->capacity = capacity;
    return KS_OK;
}

static void put(ks_timers *t, uint32_t place, ks_timer *timer)
{
    t->heap[place] = timer;
    timer->place = place;
}

static void sift_up(ks_timers *t, uint32_t place, ks_timer *timer)
{
    while (place > 0) {
        uint32_t parent = (place - 1) / 2;
        if (t->heap[parent]->due_ms <= timer->due_ms)
            break;
        put(t, place, t->heap[parent]);
        place = parent;
    }
    put(t, place, timer);
}

static void sift_down(ks_timers *t, uint32_t place, ks_timer *timer)
{
    for (uint32_t child; (child = 2 * place + 1) < t->count; place = child) {
        if (child + 1 < t->count && t->heap[child + 1]->due_ms < t->heap[child]->due_ms)
            child++;
        if (timer->due_ms <= t->heap[child]->due_ms)
            break;
        put(t, place, t->heap[child]);
    }
    put(t, place, timer);
}

static void disarm(ks_timers *t, ks_timer *timer)
{
    uint32_t place = timer->place;
    KS_ASSERT(place < t->count && t->heap[place] == timer);
    ks_timer *last = t->heap[--t->count];
    timer->due_ms = KS_NEVER;
    if (last == timer)
        return;
    if (place > 0 && t->heap[(place - 1) / 2]->due_ms > last->due_ms)
        sift_up(t, place, last);
    else
        sift_down(t, place, last);
    KS_CHECK(check_at(t, last->place));
    KS_CHECK(check_at(t, place));
}

void ks_timer_set(ks_timers *t, ks_timer *timer, uint64_t due_ms)
{
    if (due_ms == timer->due_ms)
        return;
    if (timer->due_ms != KS_NEVER)
        disarm(t, timer);
    if (due_ms == KS_NEVER)
        return;
    KS_ASSERT(t->count < t->capacity); /* its owner has reserved room */
    timer->due_ms = due_ms;
    sift_up(t, t->count++, timer);
    KS_CHECK(check_at(t, timer->place));
}

ks_timer *ks_timers_pop(ks_timers *t, uint64_t now_ms)
{
    if (t->count == 0 || t->heap[0]->due_ms > now_ms)
        return NULL;
    ks_timer *timer = t->heap[0];
    disarm(t, timer);
    KS_ASSERT(timer->due_ms == KS_NEVER && (t->count == 0 || t->heap[0]->due_ms != KS_NEVER));
    return timer;
}

uint64_t ks_timers_next(const ks_timers *t)
{
    return t->count == 0 ? KS_NEVER : t->heap[0]->due_ms;
}
