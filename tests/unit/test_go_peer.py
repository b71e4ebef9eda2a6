# SPDX-License-Identifier: MIT
"""A machine where the Go peer can't be had: what is said, and that tests which want it are skipped, but fail in CI."""

import os
import subprocess
import sys

import pytest

from tests.support import go_peer

WANTS_IT = "tests/unit/test_bench_micro.py::test_table_and_json"


def test_no_go(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(go_peer.GoPeerMissing, match="no `go` on the PATH"):
        go_peer.build()


def test_a_go_that_can_not_read_go_mod(monkeypatch, tmp_path):
    old = tmp_path / "go"  # as those before 1.21 end
    old.write_text("#!/bin/sh\necho 'go: errors parsing go.mod: invalid go version' >&2\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(go_peer.GoPeerMissing, match="invalid go version"):
        go_peer.build()


@pytest.mark.parametrize(("required", "status", "said"), [("0", 0, "1 skipped"), ("1", 1, "1 error")])
def test_without_go_is_skipped_but_fails_in_ci(tmp_path, required, status, said):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", WANTS_IT],
        cwd=go_peer.SOURCE.parents[2],
        env={**os.environ, "PATH": str(tmp_path), "KCPSOCK_REQUIRE_PEERS": required},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stdout
    assert said in done.stdout
    assert f"no `go` on the PATH) is not here; to get it: {go_peer.HOW_TO_INSTALL}" in " ".join(done.stdout.split())


def test_versions_of_go_mod():
    assert go_peer.from_go_mod(go_peer.KCP_GO).startswith("5.")
    assert go_peer.from_go_mod("go").startswith("1.")
