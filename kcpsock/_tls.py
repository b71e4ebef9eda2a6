# SPDX-License-Identifier: MIT
"""TLS by the stdlib's `ssl`, and by gevent's: wrap_socket() of a KCP socket gives a socket that is KCP's too.

Both make an object of their own on the descriptor of the socket that they wrap. Bytes flow through it as they are, but
accept(), connect(), names and options would be those of an AF_UNIX pair. So the object gets a class that joins theirs
and ours, decided where it is created, by its descriptor: what it says as `super().accept()` then reaches kcpsock. TLS
on other sockets is not touched, nor is the class `socket.socket`.

What ssl's C code does goes past kcpsock, to the descriptor: when the connection breaks, it reads an end of the stream,
which it passes on as one, or meets EPIPE. So the C object (`_sslobj`) is held in a `_Told`, which has the errno that
the engine kept.

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

from . import _connections, _life

_prepared: set[Any] = set()
_joined: dict[Any, Any] = {}


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
    elif not isinstance(fd, int) or _connections.kind(fd) == _connections.NOT_KCP:
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
        self.__class__ = _join_gevent(self.__class__)
        return sock

    theirs._gevent_sock_class = _gevent_sock_class


def _join(named: Any, first: Any, ours: Any) -> Any:
    # The class made of `first` and `ours`, that goes by the name of `named`.
    made = _joined.get((named, first, ours))
    if made is None:
        names = {"__module__": named.__module__, "__qualname__": named.__qualname__, "_plain_class": ours}
        bases = (_Inner, ours) if first is _Inner else (_Outer, first, ours)
        made = _joined[named, first, ours] = type(named.__name__, bases, names)
    return made


def _join_gevent(named: Any) -> Any:
    # gevent's class, with what _Outer adds; the socket that it holds is joined with ours.
    made = _joined.get(named)
    if made is None:
        names = {"__module__": named.__module__, "__qualname__": named.__qualname__, "__slots__": ()}
        made = _joined[named] = type(named.__name__, (_Outer, named), names)
    return made


class _Outer:
    # What an SSLSocket gets beside its own: its C object, once there is one, is a _Told.

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_sslobj" and value is not None:
            value = _Told(value, getattr(self, "_sock", self))
        super().__setattr__(name, value)


class _Told:
    # ssl's C object of a KCP socket: as it is, but what ended the connection comes out as TCP would tell it.

    __slots__ = ("_object", "_sock")

    def __init__(self, c_object: Any, sock: Any) -> None:
        object.__setattr__(self, "_object", c_object)
        object.__setattr__(self, "_sock", weakref.ref(sock))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._object, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._object, name, value)

    def read(self, *args: Any) -> Any:
        try:
            return self._object.read(*args)
        except OSError as error:
            self._tell(error, reads=True)
            if isinstance(error, BrokenPipeError) or _is_of_system(error):
                # At the end of the stream OpenSSL 3.5 sends an alert, and tells how that went
                ssl = sys.modules["ssl"]
                raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol") from None
            raise

    def write(self, data: Any) -> Any:
        try:
            return self._object.write(data)
        except OSError as error:
            self._tell(error)
            raise

    def do_handshake(self) -> Any:
        try:
            return self._object.do_handshake()
        except OSError as error:
            self._tell(error)
            raise

    def shutdown(self) -> Any:
        try:
            return self._object.shutdown()
        except OSError as error:
            self._tell(error)
            raise

    def _tell(self, error: OSError, *, reads: bool = False) -> None:
        sock = self._sock()
        if sock is not None and _is_end(error):
            sock._raise_error(reads=reads)


def _is_end(error: OSError) -> bool:
    # What ssl says of a descriptor whose other end is gone, in one version or another.
    ssl = sys.modules["ssl"]
    return (
        isinstance(error, (ssl.SSLEOFError, ssl.SSLSyscallError, BrokenPipeError, ConnectionResetError))
        or error.errno == 0
        or getattr(error, "reason", None) == "UNEXPECTED_EOF_WHILE_READING"
        or _is_of_system(error)
    )


def _is_of_system(error: OSError) -> bool:
    # How a failed read(2) or write(2) comes out of OpenSSL 3.5 in CPython 3.13: without its errno.
    return getattr(error, "library", None) == "SYS"


class _Inner:
    # What gevent's SSLSocket expects of the socket it holds.

    __slots__ = ()

    def _accept(self: Any) -> tuple[int, Any]:
        sock, peer = self.accept()
        return sock.detach(), peer
