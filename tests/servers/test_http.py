# SPDX-License-Identifier: MIT
"""http.server's, wsgiref's and xmlrpc's servers and their twins."""

import functools
import http.client
import http.server
import wsgiref.validate
import xmlrpc.client

import pytest

import kcpsock
import kcpsock.servers

from .conftest import LONG_S, serving

QUIET = {"log_message": lambda self, *args: None, "log_request": lambda self, *args: None}


def client_of(kind, server):
    """http.client's connection to a server, over the socket module `kind` has."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=LONG_S)
    connection._create_connection = kind.socket.create_connection
    return connection


def get(connection, path):
    connection.request("GET", path)
    with connection.getresponse() as response:
        return response.status, response.read()


@pytest.mark.parametrize("name", ["HTTPServer", "ThreadingHTTPServer"])
def test_files(kind, name, tmp_path):
    data = bytes(range(256)) * 4000
    (tmp_path / "data").write_bytes(data)
    handler = type("Handler", (http.server.SimpleHTTPRequestHandler,), dict(QUIET, protocol_version="HTTP/1.1"))
    with serving(getattr(kind, name)(("127.0.0.1", 0), functools.partial(handler, directory=tmp_path))) as server:
        assert server.server_port == server.server_address[1] and server.server_name
        connection = client_of(kind, server)
        assert get(connection, "/data") == (200, data)
        assert get(connection, "/nothing")[0] == 404
        connection.close()


def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REMOTE_ADDR"].encode(), b" ", environ["SERVER_PORT"].encode(), b" ", body]


def wsgi_server(kind):
    handler = type("Handler", (wsgiref.simple_server.WSGIRequestHandler,), QUIET)
    app = wsgiref.validate.validator(application)
    return kind.make_server("127.0.0.1", 0, app, handler_class=handler)


def test_wsgi(kind):
    with serving(wsgi_server(kind)) as server:
        assert isinstance(server, kind.WSGIServer)
        connection = client_of(kind, server)
        connection.request("POST", "/", body=b"x" * 100_000)
        with connection.getresponse() as response:
            assert response.read() == b"127.0.0.1 %d " % server.server_port + b"x" * 100_000
        connection.close()


def test_wsgi_profile():
    profile = kcpsock.Profile(mode="fast3")
    with kcpsock.servers.make_server("127.0.0.1", 0, application, profile=profile) as server:
        assert server.socket.profile is profile


class Transport(xmlrpc.client.Transport):
    def __init__(self, module):
        super().__init__()
        self._module = module

    def make_connection(self, host):
        connection = super().make_connection(host)
        connection.timeout = LONG_S
        connection._create_connection = self._module.create_connection
        return connection


def test_xmlrpc(kind):
    with serving(kind.SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False, allow_none=True)) as server:
        server.register_function(pow)
        server.register_introspection_functions()
        url = "http://{}:{}/".format(*server.server_address)
        with xmlrpc.client.ServerProxy(url, transport=Transport(kind.socket)) as proxy:
            assert proxy.pow(2, 10) == 1024
            assert "pow" in proxy.system.listMethods()
            with pytest.raises(xmlrpc.client.Fault, match="unsupported operand"):
                proxy.pow("a", 1)


def test_xmlrpc_positional_arguments(kind):
    handler = kcpsock.servers.SimpleXMLRPCServer.__mro__[2].__init__.__defaults__[0]
    with kind.SimpleXMLRPCServer(("127.0.0.1", 0), handler, False, True, None, False, True) as server:
        assert server.socket.getsockname()[1] == 0 and server.allow_none and server.use_builtin_types


@pytest.mark.parametrize("way", ["ssl_context", "wrapped listener"])
def test_https(kind, contexts, tmp_path, way):
    server_context, client_context = contexts
    (tmp_path / "data").write_bytes(b"hush")
    handler = functools.partial(type("Handler", (http.server.SimpleHTTPRequestHandler,), QUIET), directory=tmp_path)
    if way == "wrapped listener":
        server = kind.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.socket = server_context.wrap_socket(server.socket, server_side=True)
    elif kind.socket is kcpsock:
        server = kind.ThreadingHTTPServer(("127.0.0.1", 0), handler, ssl_context=server_context)
    else:
        pytest.skip("a keyword that the stdlib's servers have not got")
    with serving(server):
        connection = http.client.HTTPSConnection(
            "localhost", server.server_port, timeout=LONG_S, context=client_context
        )
        connection._create_connection = kind.socket.create_connection
        assert get(connection, "/data") == (200, b"hush")
        connection.close()
