# SPDX-License-Identifier: MIT
"""The coefficients of a Reed-Solomon code, from zfec.

kcp-go's parity packet r is a polynomial through the points 0..ds-1, evaluated at ds + r. zfec has the same field and
other points: its block 0 is the point 0, its block i >= 1 the point 2^(i-1). So zfec is asked in its own numbers: from
the blocks at 0..ds-1 for its primary blocks, from those for the blocks at ds..ds+ps-1. Blocks that form the identity
make that the coefficients themselves.
"""

from functools import lru_cache

import zfec

SHARDS_MAX = 255
_BLOCKS = 256


def _labels() -> list[int]:
    """Which block of zfec stands at each field element."""
    labels = [0] * _BLOCKS
    element = 1
    for block in range(1, _BLOCKS):
        labels[element] = block
        element <<= 1
        if element >= _BLOCKS:
            element ^= 0x11D
    return labels


_LABELS = _labels()


@lru_cache(maxsize=64)
def coefficients(ds: int, ps: int) -> bytes:
    """`ps` rows of `ds` bytes: what each data packet counts in each parity packet."""
    if ds < 1 or ps < 1 or ds + ps > SHARDS_MAX:
        raise ValueError(f"FEC wants at least 1 data and 1 parity packet, {SHARDS_MAX} in all; got {ds} and {ps}")
    identity = [bytes(i == j for j in range(ds)) for i in range(ds)]
    primary = zfec.Decoder(ds, _BLOCKS).decode(identity, _LABELS[:ds])
    return b"".join(zfec.Encoder(ds, _BLOCKS).encode(primary, _LABELS[ds : ds + ps]))
