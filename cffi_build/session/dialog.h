/* SPDX-License-Identifier: MIT */
/* Quick turns of question and answer with a peer, where 100 us more are much. Two things depend on whether a session is in such a
 * dialog: whether its ACKs wait a moment for data to go with (they ride on it: a packet less to make, seal and open, and for
 * the peer's engine a wake less), and whether an engine's next wait is likely to be short, so that it polls (engine.c).
 * Times are us of one clock. One thread uses it, the engine's. */
#ifndef KS_DIALOG_H
#define KS_DIALOG_H

#include <stdbool.h>
#include <stdint.h>

/* Of a session. */
typedef struct ks_dialog {
    struct ks_dialog *prev, *next; /* among the riders, while `riding` */
    bool riding;                   /* its ACKs wait for data */
    bool converses;                /* data follows soon on data: ACKs may wait for it. Else they go at once */
    uint64_t acked_us;             /* when ACKs last went without */
    uint64_t took_us;              /* when data for an application came last */
    uint64_t answered_us;          /* when data was last sent soon after that */
} ks_dialog;

/* Of an engine. */
typedef struct {
    ks_dialog *riders;             /* whose ACKs wait, doubly linked, */
    uint64_t ride_over_us;         /* until then, all of them */
    const ks_dialog *talker;       /* whose packet came last */
    bool talker_answers;           /* we answer its peer at once */
    uint32_t short_waits;          /* in a row, while no other session was heard */
} ks_dialogs;

/* A packet of that session came. */
void ks_dialog_heard(ks_dialogs *all, const ks_dialog *dialog, uint64_t now_us);
/* It brought data for an application. */
void ks_dialog_took(ks_dialog *dialog, uint64_t now_us);
/* An application's data goes out. */
void ks_dialog_sent(ks_dialog *dialog, uint64_t now_us);
/* ACKs are due and no data is. -> true: they wait, as a rider; false: they shall go now. */
bool ks_dialog_ride(ks_dialogs *all, ks_dialog *dialog, bool can_wait, uint64_t now_us);
/* The ACKs have gone; nothing happens to who is no rider. */
void ks_dialog_leave(ks_dialogs *all, ks_dialog *dialog);
/* The data that the ACKs wait for has not come: they shall go now, and wait no more until data follows on data again. */
void ks_dialog_give_up(ks_dialogs *all, ks_dialog *dialog, uint64_t now_us);
/* The session ends. */
void ks_dialog_forget(ks_dialogs *all, ks_dialog *dialog);

#endif
