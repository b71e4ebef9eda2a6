# SPDX-License-Identifier: MIT
"""Random, cut, bit-flipped and repeated packets, also from the address of a peer: they are counted, and nothing else
comes of them. All seeded; over 200,000 packets, sent by real UDP.

Bare KCP has no authentication. A packet that is forged well enough is the peer's word, so what is promised then is
less: no crash, no memory without bounds, and other sessions go on as if nothing were.
"""

import contextlib
import random
import select
import socket as stdlib
import struct
import threading

import pytest

from tests.engine.peer import digest
from tests.support.waiting import PATIENCE_S, eventually

MIB = 1 << 20
BATCH = 40  # packets that any system's socket buffer has room for
HEAD = struct.Struct("<IBBHIIII")  # conv, cmd, frg, wnd, ts, sn, una, len
PUSH, ACK = 81, 82
FIRST_PAD = 3 << 30  # pads' numbers begin here, where the conversation's own begin with 0
SYN = struct.pack("<BBHI", 2, 0, 0, 1)
FLOOD_SEED, FLOW_SEED, FORGE_SEED = 11, 12, 13


def push(conv, sn, data, una=0):
    return HEAD.pack(conv, PUSH, 0, 1024, 0, sn, una, len(data)) + data


def answers(packet):
    """To the challenges in a listener's packet, as every KCP peer gives them."""
    while len(packet) >= HEAD.size:
        conv, cmd, _, _, ts, sn, _, size = HEAD.unpack_from(packet)
        if cmd == PUSH and sn == 0xFFFFFFFF and size == 0:
            yield HEAD.pack(conv, ACK, 0, 1024, ts, sn, 0, 0)
        packet = packet[HEAD.size + size :]


def prove(sock):
    """Waits for a challenge at a connected socket, and answers it."""
    sock.settimeout(PATIENCE_S)
    while not (said := list(answers(sock.recv(2048)))):
        pass
    sock.send(said[0])
    sock.setblocking(False)


# --- what may happen to a packet; the first five can't pass for one of the peer's -------------------------------------


def noise(rng, packet):
    size = rng.choice((0, 1, 23, 24, 25, 48, 100, 1400, 1500))
    return bytes(b ^ 0x55 for b in packet[:4])[:size] + rng.randbytes(max(size - 4, 0))


def cut(rng, packet):
    return packet[: rng.randrange(len(packet))]


def other_conversation(rng, packet):
    return flip(rng, packet, 0, 4)


def other_command(rng, packet):
    return packet[:4] + bytes([rng.choice((0, 80, 85, 0xF1, 0xF2, 0xFF))]) + packet[5:]


def too_long(rng, packet):
    return packet[:20] + struct.pack("<I", rng.choice((len(packet), 0x7FFFFFFF, 0xFFFFFFFF))) + packet[24:]


def again(rng, packet):
    return packet


def flip(rng, packet, first=0, last=None):
    changed = bytearray(packet)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(first, len(packet) if last is None else last)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_head(rng, packet):
    return flip(rng, packet, 4, 24)


HARMLESS = (noise, cut, other_conversation, other_command, too_long, again)
FORGED = (*HARMLESS, flip, flip_head)


# --- a link that adds such packets to a flow --------------------------------------------------------------------------


class Garbler(threading.Thread):
    """Passes packets on, both ways, and sends `extra` changed ones behind each, from the same address."""

    def __init__(self, target, seed, ways, extra=1, most=1 << 30):
        super().__init__(daemon=True)
        self.rng, self.ways, self.extra, self.left = random.Random(seed), ways, extra, most
        self.sent = 0
        self.front = stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM)
        self.front.bind(("127.0.0.1", 0))
        self.back = stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM)
        self.back.connect(("127.0.0.1", target))
        self.port = self.front.getsockname()[1]
        self.stopping, self.stopper = stdlib.socketpair()
        self.client = None
        # Packets to be changed later, by the end they came from: an end's own would pass for its peer's.
        self.kept = {self.front: [], self.back: []}
        self.start()

    def run(self):
        while True:
            ready = select.select([self.front, self.back, self.stopping], [], [])[0]
            if self.stopping in ready:
                return
            for sock in ready:
                self.pass_on(sock)

    def pass_on(self, sock):
        try:
            packet, sender = sock.recvfrom(2048)
        except OSError:
            return  # ICMP: the target's port has closed
        if sock is self.front:
            self.client = sender
        if self.client is None:
            return
        self.put(sock, packet)
        kept, place = self.kept[sock], self.rng.randrange(500)
        kept[place : place + 1] = [packet]
        for _ in range(self.extra if self.left > 0 else 0):
            changed = self.rng.choice(self.ways)(self.rng, self.rng.choice((packet, self.rng.choice(kept))))
            self.put(sock, changed)
            self.left -= 1
            self.sent += 1

    def put(self, sock, packet):
        try:
            if sock is self.front:
                self.back.send(packet)
            else:
                self.front.sendto(packet, self.client)
        except OSError:
            pass  # ICMP, as above

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopper.close()
        self.join()
        for sock in (self.front, self.back, self.stopping):
            sock.close()


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture
def strangers():
    """Plain UDP sockets."""
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM)) for _ in range(8)]


def test_bad_input_from_strangers(peers, strangers):
    """120,000 packets at a listener that serves others meanwhile."""
    packets = 120_000
    print(f"seed {FLOOD_SEED}")
    rng = random.Random(FLOOD_SEED)
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(keepalive=1, keepalive_timeout=3)
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen()
    server.serve_echo()
    with Garbler(port, FLOOD_SEED, HARMLESS, extra=0) as link:
        client.connect(link.port, "recorded")
        assert client.echo("recorded", 1, 20_000)
        client.close("recorded")
        client.freed()
        model = list(link.kept[link.front])
    client.connect(port, "good")
    before = server.counts()
    for start in range(0, packets, BATCH):
        for number in range(start, start + BATCH):
            changed = rng.choice(FORGED)(rng, rng.choice(model))
            strangers[number % len(strangers)].sendto(changed, ("127.0.0.1", port))
        after = server.counts()  # an answer from the engine: it has read what was there
        if start % 10_000 == 0:
            assert client.echo("good", start, 5000)
            assert after["MemoryBytes"] < 64 * MIB
    came = after["InPkts"] - before["InPkts"]
    rose = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    print(f"{came} packets came: {rose}")
    assert came > packets * 0.98
    assert rose["InErrs"] > packets * 0.2
    assert rose["KCPInErrors"] > 0
    assert client.echo("good", 2, 5000)
    client.connect(port, "late")
    assert client.echo("late", 3, 5000)
    client.close()
    server.stop_echo()
    for peer in (client, server):
        peer.freed(idle[peer])


def test_bad_input_in_live_flow(peers):
    """Behind each packet of a transfer some that can't pass for the peer's: it ends right all the same."""
    size = 12 * MIB
    print(f"seed {FLOW_SEED}")
    server, client = peers(), peers()
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen()
    # At a listener another conversation's first packet is a new client's, which accept() may return first.
    ways = [way for way in HARMLESS if way is not other_conversation]
    with Garbler(port, FLOW_SEED, ways, extra=3) as link:
        client.connect(link.port)
        client.start("exchange", "client", 5, size)
        server.accept()
        server.start("exchange", "conn", 6, size)
        assert server.finish() == [size, digest(5, size)]
        assert client.finish() == [size, digest(6, size)]
        for peer in (server, client):
            now = peer.counts()
            print(f"{link.sent} packets added; {now}")
            assert now["InErrs"] > link.sent / 10
            assert now["KCPInErrors"] > link.sent / 20
        assert link.sent > 60_000
        client.close("client")
        server.close()
        for peer in (client, server):
            peer.freed(idle[peer])


def test_bad_input_forged_packets(peers):
    """Packets that the peer might have sent: their own session may break, no other does."""
    sessions, size = 12, 512 * 1024
    print(f"seeds from {FORGE_SEED}")
    server, client = peers(), peers()
    for peer in (server, client):
        peer.profile(keepalive=1, keepalive_timeout=3)
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen()
    client.connect(port, "good")
    server.accept("good")
    sent, outcomes = 0, []
    for number in range(sessions):
        with Garbler(port, FORGE_SEED + number, FORGED, extra=4, most=5000) as link:
            client.connect(link.port)
            server.accept()
            server.start("try_exchange", "conn", 2 * number, size, 1)
            outcome = [client.try_exchange("client", 2 * number + 1, size, 1)]
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
    assert sent > 20_000
    client.close("good")
    server.close()
    for peer in (client, server):
        peer.freed(idle[peer])


def test_bad_input_flood_of_new_sessions(peers):
    """Packets that begin a session, and no more: few are kept, not for long, and a real client gets in."""
    floods = 5000
    server, client = peers(), peers()
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen()
    server.serve_echo()
    client.connect(port, "early")
    with stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as stranger:
        stranger.connect(("127.0.0.1", port))
        most = 0
        for conv in range(1, floods + 1):
            stranger.send(push(conv, 1, b"x" * 1000))
            if conv % BATCH == 0:
                now = server.counts()
                most = max(most, now["Sessions"])
        print(f"sessions at most {most}, memory {now['MemoryBytes']}, cookies {now['CookiesSent']}")
        assert most <= 1024 + 1
        assert now["CookiesSent"] >= floods - 1024
        assert now["MemoryBytes"] < 16 * MIB
        assert client.echo("early", 1, 5000)
        client.connect(port, "late")
        assert client.echo("late", 2, 5000)
    client.close()
    server.stop_echo()
    for peer in (client, server):
        peer.freed(idle[peer])


def test_bad_input_endless_questions(peers):
    """A server that asks for answers (each stream it opens is refused) and acknowledges none: they don't pile up."""
    client = peers()
    client.profile(keepalive=0)
    idle = client.idle()
    with stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as hostile:
        hostile.bind(("127.0.0.1", 0))
        hostile.settimeout(30)
        client.start("connect", hostile.getsockname()[1])
        first, sender = hostile.recvfrom(2048)
        conv, _, _, _, sent_ms, *_ = HEAD.unpack_from(first)
        hostile.sendto(HEAD.pack(conv, ACK, 0, 1024, sent_ms, 0, 1, 0), sender)
        client.finish()
        questions = b"".join(struct.pack("<BBHI", 2, 0, 0, 2 * number) for number in range(170))
        una = 1

        def read_answers():
            nonlocal una
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                while True:
                    answer = hostile.recv(2048)
                    while len(answer) >= HEAD.size:
                        _, cmd, _, _, _, sn, _, size = HEAD.unpack_from(answer)
                        una = max(una, sn + 1) if cmd == PUSH and sn < FIRST_PAD else una
                        answer = answer[HEAD.size + size :]

        hostile.setblocking(False)
        for sn in range(8000):
            hostile.sendto(push(conv, sn, questions, una=1), sender)
            if sn % BATCH == 0:
                read_answers()
                now = client.counts()
                assert now["MemoryBytes"] < idle["MemoryBytes"] + 8 * MIB
        print(f"memory {now['MemoryBytes']}, idle {idle['MemoryBytes']}, resets {now['ResetsSent']}")
        assert now["ResetsSent"] > 1_000  # until so many answers waited
        # Acknowledged at last, it reads on, and can end.
        client.abandon("client")

        def is_over():
            read_answers()
            hostile.sendto(HEAD.pack(conv, ACK, 0, 1024, 0, 0, una, 0), sender)
            return client.counts()["Sessions"] == 0

        eventually(is_over)
    client.freed(idle)


def test_bad_input_backlog(peers):
    """Nobody accepts: so many connections wait, more are dropped; who goes on trying gets in when there is room."""
    backlog, sessions = 5, 300
    server, client = peers(), peers()
    idle = {peer: peer.idle() for peer in (server, client)}
    port = server.listen(backlog=backlog)
    with stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as stranger:
        stranger.connect(("127.0.0.1", port))
        stranger.setblocking(False)
        proved = set()
        for conv in range(1, sessions + 1):
            stranger.send(push(conv, 0, SYN))
            server.counts()
            with contextlib.suppress(BlockingIOError):
                while True:
                    for answer in answers(stranger.recv(2048)):
                        stranger.send(answer)
                        proved.add(answer[:4])
        # The last of them may still be on its way through the kernel.
        now = eventually(lambda: (now := server.counts())["BacklogDrops"] >= sessions - now["Streams"] and now)
        print(f"{now['Streams']} wait, {now['BacklogDrops']} dropped")
        assert backlog <= now["Streams"] <= backlog + 64
        waiting = len(proved)
        client.start("connect", port)
        # Who proved itself when there was no room may come after the client.
        ports = []
        while len(ports) <= waiting or set(ports) == {stranger.getsockname()[1]}:
            ports.append(server.accept(f"conn {len(ports)}"))
        known = ports.index(client.finish())
        print(f"{waiting} strangers have proved themselves, the client came after {known}")
        client.start_send("client", 1, 1000)
        assert server.receive(f"conn {known}") == [1000, digest(1, 1000)]
        client.sent("client")
        for number in range(len(ports)):
            if number != known:
                server.abandon(f"conn {number}")
    client.close()
    server.close()
    client.freed(idle[client])
