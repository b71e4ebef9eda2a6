# SPDX-License-Identifier: MIT
"""Who closes without having read all: a reset, so that the peer takes no cut answer for a whole one."""

import errno
import select
import socket
import struct

import pytest

from .conftest import LONG_S, SHORT_S, eventually, read_exactly


def outcomes(sock, times):
    """What the next reads give: bytes, or the name of an errno."""
    found = []
    for _ in range(times):
        try:
            found.append(sock.recv(100))
        except OSError as error:
            found.append(errno.errorcode.get(error.errno, repr(error)))
    return found


def leave_unread(client, conn):
    """A hundred bytes from the client, of which ten are read."""
    client.sendall(b"x" * 100)
    eventually(lambda: len(conn.recv(100, socket.MSG_PEEK)) == 100)
    assert conn.recv(10) == b"x" * 10


def test_unread_data_makes_close_a_reset(net, pair):
    client, conn = pair
    leave_unread(client, conn)
    conn.close()
    assert outcomes(client, 3) == ["ECONNRESET", b"", b""]
    with pytest.raises(BrokenPipeError):
        client.send(b"x")


def test_unread_data_and_an_answer(net, pair):
    # As a server that refuses a request before it has read the body.
    client, conn = pair
    leave_unread(client, conn)
    conn.sendall(b"answer")
    conn.close()
    assert outcomes(client, 3) == [b"answer", "ECONNRESET", b""]


def test_unread_data_is_told_by_so_error(net, pair):
    client, conn = pair
    leave_unread(client, conn)
    conn.close()
    assert select.select([client], [], [], LONG_S)[0]
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    assert outcomes(client, 1) == [b""]


def test_unread_data_after_the_peers_end(net, pair):
    client, conn = pair
    leave_unread(client, conn)
    client.shutdown(socket.SHUT_WR)
    conn.close()
    assert outcomes(client, 2) == ["ECONNRESET", b""]


def test_unread_data_wakes_a_writer(net, pair):
    # More than any buffer holds: most of it waits in the engine, and at the writer's.
    client, conn = pair
    writing = net.spawn(client.sendall, b"x" * 100_000_000)
    eventually(lambda: conn.recv(1, socket.MSG_PEEK))
    conn.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        writing.join()


@pytest.mark.parametrize("when", ["before", "after"])
def test_unread_data_and_shut_rd(net, pair, when):
    client, conn = pair
    if when == "after":
        conn.shutdown(socket.SHUT_RD)
        client.sendall(b"x" * 100)
        if net.is_kcp:
            eventually(lambda: conn.kcp_info().bytes_received == 100)
    else:
        leave_unread(client, conn)
        conn.shutdown(socket.SHUT_RD)
    conn.close()
    assert outcomes(client, 2) == ["ECONNRESET", b""]


@pytest.mark.parametrize("how", ["SHUT_WR", "SHUT_RDWR"])
@pytest.mark.parametrize("told", [True, False])
def test_unread_data_after_shutdown_is_a_clean_end(net, pair, how, told):
    # What came before the peer's end of stream is whole. A write is told that nobody reads it.
    client, conn = pair
    leave_unread(client, conn)
    conn.sendall(b"answer")
    conn.shutdown(getattr(socket, how))
    if told:
        assert read_exactly(client, 7) == b"answer"
    conn.close()
    assert read_exactly(client, 7) == (b"" if told else b"answer")

    def broken():
        try:
            client.send(b"x")
        except OSError as error:
            return error.errno

    assert eventually(broken) == errno.EPIPE
    assert outcomes(client, 2) == [b"", b""]


def test_data_after_close_is_no_error_for_reads(net, pair):
    client, conn = pair
    conn.sendall(b"answer")
    conn.close()
    assert client.recv(6) == b"answer"
    eventually(lambda: client.recv(1, socket.MSG_PEEK) == b"")

    def broken():
        try:
            client.send(b"x")
        except OSError as error:
            return error.errno

    assert eventually(broken) == errno.EPIPE
    assert outcomes(client, 2) == [b"", b""]


def test_unread_data_resets_with_the_last_copy(net, pair):
    client, conn = pair
    leave_unread(client, conn)
    copy = net.keep(conn.dup())
    conn.close()
    client.settimeout(SHORT_S)
    with pytest.raises(socket.timeout):
        client.recv(1)
    client.settimeout(LONG_S)
    copy.close()
    assert outcomes(client, 2) == ["ECONNRESET", b""]


def test_read_by_another_copy_is_a_clean_end(net, pair):
    client, conn = pair
    leave_unread(client, conn)
    copy = net.keep(conn.dup())
    conn.close()
    assert len(read_exactly(copy, 90)) == 90
    copy.close()
    assert outcomes(client, 2) == [b"", b""]


@pytest.mark.parametrize("seconds", [0, 20])
def test_unread_data_and_linger(net, pair, seconds):
    # It is a reset, which waits for nobody.
    client, conn = pair
    leave_unread(client, conn)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
    conn.close()
    assert outcomes(client, 2) == ["ECONNRESET", b""]


@pytest.mark.parametrize("framing", ["version 2", "compressed"])
def test_unread_data_in_other_framings(kcp, framing):
    profile = kcp.Profile(smux_version=2) if framing == "version 2" else kcp.Profile(compress=True)
    server = kcp.listener(profile=profile)
    client = kcp.keep(kcp.create_connection(server.getsockname(), LONG_S, profile=profile))
    conn, _ = kcp.accept(server)
    leave_unread(client, conn)
    conn.close()
    assert outcomes(client, 2) == ["ECONNRESET", b""]


def test_listener_resets_a_connection_with_data(net, server):
    clients = [net.dial(server) for _ in range(20)]
    for client in clients:
        client.sendall(b"x")
    conn, _ = net.accept(server)
    assert conn.recv(1) == b"x"
    server.close()
    conn.close()
    assert outcomes(clients[0], 2) == [b"", b""]
    for client in clients[1:]:
        assert outcomes(client, 2) == ["ECONNRESET", b""]


def test_unread_data_leaves_nothing(threads, no_leaks):
    for _ in range(5):
        client, conn = threads.pair()
        leave_unread(client, conn)
        conn.close()
        assert outcomes(client, 1) == ["ECONNRESET"]
        threads.close_all()
        del client, conn
