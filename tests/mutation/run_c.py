#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plants each change of c_changes.py in a copy of the C sources, and runs the C tests until one fails.

    tests/mutation/run_c.py [NAME...]      only the changes whose name contains one of these

A change that no test notices, or whose text no longer stands in its file exactly once, is a failure: exit status 1.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from c_changes import CHANGES, Change

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "build" / "mutate-c"
OUT = COPY / "build" / "tests-c" / "mutate"
# The short ones first, so that most changes are found within a second.
FIRST = (
    *("test_timer", "test_mem", "test_smux", "test_front", "fuzz_kcp", "fuzz_fec", "test_engine_sleep"),
    *("test_listener", "test_wire", "test_session", "test_session_ends", "test_kcp", "test_link", "fuzz_port"),
)
LEFT_OUT = ("test_engine", "test_crypt")  # engines in threads: long, and never twice the same; published vectors
OTHERS = sorted({path.stem for path in (ROOT / "tests" / "c").glob("test_*.c")} - {*FIRST, *LEFT_OUT})
PROGRAMS = (*FIRST, *OTHERS)
FUZZ_RUNS = "500"
TIME_LIMIT_S = 60


class Failure(NamedTuple):
    """Which test noticed the change."""

    test: str
    how: str


def copy_sources() -> None:
    """Keeps what is the same, so that only what has changed is compiled again."""
    for folder in ("cffi_build", "tests/c", "tests/fuzz"):
        kept = {Path("_native.c"), Path("_native.o")}
        for source in (ROOT / folder).rglob("*"):
            if source.is_dir() or source.relative_to(ROOT / folder) in kept or "__pycache__" in source.parts:
                continue
            target = COPY / source.relative_to(ROOT)
            kept.add(source.relative_to(ROOT / folder))
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        for target in (COPY / folder).rglob("*"):
            if target.is_file() and target.relative_to(COPY / folder) not in kept:
                target.unlink()


def make() -> str:
    """Returns what the compiler says if it refuses."""
    programs = [str(OUT / program) for program in PROGRAMS]
    command = ["make", "-s", "-C", str(COPY / "tests" / "c"), f"OUT={OUT}", "CFLAGS=-O1", "SHARED=1", "-j2", *programs]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout


def run(program: str) -> "Failure | None":
    arguments = [FUZZ_RUNS] if program.startswith("fuzz_") else []
    environment = {**os.environ, "CHECK_NAMES": "1"}
    log = OUT / "log"
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                [str(OUT / program), *arguments],
                stdout=output,
                stderr=output,
                env=environment,
                timeout=TIME_LIMIT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    if code == 0:
        return None
    said = log.read_text(errors="replace")
    failed = re.findall(r"^FAILED (\w+)", said, re.MULTILINE)
    running = re.findall(r"^RUN (\w+)|\rseed (\d+) ", said, re.MULTILINE)
    last = "".join(running[-1]) if running else "?"
    how = "fails" if failed else "hangs" if code is None else "aborts"
    return Failure(f"{program}: {failed[0] if failed else last}", how)


def children_seconds() -> float:
    """What the programs have had of the processor: on a busy machine the wall clock tells nothing."""
    times = os.times()
    return times.children_user + times.children_system


def first_failure() -> "tuple[Failure | None, float]":
    """Also how long the tests ran until then, without the time to compile."""
    spent = 0.0
    errors = make()
    if errors:
        return Failure("the copy", f"does not compile\n{errors}"), spent
    for program in PROGRAMS:
        start = children_seconds()
        failure = run(program)
        spent += children_seconds() - start
        if failure is not None:
            return failure, spent
    return None, spent


def plant(change: Change) -> "tuple[Path, str]":
    """Returns the file, and what stood there. ValueError: the change fits no longer."""
    files = [path for path in (COPY / "cffi_build").rglob("*.c") if path.name == change.file]
    if len(files) != 1:
        raise ValueError(f"{len(files)} files are named {change.file}")
    text = files[0].read_text()
    if text.count(change.before) != 1:
        raise ValueError(f"its text stands {text.count(change.before)} times in {change.file}, not once")
    files[0].write_text(text.replace(change.before, change.after))
    return files[0], text


def object_of(source: Path) -> Path:
    return OUT / "lib" / source.relative_to(COPY / "cffi_build").with_suffix(".o")


def try_change(change: Change) -> "tuple[str, bool]":
    try:
        source, text = plant(change)
    except ValueError as error:
        return str(error), False
    unchanged = object_of(source).read_bytes()
    try:
        failure, spent = first_failure()
    finally:
        source.write_text(text)
        object_of(source).write_bytes(unchanged)  # newer than its source again
    if failure is None:
        return f"NOT FOUND in {spent:.1f} s of CPU", False
    if failure.how.startswith("does not"):
        return f"{failure.test} {failure.how}", False
    return f"{spent:4.1f} s of CPU  {failure.test} {failure.how}", True


def main() -> int:
    wanted = [change for change in CHANGES if not sys.argv[1:] or any(part in change.name for part in sys.argv[1:])]
    if len({change.name for change in CHANGES}) != len(CHANGES):
        raise ValueError("two changes have one name")
    copy_sources()
    failure, spent = first_failure()
    if failure is not None:
        print(f"without any change: {failure.test} {failure.how}")
        return 1
    print(f"without any change all tests pass, in {spent:.1f} s of CPU")
    good = 0
    for change in wanted:
        verdict, found = try_change(change)
        print(f"{change.name:40} {verdict}", flush=True)
        good += found
    print(f"{good} of {len(wanted)} planted changes found")
    return 0 if good == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
