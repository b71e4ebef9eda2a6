# SPDX-License-Identifier: MIT
"""Out-of-band packets (docs/protocol.md 2): who gets those that arrive.

An engine writes each to a descriptor of its process, behind the id of the connection's Registration; one native thread
reads there and calls the handlers. It starts with the first handler and ends at the interpreter's exit, and a forked
child starts its own. Nothing here keeps a Registration alive but the socket's Life: a packet whose Registration is gone
is dropped.
"""

from __future__ import annotations

import _socket
import atexit
import itertools
import os
import signal
import struct
import sys
import threading
import traceback
import weakref
from typing import Any, Callable

from gevent.monkey import get_original

from . import _connections
from ._crypt import overhead
from ._profile import FEC_HEAD_BYTES, Profile

Handler = Callable[[bytes], Any]

start_new_thread = get_original("_thread", "start_new_thread")
allocate_lock = get_original("_thread", "allocate_lock")

_ID = struct.Struct("=Q")
_PACKET_BYTES_MAX = 65536
_CONV_BYTES = 4
_EXIT_WAIT_S = 1.0  # for a handler that is at work when the interpreter exits


class Registration:
    """A connection's handler, under an id that is never used again. Alive as long as somebody holds it."""

    __slots__ = ("__weakref__", "handler", "id")

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.id = next(_ids)
        _registrations[self.id] = self


class _Reader:
    # The thread, from its start to its end.

    def __init__(self) -> None:
        # A duplicate: the descriptor itself is C's. shutdown() on either wakes the thread.
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0, os.dup(_connections.oob_fd()))
        self.socket.setblocking(True)
        self.stopping = False
        self.ended = allocate_lock()
        self.ended.acquire()
        start_new_thread(self._run, ())

    def _run(self) -> None:
        # Signals stay with the application's threads.
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                datagram = self.socket.recv(_PACKET_BYTES_MAX)
                if self.stopping or not datagram:  # shut down
                    return
                if len(datagram) >= _ID.size:
                    _deliver(datagram)
        finally:
            self.ended.release()

    def stop(self) -> None:
        self.stopping = True
        self.socket.shutdown(_socket.SHUT_RD)
        if self.ended.acquire(timeout=_EXIT_WAIT_S):
            self.socket.close()


_ids = itertools.count(1)  # 0 is "off" to the engine
_registrations: weakref.WeakValueDictionary[int, Registration] = weakref.WeakValueDictionary()
_reader: Any = None
_reader_lock = allocate_lock()


def switch_on(fd: int, registration: Registration) -> None:
    """Delivers the packets of a connection to `registration` from now on. No effect on one that has died."""
    global _reader
    with _reader_lock:
        if _reader is None:
            _reader = _Reader()
    _tell_engine(fd, registration.id)


def switch_off(fd: int) -> None:
    """Delivers no more packets of a connection."""
    _tell_engine(fd, 0)


def largest(profile: Profile, packet_bytes: int) -> int:
    """Bytes that fit into an out-of-band packet, where the path takes so many of UDP payload."""
    return packet_bytes - overhead(profile.cipher) - FEC_HEAD_BYTES - _CONV_BYTES


def _tell_engine(fd: int, id: int) -> None:
    try:
        _connections.set_option(fd, _connections.OPT_OOB, id)
    except OSError:
        if _connections.kind(fd) != _connections.NOT_KCP:
            raise


def _deliver(datagram: bytes) -> None:
    # Whatever a handler raises, the thread lives on.
    registration = _registrations.get(_ID.unpack_from(datagram)[0])
    if registration is None:
        return
    try:
        registration.handler(datagram[_ID.size :])
    except SystemExit:
        pass  # as in any thread
    except BaseException:
        try:
            threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), None]))
        except BaseException:
            traceback.print_exc()


def _stop() -> None:
    # At exit, while the engines still run: a handler shall not meet an interpreter half gone.
    global _reader
    reader, _reader = _reader, None
    if reader is not None:
        reader.stop()


def _forget() -> None:
    # In a forked child: the thread is the parent's, the lock may be anyone's.
    global _reader, _reader_lock
    reader, _reader = _reader, None
    _reader_lock = allocate_lock()
    if reader is not None:
        reader.socket.close()


atexit.register(_stop)
os.register_at_fork(after_in_child=_forget)
