# SPDX-License-Identifier: MIT
"""bench/micro.py runs and says what it found. How fast anything is, no test asserts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kcpsock import _crypt

MICRO = Path(__file__).resolve().parents[2] / "bench" / "micro.py"


def run(out, *arguments, path=None):
    command = [sys.executable, str(MICRO), "--rounds=1", "--seconds=0.001", f"--out={out}", *arguments]
    environment = {**os.environ, "PATH": os.environ["PATH"] if path is None else str(path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, env=environment)


def report(done, out):
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert json.loads((out / "micro.json").read_text(encoding="utf-8")) == found
    return found


def test_table_and_json(go_program, tmp_path):
    # Both peers know every name, and what they seal they can open.
    crypts = [name for name in _crypt.NAMES if name != "null"]
    names = {*(f"{name} open" for name in crypts), "aes seal", "FEC 10/3 encode", "FEC 10/3 decode 3 lost"}
    done = run(tmp_path, "--json", f"--measures={','.join(names)}")
    found = report(done, tmp_path)
    assert {row["name"] for row in found["micro"]} == names
    for row in found["micro"]:
        ours, theirs = (row["rivals"][name]["median"] for name in ("kcpsock", "kcp-go"))
        assert row["ratio"] == pytest.approx(ours / theirs)
        assert row["met"] == (row["ratio"] >= row["floor"] if row["floor"] else None)
        assert row["name"] in done.stderr  # the table
    assert min(found["null_ns"].values()) > 0


def test_ours_alone(tmp_path):
    found = report(run(tmp_path, "--json", "--rivals=kcpsock", "--measures=xor seal"), tmp_path)
    (row,) = found["micro"]
    assert row["ratio"] is None
    assert row["rivals"]["kcpsock"]["median"] > 0


def test_without_go_is_refused(tmp_path):
    done = run(tmp_path, path=tmp_path)
    assert done.returncode == 1
    assert "no `go` on the PATH" in done.stderr
    assert "--rivals kcpsock" in done.stderr
    assert not (tmp_path / "micro.json").exists()


def test_unknown_measure_is_refused(tmp_path):
    done = run(tmp_path, "--rivals=kcpsock", "--measures=rot13 seal")
    assert done.returncode == 1
    assert "rot13 seal: allowed are aes seal" in done.stderr
