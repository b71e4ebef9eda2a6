/* SPDX-License-Identifier: MIT */
/* Result codes inside the data plane. Functions that can fail return >= 0 or one of these; api passes -errno to Python. */
#ifndef KS_ERR_H
#define KS_ERR_H

enum {
    KS_OK = 0,
    KS_EMALFORMED = -1001, /* packet or frame breaks the wire format: drop it and count it */
    KS_ECONV = -1002,      /* packet belongs to another conversation: drop it */
    KS_ENOMEM = -1003,     /* allocation failed: the caller's state is unchanged */
    KS_EAGAIN = -1004,     /* nothing to do now; a later event will change that */
};

#endif
