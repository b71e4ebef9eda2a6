# SPDX-License-Identifier: MIT
"""A socket that is KCP or the kernel's TCP, as `RoutedSocket.route` says of the address that it connects to or binds.

Until then it is a fresh KCP socket. To become TCP it puts a TCP socket under its descriptor number, and under those of
its duplicates, and has no `_life` any more: what it is told then goes to the kernel. The Life stays aside (`_shelved`)
while there is no connection, since a socket bound for a KCP client may yet connect to a TCP server, and the reverse.
The options that the program set are set again on what takes the place.

The room `monkey` puts this class in the place of the stdlib's.
"""

from __future__ import annotations

import _socket
import os
from errno import EADDRINUSE
from typing import Any, Callable, ClassVar, Optional

from . import _options, _wait
from ._life import Life
from ._profile import Profile, get_default_profile
from ._socket import socket
from ._states import Event, State

_TCP_CLOSE = 7  # the state in struct tcp_info of a socket that has no connection and does not listen


class RoutedSocket(socket):
    """A kcpsock.socket that becomes KCP or TCP at connect() and bind().

    `RoutedSocket.route`, one for the process, is called with the address, and gives the Profile of a KCP socket or
    None for TCP. A socket that was bound is routed again by the address that it connects to: it keeps its name, if that
    is free there, and changes its kind, if it must.
    """

    __slots__ = ("_any_port", "_shelved")
    __module__ = "kcpsock"

    route: ClassVar[Callable[[Any], Optional[Profile]]] = staticmethod(lambda address: get_default_profile())

    _any_port: bool
    _shelved: Optional[Life]

    def __init__(
        self,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: Optional[int] = None,
        *,
        profile: Optional[Profile] = None,
    ) -> None:
        self._any_port = False
        self._shelved = None
        super().__init__(family, type, proto, fileno, profile=profile)

    @property
    def _plain_class(self) -> Any:
        return RoutedSocket

    def _accepted_class(self) -> Any:
        return RoutedSocket

    def bind(self, address: Any, /) -> None:
        self._follow_route(address)
        super().bind(address)
        self._any_port = address[1] == 0

    def listen(self, backlog: Optional[int] = None, /) -> None:
        if self._life is not None and self._life.state is State.NEW:
            self._follow_route(self._life.laddr)  # the wildcard: as if bound to it
        super().listen(backlog)
        self._shelved = None

    def _dial(self, address: Any, call: Callable[..., Any]) -> int:
        self._follow_route(address)
        return super()._dial(address, call)

    def setsockopt(self, *args: Any) -> None:
        super().setsockopt(*args)
        if self._shelved is not None and len(args) == 3:
            _options.remember(self._shelved, args[0], args[1], args[2])

    def _follow_route(self, address: Any) -> None:
        # Becomes what `address` asks for, if it may still change, and `address` looks like one.
        life = self._life or self._shelved
        if life is None or self.fileno() < 0 or not isinstance(address, tuple) or len(address) < 2:
            return
        if self._life is not None:
            self._refresh(life)
            changeable = life.state in (State.NEW, State.BOUND)
        else:
            changeable = self.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, 1) == bytes((_TCP_CLOSE,))
        if not changeable:
            return
        profile = RoutedSocket.route(address)
        if profile is None:
            if self._life is not None:
                self._become_tcp(life)
            return
        if not isinstance(profile, Profile):
            kind = type(profile).__name__
            raise TypeError(f"route({address!r}) gave a {kind}; allowed is a Profile, or None for TCP")
        if self._life is None:
            self._become_kcp(life)
        life.profile = profile

    def _become_tcp(self, life: Life) -> None:
        tcp = _socket.socket(life.family, _socket.SOCK_STREAM)
        try:
            _options.copy_to(tcp, life)
            if life.bound:
                self._bind_again(tcp.bind, life.bound)
            life.close_port()
            life.forget_name()
            for sock in (self, *life.others(self)):
                os.dup2(tcp.fileno(), sock.fileno(), inheritable=sock.get_inheritable())
                _wait.moved(sock)
                sock._life = None
                if isinstance(sock, RoutedSocket):
                    sock._shelved = life
            self.settimeout(self.gettimeout())  # O_NONBLOCK, on the new file
        finally:
            tcp.close()

    def _become_kcp(self, life: Life) -> None:
        name = self.getsockname()
        inheritable = self.get_inheritable()
        stand_in = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            os.dup2(stand_in.fileno(), self.fileno(), inheritable=inheritable)
            _wait.moved(self)
        finally:
            stand_in.close()
        self._life, self._shelved = life, None
        life.join(self)
        self.settimeout(self.gettimeout())
        _options.apply_all(self, life)
        if name[1]:
            self._bind_again(life.bind, name)
            life.move(Event.BIND)

    def _bind_again(self, bind: Callable[[Any], None], name: Any) -> None:
        # The same port of the other kind, UDP's or TCP's. If it is taken there, and any was good, any other.
        try:
            bind(name)
        except OSError as error:
            if error.errno != EADDRINUSE or not self._any_port:
                raise
            bind((name[0], 0, *name[2:]))
