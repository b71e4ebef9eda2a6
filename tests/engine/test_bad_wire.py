# SPDX-License-Identifier: MIT
"""Bad input to what is around KCP: crypt, FEC, out-of-band packets, compression, message mode. It is counted, or the
session it is for ends with a reset; memory stays bounded and comes back, and nobody else notices.

All seeded. Here as in test_bad_input.py: without a cipher that authenticates, a packet forged well enough is the peer's
word, and breaks its own session at most.
"""

import random
import socket as stdlib
import struct
import zlib

import pytest

from tests.engine.peer import digest
from tests.support.lossylink import LossyLink
from tests.support.waiting import PATIENCE_S, eventually

from .process import PeerError
from .test_bad_input import BATCH, HEAD, MIB, PUSH, SYN, Garbler, answers, cut, flip, noise, prove, push

SEED = 20261122
KEYS = {"key": "right", "crypt": "aes-128-gcm"}
DATA, PARITY, OOB = 0xF1, 0xF2, 0xF3


def given_back(peer, idle=None):
    """Waits until no stream is left, and of memory no more than idle; a session may still be in its TIME_WAIT."""

    def is_back():
        now = peer.counts()
        return not now["Streams"] and (idle is None or now["MemoryBytes"] < idle["MemoryBytes"] + MIB // 2)

    eventually(is_back, lambda: f"{peer.counts()}, idle {idle}")


# --- settings that differ ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "client_has,server_has",
    [
        ({**KEYS, "key": "wrong"}, KEYS),
        ({**KEYS, "crypt": "salsa20"}, KEYS),
        ({**KEYS, "crypt": "aes"}, {**KEYS, "crypt": "twofish"}),
        ({}, KEYS),
        (KEYS, {}),
        ({**KEYS, "fec": (3, 2)}, {**KEYS, "key": "wrong", "fec": (10, 3)}),
    ],
    ids=["key", "crypt", "ciphers", "crypt-here-only", "crypt-there-only", "key-and-fec"],
)
def test_bad_wire_connect_times_out(peers, client_has, server_has):
    """Its message says what to check; the end that looks for a seal counts, and neither keeps anything."""
    server, client = peers(), peers()
    server.profile(**server_has)
    client.profile(**client_has)
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen()
    name, text = client.try_connect(port, 0.6)
    print(text)
    assert name == "TimeoutError"
    assert "key" in text and "crypt" in text
    now = server.counts()
    assert now["InCsumErrors" if server_has else "InErrs"] > 0
    server.close()
    for peer in (server, client):
        given_back(peer, idle[peer])


@pytest.mark.parametrize("codes", [((10, 3), None), ((3, 2), (5, 1))])
def test_bad_wire_fec_differs(peers, codes):
    """No error: an end finds out how the other one groups its packets, and rebuilds what is lost."""
    size = MIB
    print(f"seed {SEED}")
    ends = client, server = peers(), peers()
    for peer, fec in zip(ends, codes):
        peer.profile(fec=fec, mode="fast3", sndwnd=256, rcvwnd=256)
    port = server.listen()
    with LossyLink(("127.0.0.1", port), seed=SEED, delay_ms=1, loss=0.05) as link:
        client.connect(link.address[1])
        client.start("exchange", "client", 1, size)
        server.accept()
        server.start("exchange", "conn", 2, size)
        assert server.finish() == [size, digest(1, size)]
        assert client.finish() == [size, digest(2, size)]
        for peer, theirs in ((server, codes[0]), (client, codes[1])):
            now = peer.counts()
            print({name: now[name] for name in now if name.startswith("FEC")})
            assert (now["FECRecovered"] > 0) == (theirs is not None)
        client.close()
        server.close()
        for peer in (client, server):
            given_back(peer)


# --- crypt ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crypt", ["aes-128-gcm", "aes"])
def test_bad_wire_forged_seals(peers, crypt):
    """Behind each packet of a transfer some that were cut, changed or made up, and a flood of them from strangers."""
    size, flood = MIB // 2, 4000
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(crypt=crypt, key="right", fec=(3, 2))
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen()
    with Garbler(port, SEED, (noise, cut, flip), extra=3) as link:
        client.connect(link.port)
        client.start("exchange", "client", 5, size)
        server.accept()
        server.start("exchange", "conn", 6, size)
        assert server.finish() == [size, digest(5, size)]
        assert client.finish() == [size, digest(6, size)]
        with stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as stranger:
            before = server.counts()
            for number in range(flood):
                way = rng.choice((noise, cut, flip))
                stranger.sendto(way(rng, rng.choice(link.kept[link.front])), ("127.0.0.1", port))
                if number % BATCH == 0:
                    after = server.counts()
                    assert after["MemoryBytes"] < 32 * MIB
            after = server.counts()
        came = after["InPkts"] - before["InPkts"]
        print(f"{link.sent} packets added, {came} of strangers came")
        assert after["InCsumErrors"] - before["InCsumErrors"] >= came * 0.99
        assert came > flood * 0.9
        assert after["Sessions"] == before["Sessions"]
        for peer in (server, client):
            now = peer.counts()
            assert now["InCsumErrors"] > link.sent / 4
        client.close()
        server.close()
        for peer in (client, server):
            given_back(peer, idle[peer])


# --- FEC --------------------------------------------------------------------------------------------------------------


def fec(seqid, kind, body, size=None):
    """A packet with a FEC head. Parity has no size field of its own."""
    head = struct.pack("<IH", seqid & 0xFFFFFFFF, kind)
    if kind != PARITY:
        head += struct.pack("<H", len(body) + 2 if size is None else size)
    return head + body


def other_size(rng, packet):
    return (
        packet[: rng.randrange(8, len(packet))] if rng.random() < 0.5 else packet + rng.randbytes(rng.randrange(1, 90))
    )


def other_number(rng, packet):
    seqid = int.from_bytes(packet[:4], "little")
    wrap = 0xFFFFFFFF // 5 * 5
    far = (seqid + 1, seqid + 5, seqid + 1000, seqid - 100, wrap - 1, wrap, 0xFFFFFFFF, 0, rng.randrange(1 << 32))
    return struct.pack("<I", rng.choice(far) & 0xFFFFFFFF) + packet[4:]


def other_kind(rng, packet):
    return packet[:4] + struct.pack("<H", rng.choice((DATA, PARITY, OOB, 0xF0, 0xF4))) + packet[6:]


def other_body(rng, packet):
    return packet[:8] + rng.randbytes(max(len(packet) - 8, 0))


def kcp_garbage(rng, packet):
    return flip(rng, packet, 8, 32) if len(packet) >= 32 else packet


def out_of_band(rng, packet):
    return fec(
        0xFFFFFFFF, OOB, rng.choice((b"", b"x", packet[8:12], rng.randbytes(4), packet[8:12] + rng.randbytes(900)))
    )


FORGED_FEC = (other_size, other_number, other_kind, other_body, kcp_garbage, out_of_band, cut)


def test_bad_wire_forged_fec(peers):
    """Their own session may break, no other does, and what was kept for them is given back."""
    sessions, size = 3, 128 * 1024
    print(f"seeds from {SEED}")
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(fec=(3, 2), keepalive=1, keepalive_timeout=3)
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen()
    client.connect(port, "good")
    server.accept("good")
    sent, outcomes = 0, []
    for number in range(sessions):
        ways = FORGED_FEC if number % 2 else (other_size, other_kind, out_of_band)
        with Garbler(port, SEED + number, ways, extra=3, most=4000) as link:
            client.connect(link.port)
            server.accept()
            server.start("try_exchange", "conn", 2 * number, size, 0.5)
            outcome = [client.try_exchange("client", 2 * number + 1, size, 0.5)]
            outcome.append(server.finish())
            outcomes.append(outcome)
            sent += link.sent
            server.start("exchange", "good", number, 65536, "raw")
            assert client.exchange("good", number + 1, 65536, "raw") == [65536, digest(number, 65536)]
            assert server.finish() == [65536, digest(number + 1, 65536)]
            client.abandon("client")
            server.abandon("conn")
            for peer in (server, client):
                assert peer.counts()["MemoryBytes"] < 32 * MIB
    print(f"{sent} packets added; how the transfers ended: {outcomes}")
    assert sent > 1000
    for peer in (server, client):
        now = peer.counts()
        print({name: now[name] for name in now if name.startswith(("FEC", "Oob", "OOB", "In", "KCPIn"))})
        assert now["FECErrs"] > 0
        assert now["InErrs"] > 0
    client.close("good")
    server.close()
    for peer in (client, server):
        given_back(peer, idle[peer])


def test_bad_wire_endless_groups(peers):
    """A peer that never completes a group, of any length, anywhere: it costs what three groups hold."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    server = peers()
    server.profile(keepalive=1, keepalive_timeout=3)
    idle = server.idle()
    port = server.listen()
    with stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as hostile:
        hostile.connect(("127.0.0.1", port))
        hostile.send(fec(0, DATA, push(7, 0, SYN)))
        prove(hostile)
        hostile.setblocking(True)
        server.accept()
        most = 0
        for shards in (5, 13, 100, 255):
            wrap = 0xFFFFFFFF // shards * shards
            for start in (0, wrap - 40 * shards, rng.randrange(1 << 31)):
                for number in range(0, 1200):
                    # Enough of them to be taken for a code of that length; each group lacks what would complete it.
                    seqid = (start + number) % wrap
                    if seqid % shards < 2:
                        continue
                    if seqid % shards == shards - 1:
                        hostile.send(fec(seqid, PARITY, rng.randbytes(1400)))
                    else:
                        hostile.send(fec(seqid, DATA, push(7, 1000 + number, rng.randbytes(1300))))
                    if number % BATCH == 0:
                        most = max(most, server.counts()["MemoryBytes"])
        now = server.counts()
        print(f"memory {most} at most, idle {idle['MemoryBytes']}; {now}")
        assert most < idle["MemoryBytes"] + 8 * MIB
        assert now["FECShardSet"] > 0  # groups given up
        assert now["FECParityShards"] > 0
    server.abandon("conn")
    server.close()
    given_back(server, idle)


SEAL_BYTES, FEC_HEAD_BYTES = 20, 8


def sealed(packet, damaged=False):
    """As crypt "none" seals it: a nonce and the crc32 of what follows."""
    return bytes(16) + struct.pack("<I", zlib.crc32(packet) ^ damaged) + packet


def test_bad_wire_needless_parity(peers):
    """Parity of a group that is whole is counted and thrown away unopened: what is wrong with it is not even seen."""
    server = peers()
    server.profile(crypt="none", framing="raw", fec=(2, 1))
    idle = server.idle()
    port = server.listen()

    def counts():
        return [server.counts()[name] for name in ("InPkts", "InCsumErrors", "FECParityShards", "FECRecovered")]

    with stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        parity = fec(0, PARITY, bytes(2 + 24 + 4))[6:]
        packets = []
        for group in range(4):
            packets += [sealed(fec(3 * group + i, DATA, push(7, 2 * group + i, b"data"))) for i in range(2)]
            packets.append(sealed(struct.pack("<IH", 3 * group + 2, PARITY) + parity, damaged=group >= 2))
        for packet in packets[:9]:  # two groups tell the code; the third's parity is damaged and not needed
            client.send(packet)
        eventually(lambda: counts() == [9, 0, 3, 0], lambda: f"{counts()}")
        for packet in (packets[9], packets[11]):  # the fourth's would be
            client.send(packet)
        eventually(lambda: counts() == [11, 1, 3, 0], lambda: f"{counts()}")
        client.settimeout(PATIENCE_S)
        while not (said := list(answers(client.recv(2048)[SEAL_BYTES + FEC_HEAD_BYTES :]))):
            pass
        client.send(sealed(said[0]))  # the challenge's answer
        server.accept()
        server.abandon("conn")
    server.close()
    given_back(server, idle)


def test_bad_wire_parity_at_an_idle_connection(peers):
    """Parity alone, of anybody: what it occupies is given back when no more of it comes."""
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(fec=(10, 3))
    idle = server.idle()
    port = server.listen()
    with Garbler(port, SEED, (noise,), extra=0) as link:
        client.connect(link.port)
        server.accept()
        client.start_send("client", 1, 50_000, False)
        assert server.receive("conn", 50_000) == [50_000, digest(1, 50_000)]
        client.sent("client")
        # Once it is idle it gives back what FEC kept.
        quiet = eventually(lambda: (now := server.counts()["MemoryBytes"]) < idle["MemoryBytes"] + 100_000 and now)
        for seqid in range(13_000):
            if seqid % 13 >= 10:
                link.back.send(fec(seqid + 130_000, PARITY, rng.randbytes(1400)))
                if seqid % 26 == 25:
                    assert server.counts()["MemoryBytes"] < quiet + 4 * MIB
        assert server.counts()["FECParityShards"] > 2000
        with stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as stranger:
            before = server.counts()["InErrs"]
            stranger.sendto(fec(10, PARITY, bytes(1400)), ("127.0.0.1", port))
            eventually(lambda: server.counts()["InErrs"] == before + 1)
        eventually(
            lambda: server.counts()["MemoryBytes"] <= quiet + 131_072, lambda: f"{server.counts()}, quiet {quiet}"
        )
        client.start_send("client", 2, 50_000, False)
        assert server.receive("conn", 50_000) == [50_000, digest(2, 50_000)]
        client.sent("client")
        client.close()
        server.close()
        for peer in (client, server):
            given_back(peer)


# --- out-of-band packets ----------------------------------------------------------------------------------------------


def test_bad_wire_oob_at_listeners(peers):
    """Too short: an error. Of no conversation: dropped with smux framing; with raw framing it begins a session."""
    server = peers()
    idle = server.idle()
    with stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as stranger:
        stranger.connect(("127.0.0.1", server.listen("smux")))
        for body in (b"", b"abc"):
            stranger.send(fec(0xFFFFFFFF, OOB, body))
        for conv in range(100):
            stranger.send(fec(0xFFFFFFFF, OOB, struct.pack("<I", conv) + b"payload"))
        now = eventually(lambda: (now := server.counts())["OOBDrops"] == 100 and now)
        assert now["InErrs"] == 2
        assert now["Sessions"] == 0
        server.profile(framing="raw")
        stranger.connect(("127.0.0.1", server.listen("raw", backlog=5)))
        for conv in range(100):
            stranger.send(fec(0xFFFFFFFF, OOB, struct.pack("<I", conv) + b"payload"))
        now = eventually(lambda: (now := server.counts())["OOBDrops"] + now["OOBPackets"] == 200 and now)
        assert now["Streams"] == 0  # until they prove their address
    server.close()
    given_back(server, idle)


# --- compression ------------------------------------------------------------------------------------------------------

IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"


def chunks(data):
    """`data` in the framing format, without the identifier."""
    import cramjam

    return bytes(cramjam.snappy.compress(data))[len(IDENTIFIER) :]


def psh(data):
    return b"".join(
        struct.pack("<BBHI", 2, 2, len(data[at : at + 60_000]), 1) + data[at : at + 60_000]
        for at in range(0, len(data), 60_000)
    )


class Hostile:
    """A peer of a listener, by hand: what it says is in order, and it never waits."""

    def __init__(self, port, conv=9):
        self.sock = stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM)
        self.sock.connect(("127.0.0.1", port))
        self.conv, self.sn = conv, 0

    def say(self, data, piece=1300):
        for at in range(0, len(data), piece):
            self._send(push(self.conv, self.sn, data[at : at + piece]))

    def fragment(self, frg, data):
        self._send(HEAD.pack(self.conv, PUSH, frg, 1024, 0, self.sn, 0, len(data)) + data)

    def _send(self, packet):
        self.sock.send(packet)
        self.sn += 1
        if self.sn == 1:
            prove(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def wrong_checksum(rng):
    good = chunks(psh(b"x" * 1000))
    return good[:4] + bytes([good[4] ^ 1]) + good[5:]


def wrong_length_inside(rng):
    return b"\x00" + (20).to_bytes(3, "little") + bytes(4) + b"\xff\xff\xff\xff\x0f" + rng.randbytes(11)


BROKEN = {
    "type": lambda rng: b"\x02" + (100).to_bytes(3, "little") + rng.randbytes(100),
    "16-mb": lambda rng: b"\x00\xff\xff\xff" + rng.randbytes(3000),
    "16-mb-plain": lambda rng: b"\x01\xff\xff\xff" + rng.randbytes(3000),
    "empty": lambda rng: b"\x00\x00\x00\x00",
    "checksum": wrong_checksum,
    "body": lambda rng: b"\x00" + (500).to_bytes(3, "little") + rng.randbytes(500),
    "claims-4-gb": wrong_length_inside,
    "identifier": lambda rng: b"\xff\x06\x00\x00sNaPpX",
    "smux": lambda rng: chunks(b"\x07garbage"),
}


def test_bad_wire_broken_compression(peers):
    """In the middle of a stream: the application reads what came before, then ECONNRESET."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    server = peers()
    server.profile(compress=True, keepalive=1, keepalive_timeout=3)
    idle = server.idle()
    port = server.listen()
    for number, (name, way) in enumerate(BROKEN.items()):
        with Hostile(port) as hostile:
            hostile.say(IDENTIFIER + chunks(SYN + psh(b"hello")))
            server.accept()
            assert server.receive("conn", 5)[0] == 5
            hostile.say(way(rng))
            with pytest.raises(PeerError) as caught:
                server.receive("conn")
            assert (name, caught.value.name) == (name, "ConnectionResetError")
            assert server.counts()["SmuxErrors"] == number + 1
            server.close("conn")
    server.close()
    given_back(server, idle)


def test_bad_wire_swelling_compression(peers):
    """100 MB of zeros in a few packets, and nobody reads: as much is kept as without compression."""
    server = peers()
    server.profile(compress=True, keepalive=1, keepalive_timeout=3)
    idle = server.idle()
    with Hostile(server.listen()) as hostile:
        hostile.say(IDENTIFIER + chunks(SYN))
        server.accept()
        bomb = chunks(psh(bytes(2 * MIB)))
        print(f"{len(bomb)} bytes for {2 * MIB}")
        for _ in range(50):
            hostile.say(bomb)
            now = server.counts()
            assert now["MemoryBytes"] < idle["MemoryBytes"] + 24 * MIB
        print(f"memory {now['MemoryBytes']}, idle {idle['MemoryBytes']}, RSS {now['rss_bytes']} of {idle['rss_bytes']}")
        assert now["rss_bytes"] < idle["rss_bytes"] + 64 * MIB
        assert server.receive("conn", MIB) == [MIB, digest_of_zeros(MIB)]
    server.abandon("conn")
    server.close()
    given_back(server, idle)


def digest_of_zeros(size):
    import hashlib

    return hashlib.sha256(bytes(size)).hexdigest()


def test_bad_wire_skippable_chunks(peers):
    """They are skipped, however long they say they are, and not kept."""
    server = peers()
    server.profile(compress=True, keepalive=1, keepalive_timeout=3)
    idle = server.idle()
    with Hostile(server.listen()) as hostile:
        between = b"\xfe\x05\x00\x00abcde" + IDENTIFIER + b"\x80\x00\x00\x00"
        hostile.say(IDENTIFIER + chunks(SYN) + between + chunks(psh(b"hello")))
        server.accept()
        assert server.receive("conn", 5)[0] == 5
        hostile.say(b"\xfe\xff\xff\xff")
        for _ in range(100):
            hostile.say(bytes(BATCH * 1300))
            now = server.counts()
            assert now["MemoryBytes"] < idle["MemoryBytes"] + 8 * MIB
        assert now["rss_bytes"] < idle["rss_bytes"] + 32 * MIB
        assert now["SmuxErrors"] == 0
    server.abandon("conn")
    server.close()
    given_back(server, idle)


# --- message mode -----------------------------------------------------------------------------------------------------


def test_bad_wire_messages(peers):
    """Fragments in any order, empty messages, the longest one: a message is what stands up to the next fragment 0."""
    server = peers()
    server.profile(framing="raw", stream=False)
    idle = server.idle()
    with Hostile(server.listen()) as hostile:
        for frg in (2, 1, 0):
            hostile.fragment(frg, b"abc")
        server.accept()
        assert server.message_sizes("conn", 1) == [9]
        for frg in (7, 3, 200, 0):
            hostile.fragment(frg, b"abc")
        for _ in range(500):
            hostile.fragment(0, b"")
            hostile.fragment(3, b"")
        hostile.fragment(0, b"x")
        for _ in range(60):
            hostile.fragment(0, b"abcde")
        assert server.message_sizes("conn", 62) == [12, 1] + [5] * 60
        for start in range(254, -1, -BATCH):
            for frg in range(start, max(start - BATCH, -1), -1):
                hostile.fragment(frg, bytes(1376))
            server.counts()
        assert server.message_sizes("conn", 1) == [255 * 1376]
        # Nobody reads: the longest messages one after the other.
        for number in range(255 * 20):
            hostile.fragment(254 - number % 255, bytes(1376))
            if number % BATCH == 0:
                now = server.counts()
                assert now["MemoryBytes"] < idle["MemoryBytes"] + 16 * MIB
    server.abandon("conn")
    server.close()
    given_back(server, idle)


def test_bad_wire_endless_message(peers):
    """More fragments than a message can have: the connection is reset."""
    server = peers()
    server.profile(framing="raw", stream=False)
    idle = server.idle()
    with Hostile(server.listen()) as hostile:
        for number in range(300):
            hostile.fragment(255 - number % 200, bytes(1000))
            if number % BATCH == 0:
                server.counts()
        server.accept()
        with pytest.raises(PeerError) as caught:
            server.message_sizes("conn", 1)
        assert caught.value.name == "ConnectionResetError"
    server.close()
    given_back(server, idle)
