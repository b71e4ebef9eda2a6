/* SPDX-License-Identifier: MIT */
#include "path/pmtu.h"

#include <string.h>

#include "base/checks.h"
#include "base/serial.h"

#define NEAR_BYTES 8u          /* two sizes that are so close are one */
#define CONFIRM_TRIES 1u
#define SEARCH_TRIES 3u
#define SUSPECT_TRIES 4u       /* a pad that is lost by chance so often in a row, beside data that was, is one of 10,000 at 10 % */
#define SUSPECT_LEAST_MS 25u   /* between two of them: no burst takes all */
#define SUSPECT_MOST_MS 2000u
#define LATE_MS 50u            /* that a peer may put one ACK off and another not */
#define HOLD_MS 500u           /* after a suspicion that was wrong */
#define RAISE_MS 600000u       /* RFC 8899's PMTU_RAISE_TIMER */

/* What a suspicion falls back to: the start, IPv6's 1,280 less 48, IPv4's 576 less 28. */
static const uint16_t bases[] = {KS_PMTU_START, 1232u, KS_PMTU_LEAST};
#define BASES (sizeof bases / sizeof bases[0])
_Static_assert(BASES < KS_PMTU_SLOTS, "a slot for each, and one for the size itself");

static bool is_probing(const ks_pmtu *m)
{
    return m->state == KS_PMTU_CONFIRM || m->state == KS_PMTU_SUSPECT || m->state == KS_PMTU_SEARCH;
}

static void begin(ks_pmtu *m, ks_pmtu_state state, uint32_t now)
{
    m->state = (uint8_t)state;
    m->tries = m->seen = m->backoff = 0;
    m->rtt_ms = 0;
    m->fresh = true;
    m->due_ms = m->begun_ms = now;
}

/* With what was sent of the size already: the answers to that still count. */
static void doubt(ks_pmtu *m, uint32_t now)
{
    m->state = KS_PMTU_SUSPECT;
    m->due_ms = m->begun_ms = now;
}

/* The round is over: is there a larger size to try? From START on only the largest one is worth it. */
static void rest(ks_pmtu *m, uint32_t now)
{
    KS_ASSERT(m->size < m->ceiling && m->ceiling <= m->most + 1);
    bool open = m->ceiling > m->most;
    uint32_t gap = (uint32_t)m->ceiling - m->size;
    m->due_ms = now;
    if (m->size == m->most || (!open && (m->size >= KS_PMTU_START || gap <= NEAR_BYTES))) {
        m->state = KS_PMTU_DONE;
        return;
    }
    m->target = open ? m->most : (uint16_t)(m->size + gap / 2);
    m->state = KS_PMTU_WAIT;
}

void ks_pmtu_init_fixed(ks_pmtu *m, uint32_t size)
{
    memset(m, 0, sizeof *m);
    m->size = m->most = (uint16_t)size;
    m->ceiling = (uint16_t)(size + 1);
    m->state = KS_PMTU_FIXED;
}

void ks_pmtu_init(ks_pmtu *m, uint32_t size, uint32_t most, bool known, uint32_t now)
{
    ks_pmtu_init_fixed(m, ks_max32(KS_PMTU_LEAST, ks_min32(size, most)));
    m->most = (uint16_t)most;
    m->ceiling = (uint16_t)(most + 1);
    m->settled_ms = now;
    begin(m, KS_PMTU_CONFIRM, now);
    /* A smaller one was found by a search, which need not be made again. */
    if (known && m->size < KS_PMTU_START)
        m->state = KS_PMTU_DONE;
    else if (known)
        rest(m, now);
}

uint32_t ks_pmtu_slot_bytes(const ks_pmtu *m, unsigned slot)
{
    if (slot == 0)
        return m->state == KS_PMTU_SEARCH ? m->target : m->size;
    if (m->state != KS_PMTU_SUSPECT)
        return 0;
    for (size_t i = 0; i < BASES; i++)
        if (bases[i] < m->size && --slot == 0)
            return bases[i];
    return 0;
}

void ks_pmtu_suspect(ks_pmtu *m, uint32_t now)
{
    bool held = ks_after(m->due_ms, now) && m->due_ms - now <= HOLD_MS && !is_probing(m);
    if (m->state == KS_PMTU_CONFIRM && m->tries > 0)
        doubt(m, now);
    else if (m->state != KS_PMTU_FIXED && m->state != KS_PMTU_SUSPECT && m->size > KS_PMTU_LEAST && !held)
        begin(m, KS_PMTU_SUSPECT, now);
}

void ks_pmtu_calm(ks_pmtu *m, bool pays, uint32_t now)
{
    if (m->state == KS_PMTU_DONE && now - m->settled_ms >= RAISE_MS && m->size < m->most) {
        m->ceiling = (uint16_t)(m->most + 1);
        rest(m, now);
    }
    if (m->state == KS_PMTU_WAIT && (pays || m->target <= KS_PMTU_START))
        begin(m, KS_PMTU_SEARCH, now);
}

static void hear(ks_pmtu *m, unsigned acked, uint32_t now)
{
    uint8_t before = m->seen;
    m->seen = (uint8_t)(m->seen | acked);
    if (m->seen == before)
        return;
    if ((m->seen & 1u) != 0) {
        bool alarm = m->state == KS_PMTU_SUSPECT;
        if (m->state == KS_PMTU_SEARCH)
            m->size = m->target;
        if (!alarm)
            m->settled_ms = now;
        rest(m, now);
        m->due_ms = alarm ? now + HOLD_MS : now;
    } else if (m->backoff > 0) {
        /* The path was down, and is back: what was sent before tells nothing. */
        m->backoff = 0;
        m->tries = 1;
        m->due_ms = m->begun_ms = now;
        m->seen = 0;
        m->fresh = true;
    } else if (m->rtt_ms == 0)
        m->rtt_ms = (uint16_t)ks_max32(1, ks_min32(now - m->begun_ms, SUSPECT_MOST_MS));
}

/* The size does not pass; the largest that has come does. -> false: none has. */
static bool fall(ks_pmtu *m, uint32_t now)
{
    for (unsigned slot = 1; slot < KS_PMTU_SLOTS; slot++) {
        if ((m->seen >> slot & 1u) == 0)
            continue;
        m->ceiling = (uint16_t)ks_pmtu_slot_bytes(m, slot - 1);
        m->size = (uint16_t)ks_pmtu_slot_bytes(m, slot);
        m->settled_ms = now;
        rest(m, now);
        return true;
    }
    return false;
}

static uint32_t tries_of(const ks_pmtu *m)
{
    return m->state == KS_PMTU_CONFIRM ? CONFIRM_TRIES : m->state == KS_PMTU_SEARCH ? SEARCH_TRIES : SUSPECT_TRIES;
}

/* Asked often enough, without an answer. */
static void conclude(ks_pmtu *m, uint32_t now)
{
    if (m->state == KS_PMTU_CONFIRM)
        doubt(m, now);
    else if (m->state == KS_PMTU_SEARCH) {
        m->ceiling = m->target;
        m->settled_ms = now;
        rest(m, now);
    } else if (m->size <= KS_PMTU_LEAST)
        rest(m, now);
    else if (!fall(m, now)) {
        m->tries = SUSPECT_TRIES - 1;
        m->backoff = (uint8_t)ks_min32(m->backoff + 1u, 8);
    }
}

/* For an answer, as a smaller pad's took. */
static uint32_t enough_ms(const ks_pmtu *m)
{
    return m->rtt_ms + m->rtt_ms / 4 + LATE_MS;
}

unsigned ks_pmtu_step(ks_pmtu *m, unsigned acked, uint32_t wait_ms, uint32_t now)
{
    if (is_probing(m))
        hear(m, acked, now);
    if (!is_probing(m) || ks_after(m->due_ms, now))
        return 0;
    if (m->tries >= tries_of(m)) {
        /* The queue may have become longer than it was when the wait was reckoned. */
        if (m->rtt_ms > 0 && now - m->sent_ms < enough_ms(m)) {
            m->due_ms = m->sent_ms + enough_ms(m);
            return 0;
        }
        conclude(m, now);
    }
    if (!is_probing(m))
        return 0;
    unsigned slots = 0;
    for (unsigned slot = 0; slot < KS_PMTU_SLOTS; slot++) {
        /* While nothing arrives, the size and the smallest ask whether anything does. */
        bool asks = m->backoff == 0 || slot == 0 || ks_pmtu_slot_bytes(m, slot) == KS_PMTU_LEAST;
        if (ks_pmtu_slot_bytes(m, slot) > 0 && (m->seen >> slot & 1u) == 0 && asks)
            slots |= 1u << slot;
    }
    m->tries++;
    m->sent_ms = now;
    /* The last pad of a round is given its time; of a suspicion those before it are not, data waits for the verdict. */
    if (m->state == KS_PMTU_SUSPECT && m->tries < SUSPECT_TRIES)
        wait_ms = ks_max32(wait_ms / 2, SUSPECT_LEAST_MS);
    else if (m->rtt_ms > 0)
        wait_ms = enough_ms(m);
    m->due_ms = now + ks_min32(wait_ms << m->backoff, ks_max32(wait_ms, SUSPECT_MOST_MS));
    return slots;
}

void ks_pmtu_refused(ks_pmtu *m, unsigned slot, uint32_t now)
{
    if (slot != 0)
        return;
    if (m->state == KS_PMTU_SUSPECT)
        m->tries = SUSPECT_TRIES; /* no further try can tell more */
    else if (is_probing(m)) {
        m->tries = (uint8_t)tries_of(m);
        m->due_ms = now;
    }
}

uint32_t ks_pmtu_wait_ms(const ks_pmtu *m, uint32_t now)
{
    if (!is_probing(m))
        return UINT32_MAX;
    return ks_after(m->due_ms, now) ? m->due_ms - now : 0;
}
