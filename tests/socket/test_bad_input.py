# SPDX-License-Identifier: MIT
"""Whatever a TCP socket refuses a KCP socket refuses too: the same exception, the same errno.

A case is a line: what is done to which socket. It is done to the stdlib's TCP and to KCP, in a thread and in a
greenlet, and the outcomes are compared: a result's type, or the exception's type and errno. Afterwards no thread,
greenlet, descriptor or memory is left.
"""

import gc
import socket
import struct

import gevent
import greenlet
import pytest

import kcpsock
from tests.support import leaks

from .conftest import LONG_S, Net, Thread, eventually

# What the stdlib itself leaves to gc when it refuses something.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

SOL, TCP = socket.SOL_SOCKET, socket.IPPROTO_TCP


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


class Sockets:
    """One of each kind, made when asked for. All are blocking: with a timeout a call may wait before it is refused."""

    def __init__(self, net):
        self.net = net

    @property
    def fresh(self):
        return self.net.socket()

    @property
    def closed(self):
        sock = self.net.socket()
        sock.close()
        return sock

    @property
    def bound(self):
        sock = self.fresh
        sock.bind(("127.0.0.1", 0))
        return sock

    @property
    def listener(self):
        server = self.net.listener()
        server.settimeout(None)
        return server

    @property
    def connected(self):
        client, _ = self.net.pair()
        client.settimeout(None)
        return client

    @property
    def nonblocking(self):
        client = self.connected
        client.setblocking(False)
        return client

    @property
    def write_closed(self):
        client = self.connected
        client.shutdown(socket.SHUT_WR)
        return client

    @property
    def read_closed(self):
        client = self.connected
        client.shutdown(socket.SHUT_RD)
        return client

    @property
    def detached(self):
        sock = self.net.socket()
        self.net.close(sock.detach())
        return sock


KINDS = ["fresh", "closed", "bound", "listener", "connected", "write_closed", "read_closed", "detached"]

# What is tried on a socket of each kind. Calls that rightly wait there, or succeed differently, are in NOT_THERE.
CALLS = {
    "accept": lambda s: s.accept(),
    "bind again": lambda s: s.bind(("127.0.0.1", 0)),
    "bind None": lambda s: s.bind(None),
    "bind text": lambda s: s.bind("127.0.0.1:80"),
    "bind one of two": lambda s: s.bind(("127.0.0.1",)),
    "bind wrong port": lambda s: s.bind(("127.0.0.1", "http")),
    "bind port 65536": lambda s: s.bind(("127.0.0.1", 65536)),
    "bind port -1": lambda s: s.bind(("127.0.0.1", -1)),
    "bind foreign": lambda s: s.bind(("203.0.113.1", 0)),
    "bind ipv6": lambda s: s.bind(("::1", 0)),
    "connect None": lambda s: s.connect(None),
    "connect nothing": lambda s: s.connect(),
    "connect list": lambda s: s.connect(["127.0.0.1", 80]),
    "connect port 65536": lambda s: s.connect(("127.0.0.1", 65536)),
    "connect_ex None": lambda s: s.connect_ex(None),
    "connect_ex port -1": lambda s: s.connect_ex(("127.0.0.1", -1)),
    "listen text": lambda s: s.listen("5"),
    "listen too much": lambda s: s.listen(2**31),
    "listen two": lambda s: s.listen(1, 2),
    "recv -1": lambda s: s.recv(-1),
    "recv None": lambda s: s.recv(None),
    "recv nothing": lambda s: s.recv(),
    "recv wrong flags": lambda s: s.recv(1, "x"),
    "recv flags None": lambda s: s.recv(1, None),
    "send flags None": lambda s: s.send(b"x", None),
    "sendto flags None": lambda s: s.sendto(b"x", None, ("127.0.0.1", 9)),
    "sendmsg flags None": lambda s: s.sendmsg([b"x"], [], None),
    "recvmsg flags None": lambda s: s.recvmsg(1, 0, None),
    "recv too much": lambda s: s.recv(2**63),
    "recvfrom -1": lambda s: s.recvfrom(-1),
    "recv_into text": lambda s: s.recv_into("x"),
    "recv_into bytes": lambda s: s.recv_into(b"x"),
    "recv_into too much": lambda s: s.recv_into(bytearray(4), 5),
    "recv_into -1": lambda s: s.recv_into(bytearray(4), -1),
    "recvfrom_into too much": lambda s: s.recvfrom_into(bytearray(4), 5),
    "recvmsg -1": lambda s: s.recvmsg(-1),
    "recvmsg -1 ancillary": lambda s: s.recvmsg(1, -1),
    "recvmsg_into bytes": lambda s: s.recvmsg_into([b"x"]),
    "recvmsg_into None": lambda s: s.recvmsg_into(None),
    "send text": lambda s: s.send("x"),
    "send None": lambda s: s.send(None),
    "send nothing": lambda s: s.send(),
    "send wrong flags": lambda s: s.send(b"x", "x"),
    "sendall text": lambda s: s.sendall("x"),
    "sendall strided": lambda s: s.sendall(memoryview(b"abcd")[::2]),
    "sendto alone": lambda s: s.sendto(b"x"),
    "sendto text": lambda s: s.sendto("x", ("127.0.0.1", 9)),
    "sendmsg text": lambda s: s.sendmsg(["x"]),
    "sendmsg None": lambda s: s.sendmsg(None),
    "sendmsg wrong ancillary": lambda s: s.sendmsg([b"x"], [(1, 2)]),
    "shutdown 99": lambda s: s.shutdown(99),
    "shutdown -1": lambda s: s.shutdown(-1),
    "shutdown text": lambda s: s.shutdown("x"),
    "shutdown 2**40": lambda s: s.shutdown(2**40),
    "settimeout -1": lambda s: s.settimeout(-1),
    "settimeout text": lambda s: s.settimeout("x"),
    "settimeout huge": lambda s: s.settimeout(1e300),
    "settimeout nan": lambda s: s.settimeout(float("nan")),
    "setblocking text": lambda s: s.setblocking("x"),
    "setsockopt two": lambda s: s.setsockopt(SOL, socket.SO_KEEPALIVE),
    "setsockopt text": lambda s: s.setsockopt(SOL, socket.SO_KEEPALIVE, "x"),
    "setsockopt None": lambda s: s.setsockopt(SOL, socket.SO_KEEPALIVE, None),
    "setsockopt huge": lambda s: s.setsockopt(SOL, socket.SO_KEEPALIVE, 2**40),
    "setsockopt short linger": lambda s: s.setsockopt(SOL, socket.SO_LINGER, b"\1"),
    "setsockopt unknown": lambda s: s.setsockopt(SOL, 0x7FFF, 1),
    "setsockopt unknown level": lambda s: s.setsockopt(0x7FFF, 1, 1),
    "getsockopt one": lambda s: s.getsockopt(SOL),
    "getsockopt text": lambda s: s.getsockopt(SOL, "x"),
    "getsockopt unknown": lambda s: s.getsockopt(SOL, 0x7FFF),
    "getsockopt -1 bytes": lambda s: s.getsockopt(SOL, socket.SO_KEEPALIVE, -1),
    "getsockopt 1025 bytes": lambda s: s.getsockopt(SOL, socket.SO_KEEPALIVE, 1025),
    "makefile mode": lambda s: s.makefile("x"),
    "makefile buffering": lambda s: s.makefile("r", buffering=0),
    "sendfile text file": lambda s: s.sendfile(open(__file__)),  # noqa: SIM115
    "sendfile -1": lambda s: _with_file(s, 0, -1),
    "sendfile 0": lambda s: _with_file(s, 0, 0),
    "sendfile text count": lambda s: _with_file(s, 0, "x"),
    "getpeername": lambda s: bool(s.getpeername()),
    "getsockname": lambda s: bool(s.getsockname()),
    "fileno": lambda s: s.fileno() >= 0,
    "dup": lambda s: s.dup().close(),
    "inheritable": lambda s: s.set_inheritable(True),
    "get_inheritable": lambda s: s.get_inheritable(),
    "getblocking": lambda s: s.getblocking(),
    "gettimeout": lambda s: s.gettimeout(),
    "close twice": lambda s: (s.close(), s.close())[1],
    "enter": lambda s: s.__enter__() and None,
    "attribute": lambda s: setattr(s, "family", 5),
    "no such attribute": lambda s: s.no_such_thing,
}

# Calls that move bytes or wait, only where they are refused.
REFUSED = {
    "recv": (lambda s: s.recv(1), ["fresh", "closed", "bound", "listener", "read_closed", "detached"]),
    "recv_into": (lambda s: s.recv_into(bytearray(1)), ["fresh", "closed", "bound", "listener", "detached"]),
    "recvfrom": (lambda s: s.recvfrom(1), ["fresh", "closed", "bound", "listener", "detached"]),
    "recvmsg": (lambda s: s.recvmsg(1), ["fresh", "closed", "bound", "listener", "detached"]),
    "recv nonblocking": (lambda s: s.recv(1), ["nonblocking"]),
    "recv dontwait": (lambda s: s.recv(1, socket.MSG_DONTWAIT), ["connected"]),
    "recv oob": (lambda s: s.recv(1, socket.MSG_OOB), ["connected", "nonblocking"]),
    "send": (lambda s: s.send(b"x"), ["fresh", "closed", "bound", "listener", "write_closed", "detached"]),
    "sendall": (lambda s: s.sendall(b"x"), ["fresh", "closed", "bound", "listener", "write_closed", "detached"]),
    "sendmsg": (lambda s: s.sendmsg([b"x"]), ["fresh", "closed", "bound", "listener", "write_closed", "detached"]),
    "sendfile": (lambda s: _with_file(s, 0), ["fresh", "closed", "bound", "listener", "write_closed", "detached"]),
    "shutdown": (lambda s: s.shutdown(socket.SHUT_RDWR), ["fresh", "closed", "bound", "detached"]),
    "listen": (lambda s: s.listen(), ["closed", "connected", "write_closed", "detached"]),
    "connect": (lambda s: s.connect(("127.0.0.1", 9)), ["closed", "listener", "connected", "write_closed", "detached"]),
    "connect_ex": (
        lambda s: s.connect_ex(("127.0.0.1", 9)),
        ["closed", "listener", "connected", "write_closed", "detached"],
    ),
    "connect port 0": (lambda s: s.connect(("127.0.0.1", 0)), ["fresh", "bound"]),
    "connect ipv6": (lambda s: s.connect(("::1", 9)), ["fresh", "bound"]),
    "connect no name": (lambda s: s.connect(("no.such.name.invalid", 9)), ["fresh"]),
    "connect nul": (lambda s: s.connect(("local\0host", 9)), ["fresh"]),
    "connect long": (lambda s: s.connect(("x" * 70 + ".invalid", 9)), ["fresh"]),
}

# Why a call on a kind of socket is not compared.
NOT_THERE = {("accept", "listener"): "waits, rightly"}
NOT_THERE.update(
    (("bind foreign", kind), "of two errors TCP tells of the address first, we of the second bind()")
    for kind in ("bound", "listener", "connected", "write_closed", "read_closed")
)

CASES = [(name, kind) for name in CALLS for kind in KINDS if (name, kind) not in NOT_THERE]
CASES += [(name, kind) for name, (_, kinds) in REFUSED.items() for kind in kinds]


def _with_file(sock, offset, *count):
    with open(__file__, "rb") as file:
        return sock.sendfile(file, offset, *count)


def outcome(net, name, kind):
    call = CALLS[name] if name in CALLS else REFUSED[name][0]
    sock = getattr(Sockets(net), kind)
    try:
        return type(call(sock)).__name__
    except Exception as error:
        return type(error).__name__, getattr(error, "errno", None)


def outcomes(module, cases):
    found = {}
    for name, kind in cases:
        net = Net(module, Thread)
        try:
            found[name, kind] = outcome(net, name, kind)
        finally:
            net.close_all()
    return found


@pytest.mark.parametrize("how", ["thread", "greenlet"])
def test_the_same_is_refused(how):
    expected = outcomes(socket, CASES)
    if how == "thread":
        found = Thread(outcomes, kcpsock, CASES).join()
    else:
        try:
            found = gevent.spawn(outcomes, kcpsock, CASES).get()
        finally:
            gevent.get_hub().destroy(destroy_loop=True)
    different = [
        f"{name}, {kind}: TCP {expected[name, kind]}, KCP {found[name, kind]}"
        for name, kind in CASES
        if expected[name, kind] != found[name, kind]
    ]
    assert different == [], f"{len(different)} of {len(CASES)}:\n" + "\n".join(different)
    assert len([result for result in expected.values() if isinstance(result, tuple)]) > 300


CONSTRUCTOR = {
    "family text": lambda m: m.socket("AF_INET"),
    "family 99": lambda m: m.socket(99),
    "family -2": lambda m: m.socket(-2),
    "family huge": lambda m: m.socket(2**40),
    "type text": lambda m: m.socket(socket.AF_INET, "stream"),
    "type 99": lambda m: m.socket(socket.AF_INET, 99),
    "proto udp": lambda m: m.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_UDP),
    "proto text": lambda m: m.socket(socket.AF_INET, socket.SOCK_STREAM, "tcp"),
    "fileno -1": lambda m: m.socket(fileno=-1),
    "fileno -5": lambda m: m.socket(fileno=-5),
    "fileno text": lambda m: m.socket(fileno="3"),
    "fileno 1.5": lambda m: m.socket(fileno=1.5),
    "fileno huge": lambda m: m.socket(fileno=2**40),
    "fileno nobody's": lambda m: m.socket(fileno=987654),
    "fileno no socket": lambda m: _of_a_file(m),
    "five": lambda m: m.socket(1, 2, 3, 4, 5),
    "unknown keyword": lambda m: m.socket(colour="red"),
    "create_connection None": lambda m: m.create_connection(None),
    "create_connection one": lambda m: m.create_connection(("127.0.0.1",)),
    "create_connection port": lambda m: m.create_connection(("127.0.0.1", 70000)),
    "create_connection timeout": lambda m: m.create_connection(("127.0.0.1", 9), timeout=-1),
    "create_connection no name": lambda m: m.create_connection(("no.such.name.invalid", 9)),
    "create_server None": lambda m: m.create_server(None),
    "create_server backlog": lambda m: m.create_server(("127.0.0.1", 0), backlog="x"),
    "create_server family": lambda m: m.create_server(("127.0.0.1", 0), family=99),
    "create_server dualstack": lambda m: m.create_server(("", 0), dualstack_ipv6=True),
    "create_server foreign": lambda m: m.create_server(("203.0.113.1", 0)),
    "fromfd -1": lambda m: m.fromfd(-1, socket.AF_INET, socket.SOCK_STREAM),
    "fromfd text": lambda m: m.fromfd("x", socket.AF_INET, socket.SOCK_STREAM),
    "close -1": lambda m: m.close(-1),
    "close text": lambda m: m.close("x"),
    "close nobody's": lambda m: m.close(987654),
    "getaddrinfo": lambda m: m.getaddrinfo("no.such.name.invalid", 80),
    "getaddrinfo bytes port": lambda m: m.getaddrinfo("127.0.0.1", 1.5),
    "getaddrinfo nul": lambda m: m.getaddrinfo("local\0host", 80),
    "gethostbyname None": lambda m: m.gethostbyname(None),
    "getnameinfo text": lambda m: m.getnameinfo("x", 0),
    "getnameinfo one": lambda m: m.getnameinfo(("127.0.0.1",), 0),
    "getnameinfo name": lambda m: m.getnameinfo(("no name", 80), 0),
    "socketpair family": lambda m: m.socketpair(99),
    "setdefaulttimeout": lambda m: m.setdefaulttimeout(-1),
}


def _of_a_file(module):
    with open(__file__) as file:
        return module.socket(fileno=file.fileno())


@pytest.mark.parametrize("case", CONSTRUCTOR)
def test_the_module_refuses_the_same(case):
    results = []
    for module in (socket, kcpsock):
        with pytest.raises(Exception) as caught:
            CONSTRUCTOR[case](module)
        results.append((caught.type, getattr(caught.value, "errno", None)))
    assert results[0] == results[1]


def test_refusals_leave_nothing(no_leaks):
    # Also in memory: the second hundred rounds need no more than the first.
    cases = [case for case in CASES if case[1] in ("fresh", "bound", "closed", "listener")]
    outcomes(kcpsock, cases)
    with leaks.check():
        outcomes(kcpsock, cases)
        gc.collect()


def test_refusals_on_a_connection_leave_nothing(threads, no_leaks):
    client, conn = threads.pair()
    calls = [call for name, call in CALLS.items() if name.split()[0] not in ("close", "detach", "shutdown", "enter")]
    sizes = []
    for _ in range(6):
        for _ in range(20):
            for call in calls:
                try:
                    call(client)
                except Exception:
                    pass
        client.settimeout(LONG_S)
        gc.collect()
        sizes.append(kcpsock.stats()["MemoryBytes"])
    # Maybe not in the first moment: it is a process' number, to which a packet on its way adds for as long as it is.
    eventually(lambda: kcpsock.stats()["MemoryBytes"] <= sizes[1])
    client.sendall(b"still there")
    assert conn.recv(100) == b"still there"
    threads.close_all()
    del client, conn


def test_greenlets_are_gone(greenlets):
    def living():
        gc.collect()
        return sum(1 for found in gc.get_objects() if isinstance(found, greenlet.greenlet) and not found.dead)

    before = living()
    jobs = [gevent.spawn(outcome, Net(kcpsock, Thread), *case) for case in CASES if case[1] in ("fresh", "closed")]
    gevent.joinall(jobs)
    del jobs
    eventually(lambda: living() <= before)


@pytest.mark.parametrize("length", [0, 1, 3, 7, 9, 100, 1024])
def test_option_values_of_any_length(net, length):
    sock = net.socket()
    try:
        sock.setsockopt(SOL, socket.SO_LINGER, b"\1" * length)
        assert length >= struct.calcsize("ii")
    except OSError as error:
        assert length < struct.calcsize("ii") and error.errno == 22
