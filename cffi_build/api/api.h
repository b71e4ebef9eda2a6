/* SPDX-License-Identifier: MIT */
/* All that Python sees of the data plane: what stands here and in the headers that this one includes, between the marks of
 * cdef.h. A connection's or listener's handle is its descriptor number (A in docs/architecture.md); a number that is no
 * kcpsock descriptor gives -ENOTSOCK. Results: >= 0, or -errno. Calls may block for a turn of the engine, never for the
 * network, unless a timeout is an argument. */
#ifndef KS_API_H
#define KS_API_H

#include <stdint.h>

#include "base/cdef.h"
#include "smux/codec.h"
#include "crypt/crypt.h"
#include "api/crypts.h"
#include "base/types.h"

KS_CDEF

/* Of KCPSOCK_UDP. */
enum { KS_UDP_AUTO, KS_UDP_PLAIN, KS_UDP_MMSG, KS_UDP_GSO };

enum {
    KS_OPT_NODELAY = 1,
    KS_OPT_INTERVAL,
    KS_OPT_RESEND,
    KS_OPT_NC,
    KS_OPT_SNDWND,
    KS_OPT_RCVWND,
    KS_OPT_ACK_NODELAY,
    KS_OPT_WRITE_DELAY,
    KS_OPT_LINGER,         /* value: -1 off, else seconds; 0 makes the last close a reset */
    KS_OPT_KEEPALIVE,      /* value in ms, 0 off */
    KS_OPT_RCVBUF,         /* bytes buffered towards A */
    KS_OPT_DUP,
    KS_OPT_RATE_LIMIT,
    KS_OPT_DSCP,           /* of a connected socket's own packets */
    KS_OPT_RCVLOWAT,       /* bytes; fewer are kept back from A */
    KS_OPT_OOB,            /* the id under which ks_oob_fd gives its out-of-band packets; 0 off */
};

/* engines */
int ks_engine_open(int udp_mode, int busy_poll); /* -> engine number */
int ks_engine_run(int engine);             /* the loop; returns 0 after ks_engine_stop */
int ks_engine_stop(int engine);
int ks_engine_drain(int engine, int timeout_ms); /* as if every app had closed; -> sessions still busy */
/* At the process' exit, after the interpreter's end, what was sent still arrives, within KCPSOCK_EXIT_LINGER seconds (5): every
 * engine that runs then is drained, and keeps running. 0 or -ENOMEM. */
int ks_drain_at_exit(void);
int ks_set_memory(int64_t bytes);           /* up to where windows may follow their connections: mem.h */
void ks_forget_engines(void);              /* in a forked child: close what the parent's engines own here */

/* connections and listeners: these take over udp_fd (closed also on failure) and replace what app_fd names */
int ks_connect(int engine, int app_fd, int udp_fd, const ks_profile *profile);
/* In `count` engines, each with a UDP socket of the same address (SO_REUSEPORT) and a crypt of its own, the profile's being left
 * alone. A udp_fd -1: this engine stays out, unless the first socket is one that ks_udp_adopt gave. */
int ks_listen(const int *numbers, const int *udp_fds, const int *crypts, int count, int app_fd, const ks_profile *profile,
              int backlog);

int ks_is_kcp(int app_fd);                 /* 0 no; 1 connection; 2 listener */
/* Waits until the turns have ended in which engines may be: where a listener of this process has the other end of a connection
 * that was just established, accept() knows of it then. */
void ks_settle(void);
int ks_take_error(int app_fd);             /* the errno that ended it, once; 0 none */
int ks_reset(int app_fd);                  /* abandon now: a connect in progress, or SO_LINGER (1, 0) */
int ks_closing(int app_fd);                /* a listener is about to be closed: resets what accept() has not taken */
void ks_note_end(int app_fd);               /* it is about to be closed with data unread, long after its own end of stream */
int ks_linger(int app_fd, int timeout_ms); /* wait until all that was written is acknowledged; -ETIMEDOUT */
int ks_set_option(int app_fd, int option, int64_t value);
/* setsockopt() of the UDP socket of a connection that this end began; -ENOPROTOOPT: an accepted one shares its listener's. */
int ks_set_udp_option(int app_fd, int level, int option, const uint8_t *value, int size);
int ks_set_patience(int app_fd, const ks_patience *patience); /* of a connection, for that and all that it set before; -ENOMEM */
int ks_send_oob(int app_fd, const uint8_t *data, int size); /* -EOPNOTSUPP without FEC, -EMSGSIZE, -ENOTCONN */
int ks_oob_fd(void);                       /* each out-of-band packet is one datagram: u64 id, data */
int ks_get_info(int app_fd, ks_info *info);
int ks_get_stats(ks_stats *stats);         /* summed over engines */

/* plain UDP descriptors, before they are handed over */
int ks_udp_park(int udp_fd);               /* hides it from all packets, for good: strangers are refused by ICMP */
int ks_udp_can_spread(void);               /* 1: the kernel spreads peers over the sockets of one address */
int ks_udp_shut(int udp_fd);               /* what came, and what comes until ks_udp_open, is dropped */
int ks_udp_open(int udp_fd);
/* A bind() met EADDRINUSE: the engines close what their applications have closed; if sessions alone still hold the port
 * and reuse (SO_REUSEADDR) is set, -> a duplicate of its socket, for ks_listen. -EADDRINUSE; -ENOENT: try bind() again. */
int ks_udp_adopt(int family, const uint8_t address[16], int port, uint32_t scope, int v6only, int reuse);
/* Sends past the descriptor pair what the connection has room for now, without waiting. -> bytes taken; 0: write to the
 * descriptor instead, which says what is wrong or waits. */
int64_t ks_send_now(int app_fd, const uint8_t *data, int64_t size);
int ks_poll(int fd, int events, int timeout_ms); /* one poll(2); -EINTR possible; -> revents */

KS_CDEF_END

#endif
