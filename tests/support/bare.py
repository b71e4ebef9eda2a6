# SPDX-License-Identifier: MIT
"""Parts of the data plane alone: `ffi` and `lib` of an extension of its own (cffi_build/bare/), and crypts in it.

It holds a copy of the data plane: its engines, crypts and kernels are not those of kcpsock._native.
"""

from unittest import mock

from kcpsock import _crypt

try:
    from tests.support._bare import ffi, lib
except ImportError as error:
    raise ImportError(f"{error}; to build it: python tests/support/build_bare.py") from error

__all__ = ["ffi", "lib", "open_crypt"]

ffi.def_extern(name="ks_encrypt_in_python", error=-1)(_crypt._encrypt_in_python)


def open_crypt(crypt: str, key: bytes) -> int:
    """As `kcpsock._crypt.open_crypt`; the number is one of `lib` here."""
    with mock.patch.object(_crypt, "lib", lib):
        return _crypt.open_crypt(crypt, key)
