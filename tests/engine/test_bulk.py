# SPDX-License-Identifier: MIT
"""Bulk data both ways at once over a bad link, between two processes: it arrives whole, and nothing is left behind."""

import pytest

from tests.engine.peer import digest
from tests.support.lossylink import LossyLink

MIB = 1 << 20
SEED = 20260722


def exchange(peers, size, framing="smux", **profile):
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(framing=framing, mode="fast3", sndwnd=2048, rcvwnd=2048, **profile)
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen()
    print(f"seed {SEED}")
    with LossyLink(("127.0.0.1", port), seed=SEED, delay_ms=5, loss=0.1, dup=0.02, reorder=0.05, reorder_ms=8) as link:
        client.connect(link.address[1])
        client.start("exchange", "client", SEED, size, framing)
        server.accept()
        server.start("exchange", "conn", SEED + 1, size, framing)
        assert server.finish() == [size, digest(SEED, size)]
        assert client.finish() == [size, digest(SEED + 1, size)]
        for peer in (client, server):
            now = peer.counts()
            assert now["BytesSent"] == now["BytesReceived"] == size
            print({name: now[name] for name in ("OutSegs", "RetransSegs", "RepeatSegs", "OutPkts", "MemoryBytes")})
        client.close()
        server.close()
        for peer in (client, server):
            peer.freed(idle[peer])
        lost = link.close()
        assert min(lost[way][what] for way in ("up", "down") for what in ("lost", "duplicated", "reordered")) > 0


def test_bulk_both_ways_64_mib(peers):
    exchange(peers, 64 * MIB)


def test_bulk_both_ways_smux_1(peers):
    exchange(peers, 8 * MIB, smux_version=1)


def test_bulk_both_ways_raw(peers):
    exchange(peers, 8 * MIB, framing="raw")


@pytest.mark.parametrize("udp", ["plain", "mmsg"])
def test_bulk_other_udp_ways(peers, udp):
    exchange(lambda: peers(KCPSOCK_UDP=udp), 4 * MIB)
