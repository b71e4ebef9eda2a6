# SPDX-License-Identifier: MIT
"""Waiting: the one place that knows threads and greenlets.

A thread without a gevent hub waits in the kernel, by calling the stdlib's own method; none is made for it. In a
greenlet the call is tried without waiting, and when it would block the greenlet sleeps on its hub's io watcher, so that
the hub runs on. Any number of greenlets may wait on one socket; closing the socket gives each of them EBADF. Who waits
for it by gevent's select(), a selector or wait_read() is woken, as by a close of gevent's own sockets.
"""

from __future__ import annotations

import _socket
import fcntl
import math
import select
import sys
import termios
import time
import weakref
from errno import EBADF
from typing import Any, Callable, Optional, Protocol, TypeVar

import gevent.hub
import gevent.resolver.thread  # noqa: F401  (a hub would import it lazily, when `socket` may mean kcpsock)
import gevent.threadpool  # noqa: F401  (likewise)
from gevent._hub_local import get_hub_if_exists  # the only way to ask without making one
from greenlet import getcurrent

from . import _connections
from ._connections import POLLIN, POLLOUT
from ._errors import error_of, timed_out

T = TypeVar("T")

_HUB_EVENTS = {POLLIN: 1, POLLOUT: 2}  # poll(2) -> libev
# The C type's own attributes: the class above it makes enums of them.
_family, _type, _proto = (getattr(_socket.socket, name).__get__ for name in ("family", "type", "proto"))
_READY, _TIMED_OUT, _CLOSED = "ready", "timed out", "closed"


class Waitable(Protocol):
    """What is needed of a socket.

    `_waits`: the greenlets that wait for it here, each with its hub and watcher. `_hub`: of the thread that made it.
    """

    _waits: Optional[set[Any]]
    _hub: Optional[weakref.ref[Any]]

    def fileno(self) -> int: ...

    def gettimeout(self) -> Optional[float]: ...


def cooperative_hub() -> Any:
    """The hub to wait in, or None when this thread waits natively."""
    hub = get_hub_if_exists()
    return None if hub is None or getcurrent() is hub else hub


def hub_of_thread() -> Optional[weakref.ref[Any]]:
    """This thread's hub, for a socket that is made here: a close in another thread tells it."""
    hub = get_hub_if_exists()
    return None if hub is None else weakref.ref(hub)


def cooperate(hub: Any, sock: Any, events: int, method: Callable[..., T], args: Any, flags: Optional[int]) -> T:
    """`method(sock, *args, flags)` as soon as it wouldn't block, or a timeout; `flags` None: the method takes none."""
    timeout = sock.gettimeout()
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return attempt(sock, timeout, events, method, args, flags)
        except BlockingIOError:
            if timeout == 0:
                raise
        if not _sleep(hub, sock, events, deadline):
            raise timed_out()


def attempt(
    sock: Any, timeout: Optional[float], events: int, method: Callable[..., T], args: Any, flags: Optional[int]
) -> T:
    """`method(sock, *args, flags)` once, without waiting: BlockingIOError when it would."""
    fd = sock.fileno()
    if fd >= 0 and timeout:
        # CPython would poll in the kernel by itself. Its descriptor is non-blocking already, so an object without
        # timeout on the same number doesn't wait.
        impatient = _socket.socket(_family(sock), _type(sock), _proto(sock), fd)
        try:
            impatient.settimeout(0)
            return method(impatient, *args) if flags is None else method(impatient, *args, flags)
        finally:
            impatient.detach()
    if flags is not None:
        return method(sock, *args, flags | _socket.MSG_DONTWAIT)
    if fd >= 0 and timeout is None and not _connections.poll(fd, events, 0):
        raise BlockingIOError
    return method(sock, *args)


def until_ready(sock: Waitable, events: int, timeout_s: Optional[float]) -> bool:
    """Waits as this thread demands until one of `events` (or an error) is there. False: `timeout_s` passed."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    hub = cooperative_hub()
    while True:
        # A signal ends the native wait early; its Python handler has run, or raised, before the next round.
        if _connections.poll(sock.fileno(), events, 0 if hub else _left_ms(deadline)):
            return True
        if deadline is not None and time.monotonic() >= deadline:
            return False
        if hub is not None:
            _sleep(hub, sock, events, deadline)


def cancel(sock: Waitable) -> None:
    """Gives EBADF to every greenlet that waits on `sock`. To be called before its descriptor goes."""
    waits, sock._waits = sock._waits, None
    for hub, watcher, waiter in waits or ():
        if hub.loop is None:
            pass  # destroyed, and its greenlets with it
        elif hub is get_hub_if_exists():
            watcher.stop()  # at once: the descriptor's number may be another's before the hub's next turn
            hub.loop.run_callback(waiter.switch, _CLOSED)
        else:
            hub.loop.run_callback_threadsafe(waiter.switch, _CLOSED)


def wake_watchers(sock: Waitable) -> bool:
    """Has those woken that watch the descriptor in a hub by other means than this module: select(), a selector,
    wait_read(). To be called before the descriptor goes.

    True: they wake up at the next turn of this thread's hub, and the descriptor has to stay open till then, since libev
    must not be told of a closed one; see `close_later`.
    """
    fd, hub = sock.fileno(), get_hub_if_exists()
    home = None if sock._hub is None else sock._hub()
    if home is not None and home is not hub and home.loop is not None:
        # The descriptor is not kept open for another thread's hub, which may never run again. If its number is another
        # file's by then, who watches that one wakes up for nothing, as select() allows.
        home.loop.run_callback_threadsafe(_wake_here, home.loop, fd)
    return hub is not None and hub.loop is not None and bool(hub.loop.closing_fd(fd))


def _wake_here(loop: Any, fd: int) -> None:
    # Among the loop's callbacks: it would fall asleep over those that the woken watchers add behind them.
    loop.closing_fd(fd)
    turn = loop.timer(0)
    turn.start(turn.close)


def moved(sock: Waitable) -> None:
    """Another open file is under the descriptor's number: hubs register it anew for who watches the number."""
    fd = sock.fileno()
    hubs = {get_hub_if_exists(), None if sock._hub is None else sock._hub()}
    for hub in hubs:
        if hub is None or hub.loop is None:
            continue
        if hub is get_hub_if_exists():
            _register_anew(hub.loop, fd)
        else:
            hub.loop.run_callback_threadsafe(_register_anew, hub.loop, fd)


def _register_anew(loop: Any, fd: int) -> None:
    # libev compares what is watched with what it has told the kernel, by number; a new watcher makes it tell it again.
    watcher = loop.io(fd, _HUB_EVENTS[POLLIN])
    watcher.start(int)
    watcher.close()


def close_later(fd: int) -> None:
    """Closes a descriptor when those that `wake_watchers` told have run."""
    timer = get_hub_if_exists().loop.timer(0)  # a check, as gevent has it, would let the hub sleep first

    def close() -> None:
        timer.close()
        _socket.close(fd)

    timer.start(close)


def resolved(family: int, address: Any) -> Any:
    """`address` with a numeric host, found by the hub's resolver in a greenlet. What is no address stays."""
    hub = cooperative_hub()
    if (
        hub is None
        or not isinstance(address, tuple)
        or len(address) < 2
        or family not in (_socket.AF_INET, _socket.AF_INET6)
    ):
        return address
    host, port = address[:2]
    if not isinstance(host, (str, bytes)) or not host or host in ("<broadcast>", b"<broadcast>"):
        return address
    if 0 in (host if isinstance(host, bytes) else host.encode("utf-8", "replace")):
        return address  # the stdlib's method says what it thinks of that
    try:
        _socket.inet_pton(family, host if isinstance(host, str) else host.decode("ascii"))
    except (OSError, UnicodeDecodeError, ValueError):
        found = hub.resolver.getaddrinfo(for_resolver(host), None, family)[0][4]
        rest = address[2:] or found[2:]
        return (found[0], port, *rest)
    return address


def for_resolver(host: Any) -> Any:
    """`host` for a hub's resolver, which applies IDNA, with its rules for lengths, where the stdlib does not."""
    if isinstance(host, str) and host.isascii():
        if not all(0 < len(label) < 64 for label in host.rstrip(".").split(".")):
            return host.encode("ascii")
    return host


def in_thread(hub: Any, call: Callable[..., T], *args: Any) -> T:
    """A call that blocks in C: in `hub`'s thread pool, or here when there is no hub."""
    return call(*args) if hub is None else hub.threadpool.apply(call, args)


def _left_ms(deadline: Optional[float]) -> int:
    # For poll(2): rounded up, so that the deadline has passed when it returns.
    if deadline is None:
        return -1
    return min(math.ceil(max(deadline - time.monotonic(), 0) * 1000), 2**31 - 1)


def for_bytes(fd: int, count: int) -> None:
    """Waits until so many bytes can be read, or the end is there: a pair's poll() tells of the first one only.

    Not in a greenlet, where a call takes what is there, as gevent's; nor where the system has no epoll.
    """
    if cooperative_hub() is not None or not hasattr(select, "epoll"):
        return
    with select.epoll() as news:  # edge-triggered: it tells of each write
        news.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        ended = False
        while not ended and _readable_bytes(fd) < count:
            events = sum(event for _, event in news.poll())
            ended = bool(events & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR))


def _readable_bytes(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def _sleep(hub: Any, sock: Waitable, events: int, deadline: Optional[float]) -> bool:
    # Lets the hub run until the descriptor is ready (True) or the deadline passes (False). EBADF when the socket is
    # closed.
    left_s = None if deadline is None else deadline - time.monotonic()
    if left_s is not None and left_s <= 0:
        return False
    waiter = gevent.hub.Waiter(hub)
    watcher = hub.loop.io(sock.fileno(), _HUB_EVENTS[events])
    timer = None
    wait = (hub, watcher, waiter)
    if sock._waits is None:
        sock._waits = set()
    sock._waits.add(wait)
    try:
        watcher.start(waiter.switch, _READY)
        if left_s is not None:
            timer = hub.loop.timer(left_s)
            timer.start(waiter.switch, _TIMED_OUT)
        result = waiter.get()
    finally:
        if sock._waits is not None:
            sock._waits.discard(wait)
        watcher.close()
        if timer is not None:
            timer.close()
    if result is _CLOSED:
        raise error_of(EBADF)
    return result is _READY
