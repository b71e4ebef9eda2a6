# SPDX-License-Identifier: MIT
"""Runs a Python program over KCP, with no line of it changed.

python -m kcpsock.monkey [--profile URL] [--route HOST:PORT=URL ...] script.py ARGS
python -m kcpsock.monkey [--profile URL] [--route HOST:PORT=URL ...] -m module ARGS
"""

from __future__ import annotations

import importlib.machinery
import io
import os
import re
import runpy
import sys
import types
from typing import Any, Optional

from ._routes import Routes, parse_route, parse_url

USAGE = """\
usage: python -m kcpsock.monkey [OPTION ...] script.py [ARGS]
       python -m kcpsock.monkey [OPTION ...] -m module [ARGS]

Runs a Python program whose TCP sockets are KCP, or some of them.

  --profile URL            how KCP sockets behave, kcp://?mode=fast3; default: the environment's KCPSOCK_PROFILE
  --route HOST:PORT=URL    URL for an address that the program connects to or binds: tcp, kcp (the default profile), or
                           a kcp:// URL. HOST and PORT may be *. May be given several times: the first that matches
                           counts.
  -h, --help               this text

What no route matches is KCP by --profile; if routes are given, but no --profile, it is TCP.
"""


class _Wrong(Exception):
    # A command line that can't be meant.
    pass


def main(argv: Optional[list[str]] = None) -> None:
    """The command; returns when the program ends, raises what it raises."""
    try:
        profile, rules, module, program = _parse(sys.argv[1:] if argv is None else argv)
    except _Wrong as wrong:
        print(f"kcpsock.monkey: {wrong}", file=sys.stderr)
        sys.exit(2)

    from kcpsock import monkey

    if rules:
        monkey.patch_socket(route=Routes(rules, profile))
    else:
        monkey.patch_socket(profile)
    if module:
        _run_module(program)
    else:
        _run_script(program)


def _parse(argv: list[str]) -> tuple[Any, list[Any], bool, list[str]]:
    # (profile, rules, whether it is a module, program and its arguments)
    profile = None
    rules = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in ("-h", "--help"):
            print(USAGE, end="")
            sys.exit(0)
        if name in ("--profile", "--route"):
            if not equals:
                if not rest:
                    raise _Wrong(f"{name} needs a value")
                value = rest.pop(0)
            try:
                if name == "--route":
                    rules.append(parse_route(value))
                else:
                    profile = parse_url(value)
            except ValueError as error:
                which = f"{name} {1 + len(rules)}" if name == "--route" else name
                raise _Wrong(f"{which}: {error}") from None
            if name == "--profile" and profile is None:
                raise _Wrong("--profile: 'tcp' is no profile; to have TCP for an address, use --route")
        elif word == "-m":
            if not rest:
                raise _Wrong("-m needs the name of a module")
            return profile, rules, True, rest
        elif word == "--":
            break
        elif word.startswith("-") and word != "-":
            raise _Wrong(f"no such option: {_option_of(word)}; see --help")
        else:
            rest.insert(0, word)
            break
    if not rest:
        raise _Wrong("no program; see --help")
    if "://" in rest[0] and not os.path.exists(rest[0]):
        raise _Wrong("a URL stands where the program should; --profile or --route goes before it; see --help")
    return profile, rules, False, rest


def _option_of(word: str) -> str:
    # The option's name without what else is in the word, which may be a URL with a key.
    found = re.match("-[a-zA-Z]|--[a-zA-Z-]*", word)
    return found.group() if found else "-"


def _run_script(program: list[str]) -> None:
    # As the interpreter does `python script.py ARGS`; a directory or zip file holds its __main__.py.
    path = program[0]
    sys.argv[:] = program
    if os.path.isdir(path) or not path.endswith((".py", ".pyw")) and _is_container(path):
        _replace_path0(path)
        ourselves = sys.modules.pop("__main__")
        try:
            spec, code = _details("__main__")
        finally:
            sys.modules["__main__"] = ourselves
        _run(spec, code, path)
        return
    try:
        with io.open_code(os.path.abspath(path)) as file:
            source = file.read()
    except OSError as error:
        print(f"kcpsock.monkey: can't open file {path!r}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    _replace_path0(os.path.dirname(os.path.realpath(path)))
    main_module = types.ModuleType("__main__")
    main_module.__file__ = path if sys.version_info < (3, 9) else os.path.abspath(path)
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    main_module.__dict__.update(__builtins__=__builtins__, __loader__=loader, __cached__=None)
    _execute(main_module, compile(source, path, "exec", dont_inherit=True))


def _run_module(program: list[str]) -> None:
    # As `python -m module ARGS`.
    sys.argv[:] = program
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd()
    try:
        spec, code = _details(program[0])
    except ImportError as error:
        print(f"{sys.executable}: {error}", file=sys.stderr)
        sys.exit(1)
    sys.argv[0] = spec.origin
    _run(spec, code, spec.origin)


def _run(spec: Any, code: Any, file: str) -> None:
    main_module = types.ModuleType("__main__")
    main_module.__dict__.update(
        __builtins__=__builtins__,
        __file__=spec.origin or file,
        __cached__=spec.cached,
        __loader__=spec.loader,
        __package__=spec.parent,
        __spec__=spec,
    )
    _execute(main_module, code)


def _execute(main_module: types.ModuleType, code: Any) -> None:
    # In a module of its own, which stays __main__ until the interpreter ends: threads and pickle may ask for it.
    sys.modules["__main__"] = main_module
    exec(code, main_module.__dict__)


def _details(name: str) -> tuple[Any, Any]:
    # What pdb and profile use too.
    _, spec, code = runpy._get_module_details(name)  # type: ignore[attr-defined]
    return spec, code


def _is_container(path: str) -> bool:
    import zipfile

    return os.path.isfile(path) and zipfile.is_zipfile(path)


def _replace_path0(path: str) -> None:
    # `python -m` put the current directory there; in safe-path mode it put nothing, and neither do we.
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = path


if __name__ == "__main__":
    main()
