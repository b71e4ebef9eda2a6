# SPDX-License-Identifier: MIT
"""Timeouts and non-blocking mode; the descriptor follows them."""

import fcntl
import os
import socket

import pytest

from .conftest import SHORT_S


def nonblocking(sock):
    return bool(fcntl.fcntl(sock.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK)


def test_recv_timeout(net, pair):
    client, conn = pair
    client.settimeout(SHORT_S)
    for call in (
        lambda: client.recv(1),
        lambda: client.recv_into(bytearray(1)),
        lambda: client.recvfrom(1),
        lambda: client.recvmsg(1),
        lambda: client.recvmsg_into([bytearray(1)]),
    ):
        with pytest.raises(socket.timeout, match="timed out") as caught:
            call()
        assert caught.value.errno is None
    conn.sendall(b"x")
    client.settimeout(None)
    assert client.recv(1) == b"x"


def test_nonblocking_recv(net, pair):
    client, _ = pair
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_descriptor_follows_the_timeout(net, server):
    client = net.socket()
    for sock in (client, server):
        for timeout, expected in ((None, False), (0, True), (5, True), (None, False)):
            sock.settimeout(timeout)
            assert nonblocking(sock) is expected


@pytest.mark.parametrize("timeout", [None, 0, 5])
def test_descriptor_follows_the_timeout_through_connect(net, server, timeout):
    client = net.socket()
    client.settimeout(timeout)
    try:
        client.connect(server.getsockname())
    except BlockingIOError:
        pass
    assert nonblocking(client) is (timeout is not None)
    assert client.gettimeout() == timeout


def test_descriptor_is_close_on_exec(net, server):
    client = net.dial(server)
    conn, _ = net.accept(server)
    for sock in (net.socket(), server, client, conn):
        assert not os.get_inheritable(sock.fileno())


def test_inheritable_survives_connect_and_listen(net, server):
    client, listener = net.socket(), net.socket()
    for sock in (client, listener):
        sock.set_inheritable(True)
    client.connect(server.getsockname())
    listener.listen()
    assert client.get_inheritable() and listener.get_inheritable()


def test_nonblocking_type_flag(net):
    sock = net.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    assert sock.gettimeout() == 0 and nonblocking(sock)
    assert sock.type == socket.SOCK_STREAM


def test_default_timeout(net):
    net.setdefaulttimeout(3)
    try:
        assert net.socket().gettimeout() == 3
    finally:
        net.setdefaulttimeout(None)
    assert net.socket().gettimeout() is None


def test_negative_timeout(net):
    with pytest.raises(ValueError):
        net.socket().settimeout(-1)


def test_timeout_longer_than_poll_can_count(kcp):
    """poll(2) takes an int of ms, 24.8 days at most."""
    server = kcp.listener()
    client = kcp.socket()
    client.settimeout(5_000_000)
    client.connect(server.getsockname())
    assert client.gettimeout() == 5_000_000
