# SPDX-License-Identifier: MIT
"""An engine polls for the next packet of a quick exchange before it sleeps, and of nothing else."""

import os

import pytest

from tests.support.lossylink import LossyLink
from tests.support.waiting import eventually

ROUNDS, SIZE = 200, 60

needs_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="on one core an engine never polls"
)


def pair(peers, **environment):
    server, client = (peers(**environment) for _ in range(2))
    port = server.listen()
    server.serve_echo()
    return server, client, port


def polls(*ends):
    return [end.counts()["BusyPolls"] for end in ends]


@needs_cores
def test_quick_answers_are_polled_for(peers):
    server, client, port = pair(peers)

    def both_poll():
        assert client.echo_many(port, 1, SIZE, ROUNDS)[0] == 1
        return all(polls(server, client))

    eventually(both_poll)  # a busy machine's waits are not short
    server.stop_echo()


def test_it_can_be_switched_off(peers):
    server, client, port = pair(peers, KCPSOCK_BUSY_POLL="off")
    for _ in range(5):
        assert client.echo_many(port, 1, SIZE, ROUNDS)[0] == 1
    assert polls(server, client) == [0, 0]
    server.stop_echo()


def test_answers_that_take_long_are_slept_for(peers):
    server, client, port = pair(peers)
    with LossyLink(("127.0.0.1", port), seed=1, delay_ms=2) as link:
        assert client.echo_many(link.address[1], 1, SIZE, 100)[0] == 1
        assert polls(server, client) == [0, 0]
        server.stop_echo()
        for peer in (server, client):
            peer.freed()  # before the link goes: else an end waits for it in vain
