# SPDX-License-Identifier: MIT
"""Peers that no test leaves behind."""

import pytest

from .process import Peer


@pytest.fixture
def peers():
    """peers() starts a process of its own; after the test each must end by itself, with status 0."""
    started = []

    def start(**environment):
        started.append(Peer(**environment))
        return started[-1]

    try:
        yield start
        for peer in started:
            assert peer.stop() == 0
    finally:
        for peer in started:
            peer.kill()
