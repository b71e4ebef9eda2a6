# SPDX-License-Identifier: MIT
"""Packets thrown back at who sealed them: the key fits, and to the cipher they are the peer's. By the nonce the sender
knows them, so that nobody reads his own words as an answer."""

import pytest

from .peer import digest
from .test_bad_input import Garbler

SIZE = 100_000
CRYPTS = (
    "none", "aes", "aes-128", "aes-192", "salsa20", "blowfish", "twofish", "cast5", "3des", "tea", "xtea", "xor",
    "sm4", "aes-128-gcm", "aes-256-gcm", "chacha20-poly1305",
)  # fmt: skip


class Reflector(Garbler):
    """Passes packets on, both ways, and sends each back to its sender before that."""

    def __init__(self, target):
        super().__init__(target, 0, (), extra=0)

    def pass_on(self, sock):
        try:
            packet, self.client = sock.recvfrom(2048) if sock is self.front else (sock.recv(2048), self.client)
        except OSError:
            return  # ICMP: the target's port has closed
        self.put(self.front if sock is self.back else self.back, packet)
        self.put(sock, packet)


CASES = {crypt: (crypt, {}) for crypt in CRYPTS}
CASES["raw"] = "aes-128-gcm", {"framing": "raw"}
CASES["fec"] = "chacha20-poly1305", {"fec": (10, 3)}


@pytest.mark.parametrize("crypt, fields", CASES.values(), ids=CASES)
def test_packets_thrown_back_are_no_answers(peers, crypt, fields):
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(key="of both", crypt=crypt, **fields)
    port = server.listen()
    with Reflector(port) as link:
        client.connect(link.port)
        if "framing" in fields:  # the first packet makes the connection
            client.start("exchange", "client", 1, SIZE, "raw")
            server.accept()
        else:
            server.accept()
            client.start("exchange", "client", 1, SIZE, "raw")
        assert server.exchange("conn", 2, SIZE, "raw") == [SIZE, digest(1, SIZE)]
        assert client.finish() == [SIZE, digest(2, SIZE)]
        for peer in (server, client):
            now = peer.counts()
            assert now["ReflectedPkts"] > 50
            assert now["InCsumErrors"] == now["FECErrs"] == 0
        client.abandon("client")
        server.abandon("conn")
        server.close()
        for peer in (client, server):  # while the link stands: else the end waits for an answer
            assert peer.stop() == 0
