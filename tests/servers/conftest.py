# SPDX-License-Identifier: MIT
"""The stdlib's servers and their twins: a test takes `kind` and gets both, TCP and KCP."""

import contextlib
import http.server
import socket
import socketserver
import threading
import wsgiref.simple_server
import xmlrpc.server
from types import SimpleNamespace

import pytest

import kcpsock
import kcpsock.servers
from tests.support.fixtures import no_leaks_left as no_leaks_left

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
