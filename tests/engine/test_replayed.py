# SPDX-License-Identifier: MIT
"""All that a client sent, recorded and sent again, while the connection lives and after its end, each time from the
client's address and from another: by who has no key."""

import contextlib
import socket as stdlib

from tests.support.nat import Nat
from tests.support.waiting import eventually

CRYPTS = "aes-128-gcm", "aes-256-gcm", "chacha20-poly1305", "aes", "null"
KINDS = {f"{crypt} smux": (crypt, "smux") for crypt in CRYPTS}
KINDS["aes-128-gcm raw"] = "aes-128-gcm", "raw"


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


def test_a_recording_delivers_nothing(peers):
    """Of each kind one connection, at the same time: the end of one takes seconds."""
    server, client = peers(), peers()
    nats, addresses = {}, {}
    with contextlib.ExitStack() as opened:
        stranger = opened.enter_context(stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM))
        for kind, (crypt, framing) in KINDS.items():
            for peer in (server, client):
                peer.profile(keepalive=1, keepalive_timeout=3, **profile_of(crypt, framing))
            addresses[kind] = "127.0.0.1", server.listen(f"of {kind}")
            nats[kind] = opened.enter_context(Nat(addresses[kind]))
            client.connect(nats[kind].port, kind)
            client.start_send(kind, 1, 20_000, False)
            server.accept(kind, f"of {kind}")
            assert server.receive(kind, 20_000)[0] == 20_000
            client.sent(kind)
        for kind, nat in nats.items():
            send_all(nat, stranger, server, list(nat.recorded), addresses[kind])
            now = server.counts()
            assert (now["Streams"], now["MaxConn"], now["Moves"]) == (len(KINDS), len(KINDS), 0), kind
            assert now["BytesReceived"] == len(KINDS) * 20_000, kind
        for kind in nats:
            client.start_send(kind, 2, 5000, False)
            assert server.receive(kind, 5000)[0] == 5000
            client.sent(kind)
            client.close(kind)
            server.close(kind)
        recorded = {kind: list(nat.recorded) for kind, nat in nats.items()}
        eventually(lambda: server.counts()["Sessions"] == 0)
        for kind, nat in nats.items():
            send_all(nat, stranger, server, recorded[kind], addresses[kind])
            now = server.counts()
            assert (now["Streams"], now["MaxConn"], now["Moves"]) == (0, len(KINDS), 0), kind
            assert now["BytesReceived"] == len(KINDS) * 25_000, kind

        # To a server that was started anew, on the same port.
        assert server.stop() == 0
        again = peers()
        for kind, (crypt, framing) in KINDS.items():
            again.profile(keepalive=1, keepalive_timeout=3, **profile_of(crypt, framing))
            again.listen(f"of {kind}", 128, addresses[kind][1])
            send_all(nats[kind], stranger, again, recorded[kind], addresses[kind])
            now = again.counts()
            assert (now["Streams"], now["MaxConn"], now["BytesReceived"]) == (0, 0, 0), kind
