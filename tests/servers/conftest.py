# SPDX-License-Identifier: MIT
"""The stdlib's servers and their twins: a test takes `kind` and gets both, TCP and KCP."""

import contextlib
import http.server
import socket
import socketserver
import ssl
import threading
import wsgiref.simple_server
import xmlrpc.server
from types import SimpleNamespace

import pytest
import trustme

import kcpsock
import kcpsock.servers
from tests.support import leaks

LONG_S = 30.0  # nothing takes so long unless it hangs

STDLIB = SimpleNamespace(
    socket=socket,
    TCPServer=socketserver.TCPServer,
    ThreadingTCPServer=socketserver.ThreadingTCPServer,
    ForkingTCPServer=socketserver.ForkingTCPServer,
    HTTPServer=http.server.HTTPServer,
    ThreadingHTTPServer=http.server.ThreadingHTTPServer,
    WSGIServer=wsgiref.simple_server.WSGIServer,
    make_server=wsgiref.simple_server.make_server,
    SimpleXMLRPCServer=xmlrpc.server.SimpleXMLRPCServer,
)
KCP = SimpleNamespace(
    socket=kcpsock, **{name: getattr(kcpsock.servers, name) for name in vars(STDLIB) if name != "socket"}
)


@pytest.fixture(params=[STDLIB, KCP], ids=["tcp", "kcp"])
def kind(request):
    """The classes under the stdlib's names, and the module of their sockets."""
    return request.param


@pytest.fixture(scope="module", autouse=True)
def no_leaks_left():
    """Descriptors and threads as before, counted after the module: a closed session stays for seconds."""
    kcpsock.create_server(("127.0.0.1", 0)).close()  # starts the engine
    with leaks.check(patience_s=LONG_S):
        yield


@contextlib.contextmanager
def serving(server):
    """Serves in a thread meanwhile, and closes the server."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def connected(module, address, **options):
    """A client's socket."""
    with module.create_connection(address[:2], timeout=LONG_S, **options) as sock:
        yield sock


def read_all(sock):
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.fixture(scope="session")
def contexts():
    """A server's and a client's SSLContext that trust each other, for localhost."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client
