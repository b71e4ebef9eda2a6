# SPDX-License-Identifier: MIT
"""Set-up of packet crypt: names, keys, and the handles that the C data plane encrypts with (cffi_build/crypt/crypt.h).

The block ciphers aes*, 3des, blowfish and cast5 are pycryptodome's: a keyed handle of it goes to C, which calls it for
many blocks at once, without the GIL. How such a handle looks inside is pycryptodome's own affair, so before a cipher's
first use C checks it, and a known answer is compared with the public API. Where the check fails, C calls back into
Python and the public API encrypts: right, but slower, and it waits for the GIL; a RuntimeWarning says so once.

pycryptodome is imported, and a cipher checked, when a cipher of it is first opened: that costs tens of milliseconds,
which programs without crypt don't pay.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import warnings
from typing import Any, Callable, NamedTuple, Union

from . import _fork
from ._errors import check
from ._native import ffi, lib


class _Kind(NamedTuple):
    mode: int
    key_lengths: range | tuple[int, ...]
    cut: int  # bytes of a derived key, as kcptun cuts them
    cipher: int = lib.KS_CIPHER_GIVEN
    module: str = ""  # of Crypto.Cipher
    overhead: int = 20  # nonce 16, crc32 4


_XOR_TABLE_BYTES = 1500
_ANY = range(1 << 31)
_CFB, _GCM, _GCM_BYTES = lib.KS_CRYPT_CFB, lib.KS_CRYPT_GCM, 28  # nonce 12, tag 16
_KINDS = {
    "null": _Kind(-1, _ANY, 32, overhead=0),
    "none": _Kind(lib.KS_CRYPT_NONE, _ANY, 32),
    "aes": _Kind(_CFB, (32,), 32, module="AES"),
    "aes-128": _Kind(_CFB, (16,), 16, module="AES"),
    "aes-192": _Kind(_CFB, (24,), 24, module="AES"),
    "aes-128-gcm": _Kind(_GCM, (16,), 16, module="AES", overhead=_GCM_BYTES),
    "aes-256-gcm": _Kind(_GCM, (32,), 32, module="AES", overhead=_GCM_BYTES),
    "chacha20-poly1305": _Kind(lib.KS_CRYPT_CHACHA20, (32,), 32, overhead=_GCM_BYTES),
    "salsa20": _Kind(lib.KS_CRYPT_SALSA20, (32,), 32),
    "blowfish": _Kind(_CFB, range(4, 57), 32, module="Blowfish"),
    "twofish": _Kind(_CFB, (16, 24, 32), 32, lib.KS_CIPHER_TWOFISH),
    "cast5": _Kind(_CFB, range(5, 17), 16, module="CAST"),  # kcp-go takes 16 only
    "3des": _Kind(_CFB, (24,), 24, module="DES3"),
    "tea": _Kind(_CFB, (16,), 16, lib.KS_CIPHER_TEA),
    "xtea": _Kind(_CFB, (16,), 16, lib.KS_CIPHER_XTEA),
    "xor": _Kind(lib.KS_CRYPT_XOR, range(1, 1 << 31), 32),
    "sm4": _Kind(_CFB, (16,), 16, lib.KS_CIPHER_SM4),
}
NAMES = tuple(_KINDS)


def _kind(crypt: str) -> _Kind:
    try:
        return _KINDS[crypt]
    except (KeyError, TypeError):
        raise ValueError(f"crypt: {crypt!r} is not known; one of {', '.join(NAMES)}") from None


def authenticates(crypt: str) -> bool:
    """Whether a packet that this crypt lets pass was made by who has the key."""
    return _kind(crypt).overhead == _GCM_BYTES


def derive(passphrase: str) -> bytes:
    """The 32 bytes that kcptun makes of a passphrase."""
    return _stretched(passphrase.encode(), b"kcp-go", 4096, 32)


def _stretched(password: bytes, salt: bytes, rounds: int, size: int) -> bytes:
    with _fork.held:  # OpenSSL's locks
        return hashlib.pbkdf2_hmac("sha1", password, salt, rounds, size)


def key_of(crypt: str, key: Union[str, bytes]) -> bytes:
    """The key as `open_crypt` wants it: a str is a passphrase, bytes are the key itself.

    ValueError for a length that the cipher does not take, TypeError for neither str nor bytes. Messages hold no key.
    """
    kind = _kind(crypt)
    if isinstance(key, str):
        return derive(key)[: kind.cut]
    if not isinstance(key, (bytes, bytearray, memoryview)):
        raise TypeError(f"key: str (a passphrase) or bytes (the key itself), not {type(key).__name__}")
    key = bytes(key)
    if len(key) not in kind.key_lengths:
        raise ValueError(f"key: {len(key)} bytes, but {crypt} takes {_lengths(kind.key_lengths)}")
    return key


def _lengths(allowed: range | tuple[int, ...]) -> str:
    if isinstance(allowed, tuple):
        return " or ".join(map(str, allowed))
    return f"{allowed[0]} to {allowed[-1]}" if allowed[-1] < 1 << 16 else f"at least {allowed[0]}"


def overhead(crypt: str) -> int:
    """Bytes around a packet's payload."""
    return _kind(crypt).overhead


def open_crypt(crypt: str, key: bytes) -> int:
    """A number of the C data plane, for `ks_profile.crypt`; 0 for null. OSError when there is no room or memory."""
    kind = _kind(crypt)
    if kind.mode < 0:
        return 0
    key = key_of(crypt, key)
    given = _foreign(kind.module, key) if kind.module else 0
    if kind.mode == lib.KS_CRYPT_XOR:
        key = _stretched(key, b"sH3CIVoF#rWLtJo6", 32, _XOR_TABLE_BYTES)
    if kind.mode == lib.KS_CRYPT_NONE or given:
        key = b""
    return check(lib.ks_crypt_open(kind.mode, kind.cipher, key, len(key), given))


# ---- pycryptodome's block ciphers ----


class _Raw(NamedTuple):
    library: str  # of Crypto.Cipher, and how the names of its functions begin
    prefix: str
    block_len: int


_RAW = {
    "AES": _Raw("_raw_aes", "AES", 16),
    "Blowfish": _Raw("_raw_blowfish", "Blowfish", 8),
    "CAST": _Raw("_raw_cast", "CAST", 8),
    "DES3": _Raw("_raw_des3", "DES3", 8),
}
_checked: dict[str, bool] = {}
_in_python: dict[int, Callable[[bytes], bytes]] = {}
_ids = itertools.count(1)


def _foreign(module: str, key: bytes) -> int:
    # The address of a keyed block cipher; it belongs to C from here on.
    with _fork.held:  # the imports' locks; and it guards _checked
        if module not in _checked:
            _checked[module] = _is_as_expected(module)
            if not _checked[module]:
                warnings.warn(
                    f"kcpsock can't use pycryptodome's {module} directly (a version it does not know): packets go "
                    "through its Python interface, which is slower and needs the GIL",
                    RuntimeWarning,
                    stacklevel=4,
                )
        is_direct = _checked[module]
    if is_direct:
        return _address(_raw_handle(module, key).release())
    number = next(_ids)
    _in_python[number] = _public(module, key)
    address = lib.ks_crypt_elsewhere(lib.ks_encrypt_in_python, number, _RAW[module].block_len)
    if address == 0:
        del _in_python[number]
        raise MemoryError
    return address


def _raw_handle(module: str, key: bytes) -> Any:
    # A SmartPointer. 3des goes around its Python side, which refuses keys that kcp-go takes (K1 = K2 or K2 = K3).
    cipher = importlib.import_module(f"Crypto.Cipher.{module}")
    if module != "DES3":
        return cipher._create_base_cipher({"key": key})
    from Crypto.Util import _raw_api

    library = cipher._raw_des3_lib
    pointer = _raw_api.VoidPointer()
    if library.DES3_start_operation(key, _raw_api.c_size_t(len(key)), pointer.address_of()):
        raise ValueError("3des: pycryptodome refuses the key")
    return _raw_api.SmartPointer(pointer.get(), library.DES3_stop_operation)


def _address(pointer: Any) -> int:
    # Of pycryptodome's void pointer: cffi's or, where it could not load cffi, ctypes'.
    value = getattr(pointer, "value", None)
    if isinstance(value, int):
        return value
    return int(ffi.cast("uintptr_t", pointer))


def _is_as_expected(module: str) -> bool:
    raw = _RAW[module]
    key = bytes(range(1, 17)) if module != "DES3" else bytes(range(2, 50, 2))
    plain = bytes(i * 7 & 255 for i in range(raw.block_len * 37))
    try:
        expected = _public(module, key)(plain)
        handle = _raw_handle(module, key)
        address = _address(handle.get())
    except (AttributeError, TypeError):  # the private names have changed
        return False
    size = len(plain)
    return any(
        lib.ks_crypt_check(address, path, raw.block_len, plain, expected, size) == 1 for path in _libraries(module)
    )


def _libraries(module: str) -> list[bytes]:
    # The shared objects that may hold the cipher: for AES also that with the processor's own instructions.
    import glob
    import os

    import Crypto.Cipher

    directory = os.path.dirname(Crypto.Cipher.__file__)
    return [os.fsencode(path) for path in sorted(glob.glob(os.path.join(directory, _RAW[module].library + "*")))]


def _public(module: str, key: bytes) -> Callable[[bytes], bytes]:
    # ECB by the public API.
    if module == "DES3":
        from Crypto.Cipher import DES

        key = bytes(byte & 0xFE for byte in key)  # the parity bits: no part of the key
        if key[:8] == key[8:16]:
            return DES.new(key[16:], DES.MODE_ECB).encrypt
        if key[8:16] == key[16:]:
            return DES.new(key[:8], DES.MODE_ECB).encrypt
    cipher = importlib.import_module(f"Crypto.Cipher.{module}")
    encrypt: Callable[[bytes], bytes] = cipher.new(key, cipher.MODE_ECB).encrypt
    return encrypt


def is_in_python() -> bool:
    """Whether packets of some connection go through pycryptodome's Python interface."""
    return bool(_in_python)


@ffi.def_extern(name="ks_encrypt_in_python", error=-1)  # type: ignore[untyped-decorator]
def _encrypt_in_python(number: int, data: Any, out: Any, size: int) -> int:
    if size == 0:
        _in_python.pop(number, None)
        return 0
    ffi.buffer(out, size)[:] = _in_python[number](ffi.buffer(data, size)[:])
    return 0
