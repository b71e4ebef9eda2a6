# SPDX-License-Identifier: MIT
"""connect() and accept(): who meets whom, who is refused, and what an attempt in progress looks like."""

import errno
import os
import resource
import select
import socket
import sys
import threading

import pytest

import kcpsock
from kcpsock import _connections

from .conftest import LONG_S, SHORT_S, eventually


def closed_port(net):
    """An address that nobody listens on."""
    with net.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


def start_connect(net, address):
    client = net.socket()
    client.setblocking(False)
    return client, client.connect_ex(address)


def writable(sock, timeout=LONG_S):
    return bool(select.select([], [sock], [], timeout)[1])


def test_connect_then_accept_in_one_thread(net, server):
    client = net.dial(server)
    conn, peer = net.accept(server)
    assert peer == client.getsockname()
    assert conn.getpeername() == client.getsockname()
    assert conn.getsockname() == client.getpeername() == server.getsockname()


def test_connect_before_accept_is_called_carries_data(net, server):
    client = net.dial(server)
    client.sendall(b"early")
    conn, _ = net.accept(server)
    assert conn.recv(5) == b"early"


def test_accept_waits_for_a_client(net, server):
    waiting = net.spawn(server.accept)
    client = net.dial(server)
    conn, peer = waiting.join()
    net.keep(conn)
    assert peer == client.getsockname()


def test_accept_gives_each_client_its_own_socket(net, server):
    clients = [net.dial(server) for _ in range(5)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    seen = {}
    for _ in clients:
        conn, peer = net.accept(server)
        seen[peer] = conn.recv(1)
    assert seen == {client.getsockname(): b"%d" % number for number, client in enumerate(clients)}


def test_connect_by_name(net, server):
    client = net.dial(server)
    named = net.keep(net.module.create_connection(("localhost", server.getsockname()[1]), LONG_S))
    assert named.getpeername() == client.getpeername()


def test_connect_refused_closed_port(net):
    with pytest.raises(ConnectionRefusedError) as caught:
        net.socket().connect(closed_port(net))
    assert caught.value.errno == errno.ECONNREFUSED
    assert caught.value.strerror


def test_connect_refused_bound_but_not_listening(net):
    bound = net.socket()
    bound.bind(("127.0.0.1", 0))
    with pytest.raises(ConnectionRefusedError):
        net.socket().connect(bound.getsockname())


def test_connect_refused_bound_to_wildcard_but_not_listening(net):
    bound = net.socket()
    bound.bind(("", 0))
    with pytest.raises(ConnectionRefusedError):
        net.socket().connect(("127.0.0.1", bound.getsockname()[1]))


def test_connect_refused_listener_just_closed(net, server):
    address = server.getsockname()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        net.socket().connect(address)


def test_connect_refused_by_itself(kcp):
    # The kernel may give a connecting socket the very port that it asks for. TCP then connects it to itself.
    sock = kcp.socket()
    sock.bind(("127.0.0.1", 0))
    with pytest.raises(ConnectionRefusedError):
        sock.connect(sock.getsockname())
    server = kcp.listener()
    sock.connect(server.getsockname())  # it is good for another try


def test_connect_refused_port_0(net):
    with pytest.raises(ConnectionRefusedError):
        net.socket().connect(("127.0.0.1", 0))


def test_connect_ex_returns_the_errno(net, server):
    assert net.socket().connect_ex(closed_port(net)) == errno.ECONNREFUSED
    assert net.socket().connect_ex(server.getsockname()) == 0


def test_connect_again_after_refusal(net, server):
    sock = net.socket()
    with pytest.raises(ConnectionRefusedError):
        sock.connect(closed_port(net))
    sock.connect(server.getsockname())
    sock.sendall(b"x")
    assert net.accept(server)[0].recv(1) == b"x"


def test_connect_again_after_refusal_keeps_the_bound_name(net, server):
    name = closed_port(net)
    sock = net.socket()
    sock.bind(name)
    with pytest.raises(ConnectionRefusedError):
        sock.connect(closed_port(net))
    assert sock.getsockname() == name
    sock.connect(server.getsockname())
    assert net.accept(server)[1] == name


def test_listen_after_refusal(net):
    sock = net.socket()
    with pytest.raises(ConnectionRefusedError):
        sock.connect(closed_port(net))
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    net.dial(sock)
    net.accept(sock)


def test_connect_from_a_bound_port(net, server):
    client = net.socket()
    client.bind(("127.0.0.1", 0))
    name = client.getsockname()
    client.connect(server.getsockname())
    assert client.getsockname() == name
    assert net.accept(server)[1] == name


def test_create_connection_source_address_is_kept(net, server):
    with net.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        source = probe.getsockname()
    client = net.dial(server, source_address=source)
    assert client.getsockname() == source
    assert net.accept(server)[1] == source


def test_create_connection_failure_leaves_nothing_open(threads, no_leaks):
    with pytest.raises(ConnectionRefusedError):
        threads.module.create_connection(closed_port(threads))


def test_create_connection_tries_all_addresses(net, server, monkeypatch):
    good = server.getsockname()
    bad = closed_port(net)
    stream = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    monkeypatch.setattr(net.module, "getaddrinfo", lambda *_: [(*stream, bad), (*stream, good)])
    assert net.keep(net.create_connection(("whoever", 1))).getpeername() == good
    monkeypatch.setattr(net.module, "getaddrinfo", lambda *_: [])
    with pytest.raises(OSError, match="empty list"):
        net.create_connection(("whoever", 1))


def test_create_connection_uses_the_modules_socket(net, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("replaced")

    monkeypatch.setattr(net.module, "socket", refuse)
    with pytest.raises(OSError, match="replaced"):
        net.create_connection(("127.0.0.1", 9))


def test_connect_unresolvable_name(net):
    with pytest.raises(socket.gaierror):
        net.socket().connect(("no.such.host.invalid", 80))
    with pytest.raises(socket.gaierror):
        net.socket().connect_ex(("no.such.host.invalid", 80))


@pytest.mark.parametrize("address", ["127.0.0.1", ("127.0.0.1",), ("127.0.0.1", "80"), (None, 80), None, 7])
def test_connect_wrong_argument(net, address):
    with pytest.raises(TypeError):
        net.socket().connect(address)


@pytest.mark.parametrize("port", [-1, 65536])
def test_connect_port_out_of_range(net, port):
    with pytest.raises(OverflowError):
        net.socket().connect(("127.0.0.1", port))


def test_connect_twice(net, server):
    client = net.dial(server)
    with pytest.raises(OSError) as caught:
        client.connect(server.getsockname())
    assert caught.value.errno == errno.EISCONN
    assert client.connect_ex(server.getsockname()) == errno.EISCONN


def test_connect_of_a_listener(net, server):
    assert server.connect_ex(server.getsockname()) == errno.EISCONN


def test_nonblocking_connect(net, server):
    client, result = start_connect(net, server.getsockname())
    assert result in (0, errno.EINPROGRESS)
    assert writable(client)
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert client.connect_ex(server.getsockname()) in (0, errno.EISCONN)
    assert client.connect_ex(server.getsockname()) == errno.EISCONN
    assert net.accept(server)[1] == client.getsockname()


def test_accept_is_not_ready_before_connect_is(net, server):
    # asyncore's loops of a fixed number of rounds count on it, where both ends are of one process.
    for _ in range(50):
        client, _ = start_connect(net, server.getsockname())
        net.keep(client)
        assert select.select([server], [], [], LONG_S)[0]
        assert writable(client, 0)
        net.accept(server)


def test_nonblocking_connect_raises_in_progress(kcp, server_of_kcp):
    client = kcp.socket()
    client.setblocking(False)
    with pytest.raises(BlockingIOError) as caught:
        client.connect(server_of_kcp.getsockname())
    assert caught.value.errno == errno.EINPROGRESS


@pytest.fixture
def server_of_kcp(kcp):
    return kcp.listener()


@pytest.fixture
def silent(kcp):
    """An address where nothing answers: a UDP port that reads nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind(("127.0.0.1", 0))
        yield port.getsockname()


def test_nonblocking_connect_refused(net):
    client, result = start_connect(net, closed_port(net))
    if result == errno.EINPROGRESS:
        assert writable(client)
        assert select.select([client], [], [], LONG_S)[0]
        result = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert result == errno.ECONNREFUSED
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_nonblocking_connect_refused_is_told_by_the_second_call(net):
    client, result = start_connect(net, closed_port(net))
    if result == errno.EINPROGRESS:
        assert writable(client)
        assert client.connect_ex(closed_port(net)) == errno.ECONNREFUSED


def test_connect_in_progress_is_not_writable(kcp, silent):
    client, result = start_connect(kcp, silent)
    assert result == errno.EINPROGRESS
    assert not writable(client, 0)
    assert client.connect_ex(silent) == errno.EALREADY
    with pytest.raises(OSError) as caught:
        client.getpeername()
    assert caught.value.errno == errno.ENOTCONN
    with pytest.raises(BlockingIOError):
        client.send(b"x")
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_connect_timeout(kcp, silent):
    client = kcp.socket()
    client.settimeout(SHORT_S)
    with pytest.raises(socket.timeout, match="^timed out: ") as caught:
        client.connect(silent)
    assert_says_what_to_check(caught.value, silent)
    assert caught.value.errno is None and len(caught.value.args) == 1
    assert client.connect_ex(silent) == errno.EALREADY


def test_create_connection_timeout(kcp, silent):
    with pytest.raises(socket.timeout, match="^timed out: ") as caught:
        kcpsock.create_connection(silent, timeout=SHORT_S)
    assert_says_what_to_check(caught.value, silent)


def test_connect_given_up_by_the_engine(kcp, silent, monkeypatch):
    # It does so after 30 s: not in a test.
    monkeypatch.setattr(kcpsock.socket, "_dial", lambda *_: errno.ETIMEDOUT)
    with pytest.raises(TimeoutError, match="^.Errno 110. Connection timed out: ") as caught:
        kcp.socket().connect(silent)
    assert caught.value.errno == errno.ETIMEDOUT
    assert_says_what_to_check(caught.value, silent)


def test_connect_given_up_by_the_engine_ipv6(kcp, monkeypatch):
    monkeypatch.setattr(kcpsock.socket, "_dial", lambda *_: errno.ETIMEDOUT)
    with pytest.raises(TimeoutError, match=r"no answer from \[::1\]:9;"):
        kcp.socket(kcpsock.AF_INET6).connect(("::1", 9))


def assert_says_what_to_check(error, address):
    text = str(error)
    assert f"no answer from {address[0]}:{address[1]};" in text
    for field in ("key", "crypt", "framing", "smux_version"):
        assert field in text


def test_connect_ex_timeout(kcp, silent):
    client = kcp.socket()
    client.settimeout(SHORT_S)
    assert client.connect_ex(silent) == errno.EWOULDBLOCK


def test_connect_gives_up_when_closed_in_progress(threads, no_leaks):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind(("127.0.0.1", 0))
        client, _ = start_connect(threads, port.getsockname())
        client.close()


def test_connect_after_a_shutdown_in_progress(kcp, silent, server_of_kcp):
    client, _ = start_connect(kcp, silent)
    client.shutdown(socket.SHUT_RDWR)
    client.settimeout(LONG_S)
    client.connect(server_of_kcp.getsockname())


def test_connect_raw_framing_is_ready_at_once(kcp, silent):
    client = kcp.socket(profile=kcp.Profile(framing="raw"))
    client.connect(silent)
    assert client.getpeername() == silent


def test_raw_framing_carries_bytes(kcp):
    profile = kcp.Profile(framing="raw")
    server = kcp.listener(profile=profile)
    client = kcp.dial(server, profile=profile)
    client.sendall(b"there")
    conn, peer = kcp.accept(server)
    assert peer == client.getsockname()
    assert conn.recv(5) == b"there"
    conn.sendall(b"back")
    assert client.recv(4) == b"back"


@pytest.mark.parametrize("version", [1, 2])
def test_smux_versions(kcp, version):
    profile = kcp.Profile(smux_version=version)
    server = kcp.listener(profile=profile)
    client = kcp.dial(server, profile=profile)
    client.sendall(b"x" * 300_000)
    client.shutdown(socket.SHUT_WR)
    conn, _ = kcp.accept(server)
    assert conn.profile == profile
    received = 0
    while part := conn.recv(65536):
        received += len(part)
    assert received == 300_000


def test_accept_of_a_socket_that_does_not_listen(net):
    sock = net.socket()
    with pytest.raises(OSError) as caught:
        sock.accept()
    assert caught.value.errno == errno.EINVAL


def test_accept_timeout(net, server):
    server.settimeout(SHORT_S)
    with pytest.raises(socket.timeout, match="timed out"):
        server.accept()


def test_accept_nonblocking(net, server):
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()
    net.dial(server)
    eventually(lambda: select.select([server], [], [], 0)[0])
    net.keep(server.accept()[0])


def test_accept_is_woken_by_shutdown(net, server):
    waiting = net.spawn(server.accept)
    eventually_blocked(net)
    server.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError) as caught:
        waiting.join()
    assert caught.value.errno == errno.EINVAL


def eventually_blocked(net):
    # Either order of the two calls has to give the same, so a greenlet is let go first and a thread may be.
    if net.greenlets:
        import gevent

        gevent.sleep(0)


def test_accepted_socket_has_the_modules_class_and_no_timeout(net, server):
    net.dial(server)
    server.settimeout(LONG_S)
    conn = net.keep(server.accept()[0])
    assert type(conn) is net.module.socket
    assert conn.gettimeout() is None
    assert (conn.family, conn.type) == (socket.AF_INET, socket.SOCK_STREAM)


def test_accepted_socket_has_the_default_timeout(net, server):
    net.dial(server)
    net.setdefaulttimeout(7)
    try:
        assert net.keep(server.accept()[0]).gettimeout() == 7
    finally:
        net.setdefaulttimeout(None)


def test_accept_uses_the_modules_socket(net, server, monkeypatch):
    class Mine(net.module.socket):
        pass

    net.dial(server)
    monkeypatch.setattr(net.module, "socket", Mine)
    assert type(net.keep(server.accept()[0])) is Mine


def test_backlog_is_checked(net):
    sock = net.socket()
    sock.bind(("127.0.0.1", 0))
    with pytest.raises(OverflowError):
        sock.listen(2**63)
    with pytest.raises(TypeError):
        sock.listen("many")
    sock.listen(-1)
    sock.listen(0)
    net.dial(sock)


def test_many_connections_at_once(net):
    count = 200
    server = net.listener(backlog=count)
    clients = []
    for number in range(count):
        client = net.dial(server)
        client.sendall(b"%06d" % number)
        clients.append(client)
    seen = set()
    for _ in range(count):
        conn, _ = net.accept(server)
        seen.add(int(conn.recv(6)))
        conn.sendall(b"ok")
    assert seen == set(range(count))
    assert all(client.recv(2) == b"ok" for client in clients)


def test_first_send_after_connect_takes_it_all(net):
    # With a timeout send() takes what fits: right after connect() that is everything, as the buffer is empty.
    server = net.listener()
    for _ in range(100):
        client = net.socket()
        client.settimeout(LONG_S)
        client.connect(server.getsockname())
        assert client.send(b"x" * 5121) == 5121
        net.accept(server)[0].close()
        client.close()


def test_connect_in_one_thread_and_the_end_in_another(threads, monkeypatch):
    # The peer accepts, closes, and its end arrives, all before the connecting thread has come back from the engine.
    server, client = threads.listener(), threads.socket()
    start, begun, read = _connections.connect, threading.Event(), threading.Event()

    def started(*args):
        start(*args)
        peer, _ = server.accept()
        peer.close()
        assert select.select([client.fileno()], [], [], LONG_S)[0]
        begun.set()
        read.wait(SHORT_S)  # what the other thread gets too early, it gets now

    monkeypatch.setattr(_connections, "connect", started)
    connecting = threads.spawn(client.connect, server.getsockname())
    assert begun.wait(LONG_S)
    try:
        assert client.recv(1) == b""
    finally:
        read.set()
    connecting.join()


def test_connect_in_one_thread_and_questions_in_others(threads):
    def asks(client, connected):
        while not connected.is_set():
            assert client.connect_ex(address) in (0, errno.EALREADY, errno.EISCONN)
            client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    server = threads.listener()
    address = server.getsockname()
    for _ in range(50):
        client, connected = threads.socket(), threading.Event()
        client.setblocking(False)
        assert client.connect_ex(address) == errno.EINPROGRESS
        asking = [threads.spawn(asks, client, connected) for _ in range(3)]
        assert writable(client)
        connected.set()
        for each in asking:
            each.join()
        assert client.getpeername() == address
        server.accept()[0].close()
        client.close()


def refusing(net, count):
    """Addresses of so many ports at which nobody listens, as getaddrinfo() gives them."""
    stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    return [(*stream, closed_port(net)) for _ in range(count)]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="create_connection(all_errors=) came with Python 3.11")
def test_create_connection_tells_all_errors(net, monkeypatch):
    addresses = refusing(net, 3)
    monkeypatch.setattr(net.module, "getaddrinfo", lambda *_: addresses)
    with pytest.raises(ExceptionGroup, match="create_connection failed") as caught:  # noqa: F821
        net.create_connection(("anywhere", 1), LONG_S, all_errors=True)
    assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError] * 3
    with pytest.raises(ConnectionRefusedError):
        net.create_connection(("anywhere", 1), LONG_S)


def test_create_connection_that_is_interrupted_leaves_nothing_open(threads, no_leaks, monkeypatch):
    class Interrupted(kcpsock.socket):
        def connect(self, address):
            raise KeyboardInterrupt

    monkeypatch.setattr(kcpsock, "socket", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        threads.create_connection(("127.0.0.1", 1))


def test_accept_without_a_free_descriptor(net, server):
    # What other tests have closed is gone: an engine closes its part 3 s later, and would make room.
    eventually(lambda: kcpsock.stats()["Sessions"] == 0)
    net.dial(server)
    assert select.select([server], [], [], LONG_S)[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(OSError) as caught:
            server.accept()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    net.accept(server)
    client = net.dial(server)
    assert net.accept(server)[1] == client.getsockname()
