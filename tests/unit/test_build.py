# SPDX-License-Identifier: MIT
"""How the extension's interface comes from the C headers."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import kcpsock
from kcpsock._native import lib

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def build(monkeypatch):
    """cffi_build/build.py, as setup.py has it."""
    pytest.importorskip("setuptools")
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("kcpsock_build", "cffi_build/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def headers(build, tmp_path, monkeypatch):
    """Writes an api.h, whose declarations are to be found."""
    monkeypatch.setattr(build, "HERE", str(tmp_path))
    monkeypatch.setattr(build, "DIALECT", [f"-I{ROOT}/cffi_build"])

    def write(text):
        (tmp_path / "api").mkdir()
        (tmp_path / "api" / "api.h").write_text(text)
        return build

    return write


def test_declarations_are_what_stands_between_the_marks(headers):
    text = """
        #include <stdint.h>
        #include "base/cdef.h"
        int hidden(void);
        KS_CDEF
        #define EACH(X) X(a) X(b)
        #define MEMBER(name) uint64_t name;
        typedef struct { EACH(MEMBER) } pair; /* KS_CDEF_END in a comment */
        KS_CDEF_END
        static inline int body(void) { return 1; }
        KS_CDEF int shown(pair *p); KS_CDEF_END
    """
    found = headers(text).declarations("api/api.h")
    assert found.split() == "typedef struct { uint64_t a; uint64_t b; } pair; int shown(pair *p);".split()


@pytest.mark.parametrize(
    "body", ["", "KS_CDEF int a;", "int a; KS_CDEF_END", "KS_CDEF int a; KS_CDEF int b; KS_CDEF_END"]
)
def test_marks_without_each_other_are_refused(headers, body):
    with pytest.raises(SystemExit, match="KS_CDEF"):
        headers('#include "base/cdef.h"\n' + body).declarations("api/api.h")


def test_a_header_that_does_not_compile_is_named(headers):
    with pytest.raises(SystemExit, match="could not read .*api.h.*exit status"):
        headers('#include "no_such.h"\n').declarations("api/api.h")


def test_a_missing_compiler_is_named(build, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(SystemExit, match="could not read cffi_build/api/api.h.*no-such-compiler"):
        build.declarations("api/api.h")


def test_stub_has_the_names_of_the_extension():
    stub = ast.parse((Path(kcpsock.__file__).parent / "_native.pyi").read_text())
    (body,) = (node.body for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "Lib")
    names = {node.name if isinstance(node, ast.FunctionDef) else node.target.id for node in body}
    assert names == set(dir(lib))


def test_extension_has_only_what_the_package_uses():
    package = Path(kcpsock.__file__).parent
    used = set(re.findall(r"\bks_\w+|\bKS_\w+", "".join(path.read_text() for path in package.rglob("*.py"))))
    # The bounds are for the test that compares them, and a codec's Python does what is no other request.
    assert set(dir(lib)) - used == {"ks_profile_bounds", "KS_CODEC_DECOMPRESS"}
