# SPDX-License-Identifier: MIT
"""setsockopt() and getsockopt(): what TCP has, and what KCP adds."""

import errno
import socket
import struct

import pytest

import kcpsock

SOL, TCP = socket.SOL_SOCKET, socket.IPPROTO_TCP


@pytest.mark.parametrize(
    "level,name,expected",
    [
        (SOL, "SO_REUSEADDR", 0),
        (SOL, "SO_REUSEPORT", 0),
        (SOL, "SO_KEEPALIVE", 0),
        (SOL, "SO_BROADCAST", 0),
        (SOL, "SO_OOBINLINE", 0),
        (SOL, "SO_ERROR", 0),
        (SOL, "SO_ACCEPTCONN", 0),
        (SOL, "SO_TYPE", socket.SOCK_STREAM),
        (SOL, "SO_DOMAIN", socket.AF_INET),
        (SOL, "SO_PROTOCOL", socket.IPPROTO_TCP),
        (TCP, "TCP_NODELAY", 0),
        (TCP, "TCP_KEEPIDLE", 7200),
        (socket.IPPROTO_IP, "IP_TOS", 0),
    ],
)
def test_fresh_value(net, level, name, expected):
    if hasattr(socket, name):
        assert net.socket().getsockopt(level, getattr(socket, name)) == expected


@pytest.mark.parametrize(
    "level,name",
    [
        (SOL, "SO_REUSEADDR"),
        (SOL, "SO_REUSEPORT"),
        (SOL, "SO_KEEPALIVE"),
        (SOL, "SO_OOBINLINE"),
        (TCP, "TCP_NODELAY"),
        (TCP, "TCP_KEEPIDLE"),
        (TCP, "TCP_KEEPINTVL"),
        (TCP, "TCP_KEEPCNT"),
        (TCP, "TCP_CORK"),
        (TCP, "TCP_USER_TIMEOUT"),
        (socket.IPPROTO_IP, "IP_TOS"),
        (socket.IPPROTO_IP, "IP_TTL"),
    ],
)
def test_set_value_is_remembered(net, server, level, name):
    option = getattr(socket, name)
    client = net.dial(server)
    for sock in (net.socket(), client):
        value = 16 if name == "IP_TOS" else 1
        sock.setsockopt(level, option, value)
        assert sock.getsockopt(level, option) == value
        assert sock.getsockopt(level, option, 4) in (struct.pack("i", value), bytes([value]))
        sock.setsockopt(level, option, struct.pack("i", value))
        assert sock.getsockopt(level, option) == value


def test_value_survives_connect(net, server):
    client = net.socket()
    client.setsockopt(TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(SOL, socket.SO_KEEPALIVE, 1)
    client.setsockopt(SOL, socket.SO_LINGER, struct.pack("ii", 1, 3))
    client.connect(server.getsockname())
    assert client.getsockopt(TCP, socket.TCP_NODELAY) == 1
    assert client.getsockopt(SOL, socket.SO_KEEPALIVE) == 1
    assert client.getsockopt(SOL, socket.SO_LINGER, 8) == struct.pack("ii", 1, 3)
    client.setsockopt(SOL, socket.SO_LINGER, struct.pack("ii", 0, 0))


def test_accepted_socket_inherits(net, server):
    server.setsockopt(TCP, socket.TCP_NODELAY, 1)
    server.setsockopt(SOL, socket.SO_KEEPALIVE, 1)
    net.dial(server)
    conn, _ = net.accept(server)
    assert conn.getsockopt(TCP, socket.TCP_NODELAY) == 1
    assert conn.getsockopt(SOL, socket.SO_KEEPALIVE) == 1


def test_linger_as_bytes(net):
    sock = net.socket()
    assert sock.getsockopt(SOL, socket.SO_LINGER, 8) == bytes(8)
    sock.setsockopt(SOL, socket.SO_LINGER, struct.pack("ii", 1, 7))
    assert sock.getsockopt(SOL, socket.SO_LINGER, 8) == struct.pack("ii", 1, 7)


@pytest.mark.parametrize("option", [socket.SO_SNDBUF, socket.SO_RCVBUF])
def test_buffer_sizes(net, server, option):
    client = net.socket()
    before = client.getsockopt(SOL, option)
    assert before > 0
    client.setsockopt(SOL, option, 8192)
    small = client.getsockopt(SOL, option)
    assert 0 < small < before or small == 16384
    client.connect(server.getsockname())
    assert client.getsockopt(SOL, option) == small


def test_send_buffer_bounds_what_is_taken(net, server):
    amounts = []
    for size in (4096, 150_000):
        client = net.socket()
        client.setsockopt(SOL, socket.SO_SNDBUF, size)
        client.connect(server.getsockname())
        client.setblocking(False)
        amounts.append(client.getsockopt(SOL, socket.SO_SNDBUF))
    assert amounts[0] < amounts[1]


def test_accept_conn(net, server):
    client = net.dial(server)
    assert server.getsockopt(SOL, socket.SO_ACCEPTCONN) == 1
    assert client.getsockopt(SOL, socket.SO_ACCEPTCONN) == 0


def test_v6only(net):
    sock = net.socket(socket.AF_INET6)
    for value in (1, 0, 1):
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, value)
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == value
    sock.bind(("::1", 0))
    with pytest.raises(OSError) as caught:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    assert caught.value.errno == errno.EINVAL


def test_wrong_arguments(net):
    sock = net.socket()
    for args in (
        (),
        (SOL,),
        (SOL, socket.SO_KEEPALIVE),
        (SOL, socket.SO_KEEPALIVE, None),
        (SOL, socket.SO_KEEPALIVE, "x"),
    ):
        with pytest.raises(TypeError):
            sock.setsockopt(*args)
    for args in ((), (SOL,), (SOL, socket.SO_KEEPALIVE, "x")):
        with pytest.raises(TypeError):
            sock.getsockopt(*args)
    for buflen in (-1, 100_000):
        with pytest.raises(OSError):
            sock.getsockopt(SOL, socket.SO_KEEPALIVE, buflen)


def test_unknown_option(net):
    sock = net.socket()
    for call in (lambda: sock.setsockopt(SOL, 9999, 1), lambda: sock.getsockopt(TCP, 9999)):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.ENOPROTOOPT


KCP_VALUES = [
    ("KCP_NODELAY", "nodelay", 0),
    ("KCP_INTERVAL", "interval", 50),
    ("KCP_RESEND", "resend", 3),
    ("KCP_NC", "nc", 0),
    ("KCP_SNDWND", "sndwnd", 64),
    ("KCP_RCVWND", "rcvwnd", 2048),
    ("KCP_ACK_NODELAY", "ack_nodelay", 1),
    ("KCP_WRITE_DELAY", "write_delay", 1),
    ("KCP_DUP", "dup", 1),
    ("KCP_RATE_LIMIT", "rate_limit", 2**31 - 1),
    ("KCP_DSCP", "dscp", 46),
]


@pytest.mark.parametrize("name,field,value", KCP_VALUES)
def test_kcp_option(kcp, name, field, value):
    option = getattr(kcpsock, name)
    client, conn = kcp.pair()
    fresh = kcp.socket()
    if name == "KCP_DSCP":  # an accepted connection sends from its listener's UDP socket, which others share
        with pytest.raises(OSError) as refused:
            conn.setsockopt(kcpsock.SOL_KCP, option, value)
        assert refused.value.errno == errno.ENOPROTOOPT
    for sock in (fresh, client) if name == "KCP_DSCP" else (fresh, client, conn):
        assert sock.getsockopt(kcpsock.SOL_KCP, option) != value
        sock.setsockopt(kcpsock.SOL_KCP, option, value)
        assert sock.getsockopt(kcpsock.SOL_KCP, option) == value
        assert getattr(sock.profile, field) == value
    client.sendall(b"x" * 100_000)
    client.shutdown(socket.SHUT_WR)
    received = 0
    while part := conn.recv(65536):
        received += len(part)
    assert received == 100_000


def test_kcp_rate_limit_beyond_an_int(kcp):
    sock = kcp.socket(profile=kcpsock.Profile(rate_limit=2**40))
    assert sock.getsockopt(kcpsock.SOL_KCP, kcpsock.KCP_RATE_LIMIT) == 2**31 - 1
    with pytest.raises(OverflowError):
        sock.setsockopt(kcpsock.SOL_KCP, kcpsock.KCP_RATE_LIMIT, 2**31)
    assert sock.profile.rate_limit == 2**40


def test_kcp_option_shows_in_info(kcp):
    client, _ = kcp.pair()
    client.setsockopt(kcpsock.SOL_KCP, kcpsock.KCP_SNDWND, 99)
    assert client.kcp_info().snd_wnd_pkts == 99


def test_kcp_option_wrong(kcp):
    sock = kcp.socket()
    with pytest.raises(ValueError, match="sndwnd"):
        sock.setsockopt(kcpsock.SOL_KCP, kcpsock.KCP_SNDWND, 0)
    with pytest.raises(OSError) as caught:
        sock.setsockopt(kcpsock.SOL_KCP, 999, 0)
    assert caught.value.errno == errno.ENOPROTOOPT
    with pytest.raises(OSError) as caught:
        sock.getsockopt(kcpsock.SOL_KCP, 999)
    assert caught.value.errno == errno.ENOPROTOOPT
