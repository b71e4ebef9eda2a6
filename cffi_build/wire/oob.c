/* SPDX-License-Identifier: MIT */
#include "wire/oob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/lock.h"
#include "os/front.h"

static ks_lock lock = KS_LOCK_INIT(KS_RANK_OOB); /* guards the making of the pair; nothing is locked inside */
static atomic_int reading = -1, writing = -1;

static int make_pair(void)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        (void)fcntl(fds[i], F_SETFD, FD_CLOEXEC);
        ks_front_own(fds[i]);
    }
    atomic_store(&writing, fds[1]);
    atomic_store(&reading, fds[0]);
    return fds[0];
}

int ks_oob_fd(void)
{
    int result = ks_front_init();
    if (result < 0)
        return result;
    ks_lock_take(&lock);
    result = atomic_load(&reading);
    if (result < 0)
        result = make_pair();
    ks_lock_release(&lock);
    return result;
}

bool ks_oob_post(uint64_t id, const uint8_t *data, size_t size)
{
    struct iovec iov[] = {{&id, sizeof id}, {(void *)(uintptr_t)data, size}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
    return sendmsg(atomic_load(&writing), &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

void ks_oob_forget(void)
{
    atomic_store(&reading, -1);
    atomic_store(&writing, -1);
    ks_lock_init(&lock, KS_RANK_OOB); /* another thread may have held it */
}
