/* SPDX-License-Identifier: MIT */
/* The engine: one thread's loop over descriptors, packets, timers and notes.
 *
 * Any thread may call the functions below except ks_engine_loop, which makes its caller the engine's thread. They leave a
 * note and wait for the answer; `lock` guards the list of notes, the flag `stopped` and the answers. Everything else is
 * guarded by `turning`, which the engine's thread holds but for its sleep: only ks_engine_send takes it too. `turning`
 * comes before `lock`. */
#ifndef KS_ENGINE_H
#define KS_ENGINE_H

#include <pthread.h>

#include "listener.h"

typedef struct ks_engine ks_engine;

/* A question to the engine; it lives on the asker's stack until it is answered. */
typedef struct ks_note ks_note;
/* Runs in the engine's thread. -> the answer, or KS_EAGAIN: asked again each turn until `due_ms`, then -ETIMEDOUT. */
typedef int ks_note_run(ks_engine *engine, ks_note *note);

struct ks_note {
    ks_note *next;
    ks_note_run *run;
    uint64_t due_ms;  /* by ks_clock_ms */
    int answer;
    bool answered;
};

/* busy_poll: where waits have been short, it asks the kernel for a while before it sleeps. */
ks_engine *ks_engine_new(ks_udp_way way, bool busy_poll, int *error);
/* After ks_engine_loop has returned, or if it never ran. */
void ks_engine_del(ks_engine *engine);
void ks_engine_loop(ks_engine *engine);
/* Makes the loop return. Descriptors stay open until ks_engine_del or the end of the process: who waits at one when the
 * interpreter exits, in accept() say, is not woken, as with TCP. */
void ks_engine_halt(ks_engine *engine);
/* -> the note's answer, -ESHUTDOWN when the engine has stopped. */
int ks_engine_ask(ks_engine *engine, ks_note *note);

/* Sends for the stream of that inode at once, in the caller's thread: the engine is not woken for it. Never waits. -> bytes
 * taken; 0 when the engine is busy or the data must go through the pair, -ENOTSOCK when it is no stream of this engine. */
int64_t ks_engine_send(ks_engine *engine, uint64_t inode, const uint8_t *data, size_t size);

/* Whether ks_engine_send is worth a try: a hint, any thread. */
bool ks_engine_asleep(ks_engine *engine);

ks_core *ks_engine_core(ks_engine *engine);
ks_ports *ks_engine_ports(ks_engine *engine);
/* The second half of a turn, when events and packets have been taken in: what is due at core->now_ms, the sessions that
 * were marked, the batch, and the end of what ended. ks_engine_loop does it; tests in virtual time do it themselves. */
void ks_core_turn(ks_core *core);
/* Monotonic. */
uint64_t ks_clock_ms(void);

#endif
