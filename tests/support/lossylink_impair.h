// SPDX-License-Identifier: MIT
//
// One direction of a bad network, without any socket: what happens to a packet between its coming in and its going out.
//
//     path MTU → bottleneck (rate, queue) → loss → duplication → delay, jitter, reordering
//
// Promises:
// - Random fate is a function of the seed, the direction and the packet's number among those that left the bottleneck: each
//   takes the same number of draws whatever the settings, so switching one impairment on leaves the dice of the others.
// - Loss comes after the bottleneck: a lost packet has used its share of the rate, as on a radio link.
// - Order is kept unless `reorder` (or `jitter-reorders`) says otherwise.
// - received + duplicated = sent + lost + queue_dropped + mtu_dropped + blackholed + pool_dropped + oversize + orphaned
//   + send_failed + held.  What the kernel dropped before we saw it is kernel_dropped, and not in received.
// - Time is an argument. No allocation after direction_init().

#ifndef LOSSYLINK_IMPAIR_H
#define LOSSYLINK_IMPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NEVER UINT64_MAX

enum {
    LANDING = 64, // packets that a face reads at once
    LATE_US = 1000,
};

struct impairments {
    double delay_ms, jitter_ms; // one way; jitter adds 0..jitter_ms, uniformly
    double jitter_reorders;     // 1: packets may overtake by jitter (as netem's do); 0: a packet waits for the one before
    double loss, dup, reorder;  // probabilities
    double reorder_ms;          // what a reordered packet is held back for
    double burst_enter, burst_leave, burst_loss; // Gilbert-Elliott: good → bad, bad → good, loss while bad
    double rate_mbit;                            // of IP bytes; 0: no bottleneck
    double queue_kib;                            // IP bytes before the rate, the packet being sent included
    double path_mtu;      // longer IP packets vanish; 0: none do
    double path_mtu_told; // 1: their sender hears of it, by ICMP, where the face can
};

struct counts {
    uint64_t received, received_bytes, sent, sent_bytes; // bytes as the face sees them: `head_bytes` a packet short of IP's
    uint64_t lost, burst_lost;                           // burst_lost is the part of lost that the bad state took
    uint64_t duplicated, reordered, queue_dropped, mtu_dropped, blackholed;
    uint64_t pool_dropped;   // no free slot: more in flight than --slots
    uint64_t oversize;       // longer than --packet-bytes
    uint64_t orphaned;       // its client was evicted, or got no socket
    uint64_t send_failed;    // by another error than ECONNREFUSED
    uint64_t refused;        // ECONNREFUSED seen: the target's port is closed
    uint64_t kernel_dropped; // before we could read them, by the kernel's count; what the face adds itself is not in here
    uint64_t delay_us;       // sum of the delays given (not measured), bottleneck included
    uint64_t late_max_us;    // worst difference between a packet's due time and its sending
    uint64_t late_packets;   // by more than LATE_US
};

// What was seen at one moment: counts so far, and the queue's peak since the sample before.
struct sample {
    uint64_t in_bytes, out_bytes; // IP bytes
    uint32_t lost, queue_dropped, queue_bytes;
};

struct packet {
    uint64_t came_ns;
    uint32_t len, client, client_gen; // the last two are the relay's
};

struct due {
    uint64_t at_ns, order; // order breaks ties: first in, first out
    uint32_t slot;
};

struct direction {
    struct impairments set;
    struct counts n;
    uint32_t slots, packet_bytes;
    uint32_t head_bytes; // what IP adds to a packet as the face sees it
    uint64_t dice;       // splitmix64's state
    bool bad;            // Gilbert-Elliott's state
    bool blackhole;
    uint64_t floor_ns; // due time of the last packet in order; a later one is not due before
    // The bottleneck: a ring of slots; its first packet is being sent, and gone at leaves_ns.
    uint32_t *queue, queue_head, queue_len, queue_bytes, queue_peak;
    uint64_t leaves_ns;
    // The slots: a packet's bytes and what is known of it. A slot is free, landing (where a face reads to), queued or due.
    uint8_t *bytes;
    struct packet *packets;
    uint32_t *free, free_len, landing[LANDING];
    // Due packets, as a binary heap.
    struct due *heap;
    uint32_t heap_len;
    uint64_t order;
    struct sample *samples;
    uint32_t samples_len;
};

void direction_init(struct direction *d, uint64_t seed, unsigned which, uint32_t slots, uint32_t packet_bytes);

// A packet of `len` bytes came in. Returns false when that was its end already.
bool direction_hears(struct direction *d, uint32_t len);

// It lies in *landing, which is another free slot afterwards.
void direction_takes(struct direction *d, uint64_t now, uint32_t *landing, struct packet packet);

// When to call direction_due() next; NEVER: nothing is under way.
uint64_t direction_wakes(const struct direction *d);

// Takes a packet that is to go out now. Returns false when there is none. The slot is to be given back.
bool direction_due(struct direction *d, uint64_t now, uint32_t *slot);
void direction_give_back(struct direction *d, uint32_t slot);

uint8_t *direction_bytes(const struct direction *d, uint32_t slot);
uint32_t direction_held(const struct direction *d);

// Sets `name`. Returns NULL, or what is wrong.
const char *direction_set(struct direction *d, uint64_t now, const char *name, const char *value);

// Notes how things are. Returns false when there is no more room.
bool direction_sample(struct direction *d, uint64_t now);

uint64_t mix(uint64_t z);
void *reserve(size_t count, size_t size);

#endif
