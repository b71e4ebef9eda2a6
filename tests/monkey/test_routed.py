# SPDX-License-Identifier: MIT
"""RoutedSocket: KCP or TCP by address, on one descriptor number, with what was set before."""

import contextlib
import errno
import os
import select
import socket
import threading

import pytest

import kcpsock
from kcpsock import Profile, RoutedSocket
from tests.support import leaks
from tests.support.processes import LONG_S

FAST = Profile(mode="fast3")


@pytest.fixture
def route(monkeypatch):
    """route[port] = a Profile or None (TCP); what is not in it is TCP. route.asked: the addresses, in order."""

    class Table(dict):
        asked: list

    table = Table()
    table.asked = []

    def look_up(address):
        table.asked.append(address)
        return table.get(address[1])

    monkeypatch.setattr(RoutedSocket, "route", staticmethod(look_up))
    return table


class Kept(list):
    """kept(sock) is closed after the test."""

    def __call__(self, sock):
        self.append(sock)
        return sock

    def close_all(self):
        while self:
            self.pop().close()


@pytest.fixture
def keep():
    kept = Kept()
    yield kept
    kept.close_all()


@pytest.fixture(params=["kcp", "tcp"])
def server(request, route, keep):
    """A listener of either kind that echoes once, and is routed to."""
    module = kcpsock if request.param == "kcp" else socket
    listener = module.create_server(("127.0.0.1", 0))
    listener.settimeout(LONG_S)
    route[listener.getsockname()[1]] = FAST if request.param == "kcp" else None

    def echo():
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            with conn, contextlib.suppress(ConnectionResetError):
                conn.settimeout(LONG_S)
                while data := conn.recv(65536):
                    conn.sendall(data)

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()
    yield listener
    keep.close_all()
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(LONG_S)
    listener.close()


@pytest.fixture
def refusing(keep):
    """refusing(module) -> an address where nobody listens. It stays taken: who were given it would call itself."""

    def bound(module):
        sock = keep(module.socket())
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()

    return bound


def is_kcp(server):
    return isinstance(server, kcpsock.socket)


def echo(sock):
    sock.sendall(b"hello")
    data = b""
    while len(data) < 5:
        data += sock.recv(5)
    assert data == b"hello"


def test_connect_goes_where_the_route_says(server, route, keep):
    sock = keep(RoutedSocket())
    sock.settimeout(LONG_S)
    fd = sock.fileno()
    sock.connect(server.getsockname())
    assert sock.fileno() == fd
    assert route.asked == [server.getsockname()]
    assert sock.profile == (FAST if is_kcp(server) else None)
    assert sock.getpeername() == server.getsockname()
    assert sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM
    echo(sock)


def test_the_class_is_the_stdlibs_too(server, keep):
    sock = keep(RoutedSocket())
    sock.connect(server.getsockname())
    assert isinstance(sock, socket.socket) and isinstance(sock, kcpsock.socket)


@pytest.mark.parametrize("timeout", [None, 0.0, 7.5])
def test_timeout_and_blocking_mode_stay(server, keep, timeout):
    sock = keep(RoutedSocket())
    sock.settimeout(timeout)
    assert sock.connect_ex(server.getsockname()) in (0, errno.EINPROGRESS)
    assert sock.gettimeout() == timeout
    assert os.get_blocking(sock.fileno()) == (timeout is None)
    assert not sock.get_inheritable()


def test_inheritable_stays(server, keep):
    sock = keep(RoutedSocket())
    sock.set_inheritable(True)
    sock.connect(server.getsockname())
    assert sock.get_inheritable()


def test_options_stay(server, keep):
    sock = keep(RoutedSocket())
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\3\0\0\0")
    size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    sock.connect(server.getsockname())
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == size
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == b"\1\0\0\0\3\0\0\0"


def test_options_set_while_it_is_tcp_stay(route, keep):
    server = keep(kcpsock.create_server(("127.0.0.1", 0)))
    route[server.getsockname()[1]] = FAST
    sock, fresh = keep(RoutedSocket()), keep(kcpsock.socket())
    sock.bind(("127.0.0.1", 0))  # of which the route says nothing: TCP
    assert sock.profile is None
    for one in (sock, fresh):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 5)
    sock.connect(server.getsockname())
    assert sock.profile == FAST
    for level, option in ((socket.SOL_SOCKET, socket.SO_SNDBUF), (socket.IPPROTO_TCP, socket.TCP_NODELAY)):
        assert sock.getsockopt(level, option) == fresh.getsockopt(level, option)


def test_nonblocking_connect(server, keep):
    sock = keep(RoutedSocket())
    sock.setblocking(False)
    errno_ = sock.connect_ex(server.getsockname())
    assert errno_ in (0, errno.EINPROGRESS)
    assert select.select([], [sock], [], LONG_S)[1] == [sock]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    sock.settimeout(LONG_S)
    echo(sock)
    assert sock.connect_ex(server.getsockname()) in (0, errno.EISCONN)  # Linux says 0 once, to who has not asked yet
    assert sock.connect_ex(server.getsockname()) == errno.EISCONN


def test_duplicates_follow(server, keep):
    sock = keep(RoutedSocket())
    copy = keep(sock.dup())
    sock.connect(server.getsockname())
    assert copy.getpeername() == server.getsockname()
    assert (copy.profile is None) == (sock.profile is None)
    echo(copy)


def port_free_on_both():
    """A number that neither TCP nor UDP has in use."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError as error:
                assert error.errno == errno.EADDRINUSE
                continue
            return tcp.getsockname()[1]


@pytest.mark.parametrize("bound_as", ["tcp", "kcp"])
def test_a_name_from_bind_is_kept(server, route, keep, bound_as):
    # As create_connection(source_address=) does: bound by one route, connected by another.
    route[0] = FAST if bound_as == "kcp" else None
    sock = keep(RoutedSocket())
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(("127.0.0.1", port_free_on_both()))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    name = sock.getsockname()
    assert name[1] > 0
    sock.settimeout(LONG_S)
    sock.connect(server.getsockname())
    assert sock.getsockname() == name
    assert (sock.profile is not None) == is_kcp(server)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    echo(sock)


@pytest.mark.parametrize("any_port", [True, False])
def test_a_name_that_is_taken_there(route, keep, any_port):
    # Any port was good: another one then. This one was asked for: it is in use.
    server = keep(socket.create_server(("127.0.0.1", 0)))
    route[0] = FAST
    sock = keep(RoutedSocket())
    while True:
        sock.bind(("127.0.0.1", 0))
        name = sock.getsockname()
        taken = keep(socket.socket())
        try:
            taken.bind(name)
            break
        except OSError:  # somebody else's already
            sock = keep(RoutedSocket())
    if not any_port:
        sock.close()
        route[name[1]] = FAST
        sock = keep(RoutedSocket())
        sock.bind(name)
        with pytest.raises(OSError) as caught:
            sock.connect(server.getsockname())
        assert caught.value.errno == errno.EADDRINUSE
        return
    sock.connect(server.getsockname())
    assert sock.getsockname() not in (name, ("127.0.0.1", 0))
    conn, peer = server.accept()
    keep(conn)
    assert peer == sock.getsockname()


@pytest.mark.parametrize("profile", [FAST, None])
@pytest.mark.parametrize("bound", [True, False])
def test_listeners(route, keep, profile, bound):
    route[0] = profile
    server = keep(RoutedSocket())
    server.settimeout(LONG_S)
    if bound:
        server.bind(("127.0.0.1", 0))
    server.listen()
    assert route.asked == [("127.0.0.1", 0)] if bound else [("0.0.0.0", 0)]
    assert server.profile == profile
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    module = kcpsock if profile else socket
    client = keep(module.create_connection(("127.0.0.1", server.getsockname()[1]), LONG_S))
    conn, peer = server.accept()
    assert isinstance(keep(conn), RoutedSocket)
    assert peer == client.getsockname()
    client.sendall(b"x")
    assert conn.recv(1) == b"x"


def test_an_address_in_use_is_of_its_kind(server, route, keep):
    # UDP and TCP ports are apart: what is taken for one is free for the other.
    name = server.getsockname()
    other = keep(RoutedSocket())
    with pytest.raises(OSError) as caught:
        other.bind(name)
    assert caught.value.errno == errno.EADDRINUSE
    route[name[1]] = None if is_kcp(server) else FAST
    free = keep(RoutedSocket())
    # A TCP connection of an earlier test may have had the same number, and be in its TIME_WAIT.
    free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    free.bind(name)


@pytest.mark.parametrize("profile", [FAST, None])
def test_refused_then_another_try(route, keep, profile, server, refusing):
    name = refusing(kcpsock if profile else socket)
    route[name[1]] = profile
    sock = keep(RoutedSocket())  # blocking: with a timeout Linux gives ECONNABORTED for the next try
    with pytest.raises(ConnectionRefusedError):
        sock.connect(name)
    sock.connect(server.getsockname())
    assert (sock.profile is not None) == is_kcp(server)
    echo(sock)


def test_an_attempt_that_has_failed_meanwhile(route, keep, refusing):
    name = refusing(kcpsock)
    route[name[1]] = FAST
    sock = keep(RoutedSocket())
    sock.setblocking(False)
    assert sock.connect_ex(name) == errno.EINPROGRESS
    assert select.select([], [sock], [], LONG_S)[1] == [sock]
    sock.bind(("127.0.0.1", 0))  # of which the route says nothing: TCP
    assert sock.profile is None and sock.getsockname()[1] > 0


def test_a_name_from_bind_is_kept_to_and_fro(route, keep, refusing):
    nobody = refusing(socket)
    server = keep(kcpsock.create_server(("127.0.0.1", 0)))
    route[server.getsockname()[1]] = FAST
    name = ("127.0.0.1", port_free_on_both())
    route[name[1]] = FAST
    sock = keep(RoutedSocket())
    sock.bind(name)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            sock.connect(nobody)
        assert sock.profile is None
    sock.connect(server.getsockname())
    assert sock.profile == FAST and sock.getsockname() == name
    conn, peer = server.accept()
    keep(conn)
    assert peer == name


def test_ipv6(route, keep):
    server = keep(socket.create_server(("::1", 0), family=socket.AF_INET6))
    sock = keep(RoutedSocket(socket.AF_INET6))
    sock.connect(server.getsockname())
    assert sock.profile is None and sock.getpeername() == server.getsockname()


def test_other_kinds_are_not_routed(route, keep):
    sock = keep(RoutedSocket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind(("127.0.0.1", 0))
    sock.connect(sock.getsockname())
    a, b = socket.socketpair()
    keep(a), keep(RoutedSocket(fileno=b.detach()))
    assert route.asked == []


@pytest.mark.parametrize("address", [None, "127.0.0.1", ("127.0.0.1",), 5])
def test_what_is_no_address_is_refused_as_ever(route, keep, address):
    for call in ("connect", "connect_ex", "bind"):
        with pytest.raises(TypeError):
            getattr(keep(RoutedSocket()), call)(address)
    assert route.asked == []


def test_a_route_that_gives_nonsense(route, keep):
    route[80] = "tcp"
    with pytest.raises(TypeError, match="route.*gave a str.*Profile"):
        keep(RoutedSocket()).connect(("127.0.0.1", 80))


def test_a_routes_exception_comes_out(monkeypatch, keep):
    def broken(address):
        raise LookupError("no idea")

    monkeypatch.setattr(RoutedSocket, "route", staticmethod(broken))
    with pytest.raises(LookupError):
        keep(RoutedSocket()).connect(("127.0.0.1", 80))


def test_closed(route):
    sock = RoutedSocket()
    sock.close()
    for call in (sock.connect, sock.bind):
        with pytest.raises(OSError) as caught:
            call(("127.0.0.1", 1))
        assert caught.value.errno == errno.EBADF
    assert route.asked == []


def test_nothing_is_left(route, no_leaks, refusing):
    name = refusing(socket)
    route[0] = FAST
    with leaks.check():
        for _ in range(20):
            sock = RoutedSocket()
            sock.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                sock.connect(name)
            sock.close()
