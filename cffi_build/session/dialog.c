/* SPDX-License-Identifier: MIT */
#include "session/dialog.h"

#include <stddef.h>

/* How long ACKs wait for data to ride on: what an application takes to answer, and far below any RTO. */
#define RIDE_US 100u
/* Data that follows received data within the first answers it; within the second, the next question is awaited. */
#define ANSWER_US 200u
#define DIALOG_US 10000u

void ks_dialog_heard(ks_dialogs *all, const ks_dialog *d, uint64_t now_us)
{
    if (all->talker != d)
        all->short_waits = 0;
    all->talker = d;
    all->talker_answers = now_us - d->answered_us < DIALOG_US;
}

void ks_dialog_took(ks_dialog *d, uint64_t now_us)
{
    d->took_us = now_us;
}

void ks_dialog_sent(ks_dialog *d, uint64_t now_us)
{
    d->converses |= now_us - d->acked_us < 2 * RIDE_US; /* the ACKs could have waited */
    if (now_us - d->took_us < ANSWER_US)
        d->answered_us = now_us;
}

bool ks_dialog_ride(ks_dialogs *all, ks_dialog *d, bool can_wait, uint64_t now_us)
{
    if (!d->converses || !can_wait) {
        d->acked_us = now_us;
        return false;
    }
    if (all->riders == NULL)
        all->ride_over_us = now_us + RIDE_US;
    else
        all->riders->prev = d;
    d->prev = NULL;
    d->next = all->riders;
    all->riders = d;
    d->riding = true;
    return true;
}

void ks_dialog_leave(ks_dialogs *all, ks_dialog *d)
{
    if (!d->riding)
        return;
    d->riding = false;
    if (d->prev != NULL)
        d->prev->next = d->next;
    else
        all->riders = d->next;
    if (d->next != NULL)
        d->next->prev = d->prev;
}

void ks_dialog_give_up(ks_dialogs *all, ks_dialog *d, uint64_t now_us)
{
    ks_dialog_leave(all, d);
    d->converses = false;
    d->acked_us = now_us;
}

void ks_dialog_forget(ks_dialogs *all, ks_dialog *d)
{
    ks_dialog_leave(all, d);
    if (all->talker == d)
        all->talker = NULL;
}
