# SPDX-License-Identifier: MIT
"""Connections that end badly: resets, SO_LINGER, a peer that vanishes."""

import errno
import select
import socket
import struct

import pytest

from .conftest import LONG_S, eventually, needs_linux_calls, read_available


def abort(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_linger_0_is_a_reset(net, pair):
    client, conn = pair
    abort(client)
    with pytest.raises(ConnectionResetError) as caught:
        conn.recv(1)
    assert caught.value.errno == errno.ECONNRESET
    assert conn.recv(1) == b""


def test_reset_leaves_received_data_readable(net, pair):
    client, conn = pair
    client.sendall(b"data")
    assert conn.recv(1, socket.MSG_PEEK)
    eventually(lambda: len(conn.recv(4, socket.MSG_PEEK)) == 4)
    abort(client)
    with pytest.raises(OSError) as caught:
        eventually(lambda: not conn.getpeername())
    assert caught.value.errno == errno.ENOTCONN
    assert conn.recv(4) == b"data"


def test_reset_is_told_by_so_error_once(net, pair):
    client, conn = pair
    abort(client)
    assert select.select([conn], [], [], LONG_S)[0]
    assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_reset_breaks_send(net, pair):
    client, conn = pair
    abort(client)

    def broken():
        try:
            conn.send(b"x")
        except (ConnectionResetError, BrokenPipeError):
            return True

    eventually(broken)
    with pytest.raises(BrokenPipeError):
        conn.send(b"x")


def test_reset_wakes_a_reader(net, pair):
    client, conn = pair
    reading = net.spawn(conn.recv, 1)
    abort(client)
    with pytest.raises(ConnectionResetError):
        reading.join()


def test_reset_wakes_a_writer(net, pair):
    client, conn = pair
    writing = net.spawn(conn.sendall, b"x" * 100_000_000)
    eventually(lambda: client.recv(1, socket.MSG_PEEK))
    abort(client)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        writing.join()


@needs_linux_calls
def test_listener_closed_resets_who_was_not_accepted(net, server):
    client = net.dial(server)
    server.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_accepted_connection_survives_its_listener(net, server):
    client = net.dial(server)
    conn, _ = net.accept(server)
    server.close()
    client.sendall(b"x")
    assert conn.recv(1) == b"x"


def test_linger_waits_until_all_is_acknowledged(net, pair):
    client, conn = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 20))
    sending = net.spawn(lambda: (client.sendall(b"x" * 100_000), client.close()))
    received = 0
    while part := conn.recv(65536):
        received += len(part)
    sending.join()
    assert received == 100_000


def test_linger_close_returns_when_it_has_arrived(net):
    # At this rate it takes a while; without SO_LINGER close() returns at once.
    server = net.listener()
    client = net.dial(server, **({"profile": net.Profile(rate_limit=100_000)} if net.is_kcp else {}))
    conn, _ = net.accept(server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, int(LONG_S)))
    client.sendall(bytes(50_000))
    client.close()
    assert len(read_available(conn)) > 40_000  # acknowledged by the engine, which is about to hand out the rest


def test_close_at_once_delivers_what_was_sent(net, pair):
    client, conn = pair
    client.sendall(b"x" * 50_000)
    client.close()
    received = 0
    while part := conn.recv(65536):
        received += len(part)
    assert received == 50_000


def test_vanished_peer_is_a_timeout(kcp):
    # A relay that forwards datagrams until it is told to stop: from then on each end is alone.
    profile = kcp.Profile(keepalive=0.1, keepalive_timeout=4)  # in which the machine may stand still while both live
    server = kcp.listener(profile=profile)
    link = Relay(server.getsockname())
    try:
        client = kcp.keep(kcp.create_connection(link.address, LONG_S, profile=profile))
        conn, _ = kcp.accept(server)
        client.sendall(b"x")
        assert conn.recv(1) == b"x"
        link.close()
        for sock in (client, conn):
            with pytest.raises(OSError) as caught:
                sock.recv(1)
            assert caught.value.errno in (errno.ETIMEDOUT, errno.ECONNREFUSED)
    finally:
        link.close()


class Relay:
    """Datagrams between one client and a server, in a thread; close() swallows them from then on."""

    def __init__(self, server):
        import threading

        self._outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._outside.bind(("127.0.0.1", 0))
        self._inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inside.connect(server)
        self.address = self._outside.getsockname()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._closed = False

    def _run(self):
        client = None
        while True:
            ready = select.select([self._outside, self._inside, self._stopped], [], [])[0]
            if self._stopped in ready:
                return
            if self._outside in ready:
                data, client = self._outside.recvfrom(65536)
                self._inside.send(data)
            if self._inside in ready and client:
                self._outside.sendto(self._inside.recv(65536), client)

    def close(self):
        """Stops forwarding; the ports stay open, so nobody is refused. The second call closes them."""
        if not self._closed:
            self._closed = True
            self._stop.send(b"x")
            self._thread.join()
        else:
            for sock in (self._outside, self._inside, self._stop, self._stopped):
                sock.close()
