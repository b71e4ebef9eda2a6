# SPDX-License-Identifier: MIT
"""Fixtures for all tests."""

import os
import ssl

import hypothesis
import pytest
import trustme

from tests.support import go_peer, leaks

# No example fails by the clock: hypothesis allows one 200 ms, and what it draws a second, where the machine may stand
# still for longer. (Its own profile for CI, which newer versions take where they find the variable CI, does the same.)
hypothesis.settings.register_profile(
    "any machine",
    hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")


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


@pytest.fixture(scope="session")
def go_program(require_peer):
    """For tests that start the Go peer: it is built."""
    try:
        go_peer.build()
    except go_peer.GoPeerMissing as missing:
        require_peer(f"the Go peer ({missing})", False, go_peer.HOW_TO_INSTALL)


@pytest.fixture
def no_leaks():
    """The test fails if it leaves descriptors or threads behind."""
    import kcpsock

    kcpsock.create_server(("127.0.0.1", 0)).close()  # starts the engine, which stays
    with leaks.check():
        yield


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="session")
def contexts(authority):
    """A server's and a client's SSLContext that trust each other, for localhost."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client
