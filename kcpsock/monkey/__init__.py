# SPDX-License-Identifier: MIT
"""Unchanged programs over KCP: the stdlib's module `socket` has kcpsock's socket in it.

    from kcpsock import monkey
    monkey.patch_socket()

or, with no line changed, `python -m kcpsock.monkey script.py ARGS` (__main__.py).

Patch before other modules are imported: who did `from socket import socket` before keeps the old class, and so does who
derived a class from it; patch_socket() warns and names them. With gevent.monkey it goes in either order: when gevent
patches the module later, it finds the stdlib's own names there, and kcpsock's stand there again when it is done.
"""

from __future__ import annotations

import socket as _module
import sys
import warnings
from typing import Any, Callable, Optional

import gevent.events
from gevent.monkey import get_original

import kcpsock
from kcpsock import Profile, RoutedSocket, get_default_profile

from ._routes import Routes, parse_route

__all__ = ["Routes", "is_patched", "parse_route", "patch_socket", "unpatch_socket"]

Route = Callable[[Any], Optional[Profile]]

# kcpsock's; the others of kcpsock.__implements__ are the stdlib's own here, for they look up `socket` in its module.
_OURS = ("close", "getaddrinfo", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo")
_THEIRS = ("create_connection", "create_server", "fromfd", "getfqdn", "has_dualstack_ipv6", "socketpair")
# Modules that hold the stdlib's class for good reason, or for nothing that matters.
_MAY_KEEP = ("_pytest", "gevent", "kcpsock", "socket", "ssl")

_replaced: Optional[dict[str, Any]] = None  # what stood in the module before us; None: not patched


def patch_socket(profile: Optional[Profile] = None, route: Optional[Route] = None) -> None:
    """Puts kcpsock's names into the stdlib's module `socket`, for all that looks them up there from now on.

    AF_INET and AF_INET6 streams are KCP with `profile`, without it the default profile of the moment.

    `route(address)` is asked at each connect() and bind(), in the thread that calls them, and gives the Profile for
    that address, or None: plain TCP then, by the kernel. The address is what the program passes: create_connection()
    looks up names first, so a route sees numbers (Routes also matches names). A listener that nobody bound is asked
    for as ("0.0.0.0", 0).

    Called again it changes profile and route for the sockets that are not connected yet.
    """
    if profile is not None and not isinstance(profile, Profile):
        raise TypeError(f"profile is a {type(profile).__name__}; allowed is a Profile or None")
    if route is not None and not callable(route):
        raise TypeError(f"route is a {type(route).__name__}; allowed is a callable or None")
    if route is not None and profile is not None:
        raise ValueError("profile and route are both given; with a route, it is the route that gives the profile")
    RoutedSocket.route = staticmethod(route or (lambda address: profile or get_default_profile()))
    if _replaced is not None:
        return
    _put_in()
    if _around_gevents_patch not in gevent.events.subscribers:
        gevent.events.subscribers.append(_around_gevents_patch)
    late = _who_keeps(kcpsock.socket.__bases__[0])
    if late:
        warnings.warn(
            f"imported before kcpsock.monkey.patch_socket(), these keep the stdlib's socket class: {', '.join(late)}; "
            f"patch first",
            RuntimeWarning,
            stacklevel=2,
        )


def unpatch_socket() -> None:
    """Puts back what patch_socket() replaced. Sockets that exist stay what they are."""
    _take_out()
    if _around_gevents_patch in gevent.events.subscribers:
        gevent.events.subscribers.remove(_around_gevents_patch)


def is_patched() -> bool:
    """Whether the module `socket` has kcpsock's names."""
    return _replaced is not None


def _names() -> dict[str, Any]:
    names = {name: getattr(kcpsock, name) for name in _OURS}
    names.update({name: get_original("socket", name) for name in _THEIRS if hasattr(_module, name)})
    return {"socket": RoutedSocket, **names}


def _put_in() -> None:
    global _replaced
    names = _names()
    _replaced = {name: getattr(_module, name) for name in names}
    for name, value in names.items():
        setattr(_module, name, value)


def _take_out() -> None:
    # A name that somebody else has replaced after us stays theirs.
    global _replaced
    replaced, _replaced = _replaced, None
    names = _names()
    for name, value in (replaced or {}).items():
        if getattr(_module, name) is names[name]:
            setattr(_module, name, value)


def _around_gevents_patch(event: Any) -> None:
    # gevent shall keep the stdlib's names as its originals, not ours.
    if getattr(event, "module_name", None) != "socket":
        return
    if isinstance(event, gevent.events.GeventWillPatchModuleEvent):
        _take_out()
    elif isinstance(event, gevent.events.GeventDidPatchModuleEvent) and _replaced is None:
        _put_in()


def _who_keeps(original: Any) -> list[str]:
    # The modules that have the class itself under some name, or a class made of it.
    found = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _MAY_KEEP or module is None:
            continue
        for value in list(getattr(module, "__dict__", {}).values()):
            derived = isinstance(value, type) and value.__module__ == name and original in value.__mro__
            if value is original or (derived and not issubclass(value, kcpsock.socket)):
                found.append(name)
                break
    return sorted(found)
