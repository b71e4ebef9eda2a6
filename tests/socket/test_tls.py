# SPDX-License-Identifier: MIT
"""TLS: the stdlib's ssl module, unmodified, on both ends."""

import asyncio
import errno
import os
import select
import socket
import ssl
import struct
import sys

import pytest

import kcpsock
from tests.support.processes import finish, python

from .conftest import LONG_S, SHORT_S, eventually, read_all, read_exactly
from .test_reset import Relay


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


# CPython 3.10 to 3.12.3 take a reset for the end of the stream, on TCP; with OpenSSL 3.5 a write that meets one has no
# errno. kcpsock tells it in all.
TCP_TELLS = not (3, 10) <= sys.version_info < (3, 12, 4) and ssl.OPENSSL_VERSION_INFO < (3, 5)


def abort(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def wait_for_reset(sock):
    """Until it has come; some call tells it afterwards."""
    with pytest.raises(OSError) as caught:
        eventually(lambda: not sock.getpeername())
    assert caught.value.errno == errno.ENOTCONN


def outcome(call):
    """What a call gives, or its exception's class and errno."""
    try:
        return call()
    except OSError as error:
        return type(error).__name__, error.errno


RESET = ("ConnectionResetError", errno.ECONNRESET)
BROKEN = ("BrokenPipeError", errno.EPIPE)

# The call that meets the reset; what it gives a second time, and what a recv() gives then.
CALLS = {
    "recv": (lambda sock: sock.recv(10), b"", b""),
    "recv_into": (lambda sock: sock.recv_into(bytearray(10)), 0, b""),
    "read": (lambda sock: sock.read(10), b"", b""),
    "makefile": (lambda sock: sock.makefile("rb").read(10), b"", b""),
    "sendall": (lambda sock: sock.sendall(b"x"), BROKEN, b""),
    "unwrap": (lambda sock: sock.unwrap(), BROKEN, b""),
}


@pytest.mark.parametrize("end", ["client", "server"])
@pytest.mark.parametrize("call", CALLS)
def test_tls_reset(blocking, secured, call, end):
    victim, other = secured if end == "client" else reversed(secured)
    function, again, after = CALLS[call]
    abort(other)
    wait_for_reset(victim)
    first = outcome(lambda: function(victim))
    if not blocking.is_kcp and not TCP_TELLS:
        assert first in (RESET, again) or first[0] in ("SSLEOFError", "SSLError")
        return
    assert first == RESET
    second = outcome(lambda: function(victim))
    if again == BROKEN and not TCP_TELLS:
        assert second[0] in ("BrokenPipeError", "SSLEOFError", "SSLError")
    else:
        assert second == again
    assert outcome(lambda: victim.recv(1)) == after


@pytest.mark.parametrize("suppress", [True, False])
def test_tls_reset_and_ragged_eofs(blocking, contexts, suppress):
    net = blocking
    client, conn = net.pair()
    serving = net.spawn(lambda: contexts[0].wrap_socket(conn, server_side=True))
    client = net.keep(contexts[1].wrap_socket(client, server_hostname="localhost", suppress_ragged_eofs=suppress))
    conn = net.keep(serving.join())
    conn.sendall(b"answer")
    assert client.recv(6) == b"answer"
    abort(conn)
    found = outcome(lambda: client.recv(1)), outcome(lambda: client.recv(1))
    end = b"" if suppress else ("SSLEOFError", ssl.SSL_ERROR_EOF)
    if net.is_kcp or TCP_TELLS:
        assert found[0] == RESET
        # Python 3.9 asks OpenSSL to take any end for a good one
        assert found[1] in (end, b"")


def test_tls_reset_leaves_received_data_readable(blocking, secured):
    client, conn = secured
    client.sendall(b"data")
    eventually(lambda: conn.pending() or select.select([conn], [], [], 0)[0])
    abort(client)
    assert conn.recv(10) == b"data"
    if blocking.is_kcp or TCP_TELLS:
        assert outcome(lambda: conn.recv(1)) == RESET
        assert conn.recv(1) == b""


def test_tls_reset_of_a_nonblocking_socket(blocking, secured):
    client, conn = secured
    client.setblocking(False)
    abort(conn)
    found = []

    def told():
        assert select.select([client], [], [], LONG_S)[0]
        try:
            found.append(client.recv(1))
        except ssl.SSLWantReadError:
            return False  # session tickets came first
        except ConnectionResetError:
            found.append(RESET)
        return True

    eventually(told)
    if blocking.is_kcp or TCP_TELLS:
        assert found == [RESET]
        assert client.recv(1) == b""


def test_tls_unread_data_is_a_reset(blocking, secured):
    # A server that closes on a request that it has not read: the answer is not taken for a whole one.
    client, conn = secured
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or TCP's answer would wait, and be lost
    client.sendall(b"request")
    assert select.select([conn], [], [], LONG_S)[0]
    conn.sendall(b"answer")
    conn.close()
    assert client.recv(10) == b"answer"
    if blocking.is_kcp or TCP_TELLS:
        assert outcome(lambda: client.recv(1)) == RESET
        assert client.recv(1) == b""


def test_tls_unread_data_after_shutdown_is_an_end(blocking, secured):
    client, conn = secured
    client.sendall(b"request")
    assert select.select([conn], [], [], LONG_S)[0]
    conn.shutdown(socket.SHUT_RDWR)
    conn.close()
    if blocking.is_kcp or ssl.OPENSSL_VERSION_INFO < (3, 5):  # it tells on TCP that its alert was refused
        assert [client.recv(1), client.recv(1)] == [b"", b""]


@pytest.mark.parametrize("end", ["client", "server"])
@pytest.mark.parametrize("when", ["before", "during"])
def test_tls_reset_in_the_handshake(blocking, contexts, end, when):
    client, conn = blocking.pair()
    victim, other = (client, conn) if end == "client" else (conn, client)
    context = contexts[end == "client"]
    names = {"server_hostname": "localhost"} if end == "client" else {"server_side": True}
    victim = blocking.keep(context.wrap_socket(victim, do_handshake_on_connect=False, **names))
    if when == "before":
        abort(other)
        wait_for_reset(victim)
        assert outcome(victim.do_handshake) == RESET
        return
    shaking = blocking.spawn(outcome, victim.do_handshake)
    if end == "client":
        assert other.recv(1000)[:1] == b"\x16"  # its hello
    abort(other)
    assert shaking.join() == RESET


def test_tls_silence_is_a_timeout(kcp, contexts):
    # TCP's keepalive says the same, but takes longer.
    if kcp.greenlets:
        pytest.skip("the stdlib's ssl waits in the kernel; gevent patches it")
    profile = kcp.Profile(keepalive=0.1, keepalive_timeout=4)  # in which the machine may stand still while both live
    server = kcp.listener(profile=profile)
    link = Relay(server.getsockname())
    try:
        client = kcp.keep(kcp.create_connection(link.address, LONG_S, profile=profile))
        conn, _ = kcp.accept(server)
        serving = kcp.spawn(lambda: contexts[0].wrap_socket(conn, server_side=True))
        secure = kcp.keep(contexts[1].wrap_socket(client, server_hostname="localhost"))
        conn = kcp.keep(serving.join())
        conn.sendall(b"half of it")
        assert read_exactly(secure, 10) == b"half of it"
        link.close()
        for sock in (secure, conn):
            with pytest.raises(OSError) as caught:
                sock.recv(1)
            assert caught.value.errno == errno.ETIMEDOUT
            assert sock.recv(1) == b""
    finally:
        link.close()


def test_tls_reset_in_asyncio(blocking, contexts):
    # asyncio's TLS has no descriptor: what it reads comes from recv() of the socket below.
    net = blocking

    async def main():
        server = net.listener()
        server.setblocking(False)
        raw = net.socket()
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, server.getsockname())
        conn, _ = await loop.sock_accept(server)
        net.keep(conn).setblocking(True)
        serving = net.spawn(lambda: contexts[0].wrap_socket(conn, server_side=True))
        reader, writer = await asyncio.open_connection(sock=raw, ssl=contexts[1], server_hostname="localhost")
        secure = await loop.run_in_executor(None, serving.join)
        secure.sendall(b"half of it")
        assert await reader.readexactly(10) == b"half of it"
        abort(secure)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()

    asyncio.run(main())


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


GEVENT_RESET = """
import ssl, struct, sys, gevent, trustme, kcpsock as socket
authority = trustme.CA()
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("localhost").configure_cert(server_context)
client_context = ssl.create_default_context()
authority.configure_trust(client_context)
def pair(suppress=True):
    with socket.create_server(("localhost", 0)) as server:
        client = socket.create_connection(server.getsockname()[:2])
        conn = server.accept()[0]
    serving = gevent.spawn(server_context.wrap_socket, conn, server_side=True)
    client = client_context.wrap_socket(client, server_hostname="localhost", suppress_ragged_eofs=suppress)
    conn = serving.get()
    conn.sendall(b"x")
    assert client.recv(1) == b"x"
    return client, conn
def abort(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
def outcome(call):
    try:
        return call()
    except ConnectionResetError:
        return "reset"
    except ssl.SSLEOFError:
        return "ragged end"
calls = {
    "recv": lambda sock: sock.recv(10),
    "recv_into": lambda sock: sock.recv_into(bytearray(10)),
    "makefile": lambda sock: sock.makefile("rb").read(10),
    "sendall": lambda sock: sock.sendall(b"x"),
    "unwrap": lambda sock: sock.unwrap(),
}
for name, call in calls.items():
    for waits in (True, False):
        if waits and name in ("sendall", "unwrap"):
            continue
        client, conn = pair()
        if waits:
            waiting = gevent.spawn(outcome, lambda: call(client))
            gevent.sleep(0)
        abort(conn)
        if not waits:
            from gevent import select
            select.select([client], [], [])
        print(name, waiting.get() if waits else outcome(lambda: call(client)))
        client.close()
for suppress in (True, False):
    client, conn = pair(suppress)
    assert type(client).__name__ == "SSLSocket" and isinstance(client, ssl.SSLSocket)
    abort(conn)
    print(suppress, outcome(lambda: client.recv(1)), outcome(lambda: client.recv(1)))
    client.close()
client, conn = pair()
leaving = gevent.spawn(conn.unwrap)
client = client.unwrap()
conn = leaving.get()
client.close(), conn.close()
with socket.create_server(("localhost", 0)) as server:
    client = socket.create_connection(server.getsockname()[:2])
    conn = server.accept()[0]
serving = gevent.spawn(outcome, lambda: server_context.wrap_socket(conn, server_side=True))
gevent.sleep(0)
abort(client)
print("handshake", serving.get())
"""


@pytest.mark.parametrize("how", ["patched", "gevent.ssl"])
def test_tls_reset_in_greenlets(how):
    code = ("from gevent import monkey; monkey.patch_all()" if how == "patched" else "") + GEVENT_RESET
    if how == "gevent.ssl":
        code = code.replace("import ssl, struct,", "from gevent import ssl\nimport struct,").replace(
            "ssl.create_default_context()", "ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)"
        )
    calls = ["recv"] * 2 + ["recv_into"] * 2 + ["makefile"] * 2 + ["sendall", "unwrap"]
    ragged = "b''" if sys.version_info < (3, 10) else "ragged end"
    assert finish(python(code)).splitlines() == [
        *(f"{call} reset" for call in calls),
        "True reset b''",
        f"False reset {ragged}",
        "handshake reset",
    ]
