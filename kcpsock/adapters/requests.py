# SPDX-License-Identifier: MIT
"""requests over KCP. Needs the extra: `pip install kcpsock[requests]`.

An adapter for Session.mount(); timeouts, retries, redirects, keep-alive, streaming and verification are requests' own:

    import requests
    from kcpsock.adapters.requests import KCPAdapter

    session = requests.Session()
    session.mount("https://files.example", KCPAdapter(endpoint="kcp://203.0.113.5:4000?key=secret&mode=fast3"))
    session.get("https://files.example/big", stream=True, timeout=(5, 30))

`endpoint` is the KCP address to dial whatever the URL's host: (host, port), or "kcp://host:port?crypt=aes&..." with the
profile in its query. The Host header, SNI and the certificate's check remain the URL's. Without it the URL's host and
port are dialled. `profile` is how the connections behave; without it the default profile does.

Not supported: proxies. They speak TCP, so with one, also from the environment, a request raises ProxyError.
"""

from __future__ import annotations

from typing import Any, Optional

try:
    from requests.adapters import DEFAULT_POOLBLOCK, HTTPAdapter
    from requests.exceptions import ProxyError
except ImportError as error:
    raise ImportError("kcpsock.adapters.requests needs requests: pip install kcpsock[requests]") from error

from kcpsock import Profile

from ._endpoint import Endpoint, resolved
from .urllib3 import KCPPoolManager

__all__ = ["KCPAdapter"]


class KCPAdapter(HTTPAdapter):
    """HTTPAdapter over KCP, with HTTPAdapter's arguments beside its own."""

    __attrs__ = [*HTTPAdapter.__attrs__, "_kcp_profile", "_kcp_endpoint"]  # what a pickle holds

    def __init__(self, profile: Optional[Profile] = None, endpoint: Optional[Endpoint] = None, **kwargs: Any) -> None:
        self._kcp_profile, self._kcp_endpoint = resolved(profile, endpoint)
        super().__init__(**kwargs)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = DEFAULT_POOLBLOCK, **pool_kwargs: Any
    ) -> None:
        self._pool_connections, self._pool_maxsize, self._pool_block = connections, maxsize, block
        self.poolmanager = KCPPoolManager(
            connections,
            maxsize=maxsize,
            block=block,
            profile=self._kcp_profile,
            endpoint=self._kcp_endpoint,
            **pool_kwargs,
        )

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        raise ProxyError(
            "a proxy speaks TCP, and this URL is mounted on a KCPAdapter; allowed is no proxy: leave it out of "
            "`proxies`, and set session.trust_env = False or NO_PROXY if it is the environment's"
        )
