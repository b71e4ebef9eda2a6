# SPDX-License-Identifier: MIT
"""What a profile says about how packets are sent - copies, DSCP, a rate limit -, seen by a plain UDP socket that only
acknowledges; and the same changed while the connection lives."""

import errno
import select
import socket
import struct
import time

import pytest

import kcpsock

HEAD = struct.Struct("<IBBHIIII")  # conv, cmd, frg, wnd, ts, sn, una, len
PUSH, ACK = 81, 82
LONG_S = 30.0


class PlainPeer:
    """The other end of a raw connection: acknowledges all, and tells each packet's bytes and TOS."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        self.sock.settimeout(LONG_S)
        self.una, self.early = 0, set()

    def dial(self, **profile):
        profile = kcpsock.Profile(framing="raw", mode="fast2", **profile)
        return kcpsock.create_connection(self.sock.getsockname(), timeout=LONG_S, profile=profile)

    def receive(self):
        """-> packet, TOS"""
        packet, control, _, sender = self.sock.recvmsg(2048, 64)
        (tos,) = (data[0] for level, kind, data in control if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS))
        answer, rest = b"", packet
        while rest:
            conv, cmd, _, _, ts, sn, _, size = HEAD.unpack_from(rest)
            if cmd == PUSH:
                self.early.add(sn)
                while self.una in self.early:
                    self.early.remove(self.una)
                    self.una += 1
                answer += HEAD.pack(conv, ACK, 0, 1024, ts, sn, self.una, 0)
            rest = rest[HEAD.size + size :]
        self.sock.sendto(answer, sender)
        return packet, tos

    def is_readable(self):
        return bool(select.select([self.sock], [], [], 0)[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def new_packet(peer):
    """The next packet that is not a repeat. -> packet, TOS"""
    expected = peer.una
    while True:
        packet, tos = peer.receive()
        if peer.una > expected:
            return packet, tos


def set_live(sock, name, value):
    sock.setsockopt(kcpsock.SOL_KCP, getattr(kcpsock, name), value)
    assert sock.getsockopt(kcpsock.SOL_KCP, getattr(kcpsock, name)) == value


def test_copies():
    """Beside each packet as many as asked for, the same to the last byte."""
    with PlainPeer() as peer, peer.dial(dup=2) as client:
        for number, dup in enumerate((2, 0, 5)):
            set_live(client, "KCP_DUP", dup)
            client.sendall(b"message %d" % number)
            first, _ = new_packet(peer)
            assert first.endswith(b"message %d" % number)
            for _ in range(dup):
                assert peer.receive()[0] == first
            # A retransmission, should the acknowledgment be slow, has a time stamp of its own.
            assert not peer.is_readable() or peer.receive()[0] != first


def test_dscp():
    with PlainPeer() as peer, peer.dial(dscp=46) as client:
        for dscp in (46, 0, 10):
            set_live(client, "KCP_DSCP", dscp)
            client.sendall(b"message")
            _, tos = new_packet(peer)
            assert tos >> 2 == dscp


def test_dscp_of_an_accepted_connection():
    """Many share its socket: the listener's profile says it, and no connection changes it."""
    with kcpsock.create_server(("127.0.0.1", 0), profile=kcpsock.Profile(dscp=46)) as listener:
        with kcpsock.create_connection(listener.getsockname(), timeout=LONG_S):
            conn, _ = listener.accept()
            with conn, pytest.raises(OSError) as caught:
                conn.setsockopt(kcpsock.SOL_KCP, kcpsock.KCP_DSCP, 10)
            assert caught.value.errno == errno.ENOPROTOOPT


@pytest.mark.parametrize("extra", [{}, {"dup": 5}, {"sndwnd": 32}], ids=["", "copies", "small-window"])
def test_rate_limit(extra):
    """At no moment more has come than a burst and the time since the beginning allow; copies count."""
    rate, size = 400_000, 150_000
    burst = 4 * 1400 + 2 * 1400 * (1 + extra.get("dup", 0)) + 1000  # overdrawn by two packets; clocks of 1 ms
    start = time.monotonic()
    with PlainPeer() as peer, peer.dial(rate_limit=rate, sockbuf=1 << 20, mtu=1400, **extra) as client:
        client.setblocking(False)
        left = memoryview(bytes(size) + b"the last")

        def receive():
            """Never waits for room: nobody else would acknowledge what has to make it."""
            nonlocal left
            if left and select.select([], [client], [], 0)[1]:
                left = left[client.send(left) :]
            return peer.receive()[0]

        came = 0
        while came < size:
            packet = receive()
            came += len(packet)
            # Read late, it had more time: who is slow only allows more.
            assert came <= burst + rate * (time.monotonic() - start)
        set_live(client, "KCP_RATE_LIMIT", 0)
        while not packet.endswith(b"the last"):
            packet = receive()
