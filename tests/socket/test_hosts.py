# SPDX-License-Identifier: MIT
"""Seen from another host: who is heard, who is refused, with which names, and that what was set on a socket stays so,
while it is bound, while it listens, while it connects."""

import errno
import socket as stdlib

import pytest

import kcpsock
from tests.support import hosts as support
from tests.support.processes import finish, python

from .conftest import LONG_S, needs_linux_calls, read_exactly

pytestmark = needs_linux_calls  # wildcard listeners and devices

V4, V6 = stdlib.AF_INET, stdlib.AF_INET6
SO_BINDTODEVICE, SO_BINDTOIFINDEX, IP_FREEBIND, IPV6_FREEBIND = 25, 62, 15, 78
ABSENT = ((V4, "10.9.0.200"), (V6, "fd00:9::200"))  # on the link, as nobody's address
NON_LOCAL = ((V4, "10.77.0.1"), (V6, "fd00:77::1"))


# What a listener is bound to -> the family, v6only, what it says to bind(), where it is dialled from the other host.
KINDS = {
    "v4-any": lambda h: (V4, None, ("0.0.0.0", 0), h.v4),
    "v4-own": lambda h: (V4, None, (h.v4, 0), h.v4),
    "v6-any": lambda h: (V6, 1, ("::", 0), h.v6),
    "v6-own": lambda h: (V6, 1, (h.v6, 0), h.v6),
    "dual-by-v6": lambda h: (V6, 0, ("::", 0), h.v6),
    "dual-by-v4": lambda h: (V6, 0, ("::", 0), h.v4),
    "v6-any-by-link-local": lambda h: (V6, 1, ("::", 0), h.link_local),
    "link-local": lambda h: (V6, 1, (h.link_local, 0, 0, h.index), h.link_local),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def bound(module, host, kind, options=()):
    """A socket on `host`, bound, and where others find it."""
    family, v6only, address, to = KINDS[kind](host)
    with host:
        sock = module.socket(family)
        try:
            sock.settimeout(LONG_S)
            if v6only is not None:
                sock.setsockopt(stdlib.IPPROTO_IPV6, stdlib.IPV6_V6ONLY, v6only)
            for option in options:
                sock.setsockopt(*option)
            sock.bind(address)
        except BaseException:
            sock.close()
            raise
    return sock, (to, sock.getsockname()[1])


def dialled(module, host, address, *, source=None):
    """A connection from `host`."""
    family = V6 if ":" in address[0] else V4
    if address[0].startswith("fe80:"):
        address = (*address, 0, host.index)
    with host:
        sock = module.socket(family)
        try:
            sock.settimeout(LONG_S)
            if source is not None:
                sock.bind(source)
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
    return sock


def is_refused(module, host, address):
    try:
        dialled(module, host, address).close()
    except ConnectionRefusedError:
        return True
    return False


def check_exchange(client, server):
    """The two are connected, and each knows the other by its name."""
    with server.accept()[0] as conn:
        conn.settimeout(LONG_S)
        for here, there in ((client, conn), (conn, client)):
            here.sendall(b"over there")
            assert read_exactly(there, 10) == b"over there"
            name, found = here.getsockname(), there.getpeername()
            assert (name[0].replace("::ffff:", ""), name[1]) == (found[0].replace("::ffff:", ""), found[1])


def check_kind(module, hosts, kind):
    """A port: refuses while it is only bound, hears the other host once it listens, and its own host too."""
    sock, address = bound(module, hosts.far, kind)
    with sock:
        assert is_refused(module, hosts.near, address)
        with hosts.far:
            sock.listen()
        for host in (hosts.near, hosts.far, hosts.near):
            with dialled(module, host, address) as client:
                check_exchange(client, sock)


@kinds
def test_hosts_listener_hears_the_other_host(net, hosts, kind):
    check_kind(net.module, hosts, kind)


def test_hosts_listener_of_several_engines(hosts):
    code = """
        import kcpsock
        from tests.socket import test_hosts
        from tests.support.hosts import Hosts
        hosts = Hosts()
        try:
            for kind in test_hosts.KINDS:
                test_hosts.check_kind(kcpsock, hosts, kind)
                print(kind)
        finally:
            hosts.close()
    """
    assert finish(python(code, KCPSOCK_ENGINES="3")).split() == list(KINDS)


def device_option(host, name, how):
    if how == "by-number":
        with host:
            return stdlib.SOL_SOCKET, SO_BINDTOIFINDEX, stdlib.if_nametoindex(name)
    return stdlib.SOL_SOCKET, SO_BINDTODEVICE, name.encode()


@pytest.mark.parametrize("when", ["before-bind", "while-bound"])
@pytest.mark.parametrize("how", ["by-name", "by-number"])
@pytest.mark.parametrize("kind", ["v4-any", "v4-own", "v6-any", "v6-own", "dual-by-v4", "dual-by-v6", "link-local"])
def test_hosts_bound_to_a_device(net, hosts, kind, how, when):
    """What comes over another device is refused; the option reads as it was set, in every state."""
    far = hosts.far
    names = [far.device] if kind == "link-local" else [far.device, "lo"]
    for name in names:
        option = device_option(far, name, how)
        sock, address = bound(net.module, far, kind, [option] if when == "before-bind" else [])
        with sock:
            with far:
                if when == "while-bound":
                    sock.setsockopt(*option)
                assert is_refused(net.module, hosts.near, address)
                sock.listen()
                assert sock.getsockopt(stdlib.SOL_SOCKET, SO_BINDTODEVICE, 20) == name.encode() + b"\0"
                assert sock.getsockopt(stdlib.SOL_SOCKET, SO_BINDTOIFINDEX) == stdlib.if_nametoindex(name)
            if name == "lo":
                assert is_refused(net.module, hosts.near, address)
            else:
                with dialled(net.module, hosts.near, address) as client:
                    check_exchange(client, sock)


@pytest.mark.parametrize(("family", "address"), NON_LOCAL, ids=["v4", "v6"])
def test_hosts_freebind(net, hosts, family, address):
    """An address that is not there yet can be bound to, with the option, and heard once it is there."""
    far = hosts.far
    level, option = (stdlib.IPPROTO_IP, IP_FREEBIND) if family == V4 else (stdlib.IPPROTO_IPV6, IPV6_FREEBIND)
    with far, net.module.socket(family) as sock:
        sock.settimeout(LONG_S)
        with pytest.raises(OSError) as refused:
            sock.bind((address, 0))
        assert refused.value.errno == errno.EADDRNOTAVAIL
        sock.setsockopt(level, option, 1)
        sock.bind((address, 0))
        sock.listen()
        with support.more_address(far, address):
            with dialled(net.module, far, sock.getsockname()[:2]) as client:
                check_exchange(client, sock)


@pytest.mark.parametrize("source", ["v4-any", "v4-own", "v6-any", "v6-own", "link-local"])
def test_hosts_connect_from_a_bound_socket(net, hosts, source):
    """source_address: the same socket is refused by a port that does not listen, and heard by one that does."""
    family, _, address, _ = KINDS[source](hosts.near)
    kind = {"v4": "v4-any", "v6": "v6-any"}.get(source[:2], "v6-any-by-link-local")
    server, to = bound(net.module, hosts.far, kind)
    with server:
        with pytest.raises(ConnectionRefusedError):
            dialled(net.module, hosts.near, to, source=address)
        with hosts.far:
            server.listen()
        with dialled(net.module, hosts.near, to, source=address) as client:
            assert client.family == family
            check_exchange(client, server)


@pytest.mark.parametrize(("family", "host"), ABSENT, ids=["v4", "v6"])
def test_hosts_connect_to_an_absent_neighbour(net, hosts, family, host):
    """The kernel asks for it in vain, and says so: nobody waits for a timeout of connect()."""
    with hosts.near, net.module.socket(family) as sock:
        sock.settimeout(LONG_S - 5)  # less than connect()'s own time
        with pytest.raises(OSError) as unreachable:
            sock.connect((host, 9))
    assert unreachable.value.errno == errno.EHOSTUNREACH


@pytest.mark.parametrize(("family", "host"), NON_LOCAL, ids=["v4", "v6"])
def test_hosts_connect_without_a_route(net, hosts, family, host):
    with hosts.near, net.module.socket(family) as sock:
        with pytest.raises(OSError) as unreachable:
            sock.connect((host, 9))
    assert unreachable.value.errno == errno.ENETUNREACH


def test_hosts_listen_after_a_refused_connect(net, hosts):
    """A bound socket whose connect() was refused has its port still, and may listen there."""
    with hosts.near, net.module.socket(V6) as sock:
        with stdlib.create_server(("::", 0), family=V6) as free:
            port = free.getsockname()[1]
        sock.bind(("::", port))  # asked for: one that the kernel chose TCP would let go
        with pytest.raises(ConnectionRefusedError):
            sock.connect((hosts.far.v6, 9))
        sock.listen()
        sock.settimeout(LONG_S)
        assert sock.getsockname()[1] == port
        with dialled(net.module, hosts.far, (hosts.near.v6, port)) as client:
            check_exchange(client, sock)


def others_that_bind(module, host, kind, *, listening):
    """-> for each address, what bind() says to another who wants a port that is bound, or listening."""
    with host:
        sock, (_, port) = bound(module, host, kind)
        with sock:
            if listening:
                sock.listen()
            return {other: _binds(module, host, other, port) for other in KINDS}


def _binds(module, host, kind, port):
    family, v6only, address, _ = KINDS[kind](host)
    with module.socket(family) as sock:
        if v6only is not None:
            sock.setsockopt(stdlib.IPPROTO_IPV6, stdlib.IPV6_V6ONLY, v6only)
        try:
            sock.bind((address[0], port, *address[2:]))
        except OSError as error:
            return errno.errorcode[error.errno]
    return "bound"


@pytest.mark.parametrize("listening", [False, True], ids=["bound", "listening"])
@kinds
def test_hosts_port_is_taken_as_tcp_takes_it(hosts, kind, listening):
    """One thing is missed: a link-local address binds to its device too, and finds no wildcard that is bound only."""
    expected = others_that_bind(stdlib, hosts.far, kind, listening=listening)
    found = others_that_bind(kcpsock, hosts.far, kind, listening=listening)
    if not listening and kind.startswith(("v6-any", "dual")):
        assert (expected.pop("link-local"), found.pop("link-local")) == ("EADDRINUSE", "bound")
    assert found == expected
