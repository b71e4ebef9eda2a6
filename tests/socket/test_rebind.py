# SPDX-License-Identifier: MIT
"""A listener's port after its close: free at once, and shared with the connections that live on under SO_REUSEADDR."""

import errno

import pytest

import kcpsock


def listener(address, *, reuse, profile=None):
    sock = kcpsock.socket(profile=profile)
    try:
        sock.setsockopt(kcpsock.SOL_SOCKET, kcpsock.SO_REUSEADDR, reuse)
        sock.bind(address)
        sock.listen()
    except BaseException:
        sock.close()
        raise
    return sock


def test_rebind_port_nobody_used_is_free_at_once():
    address = ("127.0.0.1", 0)
    for _ in range(20):
        with listener(address, reuse=0) as server:
            address = server.getsockname()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_rebind_beside_live_connections(host):
    with listener((host, 0), reuse=1) as server:
        port = server.getsockname()[1]
        old_client = kcpsock.create_connection(("127.0.0.1", port))
        old, _ = server.accept()
    with old_client, old:
        with pytest.raises(OSError) as refused:
            listener((host, port), reuse=0)
        assert refused.value.errno == errno.EADDRINUSE
        with listener((host, port), reuse=1) as server:
            assert server.getsockname()[1] == port
            with kcpsock.create_connection(("127.0.0.1", port)) as new_client, server.accept()[0] as new:
                for here, there, text in ((old_client, old, b"old"), (new_client, new, b"new")):
                    here.sendall(text)
                    assert there.recv(3) == text
                    there.sendall(text)
                    assert here.recv(3) == text


def test_rebind_under_a_live_listener_is_refused():
    with listener(("127.0.0.1", 0), reuse=1) as server:
        with kcpsock.create_connection(server.getsockname()):
            with pytest.raises(OSError) as refused:
                listener(server.getsockname(), reuse=1)
            assert refused.value.errno == errno.EADDRINUSE


def test_rebind_with_a_key():
    """The same key serves both; packets that would not fit the connections that are left are refused."""
    profile = kcpsock.Profile(key="a passphrase", crypt="aes")
    with listener(("127.0.0.1", 0), reuse=1, profile=profile) as server:
        address = server.getsockname()
        old_client = kcpsock.create_connection(address, profile=profile)
        old, _ = server.accept()
    with old_client, old:
        with pytest.raises(OSError) as refused:
            listener(address, reuse=1, profile=profile.replace(crypt="aes-128-gcm"))
        assert refused.value.errno == errno.EADDRINUSE
        with listener(address, reuse=1, profile=profile) as server:
            with kcpsock.create_connection(address, profile=profile) as new_client, server.accept()[0] as new:
                for here, there in ((old_client, old), (new_client, new)):
                    here.sendall(b"text")
                    assert there.recv(4) == b"text"
