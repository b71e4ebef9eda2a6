# SPDX-License-Identifier: MIT
"""In a greenlet nothing blocks the hub; in a plain thread no hub is made."""

import errno
import socket
import ssl
import threading

import gevent
import gevent.select
import gevent.selectors
import gevent.server
import gevent.socket
import gevent.ssl
import gevent.timeout
import pytest
from gevent._hub_local import get_hub_if_exists

import kcpsock
import kcpsock.servers.gevent
from tests.support import leaks

from .conftest import LONG_S, SHORT_S, Greenlet, _run, eventually


class Ticker:
    """A greenlet that counts the hub's turns."""

    def __init__(self):
        self.ticks = 0
        self._greenlet = gevent.spawn(self._run)

    def _run(self):
        while True:
            self.ticks += 1
            gevent.sleep(0.001)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._greenlet.kill()


def goes_on(ticker, blocked):
    """Whether the hub runs while `blocked` waits."""
    start = ticker.ticks
    end = 10_000
    while ticker.ticks < start + 5 and end:
        gevent.sleep(0.001)
        end -= 1
    return end > 0 and not blocked.ready()


@pytest.fixture(params=["kcp", "ordinary"])
def streams(request, greenlets):
    """A connected pair, KCP or AF_UNIX: an ordinary socket of ours waits in the same way."""
    if request.param == "kcp":
        return greenlets.pair()
    a, b = kcpsock.socketpair()
    for sock in (a, b):
        sock.settimeout(LONG_S)
    return greenlets.keep(a), greenlets.keep(b)


@pytest.mark.parametrize("timeout", [None, LONG_S])
def test_hub_runs_while_recv_waits(streams, timeout):
    one, other = streams
    one.settimeout(timeout)
    calls = [
        lambda: one.recv(1),
        lambda: one.recv_into(bytearray(1)),
        lambda: one.recvfrom(1),
        lambda: one.recvmsg(1),
        lambda: one.recvmsg_into([bytearray(1)]),
        lambda: one.recvfrom_into(bytearray(1)),
    ]
    with Ticker() as ticker:
        for call in calls:
            waiting = gevent.spawn(call)
            assert goes_on(ticker, waiting)
            other.sendall(b"x")
            waiting.get(timeout=LONG_S)


@pytest.mark.parametrize("timeout", [None, LONG_S])
def test_hub_runs_while_sendall_waits(streams, timeout):
    one, other = streams
    one.settimeout(timeout)
    size = 50_000_000
    with Ticker() as ticker:
        waiting = gevent.spawn(one.sendall, b"x" * size)
        assert goes_on(ticker, waiting)
        received = 0
        while received < size:
            received += len(other.recv(1 << 20))
        waiting.get(timeout=LONG_S)


@pytest.mark.parametrize("timeout", [None, LONG_S])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_hub_runs_while_accept_waits(greenlets, timeout, family, tmp_path):
    server = greenlets.socket(family)
    server.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket"))
    server.listen()
    server.settimeout(timeout)
    with Ticker() as ticker:
        waiting = gevent.spawn(server.accept)
        assert goes_on(ticker, waiting)
        client = greenlets.socket(family)
        client.connect(server.getsockname())
        conn, _ = waiting.get(timeout=LONG_S)
        assert type(greenlets.keep(conn)) is kcpsock.socket


def test_hub_runs_while_connect_waits(greenlets):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, Ticker() as ticker:
        silent.bind(("127.0.0.1", 0))
        client = greenlets.socket()
        waiting = gevent.spawn(client.connect, silent.getsockname())
        assert goes_on(ticker, waiting)
        client.close()
        with pytest.raises(OSError) as caught:
            waiting.get(timeout=LONG_S)
        assert caught.value.errno == errno.EBADF


def test_hub_runs_while_a_name_is_looked_up(greenlets, monkeypatch):
    # The hub's resolver is asked, not the C library.
    asked = []

    class Resolver:
        def getaddrinfo(self, host, port, family=0, *_):
            asked.append(host)
            gevent.sleep(0)
            return [(family, 1, 6, "", ("127.0.0.1", port or 0))]

    server = greenlets.listener()
    monkeypatch.setattr(gevent.get_hub(), "_resolver", Resolver())
    greenlets.socket().connect(("some.name", server.getsockname()[1]))
    greenlets.socket().bind(("some.other.name", 0))
    kcpsock.getaddrinfo("a.third.name", 80)
    with kcpsock.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"x", ("a.fourth.name", 9))
    assert asked == ["some.name", "some.other.name", "a.third.name", "a.fourth.name"]


def test_close_while_a_name_is_looked_up(greenlets, monkeypatch):
    server = greenlets.listener()

    class Resolver:
        def getaddrinfo(self, host, port, family=0, *_):
            client.close()
            return [(family, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(gevent.get_hub(), "_resolver", Resolver())
    client = greenlets.socket()
    with leaks.check(), pytest.raises(OSError) as caught:
        client.connect(("some.name", server.getsockname()[1]))
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("call", ["recv", "accept"])
def test_close_gives_ebadf_to_waiting_greenlets(greenlets, call):
    server = greenlets.listener()
    sock = server if call == "accept" else greenlets.dial(server)
    waiting = [gevent.spawn(sock.accept) if call == "accept" else gevent.spawn(sock.recv, 1) for _ in range(3)]
    gevent.sleep(0)
    sock.close()
    assert sock.fileno() == -1
    for greenlet in waiting:
        with pytest.raises(OSError) as caught:
            greenlet.get(timeout=LONG_S)
        assert caught.value.errno == errno.EBADF


def test_close_by_another_thread_gives_ebadf_to_a_greenlet(greenlets):
    client, _ = greenlets.pair()
    waiting = gevent.spawn(client.recv, 1)
    gevent.sleep(0)
    thread = threading.Thread(target=client.close)
    thread.start()
    with pytest.raises(OSError) as caught:
        waiting.get(timeout=LONG_S)
    assert caught.value.errno == errno.EBADF
    thread.join()


# --- who waits for a descriptor by gevent's own means, without timeout: a close wakes it, as with gevent's own sockets


@pytest.fixture(params=["gevent's tcp", "kcp"])
def cooperative(request):
    yield from _run(kcpsock if request.param == "kcp" else gevent.socket, Greenlet)


def wait_by_select(sock):
    gevent.select.select([sock], [], [])


def wait_by_poll(sock):
    poll = gevent.select.poll()
    poll.register(sock, gevent.select.POLLIN)
    poll.poll()


def wait_by_selector(sock):
    with gevent.selectors.DefaultSelector() as selector:
        selector.register(sock, gevent.selectors.EVENT_READ)
        selector.select()


def wait_by_wait_read(sock):
    gevent.socket.wait_read(sock.fileno())


WAYS_TO_WAIT = pytest.mark.parametrize(
    "wait", [wait_by_select, wait_by_poll, wait_by_selector, wait_by_wait_read], ids=lambda wait: wait.__name__[8:]
)


def listening(net):
    server = net.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind(("127.0.0.1", 0))
    server.listen(5)
    return server


def connected(net):
    server = listening(net)
    client = net.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect(server.getsockname())
    return client, net.keep(server.accept()[0])


def datagrams(net):
    return net.socket(socket.AF_INET, socket.SOCK_DGRAM)


def wrapped(net):
    # Not yet shaken hands, which takes nothing away from what close() has to do.
    context = (ssl if net.is_kcp else gevent.ssl).SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return net.keep(context.wrap_socket(connected(net)[0], do_handshake_on_connect=False))


def wrapped_by_gevent(net):
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return net.keep(context.wrap_socket(connected(net)[0], do_handshake_on_connect=False))


def is_woken(waiting):
    # However a wait ends: by an event, or by an error.
    waiting.join(timeout=LONG_S)
    return waiting.ready()


@WAYS_TO_WAIT
@pytest.mark.parametrize(
    "make",
    [lambda net: connected(net)[0], lambda net: connected(net)[1], listening, datagrams, wrapped, wrapped_by_gevent],
    ids=["connected", "accepted", "listener", "datagrams", "tls", "gevent's tls"],
)
def test_close_wakes_a_greenlet_that_waits_for_the_descriptor(cooperative, make, wait):
    sock = make(cooperative)
    behind = leaks.open_fds()[sock.fileno()]
    waiting = [gevent.spawn(wait, sock) for _ in range(2)]
    gevent.sleep(SHORT_S)
    assert not any(greenlet.ready() for greenlet in waiting)
    sock.close()
    assert sock.fileno() == -1
    assert all(is_woken(greenlet) for greenlet in waiting)
    eventually(lambda: behind not in leaks.open_fds().values())


@WAYS_TO_WAIT
def test_shutdown_wakes_a_greenlet_that_waits_for_the_descriptor(cooperative, wait):
    sock, _ = connected(cooperative)
    waiting = gevent.spawn(wait, sock)
    gevent.sleep(SHORT_S)
    sock.shutdown(socket.SHUT_RDWR)
    assert is_woken(waiting)


@WAYS_TO_WAIT
def test_close_of_a_duplicate_wakes_who_waits_for_it(cooperative, wait):
    # And nobody else: the other goes on, with its bytes.
    sock, peer = connected(cooperative)
    copy = cooperative.keep(sock.dup())
    of_copy, of_sock = gevent.spawn(wait, copy), gevent.spawn(wait, sock)
    gevent.sleep(SHORT_S)
    copy.close()
    assert is_woken(of_copy) and not of_sock.ready()
    peer.sendall(b"x")
    assert is_woken(of_sock)
    assert sock.recv(1) == b"x"


@WAYS_TO_WAIT
def test_close_of_a_routed_socket_wakes_who_waits_for_it(greenlets, monkeypatch, wait):
    server = greenlets.keep(socket.create_server(("127.0.0.1", 0)))
    monkeypatch.setattr(kcpsock.RoutedSocket, "route", staticmethod(lambda address: None))
    sock = greenlets.keep(kcpsock.RoutedSocket())
    sock.connect(server.getsockname())
    waiting = gevent.spawn(wait, sock)
    gevent.sleep(SHORT_S)
    sock.close()
    assert is_woken(waiting)


@WAYS_TO_WAIT
def test_close_by_another_thread_wakes_who_waits_for_the_descriptor(greenlets, wait):
    sock, peer = connected(greenlets)
    waiting = gevent.spawn(wait, sock)
    gevent.sleep(SHORT_S)
    made = []

    def close():
        sock.close()
        made.append(get_hub_if_exists())

    thread = threading.Thread(target=close)
    thread.start()
    assert is_woken(waiting)
    thread.join()
    assert made == [None]
    assert peer.recv(1) == b""


@pytest.mark.parametrize("server_class", [gevent.server.StreamServer, kcpsock.servers.gevent.StreamServer])
def test_stop_of_a_server_wakes_who_waits_for_its_listener(greenlets, server_class):
    server = server_class(listening(greenlets), lambda sock, address: None)
    server.start()
    waiting = gevent.spawn(wait_by_select, server.socket)
    gevent.sleep(SHORT_S)
    server.stop(timeout=LONG_S)
    assert is_woken(waiting)


@pytest.mark.parametrize("how", ["stream", "second attempt", "messages", "becomes tcp"])
@pytest.mark.parametrize("selector_class", [gevent.selectors.DefaultSelector, gevent.select.poll])
def test_a_registration_outlives_connect(cooperative, monkeypatch, how, selector_class):
    # But for "stream", connect() of kcpsock puts another open file under the number, which gevent's selector, unlike
    # its poll(), watches all the time.
    if how == "becomes tcp" and cooperative.is_kcp:
        server = cooperative.keep(socket.create_server(("127.0.0.1", 0)))
        monkeypatch.setattr(kcpsock.RoutedSocket, "route", staticmethod(lambda address: None))
        sock = cooperative.keep(kcpsock.RoutedSocket())
    else:
        messages = {"profile": kcpsock.Profile(framing="raw", stream=False)} if how == "messages" else {}
        extra = messages if cooperative.is_kcp else {}
        server = cooperative.socket(socket.AF_INET, socket.SOCK_STREAM, **extra)
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        sock = cooperative.socket(socket.AF_INET, socket.SOCK_STREAM, **extra)
    selector = selector_class()
    selector.register(sock, 1)  # EVENT_READ, POLLIN
    call = getattr(selector, "select", None) or selector.poll
    if how == "second attempt" and cooperative.is_kcp:  # with TCP the next connect() would tell of the first once more
        with kcpsock.socket() as deaf:  # bound, and so nobody else's
            deaf.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                sock.connect(deaf.getsockname())
    assert call(LONG_S)  # as long as there is no connection, it has hung up
    sock.connect(server.getsockname())
    waiting = gevent.spawn(call)
    gevent.sleep(SHORT_S)
    assert not waiting.ready()
    sock.sendall(b"question")
    peer = cooperative.keep(server.accept()[0])
    assert peer.recv(100) == b"question"
    peer.sendall(b"answer")
    assert is_woken(waiting)
    assert sock.recv(100) == b"answer"
    selector.unregister(sock)


def test_close_with_a_greenlet_that_waits_tells_the_peer(greenlets):
    # The descriptor outlives close() until the hub's next turn, but no longer. (gevent's own until the hub has slept.)
    sock, peer = connected(greenlets)
    waiting = gevent.spawn(wait_by_select, sock)
    gevent.sleep(SHORT_S)
    sock.close()
    peer.settimeout(LONG_S)
    assert peer.recv(1) == b""
    assert is_woken(waiting)


def test_a_greenlet_can_be_killed_while_it_waits(greenlets):
    client, conn = greenlets.pair()
    waiting = gevent.spawn(client.recv, 1)
    gevent.sleep(0)
    waiting.kill()
    conn.sendall(b"x")
    assert client.recv(1) == b"x"


def test_gevent_timeout_interrupts_a_call(greenlets):
    client, conn = greenlets.pair()
    with pytest.raises(gevent.timeout.Timeout):
        with gevent.timeout.Timeout(SHORT_S):
            client.recv(1)
    conn.sendall(b"x")
    assert client.recv(1) == b"x"


def test_reader_and_writer_on_one_socket(greenlets):
    client, conn = greenlets.pair()
    size = 5_000_000
    reading = gevent.spawn(client.recv, 1)
    writing = gevent.spawn(client.sendall, b"x" * size)
    gevent.sleep(0)
    conn.sendall(b"y")
    assert reading.get(timeout=LONG_S) == b"y"
    received = 0
    while received < size:
        received += len(conn.recv(1 << 20))
    writing.get(timeout=LONG_S)


def test_sendall_timeout_is_for_all_of_it(greenlets):
    client, _ = greenlets.pair()
    client.settimeout(SHORT_S)
    with pytest.raises(socket.timeout):
        client.sendall(b"x" * 100_000_000)


def test_a_hundred_greenlets(greenlets):
    server = greenlets.listener(backlog=128)

    def echo(conn):
        with conn:
            while data := conn.recv(1000):
                conn.sendall(data)

    def serve():
        for _ in range(100):
            gevent.spawn(echo, server.accept()[0])

    def call(number):
        with kcpsock.create_connection(server.getsockname(), LONG_S) as client:
            for turn in range(10):
                message = b"%d:%d" % (number, turn)
                client.sendall(message)
                if client.recv(1000) != message:
                    return False
        return True

    gevent.spawn(serve)
    calls = [gevent.spawn(call, number) for number in range(100)]
    assert all(call.get(timeout=LONG_S) for call in calls)


def test_a_thread_and_a_greenlet_talk(greenlets):
    server = greenlets.listener()
    answers = []

    def client():
        # A plain thread: it waits in the kernel, and no hub is made for it.
        with kcpsock.create_connection(server.getsockname(), LONG_S) as sock:
            sock.sendall(b"question")
            answers.append(sock.recv(100))
        answers.append(get_hub_if_exists())

    thread = threading.Thread(target=client)
    thread.start()
    conn, _ = greenlets.accept(server)
    assert conn.recv(100) == b"question"
    conn.sendall(b"answer")
    eventually(lambda: not thread.is_alive())
    assert answers == [b"answer", None]


def test_plain_threads_make_no_hub(threads):
    client, conn = threads.pair()
    client.sendall(b"x")
    conn.recv(1)
    kcpsock.getaddrinfo("localhost", 80)
    client.close()
    assert get_hub_if_exists() is None
