/* SPDX-License-Identifier: MIT */
#include "base/counters.h"

#include <stddef.h>

#define NUMBER(member, name, meaning) {#member, name, meaning},
#define STATE(member, meaning) {#member, NULL, meaning},
#define COUNTER(member, name, meaning) {#member, NULL, meaning},

const ks_number ks_stats_numbers[] = {KS_COUNTERS(NUMBER, NUMBER, NUMBER, NUMBER, NUMBER){NULL, NULL, NULL}};
const ks_number ks_info_numbers[] = {KS_INFO_STATE(STATE) KS_INFO_COUNTERS(COUNTER){NULL, NULL, NULL}};
