/* SPDX-License-Identifier: MIT */
/* The links that an adaptive sender is tried on: what users have, and some that the parameters were not chosen by. */
#ifndef SCENES_H
#define SCENES_H

#include "scene.h"

static const scene scenes[] = {
    {.name = "base 0 %", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 10,
     .least_mbit = 83, .most_cost = 1.07, .most_queue_ms = 25},
    {.name = "base 1 %", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .loss = 1,
     .least_mbit = 78, .most_cost = 1.09, .most_queue_ms = 25},
    {.name = "base 5 %", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .loss = 5,
     .least_mbit = 72, .most_cost = 1.15, .most_queue_ms = 25},
    {.name = "base 10 %", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .loss = 10,
     .least_mbit = 67, .most_cost = 1.24, .most_queue_ms = 25},
    {.name = "long 5 %", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 100, .loss = 5,
     .least_mbit = 86, .most_cost = 1.12, .most_queue_ms = 25},
    {.name = "mobile", .mbit = 10, .rtt_ms = 120, .jitter_ms = 5, .queue_kb = 128, .mb = 4, .loss = 2,
     .least_mbit = 8.2, .most_cost = 1.12, .most_queue_ms = 110},
    {.name = "home", .mbit = 50, .rtt_ms = 30, .queue_kb = 512, .mb = 15, .loss = 0.5,
     .least_mbit = 45, .most_cost = 1.06, .most_queue_ms = 50},
    {.name = "bursts", .mbit = 50, .rtt_ms = 80, .queue_kb = 256, .mb = 10, .bad_in = 1, .bad_out = 20,
     .least_mbit = 34, .most_cost = 1.17, .most_queue_ms = 45},
    {.name = "far", .mbit = 50, .rtt_ms = 300, .queue_kb = 512, .mb = 15, .loss = 3,
     .least_mbit = 30, .most_cost = 1.11, .most_queue_ms = 90},
    {.name = "orbit", .mbit = 30, .rtt_ms = 600, .queue_kb = 1024, .mb = 15, .loss = 1,
     .least_mbit = 17, .most_cost = 1.07, .most_queue_ms = 290},
    {.name = "shallow", .mbit = 100, .rtt_ms = 50, .queue_kb = 64, .mb = 20,
     .least_mbit = 87, .most_cost = 1.09, .most_queue_ms = 6},
    {.name = "bloat", .mbit = 20, .rtt_ms = 30, .queue_kb = 1000, .mb = 20,
     .least_mbit = 18.8, .most_cost = 1.05, .most_queue_ms = 15},
    {.name = "drop", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 20, .later_mbit = 10, .later_s = 1,
     .least_mbit = 18, .most_cost = 1.16, .most_queue_ms = 215},
    {.name = "again base 5", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .loss = 5, .resumed_mbit = 93,
     .least_mbit = 79, .most_cost = 1.15, .most_queue_ms = 25},
    {.name = "again far", .mbit = 50, .rtt_ms = 300, .queue_kb = 512, .mb = 15, .loss = 3, .resumed_mbit = 47,
     .least_mbit = 36, .most_cost = 1.11, .most_queue_ms = 90},
    {.name = "again orbit", .mbit = 30, .rtt_ms = 600, .queue_kb = 1024, .mb = 15, .loss = 1, .resumed_mbit = 29,
     .least_mbit = 20, .most_cost = 1.07, .most_queue_ms = 290},
    {.name = "again, worse", .mbit = 10, .rtt_ms = 50, .queue_kb = 128, .mb = 10, .resumed_mbit = 93,
     .least_mbit = 9.3, .most_cost = 1.08, .most_queue_ms = 110},
    {.name = "go 5 %", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .loss = 5, .ack_ms = 10,
     .least_mbit = 65, .most_cost = 1.25, .most_queue_ms = 25},
    {.name = "kcp-go 0 %", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .ack_ms = 10, .ack_once = true,
     .least_mbit = 76.4, .most_cost = 1.06, .most_queue_ms = 22.9}, /* 79.6, 1.052, 20.9 */
    {.name = "kcp-go 5 %", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .loss = 5, .ack_ms = 10, .ack_once = true,
     .least_mbit = 63, .most_cost = 1.22, .most_queue_ms = 23}, /* 65.7, 1.199, 20.9 */
    {.name = "kcp-go 10 %", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .loss = 10, .ack_ms = 10, .ack_once = true,
     .least_mbit = 46.6, .most_cost = 1.32, .most_queue_ms = 23}, /* 48.5, 1.291, 20.9 */
    {.name = "kcp-go far", .mbit = 50, .rtt_ms = 300, .queue_kb = 512, .mb = 15, .loss = 3, .ack_ms = 10, .ack_once = true,
     .least_mbit = 29.6, .most_cost = 1.13, .most_queue_ms = 88.9}, /* 30.8, 1.114, 83.7 */
    {.name = "go slow", .mbit = 100, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .loss = 5, .ack_ms = 40,
     .least_mbit = 50, .most_cost = 1.25, .most_queue_ms = 25},
    {.name = "go near", .mbit = 1000, .rtt_ms = 0.3, .queue_kb = 1024, .mb = 20, .loss = 10, .ack_ms = 10,
     .least_mbit = 100, .most_cost = 1.3, .most_queue_ms = 10},
    {.name = "slow 0.5", .mbit = 0.5, .rtt_ms = 80, .queue_kb = 64, .mb = 0.5,
     .least_mbit = 0.42, .most_cost = 1.12, .most_queue_ms = 1060},
    {.name = "1 mbit", .mbit = 1, .rtt_ms = 50, .queue_kb = 64, .mb = 1, .loss = 1,
     .least_mbit = 0.8, .most_cost = 1.2, .most_queue_ms = 530},
    {.name = "gigabit", .mbit = 1000, .rtt_ms = 20, .queue_kb = 1024, .mb = 100,
     .least_mbit = 850, .most_cost = 1.06, .most_queue_ms = 9},
    {.name = "jitter 30", .mbit = 50, .rtt_ms = 50, .jitter_ms = 30, .overtaking = true, .queue_kb = 256, .mb = 10,
     .least_mbit = 32, .most_cost = 1.12, .most_queue_ms = 44}, /* 34, 1.09, 41.9 */
    {.name = "loss 30 %", .mbit = 20, .rtt_ms = 50, .queue_kb = 256, .mb = 5, .loss = 30,
     .least_mbit = 8, .most_cost = 1.7, .most_queue_ms = 100},
    /* Near: the queues of switches hold little, and nothing is lost there, neither at the start nor later. */
    {.name = "lan", .mbit = 1000, .rtt_ms = 0.3, .queue_kb = 128, .mb = 50,
     .least_mbit = 950, .most_cost = 1.045, .most_queue_ms = 0.2, .nothing_lost = true},
    {.name = "lan, 48 KB", .mbit = 1000, .rtt_ms = 0.3, .queue_kb = 48, .mb = 50,
     .least_mbit = 950, .most_cost = 1.045, .most_queue_ms = 0.2, .nothing_lost = true},
    {.name = "lan, 0.5 ms", .mbit = 1000, .rtt_ms = 0.5, .queue_kb = 64, .mb = 50,
     .least_mbit = 950, .most_cost = 1.045, .most_queue_ms = 0.35, .nothing_lost = true},
    {.name = "lan 100", .mbit = 100, .rtt_ms = 0.3, .queue_kb = 64, .mb = 10,
     .least_mbit = 95, .most_cost = 1.045, .most_queue_ms = 5, .nothing_lost = true},
    {.name = "rack", .mbit = 10000, .rtt_ms = 0.05, .queue_kb = 128, .mb = 100,
     .least_mbit = 9500, .most_cost = 1.045, .most_queue_ms = 0.2, .nothing_lost = true},
    {.name = "lan, short", .mbit = 1000, .rtt_ms = 0.2, .queue_kb = 48, .mb = 0.2,
     .least_mbit = 850, .most_cost = 1.06, .most_queue_ms = 0.4, .nothing_lost = true},
    {.name = "again lan", .mbit = 1000, .rtt_ms = 0.3, .queue_kb = 64, .mb = 10, .resumed_mbit = 1000,
     .least_mbit = 900, .most_cost = 1.05, .most_queue_ms = 0.5, .nothing_lost = true},
    /* None of the parameters of the first flight, of START or of PROBE was chosen by these. Behind each what it gave, the worst of
     * seeds 1 to 12. */
    {.name = "half mbit", .mbit = 0.5, .rtt_ms = 50, .queue_kb = 16, .mb = 0.5, .loss = 2,
     .least_mbit = 0.4, .most_cost = 1.71, .most_queue_ms = 275}, /* 0.421, 1.641, 261 */
    {.name = "2 mbit", .mbit = 2, .rtt_ms = 60, .queue_kb = 64, .mb = 2, .loss = 1,
     .least_mbit = 1.8, .most_cost = 1.09, .most_queue_ms = 272}, /* 1.86, 1.08, 259 */
    {.name = "10, 16 KB", .mbit = 10, .rtt_ms = 40, .queue_kb = 16, .mb = 10,
     .least_mbit = 9.2, .most_cost = 1.05, .most_queue_ms = 13.3}, /* 9.6, 1.046, 11.7 */
    {.name = "50, 16 KB", .mbit = 50, .rtt_ms = 40, .queue_kb = 16, .mb = 20,
     .least_mbit = 45, .most_cost = 1.1, .most_queue_ms = 3.52}, /* 46.9, 1.09, 2.4 */
    {.name = "50, 1 MB", .mbit = 50, .rtt_ms = 40, .queue_kb = 1024, .mb = 20, .loss = 1,
     .least_mbit = 44, .most_cost = 1.06, .most_queue_ms = 41.8}, /* 45.8, 1.05, 38.9 */
    {.name = "300 mbit", .mbit = 300, .rtt_ms = 40, .queue_kb = 512, .mb = 60, .loss = 1,
     .least_mbit = 248, .most_cost = 1.06, .most_queue_ms = 15.6}, /* 258, 1.053, 13.9 */
    {.name = "gbit far", .mbit = 1000, .rtt_ms = 80, .queue_kb = 1024, .mb = 200, .loss = 0.1, .wnd = 32768,
     .least_mbit = 638, .most_cost = 1.08, .most_queue_ms = 9.8}, /* 665, 1.069, 8.38 */
    {.name = "policed", .mbit = 1000, .rtt_ms = 40, .queue_kb = 1024, .mb = 20, .police_mbit = 20, .police_kb = 64,
     .least_mbit = 18.4, .most_cost = 1.21, .most_queue_ms = 1.04}, /* 19.2, 1.167, 0.04 */
    {.name = "policed 16", .mbit = 100, .rtt_ms = 30, .queue_kb = 256, .mb = 20, .police_mbit = 50, .police_kb = 16,
     .least_mbit = 45.5, .most_cost = 1.18, .most_queue_ms = 3.4}, /* 47.4, 1.164, 2.29 */
    {.name = "policed big", .mbit = 100, .rtt_ms = 60, .queue_kb = 256, .mb = 20, .police_mbit = 20, .police_kb = 1000,
     .least_mbit = 19.2, .most_cost = 1.34, .most_queue_ms = 23}, /* 20, 1.321, 20.9 */
    {.name = "policed 1 %", .mbit = 1000, .rtt_ms = 40, .queue_kb = 1024, .mb = 20, .loss = 1, .police_mbit = 20, .police_kb = 64,
     .least_mbit = 18.4, .most_cost = 1.23, .most_queue_ms = 1.04}, /* 19.2, 1.202, 0.04 */
    {.name = "1:10", .mbit = 100, .rtt_ms = 40, .queue_kb = 256, .mb = 20, .back_mbit = 10, .back_queue_kb = 64,
     .least_mbit = 88.7, .most_cost = 1.05, .most_queue_ms = 22.9}, /* 92.4, 1.045, 20.8 */
    {.name = "1:100", .mbit = 100, .rtt_ms = 40, .queue_kb = 256, .mb = 20, .back_mbit = 1, .back_queue_kb = 32,
     .least_mbit = 49.8, .most_cost = 1.04, .most_queue_ms = 1.36}, /* 51.9, 1.038, 0.34 */
    {.name = "1:100, 1 %", .mbit = 100, .rtt_ms = 40, .queue_kb = 256, .mb = 20, .back_mbit = 1, .back_queue_kb = 32, .loss = 1,
     .least_mbit = 19.2, .most_cost = 1.06, .most_queue_ms = 1.84}, /* 20, 1.05, 0.8 */
    {.name = "acks 10 %", .mbit = 50, .rtt_ms = 40, .queue_kb = 256, .mb = 20, .back_loss = 10,
     .least_mbit = 44.9, .most_cost = 1.05, .most_queue_ms = 40.9}, /* 46.8, 1.04, 38 */
    {.name = "acks 30 %", .mbit = 50, .rtt_ms = 40, .queue_kb = 256, .mb = 20, .loss = 1, .back_loss = 30,
     .least_mbit = 40.5, .most_cost = 1.15, .most_queue_ms = 41.8}, /* 42.2, 1.136, 38.9 */
    {.name = "ack bursts", .mbit = 50, .rtt_ms = 40, .queue_kb = 256, .mb = 20, .back_bad_in = 2, .back_bad_out = 10,
     .least_mbit = 44.4, .most_cost = 1.05, .most_queue_ms = 40.9}, /* 46.3, 1.043, 38 */
    {.name = "ack bursts, slow", .mbit = 10, .rtt_ms = 40, .queue_kb = 256, .mb = 4, .back_bad_in = 2, .back_bad_out = 10,
     .least_mbit = 8, .most_cost = 1.06, .most_queue_ms = 80.1}, /* 8.31, 1.051, 75.3 */
    {.name = "wifi 4 ms", .mbit = 100, .rtt_ms = 10, .queue_kb = 256, .mb = 20, .back_bunch_ms = 4,
     .least_mbit = 92, .most_cost = 1.04, .most_queue_ms = 16.6}, /* 95.9, 1.038, 14.9 */
    {.name = "4g 10 ms", .mbit = 30, .rtt_ms = 50, .queue_kb = 256, .mb = 15, .back_bunch_ms = 10, .loss = 0.5,
     .least_mbit = 26.2, .most_cost = 1.06, .most_queue_ms = 72.4}, /* 27.3, 1.049, 68 */
    {.name = "4g 20 ms", .mbit = 30, .rtt_ms = 50, .queue_kb = 256, .mb = 15, .back_bunch_ms = 20, .loss = 0.5,
     .least_mbit = 25.7, .most_cost = 1.07, .most_queue_ms = 61}, /* 26.8, 1.059, 57.1 */
    {.name = "jitter 15", .mbit = 50, .rtt_ms = 50, .jitter_ms = 15, .overtaking = true, .queue_kb = 256, .mb = 10,
     .least_mbit = 40.6, .most_cost = 1.07, .most_queue_ms = 44.9}, /* 42.3, 1.063, 41.8 */
    {.name = "jitter 30, 2 %", .mbit = 50, .rtt_ms = 50, .jitter_ms = 30, .overtaking = true, .queue_kb = 256, .mb = 10, .loss = 2,
     .least_mbit = 30.3, .most_cost = 1.1, .most_queue_ms = 44.9}, /* 31.6, 1.088, 41.8 */
    {.name = "jitter 50", .mbit = 20, .rtt_ms = 80, .jitter_ms = 50, .overtaking = true, .queue_kb = 256, .mb = 10,
     .least_mbit = 16, .most_cost = 1.07, .most_queue_ms = 111}, /* 16.6, 1.059, 104 */
    {.name = "jitter in order", .mbit = 50, .rtt_ms = 50, .jitter_ms = 30, .queue_kb = 256, .mb = 10, .loss = 1,
     .least_mbit = 14.7, .most_cost = 1.15, .most_queue_ms = 45}, /* 15.3, 1.135, 41.9 */
    {.name = "handover", .mbit = 50, .rtt_ms = 50, .queue_kb = 256, .mb = 15, .stop_s = 1, .stop_ms = 300,
     .least_mbit = 39.6, .most_cost = 1.08, .most_queue_ms = 289}, /* 41.3, 1.071, 274 */
    {.name = "handover, 2 %", .mbit = 20, .rtt_ms = 60, .queue_kb = 1024, .mb = 8, .stop_s = 1, .stop_ms = 300, .loss = 2,
     .least_mbit = 13.1, .most_cost = 1.08, .most_queue_ms = 328}, /* 13.7, 1.068, 312 */
    {.name = "handover to 5", .mbit = 50, .rtt_ms = 50, .queue_kb = 256, .mb = 5, .stop_s = 0.5, .stop_ms = 300, .later_mbit = 5,
     .later_s = 0.5,
     .least_mbit = 8.5, .most_cost = 1.26, .most_queue_ms = 441}, /* 8.84, 1.238, 419 */
    {.name = "30 % of 50", .mbit = 50, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .loss = 30,
     .least_mbit = 23.7, .most_cost = 1.74, .most_queue_ms = 31.3}, /* 24.7, 1.67, 28.9 */
    {.name = "20 % of 50", .mbit = 50, .rtt_ms = 50, .queue_kb = 256, .mb = 10, .loss = 20,
     .least_mbit = 31.5, .most_cost = 1.41, .most_queue_ms = 44.6}, /* 32.8, 1.374, 41.5 */
    {.name = "rises", .mbit = 10, .rtt_ms = 50, .queue_kb = 256, .mb = 20, .later_mbit = 50, .later_s = 2,
     .least_mbit = 29, .most_cost = 1.04, .most_queue_ms = 40.8}, /* 30.3, 1.038, 37.9 */
};

#endif
