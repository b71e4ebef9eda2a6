/* SPDX-License-Identifier: MIT */
#include "os/front.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void test_front_fill_and_drain(void)
{
    int app, engine, sndbuf;
    char waste[4096];
    CHECK_EQ(ks_front_pair(&app, &engine, 0), 0);
    CHECK(fcntl(engine, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(app, F_GETFD) & FD_CLOEXEC);
    int bytes = ks_front_fill(app, &sndbuf), left = bytes;
    struct pollfd p = {.fd = app, .events = POLLOUT};
    CHECK(bytes > 0 && poll(&p, 1, 0) == 0);
    CHECK(send(app, "x", 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    for (ssize_t n; left > 0 && (n = read(engine, waste, sizeof waste)) > 0;)
        left -= (int)n;
    CHECK_EQ(left, 0);
    CHECK_EQ(setsockopt(app, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf), 0);
    CHECK_EQ(poll(&p, 1, 0), 1);
    CHECK_EQ(send(app, "x", 1, MSG_DONTWAIT), 1);
    close(app);
    ks_front_close(engine);
    CHECK_EQ(ks_front_fill(-1, &sndbuf), -EBADF);
}

static void test_front_install_keeps_the_number(void)
{
    int app, engine, number = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_EQ(ks_front_pair(&app, &engine, 0), 0);
    uint64_t inode = ks_front_inode(app);
    CHECK_EQ(ks_front_install(app, number), 0);
    CHECK(ks_front_inode(number) == inode && ks_front_inode(app) == 0);
    CHECK(fcntl(number, F_GETFL) & O_NONBLOCK);
    CHECK(ks_front_pair(&app, &number, 0) == 0 && ks_front_install(app, -1) == -EBADF && fcntl(app, F_GETFD) < 0);
    ks_front_close(number);
    ks_front_close(engine);
}

static void test_front_join_keeps_the_open_file(void)
{
#if defined(__linux__) && !defined(KS_PLAIN)
    int engine, second, app = socket(AF_UNIX, SOCK_STREAM, 0), other = dup(app);
    uint64_t inode = ks_front_inode(app);
    char byte;
    CHECK_EQ(ks_front_join(app, &engine), 0);
    CHECK(ks_front_inode(app) == inode && ks_front_inode(engine) != 0);
    CHECK((fcntl(app, F_GETFL) & O_NONBLOCK) == 0 && (fcntl(engine, F_GETFL) & O_NONBLOCK) != 0);
    CHECK(fcntl(engine, F_GETFD) & FD_CLOEXEC);
    CHECK(send(other, "x", 1, 0) == 1 && recv(engine, &byte, 1, 0) == 1 && byte == 'x');
    CHECK_EQ(ks_front_join(app, &second), -EISCONN);
    ks_front_close(engine);
    CHECK_EQ(recv(app, &byte, 1, 0), 0);
    close(app);
    close(other);
    int inet = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(ks_front_join(inet, &second) < 0);
    close(inet);
    CHECK_EQ(ks_front_join(-1, &second), -EBADF);
#endif
}

static void test_front_obituaries(void)
{
    CHECK_EQ(ks_front_exhume(1), 0);
    ks_front_bury(1, ECONNRESET);
    ks_front_bury(1, ETIMEDOUT); /* a second death replaces the first */
    CHECK_EQ(ks_front_exhume(2), 0);
    CHECK_EQ(ks_front_exhume(1), ETIMEDOUT);
    CHECK_EQ(ks_front_exhume(1), 0);
    /* More than it holds: the newest are all there, and none is another's. */
    enum { DEATHS = 200000, NEWEST = 20000 };
    int wrong = 0;
    for (int i = 1; i <= DEATHS; i++)
        ks_front_bury((uint64_t)i, i % 100 + 1);
    for (int i = DEATHS; i > 0; i--) {
        int found = ks_front_exhume((uint64_t)i);
        wrong += (found == 0 && i > DEATHS - NEWEST) || (found != 0 && found != i % 100 + 1);
    }
    CHECK_EQ(wrong, 0);
}

static void *bury_some(void *arg)
{
    for (uint64_t i = 0; i < 2000; i++)
        ks_front_bury(*(const uint64_t *)arg + i, 7);
    return NULL;
}

static void test_front_obituaries_from_threads(void)
{
    pthread_t threads[4];
    uint64_t first[4];
    int found = 0;
    for (uint64_t i = 0; i < 4; i++) {
        first[i] = 1000000 + i * 2000;
        pthread_create(&threads[i], NULL, bury_some, &first[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (uint64_t i = 1000000; i < 1008000; i++)
        found += ks_front_exhume(i) == 7;
    CHECK_EQ(found, 8000);
}

/* A listener's: never writable, and no error when its engine lets go of it. */
static void test_front_blocked_for_good(void)
{
    int app, engine, more = 100000;
    char byte;
    CHECK_EQ(ks_front_pair(&app, &engine, 0), 0);
    CHECK_EQ(ks_front_block(app), 0);
    struct pollfd p = {.fd = app, .events = POLLOUT};
    CHECK_EQ(poll(&p, 1, 0), 0);
    CHECK(send(engine, "x", 1, 0) == 1 && recv(app, &byte, 1, 0) == 1); /* the other way is open */
    CHECK(setsockopt(engine, SOL_SOCKET, SO_SNDBUF, &more, sizeof more) == 0);
    CHECK_EQ(poll(&p, 1, 0), 0);
    ks_front_unblock(engine);
    ks_front_close(engine);
    CHECK_EQ(recv(app, &byte, 1, 0), 0);
    close(app);
}

static void test_front_forgotten_after_fork(void)
{
    int app, engine, status, mine = dup(0);
    CHECK_EQ(ks_front_pair(&app, &engine, 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        ks_front_forget();
        ks_front_bury(42, EPIPE);
        _exit(fcntl(engine, F_GETFD) < 0 && fcntl(app, F_GETFD) >= 0 && fcntl(mine, F_GETFD) >= 0 ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(fcntl(engine, F_GETFD) >= 0);
    CHECK_EQ(ks_front_exhume(42), EPIPE); /* the table is shared */
    close(app);
    close(mine);
    ks_front_close(engine);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_front_fill_and_drain), TEST(test_front_install_keeps_the_number),
        TEST(test_front_join_keeps_the_open_file), TEST(test_front_obituaries), TEST(test_front_obituaries_from_threads),
        TEST(test_front_blocked_for_good), TEST(test_front_forgotten_after_fork),
    };
    if (ks_front_init() < 0)
        return 2;
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
