# SPDX-License-Identifier: MIT
"""TCP_INFO, as its readers take it apart (linux/tcp.h): state, round trip, retransmissions; a listener's queue."""

import socket
import struct
import sys

import pytest

from .conftest import eventually, needs_linux_calls
from .test_reset import Relay

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the struct is Linux's")
TCP = socket.IPPROTO_TCP
ESTABLISHED, FIN_WAIT2, CLOSE, CLOSE_WAIT, LISTEN = 1, 5, 7, 8, 10
NAMES = (
    "state ca_state retransmits probes backoff options wscale flags rto ato snd_mss rcv_mss unacked sacked lost "
    "retrans fackets last_data_sent last_ack_sent last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar "
    "snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans"
).split()


def info(sock):
    # Format and length are those of gunicorn and of many a snippet.
    return dict(zip(NAMES, struct.unpack("B" * 8 + "I" * 24, sock.getsockopt(TCP, socket.TCP_INFO, 104))))


def becomes(sock, state):
    return eventually(lambda: info(sock)["state"] == state)


def test_states(net, server):
    fresh = net.socket()
    assert info(fresh)["state"] == CLOSE
    assert info(server)["state"] == LISTEN
    client = net.dial(server)
    conn, _ = net.accept(server)
    assert info(client)["state"] == info(conn)["state"] == ESTABLISHED
    client.shutdown(socket.SHUT_WR)
    assert becomes(client, FIN_WAIT2)
    assert becomes(conn, CLOSE_WAIT)
    conn.shutdown(socket.SHUT_WR)
    assert becomes(conn, CLOSE)
    assert becomes(client, CLOSE)


def test_one_byte_is_the_state(net, pair):
    assert pair[0].getsockopt(TCP, socket.TCP_INFO, 1) == bytes((ESTABLISHED,))


def test_length_is_the_systems(net, pair):
    whole = len(net.keep(socket.socket()).getsockopt(TCP, socket.TCP_INFO, 1024))
    for sock in (net.socket(), *pair):
        assert len(sock.getsockopt(TCP, socket.TCP_INFO, 1024)) == whole


def test_reset(net, pair):
    client, conn = pair
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()
    assert becomes(client, CLOSE)
    with pytest.raises(ConnectionResetError):  # it was not taken by the question
        client.recv(1)


def test_numbers_of_a_connection(net, pair):
    client, conn = pair
    client.sendall(bytes(100_000))
    received = 0
    while received < 100_000:
        received += len(conn.recv(65536))
    eventually(lambda: info(client)["unacked"] == 0)
    found = info(client)
    assert 0 < found["rtt"] < 60_000_000
    assert 0 < found["rto"]
    assert 500 < found["snd_mss"] <= 65536
    assert found["snd_cwnd"] > 0
    assert found["pmtu"] > 500
    assert found["retransmits"] == found["lost"] == 0


@needs_linux_calls
def test_listeners_queue(net):
    server = net.listener(backlog=7)
    assert (info(server)["unacked"], info(server)["sacked"]) == (0, 7)
    clients = [net.dial(server) for _ in range(3)]
    eventually(lambda: info(server)["unacked"] == len(clients))
    for left in (2, 1, 0):
        net.accept(server)
        eventually(lambda left=left: info(server)["unacked"] == left)


def test_retransmissions(kcp):
    server = kcp.listener()
    link = Relay(server.getsockname())
    try:
        client = kcp.keep(kcp.create_connection(link.address))
        kcp.accept(server)
    finally:
        link.close()
    client.sendall(b"lost")
    eventually(lambda: info(client)["retransmits"] > 0)
    found = info(client)
    assert found["unacked"] > 0 and found["total_retrans"] > 0
    link.close()
