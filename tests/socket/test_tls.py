# SPDX-License-Identifier: MIT
"""TLS: the stdlib's ssl module, unmodified, on both ends."""

import os
import socket
import ssl

import pytest
import trustme

from .conftest import LONG_S, SHORT_S, read_all, read_exactly


@pytest.fixture(scope="module")
def contexts():
    """A server's and a client's SSLContext that trust each other."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.fixture
def secured(net, contexts):
    if net.greenlets:
        pytest.skip("the stdlib's ssl waits in the kernel; gevent patches it")
    server_context, client_context = contexts
    client, conn = net.pair()
    wrapping = net.spawn(lambda: server_context.wrap_socket(conn, server_side=True))
    secure_client = client_context.wrap_socket(client, server_hostname="localhost")
    return net.keep(secure_client), net.keep(wrapping.join())


def test_tls_both_ways(net, secured):
    client, conn = secured
    assert client.version() and client.getpeercert()
    data = os.urandom(500_000)
    sending = net.spawn(client.sendall, data)
    assert read_exactly(conn, len(data)) == data
    sending.join()
    conn.sendall(b"back")
    assert client.recv(4) == b"back"


def test_tls_unwrap(net, secured):
    client, conn = secured
    unwrapping = net.spawn(conn.unwrap)
    plain = net.keep(client.unwrap())
    other = net.keep(unwrapping.join())
    plain.sendall(b"clear again")
    assert read_exactly(other, 11) == b"clear again"


def test_tls_close_is_end_of_stream(net, secured):
    client, conn = secured
    sending = net.spawn(lambda: (client.sendall(b"bye"), client.unwrap().close()))
    assert read_all(conn) == b"bye"
    conn.unwrap().close()
    sending.join()


def test_tls_timeout(net, secured):
    client, _ = secured
    client.settimeout(SHORT_S)
    with pytest.raises(socket.timeout):
        client.recv(1)


def test_tls_bad_certificate(net, contexts):
    if net.greenlets:
        pytest.skip("the stdlib's ssl waits in the kernel; gevent patches it")
    server_context, _ = contexts
    client, conn = net.pair()

    def serve():
        with pytest.raises((ssl.SSLError, ConnectionError)):
            server_context.wrap_socket(conn, server_side=True)

    serving = net.spawn(serve)
    with pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(client, server_hostname="localhost")
    serving.join()


def test_tls_does_not_change_timeouts(net, secured):
    for sock in secured:
        assert sock.gettimeout() == LONG_S
