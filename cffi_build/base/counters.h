/* SPDX-License-Identifier: MIT */
/* What an engine counts; names are kcp-go's SNMP names where it has one. Only the engine's thread writes them. */
#ifndef KS_COUNTERS_H
#define KS_COUNTERS_H

#include <stdint.h>

typedef struct {
    uint64_t bytes_sent, bytes_received; /* of applications */
    uint64_t max_conn, active_opens, passive_opens, curr_estab;
    uint64_t in_errs;                    /* packets that no session could use */
    uint64_t in_csum_errors;
    uint64_t kcp_in_errors;              /* packets that KCP refused */
    uint64_t in_pkts, out_pkts, in_bytes, out_bytes; /* UDP payload */
    uint64_t in_segs, out_segs, retrans_segs, fast_retrans_segs, early_retrans_segs, lost_segs, repeat_segs;
    uint64_t smux_errors;                /* sessions ended by a broken frame */
    uint64_t udp_send_drops, udp_recv_drops;
    uint64_t resets_sent, resets_received, backlog_drops;
    uint64_t busy_polls;                 /* waits in which the engine asked again and again, at first */
    uint64_t fec_recovered, fec_errs, fec_parity_shards, fec_full_sets, fec_short_sets;
    uint64_t oob_packets, oob_drops;     /* received; received or to be sent, and dropped */
} ks_counters;

#endif
