# SPDX-License-Identifier: MIT
"""The C data plane as Python functions: a Profile and descriptors are handed over to an engine, and a connection or
listener is asked and told things by its descriptor number (cffi_build/api/api.h). Every failure is an OSError, from
`_errors.check`.

Beside this, `_engines` (the engines' threads), `_numbers` (statistics) and `_crypt` (the ciphers) nothing in kcpsock
touches `ffi` or `lib`.
"""

from __future__ import annotations

import _socket
import dataclasses
import functools
import struct
import time
from errno import EINTR, ENOENT, ETIMEDOUT
from typing import Any, NamedTuple, Union

from ._crypt import open_crypt
from ._engines import running_pool
from ._errors import check
from ._fec import coefficients
from ._native import ffi, lib
from ._profile import AUTO, Profile

Address = Union[tuple[str, int], tuple[str, int, int, int]]

POLLIN, POLLOUT = 1, 4

OPT_NODELAY, OPT_INTERVAL, OPT_RESEND, OPT_NC = (
    lib.KS_OPT_NODELAY,
    lib.KS_OPT_INTERVAL,
    lib.KS_OPT_RESEND,
    lib.KS_OPT_NC,
)
OPT_SNDWND, OPT_RCVWND = lib.KS_OPT_SNDWND, lib.KS_OPT_RCVWND
OPT_ACK_NODELAY, OPT_WRITE_DELAY = lib.KS_OPT_ACK_NODELAY, lib.KS_OPT_WRITE_DELAY
OPT_LINGER, OPT_KEEPALIVE, OPT_RCVBUF = lib.KS_OPT_LINGER, lib.KS_OPT_KEEPALIVE, lib.KS_OPT_RCVBUF
OPT_DUP, OPT_RATE_LIMIT, OPT_DSCP = lib.KS_OPT_DUP, lib.KS_OPT_RATE_LIMIT, lib.KS_OPT_DSCP
OPT_OOB, OPT_RCVLOWAT = lib.KS_OPT_OOB, lib.KS_OPT_RCVLOWAT

NOT_KCP, CONNECTION, LISTENER = 0, 1, 2


# --- connections and listeners ----------------------------------------------------------------------------------------


def _plain_fields() -> dict[str, str]:
    # C's name of each setting that Profile has in the same unit -> Profile's name.
    names = {field.name for field in dataclasses.fields(Profile)} - {"crypt"}  # there a name, in C a number
    settings = (name for name, _ in ffi.typeof("ks_profile").fields)
    found = ((setting, setting.removesuffix("_pkts").removesuffix("_bytes")) for setting in settings)
    return {setting: name for setting, name in found if name in names}


_PLAIN_FIELDS = _plain_fields()
_PLAIN_LEAST = {
    field.name: field.metadata["allowed"].start
    for field in dataclasses.fields(Profile)
    if field.metadata["word"] == AUTO
}


def _c_profile(profile: Profile) -> Any:
    # All of it but `crypt` and `fec_coefficients`, which have an owner: see _Handed.
    settings = {setting: in_c(name, getattr(profile, name)) for setting, name in _PLAIN_FIELDS.items()}
    settings["framing"] = lib.KS_FRAMING_SMUX if profile.framing == "smux" else lib.KS_FRAMING_RAW
    settings["adaptive"] = profile.control == "adaptive"
    settings["nodelay"], settings["interval_ms"], settings["resend"], settings["nc"] = profile.arq
    settings["keepalive_ms"] = whole_ms(profile.keepalive)
    settings["keepalive_timeout_ms"] = whole_ms(profile.keepalive_timeout)
    settings["fec_data"], settings["fec_parity"] = profile.fec or (0, 0)
    return ffi.new("ks_profile *", settings)


def in_c(name: str, value: Any) -> Any:
    """A field of Profile as C has it: "auto" is one less than the least number."""
    return _PLAIN_LEAST[name] - 1 if value == AUTO else value


def whole_ms(seconds: float) -> int:
    """Whole ms; a period of less than one is not "off", which 0 is."""
    return max(1, round(seconds * 1000)) if seconds else 0


def connect(app_fd: int, udp_fd: int, profile: Profile) -> None:
    """Starts a connection over the connected `udp_fd`, which the engine takes over, also on failure."""
    with _Handed([udp_fd], profile) as handed:
        number = running_pool().next(profile.compress)
        handed.profile.crypt = handed.open_crypt()
        check(handed.over_to(lib.ks_connect, number, app_fd, udp_fd, handed.profile))


def listener_width(profile: Profile) -> int:
    """How many UDP sockets of one address a listener wants: one for each engine that will serve it."""
    return len(running_pool().spread(profile.compress))


def listen(app_fd: int, udp_fds: list[int], profile: Profile, backlog: int) -> None:
    """Starts a listener on bound sockets of one address, `listener_width` of them, or one that `adopt` gave; the
    engines take them over, also on failure."""
    with _Handed(udp_fds, profile) as handed:
        numbers = running_pool().spread(profile.compress)
        crypts = [handed.open_crypt() for _ in numbers]
        sockets = [*udp_fds, *(-1 for _ in numbers[len(udp_fds) :])]
        check(handed.over_to(lib.ks_listen, numbers, sockets, crypts, len(numbers), app_fd, handed.profile, backlog))


class _Handed:
    # What a call into C takes over, whatever comes of it: UDP descriptors and crypts. Should the call not come about
    # (no pool, no crypt; or cffi refuses an argument), leaving the block closes them.

    def __init__(self, udp_fds: list[int], profile: Profile) -> None:
        self._python_profile = profile
        self._udp_fds, self._crypts = udp_fds, list[int]()
        self._rows: Any = None  # C reads them during the call

    def __enter__(self) -> _Handed:
        try:
            profile = self._python_profile
            self.profile = _c_profile(profile)
            self._rows = ffi.from_buffer("uint8_t[]", coefficients(*profile.fec)) if profile.fec else ffi.NULL
            self.profile.fec_coefficients = self._rows
        except BaseException:
            self.__exit__()
            raise
        return self

    def open_crypt(self) -> int:
        number = open_crypt(self._python_profile.cipher, self._python_profile.secret)
        self._crypts.append(number)
        return number

    def over_to(self, function: Any, *args: Any) -> int:
        # Before the call: were it after, a signal's exception in between would close what the engine has.
        mine, self._udp_fds, self._crypts = (self._udp_fds, self._crypts), [], []
        try:
            return int(function(*args))
        except (TypeError, OverflowError):  # cffi's, of an argument: C was not reached
            self._udp_fds, self._crypts = mine
            raise

    def __exit__(self, *_: object) -> None:
        for number in self._crypts:
            if number:
                lib.ks_crypt_close(number)
        for fd in self._udp_fds:
            _socket.close(fd)
        self._udp_fds, self._crypts = [], []


def kind(fd: int) -> int:
    """NOT_KCP, CONNECTION or LISTENER; NOT_KCP also for what is no open descriptor."""
    return max(int(lib.ks_is_kcp(fd)), NOT_KCP)


def settle() -> None:
    """After a connection was established: its listener's accept(), if it is one of this process, knows of it then."""
    lib.ks_settle()


def take_error(fd: int) -> int:
    """The errno that ended the connection: given out once, then 0."""
    return max(int(lib.ks_take_error(fd)), 0)


def reset(fd: int) -> None:
    """Abandons a connection, or an attempt, now; the peer is told. What has ended already stays as it is."""
    lib.ks_reset(fd)


def closing(fd: int) -> None:
    """A listener is about to be closed: connections that accept() has not taken will be reset then."""
    lib.ks_closing(fd)


def note_end(fd: int) -> None:
    """A connection is about to be closed with data unread, after its own end of stream: no reset of what it sent."""
    lib.ks_note_end(fd)


def linger(fd: int, timeout_s: int) -> None:
    """Waits, at most `timeout_s`, until the peer has acknowledged what was written; not if it is dead.

    In slices: a signal does not end the wait in C, and its handler, which may raise, shall have its turn.
    """
    deadline = time.monotonic() + timeout_s
    while lib.ks_linger(fd, int(1000 * min(max(deadline - time.monotonic(), 0), 0.2))) == -ETIMEDOUT:
        if time.monotonic() >= deadline:
            return


def set_option(fd: int, option: int, value: int) -> None:
    """Changes a live connection or listener."""
    check(lib.ks_set_option(fd, option, value))


def set_udp_option(fd: int, level: int, option: int, value: bytes) -> None:
    """For the UDP socket of a connection that this end began; ENOPROTOOPT: an accepted one shares its listener's."""
    check(lib.ks_set_udp_option(fd, level, option, value, len(value)))


class Patience(NamedTuple):
    """How long a connection bears silence, in ms; 0: as its profile says. In the order of ks_patience."""

    idle: int = 0
    interval: int = 0
    silence: int = 0
    unacked: int = 0
    connect: int = 0


def set_patience(fd: int, patience: Patience) -> None:
    """For a live connection, or one in progress, in place of what was set before."""
    check(lib.ks_set_patience(fd, ffi.new("ks_patience *", patience)))


def send_oob(fd: int, data: bytes) -> None:
    """Sends `data` beside a connection's stream, once; EOPNOTSUPP without FEC, EMSGSIZE when it is too long."""
    check(lib.ks_send_oob(fd, data, len(data)))


def oob_fd() -> int:
    """The descriptor from which each out-of-band packet is read, as u64 id (OPT_OOB's), data. C's, one per process."""
    return check(lib.ks_oob_fd())


def park(udp_fd: int) -> None:
    """Lets a bound UDP socket refuse strangers, as a TCP port does that nobody listens on. For good."""
    check(lib.ks_udp_park(udp_fd))


def adopt(family: int, name: Address, v6only: bool, reuse: bool) -> int:
    """A descriptor of the UDP port `name` if connections alone still hold it, and SO_REUSEADDR (`reuse`) is set.

    -1 when no engine of this process holds it (any more). OSError EADDRINUSE: it is held, as TCP would say.
    """
    address = _socket.inet_pton(family, name[0].partition("%")[0])
    scope = name[3] if len(name) > 3 else 0
    result = int(lib.ks_udp_adopt(family, address.ljust(16, b"\0"), name[1], scope, v6only, reuse))
    return -1 if result == -ENOENT else check(result)


def shut_out(udp_fd: int) -> None:
    """Drops all packets that came to a UDP socket, and those that come until `let_in`."""
    check(lib.ks_udp_shut(udp_fd))


def let_in(udp_fd: int) -> None:
    """Undoes `shut_out`."""
    check(lib.ks_udp_open(udp_fd))


def send_now(fd: int, data: Any) -> int:
    """Bytes of `data` that a connection sent at once, past its descriptor; 0: that has to take them.

    So waiting and errors stay the kernel's, of what is no contiguous buffer too. Memory of other makers, as mmap's of a
    file that was truncated, may not be there when it is read: a signal here, EFAULT in the kernel.
    """
    if not isinstance(data.obj if isinstance(data, memoryview) else data, (bytes, bytearray)):
        return 0
    try:
        buffer = ffi.from_buffer("uint8_t[]", data)
    except (TypeError, ValueError, BufferError):
        return 0
    return int(lib.ks_send_now(fd, buffer, len(buffer)))


def poll(fd: int, events: int, timeout_ms: int) -> int:
    """One poll(2): what is ready, 0 after `timeout_ms` (-1: no limit) or when a signal came."""
    result = lib.ks_poll(fd, events, timeout_ms)
    return 0 if result == -EINTR else check(result)


# --- names ------------------------------------------------------------------------------------------------------------


class Names(NamedTuple):
    """The ends of a connection, or a listener's own, as the socket module writes addresses."""

    family: int
    local: Address
    peer: Address


# ks_accept_msg: family, peer_port, local_port, reserved, peer_flowinfo, peer_scope, local_flowinfo, local_scope, two
# addresses.
_ACCEPT_MSG = struct.Struct("=4H4I16s16s")
ACCEPT_MSG_BYTES = _ACCEPT_MSG.size
if ffi.sizeof("ks_accept_msg") != ACCEPT_MSG_BYTES:
    raise ImportError("kcpsock: ks_accept_msg of the C extension and of _connections.py differ: rebuild the extension")


def names_of(message: bytes) -> Names:
    """The names in a ks_accept_msg."""
    family, peer_port, local_port, _, peer_flow, peer_scope, local_flow, local_scope, peer, local = _ACCEPT_MSG.unpack(
        message
    )
    return Names(
        family,
        _local_address(family, local, local_port, local_flow, local_scope),
        _address(family, peer, peer_port, peer_flow, peer_scope),
    )


def _address(family: int, host: bytes, port: int, flow: int, scope: int) -> Address:
    if family == _socket.AF_INET:
        return _socket.inet_ntop(family, host[:4]), port
    return _socket.inet_ntop(family, host), port, flow, scope


_local_address = functools.lru_cache(maxsize=64)(_address)  # a listener's connections share theirs


def names(fd: int) -> Names:
    """The names of a connection or listener; OSError ENOTSOCK when no engine of this process has it."""
    info = ffi.new("ks_info *")
    check(lib.ks_get_info(fd, info))
    return names_of(bytes(ffi.buffer(ffi.addressof(info[0], "names"))))
