# SPDX-License-Identifier: MIT
"""The socket class. Its descriptor is one end of an AF_UNIX stream pair whose other end an engine holds
(docs/architecture.md), so the stdlib's own methods move the bytes; here stands what they can't know: names, connecting,
listening, options, errors.

A method looks up what the state allows (_states.py), calls the stdlib's method through `_io`, where _wait.py decides
how to wait, and turns an end of the stream into the errno that the engine kept. A socket that is not KCP (datagram,
AF_UNIX, ...) has no `_life` and behaves as the stdlib's, except that it too waits cooperatively in a greenlet.
"""

from __future__ import annotations

import _socket
import contextlib
import operator
import os
import socket as _stdlib
from array import array
from errno import (
    EAGAIN,
    EBADF,
    EINPROGRESS,
    EINVAL,
    EMFILE,
    EMSGSIZE,
    ENOTCONN,
    ENOTSOCK,
    EOPNOTSUPP,
    EPIPE,
    ETIMEDOUT,
    EWOULDBLOCK,
)
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from gevent.monkey import get_original

import kcpsock

from . import _arguments, _connections, _crypt, _engines, _numbers, _oob, _options, _tls, _wait
from ._connections import ACCEPT_MSG_BYTES, POLLIN, POLLOUT, Address
from ._errors import error_of, timed_out
from ._life import Life, errno_of, keep_detached, life_of
from ._numbers import KCPInfo
from ._profile import Profile, get_default_profile, warn_of_plaintext
from ._states import FLOWING, Event, State, following

if TYPE_CHECKING:
    from socket import socket as _Base
else:
    _Base = get_original("socket", "socket")

AF_INET, AF_INET6, AF_UNIX = _stdlib.AF_INET, _stdlib.AF_INET6, _stdlib.AF_UNIX
SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC = _stdlib.SOCK_STREAM, _stdlib.SOCK_NONBLOCK, _stdlib.SOCK_CLOEXEC
MSG_DONTWAIT, MSG_OOB = int(_stdlib.MSG_DONTWAIT), int(_stdlib.MSG_OOB)
# What recvmsg() says of a pair, but never of TCP.
_NOT_TCP_FLAGS = int(_stdlib.MSG_OOB | _stdlib.MSG_CTRUNC | _stdlib.MSG_CMSG_CLOEXEC)
_CONNECTED = State.CONNECTED  # an enum's attribute is looked up in Python
_PEEK_ALL = int(_stdlib.MSG_PEEK | _stdlib.MSG_WAITALL)
_PEEK_ALL_MOST = 65536  # bytes that a pair holds for sure
_ERRQUEUE = int(getattr(_stdlib, "MSG_ERRQUEUE", 0))
_ACCEPT_ANCILLARY_BYTES = _stdlib.CMSG_SPACE(array("i").itemsize)


class socket(_Base):
    """A stdlib socket whose AF_INET and AF_INET6 streams run over KCP.

    `profile` says how such a stream behaves; without it the default profile of the moment does. All else is as in the
    stdlib.
    """

    __slots__ = ("_hub", "_life", "_waits")
    __module__ = "kcpsock"

    _life: Optional[Life]
    _waits: Optional[set[Any]]
    _hub: Any

    def __init__(
        self,
        family: int = -1,
        type: int = -1,
        proto: int = -1,
        fileno: Optional[int] = None,
        *,
        profile: Optional[Profile] = None,
    ) -> None:
        self._life = self._waits = None
        self._hub = _wait.hub_of_thread()
        if profile is not None and not isinstance(profile, Profile):
            raise TypeError(f"profile is a {profile.__class__.__name__}; allowed is a Profile or None")
        if fileno is not None:
            self._adopt(family, type, proto, fileno, profile)
            return
        family = AF_INET if family == -1 else family
        type = SOCK_STREAM if type == -1 else type
        proto = 0 if proto == -1 else proto
        if not _is_kcp(family, type, proto):
            if profile is not None:
                raise ValueError(
                    f"profile is given for family {family!r}, type {type!r}; allowed for AF_INET and AF_INET6 streams"
                )
            super().__init__(family, type, proto)
            return
        life = Life(family, profile or get_default_profile())
        stand_in = _socket.socket(AF_UNIX, type)
        super().__init__(family, type, proto, stand_in.fileno())
        stand_in.detach()
        self._life = life
        life.join(self)

    def _adopt(self, family: int, type: int, proto: int, fileno: int, profile: Optional[Profile]) -> None:
        # socket(fileno=): a KCP descriptor is known by its inode here, or to an engine; any other is an ordinary one.
        life = life_of(fileno)
        if life is None and isinstance(fileno, int) and 0 <= fileno < 2**31:
            kind = _connections.kind(fileno)
            if kind != _connections.NOT_KCP:
                names = _connections.names(fileno)
                state = State.LISTENING if kind == _connections.LISTENER else State.CONNECTED
                life = Life(names.family, profile or get_default_profile(), state)
                life.laddr = names.local
                if state is State.CONNECTED:
                    life.raddr = names.peer
        if life is None:
            super().__init__(family, type, proto, fileno)
            return
        super().__init__(
            life.family if family == -1 else family,
            SOCK_STREAM if type == -1 else type,
            0 if proto == -1 else proto,
            fileno,
        )
        self._life = life
        life.join(self)

    # --- what is new

    @property
    def _plain_class(self) -> Any:
        # What TLS is put on top of (_tls.py).
        return socket

    @property
    def profile(self) -> Optional[Profile]:
        """How this KCP socket behaves; None for an ordinary socket."""
        return self._life.profile if self._life is not None else None

    def kcp_info(self) -> KCPInfo:
        """Round trip time, windows, counters of the connection. OSError when there is none."""
        if self._life is None:
            raise error_of(EINVAL)
        self._allowed(Event.GETPEERNAME)
        return _numbers.info(self.fileno())

    def send_oob(self, data: Any) -> None:
        """Sends `data` beside the stream, in one packet: it may overtake the stream, arrive twice or never.

        For what is of use at once or not at all. The other end's set_oob_handler() receives it.

        Raises OSError EOPNOTSUPP when the profile has no fec (out-of-band packets are a kind of FEC packet), EMSGSIZE
        when `data` is longer than kcp_info().path_mtu less crypt's headers less 12, ENOTCONN without a connection.
        """
        packet = bytes(memoryview(data))
        life = self._life
        if life is None:
            raise error_of(EOPNOTSUPP, "out-of-band packets are for KCP sockets")
        self._allowed(Event.GETPEERNAME)
        try:
            _connections.send_oob(self.fileno(), packet)
        except OSError as error:
            if error.errno == EOPNOTSUPP:
                raise error_of(EOPNOTSUPP, "out-of-band packets need FEC: a profile with fec=(ds, ps)") from None
            if error.errno == EMSGSIZE:
                most = _oob.largest(life.profile, self.kcp_info().path_mtu)
                raise error_of(EMSGSIZE, f"{len(packet)} bytes; allowed out of band is {most}") from None
            if error.errno == ENOTSOCK:
                raise error_of(ENOTCONN) from None  # both directions have ended: the engine has let go of it
            raise

    def set_oob_handler(self, handler: Optional[Callable[[bytes], Any]], /) -> None:
        """Has `handler(data)` called for each out-of-band packet of this connection; None: no more, they are dropped.

        It may be set before connect(), and on an accepted socket at any time. All handlers of the process are called by
        one native thread of their own, one after the other: a slow one holds up the rest, packets that pile up
        meanwhile are dropped, and in gevent programs too there is no hub around it. What it raises goes to
        threading.excepthook. In a forked child the packets of an inherited connection go to the parent's handler.
        """
        if handler is not None and not callable(handler):
            raise TypeError(f"handler is {handler!r}, a {type(handler).__name__}; allowed is a callable or None")
        life = self._life
        if life is None:
            raise error_of(EOPNOTSUPP, "out-of-band packets are for KCP sockets")
        if self.fileno() < 0:
            raise error_of(EBADF)
        self._refresh(life)
        if life.state is State.LISTENING:
            raise error_of(EOPNOTSUPP, "a listener gets no out-of-band packets, the sockets that it accepts do")
        if handler is not None:
            life.oob = _oob.Registration(handler)
            if life.state is State.CONNECTED:
                _oob.switch_on(self.fileno(), life.oob)
        elif life.oob is not None:
            life.oob = None
            _oob.switch_off(self.fileno())

    # --- the life of the socket

    def _allowed(self, event: Event, *call: Any) -> Life:
        # The life, if `event` may happen now; else raises what TCP would. `call`: a method of the stdlib's and its
        # arguments, which are to blame first.
        life = self._life
        assert life is not None
        self._refresh(life)
        try:
            following(State.CLOSED if self.fileno() < 0 else life.state, event)
        except OSError:
            if call:
                _arguments.check(life.family, *call)
            raise
        return life

    def _refresh(self, life: Life) -> None:
        # Catches up with the engine: an attempt to connect that ended, a connection that died. The errno waits in
        # `life.error` for the call that reports it.
        if life.state is not State.CONNECTED:
            with life.changing:
                self._refresh_attempt(life)
        elif self.fileno() >= 0:
            error = _connections.take_error(self.fileno())
            if error:
                life.error = error
                life.move(Event.LOST)

    def _refresh_names(self, life: Life) -> None:
        # Of a connection that may have moved. No engine here has it when it is over, or the parent's of a forked child.
        if life.state is not State.CONNECTED or not _crypt.authenticates(life.profile.cipher):
            return
        try:
            names = _connections.names(self.fileno())
        except OSError as error:
            if error.errno != ENOTSOCK:
                raise
        else:
            life.laddr, life.raddr = names.local, names.peer

    def _refresh_attempt(self, life: Life) -> None:
        # Under life.changing: of several that ask, one takes the step.
        if life.state is not State.CONNECTING or self.fileno() < 0 or not _connections.poll(self.fileno(), POLLOUT, 0):
            return
        life.error = _connections.take_error(self.fileno())
        life.move(Event.LOST if life.error else Event.ESTABLISHED)
        if not life.error:
            _connections.settle()
            _options.apply_all(self, life)

    def _take_error(self) -> int:
        # The errno to report, once; 0 when there is none. SO_ERROR.
        life = self._life
        assert life is not None
        self._refresh(life)
        error, life.error = life.error, 0
        return error

    def _raise_error(self, *, reads: bool = False) -> None:
        # Raises what ended the connection, unless it was told already, or ended in peace. EPIPE is not for reads: the
        # peer had ended its direction before.
        if self._life is not None:
            error = self._take_error()
            if error == EPIPE and reads:
                self._life.error = error
            elif error:
                raise error_of(error) from None

    def _replaced(self, life: Life, event: Event) -> None:
        # An engine has put a new descriptor under our number: tell the life, the duplicates, and the descriptor itself.
        life.move(event)
        self.settimeout(self.gettimeout())
        life.join(self)
        _wait.moved(self)
        for other in life.others(self):
            if not os.path.sameopenfile(self.fileno(), other.fileno()):
                os.dup2(self.fileno(), other.fileno(), inheritable=other.get_inheritable())
                _wait.moved(other)
        if life.state is State.CONNECTING:
            _options.bear_as_told(self, life)
        else:
            _options.apply_all(self, life)

    def bind(self, address: Any, /) -> None:
        if self._life is None:
            super().bind(_wait.resolved(self.family, address) if self.fileno() >= 0 else address)
            return
        life = self._allowed(Event.BIND, _Base.bind, address)
        life.bind(address)
        life.move(Event.BIND)

    def listen(self, backlog: Optional[int] = None, /) -> None:
        if self._life is None:
            super().listen(*(() if backlog is None else (backlog,)))
            return
        wanted = min(_stdlib.SOMAXCONN, 128) if backlog is None else operator.index(backlog)
        if not -(2**31) <= wanted < 2**31:
            raise OverflowError("Python int too large to convert to C int")
        life = self._allowed(Event.LISTEN)
        if life.state is State.LISTENING:
            return
        warn_of_plaintext(life.profile)
        inheritable = self.get_inheritable()
        udp_fds = life.open_port(_connections.listener_width(life.profile))
        with life.changing:
            _connections.listen(self.fileno(), udp_fds, life.profile, max(wanted, 0))
            self._replaced(life, Event.LISTEN)
            self.set_inheritable(inheritable)

    def connect(self, address: Any, /) -> None:
        errno = self._dial(address, _Base.connect)
        hint = _no_answer(address) if self._life is not None and errno in (EWOULDBLOCK, ETIMEDOUT) else ""
        if errno == EWOULDBLOCK:
            raise timed_out(hint)
        if errno:
            raise error_of(errno, hint)

    def connect_ex(self, address: Any, /) -> int:
        try:
            return self._dial(address, _Base.connect_ex)
        except OSError as error:
            if error.errno is None or isinstance(error, _stdlib.gaierror):
                raise
            return error.errno

    def _dial(self, address: Any, call: Callable[..., Any]) -> int:
        # connect_ex(), but some errors come as exceptions, as the stdlib's `call` words them. EWOULDBLOCK: the timeout
        # passed, the attempt goes on.
        life = self._life
        if life is None:
            return self._dial_ordinary(address, call)
        self._raise_error()
        if (
            life.state is not State.CONNECTING or self.gettimeout() is not None
        ):  # a blocking second call waits for the first
            address = _wait.resolved(life.family, address)  # first: other greenlets run meanwhile, and may close this
            self._allowed(Event.CONNECT, call, address)
            warn_of_plaintext(life.profile)
            inheritable = self.get_inheritable()
            udp_fd = life.dial(address, call)
            with life.changing:
                _connections.connect(self.fileno(), udp_fd, life.profile)
                self._replaced(life, Event.CONNECT)
                self.set_inheritable(inheritable)
            if life.profile.framing == "raw":  # nobody answers, so there is nothing to wait for
                self._refresh(life)
        if life.state is State.CONNECTING:
            timeout = self.gettimeout()
            if timeout == 0:
                return EINPROGRESS
            if not _wait.until_ready(self, POLLOUT, timeout):
                return EWOULDBLOCK
        return self._take_error()

    def _dial_ordinary(self, address: Any, call: Callable[..., Any]) -> int:
        # connect_ex() of a socket that is not KCP. Only streams wait, and AF_UNIX ones have nothing to poll for when
        # they do.
        if self.fileno() < 0:
            return errno_of(call, self, address)
        address = _wait.resolved(self.family, address)
        timeout = self.gettimeout()
        if _wait.cooperative_hub() is None or timeout == 0 or self.type != SOCK_STREAM or self.family == AF_UNIX:
            return errno_of(call, self, address)
        self.settimeout(0)
        try:
            errno = errno_of(call, self, address)
        finally:
            self.settimeout(timeout)
        if errno != EINPROGRESS:
            return errno
        if not _wait.until_ready(self, POLLOUT, timeout):
            return EWOULDBLOCK
        return super().getsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_ERROR)

    def accept(self) -> tuple[socket, Any]:
        if self._life is None:
            fd, peer = self._io(POLLIN, _Base._accept, (), None, accepts=True)  # type: ignore[attr-defined]
            accepted = self._with_descriptor(fd)
        else:
            accepted, peer = self._accept_kcp(self._allowed(Event.ACCEPT))
        # As the stdlib (issue 7995): the listener's timeout is not the new socket's.
        if _stdlib.getdefaulttimeout() is None and self.gettimeout():
            accepted.setblocking(True)
        return accepted, peer

    def _accept(self) -> tuple[int, Any]:
        # What gevent's servers call in their hub, where nothing may wait: BlockingIOError when nobody is there. They
        # put a socket of gevent's on the descriptor.
        if self._life is None:
            method = _Base._accept  # type: ignore[attr-defined]
            found: tuple[int, Any] = _wait.attempt(self, self.gettimeout(), POLLIN, method, (), None)
            return found
        accepted, peer = self._accept_kcp(self._allowed(Event.ACCEPT), waits=False)
        return accepted.detach(), peer

    def _accept_kcp(self, listener: Life, *, waits: bool = True) -> tuple[socket, Address]:
        # One message from the engine is one connection: its names, and its descriptor. Without room for that it would
        # be lost, so the room is looked for first, as the kernel does: EMFILE or ENFILE, whoever is there.
        os.close(os.dup(self.fileno()))
        flags = int(_stdlib.MSG_CMSG_CLOEXEC)
        sizes = (ACCEPT_MSG_BYTES, _ACCEPT_ANCILLARY_BYTES)
        message = b""
        with contextlib.suppress(ConnectionResetError):  # the engine is gone, without taking out what blocks the pair
            if waits:
                message, ancillary, _, _ = self._io(POLLIN, _Base.recvmsg, sizes, flags, accepts=True)
            else:
                message, ancillary, _, _ = _wait.attempt(self, self.gettimeout(), POLLIN, _Base.recvmsg, sizes, flags)
        if not message:
            raise error_of(EINVAL)  # shut down
        fds = array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (_stdlib.SOL_SOCKET, _stdlib.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if not fds:
            raise error_of(EMFILE)  # another thread was faster, and the connection is lost
        try:
            names = _connections.names_of(message)
            life = Life(names.family, listener.profile, State.CONNECTED)
            life.laddr, life.raddr = names.local, names.peer
            life.options = _options.inherited(listener.options)
            life.announce(fds[0])  # so that fileno= finds it
        except BaseException:
            os.close(fds[0])
            raise
        accepted = self._with_descriptor(fds[0])
        if life.options:
            _options.apply_all(accepted, life)
        return accepted, names.peer

    def _accepted_class(self) -> Any:
        return kcpsock.socket  # the module's own of the moment: programs replace it

    def _with_descriptor(self, fd: int) -> socket:
        # A socket like this one on `fd`.
        try:
            made: socket = self._accepted_class()(self.family, self.type, self.proto, fileno=fd)
            return made
        except BaseException:
            os.close(fd)
            raise

    def shutdown(self, how: int, /) -> None:
        if self._life is None:
            super().shutdown(how)
            return
        life = self._life
        self._refresh(life)
        connecting = life.state is State.CONNECTING
        if life.state is State.LISTENING:
            _connections.closing(self.fileno())
        elif life.shut_rd and how == _stdlib.SHUT_WR:
            _connections.note_end(self.fileno())  # it is not closed, though nothing is read any more
        super().shutdown(how)  # it checks `how`; and what waits on a fresh socket is woken by it, as with TCP
        if connecting:
            _connections.reset(self.fileno())
        else:
            self._allowed(Event.SHUTDOWN)
        life.move(Event.SHUTDOWN)
        if life.state is State.CONNECTED:
            life.shut_rd |= how != _stdlib.SHUT_WR
            life.shut_wr |= how != _stdlib.SHUT_RD

    def _real_close(self, _ss: Any = _Base) -> None:
        if self.fileno() >= 0:
            _wait.cancel(self)
            try:
                if self._life is not None:
                    self._leave(self._life)
            finally:  # a signal handler's exception ends the wait of SO_LINGER: the descriptor goes all the same
                if _wait.wake_watchers(self):
                    _wait.close_later(super().detach())
                super()._real_close()  # type: ignore[misc]
            return
        super()._real_close()  # type: ignore[misc]

    def _leave(self, life: Life) -> None:
        # The last socket of a life is about to close.
        if life.others(self):
            return
        life.close_port()
        if life.oob is not None:
            life.oob = None
            _oob.switch_off(self.fileno())
        if life.state is State.CONNECTING:
            _connections.reset(self.fileno())
        elif life.state is State.LISTENING:
            _connections.closing(self.fileno())
        elif life.state is State.CONNECTED:
            unread = self._has_unread()
            if unread and life.shut_wr:
                _connections.note_end(self.fileno())
            seconds = _options.linger_s(life)
            if seconds and not unread:  # else it is a reset, as on TCP
                try:
                    super().shutdown(_stdlib.SHUT_WR)
                except OSError:
                    return
                _wait.in_thread(_wait.cooperative_hub(), _connections.linger, self.fileno(), seconds)

    def _has_unread(self) -> bool:
        # Of several threads that look, each gets its answer at once: nothing is taken.
        try:
            return bool(
                _connections.poll(self.fileno(), POLLIN, 0) and super().recv(1, _stdlib.MSG_PEEK | MSG_DONTWAIT)
            )
        except OSError:
            return False

    def detach(self) -> int:
        if self.fileno() >= 0:
            _wait.cancel(self)
            life = self._life
            if life is not None and not life.others(self):
                # Later an engine knows it; in a forked child, it is the parent's that does.
                inherited = _engines.is_child and _connections.kind(self.fileno()) == _connections.NOT_KCP
                if inherited or life.state in (State.NEW, State.BOUND, State.CONNECTING):
                    keep_detached(life, self.fileno())
        return super().detach()

    # --- names and options

    def getsockname(self) -> Any:
        if self._life is None or self.fileno() < 0:
            return super().getsockname()
        self._refresh(self._life)
        self._refresh_names(self._life)
        return self._life.laddr

    def getpeername(self) -> Any:
        if self._life is None or self.fileno() < 0:
            return super().getpeername()
        life = self._allowed(Event.GETPEERNAME)
        self._refresh_names(life)
        return life.raddr

    def setsockopt(self, *args: Any) -> None:
        if self._life is None or self.fileno() < 0 or len(args) not in (3, 4):
            super().setsockopt(*args)
        else:
            _options.set_option(self, self._life, *args)

    def getsockopt(self, *args: Any) -> Any:
        if self._life is None or self.fileno() < 0 or len(args) not in (2, 3):
            return super().getsockopt(*args)
        if args[1] == _stdlib.SO_TYPE and args[0] == _stdlib.SOL_SOCKET:
            _tls.prepare()  # ssl is about to wrap this socket
        return _options.get_option(self, self._life, *args)

    # For _options: the descriptor's own.
    def _set_kernel_option(self, level: int, option: int, raw: bytes) -> None:
        super().setsockopt(level, option, raw)

    def _get_kernel_option(self, level: int, option: int, buflen: int) -> Union[int, bytes]:
        return super().getsockopt(level, option, buflen)

    # --- bytes

    def _io(
        self, events: int, method: Callable[..., Any], args: Any, flags: Optional[int], *, accepts: bool = False
    ) -> Any:
        # method(self, *args, flags), waiting as the thread demands. `accepts`: not bytes of a stream, but a listener's
        # messages.
        if flags is None and not accepts:
            return method(self, *args, flags)  # for the stdlib to refuse
        if self._life is not None and not accepts and flags is not None:
            if flags & _ERRQUEUE and events == POLLIN:
                _arguments.check(self._life.family, method, *args, flags)
                raise error_of(EAGAIN)  # nothing ever stands there
            if self._life.state not in FLOWING:
                _arguments.check(self._life.family, method, *args, flags)
                self._raise_error(reads=events == POLLIN)
                self._allowed(Event.RECV if events == POLLIN else Event.SEND)
            if flags & MSG_OOB:
                if events == POLLIN:
                    raise error_of(EINVAL)  # what TCP says when nothing urgent came: nothing ever does
                flags &= ~MSG_OOB
            if flags & _PEEK_ALL == _PEEK_ALL and not flags & MSG_DONTWAIT and self.gettimeout() is None:
                _wait.for_bytes(self.fileno(), min(_room(method, args), _PEEK_ALL_MOST))
            if events == POLLIN and self._life.options and self._takes_what_is_there(self._life, method, args, flags):
                with _options.nothing_kept_back(self, self._life):
                    return self._called(events, method, args, flags)
        return self._called(events, method, args, flags)

    def _called(self, events: int, method: Callable[..., Any], args: Any, flags: Optional[int]) -> Any:
        hub = _wait.cooperative_hub()
        try:
            if hub is not None and not (flags and flags & MSG_DONTWAIT and self.gettimeout() is None):
                return _wait.cooperate(hub, self, events, method, args, flags)
            return method(self, *args) if flags is None else method(self, *args, flags)
        except (BrokenPipeError, ConnectionResetError):
            self._raise_error(reads=events == POLLIN)
            raise

    def _takes_what_is_there(self, life: Life, method: Callable[..., Any], args: Any, flags: int) -> bool:
        # Whether a read goes past SO_RCVLOWAT, behind which bytes are kept back: it waits for fewer, or not at all.
        least = _options.keeps_back(life)
        if least <= 1 or life.state is not State.CONNECTED:
            return False
        at_once = flags & MSG_DONTWAIT or self.gettimeout() == 0 or _wait.cooperative_hub() is not None
        return bool(at_once) or _room(method, args) < least

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data: bytes = self._io(POLLIN, _Base.recv, (bufsize,), flags)
        if not data and bufsize:
            self._raise_error(reads=True)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        size: int = self._io(POLLIN, _Base.recv_into, (buffer, nbytes), flags)
        if not size and (nbytes or memoryview(buffer).nbytes):
            self._raise_error(reads=True)
        return size

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        data, address = self._io(POLLIN, _Base.recvfrom, (bufsize,), flags)
        if not data and bufsize:
            self._raise_error(reads=True)
        return data, address

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        size, address = self._io(POLLIN, _Base.recvfrom_into, (buffer, nbytes), flags)
        if not size and (nbytes or memoryview(buffer).nbytes):
            self._raise_error(reads=True)
        return size, address

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        data, ancillary, found, address = self._io(POLLIN, _Base.recvmsg, (bufsize, ancbufsize), flags)
        if self._life is not None:
            found &= ~_NOT_TCP_FLAGS
            if not data and bufsize:
                self._raise_error(reads=True)
        return data, ancillary, found, address

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> tuple[int, list[Any], int, Any]:
        buffers = _again(buffers)
        size, ancillary, found, address = self._io(POLLIN, _Base.recvmsg_into, (buffers, ancbufsize), flags)
        if self._life is not None:
            found &= ~_NOT_TCP_FLAGS
            if not size and any(memoryview(buffer).nbytes for buffer in buffers):
                self._raise_error(reads=True)
        return size, ancillary, found, address

    def _send_now(self, data: Any, flags: Any) -> int:
        # What can go at once goes past the descriptor, in this thread: the engine need not wake up for it.
        life = self._life
        if life is None or life.state is not _CONNECTED or flags != 0:
            return 0
        return _connections.send_now(self.fileno(), data)

    def send(self, data: Any, flags: int = 0, /) -> int:
        sent: int = self._send_now(data, flags) or self._io(POLLOUT, _Base.send, (data,), flags)
        return sent

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        sent = self._send_now(data, flags)
        if sent:
            data = memoryview(data).cast("B")[sent:]
            if not data:
                return
        if _wait.cooperative_hub() is None or self.gettimeout() == 0:
            self._io(POLLOUT, _Base.sendall, (data,), flags)
            return
        rest = memoryview(data)
        if not rest.c_contiguous:
            raise BufferError("memoryview: underlying buffer is not C-contiguous")
        rest = rest.cast("B")

        def push(sock: Any, flags: int) -> None:
            # Goes on where it stopped, each time the socket is writable again: as in the stdlib, one timeout is for all
            # of it.
            nonlocal rest
            while True:
                rest = rest[_Base.send(sock, rest, flags) :]
                if not rest:
                    return

        self._io(POLLOUT, push, (), flags)

    def sendto(self, *args: Any) -> int:
        if len(args) not in (2, 3):
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(args)} given)")
        data, address = args[0], args[-1]
        flags = args[1] if len(args) == 3 else 0
        if self._life is not None:
            self._check_ignored(address, "sendto")
            return self.send(data, flags)
        if self.fileno() >= 0:
            address = _wait.resolved(self.family, address)
        sent: int = self._io(POLLOUT, lambda sock, flags: _Base.sendto(sock, data, flags, address), (), flags)
        return sent

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        buffers, ancdata = _again(buffers), _again(ancdata)
        if self._life is not None and address is not None:
            self._check_ignored(address, "sendmsg")
            address = None
        sent: int = self._io(
            POLLOUT, lambda sock, flags: _Base.sendmsg(sock, buffers, ancdata, flags, address), (), flags
        )
        return sent

    def _check_ignored(self, address: Any, call: str) -> None:
        # A connected stream has one peer, whatever the address says; but an address it has to be.
        if not isinstance(address, tuple):
            raise TypeError(f"{call}(): {self.family.name} address must be tuple, not {address.__class__.__name__}")

    def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: Optional[int] = None) -> int:
        # os.sendfile() waits in the kernel, and to a listener's descriptor it would write: send() knows better.
        listens = self._life is not None and self._life.state is State.LISTENING
        if listens or (self.fileno() >= 0 and _wait.cooperative_hub() is not None):
            self._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]
            raise _stdlib._GiveupOnSendfile("send() has to do it")  # type: ignore[attr-defined]
        sent: int = super()._sendfile_use_sendfile(file, offset, count)  # type: ignore[misc]
        return sent


def _is_kcp(family: int, type: int, proto: int) -> bool:
    return (
        family in (AF_INET, AF_INET6)
        and type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC) == SOCK_STREAM
        and proto in (0, _stdlib.IPPROTO_TCP)
    )


def _room(method: Callable[..., Any], args: Any) -> int:
    # How many bytes a method of recv()'s kind, with these arguments, has room for.
    if isinstance(args[0], int):
        return args[0]
    buffers = args[0] if method is _Base.recvmsg_into else args[:1]
    size = sum(memoryview(buffer).nbytes for buffer in buffers)
    return args[1] or size if method in (_Base.recv_into, _Base.recvfrom_into) else size


def _no_answer(address: Any) -> str:
    # What a connect() that timed out may come from: to a peer of another key our packets are noise.
    host, port = address[:2]
    host = host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else host
    return (
        f"no answer from {f'[{host}]' if ':' in host else host}:{port}; check that a KCP server listens there with the "
        f"same key, crypt, framing and smux_version"
    )


def _again(items: Any) -> Any:
    # Something that a call can go through twice: the first try may find that it would block.
    return items if isinstance(items, (list, tuple)) or not hasattr(items, "__iter__") else list(items)
