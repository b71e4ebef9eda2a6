# SPDX-License-Identifier: MIT
"""bind(), getsockname(), getpeername(), ports and families."""

import _socket
import errno
import socket

import pytest

from .conftest import LONG_S, eventually, needs_linux_calls

needs_ipv6 = pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")


def test_getsockname_before_bind(net):
    assert net.socket().getsockname() == ("0.0.0.0", 0)
    assert net.socket(socket.AF_INET6).getsockname() == ("::", 0, 0, 0)


def test_getsockname_after_bind(net):
    sock = net.socket()
    sock.bind(("", 0))
    host, port = sock.getsockname()
    assert host == "0.0.0.0" and port > 0


def test_getsockname_of_a_listener_stays(net):
    sock = net.socket()
    sock.bind(("127.0.0.1", 0))
    name = sock.getsockname()
    sock.listen()
    assert sock.getsockname() == name


@needs_linux_calls
def test_getsockname_of_a_wildcard_listener_is_the_wildcard(net):
    sock = net.socket()
    sock.bind(("", 0))
    sock.listen()
    assert sock.getsockname()[0] == "0.0.0.0"
    client = net.keep(net.create_connection(("127.0.0.1", sock.getsockname()[1]), LONG_S))
    conn, peer = net.accept(sock)
    assert conn.getsockname() == client.getpeername() == ("127.0.0.1", sock.getsockname()[1])
    assert peer == client.getsockname()


def test_listen_unbound_takes_a_port(net):
    sock = net.socket()
    sock.listen()
    port = sock.getsockname()[1]
    assert port > 0
    net.keep(net.create_connection(("127.0.0.1", port), LONG_S))


def test_getpeername_unconnected(net, server):
    for sock in (net.socket(), server):
        with pytest.raises(OSError) as caught:
            sock.getpeername()
        assert caught.value.errno == errno.ENOTCONN


def test_bind_twice(net):
    sock = net.socket()
    sock.bind(("127.0.0.1", 0))
    with pytest.raises(OSError) as caught:
        sock.bind(("127.0.0.1", 0))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("reuse", [0, 1])
def test_bind_address_in_use(net, server, reuse):
    sock = net.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    with pytest.raises(OSError) as caught:
        sock.bind(server.getsockname())
        sock.listen()
    assert caught.value.errno == errno.EADDRINUSE


def test_bind_address_in_use_by_a_bound_socket(net):
    first, second = net.socket(), net.socket()
    first.bind(("127.0.0.1", 0))
    with pytest.raises(OSError) as caught:
        second.bind(first.getsockname())
    assert caught.value.errno == errno.EADDRINUSE


def test_create_server_names_the_address_in_use(net, server):
    with pytest.raises(OSError, match="while attempting to bind on address") as caught:
        net.create_server(server.getsockname())
    assert caught.value.errno == errno.EADDRINUSE


def test_bind_again_after_close(net, server):
    address = server.getsockname()
    client = net.dial(server)
    conn, _ = net.accept(server)
    for sock in (client, conn, server):
        sock.close()

    def bind():
        sock = net.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
            return sock
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
            sock.close()

    again = eventually(bind)
    again.listen()
    net.dial(again)


def test_bind_foreign_address(net):
    with pytest.raises(OSError) as caught:
        net.socket().bind(("192.0.2.1", 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_bind_unresolvable_name(net):
    with pytest.raises(socket.gaierror):
        net.socket().bind(("no.such.host.invalid", 0))


@pytest.mark.parametrize("address", ["127.0.0.1", ("127.0.0.1",), ("127.0.0.1", "x"), None])
def test_bind_wrong_argument(net, address):
    with pytest.raises(TypeError):
        net.socket().bind(address)


@pytest.mark.parametrize("port", [-1, 65536])
def test_bind_port_out_of_range(net, port):
    with pytest.raises(OverflowError):
        net.socket().bind(("127.0.0.1", port))


def test_reuse_port_lets_two_listen(net):
    with net.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
        listeners = [net.listener(address, reuse_port=True) for _ in range(2)]
    for listener in listeners:
        listener.settimeout(0)
    client = net.keep(net.create_connection(address, LONG_S))

    def accepted():
        for listener in listeners:
            try:
                return listener.accept()
            except BlockingIOError:
                pass

    conn, peer = eventually(accepted)
    net.keep(conn)
    assert peer == client.getsockname()


@needs_ipv6
def test_ipv6(net):
    server = net.listener(("::1", 0), family=socket.AF_INET6)
    client = net.socket(socket.AF_INET6)
    client.connect(server.getsockname())
    conn, peer = net.accept(server)
    assert peer == client.getsockname() and len(peer) == 4
    assert conn.family == socket.AF_INET6
    client.sendall(b"six")
    assert conn.recv(3) == b"six"


@needs_ipv6
def test_ipv6_refused(net):
    with net.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        address = probe.getsockname()
        with pytest.raises(ConnectionRefusedError):
            net.socket(socket.AF_INET6).connect(address)


@needs_ipv6
@needs_linux_calls
def test_dual_stack_listener_takes_both(net):
    assert net.has_dualstack_ipv6()
    server = net.listener(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    port = server.getsockname()[1]
    four = net.keep(net.create_connection(("127.0.0.1", port), LONG_S))
    conn, peer = net.accept(server)
    assert peer[:2] == ("::ffff:127.0.0.1", four.getsockname()[1])
    assert conn.getsockname()[:2] == ("::ffff:127.0.0.1", port)
    six = net.keep(net.create_connection(("::1", port), LONG_S))
    assert net.accept(server)[1][:2] == ("::1", six.getsockname()[1])


@needs_ipv6
def test_v6only_listener_leaves_the_port_to_ipv4(net):
    for _ in range(20):  # somebody else may have the number with IPv4
        six = net.listener(("", 0), family=socket.AF_INET6)
        assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        try:
            net.listener(("", six.getsockname()[1]))
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
            six.close()
        else:
            return
    pytest.fail("IPv4 never had the port")


def test_names_after_close(net, pair):
    client, _ = pair
    client.close()
    for call in (client.getsockname, client.getpeername):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_loopback_listener_is_its_own_port(net):
    # A port that the kernel chose is still ours after listen(), and nobody else's.
    sock = net.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    sock.listen()
    with pytest.raises(OSError) as caught:
        other = net.socket()
        other.bind(("127.0.0.1", port))
        other.listen()
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    "name,found,expected",
    [
        ("10.0.0.1", ("host.example", [], []), "host.example"),
        (" short ", ("short", ["short.example", "other.example"], []), "short.example"),
        ("short", ("short", ["brief"], []), "short"),
        ("", ("here", ["here.example"], []), "here.example"),
        ("0.0.0.0", ("here", ["here.example"], []), "here.example"),
        ("::", ("here", ["here.example"], []), "here.example"),
    ],
)
def test_getfqdn(net, monkeypatch, name, found, expected):
    asked = []
    monkeypatch.setattr(net.module, "gethostname", lambda: "here")
    monkeypatch.setattr(net.module, "gethostbyaddr", lambda name: asked.append(name) or found)
    assert net.getfqdn(name) == expected
    assert asked == ["here" if name in ("", "0.0.0.0", "::") else name.strip()]


def test_no_dual_stack_without_ipv6(net, monkeypatch):
    monkeypatch.setattr(socket, "has_ipv6", False)
    assert net.has_dualstack_ipv6() is False


def test_create_server_where_ports_are_not_shared(net, monkeypatch):
    monkeypatch.delattr(socket if net.is_kcp else _socket, "SO_REUSEPORT")
    with pytest.raises(ValueError, match="SO_REUSEPORT not supported"):
        net.listener(reuse_port=True)
    assert net.listener().getsockname()[1] > 0


def test_create_server_that_is_refused_leaves_nothing_open(threads, no_leaks):
    with pytest.raises(OverflowError):
        threads.module.create_server(("127.0.0.1", 0), backlog=2**40)
    with threads.listener() as server, pytest.raises(OSError):
        threads.module.create_server(server.getsockname())


def test_socketpair(net):
    for family in (None, socket.AF_UNIX):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            one, other = map(net.keep, net.socketpair(family, kind))
            assert (one.family, one.type) == (other.family, other.type) == (socket.AF_UNIX, kind)
            one.send(b"to other"), other.send(b"to one")
            assert (one.recv(10), other.recv(10)) == (b"to one", b"to other")
