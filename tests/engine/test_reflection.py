# SPDX-License-Identifier: MIT
"""What a listener does for an address that somebody else may have written into a packet: it challenges, and until the
challenge is answered sends three times the bytes that came from there at most, and accepts nothing. The forger is a
plain UDP socket that sends a packet or a few and listens."""

import contextlib
import os
import select
import socket as stdlib
import struct
import zlib

import pytest

from tests.support.waiting import PATIENCE_S, eventually

from .test_bad_input import ACK, HEAD, PUSH

TIMES = 3
QUIET_S = 2.3  # longer than any wait between two challenges
BEFORE_FIRST = 0xFFFFFFFF  # a challenge's sn
CONV = 0x1234567


def frame(cmd, sid, data=b"", version=2):
    return struct.pack("<BBHI", version, cmd, len(data), sid) + data


SYN, NOP = frame(0, 1), frame(3, 0)
UPDATE = frame(4, 1, struct.pack("<II", 0, 1 << 30))
REQUEST = frame(2, 1, b"GET ")
LONG = frame(2, 1, b"GET " + bytes(1000))


def segment(cmd, sn, data=b"", una=0, ts=0, conv=CONV):
    return HEAD.pack(conv, cmd, 0, 0xFFFF, ts, sn, una, len(data)) + data


def sealed(packet, crypt=None, fec=None, number=0):
    """As a peer with this profile sends it."""
    if fec is not None:
        packet = struct.pack("<IHH", number, 0xF1, len(packet) + 2) + packet
    if crypt == "none":
        packet = os.urandom(16) + struct.pack("<I", zlib.crc32(packet)) + packet
    return packet


def opened(packet, crypt=None, fec=None):
    """The KCP segments in it: (cmd, sn, ts, una, data)."""
    packet = packet[(20 if crypt == "none" else 0) + (8 if fec is not None else 0) :]
    while packet:
        _, cmd, _, _, ts, sn, una, length = HEAD.unpack(packet[: HEAD.size])
        yield cmd, sn, ts, una, packet[HEAD.size : HEAD.size + length]
        packet = packet[HEAD.size + length :]


@pytest.fixture
def strangers():
    """strangers(n): plain UDP sockets."""
    with contextlib.ExitStack() as opened_here:

        def make(count):
            made = [opened_here.enter_context(stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM)) for _ in range(count)]
            for sock in made:
                sock.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_RCVBUF, 4 << 20)
                sock.bind(("127.0.0.1", 0))
            return made

        yield make


def packets_to(strangers, limits, quiet_s=QUIET_S):
    """All that comes until nothing does for a while, or more than the limit to one of them. -> a list for each"""
    got = [[] for _ in strangers]
    while all(sum(map(len, packets)) <= limit for packets, limit in zip(got, limits)):
        ready = select.select(strangers, [], [], quiet_s)[0]
        if not ready:
            break
        for sock in ready:
            got[strangers.index(sock)].append(sock.recv(65536))
    return got


V1 = {"smux_version": 1}
OPENINGS = {
    "smux-syn": ({}, [SYN]),
    "smux-nop": ({}, [NOP]),
    "smux-padded": ({}, [SYN + 12 * NOP]),
    "smux-request": ({}, [SYN + REQUEST]),
    "smux-update": ({}, [SYN + UPDATE + REQUEST]),
    "smux-long-request": ({}, [SYN + LONG]),
    "smux1-request": (V1, [frame(0, 1, version=1) + frame(2, 1, b"GET ", 1)]),
    "raw": ({"framing": "raw"}, [b"x"]),
    "raw-request": ({"framing": "raw"}, [b"GET "]),
    "messages": ({"framing": "raw", "stream": False}, [b"GET "]),
    "fec": ({"fec": (1, 3)}, [SYN + REQUEST]),
    "dup": ({"dup": 15}, [SYN + REQUEST]),
    "crypt": ({"crypt": "none"}, [SYN + REQUEST]),
    "all": ({"crypt": "none", "fec": (2, 2), "dup": 3}, [SYN + REQUEST]),
    "rate-limit": ({"rate_limit": 1 << 20}, [SYN + REQUEST]),
    "several-packets": ({}, [SYN, REQUEST, REQUEST[:4], REQUEST[4:]]),
}


def is_harmless(cmd, sn, data):
    """An acknowledgment, a challenge, or the farewell to who has answered none."""
    return cmd == ACK or (cmd == PUSH and data == frame(1, 0)) or (cmd == PUSH and sn == BEFORE_FIRST and not data)


def test_reflection_is_three_times_what_came_at_most(peers, strangers):
    """Whatever is in the opening packets and around them; and no program hears of them."""
    server = peers()
    socks, limits = strangers(len(OPENINGS)), []
    for sock, (name, (fields, datas)) in zip(socks, OPENINGS.items()):
        around = {what: fields.get(what) for what in ("crypt", "fec")}
        server.profile(**fields)
        port = server.listen(name)
        sent = [sealed(segment(PUSH, sn, data), **around, number=sn) for sn, data in enumerate(datas)]
        for packet in sent:
            sock.sendto(packet, ("127.0.0.1", port))
        limits.append(TIMES * sum(map(len, sent)))
    for (name, (fields, _)), came, limit in zip(OPENINGS.items(), packets_to(socks, limits), limits):
        around = {what: fields.get(what) for what in ("crypt", "fec")}
        print(f"{name}: {limit // TIMES} bytes sent, packets of {list(map(len, came))} bytes came")
        assert 0 < sum(map(len, came)) <= limit, name
        said = [(cmd, sn, data) for packet in came for cmd, sn, *_, data in opened(packet, **around)]
        assert all(is_harmless(*segment) for segment in said), name
        assert any(sn == BEFORE_FIRST for _, sn, _ in said), name
    assert server.counts()["Streams"] == 0


def test_reflection_acknowledgment_of_the_unsent_proves_nothing(peers, strangers):
    """Who hears nothing may guess that our first number is 0, and what a challenge has; its time stamp he can not."""
    server = peers()
    unas = 0, 1, 5, 0xFFFFFFFF
    socks, limits = strangers(len(unas)), []
    port = server.listen()
    for sock, una in zip(socks, unas):
        packet = segment(PUSH, 0, SYN + REQUEST)
        packet += b"".join(segment(ACK, sn & 0xFFFFFFFF, una=una) for sn in range(-1, 3))
        sock.sendto(packet, ("127.0.0.1", port))
        limits.append(TIMES * len(packet))
    for una, came, limit in zip(unas, packets_to(socks, limits), limits):
        assert 0 < sum(map(len, came)) <= limit, una
    assert server.counts()["Streams"] == 0


def test_reflection_of_packets_without_session(peers, strangers):
    packets = segment(PUSH, 5000), segment(PUSH, 0, b"x" * 8, una=3), segment(ACK, 0)
    socks, port = strangers(len(packets)), peers().listen()
    for sock, packet in zip(socks, packets):
        sock.sendto(packet, ("127.0.0.1", port))
    came = packets_to(socks, [TIMES * len(packet) for packet in packets])
    assert [len(got) for got in came] == [1, 1, 0]  # refused, refused, and nothing to be said
    assert all(sum(map(len, got)) <= TIMES * len(packet) for got, packet in zip(came, packets))


AROUND = pytest.mark.parametrize(
    "fields", [{}, {"framing": "raw"}, {"crypt": "none", "fec": (3, 1)}], ids=["smux", "raw", "around"]
)


def challenge_of(stranger, **around):
    """The time stamp of the next challenge that comes."""
    while True:
        for cmd, sn, ts, _, _ in opened(stranger.recv(65536), **around):
            if cmd == PUSH and sn == BEFORE_FIRST:
                return ts


@AROUND
def test_reflection_an_answered_challenge_brings_the_rest(peers, strangers, fields):
    """A server that speaks first, after the smallest of packets: once the challenge is answered all of it goes."""
    size = 20_000
    around = {name: fields.get(name) for name in ("crypt", "fec")}
    first = b"x" if "framing" in fields else SYN
    server = peers()
    server.profile(**fields, mtu=1400)  # which sends no pads
    port = server.listen()
    (stranger,) = strangers(1)
    stranger.settimeout(PATIENCE_S)
    stranger.sendto(sealed(segment(PUSH, 0, first), **around), ("127.0.0.1", port))
    answer = segment(ACK, BEFORE_FIRST, ts=challenge_of(stranger, **around))
    stranger.sendto(sealed(answer, **around, number=1), ("127.0.0.1", port))
    server.accept()
    server.start_send("conn", 1, size, shut=False)
    got = {}
    whole = size + (8 if first == SYN else 0)
    while sum(map(len, got.values())) < whole:
        packet = stranger.recv(65536)
        if fields.get("fec") and packet[24:26] != b"\xf1\x00":
            continue  # parity
        for cmd, sn, ts, _, data in opened(packet, **around):
            if cmd == PUSH and data:
                got[sn] = data
                ack = segment(ACK, sn, ts=ts, una=next(n for n in range(len(got) + 1) if n not in got))
                stranger.sendto(sealed(ack, **around, number=2), ("127.0.0.1", port))
    assert sorted(got) == list(range(len(got)))


@AROUND
def test_a_challenge_is_answered_by_its_stamp_alone_and_only_from_its_address(peers, strangers, fields):
    """Neither another stamp, nor the right one from elsewhere, nor one of an earlier session at the same address."""
    around = {name: fields.get(name) for name in ("crypt", "fec")}
    first = sealed(segment(PUSH, 0, b"x" if "framing" in fields else SYN), **around)
    server = peers()
    server.profile(**fields)
    address = "127.0.0.1", server.listen()
    stranger, other = strangers(2)
    stranger.settimeout(PATIENCE_S)

    def answer(sock, ts):
        sock.sendto(sealed(segment(ACK, BEFORE_FIRST, ts=ts), **around, number=1), address)

    stranger.sendto(first, address)
    ts = challenge_of(stranger, **around)
    answer(stranger, ts ^ 1)
    answer(stranger, 0)
    other.sendto(first, address)
    answer(other, ts)
    assert challenge_of(stranger, **around) == ts  # it is still asked
    assert server.counts()["Streams"] == 0
    answer(stranger, ts)
    server.accept()
    assert server.counts()["Streams"] == 1


def test_a_recording_opens_nothing(peers, strangers):
    """All that a client sent, sent again to the same server when it is over, from its own and another address."""
    server = peers()
    server.profile(crypt="none")
    address = "127.0.0.1", server.listen()
    stranger, other = strangers(2)
    stranger.settimeout(PATIENCE_S)
    recorded = [sealed(segment(PUSH, 0, SYN + REQUEST), crypt="none")]
    stranger.sendto(recorded[0], address)
    recorded.append(sealed(segment(ACK, BEFORE_FIRST, ts=challenge_of(stranger, crypt="none")), crypt="none"))
    stranger.sendto(recorded[1], address)
    server.accept()
    recorded.append(sealed(segment(PUSH, 1, frame(1, 1) + frame(1, 1) + frame(1, 0)), crypt="none"))
    stranger.sendto(recorded[2], address)
    eventually(lambda: server.counts()["Sessions"] == 0)
    opened_before = server.counts()["MaxConn"]
    for sock in (stranger, other):
        for packet in recorded * 3:
            sock.sendto(packet, address)
    packets_to([stranger, other], [1 << 20] * 2)
    now = server.counts()
    assert now["Streams"] == 0 and now["MaxConn"] == opened_before == 1
