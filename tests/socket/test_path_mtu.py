# SPDX-License-Identifier: MIT
"""Paths that take shorter packets than a connection begins with: over TUN devices, with the kernel's UDP in between,
with ICMP that tells of it and without. What depends on time alone is in tests/c/test_pmtu.c; here the kernel's part
counts."""

import itertools
import os
import time

import pytest

import kcpsock
from tests.support import tunlink
from tests.support.streams import read_exactly
from tests.support.tunlink import TunLink
from tests.support.waiting import Task, eventually

LONG_S = 60.0
STALL_S = 10.0  # at most; 0.24 to 0.42 here, where a round trip is 20 ms, unless the machine stands still
MIB = 1 << 20
LINK = {"seed": 1, "delay_ms": 10, "rate_mbit": 50, "queue_kib": 256}
HEADS = {4: 28, 6: 48}  # bytes of IP and UDP
_nets = itertools.count(1)  # what was found out of an address is remembered: each link has others


@pytest.fixture(autouse=True)
def possible(require_peer):
    require_peer("a link of TUN devices", tunlink.is_possible(), tunlink.HOW_TO_GET)


@pytest.fixture
def pair():
    """pair(version, profile, **settings): a link, and both ends of a connection over it."""
    made = []

    def make(version, profile=None, **settings):
        profile = profile or kcpsock.Profile()
        link = TunLink(**{**LINK, "net": next(_nets), "v6": version == 6, **settings})
        made.append(link)
        host = link.far.v6 if version == 6 else link.far.v4
        family = kcpsock.AF_INET6 if version == 6 else kcpsock.AF_INET
        with link.far:
            listener = kcpsock.create_server((host, 0), family=family, profile=profile)
        made.append(listener)
        with link.near:
            client = kcpsock.create_connection(listener.getsockname()[:2], timeout=LONG_S, profile=profile)
        made.append(client)
        server, _ = listener.accept()
        made.append(server)
        server.settimeout(LONG_S)
        return link, client, server

    yield make
    for thing in reversed(made):
        thing.close()


def longest_stall(receiver, data):
    """Reads all of it. -> the longest time in which nothing came"""
    got, longest, last = bytearray(), 0.0, time.monotonic()
    while len(got) < len(data):
        piece = receiver.recv(65536)
        assert piece
        got += piece
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert got == data
    return longest


WAYS = [(4, 1280), (4, 576), (6, 1280)]
every_way = pytest.mark.parametrize("version, path", WAYS, ids=[f"v{version}-{path}" for version, path in WAYS])
every_icmp = pytest.mark.parametrize("told", [False, True], ids=["black-hole", "icmp"])


@every_icmp
@every_way
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_narrow_from_the_start(pair, version, path, told, up):
    _, client, server = pair(version, path_mtu=path, path_mtu_told=told)
    sender, receiver = (client, server) if up else (server, client)
    data = os.urandom(2 * MIB)
    sending = Task(sender.sendall, data)
    stall = longest_stall(receiver, data)
    sending.result()
    assert stall <= STALL_S
    assert sender.kcp_info().path_mtu <= path - HEADS[version]
    assert kcpsock.stats()["MtuFalls"] > 0


@every_icmp
@every_way
def test_narrow_in_mid_transfer(pair, version, path, told):
    link, client, server = pair(version, path_mtu_told=told)
    data = os.urandom(6 * MIB)
    sending = Task(client.sendall, data)
    assert read_exactly(server, MIB) == data[:MIB]
    link.set(path_mtu=path)
    stall = longest_stall(server, data[MIB:])
    sending.result()
    assert stall <= STALL_S
    assert client.kcp_info().path_mtu <= path - HEADS[version]
    assert link.stats()["up"]["mtu_dropped"] > 0


@every_way
def test_interface_that_takes_less(pair, version, path):
    """The kernel itself refuses pads, and what is longer it cuts, or refuses: GSO goes on afterwards."""
    _, client, server = pair(version, mtu=path)
    data = os.urandom(MIB)
    sending = Task(client.sendall, data)
    assert longest_stall(server, data) <= STALL_S
    sending.result()
    assert client.kcp_info().path_mtu <= path - HEADS[version]


@pytest.mark.parametrize("version", [4, 6])
def test_a_wide_path_is_used(pair, version):
    """Once enough was sent that it pays, and it is calm: what Ethernet takes, and no byte more."""
    link, client, server = pair(version)
    data = os.urandom(MIB)
    sending = Task(client.sendall, data)
    assert read_exactly(server, MIB) == data
    sending.result()
    eventually(lambda: client.kcp_info().path_mtu == 1500 - HEADS[version])
    sending = Task(client.sendall, data)
    assert read_exactly(server, MIB) == data
    sending.result()
    assert client.kcp_info().path_mtu == 1500 - HEADS[version]


def test_a_size_that_was_given_stays(pair):
    link, client, server = pair(4, kcpsock.Profile(mtu=1200), path_mtu=1280)
    data = os.urandom(MIB)
    sending = Task(client.sendall, data)
    assert read_exactly(server, MIB) == data
    sending.result()
    assert (client.kcp_info().path_mtu, client.kcp_info().mss_bytes) == (1200, 1176)
    assert link.stats()["up"]["mtu_dropped"] == 0
