# SPDX-License-Identifier: MIT
"""A Life is what a KCP socket is, apart from its descriptor: state, names, profile, options, and its UDP port before an
engine has it.

Duplicates of a socket in this process (dup(), fromfd(), an SSLSocket on the same descriptor) share one Life; it is
found by the descriptor's inode, in a table of weak references.

The UDP port is an ordinary UDP socket, so the kernel itself says what is wrong with an address. bind() parks it:
strangers are refused. It only keeps the address: listen() and connect() bind another one beside it, for an engine.
"""

from __future__ import annotations

import _socket
import atexit
import ipaddress
import os
import sys
import weakref
from errno import EACCES, EADDRINUSE, ECONNREFUSED, ENETUNREACH
from typing import Any, Callable, Optional

from gevent.monkey import get_original

from . import _connections, _wait
from ._connections import Address
from ._errors import check, error_of
from ._oob import Registration
from ._profile import Profile
from ._states import Event, State, following

RLock = get_original("_thread", "RLock")

# Set on the stream socket, in force on the UDP socket: what concerns the port and the IP header. SO_REUSEADDR is not
# among them: on UDP it would let a second server take the port.
_PASSED_ON = tuple(
    (getattr(_socket, level), getattr(_socket, name))
    for level, name in (
        ("SOL_SOCKET", "SO_REUSEPORT"),
        ("SOL_SOCKET", "SO_BINDTODEVICE"),
        ("SOL_SOCKET", "SO_MARK"),
        ("SOL_SOCKET", "SO_PRIORITY"),
        ("SOL_SOCKET", "SO_BROADCAST"),
        ("IPPROTO_IP", "IP_TTL"),
        ("IPPROTO_IP", "IP_TOS"),
        ("IPPROTO_IPV6", "IPV6_V6ONLY"),
        ("IPPROTO_IPV6", "IPV6_UNICAST_HOPS"),
        ("IPPROTO_IPV6", "IPV6_TCLASS"),
    )
    if hasattr(_socket, name)
)
if sys.platform.startswith("linux"):
    # IP_FREEBIND, IP_TRANSPARENT, IPV6_TRANSPARENT, IPV6_FREEBIND: which addresses bind() takes; Python has no names.
    _PASSED_ON += ((0, 15), (0, 19), (41, 75), (41, 78))


class Life:
    """One KCP socket's common knowledge."""

    __slots__ = (
        "__weakref__",
        "adopted",
        "bound",
        "changing",
        "error",
        "family",
        "laddr",
        "members",
        "oob",
        "options",
        "profile",
        "raddr",
        "shut_rd",
        "shut_wr",
        "state",
        "survivors",
        "udp_fd",
    )

    def __init__(self, family: int, profile: Profile, state: State = State.NEW) -> None:
        self.family = family
        self.profile = profile
        self.state = state
        self.changing = RLock()  # held while a descriptor becomes an engine's; a signal handler may come in
        self.laddr: Address = ("0.0.0.0", 0) if family == _socket.AF_INET else ("::", 0, 0, 0)
        self.raddr: Optional[Address] = None
        self.bound: Optional[Address] = None  # what bind() gave; a later attempt to connect or listen takes it again
        self.adopted = False  # udp_fd is the port of connections that live on: it is not parked, and only for listen()
        self.survivors = False  # connections of a closed listener have sockets of their own on this port
        self.udp_fd = -1  # the parked socket, from bind() until an engine has one of the same address
        self.shut_rd = self.shut_wr = False  # which directions shutdown() has ended
        self.error = 0  # an errno found on the way, for the call that reports it
        self.options: dict[tuple[int, int], bytes] = {}  # (level, option) -> what the program set
        self.oob: Optional[Registration] = None  # who gets out-of-band packets
        self.members: list[weakref.ref[Any]] = []  # the sockets that share this

    def __del__(self) -> None:
        self.close_port()

    def move(self, event: Event) -> None:
        """Takes the step that the table says, or raises its OSError."""
        state = following(self.state, event)
        if state is State.NEW:
            self.raddr = None
            self.laddr = self.bound or Life(self.family, self.profile).laddr
            if self.bound:
                state = State.BOUND
        self.state = state

    def others(self, sock: Any) -> list[Any]:
        """The other open sockets that share this."""
        members = [member() for member in self.members]
        return [member for member in members if member is not None and member is not sock and member.fileno() >= 0]

    def join(self, sock: Any) -> None:
        """Makes `sock`, with its descriptor of this moment, a member."""
        self.members = [member for member in self.members if member() not in (None, sock)]
        self.members.append(weakref.ref(sock))
        self.announce(sock.fileno())

    def announce(self, fd: int) -> None:
        """Lets socket(fileno=fd) find this."""
        _lives[_inode(fd)] = self

    # --- the UDP port

    def forget_name(self) -> None:
        """Back to a fresh socket: what bind() gave is another's now."""
        self.bound, self.adopted = None, False
        self.state = State.NEW
        self.laddr = Life(self.family, self.profile).laddr

    def bind(self, address: Any) -> None:
        """Binds and parks a UDP port; raises what the kernel, or the resolver, says of the address."""
        self.bound = self.laddr = self._take(_wait.resolved(self.family, address))

    def _take(self, address: Any) -> Address:
        udp = self._bound_or_adopted(address)
        try:
            name: Address = udp.getsockname()
            if not self.adopted:
                _connections.park(udp.fileno())
        except BaseException:
            udp.close()
            raise
        self.udp_fd = udp.detach()
        return name

    def close_port(self, _close: Any = _socket.close) -> None:
        """Gives a parked port back."""
        udp_fd, self.udp_fd = self.udp_fd, -1
        if udp_fd >= 0:
            _close(udp_fd)

    def dial(self, address: Any, call: Callable[..., Any]) -> int:
        """A UDP descriptor connected to `address`, which is `_wait.resolved`, for connect(); sets both names. Raises as
        bind() does. `call`: the stdlib's connect() or connect_ex(), in whose name it speaks of a wrong address."""
        if self.adopted:
            raise error_of(EADDRINUSE)
        udp = self._port()
        try:
            errno = _connected(udp, address, call)
            if not errno and address[1] == 0:
                errno = ECONNREFUSED  # UDP takes port 0 as "no peer"; nobody can listen there
            elif not errno and udp.getsockname() == udp.getpeername():
                errno = ECONNREFUSED  # it is not listening; the kernel may have given it the very port it asks for
            check(-errno)
            self.laddr, self.raddr = udp.getsockname(), udp.getpeername()
        except BaseException:
            udp.close()
            raise
        self.close_port()
        return int(udp.detach())

    def open_port(self, count: int) -> list[int]:
        """`count` unconnected UDP descriptors bound to one address, for listen(): bind()'s, or any free port.

        One only when connections still hold it: the engines have the others; or the kernel, choosing among several,
        might not see that a connection has one of its own.
        """
        if not self.bound:
            self.bind(("", 0))
        count = 1 if self.adopted or self.survivors else count
        first = self._port()
        self.close_port()
        self.laddr = self.bound or self.laddr
        sockets = [first]
        try:
            if count > 1:
                self._spread(sockets, count)
            return [int(udp.detach()) for udp in sockets]
        finally:
            for udp in sockets:
                udp.close()  # not the detached ones

    def _spread(self, sockets: list[Any], count: int) -> None:
        # Adds sockets to the first, over all of which the kernel spreads the peers. A packet that came before all are
        # there would go to one socket, and its peer's next ones to another: so until then none is let in.
        first = sockets[0]
        _connections.shut_out(first.fileno())
        first.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        while len(sockets) < count:
            udp = self._udp_socket()
            sockets.append(udp)
            _connections.shut_out(udp.fileno())
            udp.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
            udp.bind(first.getsockname())
        for udp in sockets:
            _connections.let_in(udp.fileno())

    def _port(self) -> Any:
        # The UDP socket that connect() or listen() starts from; the parked one stays until they succeed.
        if not self.bound:
            return self._udp_socket()
        if self.udp_fd < 0:
            self._take(self.bound)  # an engine may be about to close the one of the last attempt
            if self.adopted:
                self.adopted = False
                self.close_port()
                raise error_of(EADDRINUSE)
        parked = _socket.socket(self.family, _socket.SOCK_DGRAM, 0, self.udp_fd)
        try:
            if not self.adopted:
                return self._beside(parked, self.bound)
            self.adopted = False
            self.udp_fd = -1
            return _socket.socket(self.family, _socket.SOCK_DGRAM, 0, parked.detach())
        finally:
            parked.detach()

    def _beside(self, holder: Any, name: Address) -> Any:
        # A UDP socket with the name of another one, and all options of now. The kernel allows it to sockets that all
        # have SO_REUSEADDR, for as long as it takes; the name is free at no moment.
        udp = self._udp_socket()
        try:
            try:
                for sock in (holder, udp):
                    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
                udp.bind(name)
            finally:
                for sock in (holder, udp):
                    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 0)
        except BaseException:
            udp.close()
            raise
        return udp

    def _udp_socket(self) -> Any:
        udp = _socket.socket(self.family, _socket.SOCK_DGRAM)
        for level, option in _PASSED_ON:
            if (level, option) in self.options:
                udp.setsockopt(level, option, self.options[level, option])
        return udp

    def _bound_or_adopted(self, address: Any) -> Any:
        # As _bound(); but a port that an engine still holds, for connections of a listener that was closed, is not in
        # use: it is adopted.
        self.adopted = self.survivors = False
        try:
            return self._bound(address)
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise
            host, port = address[0] or None, address[1]
            name: Any = _socket.getaddrinfo(host, port, self.family, _socket.SOCK_DGRAM, 0, _socket.AI_PASSIVE)[0][4]
            reuse = self.options.get((_socket.SOL_SOCKET, _socket.SO_REUSEADDR), b"\0")
            with_v4 = (_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY)
            v6only = self.family == _socket.AF_INET6 and any(self.options.get(with_v4) or _default(*with_v4))
            fd = _connections.adopt(self.family, name, v6only, any(reuse))
        if fd < 0:
            self.survivors = True
            return self._bound(address, beside=any(reuse))  # engines have let go of what they could
        self.adopted = True
        return _socket.socket(self.family, _socket.SOCK_DGRAM, 0, fd)

    def _bound(self, address: Any, beside: bool = False) -> Any:
        # A UDP socket bound to `address`; also where living connections have it, if they were allowed others.
        udp = self._udp_socket()
        try:
            if not isinstance(address, tuple) or len(address) < 2 or address[1] != 0:
                if beside:
                    udp.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
                udp.bind(address)
                udp.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 0)
                return udp
            # A port that the kernel chose is given back when a socket is disconnected, as parking may do; one that was
            # asked for is kept. So let it choose, then ask for that one while the first socket still holds it.
            udp.bind(address)
            lasting = self._beside(udp, udp.getsockname())
            # A child that another thread forks now has a copy, which must not stand in the way of listen().
            udp.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            udp.close()
            return lasting
        except BaseException:
            udp.close()
            raise


def _connected(udp: Any, address: Any, call: Callable[..., Any]) -> int:
    # connect() to one peer, as TCP has it: an address of many is none. UDP asks SO_BROADCAST of who sends to all.
    allowed = udp.getsockopt(_socket.SOL_SOCKET, _socket.SO_BROADCAST)
    udp.setsockopt(_socket.SOL_SOCKET, _socket.SO_BROADCAST, 0)
    errno = errno_of(call, udp, address)
    if errno == EACCES:
        udp.setsockopt(_socket.SOL_SOCKET, _socket.SO_BROADCAST, 1)
        errno = errno_of(call, udp, address) or ENETUNREACH
    if not errno and address[1] != 0 and _is_group(udp.getpeername()[0]):
        errno = ENETUNREACH
    udp.setsockopt(_socket.SOL_SOCKET, _socket.SO_BROADCAST, allowed)
    return errno


def _is_group(host: str) -> bool:
    found = ipaddress.ip_address(host.partition("%")[0])
    return (getattr(found, "ipv4_mapped", None) or found).is_multicast


def errno_of(call: Callable[..., Any], sock: Any, address: Any) -> int:
    """What connect() or connect_ex() of the stdlib's say as the latter says it; 0: nothing."""
    try:
        return call(sock, address) or 0
    except _socket.gaierror:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        return error.errno


def _default(level: int, option: int) -> bytes:
    # What an IPv6 socket has without being told.
    udp = _socket.socket(_socket.AF_INET6, _socket.SOCK_DGRAM)
    try:
        return udp.getsockopt(level, option, 4)
    finally:
        udp.close()


_lives: weakref.WeakValueDictionary[int, Life] = weakref.WeakValueDictionary()
_detached: dict[
    int, Life
] = {}  # of sockets that were detached before an engine knew them: socket(fileno=) finds them again


def _forget_holders() -> None:
    # In a forked child the thread that held a lock is not there.
    for life in _lives.values():
        life.changing = RLock()


def _tell_of_listeners() -> None:
    # The interpreter's end closes their descriptors by nobody's close(): who was not accepted is reset, as by TCP.
    for life in list(_lives.values()):
        if life.state is State.LISTENING:
            for sock in life.others(None):
                _connections.closing(sock.fileno())


atexit.register(_tell_of_listeners)
os.register_at_fork(after_in_child=_forget_holders)


def life_of(fd: int) -> Optional[Life]:
    """The Life behind a descriptor, whoever made it; None when this process knows of none."""
    inode = _inode(fd)
    kept = _detached.pop(inode, None)  # held here until _lives has answered: this may be the last reference
    return kept or _lives.get(inode)


def known(fd: Any) -> Optional[Life]:
    """As life_of(), but a detached one stays in the table of those."""
    return _lives.get(_inode(fd))


def keep_detached(life: Life, fd: int) -> None:
    """Keeps a Life that only a bare descriptor stands for, until socket(fileno=) or close(fd)."""
    _detached[_inode(fd)] = life


def forget_detached(fd: int) -> None:
    """`fd` is about to be closed: lets go of what only it stood for."""
    _detached.pop(_inode(fd), None)


def _inode(fd: int) -> int:
    try:
        return os.fstat(fd).st_ino
    except (OSError, TypeError, ValueError, OverflowError):
        return 0
