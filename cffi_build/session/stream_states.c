/* SPDX-License-Identifier: MIT */
#include "session/stream_states.h"

#include "base/checks.h"

/* 0: it can't happen; else the next state, counted from 1. */
static const uint8_t sending[KS_SENDING_COUNT][KS_SENDING_EVENT_COUNT] = {
#define STEP(from, event, to) [KS_SENDING_##from][KS_SENDING_ON_##event] = KS_SENDING_##to + 1,
    KS_SENDING_STEPS(STEP)
#undef STEP
};

static const uint8_t receiving[KS_RECEIVING_COUNT][KS_RECEIVING_EVENT_COUNT] = {
#define STEP(from, event, to) [KS_RECEIVING_##from][KS_RECEIVING_ON_##event] = KS_RECEIVING_##to + 1,
    KS_RECEIVING_STEPS(STEP)
#undef STEP
};

static const uint8_t reader[KS_READER_COUNT][KS_READER_EVENT_COUNT] = {
#define STEP(from, event, to) [KS_READER_##from][KS_READER_ON_##event] = KS_READER_##to + 1,
    KS_READER_STEPS(STEP)
#undef STEP
};

void ks_sending_step(ks_sending *state, ks_sending_event event)
{
    uint8_t next = sending[*state][event];
    KS_ASSERT(next != 0);
    if (next != 0)
        *state = (ks_sending)(next - 1);
}

void ks_receiving_step(ks_receiving *state, ks_receiving_event event)
{
    uint8_t next = receiving[*state][event];
    KS_ASSERT(next != 0);
    if (next != 0)
        *state = (ks_receiving)(next - 1);
}

void ks_reader_step(ks_reader *state, ks_reader_event event)
{
    uint8_t next = reader[*state][event];
    KS_ASSERT(next != 0);
    if (next != 0)
        *state = (ks_reader)(next - 1);
}
