# SPDX-License-Identifier: MIT
"""A listener's port after its close: free at once, and shared with the connections that live on under SO_REUSEADDR."""

import contextlib
import errno
import itertools
import os
import socket as stdlib

import pytest

import kcpsock
from tests.support.processes import finish, python

from .conftest import LONG_S, needs_linux_calls, read_exactly


def listener(address, *, reuse, profile=None):
    sock = kcpsock.socket(profile=profile)
    try:
        sock.setsockopt(kcpsock.SOL_SOCKET, kcpsock.SO_REUSEADDR, reuse)
        sock.bind(address)
        sock.listen()
    except BaseException:
        sock.close()
        raise
    return sock


def test_rebind_port_nobody_used_is_free_at_once():
    address = ("127.0.0.1", 0)
    for _ in range(20):
        with listener(address, reuse=0) as server:
            address = server.getsockname()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_rebind_beside_live_connections(host):
    with listener((host, 0), reuse=1) as server:
        port = server.getsockname()[1]
        old_client = kcpsock.create_connection(("127.0.0.1", port))
        old, _ = server.accept()
    with old_client, old:
        with pytest.raises(OSError) as refused:
            listener((host, port), reuse=0)
        assert refused.value.errno == errno.EADDRINUSE
        with listener((host, port), reuse=1) as server:
            assert server.getsockname()[1] == port
            with kcpsock.create_connection(("127.0.0.1", port)) as new_client, server.accept()[0] as new:
                for here, there, text in ((old_client, old, b"old"), (new_client, new, b"new")):
                    here.sendall(text)
                    assert there.recv(3) == text
                    there.sendall(text)
                    assert here.recv(3) == text


def test_rebind_under_a_live_listener_is_refused():
    with listener(("127.0.0.1", 0), reuse=1) as server:
        with kcpsock.create_connection(server.getsockname()):
            with pytest.raises(OSError) as refused:
                listener(server.getsockname(), reuse=1)
            assert refused.value.errno == errno.EADDRINUSE


def test_rebind_with_a_key():
    """The same key serves both; packets that would not fit the connections that are left are refused."""
    profile = kcpsock.Profile(key="a passphrase", crypt="aes")
    with listener(("127.0.0.1", 0), reuse=1, profile=profile) as server:
        address = server.getsockname()
        old_client = kcpsock.create_connection(address, profile=profile)
        old, _ = server.accept()
    with old_client, old:
        with pytest.raises(OSError) as refused:
            listener(address, reuse=1, profile=profile.replace(crypt="aes-128-gcm"))
        assert refused.value.errno == errno.EADDRINUSE
        with listener(address, reuse=1, profile=profile) as server:
            with kcpsock.create_connection(address, profile=profile) as new_client, server.accept()[0] as new:
                for here, there in ((old_client, old), (new_client, new)):
                    here.sendall(b"text")
                    assert there.recv(4) == b"text"


# --- under another name, as TCP has it --------------------------------------------------------------------------------

_ports = itertools.count(2000)  # each once: TCP's TIME_WAIT lasts for a minute
V4, V6 = stdlib.AF_INET, stdlib.AF_INET6
# A listener's name -> its family, v6only, address, and where a connection may come in.
NAMES = {
    "127.0.0.1": (V4, None, "127.0.0.1", ["127.0.0.1"]),
    "127.0.0.2": (V4, None, "127.0.0.2", ["127.0.0.2"]),
    "0.0.0.0": (V4, None, "0.0.0.0", ["127.0.0.1", "127.0.0.2"]),
    "::1": (V6, 1, "::1", ["::1"]),
    "::": (V6, 1, "::", ["::1"]),
    "dual": (V6, 0, "::", ["127.0.0.1", "::1"]),
    "mapped": (V6, 0, "::ffff:127.0.0.1", ["127.0.0.1"]),
}


def named(module, name, port, *, reuse):
    family, v6only, address, _ = NAMES[name]
    sock = module.socket(family)
    try:
        if v6only is not None:
            sock.setsockopt(stdlib.IPPROTO_IPV6, stdlib.IPV6_V6ONLY, v6only)
        sock.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_REUSEADDR, reuse)
        sock.bind((address, port))
        sock.listen()
    except BaseException:
        sock.close()
        raise
    sock.settimeout(LONG_S)
    return sock


def connection(module, server, host):
    client = module.create_connection((host, server.getsockname()[1]), timeout=LONG_S)
    conn, _ = server.accept()
    conn.settimeout(LONG_S)
    return client, conn


def check_both_ways(client, conn):
    for here, there in ((client, conn), (conn, client)):
        here.sendall(b"still here")
        assert read_exactly(there, 10) == b"still here"


def rebound(module, port, old, new, *, reuse, alive, come_in):
    """A listener named `old`, whose connection lives on or has just ended, is closed, and one named `new` opened.

    -> None, or the errno that it met. Then `new` is heard at all its addresses, and what lived lives."""
    with contextlib.ExitStack() as stack:
        with named(module, old, port, reuse=1) as server:
            pair = connection(module, server, come_in)
        for sock in pair:
            stack.enter_context(sock)
        if not alive:
            check_both_ways(*pair)
            pair[1].close()
            assert pair[0].recv(1) == b""
            pair[0].close()
        try:
            server = stack.enter_context(named(module, new, port, reuse=reuse))
        except OSError as error:
            return errno.errorcode[error.errno]
        for host in NAMES[new][3]:
            client, conn = connection(module, server, host)
            with client, conn:
                check_both_ways(client, conn)
                if alive:
                    check_both_ways(*pair)
    return None


def check_rebound_as_tcp(reuse, alive):
    """All names after all: what differs from TCP, which is nothing but one oddity of TCP's."""
    for old, new in itertools.product(NAMES, NAMES):
        for come_in in NAMES[old][3]:
            port = next(_ports)
            expected, found = (
                rebound(module, port, old, new, reuse=reuse, alive=alive, come_in=come_in)
                for module in (stdlib, kcpsock)
            )
            if (old, new, come_in) == ("dual", "0.0.0.0", "::1") and not reuse:
                assert expected == "EADDRINUSE"  # although none of its addresses is taken
            else:
                assert found == expected, (old, new, come_in)


@needs_linux_calls
@pytest.mark.parametrize("alive", [False, True], ids=["ended", "alive"])
@pytest.mark.parametrize("reuse", [0, 1])
@pytest.mark.parametrize("engines", ["1", "3"])
def test_rebind_under_another_name(hosts, engines, reuse, alive):
    code = f"""
        import subprocess
        from tests.socket import test_rebind
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        test_rebind.check_rebound_as_tcp({reuse}, {alive})
        print("done")
    """
    with hosts.new_place():  # where all ports are free
        assert finish(python(code, KCPSOCK_ENGINES=engines)) == "done\n"


def test_rebind_localhost_then_any(no_leaks):
    """As a mail server's own test does: nothing of it is alive, all of it has just been."""
    for old, new in (("127.0.0.1", "dual"), ("127.0.0.1", "0.0.0.0"), ("::1", "::"), ("dual", "0.0.0.0")):
        with named(kcpsock, old, 0, reuse=1) as server:
            port = server.getsockname()[1]
            for _ in range(5):
                client, conn = connection(kcpsock, server, NAMES[old][3][0])
                with client, conn:
                    check_both_ways(client, conn)
        named(kcpsock, new, port, reuse=1).close()


@pytest.mark.parametrize(
    "profile",
    [
        {"key": "a passphrase", "fec": (4, 2)},
        {"key": "k", "crypt": "aes-128-gcm"},
        {"framing": "smux", "smux_version": 1},
    ],
    ids=["sealed-fec", "gcm", "smux1"],
)
def test_rebind_leaves_many_connections_their_data(profile, no_leaks):
    """Connections that live on, each with half of its data on the way; the last one outlives the second listener."""
    profile = kcpsock.Profile(**profile)
    data = os.urandom(200_000)
    with contextlib.ExitStack() as stack:
        with listener(("127.0.0.1", 0), reuse=1, profile=profile) as server:
            address = server.getsockname()
            pairs = []
            for _ in range(8):
                client = stack.enter_context(kcpsock.create_connection(address, timeout=LONG_S, profile=profile))
                conn = stack.enter_context(server.accept()[0])
                conn.settimeout(LONG_S)
                client.settimeout(0)
                pairs.append((client, conn, client.send(data)))
                client.settimeout(LONG_S)
        with listener(("0.0.0.0", address[1]), reuse=1, profile=profile) as second:
            with (
                kcpsock.create_connection(address, timeout=LONG_S, profile=profile) as client,
                second.accept()[0] as conn,
            ):
                check_both_ways(client, conn)
            for client, conn, sent in pairs:
                assert read_exactly(conn, sent) == data[:sent]
                assert conn.getsockname() == address
                conn.sendall(b"got it")
                assert read_exactly(client, 6) == b"got it"
        for client, conn, _ in pairs:
            check_both_ways(client, conn)
