# SPDX-License-Identifier: MIT
"""Signals in blocked calls: handlers run, their exceptions come out, otherwise the call goes on."""

import os
import signal
import socket
import struct
import threading
import time

import pytest

from .conftest import LONG_S, fill, read_available, read_exactly


class Wanted(Exception):
    """Raised by a handler."""


@pytest.fixture
def alarms(net):
    """alarms(handler): SIGALRM every 20 ms, in the main thread, until the test ends."""
    if net.greenlets:
        pytest.skip("a hub takes signals by itself; greenlets have gevent's own way")
    previous = signal.getsignal(signal.SIGALRM)

    def start(handler):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


def stop(*_):
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Wanted


def at_the_third():
    """stop() as a handler. At the first alarm the call may not have begun, where the machine stood still."""
    seen = []

    def handler(*_):
        seen.append(1)
        if len(seen) == 3:
            stop()

    return handler


def blocked_calls(net):
    server = net.listener()
    client = net.dial(server)
    conn, _ = net.accept(server)
    for sock in (server, client):
        sock.settimeout(None)
    del conn
    return {
        "recv": lambda: client.recv(1),
        "accept": server.accept,
        "sendall": lambda: client.sendall(b"x" * 200_000_000),
        "recv with timeout": lambda: (client.settimeout(LONG_S), client.recv(1)),
        "accept with timeout": lambda: (server.settimeout(LONG_S), server.accept()),
    }


@pytest.mark.parametrize("call", ["recv", "accept", "sendall", "recv with timeout", "accept with timeout"])
def test_handlers_exception_comes_out(net, alarms, call):
    blocked = blocked_calls(net)[call]
    with pytest.raises(Wanted):
        alarms(at_the_third())
        blocked()


def test_handlers_exception_comes_out_of_connect(net, alarms):
    if not net.is_kcp:
        pytest.skip("loopback TCP always answers at once")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        sock = net.socket()
        with pytest.raises(Wanted):
            alarms(at_the_third())
            sock.connect(silent.getsockname())


def test_keyboard_interrupt(net, alarms):
    client, _ = net.pair()
    client.settimeout(None)

    def interrupt(*_):
        signal.setitimer(signal.ITIMER_REAL, 0)  # a second one would meet whatever comes after the call
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        alarms(interrupt)
        client.recv(1)


def test_call_goes_on_after_a_handler(net, alarms):
    client, conn = net.pair()
    client.settimeout(None)
    seen = []
    enough = threading.Event()

    def handler(*_):
        seen.append(1)
        if len(seen) == 3:
            enough.set()

    alarms(handler)
    sending = net.spawn(lambda: (enough.wait(LONG_S), conn.sendall(b"x")))
    assert client.recv(1) == b"x"
    sending.join()
    assert len(seen) >= 3


def test_large_transfer_under_signals(net, alarms):
    client, conn = net.pair()
    client.settimeout(None)
    size = 16 * 1024 * 1024
    seen = []
    alarms(lambda *_: seen.append(1))
    receiving = net.spawn(read_exactly, conn, size)
    client.sendall(b"x" * size)
    assert len(receiving.join()) == size


def test_linger_close_is_ended_by_a_handlers_exception(net, alarms):
    client, conn = net.pair()
    fill(client)
    client.settimeout(LONG_S)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    before = time.monotonic()
    with pytest.raises(Wanted):
        alarms(lambda *_: client._closed and stop())  # once it has begun; any signal at all ends the kernel's own
        client.close()
    assert time.monotonic() - before < 60  # not when the time of SO_LINGER is over
    assert client.fileno() == -1
    assert conn.recv(1)


def test_linger_close_goes_on_after_a_handler(net, alarms):
    server = net.listener()
    client = net.dial(server, **({"profile": net.Profile(rate_limit=100_000)} if net.is_kcp else {}))
    conn, _ = net.accept(server)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, int(LONG_S)))
    client.sendall(bytes(50_000))
    alarms(lambda *_: None)
    client.close()
    assert len(read_available(conn)) > 40_000
