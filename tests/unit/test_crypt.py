# SPDX-License-Identifier: MIT
"""Packet crypt: published vectors of the ciphers, frames against pycryptodome's public API, and what must not open."""

import errno
import hashlib
import os
import random
import struct
import warnings
import zlib

import pytest
from Crypto.Cipher import AES, CAST, DES3, Blowfish, ChaCha20, ChaCha20_Poly1305, Salsa20
from hypothesis import given, settings
from hypothesis import strategies as st

import kcpsock
from kcpsock import _crypt
from kcpsock._native import lib as product
from tests.support.bare import ffi, lib, open_crypt
from tests.support.waiting import eventually

IV = bytes.fromhex("a7734f9c12ac1b01a415f2c1fc78e66b")
STRIDE = 2048
NAMES = [name for name in _crypt.NAMES if name != "null"]
AEADS = {"aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"}
FOREIGN = {"aes": AES, "aes-128": AES, "aes-192": AES, "blowfish": Blowfish, "cast5": CAST, "3des": DES3}
OWN = {"twofish": 16, "sm4": 16, "tea": 8, "xtea": 8}
KERNELS = {1: "plain", 2: "clmul", 3: "avx2", 4: "avx512", 5: "arm"}
LEVELS = [level for level in KERNELS if lib.ks_crypt_simd(level) == level]  # what this machine has
lib.ks_crypt_simd(0)
ZEROS = bytes(1 << 16)


@pytest.fixture(params=LEVELS, ids=KERNELS.get)
def level(request):
    assert lib.ks_crypt_simd(request.param) == request.param
    yield request.param
    lib.ks_crypt_simd(0)


class Crypt:
    """A crypt's number with a passphrase for key; seals and opens lists of bytes."""

    def __init__(self, name, key=None):
        self.name, self.head = name, 12 if name in AEADS else 20
        self.key = _crypt.key_of(name, "secret" if key is None else key)
        self.number = open_crypt(name, self.key)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        assert lib.ks_crypt_close(self.number) == 0

    def seal(self, payloads):
        space, sizes = bytearray(STRIDE * len(payloads)), ffi.new("int32_t[]", [len(p) for p in payloads])
        for i, payload in enumerate(payloads):
            start = i * STRIDE + self.head
            space[start : start + len(payload)] = payload
        with ffi.from_buffer("uint8_t[]", space) as view:
            assert lib.ks_crypt_seal_packets(self.number, view, STRIDE, sizes, len(payloads)) == 0
        return [bytes(space[i * STRIDE : i * STRIDE + size]) for i, size in enumerate(sizes)]

    def open(self, packets):
        space, sizes = bytearray(STRIDE * len(packets)), ffi.new("int32_t[]", [len(p) for p in packets])
        for i, packet in enumerate(packets):
            space[i * STRIDE : i * STRIDE + len(packet)] = packet
        with ffi.from_buffer("uint8_t[]", space) as view:
            good = lib.ks_crypt_open_packets(self.number, view, STRIDE, sizes, len(packets))
        starts = [i * STRIDE + self.head for i in range(len(packets))]
        opened = [None if size < 0 else bytes(space[at : at + size]) for at, size in zip(starts, sizes)]
        assert good == sum(payload is not None for payload in opened)
        return opened


def block(cipher, key, data):
    out = bytearray(len(data))
    with ffi.from_buffer("uint8_t[]", out) as view:
        assert lib.ks_crypt_block(cipher, key, len(key), data, view, len(data)) == 0
    return bytes(out)


def key_stream(cipher, key, nonce, counter, size):
    out = bytearray(size)
    with ffi.from_buffer("uint8_t[]", out) as view:
        assert lib.ks_crypt_stream(cipher, key, nonce, counter, view, size) == 0
    return bytes(out)


def digest(function, key, data):
    out = ffi.new("uint8_t[16]")
    assert function(key, data, len(data), out) == 0
    return bytes(out)


# ---- the packet's other side: public APIs and plain Python ----


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b)) + a[len(b) :]


def cfb(encrypt, size, data, decrypting):
    # Full-block CFB by a function that encrypts one block.
    done, feed = b"", IV[:size]
    for i in range(0, len(data), size):
        piece = data[i : i + size]
        out = bytes(x ^ y for x, y in zip(piece, encrypt(feed)))
        feed = piece if decrypting else out
        done += out
    return done


def turn(name, key, data, decrypting):
    """The whole packet of a crc32 mode, encrypted or decrypted."""
    if name in FOREIGN:
        module = FOREIGN[name]
        size = module.block_size
        cipher = module.new(key, module.MODE_CFB, iv=IV[:size], segment_size=8 * size)
        return cipher.decrypt(data) if decrypting else cipher.encrypt(data)
    if name in OWN:
        cipher = getattr(lib, f"KS_CIPHER_{name.upper()}")
        return cfb(lambda piece: block(cipher, key, piece), OWN[name], data, decrypting)
    if name == "salsa20":
        return data[:8] + Salsa20.new(key=key, nonce=data[:8]).encrypt(data[8:])
    if name == "xor":
        return xor(data, hashlib.pbkdf2_hmac("sha1", key, b"sH3CIVoF#rWLtJo6", 32, 1500))
    return data


def aead(name, key, nonce):
    if name == "chacha20-poly1305":
        return ChaCha20_Poly1305.new(key=key, nonce=nonce)
    return AES.new(key, AES.MODE_GCM, nonce=nonce)


def open_elsewhere(name, key, packet):
    if name in AEADS:
        return aead(name, key, packet[:12]).decrypt_and_verify(packet[12:-16], packet[-16:])
    plain = turn(name, key, packet, True)
    assert plain[16:20] == struct.pack("<I", zlib.crc32(plain[20:]))
    return plain[20:]


def seal_elsewhere(name, key, payload):
    if name in AEADS:
        nonce = os.urandom(12)
        return nonce + b"".join(aead(name, key, nonce).encrypt_and_digest(payload))
    plain = os.urandom(16) + struct.pack("<I", zlib.crc32(payload)) + payload
    return turn(name, key, plain, False)


def some_payloads(seed, count):
    rng = random.Random(seed)
    edges = [0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1399, 1400, 1480, 1500]
    return [rng.randbytes(rng.choice([*edges, rng.randrange(1501)])) for _ in range(count)]


# ---- published vectors ----


@pytest.mark.parametrize(
    "key, plain, cipher",
    [  # the paper's and the submission's ecb_ival.txt
        ("00" * 16, "00" * 16, "9F589F5CF6122C32B6BFEC2F2AE8C35A"),
        ("0123456789ABCDEFFEDCBA98765432100011223344556677", "00" * 16, "CFD1D2E5A9BE9CDF501F13B892BD2248"),
        (
            "0123456789ABCDEFFEDCBA987654321000112233445566778899AABBCCDDEEFF",
            "00" * 16,
            "37527BE0052334B89F0CFCCAE87CFA20",
        ),
    ],
)
def test_twofish_vectors(key, plain, cipher):
    assert block(lib.KS_CIPHER_TWOFISH, bytes.fromhex(key), bytes.fromhex(plain)).hex().upper() == cipher


@pytest.mark.parametrize(
    "size, last",
    [  # ecb_tbl.txt, I=49: each key and plaintext is made of the two results before
        (16, "5D9D4EEFFA9151575524F115815A12E0"),
        (24, "E75449212BEEF9F4A390BD860A640941"),
        (32, "37FE26FF1CF66175F5DDF4C33B97A205"),
    ],
)
def test_twofish_table(size, last):
    key, plain = bytes(size), bytes(16)
    for _ in range(49):
        cipher = block(lib.KS_CIPHER_TWOFISH, key, plain)
        key, plain = (plain + key)[:size], cipher
    assert plain.hex().upper() == last


def test_sm4_vectors():
    key = plain = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")  # GB/T 32907-2016, appendix A.1 and A.2
    assert block(lib.KS_CIPHER_SM4, key, plain).hex() == "681edf34d206965e86b3e94f536e4246"
    data = ffi.new("uint8_t[16]", key)
    encrypt, cipher = lib.ks_crypt_block, lib.KS_CIPHER_SM4
    for _ in range(1000000):
        encrypt(cipher, key, 16, data, data, 16)
    assert bytes(data).hex() == "595298c7c6fd271f0402f804c33d3f66"


@pytest.mark.parametrize(
    "key, plain, cipher",
    [  # golang.org/x/crypto/tea, 16 rounds
        ("00" * 16, "00" * 8, "ed285da1455b33c1"),
    ],
)
def test_tea_vectors(key, plain, cipher):
    assert block(lib.KS_CIPHER_TEA, bytes.fromhex(key), bytes.fromhex(plain)).hex() == cipher


@pytest.mark.parametrize(
    "key, plain, cipher",
    [
        ("00" * 16, "00" * 8, "dee9d4d8f7131ed9"),
        ("000102030405060708090a0b0c0d0e0f", "4142434445464748", "497df3d072612cb5"),
        ("000102030405060708090a0b0c0d0e0f", "4141414141414141", "e78f2d13744341d8"),
        ("000102030405060708090a0b0c0d0e0f", "5a5b6e278948d77f", "4141414141414141"),
        ("00000000000000000000000000000000", "4142434445464748", "a0390589f8b8efa5"),
        ("00000000000000000000000000000000", "4141414141414141", "ed23375a821a8c2d"),
        ("00000000000000000000000000000000", "70e1225d6e4e7655", "4141414141414141"),
    ],
)
def test_xtea_vectors(key, plain, cipher):
    assert block(lib.KS_CIPHER_XTEA, bytes.fromhex(key), bytes.fromhex(plain)).hex() == cipher


def tea_reference(key, data):
    k, (y, z), total = struct.unpack(">4I", key), struct.unpack(">2I", data), 0
    for _ in range(8):
        total = (total + 0x9E3779B9) & 0xFFFFFFFF
        y = (y + (((z << 4) + k[0]) ^ (z + total) ^ ((z >> 5) + k[1]))) & 0xFFFFFFFF
        z = (z + (((y << 4) + k[2]) ^ (y + total) ^ ((y >> 5) + k[3]))) & 0xFFFFFFFF
    return struct.pack(">2I", y, z)


def test_tea_is_the_papers():
    for _ in range(20):
        key, data = os.urandom(16), os.urandom(8)
        assert block(lib.KS_CIPHER_TEA, key, data) == tea_reference(key, data)


@pytest.mark.parametrize("name", OWN)
def test_blocks_in_one_call_are_blocks_one_by_one(name, level):
    cipher, size = getattr(lib, f"KS_CIPHER_{name.upper()}"), OWN[name]
    key = os.urandom(16)
    for count in [*range(70), 175]:
        data = os.urandom(size * count)
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert block(cipher, key, data) == b"".join(block(cipher, key, piece) for piece in pieces)


def test_salsa20_vectors(level):
    key = b"\x80" + bytes(31)  # eSTREAM, 256 bits, set 1, vector 0
    stream = key_stream(lib.KS_STREAM_SALSA20, key, bytes(8), 0, 512)
    assert stream[:16].hex() == "e3be8fdd8beca2e3ea8ef9475b29a6e7"
    assert stream[448:464].hex() == "696afcfd0cddcc83c7e77f11a649d79a"


def test_chacha20_vectors(level):
    key, nonce = bytes(range(32)), bytes.fromhex("000000090000004a00000000")  # RFC 8439, 2.3.2
    stream = key_stream(lib.KS_STREAM_CHACHA20, key, nonce, 1, 64)
    assert stream[:16].hex() == "10f1e7e4d13b5915500fdd1fa32071c4"
    assert stream[-16:].hex() == "b5129cd1de164eb9cbd083e8a2503c4e"


@pytest.mark.parametrize("cipher, module, nonce", [("SALSA20", Salsa20, 8), ("CHACHA20", ChaCha20, 12)])
def test_streams_of_any_size(cipher, module, nonce, level):
    key, start = os.urandom(32), os.urandom(nonce)
    reference = module.new(key=key, nonce=start).encrypt(ZEROS[:4096])
    for size in [*range(0, 200), 511, 512, 513, 1023, 1024, 1025, 1400, 4096]:
        assert key_stream(getattr(lib, f"KS_STREAM_{cipher}"), key, start, 0, size) == reference[:size]
    assert key_stream(getattr(lib, f"KS_STREAM_{cipher}"), key, start, 3, 640) == reference[192:832]


def test_poly1305_vectors():
    key = bytes.fromhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")  # RFC 8439, 2.5.2
    message = b"Cryptographic Forum Research Group"
    assert digest(lib.ks_crypt_poly1305, key, message).hex() == "a8061dc1305136c6c22b8baf0c0127a9"


@pytest.mark.parametrize(
    "key, message, tag",
    [  # RFC 8439, A.3, vectors 7 to 11: carries and the final subtraction
        ("02" + "00" * 31, "ff" * 16, "03" + "00" * 15),
        ("02" + "00" * 15 + "ff" * 16, "02" + "00" * 15, "03" + "00" * 15),
        ("01" + "00" * 31, "ff" * 16 + "f0" + "ff" * 15 + "11" + "00" * 15, "05" + "00" * 15),
        ("01" + "00" * 31, "ff" * 16 + "fb" + "fe" * 15 + "01" * 16, "00" * 16),
        ("02" + "00" * 31, "fd" + "ff" * 15, "fa" + "ff" * 15),
    ],
)
def test_poly1305_edges(key, message, tag):
    assert digest(lib.ks_crypt_poly1305, bytes.fromhex(key), bytes.fromhex(message)).hex() == tag


def poly1305_reference(key, data):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for i in range(0, len(data), 16):
        total = (total + int.from_bytes(data[i : i + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    return ((total + int.from_bytes(key[16:], "little")) % (1 << 128)).to_bytes(16, "little")


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_poly1305_is_the_definition(key, data):
    assert digest(lib.ks_crypt_poly1305, key, data) == poly1305_reference(key, data)
    assert digest(lib.ks_crypt_poly1305, b"\xff" * 32, b"\xff" * len(data)) == poly1305_reference(
        b"\xff" * 32, b"\xff" * len(data)
    )


def test_poly1305_of_long_messages(level):
    rnd = random.Random(1305)
    for size in [*range(240, 400), 511, 512, 1399, 1400, 1500, 4096]:
        for key, data in ((rnd.randbytes(32), rnd.randbytes(size)), (b"\xff" * 32, b"\xff" * size)):
            assert digest(lib.ks_crypt_poly1305, key, data) == poly1305_reference(key, data), size


def test_ghash_vectors(level):
    h = bytes.fromhex("66e94bd4ef8a2c3b884cfa59ca342b2e")  # the GCM specification, test cases 1 to 3
    assert digest(lib.ks_crypt_ghash, h, b"") == bytes(16)
    data = bytes.fromhex("0388dace60b6a392f328c2b971b2fe78")
    assert digest(lib.ks_crypt_ghash, h, data).hex() == "f38cbb1ad69223dcc3457ae5b6b0f885"
    h = bytes.fromhex("b83b533708bf535d0aa6e52980d53b78")
    data = bytes.fromhex(
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
    )
    assert digest(lib.ks_crypt_ghash, h, data).hex() == "7f1b32b81b820d02614f8895ac1d4eac"


def ghash_reference(h, data):
    def times(x, y):
        z = 0
        for i in range(127, -1, -1):
            if x >> i & 1:
                z ^= y
            y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
        return z

    padded = data + bytes(-len(data) % 16) + struct.pack(">QQ", 0, 8 * len(data))
    total = 0
    for i in range(0, len(padded), 16):
        total = times(total ^ int.from_bytes(padded[i : i + 16], "big"), int.from_bytes(h, "big"))
    return total.to_bytes(16, "big")


def test_ghash_of_any_size(level):
    h = os.urandom(16)
    for size in [*range(0, 560, 13), 255, 256, 257, 1400, 1500]:
        data = os.urandom(size)
        assert digest(lib.ks_crypt_ghash, h, data) == ghash_reference(h, data)


def test_crc32_is_zlibs(level):
    for size in [*range(700), 1023, 1400, 1500, 4096, 65535]:
        data = os.urandom(size)
        assert lib.ks_crypt_crc32(data, size) == zlib.crc32(data)


# ---- frames ----


@pytest.mark.parametrize("name", NAMES)
def test_overhead(name):
    with Crypt(name) as crypt:
        assert lib.ks_crypt_overhead(crypt.number) == _crypt.overhead(name) == (28 if name in AEADS else 20)
        assert [len(packet) for packet in crypt.seal([b"", b"x" * 100])] == [
            _crypt.overhead(name),
            100 + _crypt.overhead(name),
        ]


@pytest.mark.parametrize("name", NAMES)
def test_others_open_what_we_seal(name, level):
    with Crypt(name) as crypt:
        payloads = some_payloads(name, 70)
        assert [open_elsewhere(name, crypt.key, packet) for packet in crypt.seal(payloads)] == payloads


@pytest.mark.parametrize("name", NAMES)
def test_we_open_what_others_seal(name, level):
    with Crypt(name) as crypt:
        payloads = some_payloads(name, 40)
        assert crypt.open([seal_elsewhere(name, crypt.key, payload) for payload in payloads]) == payloads


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.lists(st.integers(0, 1500), max_size=140), st.randoms(use_true_random=False))
def test_round_trip(name, sizes, rng):
    payloads = [rng.randbytes(size) for size in sizes]
    with Crypt(name) as crypt:
        assert crypt.open(crypt.seal(payloads)) == payloads


@pytest.mark.parametrize("name", NAMES)
def test_forged_bit(name):
    clear = 0 if name in AEADS else 8 if name == "salsa20" else 16  # the nonce of the others may be anything
    with Crypt(name) as crypt:
        (packet,) = crypt.seal([os.urandom(90)])
        forged = []
        for bit in range(len(packet) * 8):
            if bit // 8 < clear and name != "salsa20":
                continue
            copy = bytearray(packet)
            copy[bit // 8] ^= 1 << bit % 8
            forged.append(bytes(copy))
        opened = crypt.open(forged)
        if name == "salsa20":  # bytes 8 to 15 are encrypted, but nothing covers them
            opened = opened[: 8 * 8] + opened[16 * 8 :]
        assert set(opened) == {None}


@pytest.mark.parametrize("name", NAMES)
def test_truncated(name):
    with Crypt(name) as crypt:
        (packet,) = crypt.seal([os.urandom(1400)])
        assert set(crypt.open([packet[:size] for size in range(len(packet))])) == {None}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_wrong_key(name):
    with Crypt(name) as ours, Crypt(name, "another") as theirs:
        assert set(ours.open(theirs.seal([os.urandom(100)] * 20))) == {None}


@pytest.mark.parametrize("name", NAMES)
def test_noise(name):
    with Crypt(name) as crypt:
        assert set(crypt.open([os.urandom(size) for size in range(0, 1500, 7)])) == {None}


@pytest.mark.parametrize("name", NAMES)
def test_nonces_differ(name):
    with Crypt(name) as crypt:
        packets = [packet for _ in range(10) for packet in crypt.seal([b"same"] * 100)]
        assert len({packet[:12] for packet in packets}) == 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_nonces_differ_after_fork():
    with Crypt("none") as crypt:
        crypt.seal([b""])
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests
            child = os.fork()
        if child == 0:
            os.write(write, crypt.seal([b""])[0])
            os._exit(0)
        ours = crypt.seal([b""])[0]
        theirs = os.read(read, 100)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
        assert ours[:16] != theirs[:16]


# ---- keys and names ----


def test_names():
    assert set(_crypt.NAMES) == {"null", *NAMES}
    assert _crypt.open_crypt("null", b"") == 0 and _crypt.overhead("null") == 0
    for name in ("AES", "rc4", "", None):
        with pytest.raises(ValueError, match="^crypt: "):
            _crypt.key_of(name, "x")


def test_derived_key_is_kcptuns():
    key = hashlib.pbkdf2_hmac("sha1", b"it's a secrect", b"kcp-go", 4096, 32)
    assert _crypt.derive("it's a secrect") == key
    cuts = {"aes-128": 16, "aes-128-gcm": 16, "sm4": 16, "tea": 16, "xtea": 16, "cast5": 16, "aes-192": 24, "3des": 24}
    for name in _crypt.NAMES:
        assert _crypt.key_of(name, "it's a secrect") == key[: cuts.get(name, 32)]


@pytest.mark.parametrize(
    "name, good, bad",
    [
        ("aes", [32], [16, 24, 0, 33]),
        ("aes-128", [16], [15, 32]),
        ("aes-192", [24], [16]),
        ("aes-128-gcm", [16], [32]),
        ("aes-256-gcm", [32], [16]),
        ("chacha20-poly1305", [32], [31]),
        ("salsa20", [32], [16]),
        ("xor", [1, 5, 100], [0]),
        ("blowfish", [4, 32, 56], [3, 57]),
        ("twofish", [16, 24, 32], [8, 20, 33]),
        ("cast5", [5, 16], [4, 17]),
        ("3des", [24], [16, 8]),
        ("tea", [16], [8, 32]),
        ("xtea", [16], [8, 32]),
        ("sm4", [16], [8, 32]),
        ("none", [0, 7], []),
        ("null", [0, 7], []),
    ],
)
def test_key_lengths(name, good, bad):
    for size in good:
        key = os.urandom(size)
        assert _crypt.key_of(name, bytearray(key)) == key
        if name != "null":
            with Crypt(name, key) as crypt:
                assert crypt.open([seal_elsewhere(name, key, b"hello")]) == [b"hello"]
    for size in bad:
        key = b"\xa5" * size
        for refuse in (_crypt.key_of, _crypt.open_crypt):
            with pytest.raises(ValueError, match=f"^key: {size} bytes, but {name} takes ") as caught:
                refuse(name, key)
            assert "a5" not in str(caught.value) and "¥" not in str(caught.value)


def test_key_type():
    for key in (None, 5, ["a"]):
        with pytest.raises(TypeError, match="^key: "):
            _crypt.key_of("aes", key)


def test_3des_takes_every_key():
    # kcp-go does; pycryptodome's public API refuses those that come down to one DES.
    from Crypto.Cipher import DES

    one, two = b"abcdefgh", b"stuvwxyz"
    for key, single in ((one + one + two, two), (two + one + one, two), (one * 3, one)):
        with Crypt("3des", key) as crypt:
            packet = crypt.seal([b"payload"])[0]
            plain = DES.new(single, DES.MODE_CFB, iv=IV[:8], segment_size=64).decrypt(packet)
            assert plain[20:] == b"payload"


# ---- handles ----


def test_handles():
    number = open_crypt("sm4", bytes(16))
    assert number >= 1
    assert lib.ks_crypt_close(number) == 0
    sizes = ffi.new("int32_t[1]")
    for dead in (number, 0, -1, 1 << 30):
        assert lib.ks_crypt_close(dead) < 0
        assert lib.ks_crypt_overhead(dead) < 0
        assert lib.ks_crypt_seal_packets(dead, ffi.NULL, 0, sizes, 1) < 0
        assert lib.ks_crypt_open_packets(dead, ffi.NULL, 0, sizes, 1) < 0


def test_bad_arguments():
    with Crypt("aes") as crypt:
        space = ffi.new("uint8_t[100]")
        for stride, size, n in ((100, 81, 1), (10, 0, 1), (100, -1, 1), (-1, 0, 1), (100, 0, -1)):
            assert lib.ks_crypt_seal_packets(crypt.number, space, stride, ffi.new("int32_t[]", [size]), n) < 0
        for stride, size, n in ((100, 101, 1), (100, -1, 1), (-1, 0, 1), (100, 0, -1)):
            assert lib.ks_crypt_open_packets(crypt.number, space, stride, ffi.new("int32_t[]", [size]), n) < 0
    for mode in (-1, 6, lib.KS_CRYPT_CFB, lib.KS_CRYPT_GCM, lib.KS_CRYPT_XOR, lib.KS_CRYPT_SALSA20):
        assert lib.ks_crypt_open(mode, lib.KS_CIPHER_GIVEN, b"x", 1, 0) < 0
    assert lib.ks_crypt_open(lib.KS_CRYPT_GCM, lib.KS_CIPHER_TEA, bytes(16), 16, 0) < 0
    assert lib.ks_crypt_open(lib.KS_CRYPT_CFB, lib.KS_CIPHER_TEA, bytes(15), 15, 0) < 0


def test_table_full_and_memory_given_back():
    before = kcpsock.stats()["MemoryBytes"]
    numbers = []
    try:
        with pytest.raises(OSError) as caught:
            for _ in range(5000):
                numbers.append(_crypt.open_crypt("twofish", bytes(32)))
        assert caught.value.errno == errno.EMFILE
        assert kcpsock.stats()["MemoryBytes"] > before
    finally:
        for number in numbers:
            product.ks_crypt_close(number)
    # It is the process' number: what sessions of other tests that have not gone yet send adds to it for a moment.
    eventually(lambda: kcpsock.stats()["MemoryBytes"] <= before)


# ---- pycryptodome's handles, and what happens where they are not as expected ----


@pytest.mark.parametrize("module", ["AES", "Blowfish", "CAST", "DES3"])
def test_check_passes_here(module):
    assert _crypt._is_as_expected(module)


def test_check_refuses():
    handle = _crypt._raw_handle("AES", bytes(16))
    address = _crypt._address(handle.get())
    plain = os.urandom(64)
    good = AES.new(bytes(16), AES.MODE_ECB).encrypt(plain)
    paths = _crypt._libraries("AES")
    check = lib.ks_crypt_check
    assert 1 in [check(address, path, 16, plain, good, 64) for path in paths]
    for path in paths:
        assert check(address, path, 8, plain, good, 64) == 0
        assert check(address, path, 16, plain, plain, 64) == 0
        assert check(address, path, 16, plain, good, 63) == 0
        assert check(0, path, 16, plain, good, 64) == 0
    assert check(address, b"/nowhere", 16, plain, good, 64) == 0
    assert check(address, os.fsencode(os.__file__), 16, plain, good, 64) == 0
    # Other layouts: nothing of them is called.
    real = bytes(ffi.buffer(ffi.cast("uint8_t *", address), struct.calcsize("@4N")))
    encrypt, decrypt, destructor, size = struct.unpack("@4N", real)
    garbage = [
        os.urandom(32),
        bytes(32),
        real[8:] + real[:8],
        struct.pack("@4N", encrypt, decrypt, destructor, size - 1),
        struct.pack("@4N", encrypt, encrypt, destructor, size),
        struct.pack("@4N", encrypt, decrypt, address, size),
        struct.pack("@4N", id(ZEROS), decrypt, destructor, size),
    ]
    for layout in garbage:
        fake = ffi.new("uint8_t[64]", layout)
        for path in paths:
            assert check(int(ffi.cast("uintptr_t", fake)), path, 16, plain, good, 64) == 0


@pytest.mark.parametrize("name", [*FOREIGN, "aes-128-gcm"])
def test_fall_back_to_the_public_api(name, monkeypatch):
    monkeypatch.setattr(_crypt, "_checked", {})
    monkeypatch.setattr(_crypt, "_is_as_expected", lambda module: False)
    with pytest.warns(RuntimeWarning, match="slower and needs the GIL"):
        crypt = Crypt(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Crypt(name).__exit__()  # once is enough
    with crypt:
        payloads = some_payloads(name, 70)
        packets = crypt.seal(payloads)
        assert [open_elsewhere(name, crypt.key, packet) for packet in packets] == payloads
        assert crypt.open(packets) == payloads
        assert crypt.open([seal_elsewhere(name, crypt.key, b"hello")]) == [b"hello"]
    assert _crypt._in_python == {}


def test_fall_back_3des_takes_every_key(monkeypatch):
    one, two = b"abcdefgh", b"stuvwxyz"
    for key in (one + one + two, two + one + one, one * 3):
        with Crypt("3des", key) as direct:
            packets = direct.seal(some_payloads(1, 5))
            with monkeypatch.context() as patch:
                patch.setattr(_crypt, "_checked", {"DES3": False})
                with Crypt("3des", key) as fall_back:
                    assert fall_back.open(packets) == direct.open(packets)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_fall_back_that_fails_sends_nothing(monkeypatch):
    monkeypatch.setattr(_crypt, "_checked", {"AES": False})

    def broken(module, key):
        def encrypt(data):
            raise RuntimeError("no")

        return encrypt

    monkeypatch.setattr(_crypt, "_public", broken)
    with Crypt("aes") as crypt:
        sizes = ffi.new("int32_t[]", [10])
        space = ffi.new("uint8_t[]", STRIDE)
        assert lib.ks_crypt_seal_packets(crypt.number, space, STRIDE, sizes, 1) < 0
        assert crypt.open([os.urandom(100)]) == [None]
