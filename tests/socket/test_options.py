# SPDX-License-Identifier: MIT
"""setsockopt() and getsockopt(): what TCP has, and what KCP adds."""

import contextlib
import errno
import os
import select
import socket
import stat
import struct
import sys
from pathlib import Path

import pytest

import kcpsock

from .conftest import LONG_S, eventually, fill

SOL, TCP = socket.SOL_SOCKET, socket.IPPROTO_TCP
ROOT = Path(__file__).parents[2]


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


def test_kcp_windows_are_auto_until_set(kcp):
    client, conn = kcp.pair()
    for sock in (client, conn):
        assert (sock.profile.sndwnd, sock.profile.rcvwnd) == ("auto", "auto")
        for option in (kcpsock.KCP_SNDWND, kcpsock.KCP_RCVWND):
            assert sock.getsockopt(kcpsock.SOL_KCP, option) == 0
    assert (client.kcp_info().snd_wnd_pkts, client.kcp_info().rcv_wnd_pkts) == (32768, 1024)
    client.setsockopt(kcpsock.SOL_KCP, kcpsock.KCP_SNDWND, 99)  # the other one stays
    assert (client.kcp_info().snd_wnd_pkts, client.kcp_info().rcv_wnd_pkts) == (99, 1024)
    assert (client.profile.sndwnd, client.profile.rcvwnd) == (99, "auto")
    client.setsockopt(kcpsock.SOL_KCP, kcpsock.KCP_RCVWND, 77)
    assert (client.kcp_info().snd_wnd_pkts, client.kcp_info().rcv_wnd_pkts) == (99, 77)
    fixed = kcp.socket(profile=kcpsock.Profile(control="fixed"))
    fixed.connect(kcp.listener().getsockname())
    assert fixed.kcp_info().snd_wnd_pkts == 1024


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


def carriers(net, sock):
    """What sends and receives a socket's packets: TCP's own, or the UDP sockets of this process that have its port."""
    if not net.is_kcp:
        return [sock]
    port, found = sock.getsockname()[1], []
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            copy = os.dup(number)
        except OSError:  # gone by now: the listing's own, or one that an engine has closed
            continue
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            continue
        udp = socket.socket(fileno=copy)
        if udp.type == socket.SOCK_DGRAM and udp.family == sock.family and udp.getsockname()[1] == port:
            found.append(net.keep(udp))
        else:
            udp.close()
    return found


# What concerns the port and the IP header.
PASSED_ON = [
    (socket.AF_INET, SOL, "SO_REUSEPORT", 1),
    (socket.AF_INET, SOL, "SO_MARK", 7),
    (socket.AF_INET, SOL, "SO_PRIORITY", 5),
    (socket.AF_INET, SOL, "SO_BROADCAST", 1),
    (socket.AF_INET, SOL, "SO_BINDTODEVICE", b"lo\0"),
    (socket.AF_INET, socket.IPPROTO_IP, "IP_TTL", 33),
    (socket.AF_INET, socket.IPPROTO_IP, "IP_TOS", 0x28),
    (socket.AF_INET6, socket.IPPROTO_IPV6, "IPV6_V6ONLY", 1),
    (socket.AF_INET6, socket.IPPROTO_IPV6, "IPV6_UNICAST_HOPS", 33),
    (socket.AF_INET6, socket.IPPROTO_IPV6, "IPV6_TCLASS", 0x28),
]


@pytest.mark.parametrize("role", ["bound", "listening", "connecting", "connecting from a bound port"])
@pytest.mark.parametrize("family,level,name,value", PASSED_ON, ids=[name for _, _, name, _ in PASSED_ON])
def test_option_is_in_force_where_the_packets_go(net, family, level, name, value, role):
    option = getattr(socket, name)
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    sock = net.socket(family)
    try:
        sock.setsockopt(level, option, value)
    except PermissionError:
        pytest.skip(f"{name} is for root")
    if role != "connecting":
        sock.bind((host, 0))
    if role == "listening":
        sock.listen()
    if role.startswith("connecting"):
        sock.connect(net.listener((host, 0), family=family).getsockname())
    found = carriers(net, sock)
    assert found
    for carrier in found:
        if isinstance(value, bytes):
            assert carrier.getsockopt(level, option, 16) == value  # 16: IFNAMSIZ
        else:
            assert carrier.getsockopt(level, option) == value


@pytest.mark.parametrize(
    "family,level,name,value",
    [row for row in PASSED_ON if row[2] not in ("SO_REUSEPORT", "SO_BROADCAST", "SO_BINDTODEVICE", "IPV6_V6ONLY")],
)
def test_option_of_a_live_connection_is_in_force(net, family, level, name, value):
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    sock = net.socket(family)
    sock.connect(net.listener((host, 0), family=family).getsockname())
    try:
        sock.setsockopt(level, getattr(socket, name), value)
    except PermissionError:
        pytest.skip(f"{name} is for root")
    found = carriers(net, sock)
    assert found
    for carrier in found:
        assert carrier.getsockopt(level, getattr(socket, name)) == value


# What programs set by themselves, or hand on for their users; where it was seen, see docs/semantics.md.
SET_BY_PROGRAMS = [
    (SOL, "SO_REUSEADDR", 1),
    (SOL, "SO_REUSEPORT", 1),
    (SOL, "SO_KEEPALIVE", 1),
    (SOL, "SO_BROADCAST", 1),
    (SOL, "SO_OOBINLINE", 1),
    (SOL, "SO_DONTROUTE", 1),
    (SOL, "SO_LINGER", struct.pack("ii", 1, 5)),
    (SOL, "SO_SNDBUF", 65536),
    (SOL, "SO_RCVBUF", 65536),
    (SOL, "SO_RCVLOWAT", 1),
    (SOL, "SO_RCVTIMEO", struct.pack("ll", 30, 0)),
    (SOL, "SO_SNDTIMEO", struct.pack("ll", 30, 0)),
    (SOL, "SO_PRIORITY", 5),
    (SOL, "SO_MARK", 7),
    (SOL, "SO_BINDTODEVICE", b"lo\0"),
    (TCP, "TCP_NODELAY", 1),
    (TCP, "TCP_KEEPIDLE", 30),
    (TCP, "TCP_KEEPINTVL", 5),
    (TCP, "TCP_KEEPCNT", 3),
    (TCP, "TCP_USER_TIMEOUT", 30_000),
    (TCP, "TCP_SYNCNT", 3),
    (TCP, "TCP_CORK", 0),
    (TCP, "TCP_QUICKACK", 1),
    (TCP, "TCP_DEFER_ACCEPT", 0),
    (TCP, "TCP_FASTOPEN", 5),
    (TCP, "TCP_FASTOPEN_CONNECT", 0),
    (TCP, "TCP_NOTSENT_LOWAT", 16384),
    (TCP, "TCP_WINDOW_CLAMP", 65536),
    (TCP, "TCP_LINGER2", 20),
    (TCP, "TCP_MAXSEG", 1000),
    (TCP, "TCP_CONGESTION", b"reno"),
    (socket.IPPROTO_IP, "IP_TOS", 0x10),
    (socket.IPPROTO_IP, "IP_TTL", 33),
    (socket.IPPROTO_IPV6, "IPV6_V6ONLY", 1),
    (socket.IPPROTO_IPV6, "IPV6_TCLASS", 0x28),
    (socket.IPPROTO_IPV6, "IPV6_UNICAST_HOPS", 33),
]
ACTS = set(
    """
    SO_REUSEADDR SO_REUSEPORT SO_KEEPALIVE SO_LINGER SO_SNDBUF SO_RCVBUF SO_RCVLOWAT SO_RCVTIMEO SO_SNDTIMEO SO_PRIORITY
    SO_MARK SO_BINDTODEVICE TCP_NODELAY TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_USER_TIMEOUT TCP_SYNCNT IP_TOS IP_TTL
    IPV6_V6ONLY IPV6_TCLASS IPV6_UNICAST_HOPS
""".split()
)


def outcome(sock, level, option, value):
    """Whether it is taken, by which errno not, and what is read back."""
    try:
        sock.setsockopt(level, option, value)
    except OSError as error:
        return error.errno
    return sock.getsockopt(level, option, 16)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the list is Linux's")
@pytest.mark.parametrize("level,name,value", [row for row in SET_BY_PROGRAMS if hasattr(socket, row[1])])
def test_options_that_programs_set(net, level, name, value):
    """Taken or refused as on TCP in each state of a socket, and what is written arrives."""
    option = getattr(socket, name)
    family, host = (socket.AF_INET6, "::1") if level == socket.IPPROTO_IPV6 else (socket.AF_INET, "127.0.0.1")
    seen = []
    for module in (socket, net):
        server, client = (net.keep(module.socket(family)) for _ in range(2))
        results = [outcome(client, level, option, value)]
        server.bind((host, 0))
        server.listen()
        results.append(outcome(server, level, option, value))
        client.connect(server.getsockname())
        conn = net.keep(server.accept()[0])
        if name not in ("TCP_MAXSEG", "SO_SNDBUF", "SO_RCVBUF", "TCP_WINDOW_CLAMP"):  # TCP says what it uses
            results += [outcome(sock, level, option, value) for sock in (client, conn)]
            seen.append(results)
        client.sendall(b"written")
        client.shutdown(socket.SHUT_WR)
        assert conn.makefile("rb").read() == b"written"
    assert seen[:1] == seen[1:]


def test_options_without_effect_are_in_the_table():
    text = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    table = text.partition("## Options without effect")[2].partition("## ")[0]
    for _, name, _ in SET_BY_PROGRAMS:
        assert name in ACTS or name in table


INHERITED = [
    (SOL, "SO_REUSEPORT", 1),
    (SOL, "SO_KEEPALIVE", 1),
    (SOL, "SO_BROADCAST", 1),
    (SOL, "SO_OOBINLINE", 1),
    (SOL, "SO_MARK", 7),
    (SOL, "SO_PRIORITY", 5),
    (SOL, "SO_RCVLOWAT", 5),
    (SOL, "SO_DONTROUTE", 1),
    (SOL, "SO_LINGER", struct.pack("ii", 1, 5)),
    (SOL, "SO_RCVTIMEO", struct.pack("ll", 3, 0)),
    (SOL, "SO_SNDTIMEO", struct.pack("ll", 3, 0)),
    (TCP, "TCP_NODELAY", 1),
    (TCP, "TCP_CORK", 1),
    (TCP, "TCP_LINGER2", 20),
    (TCP, "TCP_DEFER_ACCEPT", 0),
    (TCP, "TCP_FASTOPEN", 5),
    (TCP, "TCP_NOTSENT_LOWAT", 9999),
    (socket.IPPROTO_IP, "IP_TOS", 0x28),
    (socket.IPPROTO_IP, "IP_TTL", 33),
]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the list is Linux's")
@pytest.mark.parametrize("level,name,value", [row for row in INHERITED if hasattr(socket, row[1])])
def test_accepted_socket_has_what_tcps_has(net, level, name, value):
    option, size = getattr(socket, name), 16
    server, plain = net.listener(), net.keep(socket.create_server(("127.0.0.1", 0)))
    values = []
    for module, listener in ((socket, plain), (net, server)):
        try:
            listener.setsockopt(level, option, value)
        except PermissionError:
            pytest.skip(f"{name} is for root")
        net.keep(module.create_connection(listener.getsockname()))
        values.append(net.keep(listener.accept()[0]).getsockopt(level, option, size))
    assert values[0] == values[1]


def test_keepalive_of_less_than_a_millisecond_is_not_off(threads):
    client = threads.dial(threads.listener(), profile=kcpsock.Profile(keepalive=0.0004))
    for value in (None, 1, 0):
        if value is not None:
            client.setsockopt(SOL, socket.SO_KEEPALIVE, value)
        before = client.kcp_info().out_segs
        eventually(lambda before=before: client.kcp_info().out_segs > before + 5)


def test_listeners_kcp_options_are_in_force_where_it_accepts(threads):
    server = threads.listener()
    server.setsockopt(kcpsock.SOL_KCP, kcpsock.KCP_SNDWND, 99)
    threads.dial(server)
    conn, _ = threads.accept(server)
    assert conn.getsockopt(kcpsock.SOL_KCP, kcpsock.KCP_SNDWND) == 99
    assert conn.kcp_info().snd_wnd_pkts == 99


def test_accepted_socket_inherits_its_buffers(net, server):
    fresh = net.dial(server), net.accept(server)[0]
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        server.setsockopt(SOL, option, 16384)
    net.dial(server)
    conn, _ = net.accept(server)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        assert conn.getsockopt(SOL, option) == server.getsockopt(SOL, option) != fresh[1].getsockopt(SOL, option)


@pytest.mark.parametrize("when", ["before connect", "after connect"])
def test_receive_buffer_bounds_what_waits(threads, when):
    server = threads.listener(profile=kcpsock.Profile(rcvwnd=4, sndwnd=4))
    sizes = []
    for size in (8192, 1_000_000):
        client = threads.socket(profile=kcpsock.Profile(rcvwnd=4, sndwnd=4))
        if when == "before connect":
            client.setsockopt(SOL, socket.SO_RCVBUF, size)
        client.connect(server.getsockname())
        if when == "after connect":
            client.setsockopt(SOL, socket.SO_RCVBUF, size)
        sizes.append(fill(threads.accept(server)[0]))
    assert sizes[1] > sizes[0] + 500_000


def test_more_buffer_does_not_look_like_connected(net):
    # While connect() is under way select() must go on waiting, whatever is set.
    client = net.socket()
    client.setblocking(False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, full_listener() as full:
        silent.bind(("127.0.0.1", 0))
        client.connect_ex(silent.getsockname() if net.is_kcp else full)
        assert select.select([], [client], [], 0)[1] == []
        client.setsockopt(SOL, socket.SO_SNDBUF, 1 << 20)
        assert select.select([], [client], [], 0.05)[1] == []
        assert client.connect_ex(silent.getsockname() if net.is_kcp else full) == errno.EALREADY


@contextlib.contextmanager
def full_listener():
    """The address of a TCP listener whose backlog is full: it answers nobody."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
        eventually(lambda: len(select.select([], waiting, [], 0)[1]) >= 1)
        yield server.getsockname()
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize("setter", ["client", "listener"])
def test_linger_set_before_the_connection_counts(net, server, setter):
    linger = (SOL, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client = net.socket()
    (client if setter == "client" else server).setsockopt(*linger)
    client.connect(server.getsockname())
    conn, _ = net.accept(server)
    closing, other = (client, conn) if setter == "client" else (conn, client)
    closing.close()
    with pytest.raises(ConnectionResetError):
        other.recv(1)


def test_options_of_a_dead_connection_are_taken(net, pair):
    client, conn = pair
    conn.setsockopt(SOL, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    for option in ((TCP, socket.TCP_NODELAY, 1), (SOL, socket.SO_KEEPALIVE, 1), (SOL, socket.SO_RCVBUF, 16384)):
        client.setsockopt(*option)
        assert client.getsockopt(*option[:2]) >= 1


def test_nodelay_sends_at_once_what_the_profile_would_hold(threads):
    # The one is held until the next flush, up to 5 s away; the other is not, though it was written later.
    server = threads.listener()
    slow = kcpsock.Profile(write_delay=True, interval=5000)
    clients = threads.dial(server, profile=slow), threads.dial(server, profile=slow)
    conns = threads.accept(server)[0], threads.accept(server)[0]
    if conns[0].getpeername() != clients[0].getsockname():
        conns = conns[::-1]
    clients[1].setsockopt(TCP, socket.TCP_NODELAY, 1)
    for client in clients:
        client.sendall(b"x")
    assert select.select(conns, [], [], LONG_S)[0] == [conns[1]]
    clients[1].setsockopt(TCP, socket.TCP_NODELAY, 0)  # back to what the profile says
    assert conns[1].recv(1) == b"x"


def test_value_is_cut_to_the_length_asked_for(net):
    sock = net.socket()
    sock.setsockopt(SOL, socket.SO_LINGER, struct.pack("ii", 1, 7))
    for length in (1, 4, 6, 8, 1024):
        assert sock.getsockopt(SOL, socket.SO_LINGER, length) == struct.pack("ii", 1, 7)[:length]


def test_receive_timeout_of_the_descriptor(net, server):
    """SO_RCVTIMEO ends a recv() in the kernel; a greenlet's waits in the hub, which doesn't know of it, as gevent's."""
    timeout = struct.pack("ll", 0, 20_000)
    client = net.socket()
    client.setsockopt(SOL, socket.SO_RCVTIMEO, timeout)
    client.connect(server.getsockname())
    assert client.getsockopt(SOL, socket.SO_RCVTIMEO, len(timeout)) == timeout
    if not net.greenlets:
        with pytest.raises(BlockingIOError):
            net.spawn(client.recv, 1).join()


def test_device_by_name_and_by_number(net):
    by_name, by_number = 25, 62  # SO_BINDTODEVICE, SO_BINDTOIFINDEX
    name, number = b"lo\0", socket.if_nametoindex("lo")
    for option, value in ((by_name, name), (by_number, number)):
        sock = net.socket()
        assert sock.getsockopt(SOL, by_number) == 0
        sock.setsockopt(SOL, option, value)
        assert sock.getsockopt(SOL, by_name, 16) == name  # 16: IFNAMSIZ
        assert sock.getsockopt(SOL, by_number) == number
