# SPDX-License-Identifier: MIT
"""httpcore over KCP: a network backend. Needs the extra: `pip install kcpsock[httpx]`; httpcore 1.

    import httpcore
    from kcpsock.adapters.httpcore import KCPBackend

    with httpcore.ConnectionPool(network_backend=KCPBackend(endpoint=("203.0.113.5", 4000))) as pool:
        pool.request("GET", "https://files.example/")

`endpoint` is the KCP address to dial whatever the URL's host: (host, port), or "kcp://host:port?crypt=aes&..." with the
profile in its query; without it the URL's host and port are dialled. TLS is the stdlib's, with the URL's name.

For httpx see kcpsock.adapters.httpx. Not supported: AsyncConnectionPool, which has backends of its own kind, proxies
(httpcore.HTTPProxy would dial the proxy), and Unix sockets.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Optional

try:
    import httpcore
except ImportError as error:
    raise ImportError("kcpsock.adapters.httpcore needs httpcore: pip install kcpsock[httpx]") from error

import kcpsock
from kcpsock import Profile

from ._endpoint import Endpoint, resolved

__all__ = ["KCPBackend"]


class KCPBackend(httpcore.NetworkBackend):
    """Makes httpcore's connections over KCP."""

    def __init__(self, profile: Optional[Profile] = None, endpoint: Optional[Endpoint] = None) -> None:
        self._profile, self._endpoint = resolved(profile, endpoint)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Optional[float] = None,
        local_address: Optional[str] = None,
        socket_options: Optional[Iterable[Any]] = None,
    ) -> httpcore.NetworkStream:
        source = None if local_address is None else (local_address, 0)
        with _as_httpcore(httpcore.ConnectTimeout, httpcore.ConnectError):
            sock = kcpsock.create_connection(
                self._endpoint or (host, port), timeout, source_address=source, profile=self._profile
            )
            try:
                for option in socket_options or ():
                    sock.setsockopt(*option)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as httpcore's own backend
            except BaseException:
                sock.close()
                raise
        return _Stream(sock)

    def connect_unix_socket(
        self, path: str, timeout: Optional[float] = None, socket_options: Optional[Iterable[Any]] = None
    ) -> httpcore.NetworkStream:
        raise httpcore.UnsupportedProtocol(f"{path!r} is a Unix socket; allowed over KCP is a host and a port")


class _Stream(httpcore.NetworkStream):
    # A connected socket, KCP's own or ssl's on top of it.

    def __init__(self, sock: Any, names: Optional[tuple[Any, Any]] = None) -> None:
        self._sock = sock
        self._names = names or (sock.getsockname(), sock.getpeername())  # ssl's socket doesn't know them

    def read(self, max_bytes: int, timeout: Optional[float] = None) -> bytes:
        with _as_httpcore(httpcore.ReadTimeout, httpcore.ReadError):
            self._sock.settimeout(timeout)
            data: bytes = self._sock.recv(max_bytes)
            return data

    def write(self, buffer: bytes, timeout: Optional[float] = None) -> None:
        with _as_httpcore(httpcore.WriteTimeout, httpcore.WriteError):
            rest = memoryview(buffer)
            while rest:  # not sendall(): the timeout is for each step, as with httpcore's own backend
                self._sock.settimeout(timeout)
                rest = rest[self._sock.send(rest) :]

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: Optional[str] = None, timeout: Optional[float] = None
    ) -> httpcore.NetworkStream:
        with _as_httpcore(httpcore.ConnectTimeout, httpcore.ConnectError):
            try:
                if isinstance(self._sock, ssl.SSLSocket):
                    raise OSError("TLS inside TLS is for proxies, which speak TCP; allowed over KCP is no proxy")
                self._sock.settimeout(timeout)
                secured = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname)
                return _Stream(secured, self._names)
            except BaseException:
                self.close()
                raise

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
        if info == "client_addr":
            return self._names[0]
        if info == "server_addr":
            return self._names[1]
        if info == "socket":
            return self._sock
        if info == "is_readable":  # the pool asks it of an idle connection: readable means ended
            return self._readable()
        return None

    def _readable(self) -> bool:
        fd = self._sock.fileno()
        if fd < 0:
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))


@contextmanager
def _as_httpcore(on_timeout: type[Exception], on_error: type[Exception]) -> Iterator[None]:
    # The stdlib's errors, translated as httpcore's own backend does.
    try:
        yield
    except socket.timeout as error:
        raise on_timeout(str(error)) from error
    except OSError as error:
        raise on_error(str(error)) from error
