# SPDX-License-Identifier: MIT
"""FEC alone (ks_fec_alone_*) as an object, and what a test needs beside it: parity by zfec, a network that loses."""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

import zfec

from kcpsock._fec import _LABELS
from tests.support.bare import ffi, lib

DATA, PARITY = 0xF1, 0xF2
ROOM = ffi.new("uint8_t[]", 4096)
CODES = [(10, 3), (2, 1), (20, 5), (70, 30), (1, 1), (3, 2), (1, 254), (254, 1), (127, 128), (128, 127)]


class Counts(NamedTuple):
    recovered: int
    errs: int
    parity_shards: int
    full_sets: int
    short_sets: int
    ds: int
    ps: int
    blocks: int


class Fec:
    def __init__(self, ds: int = 0, ps: int = 0, coefs: bytes | None = None, first: int = 0) -> None:
        self.handle = lib.ks_fec_alone_open(ds, ps, ffi.NULL if coefs is None else coefs, first)
        assert self.handle >= 0, self.handle

    def __enter__(self) -> Fec:
        return self

    def __exit__(self, *_: object) -> None:
        assert lib.ks_fec_alone_close(self.handle) == 0

    def encode(self, packet: bytes, now_ms: int = 0) -> list[bytes]:
        """The packets that go out, the data packet first."""
        parity = lib.ks_fec_alone_encode(self.handle, packet, len(packet), now_ms)
        assert parity >= 0, parity
        wire = []
        while size := lib.ks_fec_alone_output(self.handle, ROOM, len(ROOM)):
            wire.append(bytes(ffi.buffer(ROOM, size)))
        assert len(wire) == 1 + parity
        return wire

    def encode_all(self, packets: list[bytes]) -> list[bytes]:
        return [wire for packet in packets for wire in self.encode(packet)]

    def decode(self, *wire: bytes) -> list[bytes]:
        """The packets that were rebuilt."""
        rebuilt = []
        for packet in wire:
            made = lib.ks_fec_alone_decode(self.handle, packet, len(packet))
            for _ in range(made):
                size = lib.ks_fec_alone_rebuilt(self.handle, ROOM, len(ROOM))
                assert size >= 0
                rebuilt.append(bytes(ffi.buffer(ROOM, size)))
            assert lib.ks_fec_alone_rebuilt(self.handle, ROOM, len(ROOM)) < 0
        return rebuilt

    def counts(self) -> Counts:
        counts = ffi.new("uint64_t[8]")
        assert lib.ks_fec_alone_counts(self.handle, counts) == 0
        return Counts(*counts)

    def code(self) -> tuple[int, int]:
        return self.counts()[5:7]

    def trim(self) -> None:
        assert lib.ks_fec_alone_trim(self.handle) == 0


def memory() -> int:
    stats = ffi.new("ks_stats *")
    assert lib.ks_get_stats(stats) == 0
    return stats.memory_bytes


def head(wire: bytes) -> tuple[int, int]:
    """Sequence number and type."""
    return struct.unpack_from("<IH", wire)


def data_packet(seqid: int, packet: bytes) -> bytes:
    return struct.pack("<IHH", seqid, DATA, len(packet) + 2) + packet


def parity_packet(seqid: int, body: bytes) -> bytes:
    return struct.pack("<IH", seqid, PARITY) + body


def zfec_parity(ds: int, ps: int, packets: list[bytes]) -> list[bytes]:
    """The bodies of a group's parity packets, by zfec on the packets themselves."""
    bodies = [struct.pack("<H", len(p) + 2) + p for p in packets]
    longest = max(map(len, bodies))
    primary = zfec.Decoder(ds, 256).decode([b.ljust(longest, b"\0") for b in bodies], _LABELS[:ds])
    return zfec.Encoder(ds, 256).encode(primary, _LABELS[ds : ds + ps])


def some_packets(rng: random.Random, n: int, longest: int = 300) -> list[bytes]:
    return [rng.randbytes(rng.randrange(longest + 1)) for _ in range(n)]


def lossy(rng: random.Random, wire: list[bytes], loss: float, reorder: int = 0) -> list[bytes]:
    """Some are lost; each of the others is late by up to `reorder` packets."""
    kept = [(i + rng.randint(0, reorder), i, p) for i, p in enumerate(wire) if rng.random() >= loss]
    return [p for _, _, p in sorted(kept)]
