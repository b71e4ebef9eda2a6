/* SPDX-License-Identifier: MIT */
/* What the ARQ costs per byte at a window, under 10 % loss: cost_kcp WINDOW [LOSS_PERCENT]. `make cost` counts instructions
 * by callgrind, inside of work_* only (the network and the application are not the ARQ's cost); alone it takes the time. */
#include <time.h>

#include "check.h"
#include "sim.h"

void work_input(ks_kcp *k, const net_packet *p, uint32_t now);
void work_flush(sim *s, int end);
void work_move(ks_kcp *from, ks_kcp *to);

static uint64_t spent_ns;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noinline)) void work_input(ks_kcp *k, const net_packet *p, uint32_t now)
{
    ks_kcp_input_untrusted(k, p->bytes, p->size, sim_us(now), false);
}

__attribute__((noinline)) void work_flush(sim *s, int end)
{
    sim_flush(s, end);
}

__attribute__((noinline)) void work_move(ks_kcp *from, ks_kcp *to)
{
    static const uint8_t block[65536];
    for (uint32_t room; (room = ks_kcp_room(from)) > 0;)
        ks_kcp_send(from, block, room < sizeof block ? room : (uint32_t)sizeof block);
    for (ks_seg *seg; (seg = ks_kcp_pop(to)) != NULL; ks_seg_unref(seg))
        ;
}

int main(int argc, char **argv)
{
    uint32_t window = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 256;
    ks_kcp_config c = {.conv = 1, .mtu = 1400, .snd_wnd = window, .rcv_wnd = window, .interval = 20, .resend = 2,
                       .nodelay = true, .nc = true, .stream = true};
    sim s;
    sim_init(&s, &c, &c, 0, 0);
    s.fate = fate_random_loss;
    s.loss_percent = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 10;
    s.delay_ms = 25;
    const uint64_t segments = 150000;
    while (s.end[1].kcp.rcv_read < segments) {
        uint64_t start = now_ns();
        work_move(&s.end[0].kcp, &s.end[1].kcp);
        for (int i = 0; i < 2; i++)
            if (ks_kcp_next(&s.end[i].kcp, sim_us(s.now)) == 0)
                work_flush(&s, i);
        spent_ns += now_ns() - start;
        uint32_t a = ks_kcp_next(&s.end[0].kcp, sim_us(s.now)), b = ks_kcp_next(&s.end[1].kcp, sim_us(s.now)), wait = a < b ? a : b;
        wait = sim_arrival(&s) < wait ? sim_arrival(&s) : wait;
        s.now += wait;
        for (net_packet *p; (p = sim_arrived(&s)) != NULL;) {
            start = now_ns();
            work_input(&s.end[p->to].kcp, p, s.now);
            spent_ns += now_ns() - start;
            free(p);
        }
    }
    const ks_kcp_counts *n = &s.end[0].kcp.count;
    printf("window %5u, loss %u %%: %.2f ns per byte (network included), %llu of %llu segments sent again, %u virtual ms\n",
           window, s.loss_percent, (double)spent_ns / ((double)s.end[1].kcp.rcv_read * 1376), (unsigned long long)n->retrans_segs,
           (unsigned long long)n->out_segs, s.now);
    sim_free(&s);
    return 0;
}
