# SPDX-License-Identifier: MIT
"""Fixtures for all tests."""

import os

import pytest

from tests.support import leaks


@pytest.fixture(scope="session")
def require_peer():
    """require_peer(name, available, how_to_install): go on with a peer, or skip and say why.

    In CI (KCPSOCK_REQUIRE_PEERS=1) a missing peer is a failure: there a skip would hide that nothing was tested.
    """

    def require(name, available, how_to_install):
        if available:
            return
        reason = f"{name} is not here; to get it: {how_to_install}"
        if os.environ.get("KCPSOCK_REQUIRE_PEERS") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    return require


@pytest.fixture
def no_leaks():
    """The test fails if it leaves descriptors or threads behind."""
    import kcpsock

    kcpsock.create_server(("127.0.0.1", 0)).close()  # starts the engine, which stays
    with leaks.check():
        yield
