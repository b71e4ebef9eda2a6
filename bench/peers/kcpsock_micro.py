# SPDX-License-Identifier: MIT
"""The kcpsock end of bench/micro.py: packet crypt and FEC of the data plane alone. `gopeer micro` has the command
line.

crypt: one call into C seals or opens a batch, without the GIL, as an engine does; from Python it also costs the call.
fec: one call into C takes many groups through the very functions that a session calls (cffi_build/bare/fec_bench.c).
"""

import argparse
import os
import time

from program import giving_up, report

from kcpsock import _crypt, _fec
from tests.support import bare
from tests.support.bare import ffi, lib

SLICE_NS = 4_000_000  # of measured time; a pause that falls into one slice leaves the median alone
SIMD = ("", "plain C", "CLMUL", "AVX2", "AVX-512", "ARMv8")  # by ks_crypt_simd's numbers
GF = {
    lib.KS_GF_PLAIN: "plain C",
    lib.KS_GF_SSSE3: "SSSE3",
    lib.KS_GF_AVX2: "AVX2",
    lib.KS_GF_GFNI: "GFNI",
    lib.KS_GF_NEON: "NEON",
    lib.KS_GF_GFNI_AVX2: "GFNI, AVX2",
}


def main():
    options = parse()
    with giving_up(options.timeout):
        report(about() if options.command == "about" else {"slices": slices(options)})


def slices(options):
    reset, run, size = {"crypt": crypt_work, "fec": fec_work, "null": null_work}[options.command](options)
    found = measure(reset, run, options.seconds)
    if options.command == "null":
        return [took / calls for calls, took in found]  # ns a call
    return [calls * size / took * 1e3 for calls, took in found]  # MB/s


def measure(reset, run, seconds):
    """-> [(calls, ns)] for so many seconds of measured time, a slice at least. The slice before the first warms up.

    `reset`, whose time does not count, brings everything into the state that `run` wants.
    """
    clock = time.perf_counter_ns
    left = seconds * 1e9
    slices = []
    number = 0
    while number < 2 or left > 0:
        calls = took = 0
        while took < SLICE_NS:
            reset()
            start = clock()
            run()
            took += clock() - start
            calls += 1
        if number > 0:
            slices.append((calls, took))
            left -= took
        number += 1
    return slices


def crypt_work(options):
    name, payload_bytes, batch = options.crypt, options.bytes, options.batch
    crypt = bare.open_crypt(name, _crypt.key_of(name, "bench"))
    around = lib.ks_crypt_overhead(crypt)
    packet_bytes = payload_bytes + around
    space = ffi.new("uint8_t[]", packet_bytes * batch)
    ffi.buffer(space)[:] = os.urandom(packet_bytes * batch)
    sizes = ffi.new("int32_t[]", batch)
    payload_sizes = ffi.new("int32_t[]", [payload_bytes] * batch)
    packet_sizes = ffi.new("int32_t[]", [packet_bytes] * batch)

    def seal():
        if lib.ks_crypt_seal_packets(crypt, space, packet_bytes, sizes, batch) != 0:
            raise SystemExit(f"kcpsock_micro: {name}: a batch was not sealed")

    def open_():
        if lib.ks_crypt_open_packets(crypt, space, packet_bytes, sizes, batch) != batch:
            raise SystemExit(f"kcpsock_micro: {name}: a packet was bad")

    def before_seal():  # over and over, in place: what is sealed makes no difference
        ffi.memmove(sizes, payload_sizes, 4 * batch)

    def before_open():
        ffi.memmove(space, sealed, len(sealed))
        ffi.memmove(sizes, packet_sizes, 4 * batch)

    before_seal()
    seal()
    sealed = bytes(ffi.buffer(space))
    total = payload_bytes * batch
    return (before_seal, seal, total) if options.op == "seal" else (before_open, open_, total)


def fec_work(options):
    ds, ps = options.data, options.parity
    code = (ds, ps, _fec.coefficients(ds, ps), options.bytes, options.groups)

    def encode():
        if lib.ks_fec_bench_encode(*code) != 0:
            raise SystemExit("kcpsock_micro: encoding failed")

    def decode():
        if lib.ks_fec_bench_decode(*code, options.losses) != 0:  # it counts what was rebuilt
            raise SystemExit("kcpsock_micro: decoding failed")

    total = options.groups * ds * options.bytes
    return nothing, encode if options.op == "encode" else decode, total


def null_work(_):
    crypt = bare.open_crypt("none", bytes(32))
    space = ffi.new("uint8_t[]", 64)
    sizes = ffi.new("int32_t[]", 1)
    return nothing, lambda: lib.ks_crypt_seal_packets(crypt, space, 64, sizes, 0), 0  # a call for no packet


def nothing():
    pass


def about():
    """Which instructions the data plane has chosen here."""
    return {"crypt": SIMD[lib.ks_crypt_simd(-1)], "fec": GF[lib.ks_gf_selected()]}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["crypt", "fec", "null", "about"])
    parser.add_argument("--crypt", default="aes", choices=_crypt.NAMES)
    parser.add_argument("--op", default="seal", choices=["seal", "open", "encode", "decode"])
    parser.add_argument("--bytes", type=int, default=1400, help="payload of a packet")
    parser.add_argument("--batch", type=int, default=64, help="crypt: packets a call")
    parser.add_argument("--data", type=int, default=10, help="fec: data packets of a group")
    parser.add_argument("--parity", type=int, default=3, help="fec: parity packets of a group")
    parser.add_argument("--losses", type=int, default=1, help="fec, decode: data packets lost in each group")
    parser.add_argument("--groups", type=int, default=1, help="fec: groups a call")
    parser.add_argument("--seconds", type=float, default=0.2, help="measured time")
    parser.add_argument("--timeout", type=float, default=60, help="seconds after which the process gives up")
    return parser.parse_args()


if __name__ == "__main__":
    main()
