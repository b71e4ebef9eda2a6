# SPDX-License-Identifier: MIT
"""A process that computes in pure Python and never lets go of the GIL keeps no peer from its acknowledgments."""

import pytest

from tests.engine.peer import digest

SEED = 7
SECONDS = 1.0
BULK = 4 << 20
MANY, SMALL = 40, 64 << 10


@pytest.mark.parametrize("engines", [1, 2])
@pytest.mark.parametrize("direction", ["receive", "send"])
@pytest.mark.parametrize("busy_end", ["accepting", "connecting"])
@pytest.mark.parametrize("connections, size", [(1, BULK), (MANY, SMALL)], ids=["bulk", "many"])
def test_busy_python_costs_no_retransmission(peers, connections, size, busy_end, direction, engines):
    """No loss: whatever is sent twice was sent twice because an end was late. A retransmission timeout of 200 ms is
    more than a busy machine costs, and far less than the second for which nobody else gets the GIL."""
    server, client = (peers(KCPSOCK_ENGINES=str(engines)) for _ in range(2))
    for peer in (server, client):
        peer.profile(mode="normal", interval=200)
    port = server.listen()
    names = [f"connection {number}" for number in range(connections)]
    for name in names:
        client.connect(port, name)
        server.accept(name)
    busy, other = (server, client) if busy_end == "accepting" else (client, server)
    busy.start("compute_while", names, SECONDS, SEED, size, direction)
    right = [size, digest(SEED, size)]
    if direction == "receive":
        for name in names:
            other.start_send(name, SEED, size)
        for name in names:
            other.sent(name)
    else:
        for name in names:
            assert other.receive(name) == right
    steps, found = busy.finish()
    assert steps > 0
    if direction == "receive":
        assert found == [right] * connections
    for end, peer in (("busy", busy), ("other", other)):
        now = peer.counts()
        print(end, {what: now[what] for what in ("OutSegs", "RetransSegs", "RepeatSegs")})
        assert now["BytesSent"] + now["BytesReceived"] == connections * size
        assert now["RetransSegs"] == 0
        assert now["RepeatSegs"] == 0
