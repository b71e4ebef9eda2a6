# SPDX-License-Identifier: MIT
"""httpx over KCP. Needs the extra: `pip install kcpsock[httpx]`.

A transport for httpx.Client; timeouts, redirects, keep-alive, streaming and verification are httpx's own:

    import httpx
    from kcpsock.adapters.httpx import KCPTransport

    with httpx.Client(transport=KCPTransport(endpoint="kcp://203.0.113.5:4000?key=secret")) as client:
        client.get("https://files.example/")

`endpoint` is the KCP address to dial whatever the URL's host: (host, port), or "kcp://host:port?crypt=aes&..." with the
profile in its query. The Host header, SNI and the certificate's check remain the URL's. Without it the URL's host and
port are dialled. `verify`, `cert`, `limits`, `retries` and so on are KCPTransport's arguments, as they are
HTTPTransport's: httpx ignores the client's own ones, and proxies of the environment, when it is given a transport.

Not supported: proxies, which speak TCP (ValueError), and httpx.AsyncClient, which waits otherwise than a socket does:
run the client in a thread (asyncio.to_thread), or use asyncio's streams with kcpsock's socket, as examples/ shows.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any, NoReturn, Optional, Union

try:
    import httpcore
    import httpx
except ImportError as error:
    raise ImportError("kcpsock.adapters.httpx needs httpx: pip install kcpsock[httpx]") from error

from kcpsock import Profile

from ._endpoint import Endpoint
from .httpcore import KCPBackend

__all__ = ["KCPTransport"]


class KCPTransport(httpx.HTTPTransport):
    """httpx.HTTPTransport over KCP, with HTTPTransport's arguments beside its own."""

    def __init__(
        self,
        profile: Optional[Profile] = None,
        endpoint: Optional[Endpoint] = None,
        *,
        verify: Union[ssl.SSLContext, str, bool] = True,
        cert: Any = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: Optional[httpx.Limits] = None,
        local_address: Optional[str] = None,
        retries: int = 0,
        socket_options: Optional[Iterable[Any]] = None,
        proxy: None = None,
        uds: None = None,
    ) -> None:
        backend = KCPBackend(profile, endpoint)
        if proxy is not None:
            raise ValueError("proxy is given, and a proxy speaks TCP; allowed over KCP is None")
        if uds is not None:
            raise ValueError("uds is given, a Unix socket; allowed over KCP is None")
        if limits is None:
            limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
        # HTTPTransport has no argument for a backend, so this takes the place of its __init__; the rest works on _pool.
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(verify=verify, cert=cert, trust_env=trust_env),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            http1=http1,
            http2=http2,
            local_address=local_address,
            retries=retries,
            socket_options=socket_options,
            network_backend=backend,
        )

    async def __aenter__(self) -> NoReturn:
        raise RuntimeError("KCPTransport is for httpx.Client; httpx.AsyncClient has no transport over KCP")

    async def handle_async_request(self, request: httpx.Request) -> NoReturn:
        await self.__aenter__()
