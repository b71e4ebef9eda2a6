# SPDX-License-Identifier: MIT
"""TLS by the stdlib's `ssl`, and by gevent's: wrap_socket() of a KCP socket gives a socket that is KCP's too.

Both make an object of their own on the descriptor of the socket that they wrap. Bytes flow through it as they are, but
accept(), connect(), names and options would be those of an AF_UNIX pair. So the object gets a class that joins theirs
and ours, decided where it is created, by its descriptor: what it says as `super().accept()` then reaches kcpsock. TLS
on other sockets is not touched, nor is the class `socket.socket`.

`prepare()` is called by getsockopt(SO_TYPE), the first thing that both ask of a socket to be wrapped: only then is it
known that `ssl` is imported, and importing it here would be too early for gevent.monkey.
"""

from __future__ import annotations

import _socket
import sys
import weakref
from typing import Any

from gevent.monkey import get_original

import kcpsock

from . import _engine, _life

_prepared: set[Any] = set()
_joined: dict[tuple[Any, Any], Any] = {}


def prepare() -> None:
    """Has the ssl modules that are imported know KCP sockets."""
    if "ssl" in sys.modules:
        stdlib = get_original("ssl", "SSLSocket")
        if stdlib not in _prepared:
            _prepared.add(stdlib)
            _prepare_stdlib(stdlib)
    gevent_ssl = sys.modules.get("gevent.ssl")
    ours = getattr(gevent_ssl, "SSLSocket", None)
    if ours is not None and ours not in _prepared:
        _prepared.add(ours)
        _prepare_gevent(ours)


def _class_behind(fd: Any) -> Any:
    # The kcpsock class that a descriptor stands for, None for what is not KCP.
    life = _life.known(fd)
    if life is not None:
        for sock in life.others(None):
            return sock._plain_class
    elif not isinstance(fd, int) or _engine.kind(fd) == _engine.NOT_KCP:
        return None
    return kcpsock.socket


def _prepare_stdlib(stdlib: Any) -> None:
    # SSLSocket._create() makes its object by cls.__new__(cls, fileno=..., ...), and goes on with super() only.
    def __new__(cls: Any, *args: Any, **kwargs: Any) -> Any:
        ours = _class_behind(kwargs.get("fileno"))
        if ours is not None and not issubclass(cls, ours):
            cls = _join(cls, cls, ours)
        return _socket.socket.__new__(cls, *args, **kwargs)

    stdlib.__new__ = staticmethod(__new__)


def _prepare_gevent(theirs: Any) -> None:
    # gevent's sockets hold a `_socket.socket`, in non-blocking mode, and wait for it: that one is ours then.
    original = theirs._gevent_sock_class

    def _gevent_sock_class(self: Any, family: int, type: int, proto: int, fileno: Any) -> Any:
        ours = _class_behind(fileno)
        if ours is None:
            return original(self, family, type, proto, fileno)
        sock = _join(theirs, _Inner, ours)(family, type, proto, fileno)
        sock._sslsock = weakref.ref(self)
        return sock

    theirs._gevent_sock_class = _gevent_sock_class


def _join(named: Any, first: Any, ours: Any) -> Any:
    # The class made of `first` and `ours`, that goes by the name of `named`.
    made = _joined.get((named, ours))
    if made is None:
        names = {"__module__": named.__module__, "__qualname__": named.__qualname__, "_plain_class": ours}
        made = _joined[named, ours] = type(named.__name__, (first, ours), names)
    return made


class _Inner:
    # What gevent's SSLSocket expects of the socket it holds.

    __slots__ = ()

    def _accept(self: Any) -> tuple[int, Any]:
        sock, peer = self.accept()
        return sock.detach(), peer
