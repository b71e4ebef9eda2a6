# SPDX-License-Identifier: MIT
"""socketserver's classes and their twins."""

import errno
import os
import socketserver
import subprocess
import sys
import threading

import pytest

import kcpsock
import kcpsock.servers
from kcpsock.servers import KCPServerMixIn
from tests.support.streams import read_all

from .conftest import LONG_S, connected, serving


class Upper(socketserver.StreamRequestHandler):
    """Answers each line in capitals, with the process and the thread."""

    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"%s %d %d\n" % (line.strip().upper(), os.getpid(), threading.get_ident()))


def ask(sock, text):
    sock.sendall(text.encode() + b"\n")
    answer = sock.makefile("rb").readline().split()
    return answer[0].decode(), int(answer[1]), int(answer[2])


@pytest.mark.parametrize("name", ["TCPServer", "ThreadingTCPServer"])
def test_lines(kind, name):
    with serving(getattr(kind, name)(("127.0.0.1", 0), Upper)) as server:
        for _ in range(3):
            with connected(kind.socket, server.server_address) as sock:
                assert ask(sock, "hello")[0] == ask(sock, "Hello")[0] == "HELLO"


def test_two_clients_at_once(kind):
    with serving(kind.ThreadingTCPServer(("127.0.0.1", 0), Upper)) as server:
        with connected(kind.socket, server.server_address) as one, connected(kind.socket, server.server_address) as two:
            first, second, third = ask(one, "a"), ask(two, "b"), ask(one, "c")
            assert [answer[0] for answer in (first, second, third)] == ["A", "B", "C"]
            assert first[1:] == third[1:] != second[1:]


class Sink(socketserver.BaseRequestHandler):
    """Reads to the end, then sends it all back."""

    def handle(self):
        self.request.sendall(read_all(self.request))


@pytest.mark.parametrize("name", ["TCPServer", "ThreadingTCPServer"])
def test_much_data_and_half_close(kind, name):
    data = os.urandom(2_000_000)
    with serving(getattr(kind, name)(("127.0.0.1", 0), Sink)) as server:
        with connected(kind.socket, server.server_address) as sock:
            sock.sendall(data)
            sock.shutdown(kind.socket.SHUT_WR)
            assert read_all(sock) == data


# A process of its own: a fork of this one would hold the clients' descriptors too. It forks while the engine runs.
FORKING = """
import os, socketserver, sys, warnings
module = sys.argv[1]
__import__(module)
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(b"%s %d 0\\n" % (line.strip().upper(), os.getpid()))
        self.wfile.write(b"end")

with sys.modules[module].ForkingTCPServer(("127.0.0.1", 0), Handler) as server:
    print(server.server_address[1], flush=True)
    for _ in range(4):
        server.handle_request()
"""


def test_forking(kind):
    module = "socketserver" if kind.socket is not kcpsock else "kcpsock.servers"
    command = [sys.executable, "-W", "error", "-c", FORKING, module]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = ("127.0.0.1", int(process.stdout.readline()))
        with connected(kind.socket, address) as one, connected(kind.socket, address) as two:
            pids = {ask(one, "a")[1], ask(two, "b")[1], ask(one, "c")[1]}
            assert len(pids) == 2 and process.pid not in pids
            one.shutdown(kind.socket.SHUT_WR)
            assert read_all(one) == b"end"
            assert ask(two, "d")[0] == "D"
        lines = b"x\n" * 1000
        with connected(kind.socket, address) as sock:
            sock.sendall(lines)
            sock.shutdown(kind.socket.SHUT_WR)
            assert read_all(sock).count(b"X ") == 1000
        with connected(kind.socket, address) as sock:  # the server ends after this one
            assert ask(sock, "last")[0] == "LAST"
        assert process.communicate(timeout=LONG_S)[1] == ""
    assert process.returncode == 0


def test_handler_sees_the_client(kind):
    seen = []

    class Look(socketserver.BaseRequestHandler):
        def handle(self):
            seen.append((self.client_address, self.request.getpeername(), self.request.getsockname()))

    with serving(kind.TCPServer(("127.0.0.1", 0), Look)) as server:
        with connected(kind.socket, server.server_address) as sock:
            assert sock.recv(1) == b""
            assert seen == [(sock.getsockname(), sock.getsockname(), server.server_address)]


def test_handler_that_fails_ends_only_its_connection(kind, capsys):
    class Fail(socketserver.BaseRequestHandler):
        def handle(self):
            raise RuntimeError("on purpose")

    with serving(kind.TCPServer(("127.0.0.1", 0), Fail)) as server:
        for _ in range(2):
            with connected(kind.socket, server.server_address) as sock:
                assert sock.recv(1) == b""
    assert capsys.readouterr().err.count("RuntimeError: on purpose") == 2


def test_handle_request_times_out(kind):
    with kind.TCPServer(("127.0.0.1", 0), Upper) as server:
        passed = []
        server.timeout = 0.05
        server.handle_timeout = lambda: passed.append(True)
        server.handle_request()
        assert passed == [True]


def test_activation_by_hand(kind):
    server = kind.TCPServer(("127.0.0.1", 0), Upper, bind_and_activate=False)
    server.socket.setsockopt(kind.socket.SOL_SOCKET, kind.socket.SO_REUSEADDR, 1)
    assert server.socket.getsockname()[1] == 0
    server.server_bind()
    server.server_activate()
    with serving(server):
        with connected(kind.socket, server.server_address) as sock:
            assert ask(sock, "late")[0] == "LATE"
    assert server.socket.fileno() == -1


def test_activation_by_hand_positional(kind):
    with kind.TCPServer(("127.0.0.1", 0), Upper, False) as server:
        assert server.socket.getsockname()[1] == 0


def test_port_in_use(kind):
    with kind.TCPServer(("127.0.0.1", 0), Upper) as server:
        with pytest.raises(OSError) as caught:
            kind.TCPServer(server.server_address, Upper)
        assert caught.value.errno == errno.EADDRINUSE


def test_restart_on_the_same_port(kind):
    class Server(kind.TCPServer):
        allow_reuse_address = True

    address = ("127.0.0.1", 0)
    for _ in range(3):
        with serving(Server(address, Upper)) as server:
            address = server.server_address
            with connected(kind.socket, address) as sock:
                assert ask(sock, "x")[0] == "X"


@pytest.mark.parametrize("arguments", [(), (("127.0.0.1", 0),), (("127.0.0.1", 0), Upper, True, "more")])
def test_wrong_arguments(kind, arguments):
    with pytest.raises(TypeError):
        kind.TCPServer(*arguments)


def test_bad_address(kind):
    with pytest.raises((TypeError, OverflowError)):
        kind.TCPServer(("127.0.0.1", 70000), Upper)


def test_ipv6(kind):
    class Server(kind.TCPServer):
        address_family = kind.socket.AF_INET6

    try:
        server = Server(("::1", 0), Upper)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with serving(server):
        with connected(kind.socket, server.server_address) as sock:
            assert ask(sock, "six")[0] == "SIX"


def test_old_class_by_the_mixin():
    class Old(socketserver.ThreadingMixIn, socketserver.TCPServer):
        """A server class that somebody wrote for TCP, with arguments of its own."""

        def __init__(self, address, extra):
            self.extra = extra
            super().__init__(address, Upper)

    class New(KCPServerMixIn, Old):
        pass

    profile = kcpsock.Profile(key="secret")
    with serving(New(("127.0.0.1", 0), "extra", profile=profile)) as server:
        assert server.extra == "extra"
        with connected(kcpsock, server.server_address, profile=profile) as sock:
            assert ask(sock, "new")[0] == "NEW"


def test_profile():
    profile = kcpsock.Profile(key="secret", mode="fast3")
    with serving(kcpsock.servers.ThreadingTCPServer(("127.0.0.1", 0), Upper, profile=profile)) as server:
        assert server.profile is server.socket.profile is profile
        with connected(kcpsock, server.server_address, profile=profile) as sock:
            assert ask(sock, "secret")[0] == "SECRET"


def test_profile_of_a_wrong_type():
    with pytest.raises(TypeError, match="allowed is a Profile or None"):
        kcpsock.servers.TCPServer(("127.0.0.1", 0), Upper, profile="fast")


@pytest.mark.parametrize("name", ["TCPServer", "ThreadingTCPServer"])
def test_tls(contexts, name):
    server_context, client_context = contexts
    made_by = getattr(kcpsock.servers, name)
    with serving(made_by(("127.0.0.1", 0), Upper, ssl_context=server_context)) as server:
        with connected(kcpsock, server.server_address) as plain:
            with client_context.wrap_socket(plain, server_hostname="localhost") as sock:
                assert ask(sock, "hush")[0] == "HUSH"


def test_tls_silent_client_holds_up_nobody(contexts):
    server_context, client_context = contexts
    with serving(kcpsock.servers.ThreadingTCPServer(("127.0.0.1", 0), Upper, ssl_context=server_context)) as server:
        server.handle_error = lambda request, address: None  # the silent one's
        with connected(kcpsock, server.server_address), connected(kcpsock, server.server_address) as plain:
            with client_context.wrap_socket(plain, server_hostname="localhost") as sock:
                assert ask(sock, "me")[0] == "ME"


def test_udp_has_no_twin():
    with pytest.raises((TypeError, ValueError)):
        type("UDP", (KCPServerMixIn, socketserver.UDPServer), {})(("127.0.0.1", 0), Upper, profile=kcpsock.Profile())
