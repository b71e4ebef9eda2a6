# SPDX-License-Identifier: MIT
"""Arithmetic in GF(2^8): every kernel of this machine gives what schoolbook multiplication gives."""

import random

import pytest

from tests.support.bare import ffi, lib

KERNELS = {name: getattr(lib, f"KS_GF_{name}") for name in ("PLAIN", "SSSE3", "AVX2", "GFNI", "NEON", "GFNI_AVX2")}


def product(a, b):
    result = 0
    for bit in range(8):
        if b >> bit & 1:
            result ^= a << bit
    for bit in range(15, 7, -1):
        if result >> bit & 1:
            result ^= 0x11D << (bit - 8)
    return result


TIMES = [bytes(product(a, b) for b in range(256)) for a in range(256)]


@pytest.fixture(params=KERNELS)
def kernel(request):
    if lib.ks_gf_select(KERNELS[request.param]) != 0:
        pytest.skip(f"this machine has no {request.param}")
    assert lib.ks_gf_selected() == KERNELS[request.param]
    yield
    assert lib.ks_gf_select(lib.KS_GF_AUTO) == 0


def muladd(before, offset, stride, coefs, src, src_offset, n):
    """Rows in the middle of `before`, source in the middle of `src`: unaligned, with bytes around that must stay."""
    dst, source = ffi.new("uint8_t[]", list(before)), ffi.new("uint8_t[]", list(src))
    assert lib.ks_gf_muladd_flat(dst + offset, stride, bytes(coefs), len(coefs), source + src_offset, n) == 0
    expected = bytearray(before)
    for row, c in enumerate(coefs):
        at = offset + row * stride
        multiplied = src[src_offset : src_offset + n].translate(TIMES[c])
        expected[at : at + n] = bytes(a ^ b for a, b in zip(expected[at : at + n], multiplied))
    assert bytes(ffi.buffer(dst)) == bytes(expected)


def test_every_product(kernel):
    everything = bytes(range(256))
    for c in range(256):
        muladd(bytes(256), 0, 256, [c], everything, 0, 256)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 7, 8, 13])
def test_every_length_and_alignment(kernel, rows):
    rng = random.Random(rows)
    for n in range(201):
        stride = n + rng.randrange(20)
        offset, src_offset = rng.randrange(64), rng.randrange(64)
        before, src = rng.randbytes(offset + rows * stride + 64), rng.randbytes(src_offset + n + 64)
        muladd(before, offset, stride, [rng.randrange(256) for _ in range(rows)], src, src_offset, n)


def test_long_rows(kernel):
    rng = random.Random(1)
    for n in (1500, 4095, 4096, 65535):
        muladd(rng.randbytes(3 * n), 0, n, [rng.randrange(256) for _ in range(3)], rng.randbytes(n), 0, n)


def test_the_last_byte_of_a_buffer_is_the_last_touched(kernel):
    # Exactly as long as it is used; the address sanitizer looks on in another run.
    for n in range(1, 70):
        muladd(bytes(n), 0, n, [3], bytes(range(n)), 0, n)


def test_unknown_kernel_is_refused():
    before = lib.ks_gf_selected()
    for kernel in (-1, 7, 1000):
        assert lib.ks_gf_select(kernel) < 0
    assert lib.ks_gf_selected() == before


def test_bad_arguments():
    byte = ffi.new("uint8_t[1]")
    assert lib.ks_gf_muladd_flat(ffi.NULL, 0, b"\1", 1, byte, 1) < 0
    assert lib.ks_gf_muladd_flat(byte, 0, bytes(256), 256, byte, 1) < 0
