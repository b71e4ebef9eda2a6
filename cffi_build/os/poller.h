/* SPDX-License-Identifier: MIT */
/* Readiness of descriptors, the same on epoll (edge-triggered) and on poll(2) (KS_PLAIN, other systems).
 *
 * A source's flags are set when the kernel says so and stay set until their user clears them after an EAGAIN or a short
 * transfer. What is set is not asked for again, so a source that nobody wants to read just now costs nothing. A source
 * counts as writable until a write finds no room (ks_poller_blocked): room alone wakes nobody. */
#ifndef KS_POLLER_H
#define KS_POLLER_H

#include <stdbool.h>
#include <stdint.h>

typedef enum { KS_SOURCE_WAKE, KS_SOURCE_PORT, KS_SOURCE_LISTENER, KS_SOURCE_STREAM } ks_source_kind;

typedef struct {
    int fd;
    ks_source_kind kind;
    bool readable, writable;
    bool read_end;  /* the other end sends no more: what is read to here is all */
    bool hung_up;   /* both directions have ended */
    bool out_asked; /* epoll: the kernel was asked for EPOLLOUT */
    uint32_t place; /* poll(2): index */
} ks_source;

typedef struct {
    int epoll_fd;
    bool fine;           /* waits of less than 1 ms are as short as asked for */
    ks_source **sources; /* poll(2) only, as are the next three */
    void *pollfds;
    uint32_t count, capacity;
} ks_poller;

int ks_poller_init(ks_poller *poller); /* 0 or -errno */
void ks_poller_free(ks_poller *poller);
/* Watches source->fd, which must be non-blocking. 0 or -errno. */
int ks_poller_add(ks_poller *poller, ks_source *source);
/* A write found no room: clears writable, which is set again when there is some. */
void ks_poller_blocked(ks_poller *poller, ks_source *source);
/* Before the descriptor is closed. The source's memory must outlive the turn in which it is removed. */
void ks_poller_del(ks_poller *poller, ks_source *source);
/* Waits at most timeout_us (-1: for ever), sets flags, and stores up to max sources whose flags changed. -> their number. */
int ks_poller_wait(ks_poller *poller, int64_t timeout_us, ks_source **changed, int max);

#endif
