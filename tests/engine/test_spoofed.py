# SPDX-License-Identifier: MIT
"""Packets of who knows both addresses and the conversation's number and hears nothing: sequence numbers, windows and
ends are guessed by the thousand, and the connection goes on as if nobody had."""

import os
import random
import struct
import time

import pytest

import kcpsock
from tests.support.nat import Nat
from tests.support.streams import read_exactly
from tests.support.waiting import PATIENCE_S, Task, eventually

HOST = "127.0.0.1"
PUSH, ACK, WASK, WINS = 81, 82, 83, 84
HEAD_BYTES, PACKET_BYTES = 24, 1400
FAREWELL = struct.pack("<BBHI", 2, 1, 0, 0)  # smux: FIN on stream 0
RESET = 2 * struct.pack("<BBHI", 2, 1, 0, 1)  # two FINs on the only stream there is
SIZE = 3_000_000
RATE = 2_000_000  # bytes/s: the attack finds it under way
NUMBERS = 6000  # more than a window beyond what is sent
each_framing = pytest.mark.parametrize("framing", ["smux", "raw"])


def segment(conv, cmd, sn, data=b"", *, ts=0, una=0, wnd=1024):
    return struct.pack("<IBBHIIII", conv, cmd, 0, wnd, ts, sn, una, len(data)) + data


def guesses(conv, cmd, data, ts, una):
    """Packets full of segments, for each sequence number one. All have one stamp: each further one would be a guess of
    its own, of which one in 32,768 is right, and all tests together would be right now and then."""
    each = PACKET_BYTES // (HEAD_BYTES + len(data))
    for first in range(0, NUMBERS, each):
        yield b"".join(segment(conv, cmd, sn, data, ts=ts, una=una(sn), wnd=0) for sn in range(first, first + each))


ATTACKS = {
    "farewells": (PUSH, FAREWELL, lambda sn: 0),
    "resets": (PUSH, RESET, lambda sn: sn),
    "empty": (PUSH, b"", lambda sn: sn),
    "bytes": (PUSH, b"x" * 40, lambda sn: sn),
    "acknowledgments": (ACK, b"", lambda sn: sn + 1),
    "windows": (WINS, b"", lambda sn: sn),
    "questions": (WASK, b"", lambda sn: sn),
}


class Connection:
    """One whose client is behind a NAT, and what somebody sends who has the NAT's address, to either end."""

    def __init__(self, **fields):
        self.profile = kcpsock.Profile(rate_limit=RATE, **fields)
        self.listener = kcpsock.create_server((HOST, 0), profile=self.profile)
        self.listener.settimeout(PATIENCE_S)
        self.nat = Nat(self.listener.getsockname())
        self.nat.__enter__()
        self.client = kcpsock.create_connection((HOST, self.nat.port), timeout=PATIENCE_S, profile=self.profile)
        self.client.sendall(b"hello")
        self.server, _ = self.listener.accept()
        self.server.settimeout(PATIENCE_S)
        assert read_exactly(self.server, 5) == b"hello"
        self.conv = self.client.kcp_info().conv

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in (self.client, self.server, self.listener):
            sock.close()
        self.nat.__exit__()

    def talk(self):
        """Both ways, until each knows the other's clock."""
        for _ in range(6):
            time.sleep(0.05)
            for one, other in ((self.client, self.server), (self.server, self.client)):
                one.sendall(b"a word")
                assert read_exactly(other, 6) == b"a word"


def attack(connection, name):
    cmd, data, una = ATTACKS[name]
    ts = random.Random(name).getrandbits(32)
    for number, packet in enumerate(guesses(connection.conv, cmd, data, ts, una)):
        connection.nat.send([packet])
        connection.nat.send_back([packet])
        if number % 16 == 0:
            time.sleep(0.001)


@each_framing
@pytest.mark.parametrize("name", ATTACKS)
def test_guessed_packets_change_nothing(framing, name):
    with Connection(framing=framing) as connection:
        connection.talk()
        before = kcpsock.stats()
        data = os.urandom(SIZE)
        there = Task(connection.client.sendall, data)
        back = Task(connection.server.sendall, data)
        received = Task(read_exactly, connection.client, SIZE)
        eventually(lambda: connection.server.kcp_info().in_segs > 200)
        attack(connection, name)
        assert read_exactly(connection.server, SIZE) == data
        assert received.result() == data
        there.result()
        back.result()
        assert kcpsock.stats()["ResetsReceived"] == before["ResetsReceived"]
        if ATTACKS[name][0] == PUSH:  # of the others hardly one names what is under way just then
            assert kcpsock.stats()["DoubtedPkts"] > before["DoubtedPkts"]


@each_framing
def test_guesses_at_an_idle_connection(framing):
    """The next sequence number is a small one: who tries them all has it."""
    with Connection(framing=framing) as connection:
        connection.talk()
        before = kcpsock.stats()
        for name in ATTACKS:
            attack(connection, name)
        eventually(lambda: kcpsock.stats()["DoubtedPkts"] > before["DoubtedPkts"])
        connection.talk()
        data = os.urandom(200_000)
        for one, other in ((connection.client, connection.server), (connection.server, connection.client)):
            task = Task(one.sendall, data)
            assert read_exactly(other, len(data)) == data
            task.result()
        assert kcpsock.stats()["ResetsReceived"] == before["ResetsReceived"]


def test_with_a_tag_nobody_is_doubted():
    """What opens is the peer's; forged packets do not open."""
    with Connection(key="of both") as connection:
        connection.talk()
        before = kcpsock.stats()
        attack(connection, "farewells")
        connection.talk()
        now = kcpsock.stats()
        assert now["DoubtedPkts"] == before["DoubtedPkts"] and now["InCsumErrors"] > before["InCsumErrors"]
