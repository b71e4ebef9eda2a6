# SPDX-License-Identifier: MIT
"""A reader that doesn't read: the sender is held by the windows, and neither end's memory grows beyond them."""

import pytest

from tests.engine.peer import digest

from .process import eventually

MIB = 1 << 20


@pytest.mark.parametrize("smux_version, size", [(2, 256 * MIB), (1, 64 * MIB)])
def test_memory_while_nobody_reads(peers, smux_version, size):
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(smux_version=smux_version)
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen()
    client.connect(port)
    server.accept()
    client.start_send("client", 3, size)
    stands = []

    def is_held():
        stands.append(client.counts()["BytesSent"])
        return len(stands) > 5 and len(set(stands[-5:])) == 1

    eventually(is_held)
    assert client.is_sending("client")
    held = {peer: peer.counts()["MemoryBytes"] - idle[peer]["MemoryBytes"] for peer in (server, client)}
    print(f"accepted by the sender's engine: {stands[-1]}; memory of reader {held[server]}, of sender {held[client]}")
    # A send window at one end; a receive window, and the buffer of one session, at the other.
    assert held[client] < 4 * MIB
    assert held[server] < 12 * MIB
    assert stands[-1] < 12 * MIB
    most = 0
    server.start("receive", "conn")
    client.sent("client")
    assert server.finish() == [size, digest(3, size)]
    most = max(peer.counts()["MemoryBytes"] for peer in (server, client))
    print(f"memory after it: {most}")
    client.close()
    server.close()
    for peer in (server, client):
        peer.freed(idle[peer])
