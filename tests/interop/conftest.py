# SPDX-License-Identifier: MIT
"""Fixtures of the peers: `go`, a Go program with kcp-go and smux in it."""

import contextlib

import pytest

from . import go_peer


@pytest.fixture(scope="session")
def _go_peers(require_peer):
    # One process for all tests; another when a test has broken it.
    try:
        path = go_peer.build()
    except go_peer.GoPeerMissing as missing:
        require_peer(f"the Go peer ({missing})", False, go_peer.HOW_TO_INSTALL)
    with contextlib.ExitStack() as running:
        peers = []

        def current():
            if not peers or not peers[-1].is_running:
                peers.append(go_peer.GoPeer(path))
                running.callback(peers[-1].stop)
            return peers[-1]

        yield current


@pytest.fixture
def go(_go_peers):
    """The Go peer; what a test makes in it is closed after the test."""
    peer = _go_peers()
    yield peer
    peer.close_all()
