# SPDX-License-Identifier: MIT
"""Connections whose addresses change: a NAT gives the client another port, or its own is gone. TCP can not."""

import contextlib
import hashlib
import random
import socket as stdlib
import threading

import pytest

import kcpsock
from tests.support import hosts as support
from tests.support.nat import Nat
from tests.support.processes import finish, python
from tests.support.waiting import Task

from .conftest import LONG_S, eventually, needs_linux_calls, read_exactly

PROFILES = {
    "gcm": {"crypt": "aes-128-gcm"},
    "gcm-256-fec": {"crypt": "aes-256-gcm", "fec": (10, 3)},
    "chacha20-raw": {"crypt": "chacha20-poly1305", "framing": "raw"},
}
MIB = 1 << 20


@pytest.fixture(params=PROFILES.values(), ids=PROFILES)
def profile(request):
    return kcpsock.Profile(key="of both", keepalive=1, **request.param)


@contextlib.contextmanager
def connected(profile):
    """Two ends and the NAT between them."""
    with kcpsock.create_server(("127.0.0.1", 0), profile=profile) as listener:
        listener.settimeout(LONG_S)
        with (
            Nat(listener.getsockname()) as nat,
            kcpsock.create_connection(("127.0.0.1", nat.port), profile=profile, timeout=LONG_S) as client,
        ):
            client.sendall(b"!")
            server, _ = listener.accept()
            with server:
                server.settimeout(LONG_S)
                assert server.recv(1) == b"!"
                yield client, server, nat


def test_moving_in_a_transfer(profile):
    """Both ways at once, through four changes."""
    with connected(profile) as (client, server, nat):
        data = {sock: random.Random(seed).randbytes(8 * MIB) for seed, sock in enumerate((client, server))}
        moves = kcpsock.stats()["Moves"]
        senders = [threading.Thread(target=sock.sendall, args=(data[sock],)) for sock in data]
        for sender in senders:
            sender.start()
        digests = {client: hashlib.sha256(), server: hashlib.sha256()}
        for part in range(8):
            for sock, digest in digests.items():
                digest.update(read_exactly(sock, MIB))
            if part % 2 == 0:
                now = nat.rebind()
        for sender in senders:
            sender.join(LONG_S)
        assert digests[client].digest() == hashlib.sha256(data[server]).digest()
        assert digests[server].digest() == hashlib.sha256(data[client]).digest()
        server.sendall(b"?")
        assert client.recv(1) == b"?"
        client.sendall(b".")
        assert server.recv(1) == b"."
        assert server.getpeername() == now
        assert client.getpeername() == ("127.0.0.1", nat.port)
        assert 1 <= kcpsock.stats()["Moves"] - moves <= 4  # of changes in quick succession some are one


@needs_linux_calls  # else a listener is in one engine
def test_moving_to_another_engine(profile):
    """The kernel chooses an engine by the peer's address: transfers go on, and so does a connection that rests."""
    code = """
        import random, sys, threading
        import kcpsock
        from tests.support.nat import Nat
        from tests.socket.conftest import LONG_S, eventually, read_exactly

        profile = kcpsock.Profile(key="of both", keepalive=1, **eval(sys.argv[1]))
        listener = kcpsock.create_server(("127.0.0.1", 0), profile=profile)
        nat = Nat(listener.getsockname())
        client = kcpsock.create_connection(("127.0.0.1", nat.port), profile=profile, timeout=LONG_S)
        client.sendall(b"!")
        server, _ = listener.accept()
        server.settimeout(LONG_S)
        assert server.recv(1) == b"!"
        size, rounds = 1 << 20, 0
        while rounds < 4 or (kcpsock.stats()["StrayPkts"] == 0 and rounds < 40):
            data = {sock: random.randbytes(size) for sock in (client, server)}
            senders = [threading.Thread(target=sock.sendall, args=(data[sock],)) for sock in data]
            for sender in senders:
                sender.start()
            got = {sock: read_exactly(sock, size // 4) for sock in data}
            now = nat.rebind()
            for sock in data:
                got[sock] += read_exactly(sock, size - size // 4)
            for sender in senders:
                sender.join()
            assert got == {client: data[server], server: data[client]}
            eventually(lambda: server.getpeername() == now)
            now = nat.rebind()
            eventually(lambda: server.getpeername() == now)
            server.sendall(b"?")
            assert client.recv(1) == b"?"
            rounds += 1
        stats = kcpsock.stats()
        print(stats["StrayPkts"] > 0, stats["Moves"] > rounds, stats["PassiveOpens"], stats["ResetsSent"])
        for sock in (client, server, listener):
            sock.close()
    """
    fields = {"crypt": profile.crypt, "fec": profile.fec, "framing": profile.framing}
    assert finish(python(code, repr(fields), KCPSOCK_ENGINES="3")).split() == ["True", "True", "1", "0"]


def test_moving_while_idle(profile):
    """keepalive alone tells it: then who has not sent can."""
    with connected(profile) as (client, server, nat):
        for _ in range(2):
            now = nat.rebind()
            eventually(lambda now=now: server.getpeername() == now)
            server.sendall(b"hello")
            assert read_exactly(client, 5) == b"hello"


def test_moving_without_a_key_is_silent():
    """Nobody could say who moves; nobody is told that there is no such connection, since there is."""
    profile = kcpsock.Profile(keepalive=0)
    with connected(profile) as (client, server, nat):
        server.sendall(b"hello")
        assert read_exactly(client, 5) == b"hello"
        resets = kcpsock.stats()["ResetsSent"]
        seen = kcpsock.stats()["InErrs"]
        nat.rebind()
        client.sendall(b"there?")
        with pytest.raises(TimeoutError):
            client.settimeout(1)
            client.recv(1)
        eventually(lambda: kcpsock.stats()["InErrs"] > seen)
        assert kcpsock.stats()["ResetsSent"] == resets


CLIENT = """
    import sys
    import kcpsock

    host, port, fields = sys.argv[1], int(sys.argv[2]), eval(sys.argv[3])
    sock = kcpsock.create_connection((host, port), profile=kcpsock.Profile(**fields), timeout=30)
    sock.settimeout(90)
    for line in sys.stdin:
        sock.sendall(line.encode())
        assert sock.makefile("r").readline() == line
        print(sock.getsockname()[0], kcpsock.stats()["Moves"], flush=True)
    sock.close()
"""


@pytest.fixture
def echo(hosts):
    """An echo server on the far host, a client's process on the near one: echo(profile, family) -> ask, which has the
    client send a line and says what it printed when the line had come back."""
    with contextlib.ExitStack() as opened:

        def start(fields, address):
            profile = kcpsock.Profile(**fields)
            family = stdlib.AF_INET6 if ":" in address else stdlib.AF_INET
            with hosts.far:
                listener = opened.enter_context(kcpsock.create_server((address, 0), family=family, profile=profile))
            listener.settimeout(LONG_S)

            def serve():
                conn, _ = listener.accept()
                with conn:
                    while data := conn.recv(4096):
                        conn.sendall(data)
                        if data == b"end\n":  # raw framing tells of no other
                            return

            server = threading.Thread(target=serve)
            with hosts.near:
                client = python(CLIENT, address, str(listener.getsockname()[1]), repr(fields), stdin=True)
            server.start()

            def ask(line):
                client.stdin.write(line + b"\n")
                client.stdin.flush()
                return client.stdout.readline().decode().split()

            def end():
                ask(b"end")
                out, err = client.communicate(timeout=LONG_S)
                assert (client.returncode, err) == (0, b""), err.decode()
                server.join(LONG_S)
                assert not server.is_alive()

            opened.callback(end)

            return ask

        yield start


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_moving_client_gets_another_address(hosts, echo, family, profile):
    fields = {"key": "of both", "crypt": profile.crypt, "fec": profile.fec, "framing": profile.framing}
    old, new, bits = (hosts.near.v4, "10.9.0.77", 24) if family == "v4" else (hosts.near.v6, "fd00:9::77", 64)
    ask = echo(fields, getattr(hosts.far, family))
    assert ask(b"first") == [old, "0"]
    support.replace_address(hosts.near, f"{old}/{bits}", f"{new}/{bits}")
    try:
        assert ask(b"second") == [new, "1"]
        assert ask(b"third") == [new, "1"]
    finally:
        support.replace_address(hosts.near, f"{new}/{bits}", f"{old}/{bits}")


@pytest.mark.parametrize("fields", [{"key": "of both"}, {}], ids=["gcm", "null"])
@pytest.mark.parametrize("away_s", [2, pytest.param(40, marks=pytest.mark.soak)])
def test_moving_interface_goes_and_comes_back(hosts, echo, fields, away_s):
    """Without a word, and from the same address."""
    ask = echo({"keepalive_timeout": 60, **fields}, hosts.far.v4)
    assert ask(b"first") == [hosts.near.v4, "0"]
    with support.unplugged(hosts.near):
        answer = Task(ask, b"second")
        answer.join(away_s)
        assert answer.is_alive()
    assert answer.result() == [hosts.near.v4, "0"]
