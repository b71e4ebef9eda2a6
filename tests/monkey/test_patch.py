# SPDX-License-Identifier: MIT
"""patch_socket() and unpatch_socket(), in interpreters of their own; with gevent.monkey before and after."""

import pytest

from tests.support.processes import finish, python

ECHO = """
import threading
def echo_through(socket, address=("127.0.0.1", 0)):
    "Whether the three sockets of a connection that is made with `socket` are KCP."
    def is_kcp(sock):
        assert isinstance(sock, socket.socket)
        return getattr(sock, "profile", None) is not None
    server = socket.create_server(address)
    found = [is_kcp(server)]
    def serve():
        conn, _ = server.accept()
        found.append(is_kcp(conn))
        with conn:
            while data := conn.recv(100):
                conn.sendall(data)
    thread = threading.Thread(target=serve)
    thread.start()
    with socket.create_connection(server.getsockname(), 30) as client:
        found.append(is_kcp(client))
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
    thread.join()
    server.close()
    return found
"""


def run(code):
    return finish(python(ECHO + code)).split()


def test_patched_and_back():
    code = """
import socket, kcpsock
from kcpsock import monkey
before = {name: getattr(socket, name) for name in dir(socket)}
print(*echo_through(socket))
monkey.patch_socket()
assert monkey.is_patched()
print(*echo_through(socket))
changed = {name for name in dir(socket) if getattr(socket, name) is not before[name]}
assert {"socket", "getaddrinfo", "close"} <= changed <= set(kcpsock.__implements__), changed
assert issubclass(socket.socket, kcpsock.socket) and issubclass(socket.socket, before["socket"])
monkey.unpatch_socket()
assert not monkey.is_patched()
assert {name: getattr(socket, name) for name in dir(socket)} == before
print(*echo_through(socket))
monkey.unpatch_socket()
"""
    assert run(code) == ["False"] * 3 + ["True"] * 3 + ["False"] * 3


def test_profile_and_its_change():
    code = """
import socket, kcpsock
from kcpsock import monkey
def modes():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), 30) as client:
            conn = server.accept()[0]
            conn.close()
            return server.profile.mode, conn.profile.mode, client.profile.mode
monkey.patch_socket(kcpsock.Profile(mode="fast3"))
print(*modes())
monkey.patch_socket(kcpsock.Profile(mode="normal"))
print(*modes())
monkey.patch_socket()
print(*modes())
monkey.unpatch_socket()
assert not hasattr(socket.socket, "profile")
"""
    assert run(code) == ["fast3"] * 3 + ["normal"] * 3 + ["fast2"] * 3


def test_a_route_keeps_one_address_on_tcp():
    code = """
import socket, kcpsock
from kcpsock import monkey
database = socket.create_server(("127.0.0.1", 0))
far = kcpsock.create_server(("127.0.0.1", 0))
def route(address):
    return kcpsock.Profile() if address == far.getsockname() else None
monkey.patch_socket(route=route)
for server in database, far:
    with socket.create_connection(("localhost", server.getsockname()[1]), 30) as client:
        with server.accept()[0] as conn:
            conn.sendall(b"x")
            print(client.recv(1), client.profile is not None)
    server.close()
"""
    assert run(code) == ["b'x'", "False", "b'x'", "True"]


@pytest.mark.parametrize("arguments", ["5", "profile='fast3'", "route='tcp'", "kcpsock.Profile(), lambda a: None"])
def test_wrong_arguments(arguments):
    code = f"""
import socket, kcpsock
from kcpsock import monkey
before = socket.socket
try:
    monkey.patch_socket({arguments})
except (TypeError, ValueError) as error:
    print(type(error).__name__)
assert socket.socket is before and not monkey.is_patched()
"""
    assert run(code) in (["TypeError"], ["ValueError"])


def test_who_came_too_early_is_named(tmp_path):
    (tmp_path / "early_import.py").write_text("from socket import socket\n")
    (tmp_path / "early_class.py").write_text("import socket\nclass Mine(socket.socket):\n    pass\n")
    (tmp_path / "in_time.py").write_text("import socket\n")
    code = f"""
import sys, warnings
sys.path.insert(0, {str(tmp_path)!r})
import early_import, early_class, in_time
from kcpsock import monkey
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    monkey.patch_socket()
assert [each.category for each in caught] == [RuntimeWarning], caught
assert "early_class, early_import;" in str(caught[0].message), caught[0].message
assert "in_time" not in str(caught[0].message)
print("named")
"""
    assert run(code) == ["named"]


def test_a_usual_program_is_warned_of_nothing():
    # The stdlib's own users of sockets, imported before.
    code = """
import asyncio, ftplib, http.client, http.server, logging.handlers, multiprocessing.connection, smtplib, ssl
import socketserver, urllib.request, wsgiref.simple_server, xmlrpc.client
from kcpsock import monkey
monkey.patch_socket()
print("quiet")
"""
    assert run(code) == ["quiet"]


BOTH_WAYS = """
server = socket.create_server(("localhost", 0))
ticks = []
def tick_then_connect():
    while len(ticks) < 5:
        ticks.append(1)
        gevent.sleep(0.001)
    socket.create_connection(server.getsockname()).close()
ticking = gevent.spawn(tick_then_connect)
server.accept()[0].close()  # the hub runs on, or nobody would come
ticking.get()
server.close()
print(*echo_through(socket))
"""


@pytest.mark.parametrize("order", ["gevent first", "kcpsock first"])
def test_with_gevents_monkey(order):
    both = ["from gevent import monkey as gevents; gevents.patch_all()", "from kcpsock import monkey as ours"]
    if order == "kcpsock first":
        both = [both[1], "import socket; stdlib = [socket.socket]; ours.patch_socket()", both[0]]
    else:
        both += ["import socket", "ours.patch_socket()", "stdlib = [gevents.get_original('socket', 'socket')]"]
    code = "\n".join(both) + BOTH_WAYS.join(
        (
            """
import gevent
assert gevents.get_original("socket", "socket") is stdlib[0]
""",
            """
ours.unpatch_socket()
import gevent.socket
assert socket.socket is gevent.socket.socket
assert socket.create_connection is gevent.socket.create_connection
print(*echo_through(socket))
""",
        )
    )
    assert run(code) == ["True"] * 3 + ["False"] * 3


def test_https_with_an_unchanged_server_and_client(certificates):
    # ssl before the patch, and the server made in the classic way.
    code = f"""
import http.server, ssl, threading, urllib.request
from kcpsock import monkey
monkey.patch_socket()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = repr((self.client_address[0], self.connection.getpeername() == self.client_address)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain({certificates.server!r})
httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
threading.Thread(target=httpd.serve_forever, daemon=True).start()
trusting = ssl.create_default_context(cafile={certificates.authority!r})
url = "https://localhost:%d/" % httpd.server_address[1]
opener = urllib.request.build_opener(
    urllib.request.HTTPSHandler(context=trusting), urllib.request.ProxyHandler({{}})
)
for _ in range(3):
    with opener.open(url, timeout=30) as answer:
        print(answer.status, answer.read().decode())
import kcpsock
print(kcpsock.stats()["PassiveOpens"])
httpd.shutdown()
httpd.server_close()
"""
    assert finish(python(code)).splitlines() == ["200 ('127.0.0.1', True)"] * 3 + ["3"]
