# SPDX-License-Identifier: MIT
"""Fixtures of the peers: `go`, a Go program with kcp-go and smux in it."""

import contextlib

import pytest

from tests.support.go_peer import GoPeer


@pytest.fixture(scope="session")
def _go_peers(go_program):
    # One process for all tests; another when a test has broken it.
    with contextlib.ExitStack() as running:
        peers = []

        def current():
            if not peers or not peers[-1].is_running:
                peers.append(GoPeer())
                running.callback(peers[-1].stop)
            return peers[-1]

        yield current


@pytest.fixture
def go(_go_peers):
    """The Go peer; what a test makes in it is closed after the test."""
    peer = _go_peers()
    yield peer
    peer.close_all()
