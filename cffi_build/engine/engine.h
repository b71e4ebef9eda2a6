/* SPDX-License-Identifier: MIT */
/* The engine: one thread's loop over descriptors, packets, timers and notes. A note is a question of another thread's.
 *
 * Any thread may call the functions below except ks_engine_loop, which makes its caller the engine's thread. They leave a
 * note and wait for the answer; `lock` guards the list of notes, the flag `stopped` and the answers. Everything else is
 * guarded by `turning`, which the engine's thread holds but for its sleep: only ks_engine_send and ks_engine_end_of_turn take it too. lock.h has
 * the order of all locks. */
#ifndef KS_ENGINE_H
#define KS_ENGINE_H

#include "os/clock.h"
#include "engine/port.h"

typedef struct ks_engine ks_engine;

/* A question to the engine; it lives on the asker's stack until it is answered. */
typedef struct ks_note ks_note;
/* Runs in the engine's thread. -> the answer, or KS_EAGAIN: asked again each turn for `wait_ms`, then -ETIMEDOUT. */
typedef int ks_note_run(ks_engine *engine, ks_note *note);

struct ks_note {
    ks_note *next;
    ks_note_run *run;
    uint64_t wait_ms;
    uint64_t due_ms;  /* the engine's: when that is over */
    int answer;
    bool answered;
};

/* busy_poll: where waits have been short, it asks the kernel for a while before it sleeps. The clock is copied. */
ks_engine *ks_engine_new(ks_udp_way way, bool busy_poll, const ks_clock *clock, int *error);
/* After ks_engine_loop has returned, or if it never ran. */
void ks_engine_del(ks_engine *engine);
void ks_engine_loop(ks_engine *engine);
/* In its loop: it answers notes. */
bool ks_engine_is_running(const ks_engine *engine);
/* Makes the loop return. Descriptors stay open until ks_engine_del or the end of the process: who waits at one when the
 * interpreter exits, in accept() say, is not woken, as with TCP. */
void ks_engine_halt(ks_engine *engine);
/* -> the note's answer; -ESHUTDOWN when the engine has stopped; -EDEADLK in an engine's own thread, which would wait for itself. */
int ks_engine_ask(ks_engine *engine, ks_note *note);

/* Sends for the stream of that inode at once, in the caller's thread: the engine is not woken for it. Never waits. -> bytes
 * taken; 0 when the engine is busy or the data must go through the pair, -ENOTSOCK when it is no stream of this engine. */
int64_t ks_engine_send(ks_engine *engine, uint64_t inode, const uint8_t *data, size_t size);

/* Waits for the end of the turn that the engine may be in: what it does in one turn has all been done then. */
void ks_engine_end_of_turn(ks_engine *engine);

/* Whether ks_engine_send is worth a try: a hint, any thread. */
bool ks_engine_asleep(ks_engine *engine);

ks_core *ks_engine_core(ks_engine *engine);
ks_ports *ks_engine_ports(ks_engine *engine);
/* In the engine's thread: from now on every application counts as gone. -> sessions still busy; asked again each turn. */
int ks_engine_leave(ks_engine *engine);

/* The two halves of a turn, between which ks_engine_loop waits for events. Who does not run it, a test in virtual time, takes
 * them in the same order; only between them may ks_engine_send be called.
 * The end of a turn: -> after how many us it must be woken though nothing happens, -1: never. */
int64_t ks_engine_sleep(ks_engine *engine);
/* The beginning of the next: `count` sources have changed, as ks_poller_wait tells; then comes what is due. */
void ks_engine_wake(ks_engine *engine, ks_source *const *changed, int count);

#endif
