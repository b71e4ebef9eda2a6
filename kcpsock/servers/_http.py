# SPDX-License-Identifier: MIT
"""http.server's, wsgiref's and xmlrpc's servers over KCP."""

from __future__ import annotations

import functools
import http.server
import ssl
import wsgiref.simple_server
import xmlrpc.server
from socketserver import ThreadingMixIn
from typing import Any, Optional

from kcpsock import Profile

from ._tcp import KCPServerMixIn


class HTTPServer(KCPServerMixIn, http.server.HTTPServer):
    """http.server.HTTPServer over KCP."""


class ThreadingHTTPServer(ThreadingMixIn, HTTPServer):
    """http.server.ThreadingHTTPServer over KCP."""

    daemon_threads = True


class WSGIServer(KCPServerMixIn, wsgiref.simple_server.WSGIServer):
    """wsgiref.simple_server.WSGIServer over KCP."""


class SimpleXMLRPCServer(KCPServerMixIn, xmlrpc.server.SimpleXMLRPCServer):
    """xmlrpc.server.SimpleXMLRPCServer over KCP."""


def make_server(
    host: str,
    port: int,
    app: Any,
    server_class: Any = WSGIServer,
    handler_class: Any = wsgiref.simple_server.WSGIRequestHandler,
    *,
    profile: Optional[Profile] = None,
    ssl_context: Optional[ssl.SSLContext] = None,
) -> Any:
    """A WSGI server over KCP that serves `app`, as wsgiref.simple_server.make_server() makes one over TCP."""
    made_by: Any = functools.partial(server_class, profile=profile, ssl_context=ssl_context)
    return wsgiref.simple_server.make_server(host, port, app, made_by, handler_class)
