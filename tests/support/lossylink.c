// SPDX-License-Identifier: MIT
//
// lossylink: a bad network for tests and benchmarks, between UDP sockets on loopback or between two network namespaces. Linux
// only; one thread, no allocation once it runs. What happens to packets: lossylink_impair.h.
//
// A command on stdin acts after all packets that were sent to the link before it: they are drained first.

#define _GNU_SOURCE
#include "lossylink.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 256,
    SETTLE_TURNS = 128, // bound on draining before a command: in so many turns a socket yields more than its buffer holds
};

static const char *const NAMES[] = {"up", "down"};
struct direction dirs[2];
uint32_t packet_bytes = 2048;
static uint32_t slots = 65536;
static uint64_t seed = 1, slack_ns, sample_ns, samples_from_ns;
static bool in_a_hurry;
static const struct face *face;
static int epoll = -1, timer = -1;

_Noreturn void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("lossylink: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

// ---- words from outside

void put(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; // nobody reads: not our loss
        text += n;
        len -= (size_t)n;
    }
}

static void print_stats(void)
{
    static char text[4096];
    uint64_t dropped[2] = {0};
    int len = snprintf(text, sizeof text, "{");
    len += face->stats(text + len, sizeof text - (size_t)len, dropped);
    for (int w = UP; w <= DOWN; w++) {
        const struct counts *n = &dirs[w].n;
        const struct {
            const char *name;
            uint64_t value;
        } fields[] = {
            {"received", n->received},
            {"lost", n->lost},
            {"duplicated", n->duplicated},
            {"reordered", n->reordered},
            {"queue_dropped", n->queue_dropped},
            {"mtu_dropped", n->mtu_dropped},
            {"sent", n->sent},
            {"held", direction_held(&dirs[w])},
            {"burst_lost", n->burst_lost},
            {"blackholed", n->blackholed},
            {"pool_dropped", n->pool_dropped},
            {"oversize", n->oversize},
            {"orphaned", n->orphaned},
            {"send_failed", n->send_failed},
            {"refused", n->refused},
            {"kernel_dropped", n->kernel_dropped + dropped[w]},
            {"received_bytes", n->received_bytes},
            {"sent_bytes", n->sent_bytes},
            {"received_ip_bytes", n->received_bytes + n->received * dirs[w].head_bytes},
            {"delay_us", n->delay_us},
            {"late_max_us", n->late_max_us},
            {"late_packets", n->late_packets},
        };
        len += snprintf(text + len, sizeof text - (size_t)len, "\"%s\": {", NAMES[w]);
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            len += snprintf(text + len, sizeof text - (size_t)len, "%s\"%s\": %" PRIu64, i ? ", " : "", fields[i].name,
                            fields[i].value);
        len += snprintf(text + len, sizeof text - (size_t)len, "}, ");
    }
    len += snprintf(text + len, sizeof text - (size_t)len, "\"seed\": %" PRIu64 "}\n", seed);
    put(text, (size_t)len);
}

// One line: {"from_ns": of the first sample, "every_ns", "up": [[in_bytes, out_bytes, lost, queue_dropped, queue_bytes], ...]}
static void print_samples(void)
{
    char text[128];
    put(text, (size_t)snprintf(text, sizeof text, "{\"from_ns\": %" PRIu64 ", \"every_ns\": %" PRIu64, samples_from_ns,
                               sample_ns));
    for (int w = UP; w <= DOWN; w++) {
        put(text, (size_t)snprintf(text, sizeof text, ", \"%s\": [", NAMES[w]));
        for (uint32_t i = 0; i < dirs[w].samples_len; i++) {
            const struct sample *s = &dirs[w].samples[i];
            put(text, (size_t)snprintf(text, sizeof text,
                                       "%s[%" PRIu64 ",%" PRIu64 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 "]", i ? "," : "",
                                       s->in_bytes, s->out_bytes, s->lost, s->queue_dropped, s->queue_bytes));
        }
        put("]", 1);
    }
    put("}\n", 2);
}

// Sets `[up-|down-]name`, in both directions without prefix. Returns NULL, or what is wrong.
static const char *apply(const char *name, const char *value)
{
    bool in[2] = {true, true};
    for (int w = UP; w <= DOWN; w++) {
        size_t len = strlen(NAMES[w]);
        if (strncmp(name, NAMES[w], len) == 0 && name[len] == '-') {
            in[!w] = false;
            name += len + 1;
            break;
        }
    }
    uint64_t now = now_ns();
    for (int w = UP; w <= DOWN; w++) {
        const char *wrong = in[w] ? direction_set(&dirs[w], now, name, value) : NULL;
        if (wrong)
            return wrong;
    }
    return NULL;
}

// Returns false on `quit`. Each other command is answered by one line.
static bool command(char *line)
{
    char *rest = NULL, *word = strtok_r(line, " \t\r", &rest);
    char *a = word ? strtok_r(NULL, " \t\r", &rest) : NULL, *b = a ? strtok_r(NULL, " \t\r", &rest) : NULL;
    const char *wrong = NULL;

    if (!word)
        return true;
    if (strcmp(word, "quit") == 0)
        return false;
    if (strcmp(word, "stats") == 0) {
        print_stats();
        return true;
    }
    if (strcmp(word, "samples") == 0) {
        print_samples();
        return true;
    }
    if (strcmp(word, "blackhole") == 0) {
        bool on = a && strcmp(a, "on") == 0;
        if (!a || (!on && strcmp(a, "off") != 0) || (b && strcmp(b, "up") != 0 && strcmp(b, "down") != 0))
            wrong = "wants on|off [up|down]";
        else
            for (int w = UP; w <= DOWN; w++)
                if (!b || strcmp(b, NAMES[w]) == 0)
                    dirs[w].blackhole = on;
    } else if (strcmp(word, "set") == 0) {
        wrong = a && b ? apply(a, b) : "wants NAME VALUE";
    } else {
        wrong = "no such command (stats, samples, set, blackhole, quit)";
    }
    char text[256];
    int len = wrong ? snprintf(text, sizeof text, "error %.64s %.64s: %s\n", word, a ? a : "", wrong)
                    : snprintf(text, sizeof text, "ok\n");
    put(text, (size_t)len);
    return true;
}

// Returns false when the link shall end: quit, or the other end of stdin is gone.
static bool read_commands(void)
{
    static char buffer[4096];
    static size_t len;
    ssize_t got = read(STDIN_FILENO, buffer + len, sizeof buffer - len);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN;
    if (got == 0)
        return false;
    len += (size_t)got;
    for (char *end; (end = memchr(buffer, '\n', len)) != NULL;) {
        size_t line = (size_t)(end - buffer) + 1;
        *end = '\0';
        if (!command(buffer))
            return false;
        memmove(buffer, buffer + line, len - line);
        len -= line;
    }
    if (len == sizeof buffer)
        len = 0; // a line too long to be ours
    return true;
}

// ---- the loop

struct seen {
    bool packets, words, signal;
};

static struct seen turn(int timeout_ms)
{
    struct epoll_event events[EVENTS];
    struct seen seen = {0};
    int n = epoll_wait(epoll, events, EVENTS, timeout_ms);
    for (int i = 0; i < n; i++) {
        uint32_t what = (uint32_t)events[i].data.u64;
        if (what == EV_STDIN)
            seen.words = true;
        else if (what == EV_SIGNAL)
            seen.signal = true;
        else if (what >= EV_FACE && face->event(events[i].data.u64))
            seen.packets = true;
    }
    for (int w = UP; w <= DOWN; w++)
        if (direction_wakes(&dirs[w]) != NEVER)
            face->send(&dirs[w], now_ns());
    return seen;
}

// -> when the next one is due
static uint64_t take_samples(void)
{
    uint64_t due = samples_from_ns + dirs[UP].samples_len * sample_ns;
    for (uint64_t now = now_ns(); due <= now; due += sample_ns)
        if (!direction_sample(&dirs[UP], now) || !direction_sample(&dirs[DOWN], now))
            return NEVER;
    return due;
}

static void run(void)
{
    uint64_t armed = NEVER;
    samples_from_ns = now_ns();
    for (;;) {
        uint64_t next = NEVER;
        for (int w = UP; w <= DOWN; w++)
            if (direction_wakes(&dirs[w]) < next)
                next = direction_wakes(&dirs[w]);
        bool late = next <= now_ns();
        if (next != NEVER)
            next += slack_ns;
        if (sample_ns) {
            uint64_t sample = take_samples();
            if (sample < next)
                next = sample;
        }
        if (!late && next != armed) { // an expired timer is not re-read: it is edge-triggered, and `next` differs then
            struct itimerspec at = {0};
            if (next != NEVER)
                at.it_value = (struct timespec){(time_t)(next / NS_PER_S), (long)(next % NS_PER_S)};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
            armed = next;
        }
        struct seen seen = turn(late ? 0 : -1);
        if (!seen.words && !seen.signal)
            continue;
        for (int i = 0; i < SETTLE_TURNS && turn(0).packets; i++)
            ;
        if (seen.signal || !read_commands())
            return;
    }
}

static bool watch_for(int fd, uint64_t event, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.u64 = event};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) == 0;
}

bool watch(int fd, uint64_t event)
{
    return watch_for(fd, event, EPOLLIN);
}

// ---- the start

static const char USAGE[] =
    "usage: lossylink --target HOST:PORT [options]               a UDP relay on loopback\n"
    "       lossylink --near NETNS:DEVICE --far NETNS:DEVICE ... a TUN device in each of two network namespaces; needs root\n"
    "A bad network. Prints `port N` or `ready` when it is there, and counts as JSON at its end.\n"
    "  --seed N                of all random decisions (1)\n"
    "  --slots N               packets under way per direction (65536)\n"
    "  --packet-bytes N        the longest packet passed on (2048)\n"
    "  --slack-us N            due packets may be sent this much later, in one batch: less CPU (0)\n"
    "  --sample-ms N           notes counts and queues so often, for the command samples; 0 is never (0)\n"
    "  --hurry 0|1             runs before everyone else on its CPU, where it may (0)\n"
    "Of the relay:\n"
    "  --listen HOST:PORT      default 127.0.0.1:0, or [::1]:0 if the target is IPv6\n"
    "  --clients N             client addresses at a time; the one idle longest goes first (4096)\n"
    "  --buffer-bytes N        of each socket, each way; a burst that does not fit is kernel_dropped (4194304)\n"
    "Both directions, or one with --up-... (to the target, or far) or --down-...; the last one said counts:\n"
    "  --delay-ms D            one way (0)\n"
    "  --jitter-ms J           more delay, uniform in 0..J (0); keeps order, unless\n"
    "  --jitter-reorders 0|1   packets overtake each other by jitter, as under netem (0)\n"
    "  --loss P                probability (0)\n"
    "  --burst-loss E,L,P      Gilbert-Elliott: into the bad state, out of it, loss while in it (0,1,0)\n"
    "  --dup P                 probability (0)\n"
    "  --reorder P             probability of being held back for --reorder-ms (10) on top\n"
    "  --rate-mbit R           Mbit/s of IP packets; 0 is no limit (0)\n"
    "  --queue-kib Q           before the rate limit; what comes on top is dropped (256)\n"
    "  --path-mtu N            longer IP packets vanish without a word; 0: none does (0)\n"
    "  --path-mtu-told 0|1     their sender is told by ICMP; of TUN devices only (0)\n"
    "Commands on stdin, a line each: stats | samples | set [up-|down-]NAME VALUE | blackhole on|off [up|down] | quit\n"
    "Ends on quit, SIGTERM, SIGINT, and when stdin (a pipe or a terminal) ends; with stdin from /dev/null it goes "
    "on.\n";

uint64_t whole(const char *name, const char *value, uint64_t min, uint64_t max)
{
    char *end;
    errno = 0;
    uint64_t n = strtoull(value, &end, 0);
    if (errno || end == value || *end || *value == '-' || n < min || n > max)
        die("--%s %s: want a whole number, %" PRIu64 " to %" PRIu64, name, value, min, max);
    return n;
}

static void parse(int argc, char **argv)
{
    // Twice: the directions are made when slots and packet-bytes are known, and only then take settings.
    for (int settings = 0; settings <= 1; settings++) {
        for (int i = 1; i < argc; i += 2) {
            const char *name = argv[i], *value = argv[i + 1], *wrong;
            if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
                fputs(USAGE, stdout);
                exit(0);
            }
            if (strncmp(name, "--", 2) != 0 || !value)
                die("%s: %s (see --help)", name, value ? "not an option" : "its value is missing");
            name += 2;
            if (strcmp(name, "seed") == 0)
                seed = whole(name, value, 0, UINT64_MAX);
            else if (strcmp(name, "slots") == 0)
                slots = (uint32_t)whole(name, value, 2 * LANDING, 1 << 24);
            else if (strcmp(name, "packet-bytes") == 0)
                packet_bytes = (uint32_t)whole(name, value, 1, 65536);
            else if (strcmp(name, "slack-us") == 0)
                slack_ns = 1000 * whole(name, value, 0, 1000000);
            else if (strcmp(name, "sample-ms") == 0)
                sample_ns = 1000000 * whole(name, value, 0, 10000);
            else if (strcmp(name, "hurry") == 0)
                in_a_hurry = whole(name, value, 0, 1);
            else if (relay_face.option(name, value))
                face = &relay_face;
            else if (tun_face.option(name, value))
                face = &tun_face;
            else if (settings && (wrong = apply(name, value)) != NULL)
                die("--%s %s: %s (see --help)", name, value, wrong);
        }
        if (!face)
            die("--target HOST:PORT is missing (see --help)");
        if (!settings)
            for (unsigned w = UP; w <= DOWN; w++)
                direction_init(&dirs[w], seed, w, slots, packet_bytes);
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
    // Late packets are told of by late_max_us, whether this may be done or not.
    if (in_a_hurry && sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 10}) != 0)
        (void)setpriority(PRIO_PROCESS, 0, -20);

    // Signals are read like packets: nothing runs in a handler.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    signal(SIGTERM, SIG_DFL); // an inherited "ignore" would keep them from the signalfd
    signal(SIGINT, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    if (epoll < 0 || timer < 0 || signal_fd < 0)
        die("cannot open descriptors: %s", strerror(errno));
    if (!watch(signal_fd, EV_SIGNAL) || !watch_for(timer, EV_TIMER, EPOLLIN | EPOLLET) ||
        (!watch(STDIN_FILENO, EV_STDIN) && errno != EPERM)) // EPERM: /dev/null or a file; it tells us nothing
        die("epoll_ctl: %s", strerror(errno));
    face->open();
    run();
    print_stats();
    return 0;
}
