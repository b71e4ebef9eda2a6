# SPDX-License-Identifier: MIT
"""TLS: the stdlib's ssl module, unmodified, on both ends."""

import errno
import os
import select
import socket
import ssl
import struct

import pytest
import trustme

import kcpsock
from tests.support.processes import finish, python

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


# --- what a TLS socket says and does beside moving bytes


@pytest.fixture
def blocking(net):
    """`net`, unless it is greenlets: the stdlib's ssl waits in the kernel."""
    if net.greenlets:
        pytest.skip("the stdlib's ssl waits in the kernel; gevent patches it")
    return net


def test_tls_names_and_options(blocking, secured):
    client, conn = secured
    assert client.getpeername() == conn.getsockname()
    assert client.getsockname() == conn.getpeername()
    assert str(client.getpeername()) in repr(client)
    assert isinstance(client, ssl.SSLSocket) and isinstance(client, blocking.module.socket)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert (client.family, client.type) == (socket.AF_INET, socket.SOCK_STREAM)


def test_tls_of_a_kcp_socket_is_a_kcp_socket(kcp, contexts):
    if kcp.greenlets:
        pytest.skip("the stdlib's ssl waits in the kernel; gevent patches it")
    profile = kcp.Profile(mode="fast3")
    client = kcp.dial(kcp.listener(), profile=profile)
    secure = kcp.keep(contexts[1].wrap_socket(client, server_hostname="localhost", do_handshake_on_connect=False))
    assert secure.profile == profile
    assert secure.kcp_info().conv


def test_tls_wrap_then_connect(blocking, contexts, server):
    net = blocking
    serving = net.spawn(lambda: contexts[0].wrap_socket(net.accept(server)[0], server_side=True))
    client = net.keep(contexts[1].wrap_socket(net.socket(), server_hostname="localhost"))
    client.settimeout(LONG_S)
    client.connect(server.getsockname())
    conn = net.keep(serving.join())
    client.sendall(b"x")
    assert conn.recv(1) == b"x"
    with pytest.raises(ValueError):
        client.connect(server.getsockname())


def test_tls_wrap_then_refused(blocking, contexts, server):
    address = server.getsockname()
    server.close()
    client = blocking.keep(contexts[1].wrap_socket(blocking.socket(), server_hostname="localhost"))
    client.settimeout(LONG_S)
    with pytest.raises(ConnectionRefusedError):
        client.connect(address)


@pytest.mark.parametrize("when", ["listening", "fresh"])
def test_tls_listener(blocking, contexts, when):
    # httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    net = blocking
    server = net.keep(
        contexts[0].wrap_socket(net.listener() if when == "listening" else net.socket(), server_side=True)
    )
    if when == "fresh":
        server.bind(("127.0.0.1", 0))
        server.listen()
    server.settimeout(LONG_S)
    assert server.getsockname()[1] > 0
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert select.select([server], [], [], 0)[0] == []
    for _ in range(2):
        serving = net.spawn(server.accept)
        client = net.keep(contexts[1].wrap_socket(net.dial(server), server_hostname="localhost"))
        conn, peer = serving.join()
        assert isinstance(net.keep(conn), ssl.SSLSocket)
        assert peer == client.getsockname() == conn.getpeername()
        client.sendall(b"x")
        assert conn.recv(1) == b"x"


def test_tls_listener_timeout(blocking, contexts):
    server = blocking.keep(contexts[0].wrap_socket(blocking.listener(), server_side=True))
    server.settimeout(SHORT_S)
    with pytest.raises(socket.timeout):
        server.accept()
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()


def test_tls_half_close_and_detach(blocking, secured):
    client, conn = secured
    client.shutdown(socket.SHUT_WR)
    assert conn.recv(1) == b""
    again = blocking.socket(fileno=conn.detach())
    assert again.getpeername() == client.getsockname()


def test_tls_reset(blocking, secured):
    client, conn = secured
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    try:
        assert conn.recv(1) == b""  # what CPython 3.10 and newer make of it, on TCP too
    except ConnectionResetError:
        pass


def test_tls_end_without_farewell(blocking, secured):
    client, conn = secured
    os.close(client.detach())
    try:
        assert conn.recv(1) == b""
    except ConnectionResetError:
        pass  # TCP's, which had a session ticket to read when it closed


def test_tls_nonblocking_handshake(blocking, contexts, server):
    net = blocking
    client = net.keep(
        contexts[1].wrap_socket(net.dial(server), server_hostname="localhost", do_handshake_on_connect=False)
    )
    serving = net.spawn(lambda: contexts[0].wrap_socket(net.accept(server)[0], server_side=True))
    client.setblocking(False)
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            assert select.select([client], [], [], LONG_S)[0]
    net.keep(serving.join())
    with pytest.raises(ssl.SSLWantReadError):
        client.recv(1)


def test_tls_class_of_the_programs_own(blocking, contexts):
    class Mine(ssl.SSLSocket):
        def read(self, *args):
            return super().read(*args)

    context = ssl.create_default_context()
    context.sslsocket_class = Mine
    sock = blocking.keep(context.wrap_socket(blocking.socket(), server_hostname="localhost"))
    assert isinstance(sock, Mine) and isinstance(sock, blocking.module.socket)
    with pytest.raises(OSError) as caught:
        sock.getpeername()
    assert caught.value.errno == errno.ENOTCONN


def test_tls_of_other_sockets_is_not_touched(threads, contexts):
    threads.socket().getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)  # ssl knows kcpsock from now on
    a, b = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server, a, b:
        client = socket.create_connection(server.getsockname())
        for plain in (client, a):
            secure = contexts[1].wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False)
            assert type(secure) is ssl.SSLSocket
            secure.close()
        listener = contexts[0].wrap_socket(server.dup(), server_side=True)
        assert type(listener) is ssl.SSLSocket
        assert not isinstance(listener, kcpsock.socket)
        listener.close()


def test_tls_leaves_nothing(threads, contexts, no_leaks):
    for _ in range(5):
        server = threads.keep(contexts[0].wrap_socket(threads.listener(), server_side=True))
        serving = threads.spawn(server.accept)
        client = threads.keep(contexts[1].wrap_socket(threads.dial(server), server_hostname="localhost"))
        conn = threads.keep(serving.join()[0])
        client.sendall(b"x")
        assert conn.recv(1) == b"x"
        threads.close_all()
        del server, client, conn, serving


GEVENT = """
import contextlib, ssl, sys, gevent, trustme, kcpsock as socket
authority = trustme.CA()
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("localhost").configure_cert(server_context)
client_context = ssl.create_default_context()
authority.configure_trust(client_context)
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.001)
gevent.spawn(tick)
def patient(call, *args):
    "The result of a call, during which the hub must run on."
    before = len(ticks)
    result = call(*args)
    assert len(ticks) > before, call
    return result
server = server_context.wrap_socket(socket.create_server(("localhost", 0)), server_side=True)
assert server.getsockname()[1] > 0
def serve():
    while True:
        conn, peer = server.accept()
        assert conn.getpeername() == peer
        gevent.spawn(echo, conn)
def echo(conn):
    with conn:
        while data := conn.recv(100000):
            conn.sendall(data)
serving = gevent.spawn(serve)
def dial(before):
    sock = socket.socket() if before else socket.create_connection(server.getsockname()[:2])
    sock = client_context.wrap_socket(sock, server_hostname="localhost")
    if before:
        sock.connect(server.getsockname())
    return sock
def client(before):
    with contextlib.closing(dial(before)) as sock:
        assert sock.getpeername() == server.getsockname()
        assert sock.version()
        data = b"0123456789" * 30000
        sending = gevent.spawn(sock.sendall, data)
        got = b""
        while len(got) < len(data):
            got += sock.recv(100000)
        assert got == data
        sending.get()
        sock.settimeout(0.02)
        try:
            patient(sock.recv, 1)
        except socket.timeout:
            return "timed out"
jobs = [gevent.spawn(client, n % 2 == 0) for n in range(6)]
print({job.get() for job in jobs}, socket.stats()["PassiveOpens"])
serving.kill()
server.close()
"""


@pytest.mark.parametrize("how", ["patched", "gevent.ssl"])
def test_tls_in_greenlets(how):
    start = "from gevent import monkey; monkey.patch_all()" if how == "patched" else ""
    code = start + GEVENT
    if how == "gevent.ssl":
        code = code.replace("import contextlib, ssl,", "from gevent import ssl\nimport contextlib,").replace(
            "ssl.create_default_context()", "ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)"
        )
    assert finish(python(code)) == "{'timed out'} 6\n"
