# SPDX-License-Identifier: MIT
"""All that a client sent, recorded and sent again, while the connection lives and after its end, each time from the
client's address and from another: by who has no key."""

import socket as stdlib

import pytest

from tests.support.nat import Nat
from tests.support.waiting import eventually

KINDS = (
    *((crypt, "smux") for crypt in ("aes-128-gcm", "aes-256-gcm", "chacha20-poly1305", "aes", "null")),
    ("aes-128-gcm", "raw"),
)


def profile_of(crypt, framing):
    return {"framing": framing} if crypt == "null" else {"framing": framing, "key": "of both", "crypt": crypt}


def send_all(nat, stranger, server, packets, address):
    """From both addresses, to the last; and the server has read them."""
    before = server.counts()["InPkts"]
    for sent in range(0, len(packets), 20):
        nat.send(packets[sent : sent + 20])
        for packet in packets[sent : sent + 20]:
            stranger.sendto(packet, address)
        came = before + 2 * min(sent + 20, len(packets))
        eventually(lambda came=came: server.counts()["InPkts"] >= came)


@pytest.mark.parametrize(("crypt", "framing"), KINDS)
def test_a_recording_delivers_nothing(peers, crypt, framing):
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(keepalive=1, keepalive_timeout=3, **profile_of(crypt, framing))
    address = "127.0.0.1", server.listen()
    with Nat(address) as nat, stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as stranger:
        client.connect(nat.port)
        client.start_send("client", 1, 20_000, False)
        server.accept()
        assert server.receive("conn", 20_000)[0] == 20_000
        client.sent("client")
        recorded = list(nat.recorded)

        send_all(nat, stranger, server, recorded, address)
        now = server.counts()
        assert (now["Streams"], now["MaxConn"], now["Moves"]) == (1, 1, 0)
        assert now["BytesReceived"] == 20_000
        client.start_send("client", 2, 5000, False)
        assert server.receive("conn", 5000)[0] == 5000
        client.sent("client")
        client.close()
        server.close("conn")
        recorded = list(nat.recorded)
        eventually(lambda: server.counts()["Sessions"] == 0)

        send_all(nat, stranger, server, recorded, address)
        now = server.counts()
        assert (now["Streams"], now["MaxConn"], now["Moves"]) == (0, 1, 0)
        assert now["BytesReceived"] == 25_000
