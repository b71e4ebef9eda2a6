# SPDX-License-Identifier: MIT
"""The object and its descriptor: dup, fromfd, detach, repr, gc, pickling, weak references, what stays open."""

import copy
import errno
import gc
import pickle
import socket
import threading
import warnings
import weakref

import pytest

import kcpsock
from tests.support import leaks
from tests.support.processes import finish, python

from .conftest import LONG_S, eventually, read_exactly


def test_dup_is_one_connection(net, pair):
    client, conn = pair
    copy_ = net.keep(client.dup())
    assert type(copy_) is net.module.socket
    assert copy_.gettimeout() == client.gettimeout()
    assert (copy_.family, copy_.type, copy_.proto) == (client.family, client.type, client.proto)
    assert (copy_.getsockname(), copy_.getpeername()) == (client.getsockname(), client.getpeername())
    copy_.sendall(b"x")
    client.close()
    copy_.sendall(b"y")
    assert read_exactly(conn, 2) == b"xy"
    copy_.close()
    assert conn.recv(1) == b""


def test_fromfd_is_one_connection(net, pair):
    client, conn = pair
    other = net.keep(net.fromfd(client.fileno(), client.family, client.type))
    client.close()
    other.settimeout(30)
    other.sendall(b"x")
    assert conn.recv(1) == b"x"
    assert other.getpeername() == conn.getsockname()


def test_detach_and_fileno(net, pair):
    client, conn = pair
    names = client.getsockname(), client.getpeername()
    fd = client.detach()
    assert client.fileno() == -1
    again = net.socket(fileno=fd)
    assert again.fileno() == fd
    assert (again.family, again.type) == (socket.AF_INET, socket.SOCK_STREAM)
    assert (again.getsockname(), again.getpeername()) == names
    again.sendall(b"x")
    assert conn.recv(1) == b"x"


def test_fileno_of_a_listener(net, server):
    again = net.socket(fileno=server.detach())
    assert again.family == socket.AF_INET
    assert again.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    client = net.dial(again)
    assert net.accept(again)[1] == client.getsockname()


def test_fileno_of_a_fresh_and_a_bound_socket(net, server):
    fresh = net.socket(fileno=net.socket().detach())
    assert fresh.family == socket.AF_INET
    fresh.connect(server.getsockname())
    bound = net.socket()
    bound.bind(("127.0.0.1", 0))
    name = bound.getsockname()
    again = net.socket(fileno=bound.detach())
    assert again.getsockname() == name
    again.listen()
    assert again.getsockname() == name
    net.dial(again)


def test_fileno_ipv6(net):
    server = net.listener(("::1", 0), family=socket.AF_INET6)
    client = net.socket(socket.AF_INET6)
    client.connect(server.getsockname())
    again = net.socket(fileno=client.detach())
    assert again.family == socket.AF_INET6


def test_dup_of_a_bound_socket_listens(net):
    bound = net.socket()
    bound.bind(("127.0.0.1", 0))
    other = net.keep(bound.dup())
    other.listen()
    assert other.getsockname() == bound.getsockname()
    net.dial(other)
    net.accept(bound)


def test_fileno_of_an_ordinary_socket(net):
    datagrams = net.socket(socket.AF_INET, socket.SOCK_DGRAM)
    again = net.socket(fileno=datagrams.detach())
    assert again.type == socket.SOCK_DGRAM


def test_fileno_of_a_tcp_socket_is_ordinary(kcp):
    plain = socket.create_server(("127.0.0.1", 0))
    server = kcp.socket(fileno=plain.detach())
    assert server.profile is None
    with socket.create_connection(server.getsockname()) as client:
        conn, peer = kcp.accept(server)
        assert peer == client.getsockname()
        client.sendall(b"x")
        assert conn.recv(1) == b"x"


def test_fileno_wrong(net):
    for wrong, error in ((-1, ValueError), ("x", TypeError), (1.5, TypeError)):
        with pytest.raises(error):
            net.module.socket(fileno=wrong)
    with pytest.raises(OSError) as caught:
        net.module.socket(fileno=999_999)
    assert caught.value.errno == errno.EBADF


def test_close_of_a_descriptor_twice(net):
    fd = net.socket().detach()
    net.close(fd)
    with pytest.raises(OSError) as caught:
        net.close(fd)
    assert caught.value.errno == errno.EBADF


def test_listener_closes_with_its_last_copy(net, server):
    other = net.keep(server.dup())
    server.close()
    net.keep(net.create_connection(other.getsockname(), 30))
    address = other.getsockname()
    other.close()
    with pytest.raises(ConnectionRefusedError):
        net.create_connection(address, 30)


def test_repr(net, server):
    client = net.dial(server)
    text = repr(client)
    name = f"{net.module.socket.__module__}.socket"
    for part in (f"<{name} fd={client.fileno()}", "family=", "type=", "proto=", f"laddr={client.getsockname()}"):
        assert part in text
    assert f"raddr={client.getpeername()}>" in text
    assert "raddr" not in repr(server)
    client.close()
    assert f"<{name} [closed] fd=-1" in repr(client)
    assert "laddr" not in repr(client)


def test_resource_warning(net, server):
    client = net.module.create_connection(server.getsockname())
    text = repr(client)
    gc.collect()  # what other tests have left would warn too
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        gc.collect()
    assert [str(warning.message) for warning in caught] == [f"unclosed {text}"]
    assert caught[0].category is ResourceWarning


def test_resource_warning_of_a_bound_socket_is_one(net):
    sock = net.module.socket()
    sock.bind(("127.0.0.1", 0))
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del sock
        gc.collect()
    assert len(caught) == 1


def test_gc_closes(net, server):
    client = net.module.create_connection(server.getsockname())
    conn, _ = net.accept(server)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del client
        gc.collect()
    assert conn.recv(1) == b""


def test_weakref(net, pair):
    client, _ = pair
    assert weakref.ref(client)() is client
    sock = net.module.socket()
    reference = weakref.ref(sock)
    sock.close()
    del sock
    gc.collect()
    assert reference() is None


def test_no_pickling(net, pair):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(pair[0], protocol)
    with pytest.raises(TypeError):
        copy.copy(pair[0])


def test_enums_can_be_pickled(net):
    for value in (net.AF_INET, net.SOCK_STREAM, net.MSG_PEEK, net.AI_PASSIVE):
        assert pickle.loads(pickle.dumps(value)) is value


def test_subclass(net, server):
    class Mine(net.module.socket):
        pass

    sock = net.keep(Mine())
    sock.connect(server.getsockname())
    assert "Mine" in repr(sock)
    assert type(net.keep(sock.dup())) is Mine


def test_ordinary_kinds_are_ordinary(kcp):
    for family, kind in ((socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM)):
        sock = kcp.socket(family, kind)
        assert sock.profile is None
        with pytest.raises(OSError):
            sock.kcp_info()
        with pytest.raises(ValueError, match="profile"):
            kcp.socket(family, kind, profile=kcp.Profile())


def test_datagrams(net):
    a, b = (net.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (a, b):
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(30)
    assert a.sendto(b"one", b.getsockname()) == 3
    assert b.recvfrom(100) == (b"one", a.getsockname())
    assert a.sendto(b"two", 0, b.getsockname()) == 3
    buffer = bytearray(10)
    assert b.recvfrom_into(buffer) == (3, a.getsockname())
    assert a.sendmsg([b"th", b"ree"], [], 0, b.getsockname()) == 5
    assert b.recvmsg(100)[0] == b"three"
    a.connect(b.getsockname())
    a.send(b"four")
    assert b.recv(100) == b"four"


def test_profile_of_a_socket(kcp):
    server = kcp.listener(profile=kcp.Profile(mode="fast3", sndwnd=77))
    client = kcp.dial(server, profile=kcp.Profile(mode="normal"))
    conn, _ = kcp.accept(server)
    assert client.profile == kcp.Profile(mode="normal")
    assert conn.profile == server.profile == kcp.Profile(mode="fast3", sndwnd=77)
    with pytest.raises(AttributeError):
        client.profile = kcp.Profile()
    with pytest.raises(TypeError, match="profile"):
        kcp.socket(profile="fast3")


def test_kcp_info(kcp):
    client, conn = kcp.pair()
    client.sendall(b"x" * 100_000)
    read_exactly(conn, 100_000)
    info = client.kcp_info()
    assert info.conv == conn.kcp_info().conv
    assert info.bytes_sent >= 100_000 and info.streams == 1 and info.rto_ms > 0
    assert 0 <= info.loss <= 1
    for sock in (kcp.socket(), kcp.listener()):
        with pytest.raises(OSError):
            sock.kcp_info()


def test_kcp_info_after_both_directions_ended(kcp):
    client, conn = kcp.pair()
    for sock in (client, conn):
        sock.shutdown(socket.SHUT_WR)
    for sock in (client, conn):
        assert sock.recv(1) == b""

    def error():
        try:
            client.kcp_info()
        except OSError as ended:
            return ended

    assert eventually(error).errno == errno.ENOTCONN


def test_stats_count(kcp):
    before = kcp.stats()
    client, conn = kcp.pair()
    client.sendall(b"x" * 1000)
    read_exactly(conn, 1000)
    after = kcp.stats()
    assert after["ActiveOpens"] == before["ActiveOpens"] + 1
    assert after["MaxConn"] >= after["CurrEstab"] >= 2
    assert after["PassiveOpens"] == before["PassiveOpens"] + 1
    assert after["BytesSent"] >= before["BytesSent"] + 1000
    assert after["OutPkts"] > before["OutPkts"] and after["InPkts"] > before["InPkts"]


def test_stats_are_the_sum_of_all_sessions_living_and_ended():
    """In a process of its own, whose sessions are these alone."""
    code = """
import kcpsock
from tests.socket.conftest import eventually, read_exactly

profile = kcpsock.Profile(fec=(3, 1), framing={framing!r})
NAMES = dict(
    BytesSent="bytes_sent", BytesReceived="bytes_received", InSegs="in_segs", OutSegs="out_segs", OOBSent="oob_sent",
    OOBPackets="oob_received", FECParityShards="fec_parity_shards", FECFullShardSet="fec_full_sets",
    PreAckBytes="pre_ack_bytes",
)

def pair(listener):
    client = kcpsock.create_connection(listener.getsockname(), timeout=30, profile=profile)
    client.sendall(b"x" * 50_000)
    conn, _ = listener.accept()
    read_exactly(conn, 50_000)
    for _ in range(3):
        client.send_oob(b"beside")
    eventually(lambda: conn.kcp_info().oob_received == 3)
    return client, conn

def quiet(socks):
    # -> the sums of their numbers, once nothing moves any more.
    def settled():
        infos = [sock.kcp_info() for sock in socks]
        stats = kcpsock.stats()
        still = infos == [sock.kcp_info() for sock in socks] and not any(info.in_flight_pkts for info in infos)
        return still and (infos, stats)
    infos, stats = eventually(settled)
    return {{name: sum(getattr(info, member) for info in infos) for name, member in NAMES.items()}}, stats

with kcpsock.create_server(("127.0.0.1", 0), profile=profile) as listener:
    first, second = pair(listener), pair(listener)
    sums, stats = quiet([*first, *second])
    assert sums["BytesSent"] == 100_000 and sums["OOBSent"] == 6 and sums["FECParityShards"] > 0, sums
    assert {{name: stats[name] for name in NAMES}} == sums, (sums, stats)
    for sock in first:
        sock.close()
    eventually(lambda: kcpsock.stats()["Sessions"] < 4)
    rest, stats = quiet(second)
    for name in NAMES:
        assert stats[name] >= sums[name] > rest[name], name
    assert stats["BytesSent"] == 100_000 and stats["OOBPackets"] == 6
    for sock in second:
        sock.close()
print("ok")
"""
    for framing in ("smux", "raw"):
        assert finish(python(code.format(framing=framing))) == "ok\n"


def test_nothing_is_left_open(threads, no_leaks):
    for _ in range(10):
        client, conn = threads.pair()
        client.sendall(b"x")
        conn.recv(1)
        threads.close_all()
        del client, conn


def test_nothing_is_left_open_by_bound_sockets(threads, no_leaks):
    for _ in range(10):
        sock = threads.socket()
        sock.bind(("127.0.0.1", 0))
        sock.close()


def test_threads_do_not_grow_with_sockets(threads):
    server = threads.listener(backlog=200)
    socks = [threads.dial(server), threads.accept(server)[0]]
    count = len(leaks.native_threads())
    python_count = threading.active_count()
    for _ in range(200):
        socks += [threads.dial(server), threads.accept(server)[0]]
    # Less is no growth: threads that an earlier test has ended may be gone by now.
    assert len(leaks.native_threads()) <= count
    assert threading.active_count() <= python_count


def test_connections_wait_while_the_server_has_no_descriptor(net):
    """accept() says so, nobody is reset, and all are served in their order when there are some again."""
    code = """
    import errno, importlib, os, resource, sys

    socket = importlib.import_module(sys.argv[1])
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(30)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    print(server.getsockname()[1], flush=True)
    for _ in sys.stdin.readline():
        try:
            server.accept()
        except OSError as error:
            assert error.errno == errno.EMFILE, error
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    served = []
    for _ in range(5):
        served.append(server.accept()[0])
        served[-1].settimeout(30)
        served[-1].sendall(served[-1].recv(1))
        print(served[-1].getpeername()[1])
    sys.stdin.read()
    for sock in *served, server:
        sock.close()
    """
    server = python(code, net.module.__name__, stdin=True)
    port = int(server.stdout.readline())
    clients = []
    for number in range(5):
        clients.append(net.keep(net.create_connection(("127.0.0.1", port), timeout=LONG_S)))
        clients[-1].sendall(b"%d" % number)
    server.stdin.write(b"x\n")
    server.stdin.flush()
    for number, client in enumerate(clients):
        assert client.recv(1) == b"%d" % number
    assert finish(server).split() == [str(client.getsockname()[1]) for client in clients]


def test_two_descriptors_a_connection(threads):
    server = threads.listener()
    threads.dial(server), threads.accept(server)
    before = len(leaks.open_fds())
    client = threads.dial(server)
    threads.accept(server)
    # One end in the program, one in the engine; the client's UDP port besides.
    eventually(lambda: len(leaks.open_fds()) <= before + 5)
    assert client.fileno() >= 0


def test_detached_life_is_found_once():
    # As long as nobody has asked for it, only the descriptor stands for it.
    sock = kcpsock.socket(profile=kcpsock.Profile(mtu=1111))
    life = weakref.ref(sock._life)
    fd = sock.detach()
    del sock
    gc.collect()
    assert life() is not None
    with kcpsock.socket(fileno=fd) as again:
        assert again._life is life() is not None
        assert again.profile.mtu == 1111
    del again
    gc.collect()
    assert life() is None


def test_detached_life_goes_with_its_descriptor():
    sock = kcpsock.socket()
    life = weakref.ref(sock._life)
    sock.bind(("127.0.0.1", 0))
    name = sock.getsockname()
    fd = sock.detach()
    del sock
    kcpsock.close(fd)
    gc.collect()
    assert life() is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(name)  # its port too
