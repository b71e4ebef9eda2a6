# SPDX-License-Identifier: MIT
"""gevent's servers over KCP, with kcpsock's own socket in the handler.

gevent's unchanged classes take a `kcpsock.create_server(...)` listener, and then give the handler a socket of gevent's:
its bytes are KCP's, but it knows no names, no TCP options, and of a connection that broke only that it ended. These
give it kcpsock's:

    from kcpsock.servers.gevent import WSGIServer

    WSGIServer(("0.0.0.0", 8000), app, profile=kcpsock.Profile(key="secret")).serve_forever()

A listener, address or port is given as to gevent's, TLS by `ssl_context=` with a context of gevent.ssl; `profile` is
for a listener that the server makes itself.
"""

from __future__ import annotations

from typing import Any, Optional

import gevent.pywsgi
import gevent.server

import kcpsock
from kcpsock import Profile

__all__ = ["KCPServerMixIn", "StreamServer", "WSGIServer"]


class KCPServerMixIn:
    """Makes a subclass of gevent.server.StreamServer accept KCP connections. It stands first among the bases."""

    address: Any
    backlog: int
    family: int
    socket: Any

    def __init__(self, *args: Any, profile: Optional[Profile] = None, **kwargs: Any) -> None:
        self.profile = profile
        super().__init__(*args, **kwargs)

    def init_socket(self) -> None:
        if not hasattr(self, "socket"):
            self.socket = kcpsock.create_server(
                self.address, family=self.family, backlog=self.backlog, profile=self.profile
            )
            self.address = self.socket.getsockname()
        super().init_socket()  # type: ignore[misc]
        self.socket.setblocking(False)  # as gevent's own: do_read() is called in the hub, where nothing may wait

    def do_read(self) -> Optional[tuple[Any, Any]]:
        try:
            connection: tuple[Any, Any] = self.socket.accept()
            return connection
        except BlockingIOError:
            return None


class StreamServer(KCPServerMixIn, gevent.server.StreamServer):  # type: ignore[misc]
    """gevent.server.StreamServer over KCP."""


class WSGIServer(KCPServerMixIn, gevent.pywsgi.WSGIServer):  # type: ignore[misc]
    """gevent.pywsgi.WSGIServer over KCP."""
