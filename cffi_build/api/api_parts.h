/* SPDX-License-Identifier: MIT */
/* What the files behind api.h share: engines by number, and questions about a descriptor. */
#ifndef KS_API_PARTS_H
#define KS_API_PARTS_H

#include "api/api.h"
#include "engine/engine.h"

#define KS_ENGINES_MAX 16

/* An engine is made once and stays until the process ends (or forks): a number never names a freed one. NULL: no such. */
ks_engine *ks_engine_of(int number);

/* A note about a connection or listener; may be the first member of a longer one. */
typedef struct {
    ks_note note;
    uint64_t inode;
    bool all; /* each engine that has it is asked */
} ks_front_note;

/* Asks each engine until one that has the descriptor answers; several may have a listener's. -ENOTSOCK: none has. */
int ks_front_ask(int app_fd, ks_front_note *f, ks_note_run *run);

/* In `run`: the stream of that inode, or its listening port; neither, and the answer is -ENOTSOCK. */
ks_stream *ks_engine_stream(ks_engine *e, uint64_t inode, ks_port **port);

#endif
