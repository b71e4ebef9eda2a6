# SPDX-License-Identifier: MIT
"""ICMP "port unreachable" by who knows both addresses and ports, and nothing of what was sent (RFC 5927): it counts for
nothing. One that quotes our packet is the peer's kernel's, which says that nobody is there."""

import errno
import os
import select
import socket as stdlib
import struct

import pytest

import kcpsock
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.skipif(
    os.environ.get("KCPSOCK_PLAIN") == "1", reason="the plain build does not learn what an ICMP refusal quotes"
)

HOST = "127.0.0.1"
PROFILES = {
    "null": {},
    "fec": {"fec": (10, 3)},
    "raw": {"framing": "raw"},
    "gcm": {"key": "of both"},
    "salsa20-fec": {"key": "of both", "crypt": "salsa20", "fec": (10, 3)},
}
FORGED = 20
each_profile = pytest.mark.parametrize("fields", PROFILES.values(), ids=PROFILES)


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


@pytest.fixture
def unreachable():
    """unreachable(from_port, to_port, packet): what the kernel is told that `packet`, from one to the other, met."""
    try:
        raw = stdlib.socket(stdlib.AF_INET, stdlib.SOCK_RAW, stdlib.IPPROTO_ICMP)
    except PermissionError:
        if os.environ.get("KCPSOCK_REQUIRE_PEERS"):
            raise
        pytest.skip("ICMP is forged with a raw socket: root alone has one")

    def send(from_port, to_port, packet):
        host = stdlib.inet_aton(HOST)
        size = 28 + len(packet)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, 1, 0, 64, stdlib.IPPROTO_UDP, 0, host, host)
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        quoted = head + struct.pack("!HHHH", from_port, to_port, 8 + len(packet), 0) + packet
        message = struct.pack("!BBHHH", 3, 3, 0, 0, 0) + quoted
        raw.sendto(message[:2] + struct.pack("!H", checksum(message)) + message[4:], (HOST, 0))

    with raw:
        yield send


def errors():
    return kcpsock.stats()["InErrs"]


@each_profile
def test_forged_refusal_of_a_connect(unreachable, fields):
    with stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        silent.settimeout(PATIENCE_S)
        port = silent.getsockname()[1]
        with kcpsock.socket(profile=kcpsock.Profile(**fields)) as client:
            client.setblocking(False)
            assert client.connect_ex((HOST, port)) in (0, errno.EINPROGRESS)
            if "framing" in fields:
                client.send(b"hello")
            packet, (_, own) = silent.recvfrom(2048)
            before = errors()
            for _ in range(FORGED):
                unreachable(own, port, os.urandom(100))
            unreachable(own, port, b"")
            eventually(lambda: errors() >= before + FORGED)
            assert client.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_ERROR) == 0
            if "framing" not in fields:  # bare KCP's connect() is done
                assert not select.select([], [client], [], 0)[1]
                unreachable(own, port, packet)
                eventually(lambda: client.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_ERROR) == errno.ECONNREFUSED)


@each_profile
def test_forged_refusal_of_an_idle_connection(unreachable, fields):
    """More than a second of them, nothing heard in between but the answer to the question whether somebody is there."""
    profile = kcpsock.Profile(keepalive=0, **fields)
    with kcpsock.create_server((HOST, 0), profile=profile) as server:
        server.settimeout(PATIENCE_S)
        port = server.getsockname()[1]
        with kcpsock.create_connection((HOST, port), profile=profile, timeout=PATIENCE_S) as client:
            client.sendall(b"before")
            conn, (_, own) = server.accept()
            with conn:
                conn.settimeout(PATIENCE_S)
                assert conn.recv(6) == b"before"
                before, again = errors(), iter(range(FORGED))

                def is_over():
                    if next(again, None) is None:
                        return errors() >= before + FORGED
                    unreachable(own, port, os.urandom(100))
                    return False

                eventually(is_over)
                client.sendall(b"after")
                assert conn.recv(5) == b"after"
