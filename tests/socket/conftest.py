# SPDX-License-Identifier: MIT
"""One body, three runs: the kernel's TCP with threads, KCP with threads, KCP with greenlets in one thread.

A test takes `net` and uses net.socket(), net.create_server(), net.AF_INET, ... as from the module `socket`, and
net.spawn() for what happens at the same time. What holds for KCP alone takes `kcp`.
"""

import os
import queue
import socket
import threading
import time

import gevent
import gevent.hub
import pytest

import kcpsock
from tests.support import hosts as two_hosts
from tests.support.streams import read_all as read_all
from tests.support.streams import read_available as read_available
from tests.support.streams import read_exactly as read_exactly

# The build without Linux's own calls (make check-plain) knows less; what it does not know is said where it is tested.
needs_linux_calls = pytest.mark.skipif(
    os.environ.get("KCPSOCK_PLAIN") == "1", reason="the plain build learns neither a packet's address nor a pair's fill"
)
LONG_S = 60.0  # nothing takes so long unless it hangs
SHORT_S = 0.05  # a timeout that is meant to pass


class Thread:
    """A call in a thread; join() gives its result or raises its exception."""

    def __init__(self, function, *args):
        self._done = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(function, args), daemon=True)
        self._thread.start()

    def _run(self, function, args):
        try:
            result = (function(*args), None)
        except BaseException as error:
            result = (None, error)
        self._done.put(result)
        del function, args, result

    def join(self):
        result, error = self._done.get(timeout=LONG_S)
        self._thread.join()
        if error is not None:
            raise error
        return result


class Greenlet:
    """A call in a greenlet; join() gives its result or raises its exception."""

    def __init__(self, function, *args):
        self._outcome = None
        self._greenlet = gevent.spawn(self._run, function, args)

    def _run(self, function, args):
        try:
            self._outcome = (function(*args), None)
        except BaseException as error:
            self._outcome = (None, error)

    def join(self):
        self._greenlet.join(timeout=LONG_S)
        assert self._outcome is not None, "the greenlet hangs"
        result, error = self._outcome
        if error is not None:
            raise error
        return result


class Net:
    """A socket module, and the way of doing two things at once that goes with it."""

    def __init__(self, module, spawn):
        self.module = module
        self.spawn = spawn
        self.is_kcp = module is kcpsock
        self.greenlets = spawn is Greenlet
        self._open = []

    def __getattr__(self, name):
        return getattr(self.module, name)

    def socket(self, *args, **kwargs):
        return self.keep(self.module.socket(*args, **kwargs))

    def keep(self, sock):
        """Closes it after the test."""
        self._open.append(sock)
        return sock

    def opened(self):
        """The sockets that are closed after the test."""
        return list(self._open)

    def listener(self, address=("127.0.0.1", 0), **kwargs):
        server = self.keep(self.module.create_server(address, **kwargs))
        server.settimeout(LONG_S)
        return server

    def dial(self, server, **kwargs):
        client = self.keep(self.module.create_connection(server.getsockname()[:2], **kwargs))
        client.settimeout(LONG_S)
        return client

    def accept(self, server):
        conn, peer = server.accept()
        conn.settimeout(LONG_S)
        return self.keep(conn), peer

    def pair(self):
        """A connected client and the server's end of it."""
        server = self.listener()
        client = self.dial(server)
        conn, _ = self.accept(server)
        server.close()
        return client, conn

    def close_all(self):
        while self._open:
            self._open.pop().close()


def eventually(condition):
    """Waits until condition() is true; gives its value. Lets the hub run, if there is one."""
    end = time.monotonic() + LONG_S
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, "it never happened"
        if gevent._hub_local.get_hub_if_exists() is not None:
            gevent.sleep(0.005)
        else:
            time.sleep(0.005)


def fill(sock):
    """Sends until nothing fits any more, to a peer that does not read. -> how many bytes were taken

    That is when it was tried in vain many times, not when a time is over, in which the engine may have stood still with
    the machine. The socket is non-blocking then."""
    sock.setblocking(False)
    size = in_vain = 0
    while in_vain < 50:
        try:
            size += sock.send(bytes(65536))
            in_vain = 0
        except BlockingIOError:
            in_vain += 1
            time.sleep(0.01)
    return size


def _run(module, spawn):
    hub = gevent.get_hub() if spawn is Greenlet else None
    net = Net(module, spawn)
    try:
        yield net
    finally:
        net.close_all()
        if hub is not None:
            hub.destroy(destroy_loop=True)


@pytest.fixture(
    params=[(socket, Thread), (kcpsock, Thread), (kcpsock, Greenlet)], ids=["tcp", "kcp-threads", "kcp-greenlets"]
)
def net(request):
    yield from _run(*request.param)


@pytest.fixture(params=[Thread, Greenlet], ids=["threads", "greenlets"])
def kcp(request):
    yield from _run(kcpsock, request.param)


@pytest.fixture
def threads():
    """KCP in plain threads only."""
    yield from _run(kcpsock, Thread)


@pytest.fixture
def greenlets():
    """KCP in greenlets only."""
    yield from _run(kcpsock, Greenlet)


@pytest.fixture
def pair(net):
    return net.pair()


@pytest.fixture
def server(net):
    return net.listener()


@pytest.fixture(scope="session")
def hosts(require_peer):
    """Two hosts beside this one, on which all ports are free."""
    require_peer("a second host", two_hosts.are_possible(), two_hosts.HOW_TO_GET)
    made = two_hosts.Hosts()
    yield made
    made.close()
