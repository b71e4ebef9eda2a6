# SPDX-License-Identifier: MIT
"""Where to dial, and how: what `profile` and `endpoint` mean in every adapter."""

from __future__ import annotations

from typing import Any, Optional, Union
from urllib.parse import SplitResult, urlsplit

from kcpsock import Profile

Endpoint = Union[str, tuple[str, int]]

_ALLOWED = 'allowed is (host, port), "kcp://host:port" with or without a profile\'s "?name=value&...", or None'


def resolved(
    profile: Optional[Profile], endpoint: Optional[Endpoint]
) -> tuple[Optional[Profile], Optional[tuple[str, int]]]:
    """The profile, None for the default one, and the (host, port) to dial, None for the URL's own.

    TypeError or ValueError, saying what is allowed, for anything else. No message shows a URL: it may hold a key.
    """
    if profile is not None and not isinstance(profile, Profile):
        raise TypeError(f"profile is a {type(profile).__name__}; allowed is a Profile or None")
    if endpoint is None:
        return profile, None
    if isinstance(endpoint, str):
        return _of_url(profile, endpoint)
    if not isinstance(endpoint, (tuple, list)) or len(endpoint) != 2:
        raise TypeError(f"endpoint is a {type(endpoint).__name__}; {_ALLOWED}")
    host, port = endpoint
    return profile, _address(host, port)


def _of_url(profile: Optional[Profile], url: str) -> tuple[Optional[Profile], tuple[str, int]]:
    of_url = Profile.from_url(url)  # which checks the scheme, too
    parts = urlsplit(url)
    host, port = parts.hostname, _port_of(parts)
    if port == -1:
        raise ValueError(f"endpoint: its port is not a number from 1 to 65535; {_ALLOWED}")
    if not host or port is None or parts.username is not None or parts.path not in ("", "/"):
        raise ValueError(f"endpoint: a URL here is a host, a port and a query; {_ALLOWED}")
    if parts.query and profile is not None:
        raise ValueError("endpoint: its query spells a profile, and profile is given too; allowed is one of them")
    return of_url if parts.query else profile, _address(host, port)


def _port_of(parts: SplitResult) -> Optional[int]:
    # -1 for what is no port. The error that says so shows it, and would be the context of ours.
    try:
        return parts.port
    except ValueError:
        return -1


def _address(host: Any, port: Any) -> tuple[str, int]:
    if not isinstance(host, str) or not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"endpoint is ({type(host).__name__}, {type(port).__name__}); {_ALLOWED}")
    if not host or "://" in host:
        raise ValueError("endpoint: its host is empty or a URL; allowed in a pair is a host's name or address")
    if not 1 <= port <= 65535:
        raise ValueError(f"endpoint: its port is {port}; allowed is 1 to 65535")
    return host, port
