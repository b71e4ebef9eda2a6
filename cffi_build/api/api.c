/* SPDX-License-Identifier: MIT */
/* Engines by number, and plain UDP descriptors. */
#include "api/api_parts.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/listener.h"
#include "os/front.h"
#include "path/known.h"
#include "wire/oob.h"

#define EXIT_LINGER_S 5.0
#define EXIT_LINGER_MOST_S 1e6

static _Atomic(ks_engine *) engines[KS_ENGINES_MAX];

ks_engine *ks_engine_of(int number)
{
    return number < 0 || number >= KS_ENGINES_MAX ? NULL : atomic_load(&engines[number]);
}

/* ---- engines ---- */

int ks_engine_open(int udp_mode, int busy_poll)
{
    int error = ks_front_init();
    if (error < 0)
        return error;
    if (udp_mode < KS_UDP_AUTO || udp_mode > KS_UDP_GSO)
        return -EINVAL;
    ks_engine *e = ks_engine_new((ks_udp_way)udp_mode, busy_poll != 0, &ks_clock_monotonic, &error);
    if (e == NULL)
        return error;
    for (int i = 0; i < KS_ENGINES_MAX; i++) {
        ks_engine *none = NULL;
        if (atomic_compare_exchange_strong(&engines[i], &none, e))
            return i;
    }
    ks_engine_del(e);
    return -EMFILE;
}

int ks_engine_run(int engine)
{
    ks_engine *e = ks_engine_of(engine);
    if (e == NULL)
        return -ESRCH;
    ks_engine_loop(e);
    return 0;
}

int ks_engine_stop(int engine)
{
    ks_engine *e = ks_engine_of(engine);
    if (e == NULL)
        return -ESRCH;
    ks_engine_halt(e);
    return 0;
}

typedef struct {
    ks_note note;
    int left;
} drain_note;

static int run_drain(ks_engine *e, ks_note *n)
{
    drain_note *d = (drain_note *)n;
    d->left = ks_engine_leave(e);
    return d->left == 0 ? 0 : KS_EAGAIN;
}

int ks_engine_drain(int engine, int timeout_ms)
{
    ks_engine *e = ks_engine_of(engine);
    if (e == NULL)
        return -ESRCH;
    drain_note d = {.note = {.run = run_drain, .wait_ms = (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms)}};
    int answer = ks_engine_ask(e, &d.note);
    return answer == -ETIMEDOUT ? d.left : answer;
}

static _Atomic(pid_t) drains; /* the process whose engines a call at its exit drains: a forked child inherits the call alone */

static uint64_t exit_linger_us(void)
{
    const char *text = getenv("KCPSOCK_EXIT_LINGER");
    char *end = NULL;
    double s = text != NULL ? strtod(text, &end) : 0;
    if (end == NULL || end == text || *end != '\0' || !(s >= 0))
        s = EXIT_LINGER_S;
    return (uint64_t)((s < EXIT_LINGER_MOST_S ? s : EXIT_LINGER_MOST_S) * 1e6);
}

static void drain_all(void)
{
    if (getpid() != atomic_load(&drains))
        return;
    uint64_t deadline_us = ks_clock_monotonic.now_us(NULL) + exit_linger_us();
    for (int i = 0; i < KS_ENGINES_MAX; i++) {
        uint64_t now_us = ks_clock_monotonic.now_us(NULL);
        const ks_engine *e = ks_engine_of(i);
        if (e != NULL && ks_engine_is_running(e))
            (void)ks_engine_drain(i, now_us < deadline_us ? (int)((deadline_us - now_us) / 1000) : 0);
    }
}

int ks_drain_at_exit(void)
{
    static atomic_bool registered;
    atomic_store(&drains, getpid());
    return atomic_exchange(&registered, true) || atexit(drain_all) == 0 ? 0 : -ENOMEM;
}

int ks_set_memory(int64_t bytes)
{
    if (bytes < 0)
        return -EINVAL;
    ks_mem_set_bound((uint64_t)bytes);
    return 0;
}

void ks_forget_engines(void)
{
    /* Their memory is lost to this process: the fork copied it in the middle of something. */
    for (int i = 0; i < KS_ENGINES_MAX; i++)
        atomic_store(&engines[i], NULL);
    if (ks_front_init() == 0)
        ks_front_forget();
    ks_oob_forget();
    ks_crypts_forget_holder();
    ks_known_forget_holder();
}

/* ---- plain descriptors ---- */

int ks_udp_park(int udp_fd)
{
    return ks_udp_hide(udp_fd);
}

int ks_udp_can_spread(void)
{
    return ks_udp_spreads();
}

int ks_udp_shut(int udp_fd)
{
    return ks_udp_shut_out(udp_fd);
}

int ks_udp_open(int udp_fd)
{
    return ks_udp_let_in(udp_fd);
}

typedef struct {
    ks_note note;
    ks_addr name;
    bool v6only, reuse;
    uint16_t number;
} adopt_note;

static int run_adopt(ks_engine *e, ks_note *n)
{
    const adopt_note *a = (const adopt_note *)n;
    ks_ports_look(ks_engine_ports(e));
    return ks_port_adopt(ks_engine_ports(e), &a->name, a->v6only, a->reuse);
}

static int run_look(ks_engine *e, ks_note *n)
{
    (void)n;
    ks_ports_look(ks_engine_ports(e));
    return 0;
}

static int run_allow_beside(ks_engine *e, ks_note *n)
{
    ks_ports_allow_beside(ks_engine_ports(e), ((const adopt_note *)n)->number);
    return 0;
}

static int run_scatter(ks_engine *e, ks_note *n)
{
    ks_ports_scatter(ks_engine_ports(e), ((const adopt_note *)n)->number);
    return 0;
}

static void ask_all(const adopt_note *what, ks_note_run *run)
{
    for (int i = 0; i < KS_ENGINES_MAX; i++) {
        ks_engine *e = ks_engine_of(i);
        adopt_note a = *what;
        a.note.run = run;
        if (e != NULL)
            (void)ks_engine_ask(e, &a.note);
    }
}

int ks_udp_adopt(int family, const uint8_t address[16], int port, uint32_t scope, int v6only, int reuse)
{
    adopt_note a = {.v6only = v6only != 0, .reuse = reuse != 0, .number = (uint16_t)port};
    if ((family != AF_INET && family != AF_INET6) || port < 0 || port > UINT16_MAX || address == NULL)
        return -EINVAL;
    a.name.sa.sa_family = (sa_family_t)family;
    if (family == AF_INET6) {
        memcpy(&a.name.in6.sin6_addr, address, 16);
        a.name.in6.sin6_port = htons((uint16_t)port);
        a.name.in6.sin6_scope_id = scope;
    } else {
        memcpy(&a.name.in4.sin_addr, address, 4);
        a.name.in4.sin_port = htons((uint16_t)port);
    }
    ask_all(&a, run_look); /* all first: a port may be held by another engine's for its listener */
    for (int i = 0; i < KS_ENGINES_MAX; i++) {
        ks_engine *e = ks_engine_of(i);
        adopt_note mine = a;
        mine.note.run = run_adopt;
        int answer = e == NULL ? -ENOENT : ks_engine_ask(e, &mine.note);
        if (answer != -ENOENT && answer != -ESHUTDOWN)
            return answer;
    }
    /* Another name: what is left of that number may overlap with it. */
    ask_all(&a, run_allow_beside);
    ask_all(&a, run_scatter);
    ask_all(&a, run_look);
    return -ENOENT;
}

int ks_poll(int fd, int events, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = (short)events};
    return poll(&p, 1, timeout_ms) < 0 ? -errno : p.revents;
}
