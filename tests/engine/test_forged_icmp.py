# SPDX-License-Identifier: MIT
"""ICMP by who knows both addresses and ports, and nothing of what was sent (RFC 5927): it counts for nothing. A "port
unreachable" that quotes our packet is the peer's kernel's, which says that nobody is there."""

import errno
import os
import select
import socket as stdlib
import struct

import pytest

import kcpsock
from tests.support.streams import read_exactly
from tests.support.waiting import PATIENCE_S, Task, eventually

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
FORGED_MTU = 600
IP_MTU = 14  # the stdlib has no name for it
MIB = 1 << 20
CODES = {  # of ICMP's "destination unreachable"
    "port": (3, errno.ECONNREFUSED),
    "host": (1, errno.EHOSTUNREACH),
    "net": (0, errno.ENETUNREACH),
}
each_profile = pytest.mark.parametrize("fields", PROFILES.values(), ids=PROFILES)


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


@pytest.fixture
def icmp():
    """icmp(code, mtu, source, target, packet): what `packet` from one (host, port) to another met, it seems."""
    try:
        raw = stdlib.socket(stdlib.AF_INET, stdlib.SOCK_RAW, stdlib.IPPROTO_ICMP)
    except PermissionError:
        if os.environ.get("KCPSOCK_REQUIRE_PEERS"):
            raise
        pytest.skip("ICMP is forged with a raw socket: root alone has one")

    def send(code, mtu, source, target, packet):
        hosts, size = [stdlib.inet_aton(host) for host, _ in (source, target)], 28 + len(packet)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, 1, 0, 64, stdlib.IPPROTO_UDP, 0, *hosts)
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        quoted = head + struct.pack("!HHHH", source[1], target[1], 8 + len(packet), 0) + packet
        message = struct.pack("!BBHHH", 3, code, 0, 0, mtu) + quoted
        raw.sendto(message[:2] + struct.pack("!H", checksum(message)) + message[4:], (source[0], 0))

    with raw:
        yield send


@pytest.fixture
def unreachable(icmp):
    """unreachable(from_port, to_port, packet, code=3): likewise, that nobody listens there; or another code."""
    return lambda from_port, to_port, packet, code=3: icmp(code, 0, (HOST, from_port), (HOST, to_port), packet)


def errors():
    return kcpsock.stats()["InErrs"]


@pytest.mark.parametrize(("code", "error"), CODES.values(), ids=CODES)
@each_profile
def test_forged_refusal_of_a_connect(unreachable, fields, code, error):
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
                unreachable(own, port, os.urandom(100), code)
            unreachable(own, port, b"", code)
            eventually(lambda: errors() >= before + FORGED)
            assert client.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_ERROR) == 0
            if "framing" not in fields:  # bare KCP's connect() is done
                assert not select.select([], [client], [], 0)[1]
                unreachable(own, port, packet, code)
                eventually(lambda: client.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_ERROR) == error)


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


def ip_mtu(sock):
    """What the kernel has learned of the path to the socket's peer, bytes."""
    return sock.getsockopt(stdlib.IPPROTO_IP, IP_MTU)


@pytest.mark.parametrize("fields", [*PROFILES.values(), {"mtu": 1400}], ids=[*PROFILES, "size-given"])
def test_forged_fragmentation_needed(icmp, fields):
    """Neither the size of packets changes nor what the kernel knows; a plain socket believes it."""
    profile = kcpsock.Profile(**fields)
    here, there, other = "127.9.9.1", "127.9.9.2", "127.9.9.3"  # what the kernel learns is no other test's
    with (
        stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as plain,
        stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as witness,
        kcpsock.create_server((there, 0), profile=profile) as server,
        kcpsock.create_connection(
            server.getsockname(), timeout=PATIENCE_S, source_address=(here, 0), profile=profile
        ) as client,
    ):
        server.settimeout(PATIENCE_S)
        client.sendall(b"before")
        conn, _ = server.accept()
        with conn:
            conn.settimeout(PATIENCE_S)
            assert conn.recv(6) == b"before"
            packets = client.kcp_info().path_mtu, conn.kcp_info().path_mtu
            plain.bind((here, 0))
            plain.connect((other, 9))
            icmp(4, FORGED_MTU, plain.getsockname(), plain.getpeername(), bytes(100))
            eventually(lambda: ip_mtu(plain) == FORGED_MTU)
            witness.bind((here, 0))
            witness.connect((there, 9))
            for _ in range(FORGED):
                icmp(4, FORGED_MTU, client.getsockname(), client.getpeername(), os.urandom(100))
                icmp(4, FORGED_MTU, conn.getsockname(), conn.getpeername(), os.urandom(100))
            data, drops = os.urandom(MIB), kcpsock.stats()["UdpSendDrops"]
            for sender, receiver in ((client, conn), (conn, client)):
                task = Task(sender.sendall, data)
                assert read_exactly(receiver, MIB) == data
                task.result()
            assert ip_mtu(witness) > 1500
            assert (client.kcp_info().path_mtu, conn.kcp_info().path_mtu) >= packets
            assert kcpsock.stats()["UdpSendDrops"] == drops
