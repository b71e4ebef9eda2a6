# SPDX-License-Identifier: MIT
"""A process that computes in pure Python and never lets go of the GIL keeps no peer from its acknowledgments."""

import threading
import time

import pytest

from tests.engine.peer import digest

SEED = 7
SECONDS = 1.0
BULK = 4 << 20
MANY, SMALL = 40, 64 << 10
STOOD_STILL_S = 0.1  # half of a retransmission timeout
ATTEMPTS = 5


class Watch(threading.Thread):
    """Has the machine stood still meanwhile? As a context; `late_s`: how much later than asked its sleeps ended."""

    def __init__(self):
        super().__init__(daemon=True)
        self.late_s = 0.0
        self._ending = threading.Event()

    def run(self):
        while not self._ending.is_set():
            due = time.monotonic() + 0.01
            time.sleep(0.01)
            self.late_s = max(self.late_s, time.monotonic() - due)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self.join()


@pytest.mark.parametrize("engines", [1, 2])
@pytest.mark.parametrize("direction", ["receive", "send"])
@pytest.mark.parametrize("busy_end", ["accepting", "connecting"])
@pytest.mark.parametrize("connections, size", [(1, BULK), (MANY, SMALL)], ids=["bulk", "many"])
def test_busy_python_costs_no_retransmission(peers, connections, size, busy_end, direction, engines):
    """No loss: whatever is sent twice was sent twice because an end was late. A retransmission timeout of 200 ms is
    more than a busy machine costs, and far less than the second for which nobody else gets the GIL. What is sent twice
    while the machine stood still, Python or not, says nothing: then it is looked at once more."""
    for _ in range(ATTEMPTS):
        with Watch() as watch:
            twice = sent_twice(peers, connections, size, busy_end, direction, engines)
        if not twice or watch.late_s < STOOD_STILL_S:
            break
        print(f"the machine stood still for {watch.late_s:.3f} s")
    assert twice == 0


def sent_twice(peers, connections, size, busy_end, direction, engines):
    """Transfers, at one of whose ends Python is busy. -> segments that were sent again"""
    server, client = (peers(KCPSOCK_ENGINES=str(engines)) for _ in range(2))
    for peer in (server, client):
        peer.profile(mode="normal", interval=200, insurance=0)  # a copy says nothing of who was late
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
    twice = 0
    for end, peer in (("busy", busy), ("other", other)):
        now = peer.counts()
        print(end, {what: now[what] for what in ("OutSegs", "RetransSegs", "RepeatSegs", "InsuredSegs")})
        assert now["BytesSent"] + now["BytesReceived"] == connections * size
        twice += now["RetransSegs"] + now["RepeatSegs"]
    return twice
