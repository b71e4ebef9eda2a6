# SPDX-License-Identifier: MIT
"""The stdlib's servers over KCP: socketserver, http.server, wsgiref and xmlrpc.

Each is the stdlib's class of the same name with KCPServerMixIn in front, and takes two more keywords:

    from kcpsock.servers import ThreadingHTTPServer

    server = ThreadingHTTPServer(("0.0.0.0", 8000), Handler, profile=kcpsock.Profile(key="secret"))

`profile` is how its connections behave. `ssl_context`, a server's SSLContext, puts TLS on each of them, with the
handshake in the handler: a client that says nothing holds up only its own. A wrapped listener works as well
(`server.socket = context.wrap_socket(server.socket, server_side=True)`), but waits for it before it accepts the next.

Another server class gets there by the mixin: `class MyServer(KCPServerMixIn, socketserver.TCPServer)`. There are no
twins of the UDP and Unix classes. For gevent's servers see kcpsock.servers.gevent.
"""

from socketserver import ForkingMixIn, ThreadingMixIn

from ._http import HTTPServer, SimpleXMLRPCServer, ThreadingHTTPServer, WSGIServer, make_server
from ._tcp import ForkingTCPServer, KCPServerMixIn, TCPServer, ThreadingTCPServer

__all__ = [
    "ForkingMixIn",
    "ForkingTCPServer",
    "HTTPServer",
    "KCPServerMixIn",
    "SimpleXMLRPCServer",
    "TCPServer",
    "ThreadingHTTPServer",
    "ThreadingMixIn",
    "ThreadingTCPServer",
    "WSGIServer",
    "make_server",
]
