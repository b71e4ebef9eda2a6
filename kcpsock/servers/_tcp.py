# SPDX-License-Identifier: MIT
"""socketserver's classes over KCP, and the mixin that makes them so."""

from __future__ import annotations

import inspect
import socketserver
import ssl
from socketserver import ForkingMixIn, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Optional

import kcpsock
from kcpsock import Profile

if TYPE_CHECKING:
    _Server = socketserver.TCPServer
else:
    _Server = object


class KCPServerMixIn(_Server):
    """Makes a subclass of socketserver.TCPServer listen on a KCP socket. It stands first among the bases."""

    def __init__(
        self,
        *args: Any,
        profile: Optional[Profile] = None,
        ssl_context: Optional[ssl.SSLContext] = None,
        **kwargs: Any,
    ) -> None:
        self.profile, self.ssl_context = profile, ssl_context
        given = inspect.signature(super().__init__).bind(*args, **kwargs)
        activate = given.arguments.get("bind_and_activate", True)
        given.arguments["bind_and_activate"] = False
        listener = kcpsock.socket(self.address_family, self.socket_type, profile=profile)
        try:
            super().__init__(*given.args, **given.kwargs)
            self.socket.close()
            self.socket = listener
            if activate:
                self.server_bind()
                self.server_activate()
        except BaseException:
            listener.close()
            raise

    def get_request(self) -> tuple[Any, Any]:
        request, address = super().get_request()
        if self.ssl_context is None:
            return request, address
        try:
            # The handshake comes with the handler's first read or write, so that a silent client holds up only its own.
            return self.ssl_context.wrap_socket(request, server_side=True, do_handshake_on_connect=False), address
        except BaseException:
            request.close()
            raise


class TCPServer(KCPServerMixIn, socketserver.TCPServer):
    """socketserver.TCPServer over KCP."""


class ThreadingTCPServer(ThreadingMixIn, TCPServer):
    """A thread for each connection."""


class ForkingTCPServer(ForkingMixIn, TCPServer):
    """A forked process for each connection."""
