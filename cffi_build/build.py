# SPDX-License-Identifier: MIT
"""Which files and flags make `kcpsock._native`; setup.py reads `ffibuilder` from here.

The environment may ask for another build than the usual one:
  KCPSOCK_WERROR=1           warnings are errors
  KCPSOCK_SANITIZE=LIST      what -fsanitize= shall check: "address,undefined" or "thread"
  KCPSOCK_PLAIN=1            only what every POSIX system has: none of Linux's own calls
"""

import glob
import os
from pathlib import Path

from cffi import FFI

HERE = "cffi_build"  # relative to setup.py, as setuptools wants it
UNITS = [
    *("api", "arq", "fec_alone", "fec_bench"),
    *("engine", "listener", "accept_queue", "lobby", "front", "oob"),
    *("session", "session_streams", "session_data", "stream"),
    *("profile", "smux", "codec", "wire", "kcp", "kcp_flight", "kcp_flush", "seg", "entropy"),
    *("crypts", "crypt", "cfb", "aead", "twofish", "sm4", "tea", "keystream", "poly1305", "ghash", "crc32", "simd"),
    *("fec_code", "fec_decoder", "fec_encoder", "fec_tune", "gf256"),
    *("udp", "poller", "timer", "mem"),
]
WARNINGS = [
    *("-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wpointer-arith"),
    *("-Wwrite-strings", "-Wvla"),
]

# api.h only. The pragmas keep our warnings out of what cffi generates behind it.
PREAMBLE = """
#include "api.h"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wsign-compare"
"""


def compile_args() -> list[str]:
    args = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-g1", "-fvisibility=hidden", "-pthread", *WARNINGS]
    if os.environ.get("KCPSOCK_PLAIN") == "1":
        args.append("-DKS_PLAIN")
    if os.environ.get("KCPSOCK_WERROR") == "1":
        args.append("-Werror")
    if os.environ.get("KCPSOCK_SANITIZE"):
        args += ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", *sanitizers()]
    return args


def sanitizers() -> list[str]:
    checks = os.environ.get("KCPSOCK_SANITIZE")
    return [f"-fsanitize={checks}"] if checks else []


ffibuilder = FFI()
ffibuilder.cdef(Path(HERE, "api.cdef").read_text(encoding="utf-8"))
ffibuilder.set_source(
    "kcpsock._native",
    PREAMBLE,
    sources=[f"{HERE}/{unit}.c" for unit in UNITS],
    depends=[f"{HERE}/build.py", f"{HERE}/api.cdef", *sorted(glob.glob(f"{HERE}/*.h"))],
    include_dirs=[HERE],
    extra_compile_args=compile_args(),
    extra_link_args=["-pthread", *sanitizers()],
)
