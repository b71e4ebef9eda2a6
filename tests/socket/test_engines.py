# SPDX-License-Identifier: MIT
"""Several engines: a listener is one listener, its connections are spread over them, and each stays where it is."""

import contextlib
import functools
import select
import socket as stdlib

import pytest

import kcpsock
from kcpsock import _connections
from kcpsock._life import Life
from tests.support.processes import finish, python

from .conftest import LONG_S, needs_linux_calls

# Each engine has a thread whose CPU time tells that it worked. Both ends live in one process; what is seen of the
# sharing of the server's side comes from a process that only accepts.
HEAD = """
import errno, hashlib, os, random, socket as stdlib, sys, threading, time
import kcpsock

def eventually(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)

def udp_sockets(port):
    # -> UDP sockets bound to that port, of the whole machine
    with open("/proc/net/udp", encoding="ascii") as table:
        return sum(int(line.split()[1].split(":")[1], 16) == port for line in list(table)[1:])

def read_all(sock):
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)

def echo(conn):
    with conn:
        while data := conn.recv(65536):
            conn.sendall(data)
        conn.shutdown(kcpsock.SHUT_WR)

def serve(server, count):
    tasks = [threading.Thread(target=echo, args=(server.accept()[0],)) for _ in range(count)]
    for task in tasks:
        task.start()
    return tasks

def asks(address, seed, size, profile=None):
    # -> whether an echo of `size` bytes is right, by its SHA-256
    data = random.Random(seed).randbytes(size)
    with kcpsock.create_connection(address, timeout=30, profile=profile) as sock:
        sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(kcpsock.SHUT_WR)))
        sender.start()
        found = hashlib.sha256(read_all(sock)).digest()
        sender.join()
    return found == hashlib.sha256(data).digest()
"""

engines = pytest.mark.parametrize("engines", ["1", "2"])


def run(code, *args, **environment):
    return finish(python(HEAD + code, *args, **environment)).split()


@engines
@pytest.mark.parametrize(
    "profile",
    [{}, {"key": "a passphrase", "fec": (5, 2)}, {"framing": "smux", "smux_version": 1, "key": "k", "crypt": "aes"}],
    ids=["plain", "sealed-fec", "smux1-aes"],
)
def test_engines_echo(engines, profile):
    code = f"""
profile = kcpsock.Profile(**{profile!r})
with kcpsock.create_server(("127.0.0.1", 0), backlog=64, profile=profile) as server:
    right = []
    clients = [
        threading.Thread(target=lambda seed=seed: right.append(asks(server.getsockname(), seed, 100_000, profile)))
        for seed in range(24)
    ]
    for client in clients:
        client.start()
    for task in serve(server, 24) + clients:
        task.join()
stats = kcpsock.stats()
print(right.count(True), stats["ActiveOpens"], stats["PassiveOpens"], stats["BytesReceived"], stats["ResetsSent"])
"""
    assert run(code, KCPSOCK_ENGINES=engines) == ["24", "24", "24", str(2 * 24 * 100_000), "0"]


@needs_linux_calls
@engines
def test_engines_share_a_listeners_connections(engines):
    """The accepting process' engines, told by the CPU time of their threads."""
    server = python(
        HEAD
        + """
def cpu_ticks(thread):
    with open(f"/proc/self/task/{thread}/stat", encoding="ascii") as stat:
        return sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13]))

with kcpsock.create_server(("127.0.0.1", 0), backlog=64) as server:
    library = [int(t) for t in os.listdir("/proc/self/task") if int(t) != os.getpid()]
    print(server.getsockname()[1], udp_sockets(server.getsockname()[1]), flush=True)
    tasks = serve(server, 32)
    for task in tasks:
        task.join()
print(len(library), sum(cpu_ticks(thread) > 0 for thread in library))
""",
        KCPSOCK_ENGINES=engines,
    )
    port, sockets = server.stdout.readline().split()
    code = """
right = []
clients = [
    threading.Thread(target=lambda seed=seed: right.append(asks(("127.0.0.1", int(sys.argv[1])), seed, 2_000_000)))
    for seed in range(32)
]
for client in clients:
    client.start()
for client in clients:
    client.join()
print(right.count(True))
"""
    assert run(code, port.decode()) == ["32"]
    assert sockets.decode() == engines
    assert finish(server).split() == [engines, engines]


@engines
def test_engines_listener_closed_under_live_connections(engines):
    """Its port stays theirs, whichever engines they are in; it is free when the last has gone, and not before."""
    code = """
def listener(reuse):
    sock = kcpsock.socket()
    try:
        sock.setsockopt(kcpsock.SOL_SOCKET, kcpsock.SO_REUSEADDR, reuse)
        sock.bind(("127.0.0.1", port))
        sock.listen()
    except OSError as error:
        sock.close()
        return errno.errorcode[error.errno]
    return sock

def connected(server, count):
    clients = [kcpsock.create_connection(server.getsockname(), timeout=30) for _ in range(count)]
    return clients, [server.accept()[0] for _ in range(count)]

def exchanged(clients, conns):
    for number, client in enumerate(clients):
        client.sendall(b"%5d" % number)
    got = [conn.recv(5, kcpsock.MSG_WAITALL) for conn in conns]
    return sorted(got) == [b"%5d" % number for number in range(len(clients))]

port = 0
server = listener(0)
port = server.getsockname()[1]
clients, conns = connected(server, 16)
print(listener(0), listener(1))
server.close()
print(exchanged(clients, conns), listener(0))

server = listener(1)  # beside the old ones
more, more_conns = connected(server, 16)
print(exchanged(clients, conns), exchanged(more, more_conns), listener(1))
server.close()

for sock in clients + conns:
    sock.close()
print(exchanged(more, more_conns), listener(0))
for sock in more + more_conns:
    sock.close()
eventually(lambda: kcpsock.stats()["Sessions"] == 0)
eventually(lambda: udp_sockets(port) == 0)
server = listener(0)
clients, conns = connected(server, 4)
print(exchanged(clients, conns))
for sock in clients + conns + [server]:
    sock.close()
"""
    used = errno_name = "EADDRINUSE"
    expected = [used, used, "True", used, "True", "True", used, "True", errno_name, "True"]
    assert run(code, KCPSOCK_ENGINES=engines) == expected


@engines
def test_engines_port_is_one_listeners(engines):
    """Others who do not ask for SO_REUSEPORT, by KCP or UDP, don't get it; the program's own SO_REUSEPORT works."""
    code = """
def outcome(module, kind, shared):
    sock = module.socket(module.AF_INET, kind)
    try:
        if shared:
            sock.setsockopt(module.SOL_SOCKET, module.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        if module is kcpsock:
            sock.listen()
        return "bound"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        sock.close()

port = 0
with kcpsock.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
    print(outcome(kcpsock, kcpsock.SOCK_STREAM, False), outcome(stdlib, stdlib.SOCK_DGRAM, False))
with kcpsock.create_server(("127.0.0.1", 0), reuse_port=True) as server:
    port = server.getsockname()[1]
    print(outcome(kcpsock, kcpsock.SOCK_STREAM, True), outcome(kcpsock, kcpsock.SOCK_STREAM, False))
"""
    assert run(code, KCPSOCK_ENGINES=engines) == ["EADDRINUSE", "EADDRINUSE", "bound", "EADDRINUSE"]


@engines
def test_engines_backlog_is_the_listeners(engines):
    """So many wait for accept(), over all engines, beyond what stands in the descriptor; the others get in later."""
    code = """
server = kcpsock.create_server(("127.0.0.1", 0), backlog=4)
clients = []
for _ in range(100):
    client = kcpsock.socket()
    client.setblocking(False)
    client.connect_ex(server.getsockname())
    clients.append(client)
eventually(lambda: kcpsock.stats()["BacklogDrops"] > 0)
waiting = kcpsock.stats()["PassiveOpens"]
print(waiting < 100)
conns = [server.accept()[0] for _ in clients]  # the others' SYNs come again
for client in clients:
    client.settimeout(30)
    client.sendall(b"x")
print(all(conn.recv(1) == b"x" for conn in conns))
for sock in clients + conns + [server]:
    sock.close()
"""
    assert run(code, KCPSOCK_ENGINES=engines) == ["True", "True"]


@engines
def test_engines_connections_in_turn(engines):
    """The connecting side: each engine gets its share of many connections, and the totals are of all."""
    code = """
with kcpsock.create_server(("127.0.0.1", 0), backlog=64) as server:
    pairs = []
    for _ in range(10):
        pairs.append(kcpsock.create_connection(server.getsockname(), timeout=30))
        pairs.append(server.accept()[0])
    stats = kcpsock.stats()
    print(stats["Sessions"], stats["Streams"], stats["CurrEstab"], stats["MaxConn"])
    for sock in pairs:
        sock.close()
"""
    assert run(code, KCPSOCK_ENGINES=engines) == ["20"] * 4


@engines
def test_engines_forked_child_accepts_and_exits(engines):
    code = """
import warnings
warnings.simplefilter("ignore")
with kcpsock.create_server(("127.0.0.1", 0)) as server:
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            for _ in range(3):
                conn = server.accept()[0]
                conn.sendall(conn.recv(5))
                conn.close()
            os._exit(0)
        children.append(pid)
    for number in range(6):
        with kcpsock.create_connection(server.getsockname(), timeout=30) as sock:
            sock.sendall(b"%5d" % number)
            print(int(read_all(sock)))
    print(*(os.waitpid(pid, 0)[1] for pid in children))
"""
    assert run(code, KCPSOCK_ENGINES=engines) == [*map(str, range(6)), "0", "0"]


@needs_linux_calls
def test_no_packet_comes_in_before_all_sockets_of_a_listener_are_there(monkeypatch):
    """One that did would be answered by an engine that the kernel gives the peer's next ones to no longer."""
    with contextlib.ExitStack() as stack:
        udp_socket = functools.partial(stdlib.socket, stdlib.AF_INET, stdlib.SOCK_DGRAM)
        peers = [stack.enter_context(udp_socket()) for _ in range(80)]
        life = Life(stdlib.AF_INET, kcpsock.Profile())
        life.bind(("127.0.0.1", 0))
        stack.callback(life.close_port)

        def all_send():
            for peer in peers:
                with contextlib.suppress(ConnectionRefusedError):  # while the port is parked
                    peer.sendto(b"", life.bound)

        shut_out, let_in, opened = _connections.shut_out, _connections.let_in, []

        def shut_out_and_send(fd):
            shut_out(fd)
            all_send()

        monkeypatch.setattr(_connections, "shut_out", shut_out_and_send)
        monkeypatch.setattr(_connections, "let_in", opened.append)
        sockets = [stack.enter_context(udp_socket(fileno=fd)) for fd in life.open_port(4)]
        all_send()
        assert opened == [udp.fileno() for udp in sockets]
        assert select.select(sockets, [], [], 0)[0] == []
        for fd in opened:
            let_in(fd)
        shares = [set(), set(), set(), set()]
        for _ in range(2):
            all_send()
            for _ in peers:
                udp = select.select(sockets, [], [], LONG_S)[0][0]
                shares[sockets.index(udp)].add(udp.recvfrom(1)[1])
        assert sum(map(len, shares)) == len(peers)  # each peer stayed with its socket
        assert min(map(len, shares)) > 0
