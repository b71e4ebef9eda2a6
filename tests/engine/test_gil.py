# SPDX-License-Identifier: MIT
"""A process that computes in pure Python, never letting the GIL go by itself, keeps its peer from no acknowledgment."""

import pytest

from tests.engine.peer import digest

SIZE = 4 << 20
SECONDS = 1.0


@pytest.mark.parametrize("direction", ["receive", "send"])
def test_busy_python_costs_no_retransmission(peers, direction):
    """No loss: whatever is sent twice was sent twice because an end was late. A retransmission timeout of 200 ms is
    more than a busy machine costs, and far less than the second for which nobody else gets the GIL."""
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(mode="normal", interval=200)
    port = server.listen()
    client.connect(port)
    server.accept()
    server.start("compute_while", "conn", SECONDS, 7, SIZE, direction)
    if direction == "receive":
        client.start_send("client", 7, SIZE)
        client.sent("client")
    else:
        assert client.receive("client") == [SIZE, digest(7, SIZE)]
    steps, found = server.finish()
    assert steps > 0
    if direction == "receive":
        assert found == [SIZE, digest(7, SIZE)]
    for peer, name in ((server, "conn"), (client, "client")):
        info = peer.info(name)
        print(name, info)
        assert info["retrans_segs"] == 0
        assert info["repeat_segs"] == 0
