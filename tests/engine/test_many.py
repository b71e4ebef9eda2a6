# SPDX-License-Identifier: MIT
"""A thousand connections at once: every echo is right, the library has a thread for each engine, and all is freed."""

import pytest

from tests.support.waiting import eventually

CONNECTIONS = 1000


@pytest.mark.parametrize("engines", [1, 2])
def test_many_connections_echo(peers, engines):
    server, client = (peers(KCPSOCK_ENGINES=str(engines)) for _ in range(2))
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen(backlog=CONNECTIONS)
    server.serve_echo()

    assert client.echo_many(port, 1, 3000, 3) == [1, 1, engines]
    client.freed()
    before = client.counts()
    good, most_sessions, library_threads = client.echo_many(port, CONNECTIONS, 3000, 3)
    assert (good, most_sessions, library_threads) == (CONNECTIONS, CONNECTIONS, engines)

    now = server.counts()
    print(f"client and server memory after: {client.counts()['MemoryBytes']}, {now['MemoryBytes']}")
    eventually(lambda: server.counts()["library_threads"] == engines)  # an ending thread is still the kernel's
    assert now["PassiveOpens"] == CONNECTIONS + 1
    assert client.counts()["ActiveOpens"] - before["ActiveOpens"] == CONNECTIONS
    assert now["BytesReceived"] == now["BytesSent"] == (CONNECTIONS + 1) * 3 * 3004
    server.stop_echo()
    for peer in (server, client):
        peer.freed(idle[peer])
