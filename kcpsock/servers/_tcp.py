# SPDX-License-Identifier: MIT
"""socketserver's classes over KCP, and the mixin that makes them so."""

from __future__ import annotations

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
        self._is_kcp = False
        super().__init__(*args, **kwargs)
        self._listen_on_kcp()  # with bind_and_activate=False

    def server_bind(self) -> None:
        self._listen_on_kcp()  # called from __init__, when the stdlib has made its socket
        super().server_bind()

    def _listen_on_kcp(self) -> None:
        if not self._is_kcp:
            made = kcpsock.socket(self.address_family, self.socket_type, profile=self.profile)
            self.socket.close()
            self.socket = made
            self._is_kcp = True

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
