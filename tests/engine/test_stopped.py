# SPDX-License-Identifier: MIT
"""Processes that are stopped for longer than keepalive_timeout, as by a debugger or a laptop's lid, and go on: over TCP
the connection lives, since nothing was lost."""

import signal
import time

import pytest

KEEPALIVE = {"keepalive": 0.5, "keepalive_timeout": 2}
PATIENT = {"keepalive": 0.5, "keepalive_timeout": 30}
STOPPED_S = 3


@pytest.mark.parametrize(
    ("framing", "stopped"),
    [("smux", ["server"]), ("smux", ["client"]), ("smux", ["server", "client"]), ("raw", ["server", "client"])],
)
def test_a_stop_is_no_silence(peers, framing, stopped):
    """Who goes on running waits for the other one as long as it was told to."""
    both = {"server": peers(), "client": peers()}
    server, client = both.values()
    for name, peer in both.items():
        peer.profile(framing=framing, **(KEEPALIVE if name in stopped else PATIENT))
    client.connect(server.listen())
    client.start_send("client", 1, 1000, False)
    server.accept()
    assert server.receive("conn", 1000)[0] == 1000
    client.sent("client")
    for name in stopped:
        both[name].signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)  # the situation itself
    for name in stopped:
        both[name].signal(signal.SIGCONT)
    for source, sock, target, other in ((client, "client", server, "conn"), (server, "conn", client, "client")):
        source.start_send(sock, 2, 5000, False)
        assert target.receive(other, 5000)[0] == 5000
        source.sent(sock)
    server.close("conn")
    client.close("client")
