# SPDX-License-Identifier: MIT
"""Options that say how long a connection bears silence: TCP_USER_TIMEOUT, SO_KEEPALIVE with TCP_KEEPIDLE, TCP_KEEPINTVL
and TCP_KEEPCNT, TCP_SYNCNT.

How long it takes is measured in virtual time (tests/c/test_session_ends.c). Here the profile's own patience is a day:
what ends within a test was ended by the option.
"""

import contextlib
import errno
import socket
import subprocess
from functools import partial

import pytest

import kcpsock

from .conftest import LONG_S, eventually
from .test_options import full_listener
from .test_reset import Relay

SOL, TCP = socket.SOL_SOCKET, socket.IPPROTO_TCP
PATIENT = kcpsock.Profile(keepalive=3600, keepalive_timeout=86400)
USER_TIMEOUT = [(TCP, "TCP_USER_TIMEOUT", 500)]
KEEPALIVE = [(SOL, "SO_KEEPALIVE", 1), (TCP, "TCP_KEEPIDLE", 1), (TCP, "TCP_KEEPINTVL", 1), (TCP, "TCP_KEEPCNT", 1)]
OPTIONS = pytest.mark.parametrize("options", [USER_TIMEOUT, KEEPALIVE], ids=["user timeout", "keepalive"])

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such options")


def set_all(sock, options):
    for level, name, value in options:
        sock.setsockopt(level, getattr(socket, name), value)


def patient(net):
    return {"profile": PATIENT} if net.is_kcp else {}


def times_out(sock):
    """Whether what ends it is silence."""
    sock.settimeout(LONG_S)
    with pytest.raises(OSError) as caught:
        sock.recv(1)
    return caught.value.errno == errno.ETIMEDOUT


@contextlib.contextmanager
def silence(hosts):
    """No packet of one host reaches the other."""
    ways = [(hosts.near, hosts.far), (hosts.far, hosts.near)]

    def neighbour(host, *words):
        subprocess.run(["ip", "-n", host.name, "neigh", *words, "dev", host.device], check=True)

    try:
        for host, other in ways:  # an address of hardware that nobody has
            neighbour(host, "replace", other.v4, "lladdr", "02:00:00:00:00:99", "nud", "permanent")
        yield
    finally:
        for host, other in ways:
            neighbour(host, "del", other.v4)


@OPTIONS
def test_silent_host_is_a_timeout(net, hosts, options):
    with hosts.far:
        server = net.listener((hosts.far.v4, 0), **patient(net))
    with hosts.near:
        client = net.dial(server, **patient(net))
    conn, _ = net.accept(server)
    set_all(client, options)
    with silence(hosts):
        if options is USER_TIMEOUT:  # which is of data; TCP asks keepalive's question of who is idle alone
            client.sendall(b"lost")
        assert times_out(client)
    set_all(conn, USER_TIMEOUT)  # nobody tells it that the client is gone


@pytest.fixture
def alone(kcp):
    """(a function that connects one more client to it, a listener) over a relay, and what silences that."""
    server = kcp.listener(profile=PATIENT)
    link = Relay(server.getsockname())

    def client(before=()):
        sock = kcp.socket(profile=PATIENT)
        set_all(sock, before)
        sock.settimeout(LONG_S)
        sock.connect(link.address)
        return sock

    silent = []

    def be_silent():
        link.close()
        silent.append(True)

    yield client, server, be_silent
    if not silent:
        link.close()
    link.close()
    for sock in kcp.opened():  # or their sessions waited a day for the last word's acknowledgment
        with contextlib.suppress(OSError):
            set_all(sock, USER_TIMEOUT)


@OPTIONS
@pytest.mark.parametrize("when", ["before connect", "after it"])
def test_silence_ends_a_client(kcp, alone, options, when):
    dial, server, be_silent = alone
    client = dial(options if when == "before connect" else ())
    kcp.accept(server)
    if when == "after it":
        set_all(client, options)
    be_silent()
    client.sendall(b"lost")
    assert times_out(client)


@OPTIONS
def test_silence_ends_an_accepted_socket_by_its_listeners_options(kcp, alone, options):
    dial, server, be_silent = alone
    set_all(server, options)
    dial()
    conn, _ = kcp.accept(server)
    be_silent()
    conn.sendall(b"lost")
    assert times_out(conn)


def test_idle_connection_is_asked(kcp, alone):
    dial, server, be_silent = alone
    client = dial()
    conn, _ = kcp.accept(server)
    set_all(client, [*KEEPALIVE[:-1], (TCP, "TCP_KEEPCNT", 100)])
    before = conn.kcp_info().in_segs
    eventually(lambda: conn.kcp_info().in_segs > before + 1)
    be_silent()
    set_all(client, KEEPALIVE)
    assert times_out(client)


def test_option_that_is_set_on_silence_acts_at_once(kcp, alone):
    dial, server, be_silent = alone
    client = dial()
    kcp.accept(server)
    be_silent()
    client.sendall(b"lost")
    reading = kcp.spawn(partial(times_out, client))
    set_all(client, USER_TIMEOUT)
    assert reading.join()


@pytest.mark.parametrize("options", [[(TCP, "TCP_SYNCNT", 1)], USER_TIMEOUT], ids=["tries", "user timeout"])
def test_connect_to_silence(net, options):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, full_listener() as full:
        silent.bind(("127.0.0.1", 0))
        client = net.socket(**patient(net))
        set_all(client, options)
        client.settimeout(LONG_S)
        assert client.connect_ex(silent.getsockname() if net.is_kcp else full) == errno.ETIMEDOUT


@pytest.mark.parametrize("level,name,value", [*KEEPALIVE, *USER_TIMEOUT, (TCP, "TCP_SYNCNT", 3)])
def test_accepted_socket_reads_its_listeners_value(net, server, level, name, value):
    option = getattr(socket, name)
    server.setsockopt(level, option, value)
    net.dial(server)
    conn, _ = net.accept(server)
    assert conn.getsockopt(level, option) == value == server.getsockopt(level, option)


def test_options_that_are_taken_back_leave_the_profiles_patience(kcp):
    """As long as SO_KEEPALIVE is not set, the others wait; without it, and without them, all is as it was."""
    client, conn = kcp.pair()
    no_keepalive, no_user_timeout = [(SOL, "SO_KEEPALIVE", 0)], [(TCP, "TCP_USER_TIMEOUT", 0)]
    for options in (KEEPALIVE[1:], KEEPALIVE[:1], no_keepalive, USER_TIMEOUT, no_user_timeout):
        set_all(client, options)
        client.sendall(b"x")
        assert conn.recv(1) == b"x"
