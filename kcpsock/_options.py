# SPDX-License-Identifier: MIT
"""Socket options of a KCP socket, as tables: what each does beside being remembered.

Whatever has no entry is accepted or refused, remembered and read back exactly as the kernel's TCP does it: a TCP socket
that lives for the length of the call answers. The levels are the system's, plus SOL_KCP for what may change on a live
KCP connection.

SO_KEEPALIVE reads 0 until it is set, as on TCP, although a peer is asked from the start whether it is there
(Profile.keepalive). Setting it makes sure of that, each 10 s if the profile says nothing; clearing it goes back to what
the profile says. While it is set TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT, as soon as one of them is set, say when
silence ends the connection, and TCP_USER_TIMEOUT says it with or without it (tcp(7)).

An option's value is a C int. KCP_RATE_LIMIT therefore can't be set above 2,147,483,647 bytes/s, and reads so when the
profile's is higher. KCP_SNDWND and KCP_RCVWND read 0 while the profile's is "auto"; a number that is set ends that.
"""

from __future__ import annotations

import _socket
import contextlib
import operator
import struct
import sys
from collections.abc import Iterator
from errno import EINVAL, ENOPROTOOPT
from typing import Any, Callable, Union

from . import _connections, _numbers, _oob
from ._connections import OPT_KEEPALIVE, OPT_LINGER, OPT_RCVBUF, OPT_RCVLOWAT, OPT_WRITE_DELAY
from ._errors import error_of
from ._life import Life
from ._states import State
from ._tcp_info import tcp_info, tcp_state

SOL_KCP = 0x4B43
KCP_NODELAY, KCP_INTERVAL, KCP_RESEND, KCP_NC = 1, 2, 3, 4
KCP_SNDWND, KCP_RCVWND, KCP_ACK_NODELAY, KCP_WRITE_DELAY = 5, 6, 7, 8
KCP_DUP, KCP_RATE_LIMIT, KCP_DSCP = 9, 10, 11

# SOL_KCP option -> the profile's field, the engine's option.
_KCP = {
    KCP_NODELAY: ("nodelay", _connections.OPT_NODELAY),
    KCP_INTERVAL: ("interval", _connections.OPT_INTERVAL),
    KCP_RESEND: ("resend", _connections.OPT_RESEND),
    KCP_NC: ("nc", _connections.OPT_NC),
    KCP_SNDWND: ("sndwnd", _connections.OPT_SNDWND),
    KCP_RCVWND: ("rcvwnd", _connections.OPT_RCVWND),
    KCP_ACK_NODELAY: ("ack_nodelay", _connections.OPT_ACK_NODELAY),
    KCP_WRITE_DELAY: ("write_delay", OPT_WRITE_DELAY),
    KCP_DUP: ("dup", _connections.OPT_DUP),
    KCP_RATE_LIMIT: ("rate_limit", _connections.OPT_RATE_LIMIT),
    KCP_DSCP: ("dscp", _connections.OPT_DSCP),
}
_ARQ_FIELDS = ("nodelay", "interval", "resend", "nc")

_SOCKET = _socket.SOL_SOCKET
_TCP = _socket.IPPROTO_TCP
_IPV6 = _socket.IPPROTO_IPV6

# Options that the descriptor itself obeys: set on it, read from it, set again when an engine replaces it.
_KERNEL_OPTIONS = frozenset(
    (_SOCKET, getattr(_socket, name, number))
    for name, number in (
        ("SO_SNDBUF", 7),
        ("SO_RCVBUF", 8),
        ("SO_RCVLOWAT", 18),
        ("SO_RCVTIMEO", 20),
        ("SO_SNDTIMEO", 21),
    )
)

# What the UDP socket of a live connection obeys: how its packets leave.
_PACKET_OPTIONS = frozenset(
    (getattr(_socket, level), getattr(_socket, name))
    for level, name in (
        ("SOL_SOCKET", "SO_MARK"),
        ("SOL_SOCKET", "SO_PRIORITY"),
        ("IPPROTO_IP", "IP_TOS"),
        ("IPPROTO_IP", "IP_TTL"),
        ("IPPROTO_IPV6", "IPV6_TCLASS"),
        ("IPPROTO_IPV6", "IPV6_UNICAST_HOPS"),
    )
    if hasattr(_socket, name)
)

# Room in the send buffer is what makes a descriptor writable: a connecting or listening one has none.
_SNDBUF = (_SOCKET, _socket.SO_SNDBUF)
_RCVLOWAT = (_SOCKET, getattr(_socket, "SO_RCVLOWAT", 18))

# Its struct is Linux's here.
_TCP_INFO = (_TCP, getattr(_socket, "TCP_INFO", -1) if sys.platform.startswith("linux") else -1)
_POLLRDHUP = 0x2000
_FASTOPEN = (_TCP, getattr(_socket, "TCP_FASTOPEN", -1))

# Two options of Linux that are one: the device by name, and by number. Kept is the name.
_DEVICE = (_SOCKET, getattr(_socket, "SO_BINDTODEVICE", 25))
_DEVICE_NUMBER = (_SOCKET, 62)  # SO_BINDTOIFINDEX

_INT = struct.Struct("i")
_INT_MAX = 2**31 - 1
_LINGER = struct.Struct("ii")
_MOST_BYTES = 1024  # what getsockopt() of the stdlib takes

# Of a peer that is silent. Darwin calls the first one TCP_KEEPALIVE.
_KEEPALIVE = (_SOCKET, _socket.SO_KEEPALIVE)
_IDLE = (_TCP, getattr(_socket, "TCP_KEEPIDLE", getattr(_socket, "TCP_KEEPALIVE", -1)))
_INTERVAL, _COUNT, _USER_TIMEOUT, _SYN_COUNT = (
    (_TCP, getattr(_socket, name, -1)) for name in ("TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT", "TCP_SYNCNT")
)
_PATIENCE = frozenset((_KEEPALIVE, _IDLE, _INTERVAL, _COUNT, _USER_TIMEOUT, _SYN_COUNT))
_SYN_WAIT_MOST_S = 120  # TCP_RTO_MAX of Linux

Value = Union[int, bytes]


# --- what some options do, beside being remembered: (life, value as bytes) -> the engine's option and value -----------


def _nodelay(life: Life, raw: bytes) -> tuple[int, int]:
    # "Send at once": a profile's write_delay is what would hold data back.
    return OPT_WRITE_DELAY, 0 if _first_int(raw) else int(life.profile.write_delay)


def _keepalive(life: Life, raw: bytes) -> tuple[int, int]:
    seconds = life.profile.keepalive or (10 if _first_int(raw) else 0)
    return OPT_KEEPALIVE, _connections.whole_ms(seconds)


def _linger(life: Life, raw: bytes) -> tuple[int, int]:
    on, seconds = _LINGER.unpack_from(raw)
    return OPT_LINGER, seconds if on else -1


def _rcvbuf(life: Life, raw: bytes) -> tuple[int, int]:
    return OPT_RCVBUF, _first_int(raw)


def _rcvlowat(life: Life, raw: bytes) -> tuple[int, int]:
    return OPT_RCVLOWAT, _first_int(raw)


def _patience(life: Life) -> _connections.Patience:
    # What is not set reads as the system's default, and counts so: 7200 s, 75 s, 9 times.
    said = life.options
    idle = interval = silence = connect = 0
    if any(said.get(_KEEPALIVE, b"")) and not said.keys().isdisjoint((_IDLE, _INTERVAL, _COUNT)):
        with _TCPSocket(life) as tcp:
            idle, interval, count = (
                _first_int(said[key]) if key in said else tcp.getsockopt(*key) for key in (_IDLE, _INTERVAL, _COUNT)
            )
        silence = idle + interval * count
    if _SYN_COUNT in said and life.state is State.CONNECTING:
        connect = _connect_s(_first_int(said[_SYN_COUNT]))
    unacked = _first_int(said[_USER_TIMEOUT]) if _USER_TIMEOUT in said else 0
    return _connections.Patience(1000 * idle, 1000 * interval, 1000 * silence, unacked, 1000 * connect)


def _connect_s(tries: int) -> int:
    # How long TCP waits for an answer to its SYN and so many more of them: 1 s, and each time twice as long.
    return sum(min(1 << n, _SYN_WAIT_MOST_S) for n in range(tries + 1))


_EFFECTS: dict[tuple[int, int], Callable[[Life, bytes], tuple[int, int]]] = {
    (_TCP, _socket.TCP_NODELAY): _nodelay,
    (_SOCKET, _socket.SO_KEEPALIVE): _keepalive,
    (_SOCKET, _socket.SO_LINGER): _linger,
    (_SOCKET, _socket.SO_RCVBUF): _rcvbuf,
    _RCVLOWAT: _rcvlowat,
}

# An accepted socket has its listener's options, as with TCP, but these: Linux sets them anew.
_NOT_INHERITED = frozenset(
    (getattr(_socket, level), getattr(_socket, name, number))
    for level, name, number in (
        ("SOL_SOCKET", "SO_PRIORITY", 12),
        ("SOL_SOCKET", "SO_INCOMING_CPU", 49),
        ("IPPROTO_TCP", "TCP_MAXSEG", 2),
        ("IPPROTO_TCP", "TCP_DEFER_ACCEPT", 9),
        ("IPPROTO_TCP", "TCP_FASTOPEN", 23),
    )
)


# --- what _socket.py calls --------------------------------------------------------------------------------------------


def set_option(sock: Any, life: Life, level: int, option: int, *value: Any) -> None:
    """setsockopt() of a KCP socket. `value` is what the stdlib takes: an int, bytes, or None and a length."""
    key = (level, option)
    if level == SOL_KCP:
        _set_kcp(sock, life, option, *value)
        return
    if key == (_IPV6, _socket.IPV6_V6ONLY) and life.state is not State.NEW:
        raise error_of(EINVAL)
    if key == _FASTOPEN and life.state not in (State.NEW, State.BOUND, State.LISTENING):
        raise error_of(EINVAL)
    with _TCPSocket(life) as tcp:
        tcp.setsockopt(level, option, *value)
        kept = _DEVICE if key == _DEVICE_NUMBER else key
        raw = tcp.getsockopt(*kept, _MOST_BYTES)
    if key in _KERNEL_OPTIONS:
        raw = _raw(*value)
        if key != _SNDBUF or _may_be_writable(life):
            sock._set_kernel_option(level, option, raw)
    life.options[kept] = raw
    _take_effect(sock, life, key)
    if key in _PATIENCE:
        bear_as_told(sock, life)
    if key in _PACKET_OPTIONS and life.state in (State.CONNECTING, State.CONNECTED):
        _mark_packets(sock, key, raw)


def get_option(sock: Any, life: Life, level: int, option: int, buflen: int = 0) -> Value:
    """getsockopt() of a KCP socket."""
    key = (level, option)
    if level == SOL_KCP:
        return _cut(_INT.pack(_get_kcp(life, option)), buflen)
    if key == (_SOCKET, _socket.SO_ERROR):
        return _cut(_INT.pack(sock._take_error()), buflen)
    if key == (_SOCKET, _socket.SO_ACCEPTCONN):
        return _cut(_INT.pack(life.state is State.LISTENING), buflen)
    if key == _TCP_INFO and life.state not in (State.NEW, State.BOUND):
        with _TCPSocket(life) as tcp:
            shape = tcp.getsockopt(*key, _MOST_BYTES)
        return _cut(_tcp_info(sock, life).ljust(len(shape), b"\0")[: len(shape)], buflen)
    if key == _SNDBUF and not _may_be_writable(life):
        return _as_another_has_it(life, buflen)
    if key in _KERNEL_OPTIONS:
        value: Value = sock._get_kernel_option(level, option, buflen)
        return value
    if key in life.options and 0 <= buflen <= _MOST_BYTES:
        return _cut(life.options[key], buflen)
    with _TCPSocket(life) as tcp:
        if key == _DEVICE_NUMBER and _DEVICE in life.options:
            tcp.setsockopt(*_DEVICE, life.options[_DEVICE])
        value = tcp.getsockopt(level, option, buflen)
        return value


def apply_all(sock: Any, life: Life) -> None:
    """Sets on a new descriptor, and with its engine, what was set before there was one."""
    for key, raw in life.options.items():
        if key in _KERNEL_OPTIONS and (key != _SNDBUF or _may_be_writable(life)):
            sock._set_kernel_option(*key, raw)
        if key[0] == SOL_KCP:
            _tell_engine(sock, _connections.set_option, _KCP[key[1]][1], _first_int(raw))
        else:
            _take_effect(sock, life, key)
    bear_as_told(sock, life)
    if life.oob is not None and life.state is State.CONNECTED:
        _oob.switch_on(sock.fileno(), life.oob)


def bear_as_told(sock: Any, life: Life) -> None:
    """Tells the engine what options say of silence; of an attempt to connect too."""
    if life.state in (State.CONNECTING, State.CONNECTED) and not life.options.keys().isdisjoint(_PATIENCE):
        _tell_engine(sock, _connections.set_patience, _patience(life))


def copy_to(tcp: Any, life: Life) -> None:
    """Sets on a kernel TCP socket what the program set on the KCP one whose place it takes."""
    for (level, option), raw in life.options.items():
        if level != SOL_KCP:
            tcp.setsockopt(level, option, raw)


def remember(life: Life, level: int, option: int, value: Any) -> None:
    """The reverse: keeps what a TCP socket took, should it become KCP."""
    key = (level, option)
    raw = _raw(value)
    if key not in _KERNEL_OPTIONS:
        with _TCPSocket(life) as tcp:
            tcp.setsockopt(level, option, raw)
            raw = tcp.getsockopt(level, option, _MOST_BYTES)
    life.options[key] = raw


def inherited(options: dict[tuple[int, int], bytes]) -> dict[tuple[int, int], bytes]:
    """What an accepted socket has of its listener's options."""
    return {key: raw for key, raw in options.items() if key not in _NOT_INHERITED}


def keeps_back(life: Life) -> int:
    """Below how many received bytes the engine keeps them back (SO_RCVLOWAT); 0: it never does."""
    return _first_int(life.options[_RCVLOWAT]) if _RCVLOWAT in life.options else 0


@contextlib.contextmanager
def nothing_kept_back(sock: Any, life: Life) -> Iterator[None]:
    """As long as it lasts, for a read that takes what is there."""
    _tell_engine(sock, _connections.set_option, OPT_RCVLOWAT, 1)
    _connections.settle()
    try:
        yield
    finally:
        if sock.fileno() >= 0:
            _take_effect(sock, life, _RCVLOWAT)


def linger_s(life: Life) -> int:
    """How long close() waits for what was sent, in seconds; 0 when it doesn't."""
    on, seconds = _LINGER.unpack_from(life.options.get((_SOCKET, _socket.SO_LINGER), bytes(8)))
    return max(seconds, 0) if on else 0


# --- how --------------------------------------------------------------------------------------------------------------


class _TCPSocket:
    # A kernel TCP socket that knows nothing, to be asked what TCP would say.

    def __init__(self, life: Life) -> None:
        self._tcp = _socket.socket(life.family, _socket.SOCK_STREAM)

    def __enter__(self) -> Any:
        return self._tcp

    def __exit__(self, *_: object) -> None:
        self._tcp.close()


def _take_effect(sock: Any, life: Life, key: tuple[int, int]) -> None:
    effect = _EFFECTS.get(key)
    if effect is not None and life.state in (State.CONNECTING, State.CONNECTED):
        _tell_engine(sock, _connections.set_option, *effect(life, life.options[key]))


def _tcp_info(sock: Any, life: Life) -> bytes:
    sock._refresh(life)
    info = _numbers.all_of(sock.fileno())
    number = tcp_state(
        life.state,
        ended=life.shut_wr,
        peer_ended=bool(_connections.poll(sock.fileno(), _POLLRDHUP, 0)),
        unacked=info is not None and info.in_flight_pkts > 0,
    )
    return tcp_info(number, info)


def _may_be_writable(life: Life) -> bool:
    return life.state not in (State.CONNECTING, State.LISTENING)


def _as_another_has_it(life: Life, buflen: int) -> Value:
    # SO_SNDBUF as it was set, or never was, since the descriptor's is as small as can be.
    some = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        if _SNDBUF in life.options:
            some.setsockopt(*_SNDBUF, life.options[_SNDBUF])
        return some.getsockopt(*_SNDBUF, buflen)
    finally:
        some.close()


def _mark_packets(sock: Any, key: tuple[int, int], raw: bytes) -> None:
    # An accepted connection's packets leave by its listener's socket, with others'.
    try:
        _tell_engine(sock, _connections.set_udp_option, *key, raw)
    except OSError as error:
        if error.errno != ENOPROTOOPT:
            raise


def _tell_engine(sock: Any, call: Callable[..., None], *what: Any) -> None:
    # A connection that has died meanwhile takes any option, as TCP's does.
    try:
        call(sock.fileno(), *what)
    except OSError:
        if _connections.kind(sock.fileno()) != _connections.NOT_KCP:
            raise


def _set_kcp(sock: Any, life: Life, option: int, value: Any, *rest: Any) -> None:
    if option not in _KCP:
        raise error_of(ENOPROTOOPT)
    if not isinstance(value, int):
        value = _first_int(bytes(value))
    field, engine_option = _KCP[option]
    profile = life.profile.replace(**{field: value})
    if value > _INT_MAX:
        raise OverflowError("Python int too large to convert to C int")
    if life.state is State.LISTENING:
        life.options[SOL_KCP, option] = _INT.pack(value)  # for the sockets it will accept
    elif life.state in (State.CONNECTING, State.CONNECTED):
        _tell_engine(sock, _connections.set_option, engine_option, value)
    life.profile = profile


def _get_kcp(life: Life, option: int) -> int:
    if option not in _KCP:
        raise error_of(ENOPROTOOPT)
    field, _ = _KCP[option]
    if field in _ARQ_FIELDS:
        return life.profile.arq[_ARQ_FIELDS.index(field)]
    return min(int(_connections.in_c(field, getattr(life.profile, field))), _INT_MAX)


def _raw(value: Any, *rest: Any) -> bytes:
    # What setsockopt() took, as bytes.
    return _INT.pack(operator.index(value)) if hasattr(value, "__index__") else bytes(value)


def _first_int(raw: bytes) -> int:
    if len(raw) < _INT.size:
        raise error_of(EINVAL)
    return int(_INT.unpack_from(raw)[0])


def _cut(raw: bytes, buflen: int) -> Value:
    # As getsockopt() answers: an int without a length, else at most so many bytes.
    if buflen == 0:
        return _first_int(raw.ljust(_INT.size, b"\0"))
    if not 0 < buflen <= _MOST_BYTES:
        raise OSError("getsockopt buflen out of range")
    return raw[:buflen]
