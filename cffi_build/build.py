# SPDX-License-Identifier: MIT
"""Which files and flags make the extensions: `product()` is kcpsock._native, `bare()` is tests.support._bare.

Each folder is a layer of the data plane (layers.py). The product has every C file but those in bare/, which show its
parts alone to tests and benchmarks; the other extension has all.

The environment may ask for another build than the usual one:
  KCPSOCK_WERROR=1           warnings are errors
  KCPSOCK_SANITIZE=LIST      what -fsanitize= shall check: "address,undefined" or "thread"; with it
                             go KS_CHECKS (checks.h)
  KCPSOCK_PLAIN=1            only what every POSIX system has: none of Linux's own calls
"""

import glob
import os
import re
import subprocess
from distutils.ccompiler import new_compiler  # setuptools' own: setup.py has imported it
from distutils.sysconfig import customize_compiler

from cffi import FFI

HERE = "cffi_build"  # relative to setup.py, as setuptools wants it
WARNINGS = [
    *("-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wpointer-arith"),
    *("-Wwrite-strings", "-Wvla"),
]

# The pragmas keep our warnings out of what cffi generates behind the header.
PREAMBLE = """
#include "{header}"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wsign-compare"
"""

# What C calls in Python; the functions' types stand in codec.h and crypts.h.
CALLBACKS = """
extern "Python" int ks_run_codec(uint64_t id, int what, const uint8_t *in, int size, uint8_t *out, int cap);
extern "Python" int ks_encrypt_in_python(int id, const uint8_t *in, uint8_t *out, size_t size);
"""
DIALECT = ["-std=c11", "-D_GNU_SOURCE"]


def declarations(header: str) -> str:
    """What `header` and those it includes declare for Python (cdef.h), as the compiler sees it, without macros."""
    compiler = new_compiler()
    customize_compiler(compiler)  # CC, CFLAGS and the like, as for the build itself
    command = [*compiler.preprocessor, *DIALECT, "-DKS_FOR_CFFI", f"-I{HERE}", "-x", "c", f"{HERE}/{header}"]
    try:
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"kcpsock: the C compiler could not read {HERE}/{header}: {error}") from error
    text = re.sub(r"^#.*", "", text, flags=re.MULTILINE)  # which line came from where
    parts = re.findall(r"\bKS_CDEF\b(.*?)\bKS_CDEF_END\b", text, re.DOTALL)
    if not parts or len(re.findall(r"\bKS_CDEF(?:_END)?\b", text)) != 2 * len(parts):
        raise SystemExit(f"kcpsock: KS_CDEF without its KS_CDEF_END in {HERE}/{header} or a header that it includes")
    return re.sub(r"\s*\n\s*", "\n", "".join(parts))


def compile_args() -> list[str]:
    args = [*DIALECT, "-O2", "-g1", "-fvisibility=hidden", "-pthread", *WARNINGS]
    if os.environ.get("KCPSOCK_PLAIN") == "1":
        args.append("-DKS_PLAIN")
    if os.environ.get("KCPSOCK_WERROR") == "1":
        args.append("-Werror")
    if os.environ.get("KCPSOCK_SANITIZE"):
        args += ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", "-DKS_CHECKS", *sanitizers()]
    return args


def sanitizers() -> list[str]:
    checks = os.environ.get("KCPSOCK_SANITIZE")
    return [f"-fsanitize={checks}"] if checks else []


def extension(name: str, header: str, sources: list[str]) -> FFI:
    builder = FFI()
    builder.cdef(declarations(header) + CALLBACKS)
    builder.set_source(
        name,
        PREAMBLE.format(header=header),
        sources=sources,
        depends=[f"{HERE}/build.py", *sorted(glob.glob(f"{HERE}/*/*.h"))],
        include_dirs=[HERE],
        extra_compile_args=compile_args(),
        extra_link_args=["-pthread", *sanitizers()],
    )
    return builder


def product() -> FFI:
    sources = sorted(set(glob.glob(f"{HERE}/*/*.c")) - set(glob.glob(f"{HERE}/bare/*.c")))
    return extension("kcpsock._native", "api/api.h", sources)


def bare() -> FFI:
    return extension("tests.support._bare", "bare/bare.h", sorted(glob.glob(f"{HERE}/*/*.c")))
