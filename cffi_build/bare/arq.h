/* SPDX-License-Identifier: MIT */
/* The ARQ alone, for tests in virtual time: a kcp behind a small number, its packets in a queue. No sockets, no clock.
 *
 * Any thread may call, with any number and any bytes: one lock guards the table and stays held for the length of a call.
 * -EBADF: no such ARQ. -EINVAL: a negative size, no buffer, or a setting out of range. */
#ifndef KS_ARQ_H
#define KS_ARQ_H

#include <stdint.h>

#include "base/cdef.h"

struct ks_profile;
struct ks_info;

KS_CDEF

/* -> a number; -EMFILE, -ENOMEM. Both ends start at first_sn; 0 is what every known peer does. */
int ks_arq_open(uint32_t conv, const struct ks_profile *profile, uint32_t first_sn);
int ks_arq_close(int arq);
/* -> bytes taken: in stream mode perhaps fewer than size, in message mode all of them. -EAGAIN: the send window's worth is
 * queued; -EMSGSIZE: a message of more than 255 fragments; -ENOMEM. */
int ks_arq_send(int arq, const uint8_t *data, int size);
/* -> bytes; message mode gives one message, which may be empty. -EAGAIN: none; -EMSGSIZE: the message is longer and stays. */
int ks_arq_recv(int arq, uint8_t *data, int size);
/* -> 0, or -EBADMSG: malformed or of another conversation; what stood before the fault was used. */
int ks_arq_input(int arq, const uint8_t *packet, int size, uint32_t now_ms);
/* Makes packets; force 0: only when something is due. -> packets made. */
int ks_arq_flush(int arq, uint32_t now_ms, int force);
/* Takes the oldest packet that flush made. -> its size; 0: none; -EMSGSIZE: it is longer, and stays. */
int ks_arq_output(int arq, uint8_t *packet, int size);
/* -> ms until flush has something to do; 0: now; -1: not before the next input or send. */
int64_t ks_arq_next(int arq, uint32_t now_ms);
int ks_arq_info(int arq, struct ks_info *info);
/* -> 1 after 20 transmissions of one segment, else 0. */
int ks_arq_is_dead(int arq);

KS_CDEF_END

#endif
