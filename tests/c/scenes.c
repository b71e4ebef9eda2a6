/* SPDX-License-Identifier: MIT */
/* Prints what an adaptive sender makes of each scene: scenes [SEEDS [NAME]] */
#include "neighbours.h"
#include "scenes.h"

int main(int argc, char **argv)
{
    int seeds = argc > 1 ? atoi(argv[1]) : 5, first = getenv("FIRST") ? atoi(getenv("FIRST")) : 1;
    printf("%-15s %7s %6s %6s  %8s %8s %8s %9s %9s %9s %7s\n", "scene", "Mbit/s", "least", "cost", "sent", "overflow", "lost",
           "again", "queue p50", "p99 ms", "still");
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        if (argc > 2 && strcmp(argv[2], scenes[i].name) != 0)
            continue;
        scene_result sum = {0};
        double least = 1e9;
        for (int seed = first; seed < first + seeds; seed++) {
            scene_result r = scene_run(&scenes[i], (uint64_t)seed);
            sum.mbit += r.mbit / seeds;
            sum.cost += r.cost / seeds;
            sum.sent += r.sent / (uint64_t)seeds;
            sum.overflowed += r.overflowed / (uint64_t)seeds;
            sum.lost += r.lost / (uint64_t)seeds;
            sum.count.retrans_segs += r.count.retrans_segs / (uint64_t)seeds;
            sum.queue_p50_ms += r.queue_p50_ms / seeds;
            sum.queue_p99_ms += r.queue_p99_ms / seeds;
            sum.still_ms = r.still_ms > sum.still_ms ? r.still_ms : sum.still_ms;
            least = r.mbit < least ? r.mbit : least;
        }
        printf("%-15s %7.1f %6.1f %6.3f  %8llu %8llu %8llu %9llu %9.1f %9.1f %7.0f\n", scenes[i].name, sum.mbit, least, sum.cost,
               (unsigned long long)sum.sent, (unsigned long long)sum.overflowed, (unsigned long long)sum.lost,
               (unsigned long long)sum.count.retrans_segs, sum.queue_p50_ms, sum.queue_p99_ms, sum.still_ms);
        fflush(stdout);
    }
    for (int loss = 0; loss <= 10; loss += loss == 0 ? 1 : loss == 1 ? 4 : 5) {
        scene sc = {.name = "requests", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .loss = loss};
        request_result sum = {0};
        if (argc > 2 && strcmp(argv[2], sc.name) != 0)
            continue;
        for (int seed = 1; seed <= seeds; seed++) {
            request_result r = request_run(&sc, (uint64_t)seed, 2000);
            sum.p50_ms += r.p50_ms / seeds;
            sum.p99_ms += r.p99_ms / seeds;
            sum.cost += r.cost / seeds;
        }
        printf("requests %2d %%  p50 %.1f  p99 %.1f ms  cost %.3f\n", loss, sum.p50_ms, sum.p99_ms, sum.cost);
    }
    for (size_t i = 0; i < sizeof neighbourhoods / sizeof *neighbourhoods; i++) {
        if (argc > 2 && strcmp(argv[2], "neighbours") != 0 && strcmp(argv[2], neighbourhoods[i].name) != 0)
            continue;
        for (int seed = 1; seed <= seeds; seed++) {
            neighbours_result r = neighbours_run(&neighbourhoods[i], (uint64_t)seed);
            printf("%-15s ours", neighbourhoods[i].name);
            for (int flow = 0; flow < neighbourhoods[i].ours; flow++)
                printf(" %.1f", r.mbit[flow]);
            printf("; TCP %.1f Mbit/s; share %.2f, smallest %.2f of the mean, Jain %.3f\n", r.tcp_mbit, r.share,
                   r.smallest, r.jain);
        }
    }
    return 0;
}
