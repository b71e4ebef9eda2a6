// SPDX-License-Identifier: MIT
//
// The program lossylink: a loop and a talk on stdin (lossylink.c) around two directions (lossylink_impair.h), whose packets come
// and go through one of two faces: a UDP relay (lossylink_relay.c), or a pair of TUN devices (lossylink_tun.c).

#ifndef LOSSYLINK_H
#define LOSSYLINK_H

#include "lossylink_impair.h"

#include <inttypes.h>

#define NS_PER_S 1000000000u

enum { UP, DOWN };
enum { BATCHES_PER_TURN = 4 }; // from one descriptor before the others and the due packets get their turn
// What an event is about; a face's own begin at EV_FACE in the lower half, and the upper half is the face's.
enum { EV_STDIN, EV_SIGNAL, EV_TIMER, EV_FACE };

struct face {
    bool (*option)(const char *name, const char *value); // false: not one of its
    void (*open)(void);                                  // says its first line
    bool (*event)(uint64_t event);                       // reads; false: it is about something that is gone
    void (*send)(struct direction *d, uint64_t now);     // all that is due
    // Adds its own fields, each with ", " behind, and says what the kernel dropped in each direction. -> the text's length
    int (*stats)(char *text, size_t size, uint64_t kernel_dropped[2]);
};

extern const struct face relay_face, tun_face;
extern struct direction dirs[2];
extern uint32_t packet_bytes;

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ns(void);
uint64_t whole(const char *name, const char *value, uint64_t min, uint64_t max);
bool watch(int fd, uint64_t event);
void put(const char *text, size_t len);

#endif
