# SPDX-License-Identifier: MIT
"""Flags of recv(), SO_RCVLOWAT, addresses that are no peer's, and what errors say."""

import errno
import fcntl
import select
import socket
import struct
import sys
import termios

import pytest

from .conftest import LONG_S, eventually, needs_linux_calls

SOL = socket.SOL_SOCKET
PEEK_ALL = socket.MSG_PEEK | socket.MSG_WAITALL
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as Linux has it")


def unread(sock):
    """Bytes that a read would find."""
    return struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))[0]


def read_by(sock, call, size, flags):
    buffer = bytearray(size)
    if call in ("recv", "recvfrom"):
        found = getattr(sock, call)(size, flags)
        return found if call == "recv" else found[0]
    if call == "recvmsg":
        return sock.recvmsg(size, 0, flags)[0]
    if call == "recvmsg_into":
        found = sock.recvmsg_into([memoryview(buffer)[:3], memoryview(buffer)[3:]], 0, flags)
    else:
        found = getattr(sock, call)(buffer, 0, flags)
    return bytes(buffer[: found if isinstance(found, int) else found[0]])


@linux_only
@pytest.mark.parametrize("call", ["recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into"])
def test_peek_of_all_waits_for_all(net, pair, call):
    client, conn = pair
    conn.settimeout(None)
    client.sendall(b"hello")
    eventually(lambda: unread(conn) == 5)
    if net.greenlets:  # as gevent's: what is there
        assert read_by(conn, call, 10, PEEK_ALL) == b"hello"
        return
    reading = net.spawn(read_by, conn, call, 10, PEEK_ALL)
    client.sendall(b"world")
    assert reading.join() == b"helloworld"
    assert conn.recv(10, socket.MSG_WAITALL) == b"helloworld"


@linux_only
def test_peek_of_all_ends_with_the_stream(net, pair):
    client, conn = pair
    conn.settimeout(None)
    reading = net.spawn(conn.recv, 10, PEEK_ALL)
    client.sendall(b"hello")
    client.close()
    assert reading.join() == b"hello"
    assert conn.recv(10) == b"hello"
    assert conn.recv(10, PEEK_ALL) == b""


def test_peek_of_all_with_a_timeout_takes_what_is_there(net, pair):
    client, conn = pair
    client.sendall(b"hello")
    eventually(lambda: unread(conn) == 5)
    assert conn.recv(10, PEEK_ALL) == b"hello"


@linux_only
@pytest.mark.parametrize("timeout", [None, 0])
def test_error_queue_is_empty(net, pair, timeout):
    client, conn = pair
    for sock in (net.socket(), conn):
        sock.settimeout(timeout)
        with pytest.raises(BlockingIOError):
            sock.recvmsg(10, 100, socket.MSG_ERRQUEUE)
        with pytest.raises(BlockingIOError):
            sock.recv(10, socket.MSG_ERRQUEUE)
    client.sendall(b"x")
    eventually(lambda: unread(conn) == 1)
    with pytest.raises(BlockingIOError):
        conn.recvmsg(10, 100, socket.MSG_ERRQUEUE)
    assert conn.recv(10) == b"x"


@needs_linux_calls
@linux_only
def test_low_water_mark(net, pair):
    """select() tells of no fewer bytes; a read of fewer takes them, and so does one that does not wait."""
    client, conn = pair
    conn.settimeout(None)
    conn.setsockopt(SOL, socket.SO_RCVLOWAT, 5)

    def arrives(data):
        before = conn.kcp_info().bytes_received if net.is_kcp else unread(conn)
        client.sendall(data)
        eventually(lambda: (conn.kcp_info().bytes_received if net.is_kcp else unread(conn)) == before + len(data))

    arrives(b"abc")
    assert select.select([conn], [], [], 0)[0] == []
    arrives(b"de")
    assert select.select([conn], [], [], LONG_S)[0] == [conn]
    assert conn.recv(10) == b"abcde"
    arrives(b"fg")
    assert select.select([conn], [], [], 0)[0] == []
    assert conn.recv(2) == b"fg"
    arrives(b"h")
    assert conn.recv(10, socket.MSG_DONTWAIT) == b"h"
    arrives(b"i")
    assert select.select([conn], [], [], 0)[0] == []
    client.close()
    assert select.select([conn], [], [], LONG_S)[0] == [conn]
    assert conn.recv(10) == b"i"
    assert conn.recv(10) == b""


def test_low_water_mark_that_falls_lets_through(net, pair):
    client, conn = pair
    conn.setsockopt(SOL, socket.SO_RCVLOWAT, 5)
    client.sendall(b"abc")
    conn.setsockopt(SOL, socket.SO_RCVLOWAT, 1)
    assert select.select([conn], [], [], LONG_S)[0] == [conn]
    assert conn.recv(10) == b"abc"


def test_low_water_mark_above_all_buffers_stops_nothing(net, pair):
    client, conn = pair
    conn.setsockopt(SOL, socket.SO_RCVLOWAT, 2**31 - 1)

    def send():
        client.sendall(bytes(4_000_000))
        client.shutdown(socket.SHUT_WR)

    sending = net.spawn(send)
    received = 0
    while data := conn.recv(2**20):
        received += len(data)
    sending.join()
    assert received == 4_000_000


@linux_only
@pytest.mark.parametrize("allowed", [0, 1])
@pytest.mark.parametrize("host", ["255.255.255.255", "127.255.255.255", "224.0.0.1"])
def test_connect_to_an_address_of_many(net, host, allowed):
    sock = net.socket()
    sock.setsockopt(SOL, socket.SO_BROADCAST, allowed)
    assert sock.connect_ex((host, 9)) == errno.ENETUNREACH
    assert sock.getsockopt(SOL, socket.SO_BROADCAST) == allowed


@pytest.mark.parametrize("call", ["connect", "connect_ex"])
@pytest.mark.parametrize(
    "address", ["x", (), ("127.0.0.1",), ("127.0.0.1", 70000), ("127.0.0.1", "x"), (1, 1)], ids=repr
)
def test_errors_name_the_call(net, call, address):
    expected = said = None
    try:
        getattr(net.keep(socket.socket()), call)(address)
    except Exception as error:
        expected = type(error), str(error)
    try:
        getattr(net.socket(), call)(address)
    except Exception as error:
        said = type(error), str(error)
    assert said == expected is not None


class Index:
    def __index__(self):
        return 30000


class Buffer(bytearray):
    pass


@pytest.mark.parametrize("option", ["SO_RCVBUF", "SO_SNDBUF", "SO_RCVLOWAT"])
@pytest.mark.parametrize(
    "value",
    [(2**31,), (-(2**31) - 1,), (Index(),), (True,), (1.5,), (b"",), (Buffer(b"\0\x10\0\0"),), (None,), (None, 4)],
)
@pytest.mark.parametrize("state", ["fresh", "connected"])
def test_value_is_taken_or_refused_alike(net, option, value, state):
    sock, plain = net.pair()[0] if state == "connected" else net.socket(), net.keep(socket.socket())
    outcomes = []
    for one in (plain, sock):
        try:
            outcomes.append(one.setsockopt(SOL, getattr(socket, option), *value))
        except Exception as error:
            outcomes.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]


def test_listener_is_never_writable(net, server):
    def events():
        poll = select.poll()
        poll.register(server, select.POLLIN | select.POLLOUT)
        return [event for _, event in poll.poll(0)]

    assert events() == []
    server.setsockopt(SOL, socket.SO_SNDBUF, 100_000)
    assert server.getsockopt(SOL, socket.SO_SNDBUF) in (100_000, 200_000)
    assert events() == []
    net.dial(server)
    eventually(lambda: events() == [select.POLLIN])
    net.accept(server)
    assert events() == []
