# SPDX-License-Identifier: MIT
"""The module's functions that differ from the stdlib's: they make kcpsock's sockets, or wait cooperatively in a
greenlet.

As in the stdlib each looks up `socket`, `getaddrinfo` and the rest in the module (kcpsock) when it is called, because
programs and tests replace them there.
"""

from __future__ import annotations

import _socket
import socket as _stdlib
import sys
from typing import Any, Optional

from gevent.monkey import get_original

import kcpsock

from . import _life, _wait
from ._profile import Profile

_dup = _socket.dup
_native_getaddrinfo = get_original("socket", "getaddrinfo")
_GLOBAL_DEFAULT_TIMEOUT = _stdlib._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]


def create_connection(
    address: tuple[Any, Any],
    timeout: Any = _GLOBAL_DEFAULT_TIMEOUT,
    source_address: Optional[tuple[Any, Any]] = None,
    *,
    all_errors: bool = False,
    profile: Optional[Profile] = None,
) -> Any:
    """Connects to (host, port), trying each address that the name has; returns the socket.

    As the stdlib's, with `profile`. Raises the last address's error, or with `all_errors` (Python 3.11) an
    ExceptionGroup of all.
    """
    host, port = address
    extra: dict[str, Any] = {} if profile is None else {"profile": profile}
    errors: list[OSError] = []
    for family, kind, proto, _, target in kcpsock.getaddrinfo(host, port, 0, kcpsock.SOCK_STREAM):
        sock = None
        try:
            sock = kcpsock.socket(family, kind, proto, **extra)
            if timeout is not _GLOBAL_DEFAULT_TIMEOUT:
                sock.settimeout(timeout)
            if source_address:
                sock.bind(source_address)
            sock.connect(target)
            errors.clear()  # they hold frames, and those the socket
            return sock
        except OSError as error:
            if not all_errors:
                errors.clear()
            errors.append(error)
            if sock is not None:
                sock.close()
        except BaseException:
            if sock is not None:
                sock.close()
            raise
    if not errors:
        raise OSError("getaddrinfo returns an empty list")
    try:
        if all_errors and sys.version_info >= (3, 11):
            raise ExceptionGroup("create_connection failed", errors)  # noqa: F821
        raise errors[-1]
    finally:
        errors.clear()


def create_server(
    address: tuple[Any, ...],
    *,
    family: int = _stdlib.AF_INET,
    backlog: Optional[int] = None,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
    profile: Optional[Profile] = None,
) -> Any:
    """A listening socket bound to `address`. As the stdlib's, with `profile`."""
    if reuse_port and not hasattr(_stdlib, "SO_REUSEPORT"):
        raise ValueError("SO_REUSEPORT not supported on this platform")
    if dualstack_ipv6:
        if not kcpsock.has_dualstack_ipv6():
            raise ValueError("dualstack_ipv6 not supported on this platform")
        if family != _stdlib.AF_INET6:
            raise ValueError("dualstack_ipv6 requires AF_INET6 family")
    extra: dict[str, Any] = {} if profile is None else {"profile": profile}
    sock = kcpsock.socket(family, _stdlib.SOCK_STREAM, **extra)
    try:
        sock.setsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_REUSEPORT, 1)
        if _stdlib.has_ipv6 and family == _stdlib.AF_INET6:
            sock.setsockopt(_stdlib.IPPROTO_IPV6, _stdlib.IPV6_V6ONLY, int(not dualstack_ipv6))
        try:
            sock.bind(address)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} (while attempting to bind on address {address!r})") from None
        if backlog is None:
            sock.listen()
        else:
            sock.listen(backlog)
        return sock
    except BaseException:
        sock.close()
        raise


def has_dualstack_ipv6() -> bool:
    """Whether one AF_INET6 stream socket can take IPv4 and IPv6 clients here."""
    if not _stdlib.has_ipv6 or not hasattr(_stdlib, "IPPROTO_IPV6") or not hasattr(_stdlib, "IPV6_V6ONLY"):
        return False
    try:
        with kcpsock.socket(_stdlib.AF_INET6, _stdlib.SOCK_STREAM) as sock:
            sock.setsockopt(_stdlib.IPPROTO_IPV6, _stdlib.IPV6_V6ONLY, 0)
            return True
    except OSError:
        return False


def fromfd(fd: int, family: int, type: int, proto: int = 0) -> Any:
    """A socket on a duplicate of a descriptor; a KCP one if the descriptor is."""
    duplicate = _dup(fd)
    try:
        return kcpsock.socket(family, type, proto, duplicate)
    except BaseException:
        _socket.close(duplicate)
        raise


def socketpair(family: Optional[int] = None, type: int = _stdlib.SOCK_STREAM, proto: int = 0) -> tuple[Any, Any]:
    """A pair of connected sockets, AF_UNIX unless said otherwise; not KCP."""
    a, b = _socket.socketpair(_stdlib.AF_UNIX if family is None else family, type, proto)
    family = _stdlib.AF_UNIX if family is None else family
    return kcpsock.socket(family, type, proto, a.detach()), kcpsock.socket(family, type, proto, b.detach())


def close(fd: int) -> None:
    """Closes a socket's descriptor."""
    _life.forget_detached(fd)
    _socket.close(fd)


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[Any]:
    """As the stdlib's; in a greenlet its hub's resolver finds the addresses."""
    hub = _wait.cooperative_hub()
    if hub is None:
        found: list[Any] = _native_getaddrinfo(host, port, family, type, proto, flags)
        return found
    return [
        (_enum(af, _stdlib.AddressFamily), _enum(kind, _stdlib.SocketKind), proto, name, address)
        for af, kind, proto, name, address in hub.resolver.getaddrinfo(
            _wait.for_resolver(host), port, family, type, proto, flags
        )
    ]


def gethostbyname(hostname: Any, /) -> str:
    """As the stdlib's; in a greenlet through its hub's resolver."""
    return str(_resolver().gethostbyname(hostname))


def gethostbyname_ex(hostname: Any, /) -> tuple[str, list[str], list[str]]:
    """As the stdlib's; in a greenlet through its hub's resolver."""
    found: tuple[str, list[str], list[str]] = _resolver().gethostbyname_ex(hostname)
    return found


def gethostbyaddr(host: Any, /) -> tuple[str, list[str], list[str]]:
    """As the stdlib's; in a greenlet through its hub's resolver."""
    found: tuple[str, list[str], list[str]] = _resolver().gethostbyaddr(host)
    return found


def getnameinfo(sockaddr: Any, flags: int, /) -> tuple[str, str]:
    """As the stdlib's; in a greenlet through its hub's resolver."""
    try:
        found: tuple[str, str] = _resolver().getnameinfo(sockaddr, flags)
        return found
    finally:
        del sockaddr  # the stdlib's leaves no reference in a traceback, and test_socket looks


def getfqdn(name: str = "") -> str:
    """The fully qualified name of a host, this one without a name."""
    name = name.strip()
    if not name or name in ("0.0.0.0", "::"):
        name = kcpsock.gethostname()
    try:
        hostname, aliases, _ = kcpsock.gethostbyaddr(name)
    except OSError:
        return name
    return next((candidate for candidate in (hostname, *aliases) if "." in candidate), hostname)


def _resolver() -> Any:
    # Who finds names without blocking what must not block.
    hub = _wait.cooperative_hub()
    return _socket if hub is None else hub.resolver


def _enum(value: int, kind: Any) -> Any:
    try:
        return kind(value)
    except ValueError:
        return value
