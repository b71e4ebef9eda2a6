# SPDX-License-Identifier: MIT
"""The C data plane as Python functions, and the pool of engines behind it. Nothing else in kcpsock touches `ffi` or
`lib`.

The pool starts at the first connect() or listen(): KCPSOCK_ENGINES native threads (default 1), each with a gevent hub
whose one greenlet is inside C, GIL released, until the interpreter ends. The threads know engine numbers only, never a
socket. A forked child has no engine: what it inherited is carried on by the parent's, and it starts a pool of its own
at first use.

A connection or listener is named by its descriptor number (cffi_build/api.cdef). Every failure is an OSError, from
`_errors.check`.
"""

from __future__ import annotations

import _socket
import atexit
import dataclasses
import itertools
import os
import resource
import signal
import struct
import sys
import time
from errno import EINTR, ENOENT, ENOTCONN, ENOTSOCK
from typing import Any, NamedTuple, Optional, Union

import gevent
import gevent.hub
from gevent.monkey import get_original

from ._crypt import open_crypt
from ._errors import check, error_of
from ._fec import coefficients
from ._native import ffi, lib
from ._profile import Profile
from ._snappy import BrokenStream, Streams

Address = Union[tuple[str, int], tuple[str, int, int, int]]

start_new_thread = get_original("_thread", "start_new_thread")
allocate_lock = get_original("_thread", "allocate_lock")

POLLIN, POLLOUT = 1, 4

UDP_MODES = {"auto": lib.KS_UDP_AUTO, "plain": lib.KS_UDP_PLAIN, "mmsg": lib.KS_UDP_MMSG, "gso": lib.KS_UDP_GSO}

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
OPT_OOB = lib.KS_OPT_OOB

NOT_KCP, CONNECTION, LISTENER = 0, 1, 2


# --- the pool ---------------------------------------------------------------------------------------------------------


class _Pool:
    # The running engines: their numbers, handed out in turn, and a lock each that opens when its thread has ended.
    # Sessions that compress have one more of their own: their data take the GIL (cffi_build/codec.h), and nobody else's
    # shall wait for that.

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.ended: list[Any] = []
        self.compressing: Optional[int] = None
        self._udp_mode = _from_environment("KCPSOCK_UDP", "auto", UDP_MODES)
        self._busy_poll = _from_environment("KCPSOCK_BUSY_POLL", "on", {"off": 0, "on": 1})
        _raise_descriptor_limit()
        engines = _from_environment("KCPSOCK_ENGINES", "1", {str(n): n for n in range(1, 16)})
        self._all = [self._start() for _ in range(engines)]
        self._turns = itertools.cycle(self._all)

    def _start(self) -> int:
        number = check(lib.ks_engine_open(self._udp_mode, self._busy_poll))
        ended = allocate_lock()
        ended.acquire()
        self.numbers.append(number)
        self.ended.append(ended)
        start_new_thread(_run_engine, (number, ended))
        return number

    def next(self, compress: bool) -> int:
        # For a connection.
        return self._compressing() if compress else next(self._turns)

    def spread(self, compress: bool) -> list[int]:
        # For a listener: all, where the kernel can spread its peers over several UDP sockets.
        if compress:
            return [self._compressing()]
        return self._all if lib.ks_udp_can_spread() else [next(self._turns)]

    def _compressing(self) -> int:
        with _pool_lock:
            if self.compressing is None:
                self.compressing = self._start()
            return self.compressing


_pool: Optional[_Pool] = None
_pool_lock = allocate_lock()


def _run_engine(number: int, ended: Any) -> None:
    # The whole life of an engine's thread. Signals stay with the application's threads: one that lands here would wake
    # nobody.
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        hub = gevent.get_hub()
        try:
            gevent.spawn(lib.ks_engine_run, number).join()
        finally:
            hub.destroy(destroy_loop=True)
    finally:
        ended.release()


def _from_environment(name: str, default: str, allowed: dict[str, int]) -> int:
    # A setting from the environment; ValueError naming it when it is none of `allowed`.
    text = os.environ.get(name) or default
    if text not in allowed:
        raise ValueError(f"environment {name} is {text!r}; allowed is one of {', '.join(allowed)}")
    return allowed[text]


def _raise_descriptor_limit() -> None:
    # A connection takes two descriptors, so the soft limit goes up to the hard one; a system that refuses keeps its
    # limit.
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass


def _running_pool() -> _Pool:
    # Starts it at first use.
    global _pool
    if _pool is None:
        with _pool_lock:
            if _pool is None:
                _pool = _Pool()
                # A multiprocessing child leaves by os._exit, past atexit: its own exit hook has to do.
                multiprocessing = sys.modules.get("multiprocessing")
                if multiprocessing is not None and multiprocessing.parent_process() is not None:
                    sys.modules["multiprocessing.util"].Finalize(None, _drain_and_stop, exitpriority=-1000)
    return _pool


def _drain_and_stop() -> None:
    # At exit: what was sent still arrives, within KCPSOCK_EXIT_LINGER seconds. In slices, so that Ctrl-C gets through.
    global _pool
    pool, _pool = _pool, None
    if pool is None:
        return
    try:
        linger_s = float(os.environ.get("KCPSOCK_EXIT_LINGER") or 5)
    except ValueError:
        linger_s = 5.0
    deadline = time.monotonic() + linger_s
    try:
        for number in pool.numbers:
            while lib.ks_engine_drain(number, int(1000 * min(max(deadline - time.monotonic(), 0), 0.2))) > 0:
                if time.monotonic() >= deadline:
                    break
    finally:
        for number, ended in zip(pool.numbers, pool.ended):
            lib.ks_engine_stop(number)
            ended.acquire(timeout=1)


is_child = False  # a forked one: kind(), names() and info() don't know what it inherited, the parent's engines do


def _forget_engines() -> None:
    # In a forked child: the threads are gone, the lock may be anyone's.
    global _pool, _pool_lock, is_child
    _pool, _pool_lock, is_child = None, allocate_lock(), True
    lib.ks_forget_engines()


atexit.register(_drain_and_stop)
os.register_at_fork(after_in_child=_forget_engines)


# --- connections and listeners ----------------------------------------------------------------------------------------


def _c_profile(profile: Profile) -> Any:
    # All of it but `crypt` and `fec_coefficients`, which have an owner: see _hand_over.
    fec_data, fec_parity = profile.fec or (0, 0)
    nodelay, interval_ms, resend, nc = profile.arq
    return ffi.new(
        "ks_profile *",
        {
            "framing": int(profile.framing == "smux"),
            "smux_version": profile.smux_version,
            "nodelay": nodelay,
            "interval_ms": interval_ms,
            "resend": resend,
            "nc": nc,
            "sndwnd_pkts": profile.sndwnd,
            "rcvwnd_pkts": profile.rcvwnd,
            "mtu_bytes": profile.mtu,
            "stream": profile.stream,
            "ack_nodelay": profile.ack_nodelay,
            "write_delay": profile.write_delay,
            "dscp": profile.dscp,
            "sockbuf_bytes": profile.sockbuf,
            "keepalive_ms": _ms(profile.keepalive),
            "keepalive_timeout_ms": _ms(profile.keepalive_timeout),
            "fec_data": fec_data,
            "fec_parity": fec_parity,
            "dup": profile.dup,
            "compress": profile.compress,
            "rate_limit": profile.rate_limit,
        },
    )


def _ms(seconds: float) -> int:
    # Whole ms; a period of less than one is not "off".
    return max(1, round(seconds * 1000)) if seconds else 0


def connect(app_fd: int, udp_fd: int, profile: Profile) -> None:
    """Starts a connection over the connected `udp_fd`, which the engine takes over, also on failure."""
    with _Handed([udp_fd], profile) as handed:
        number = _running_pool().next(profile.compress)
        handed.profile.crypt = handed.open_crypt()
        check(handed.over_to(lib.ks_connect, number, app_fd, udp_fd, handed.profile))


def listener_width(profile: Profile) -> int:
    """How many UDP sockets of one address a listener wants: one for each engine that will serve it."""
    return len(_running_pool().spread(profile.compress))


def listen(app_fd: int, udp_fds: list[int], profile: Profile, backlog: int) -> None:
    """Starts a listener on bound sockets of one address, `listener_width` of them, or one that `adopt` gave; the
    engines take them over, also on failure."""
    with _Handed(udp_fds, profile) as handed:
        numbers = _running_pool().spread(profile.compress)
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


def take_error(fd: int) -> int:
    """The errno that ended the connection: given out once, then 0."""
    return max(int(lib.ks_take_error(fd)), 0)


def reset(fd: int) -> None:
    """Abandons a connection, or an attempt, now; the peer is told. What has ended already stays as it is."""
    lib.ks_reset(fd)


def closing(fd: int) -> None:
    """A listener is about to be closed: connections that accept() has not taken will be reset then."""
    lib.ks_closing(fd)


def linger(fd: int, timeout_s: int) -> None:
    """Waits, at most `timeout_s`, until the peer has acknowledged what was written; not if it is dead."""
    deadline = time.monotonic() + timeout_s
    while True:
        left_ms = max(0, int(1000 * (deadline - time.monotonic())))
        if lib.ks_linger(fd, min(left_ms, 2**31 - 1)) != -EINTR:
            return


def set_option(fd: int, option: int, value: int) -> None:
    """Changes a live connection or listener."""
    check(lib.ks_set_option(fd, option, value))


def send_oob(fd: int, data: bytes) -> None:
    """Sends `data` beside a connection's stream, once; EOPNOTSUPP without FEC, EMSGSIZE when it is too long."""
    check(lib.ks_send_oob(fd, data, len(data)))


def oob_fd() -> int:
    """The descriptor from which each out-of-band packet is read, as u64 id (OPT_OOB's), data. C's, one per process."""
    return check(lib.ks_oob_fd())


def park(udp_fd: int) -> None:
    """Lets a bound UDP socket refuse strangers, as a TCP port does that nobody listens on."""
    check(lib.ks_udp_park(udp_fd))


def adopt(family: int, name: Address, reuse: bool) -> int:
    """A descriptor of the UDP port `name` if connections alone still hold it, and SO_REUSEADDR (`reuse`) is set.

    -1 when no engine of this process holds it (any more). OSError EADDRINUSE: it is held, as TCP would say.
    """
    address = _socket.inet_pton(family, name[0].partition("%")[0])
    scope = name[3] if len(name) > 3 else 0
    result = int(lib.ks_udp_adopt(family, address.ljust(16, b"\0"), name[1], scope, reuse))
    return -1 if result == -ENOENT else check(result)


def unpark(udp_fd: int) -> None:
    """Undoes `park`."""
    check(lib.ks_udp_unpark(udp_fd))


def shut_out(udp_fd: int) -> None:
    """Drops all packets that came to a UDP socket, and those that come until `let_in`."""
    check(lib.ks_udp_shut(udp_fd))


def let_in(udp_fd: int) -> None:
    """Undoes `shut_out`."""
    check(lib.ks_udp_open(udp_fd))


def send_now(fd: int, data: Any) -> int:
    """Bytes of `data` that a connection sent at once, past its descriptor; 0: that has to take them.

    So waiting and errors stay the kernel's, of what is no contiguous buffer too.
    """
    try:
        buffer = ffi.from_buffer("uint8_t[]", data)
    except (TypeError, ValueError, BufferError):
        return 0
    return int(lib.ks_send_now(fd, buffer, len(buffer)))


def poll(fd: int, events: int, timeout_ms: int) -> int:
    """One poll(2): what is ready, 0 after `timeout_ms` (-1: no limit) or when a signal came."""
    result = lib.ks_poll(fd, events, timeout_ms)
    return 0 if result == -EINTR else check(result)


# --- compression ------------------------------------------------------------------------------------------------------

_codec_streams = Streams()


@ffi.def_extern(error=-1)  # type: ignore[untyped-decorator]
def ks_run_codec(identity: int, what: int, data: Any, size: int, out: Any, most: int) -> int:
    """codec.h's ks_codec_run, in an engine's thread. Broken data end the session, which counts them."""
    if what == lib.KS_CODEC_CLOSE:
        _codec_streams.close(identity)
        return 0
    given = bytes(ffi.buffer(data, size)) if size else b""
    try:
        result = _codec_streams.run(identity, what == lib.KS_CODEC_COMPRESS, given, most)
    except BrokenStream:
        return -1
    ffi.memmove(out, result, len(result))
    return len(result)


lib.ks_codec_use(lib.ks_run_codec)


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
    raise ImportError("kcpsock: ks_accept_msg of the C extension and of _engine.py differ: rebuild the extension")


def names_of(message: bytes) -> Names:
    """The names in a ks_accept_msg."""
    family, peer_port, local_port, _, peer_flow, peer_scope, local_flow, local_scope, peer, local = _ACCEPT_MSG.unpack(
        message
    )
    if family == _socket.AF_INET:
        return Names(
            family,
            (_socket.inet_ntop(family, local[:4]), local_port),
            (_socket.inet_ntop(family, peer[:4]), peer_port),
        )
    return Names(
        family,
        (_socket.inet_ntop(family, local), local_port, local_flow, local_scope),
        (_socket.inet_ntop(family, peer), peer_port, peer_flow, peer_scope),
    )


def names(fd: int) -> Names:
    """The names of a connection or listener."""
    info = ffi.new("ks_info *")
    check(lib.ks_get_info(fd, info))
    return names_of(bytes(ffi.buffer(ffi.addressof(info[0], "names"))))


# --- numbers ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class KCPInfo:
    """A connection's state at one moment, and its counters since it began."""

    conv: int
    srtt_ms: int
    rttvar_ms: int
    rto_ms: int
    snd_wnd_pkts: int
    rcv_wnd_pkts: int
    rmt_wnd_pkts: int
    cwnd_pkts: int
    in_flight_pkts: int
    queued_pkts: int
    unread_pkts: int
    mss_bytes: int
    out_segs: int
    in_segs: int
    retrans_segs: int
    fast_retrans_segs: int
    early_retrans_segs: int
    lost_segs: int
    repeat_segs: int
    bytes_sent: int
    bytes_received: int
    fec_recovered: int
    """packets rebuilt"""
    fec_errs: int
    """packets that could not be rebuilt, though enough of their group came"""
    fec_parity_shards: int
    """parity packets received"""
    fec_full_sets: int
    """groups of which all data packets came or were rebuilt"""
    fec_short_sets: int
    """groups given up"""
    fec_data: int
    """data packets of a group, as the peer sends them; 0: it sends no FEC, or that is not found out yet"""
    fec_parity: int
    """parity packets of such a group"""
    oob_sent: int
    oob_received: int
    streams: int

    @property
    def loss(self) -> float:
        """Share of the sent segments that had to be sent again, 0 to 1."""
        return self.retrans_segs / self.out_segs if self.out_segs else 0.0


_INFO_FIELDS = [field.name for field in dataclasses.fields(KCPInfo)]


def info(fd: int) -> KCPInfo:
    """The numbers of a connection; OSError for a listener or what is no KCP connection."""
    found = ffi.new("ks_info *")
    result = int(lib.ks_get_info(fd, found))
    if result == -ENOTSOCK:
        raise error_of(ENOTCONN)  # both directions have ended: the engine has let go of it
    check(result)
    return KCPInfo(**{name: getattr(found, name) for name in _INFO_FIELDS})


# kcp-go's SNMP names first, then what only kcpsock counts. None: always 0.
_STATS: dict[str, Optional[str]] = {
    "BytesSent": "bytes_sent",
    "BytesReceived": "bytes_received",
    "MaxConn": "max_conn",
    "ActiveOpens": "active_opens",
    "PassiveOpens": "passive_opens",
    "CurrEstab": "curr_estab",
    "InErrs": "in_errs",
    "InCsumErrors": "in_csum_errors",
    "KCPInErrors": "kcp_in_errors",
    "InPkts": "in_pkts",
    "OutPkts": "out_pkts",
    "InSegs": "in_segs",
    "OutSegs": "out_segs",
    "InBytes": "in_bytes",
    "OutBytes": "out_bytes",
    "RetransSegs": "retrans_segs",
    "FastRetransSegs": "fast_retrans_segs",
    "EarlyRetransSegs": "early_retrans_segs",
    "LostSegs": "lost_segs",
    "RepeatSegs": "repeat_segs",
    "FECFullShardSet": "fec_full_sets",
    "FECRecovered": "fec_recovered",
    "FECErrs": "fec_errs",
    "FECParityShards": "fec_parity_shards",
    "FECShardSet": "fec_short_sets",
    "FECShardMin": None,
    "RingBufferSndQueue": "snd_queue_pkts",
    "RingBufferRcvQueue": "rcv_queue_pkts",
    "RingBufferSndBuffer": "snd_buffer_pkts",
    "OOBPackets": "oob_packets",
    "OOBDrops": "oob_drops",
    "SmuxErrors": "smux_errors",
    "UdpSendDrops": "udp_send_drops",
    "UdpRecvDrops": "udp_recv_drops",
    "ResetsSent": "resets_sent",
    "ResetsReceived": "resets_received",
    "BacklogDrops": "backlog_drops",
    "BusyPolls": "busy_polls",
    "Sessions": "sessions",
    "Streams": "streams",
    "MemoryBytes": "memory_bytes",
}


def stats() -> dict[str, int]:
    """Totals of this process over all its KCP connections since it started, under kcp-go's SNMP names.

    CurrEstab, Sessions, Streams, MemoryBytes and the RingBuffer ones (packets queued) are of the moment. BusyPolls are
    the engines' waits that began by polling (KCPSOCK_BUSY_POLL). FECShardSet counts the groups given up incomplete,
    where kcp-go has the number that one session holds at the moment. FECShardMin, one session's newest group there, is
    0.
    """
    totals = ffi.new("ks_stats *")
    check(lib.ks_get_stats(totals))
    return {name: int(getattr(totals, member)) if member else 0 for name, member in _STATS.items()}
