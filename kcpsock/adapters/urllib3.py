# SPDX-License-Identifier: MIT
"""urllib3 over KCP. Needs the extra: `pip install kcpsock[urllib3]`; urllib3 1.26 and 2.

All of urllib3 is there: http and https with verification, timeouts, retries, redirects, keep-alive pools, streaming
both ways. Only the connection is made by kcpsock:

    from kcpsock.adapters.urllib3 import KCPPoolManager

    http = KCPPoolManager(profile=kcpsock.Profile(key="secret"), endpoint=("203.0.113.5", 4000))
    http.request("GET", "https://files.example/")

`endpoint` is the KCP address to dial whatever the URL's host: (host, port), or "kcp://host:port?crypt=aes&..." with the
profile in its query. The Host header, SNI and the certificate's check remain the URL's. Without it the URL's host and
port are dialled. Pools and connections take the same two arguments.

Not supported: proxies. They speak TCP, so a pool with one raises LocationValueError.
"""

from __future__ import annotations

import functools
import socket
import sys
from typing import Any, Optional

try:
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.exceptions import ConnectTimeoutError, LocationValueError, NewConnectionError
    from urllib3.poolmanager import PoolManager
except ImportError as error:
    raise ImportError("kcpsock.adapters.urllib3 needs urllib3: pip install kcpsock[urllib3]") from error

try:
    from urllib3.exceptions import NameResolutionError
except ImportError:  # urllib3 1.26
    NameResolutionError = None  # type: ignore[assignment,misc]

import kcpsock
from kcpsock import Profile

from ._endpoint import Endpoint, resolved

__all__ = [
    "KCPHTTPConnection",
    "KCPHTTPConnectionPool",
    "KCPHTTPSConnection",
    "KCPHTTPSConnectionPool",
    "KCPPoolManager",
]


class KCPHTTPConnection(HTTPConnection):
    """An HTTP connection over KCP."""

    def __init__(
        self, *args: Any, profile: Optional[Profile] = None, endpoint: Optional[Endpoint] = None, **kwargs: Any
    ) -> None:
        self._kcp_profile, self._kcp_endpoint = resolved(profile, endpoint)
        super().__init__(*args, **kwargs)
        if self.proxy is not None:
            raise LocationValueError(f"{self.proxy} is a proxy, which speaks TCP; allowed over KCP is no proxy")

    def _new_conn(self) -> Any:
        # What HTTPConnection's own does, with kcpsock's socket and, if given, another address.
        host, port = self._kcp_endpoint or (self._dns_host.strip("[]"), self.port)
        dialled = host if self._kcp_endpoint is None else f"{host}:{port} for {self.host}"
        try:
            sock = kcpsock.create_connection(
                (host, port), self.timeout, source_address=self.source_address, profile=self._kcp_profile
            )
        except socket.gaierror as error:
            if NameResolutionError is not None:
                raise NameResolutionError(host, self, error) from error
            raise NewConnectionError(self, f"Failed to resolve {host!r}: {error}") from error
        except socket.timeout as error:
            raise ConnectTimeoutError(
                self, f"KCP connection to {dialled} timed out (connect timeout={self.timeout}): {error}"
            ) from error
        except OSError as error:
            raise NewConnectionError(self, f"Failed to establish a new KCP connection to {dialled}: {error}") from error
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
        except BaseException:
            sock.close()
            raise
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock


# HTTPSConnection is the verified or the unverified kind, as urllib3 chose.
class KCPHTTPSConnection(KCPHTTPConnection, HTTPSConnection):
    """An HTTPS connection over KCP; verification is urllib3's own."""


class KCPHTTPConnectionPool(HTTPConnectionPool):
    """HTTPConnectionPool over KCP, with `profile` and `endpoint` among its keywords."""

    ConnectionCls = KCPHTTPConnection


class KCPHTTPSConnectionPool(HTTPSConnectionPool):
    """HTTPSConnectionPool over KCP, with `profile` and `endpoint` among its keywords."""

    ConnectionCls = KCPHTTPSConnection


class KCPPoolManager(PoolManager):
    """PoolManager over KCP. All its pools have one profile and one endpoint."""

    def __init__(
        self,
        num_pools: int = 10,
        headers: Any = None,
        *,
        profile: Optional[Profile] = None,
        endpoint: Optional[Endpoint] = None,
        **connection_pool_kw: Any,
    ) -> None:
        profile, address = resolved(profile, endpoint)
        super().__init__(num_pools, headers, **connection_pool_kw)
        # Bound to the classes, since a pool's key in the manager has no room for them.
        pools: Any = {
            "http": functools.partial(KCPHTTPConnectionPool, profile=profile, endpoint=address),
            "https": functools.partial(KCPHTTPSConnectionPool, profile=profile, endpoint=address),
        }
        self.pool_classes_by_scheme = pools
