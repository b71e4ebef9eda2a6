# SPDX-License-Identifier: MIT
"""Waiting: the one place that knows threads and greenlets.

A thread without a gevent hub waits in the kernel, by calling the stdlib's own method; none is made for it. In a
greenlet the call is tried without waiting, and when it would block the greenlet sleeps on its hub's io watcher, so that
the hub runs on. Any number of greenlets may wait on one socket; closing the socket gives each of them EBADF.
"""

from __future__ import annotations

import _socket
import math
import time
from errno import EBADF
from typing import Any, Callable, Optional, Protocol, TypeVar

import gevent.hub
import gevent.resolver.thread  # noqa: F401  (a hub would import it lazily, when `socket` may mean kcpsock)
import gevent.threadpool  # noqa: F401  (likewise)
from gevent._hub_local import get_hub_if_exists  # the only way to ask without making one
from greenlet import getcurrent

from . import _engine
from ._engine import POLLIN, POLLOUT
from ._errors import error_of, timed_out

T = TypeVar("T")

_HUB_EVENTS = {POLLIN: 1, POLLOUT: 2}  # poll(2) -> libev
# The C type's own attributes: the class above it makes enums of them.
_family, _type, _proto = (getattr(_socket.socket, name).__get__ for name in ("family", "type", "proto"))
_READY, _TIMED_OUT, _CLOSED = "ready", "timed out", "closed"


class Waitable(Protocol):
    """What is needed of a socket."""

    _waits: Optional[set[Any]]

    def fileno(self) -> int: ...

    def gettimeout(self) -> Optional[float]: ...


def cooperative_hub() -> Any:
    """The hub to wait in, or None when this thread waits natively."""
    hub = get_hub_if_exists()
    return None if hub is None or getcurrent() is hub else hub


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
    if fd >= 0 and timeout is None and not _engine.poll(fd, events, 0):
        raise BlockingIOError
    return method(sock, *args)


def until_ready(sock: Waitable, events: int, timeout_s: Optional[float]) -> bool:
    """Waits as this thread demands until one of `events` (or an error) is there. False: `timeout_s` passed."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    hub = cooperative_hub()
    while True:
        # A signal ends the native wait early; its Python handler has run, or raised, before the next round.
        if _engine.poll(sock.fileno(), events, 0 if hub else _left_ms(deadline)):
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
