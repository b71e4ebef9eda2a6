/* SPDX-License-Identifier: MIT */
/* All that tests and benchmarks see of the data plane: what the product has (api.h), and its parts alone. They are built as an
 * extension of their own, tests/support/_bare, which has its own engines, crypts and memory. */
#ifndef KS_BARE_H
#define KS_BARE_H

#include "api/api.h"
#include "bare/arq.h"
#include "bare/crypt_alone.h"
#include "bare/fec_alone.h"

#endif
