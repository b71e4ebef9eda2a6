# SPDX-License-Identifier: MIT
"""What micro.py measures, as data: packet crypt and FEC alone, one Measure per row of the table."""

import dataclasses

PACKET_BYTES = 1400  # crypt: a packet's payload
BATCH_PKTS = 64
FEC_DATA, FEC_PARITY = 10, 3
FEC_PACKET_BYTES = 1500
FEC_GROUPS = 4096  # a call; kcpsock's call makes its group first, which costs as much as a few dozen of them


@dataclasses.dataclass(frozen=True)
class Measure:
    name: str
    panel: str  # of the plot
    command: str  # of the peers
    flags: dict
    floor: float  # kcpsock is to be at least so many times as fast as kcp-go; 0 = reported as it is
    aim: float = 0.0  # hoped for; 0 = no more than the floor

    def arguments(self, seconds):
        return [f"--{name}={value}" for name, value in {**self.flags, "seconds": seconds}.items()]


# kcp-go's ciphers, as kcptun names them, and aes-256-gcm. Its AES-CFB works block by block, each by a call.
_FLOORS = {
    "aes": 4.0,
    "aes-128": 4.0,
    "aes-192": 4.0,
    "aes-128-gcm": 0.7,
    "aes-256-gcm": 0.7,
    "chacha20-poly1305": 0.9,
    "salsa20": 1.0,
    "xor": 1.0,
    "none": 0.9,
    "blowfish": 0.9,
    "twofish": 0.9,
    "tea": 0.9,
    "xtea": 0.9,
    "sm4": 0.9,
    "cast5": 0.0,
    "3des": 0.0,
}


def _crypt(name, op):
    flags = {"crypt": name, "op": op, "bytes": PACKET_BYTES, "batch": BATCH_PKTS}
    return Measure(f"{name} {op}", f"crypt, {op}", "crypt", flags, _FLOORS[name])


def _fec(op, losses):
    flags = {"op": op, "data": FEC_DATA, "parity": FEC_PARITY, "bytes": FEC_PACKET_BYTES, "groups": FEC_GROUPS}
    name = f"FEC {FEC_DATA}/{FEC_PARITY} {op}"
    if losses:
        flags["losses"] = losses
        name += f" {losses} lost"
    return Measure(name, f"FEC {FEC_DATA}/{FEC_PARITY}", "fec", flags, floor=0.5, aim=1.0)


MEASURES = [
    *(_crypt(name, op) for name in _FLOORS for op in ("seal", "open")),
    _fec("encode", 0),
    *(_fec("decode", losses) for losses in (1, 2, 3)),
]
