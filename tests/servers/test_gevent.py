# SPDX-License-Identifier: MIT
"""gevent's servers with a KCP listener, unchanged and as twins, in this process and in patched ones."""

import subprocess
import sys

import gevent
import gevent.pool
import gevent.pywsgi
import gevent.server
import gevent.ssl
import pytest
import trustme

import kcpsock
import kcpsock.servers.gevent
from tests.support.streams import read_all

from .conftest import LONG_S

TWINS = kcpsock.servers.gevent
STREAM = {"gevent": gevent.server.StreamServer, "kcpsock": TWINS.StreamServer}
WSGI = {"gevent": gevent.pywsgi.WSGIServer, "kcpsock": TWINS.WSGIServer}


@pytest.fixture(autouse=True)
def hub():
    """A hub for the test, and none after it: other tests wait in threads."""
    hub = gevent.get_hub()
    yield
    hub.destroy(destroy_loop=True)


@pytest.fixture
def started(hub):
    """started(server) -> the server, accepting until the test's end"""
    servers = []

    def start(server):
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


def listener(**options):
    return kcpsock.create_server(("127.0.0.1", 0), **options)


def dial(server, **options):
    return kcpsock.create_connection(server.address, timeout=LONG_S, **options)


def sink(sock, address):
    sock.sendall(read_all(sock))


@pytest.mark.parametrize("made_by", STREAM.values(), ids=STREAM)
def test_stream(started, made_by):
    server = started(made_by(listener(), sink))
    data = bytes(range(256)) * 2000

    def talk(number):
        with dial(server) as sock:
            sock.sendall(data + b"%d" % number)
            sock.shutdown(kcpsock.SHUT_WR)
            return read_all(sock) == data + b"%d" % number

    talks = [gevent.spawn(talk, number) for number in range(10)]
    gevent.joinall(talks, timeout=LONG_S)
    assert [greenlet.value for greenlet in talks] == [True] * 10


@pytest.mark.parametrize("made_by", STREAM.values(), ids=STREAM)
@pytest.mark.parametrize("spawn", [1, "pool"])
def test_stream_full_pool(started, made_by, spawn):
    server = started(made_by(listener(), sink, spawn=gevent.pool.Pool(1) if spawn == "pool" else spawn))
    with dial(server) as first, dial(server) as second:
        second.sendall(b"two")
        second.shutdown(kcpsock.SHUT_WR)
        first.sendall(b"one")
        first.shutdown(kcpsock.SHUT_WR)
        assert (read_all(first), read_all(second)) == (b"one", b"two")


@pytest.mark.parametrize("made_by", STREAM.values(), ids=STREAM)
def test_stream_peer_address(started, made_by):
    seen = []
    server = started(made_by(listener(), lambda sock, address: seen.append(address)))
    with dial(server) as sock:
        assert sock.recv(1) == b""
        assert seen == [sock.getsockname()]


@pytest.mark.parametrize("made_by", STREAM.values(), ids=STREAM)
def test_hub_runs_while_a_server_accepts(started, made_by):
    # A blocking listener: when nobody is left to accept, the server must not wait in the hub.
    ticks = []
    server = started(made_by(listener(), sink))
    with dial(server) as sock:
        ticker = gevent.spawn(lambda: [gevent.sleep(0.001) or ticks.append(1) for _ in range(20)])
        ticker.join(timeout=LONG_S)
        assert len(ticks) == 20
        sock.shutdown(kcpsock.SHUT_WR)
        assert read_all(sock) == b""


def test_twin_handler_has_a_kcp_socket(started):
    profile = kcpsock.Profile(key="secret", mode="fast3")
    seen = []

    def handle(sock, address):
        sock.setsockopt(kcpsock.IPPROTO_TCP, kcpsock.TCP_NODELAY, 1)
        seen.append((type(sock), sock.getpeername(), sock.getsockname(), sock.profile, sock.kcp_info().conv > 0))

    server = started(TWINS.StreamServer(("127.0.0.1", 0), handle, profile=profile))
    with dial(server, profile=profile) as sock:
        assert sock.recv(1) == b""
        assert seen == [(kcpsock.socket, sock.getsockname(), server.address, profile, True)]
        assert server.server_port == server.address[1]


def test_twin_handler_sees_a_reset(started):
    errors = []

    def handle(sock, address):
        with pytest.raises(ConnectionResetError) as caught:
            read_all(sock)
        errors.append(caught.value)

    server = started(TWINS.StreamServer(("127.0.0.1", 0), handle))
    sock = dial(server)
    sock.setsockopt(kcpsock.SOL_SOCKET, kcpsock.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    with gevent.Timeout(LONG_S):
        while not errors:
            gevent.sleep(0.005)


def test_twin_port_in_use():
    with listener() as busy:
        server = TWINS.StreamServer(busy.getsockname(), sink)
        with pytest.raises(OSError, match="in use"):
            server.start()


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode(), b" ", environ["REMOTE_ADDR"].encode(), b" ", environ["wsgi.input"].read()]


def post(sock, path, body):
    sock.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body))


@pytest.mark.parametrize("made_by", WSGI.values(), ids=WSGI)
def test_wsgi(started, made_by):
    server = started(made_by(listener(), hello, log=None))
    assert server.environ["SERVER_PORT"] == str(server.server_port)
    with dial(server) as sock:
        for path in (b"/one", b"/two"):  # by one connection
            body = b"x" * 100_000
            post(sock, path, body)
            expected = path + b" 127.0.0.1 " + body
            answer = b""
            while expected not in answer.replace(b"\r\n", b""):
                part = sock.recv(65536)
                assert part, answer[:200]
                answer = b"".join((answer, part))
                if answer.endswith(b"0\r\n\r\n") and b"chunked" in answer:
                    answer = unchunked(answer)


def unchunked(answer):
    head, _, rest = answer.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize("made_by", STREAM.values(), ids=STREAM)
def test_stream_tls(started, made_by):
    authority = trustme.CA()
    server_context = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)
    server = started(
        made_by(listener(), lambda sock, address: sock.sendall(sock.recv(100)), ssl_context=server_context)
    )
    with client_context.wrap_socket(dial(server), server_hostname="localhost") as sock:
        sock.sendall(b"hush")
        assert sock.recv(100) == b"hush"


def test_stop_closes_the_listener():
    for made_by in STREAM.values():
        server = made_by(listener(), sink)
        server.start()
        address = server.address
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            kcpsock.create_connection(address, timeout=LONG_S)


# argv: where patch_all() stands, and the module of the server's class. A plain thread is the client.
PATCHED = """
import sys
when, module = sys.argv[1:]
if when == "before":
    import gevent.monkey; gevent.monkey.patch_all()
import kcpsock
if when == "after":
    import gevent.monkey; gevent.monkey.patch_all()
import http.client, importlib, threading
server_class = importlib.import_module(module).WSGIServer

def app(environ, start_response):
    start_response("200 OK", [])
    return [threading.current_thread().name.encode(), environ["PATH_INFO"].encode()]

server = server_class(kcpsock.create_server(("127.0.0.1", 0)), app, log=None)
server.start()
answers = []

def ask(path):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection._create_connection = kcpsock.create_connection
    connection.request("GET", path)
    answers.append(connection.getresponse().read().decode())
    connection.close()

threads = [threading.Thread(target=ask, args=(f"/{i}",)) for i in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
server.stop()
print(sorted(answer[answer.index("/"):] for answer in answers))
"""


@pytest.mark.parametrize("module", ["gevent.pywsgi", "kcpsock.servers.gevent"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_patched_program(when, module):
    command = [sys.executable, "-W", "error", "-c", PATCHED, when, module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("['/0', '/1', '/2', '/3', '/4']\n", "")
