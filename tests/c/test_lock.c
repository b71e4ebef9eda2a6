/* SPDX-License-Identifier: MIT */
/* The order of locks, and that a child of this process that breaks it ends with the names of both. */
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "smux/codec.h"
#include "base/lock.h"

static ks_lock turning, crypts, lobby, notes, other_notes;

static void make_all(void)
{
    ks_lock_init(&turning, KS_RANK_TURNING);
    ks_lock_init(&crypts, KS_RANK_CRYPTS);
    ks_lock_init(&lobby, KS_RANK_LOBBY);
    ks_lock_init(&notes, KS_RANK_NOTES);
    ks_lock_init(&other_notes, KS_RANK_NOTES);
}

/* Runs `work` in a child. -> whether it was ended by abort(), with this line as its last words. */
static int dies_with(void (*work)(void), const char *last_words)
{
    int pipes[2], status = 0;
    char said[1000];
    size_t size = 0;
    if (pipe(pipes) < 0)
        return 0;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(pipes[1], STDERR_FILENO);
        work();
        _exit(0);
    }
    close(pipes[1]);
    for (ssize_t n; (n = read(pipes[0], said + size, sizeof said - 1 - size)) > 0;)
        size += (size_t)n;
    said[size] = 0;
    close(pipes[0]);
    int died = waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    if (!died || strstr(said, last_words) == NULL)
        printf("status %d, said: %s\n", status, said);
    return died && strstr(said, last_words) != NULL;
}

static void test_lock_in_order(void)
{
    make_all();
    for (int i = 0; i < 3; i++) {
        ks_lock_take(&turning);
        ks_python_enter();
        ks_lock_take(&lobby);
        ks_lock_take(&notes);
        ks_lock_release(&lobby); /* in any order */
        ks_lock_release(&notes);
        ks_python_leave();
        CHECK(ks_lock_try(&notes));
        ks_lock_release(&notes);
        ks_lock_release(&turning);
    }
}

static void take_turning_under_notes(void)
{
    ks_lock_take(&notes);
    ks_lock_take(&turning);
}

static void take_two_of_one_kind(void)
{
    ks_lock_take(&notes);
    ks_lock_take(&other_notes);
}

static void take_twice(void)
{
    ks_lock_take(&notes);
    ks_lock_take(&notes);
}

static void release_another(void)
{
    ks_lock_take(&notes);
    ks_lock_release(&other_notes);
}

static void wait_under_turning(void)
{
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    ks_lock_take(&turning);
    ks_lock_take(&notes);
    ks_lock_wait(&notes, &condition);
}

static void test_lock_against_the_order(void)
{
    make_all();
    CHECK(dies_with(take_turning_under_notes, "engine.turning taken while engine.lock is held"));
    CHECK(dies_with(take_two_of_one_kind, "engine.lock taken while engine.lock is held"));
    CHECK(dies_with(take_twice, "engine.lock taken a second time"));
    CHECK(dies_with(release_another, "engine.lock let go of by a thread that does not hold it"));
    CHECK(dies_with(wait_under_turning, "engine.lock waited with for a condition while engine.turning is held"));
}

/* A codec that says whose locks it meets: none below the GIL may be held when it is called, nor be waited for above it. */
static int run_codec(uint64_t id, int what, const uint8_t *in, int size, uint8_t *out, int cap)
{
    (void)what, (void)in, (void)size, (void)out, (void)cap;
    if (id == 1)
        ks_lock_take(&crypts);
    return 7;
}

static void call_codec_under_lobby(void)
{
    ks_lock_take(&lobby);
    (void)ks_codec_call(2, KS_CODEC_COMPRESS, NULL, 0, NULL, 0);
}

static void take_crypts_in_codec(void)
{
    (void)ks_codec_call(1, KS_CODEC_COMPRESS, NULL, 0, NULL, 0);
}

static void test_lock_and_the_gil(void)
{
    make_all();
    ks_codec_use(run_codec);
    ks_lock_take(&turning);
    CHECK_EQ(ks_codec_call(2, KS_CODEC_COMPRESS, NULL, 0, NULL, 0), 7);
    ks_lock_release(&turning);
    CHECK(dies_with(call_codec_under_lobby, "the GIL taken while lobby.lock is held"));
    CHECK(dies_with(take_crypts_in_codec, "crypts.table_lock taken while the GIL is held"));
}

/* A lock that is tried waits for nobody, and so may be taken under any other; who holds it counts as its holder all the same. */
static void take_turning_under_tried_notes(void)
{
    if (ks_lock_try(&notes))
        ks_lock_take(&turning);
}

static void test_lock_tried(void)
{
    make_all();
    ks_lock_take(&notes);
    CHECK(ks_lock_try(&turning));
    CHECK(!ks_lock_try(&turning));
    ks_lock_release(&turning);
    ks_lock_release(&notes);
    CHECK(dies_with(take_turning_under_tried_notes, "engine.turning taken while engine.lock is held"));
}

static void assert_wrongly(void)
{
    int two = 2;
    KS_ASSERT(two + two == 5);
}

static void test_assert_says_what_does_not_hold(void)
{
    KS_ASSERT(1 + 1 == 2);
    CHECK(dies_with(assert_wrongly, "assert_wrongly: does not hold: two + two == 5"));
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_lock_in_order),
        TEST(test_lock_against_the_order),
        TEST(test_lock_and_the_gil),
        TEST(test_lock_tried),
        TEST(test_assert_says_what_does_not_hold),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
