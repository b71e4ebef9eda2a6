# SPDX-License-Identifier: MIT
"""Who has nothing to do does nothing: connections that rest send no packet and need no CPU."""

import time

import pytest

from tests.support.waiting import a_moment, eventually

SESSIONS = 50
WORK = ("OutPkts", "InPkts", "OutSegs", "InSegs", "OutBytes", "InBytes")


def open_sessions(server, client, port):
    for number in range(SESSIONS):
        client.connect(port, f"client {number}")
        server.accept(f"conn {number}")


def work(*peers):
    found = [peer.counts() for peer in peers]
    return [[now[name] for name in WORK] for now in found]


@pytest.mark.parametrize("framing", ["smux", "raw"])
def test_idle_sessions_send_nothing(peers, framing):
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(framing=framing, keepalive=0)
    port = server.listen()
    if framing == "smux":
        open_sessions(server, client, port)
    else:
        for number in range(SESSIONS):
            client.connect(port, f"client {number}")
            client.start_send(f"client {number}", number, 100, shut=False)
            client.sent(f"client {number}")
            server.accept(f"conn {number}")
            assert server.receive(f"conn {number}", 100)[0] == 100
    quiet = []

    def is_quiet():
        quiet.append(work(server, client))
        a_moment(0.2)
        return len(quiet) > 1 and quiet[-1] == quiet[-2]

    eventually(is_quiet)
    a_moment(1)
    assert work(server, client) == quiet[-1]
    assert server.counts()["Sessions"] == client.counts()["Sessions"] == SESSIONS


def test_idle_sessions_keepalive_only(peers):
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(keepalive=0.25, keepalive_timeout=30)
    port = server.listen()
    open_sessions(server, client, port)
    a_moment(1)
    begun, before = time.monotonic(), work(server, client)
    a_moment(1)

    def after():
        now = work(server, client)
        return now if all(end[0] - start[0] >= SESSIONS for start, end in zip(before, now)) else None

    ends = eventually(after)  # engines that have stood still with the machine may not have come to it
    seconds = time.monotonic() - begun
    for start, end in zip(before, ends):
        rise = dict(zip(WORK, (b - a for a, b in zip(start, end))))
        print(rise)
        # About 4 keepalives a session and second each way, each with its acknowledgment, and nothing else.
        assert rise["OutBytes"] <= rise["OutSegs"] * (24 + 8)
        assert rise["OutSegs"] <= SESSIONS * 2 * 2 * 8 * seconds
