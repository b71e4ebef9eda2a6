/* SPDX-License-Identifier: MIT */
#include "os/front.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checks.h"

#if !defined(MAP_ANONYMOUS) && defined(MAP_ANON)
#define MAP_ANONYMOUS MAP_ANON
#endif

/* ---- obituaries (front.h): inode << 32 | round << 16 | errno, in sets of 8; a full set loses its oldest, by `round`, which
 * counts them ---- */

#define SETS 8192u /* 65,536 deaths that nobody has asked about yet, in 512 KiB that are touched only when used */
#define WAYS 8u

#define MESSAGE_BYTES_MAX (255 * 1476) /* fragments of the longest packet */

static _Atomic uint64_t *obituaries;
static atomic_uint rounds;

/* ---- owned descriptors: one bit each ---- */

static _Atomic uint32_t *owned;
static uint32_t owned_words;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int init_result;

static void *map(size_t bytes, int sharing)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void init(void)
{
    struct rlimit lim;
    rlim_t descriptors = getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_max != RLIM_INFINITY ? lim.rlim_max : 1u << 20;
    if (descriptors > 1u << 24)
        descriptors = 1u << 24;
    owned_words = (uint32_t)((descriptors + 31) / 32);
    owned = map(owned_words * sizeof *owned, MAP_PRIVATE);
    obituaries = map(SETS * WAYS * sizeof *obituaries, MAP_SHARED);
    init_result = owned == NULL || obituaries == NULL ? -ENOMEM : 0;
}

int ks_front_init(void)
{
    pthread_once(&once, init);
    return init_result;
}

void ks_front_own(int fd)
{
    if (fd >= 0 && (uint32_t)fd / 32 < owned_words)
        atomic_fetch_or(&owned[fd / 32], 1u << (fd % 32));
}

void ks_front_disown(int fd)
{
    if (fd >= 0 && (uint32_t)fd / 32 < owned_words)
        atomic_fetch_and(&owned[fd / 32], ~(1u << (fd % 32)));
}

void ks_front_close(int fd)
{
    if (fd < 0)
        return;
    ks_front_disown(fd);
    close(fd);
}

void ks_front_forget(void)
{
    for (uint32_t w = 0; w < owned_words; w++) {
        uint32_t bits = atomic_exchange(&owned[w], 0);
        for (int b = 0; bits != 0; b++, bits >>= 1)
            if ((bits & 1) != 0)
                close((int)(w * 32) + b);
    }
}

int ks_front_pair(int *app, int *engine, uint32_t message_bytes)
{
    int fds[2], type = message_bytes > 0 ? SOCK_SEQPACKET : SOCK_STREAM;
#if defined(SOCK_CLOEXEC) && !defined(KS_PLAIN)
    int result = socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds);
#else
    int result = socketpair(AF_UNIX, type, 0, fds);
    if (result == 0 && (fcntl(fds[0], F_SETFD, FD_CLOEXEC) < 0 || fcntl(fds[1], F_SETFD, FD_CLOEXEC) < 0))
        result = -1;
#endif
    if (result < 0)
        return -errno;
    if (fcntl(fds[1], F_SETFL, O_RDWR | O_NONBLOCK) < 0) {
        result = -errno;
        close(fds[0]);
        close(fds[1]);
        return result;
    }
    if (message_bytes > 0) {
        /* Linux doubles what is asked, and refuses a message that with 32 bytes more would not fit. Towards the
         * application nothing may be refused. */
        int most = (int)(message_bytes + 32) / 2, all = MESSAGE_BYTES_MAX;
        (void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &most, sizeof most);
        (void)setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &all, sizeof all);
    }
    ks_front_own(fds[1]);
    *app = fds[0];
    *engine = fds[1];
    return 0;
}

#if defined(__linux__) && !defined(KS_PLAIN)
/* The connection that this process made to `listener`; -errno. Anyone on the machine may have connected before it. */
static int accept_own(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct ucred peer;
        socklen_t len = sizeof peer;
        if (fd < 0)
            return -errno;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid == getpid())
            return fd;
        close(fd);
    }
}

int ks_front_join(int app_fd, int *engine)
{
    /* Linux gives a socket that is bound to no name an abstract one (unix(7), autobind). */
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t len = sizeof name;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result, fl = fcntl(app_fd, F_GETFL);
    if (fl < 0 || listener < 0 || bind(listener, (struct sockaddr *)&name, sizeof name.sun_family) < 0 ||
        listen(listener, 16) < 0 || getsockname(listener, (struct sockaddr *)&name, &len) < 0 ||
        fcntl(app_fd, F_SETFL, fl | O_NONBLOCK) < 0) {
        result = -errno;
    } else {
        result = connect(app_fd, (struct sockaddr *)&name, len) < 0 ? -errno : accept_own(listener);
        (void)fcntl(app_fd, F_SETFL, fl);
    }
    if (listener >= 0)
        close(listener);
    if (result < 0)
        return result;
    ks_front_own(result);
    *engine = result;
    return 0;
}
#else
int ks_front_join(int app_fd, int *engine)
{
    (void)app_fd;
    (void)engine;
    return -EOPNOTSUPP;
}
#endif

int ks_front_fill(int app, int *sndbuf)
{
    static const char zeros[4096];
    socklen_t len = sizeof *sndbuf;
    int smallest = 1, total = 0;
    if (getsockopt(app, SOL_SOCKET, SO_SNDBUF, sndbuf, &len) < 0)
        return -errno;
#ifdef __linux__
    *sndbuf /= 2; /* Linux doubles what is set, and reports the double (socket(7)) */
#endif
    if (setsockopt(app, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest) < 0)
        return -errno;
    for (size_t piece = sizeof zeros; piece > 0;) {
        ssize_t n = send(app, zeros, piece, MSG_DONTWAIT);
        if (n > 0)
            total += (int)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            piece /= 2; /* to the last byte: not even a short send may slip in before the connection stands */
        else if (errno != EINTR)
            return -errno;
    }
    return total;
}

int ks_front_block(int app)
{
    int sndbuf, fill = ks_front_fill(app, &sndbuf);
    return fill < 0 ? fill : 0;
}

void ks_front_unblock(int engine)
{
    char waste[4096];
    while (recv(engine, waste, sizeof waste, MSG_DONTWAIT) > 0)
        ;
}

int ks_front_install(int app, int app_fd)
{
    int fl = fcntl(app_fd, F_GETFL), result = 0;
    if (fl < 0 || fcntl(app, F_SETFL, fl & O_NONBLOCK) < 0)
        result = -errno;
#if defined(__linux__) && !defined(KS_PLAIN)
    else if (dup3(app, app_fd, O_CLOEXEC) < 0)
        result = -errno;
#else
    else if (dup2(app, app_fd) < 0 || fcntl(app_fd, F_SETFD, FD_CLOEXEC) < 0)
        result = -errno;
#endif
    close(app);
    return result;
}

uint64_t ks_front_inode(int fd)
{
    struct stat st;
    return fd < 0 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode) ? 0 : (uint64_t)st.st_ino;
}

static _Atomic uint64_t *set_of(uint64_t inode)
{
    return &obituaries[(inode * 0x9e3779b97f4a7c15u >> 40) % SETS * WAYS];
}

/* Where in its set it goes: its own place, a free one, or the oldest's; and what was seen there. */
typedef struct {
    uint32_t at;
    uint64_t seen;
} grave_place;

static grave_place find_place(_Atomic uint64_t *set, uint64_t inode, uint64_t round)
{
    grave_place oldest = {0};
    uint32_t age = 0;
    for (uint32_t i = 0; i < WAYS; i++) {
        grave_place p = {i, atomic_load(&set[i])};
        if (p.seen == 0 || p.seen >> 32 == (inode & 0xffffffff))
            return p;
        uint32_t a = (uint32_t)(round - (p.seen >> 16 & 0xffff)) & 0xffff;
        if (a >= age) {
            age = a;
            oldest = p;
        }
    }
    return oldest;
}

void ks_front_bury(uint64_t inode, int error)
{
    KS_ASSERT(error > 0 && error <= UINT16_MAX); /* 0 is "no error" to who asks */
    _Atomic uint64_t *set = set_of(inode);
    uint64_t round = atomic_fetch_add(&rounds, 1) & 0xffff;
    uint64_t entry = inode << 32 | round << 16 | (uint64_t)(error & 0xffff);
    grave_place p;
    do
        p = find_place(set, inode, round);
    while (!atomic_compare_exchange_strong(&set[p.at], &p.seen, entry)); /* another thread has taken it */
}

int ks_front_exhume(uint64_t inode)
{
    _Atomic uint64_t *set = set_of(inode);
    for (uint32_t i = 0; i < WAYS; i++) {
        uint64_t seen = atomic_load(&set[i]);
        if (seen != 0 && seen >> 32 == (inode & 0xffffffff) && atomic_compare_exchange_strong(&set[i], &seen, 0))
            return (int)(seen & 0xffff);
    }
    return 0;
}

void ks_front_note_end(uint64_t inode)
{
    ks_front_bury(~inode, EPIPE);
}

bool ks_front_had_end(uint64_t inode)
{
    return ks_front_exhume(~inode) != 0;
}
