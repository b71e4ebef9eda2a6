# SPDX-License-Identifier: MIT
"""The pool of engines: native threads that run the C data plane.

The pool starts at the first connect() or listen(): KCPSOCK_ENGINES native threads (default 1), each with a gevent hub
whose one greenlet is inside C, GIL released, until the interpreter ends. The threads know engine numbers only, never a
socket. A forked child has no engine: what it inherited is carried on by the parent's, and it starts a pool of its own
at first use.
"""

from __future__ import annotations

import atexit
import itertools
import os
import resource
import signal
import sys
import time
from typing import Any, Optional

import gevent
import gevent.hub
from gevent.monkey import get_original

from . import _crypt
from ._errors import check
from ._native import ffi, lib
from ._snappy import BrokenStream, Streams

start_new_thread = get_original("_thread", "start_new_thread")
allocate_lock = get_original("_thread", "allocate_lock")

_MEMORY_DEFAULT, _MEMORY_MAX = 2**30, 2**60
UDP_MODES = {"auto": lib.KS_UDP_AUTO, "plain": lib.KS_UDP_PLAIN, "mmsg": lib.KS_UDP_MMSG, "gso": lib.KS_UDP_GSO}


class _Pool:
    # The running engines: their numbers, handed out in turn, and a lock each that opens when its thread has ended.
    # Sessions that compress have one more of their own: their data take the GIL (cffi_build/smux/codec.h), and nobody
    # else's shall wait for that.

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.ended: list[Any] = []
        self.compressing: Optional[int] = None
        self._udp_mode = _from_environment("KCPSOCK_UDP", "auto", UDP_MODES)
        self._busy_poll = _from_environment("KCPSOCK_BUSY_POLL", "on", {"off": 0, "on": 1})
        check(lib.ks_set_memory(_memory_bound()))
        check(lib.ks_drain_at_exit())
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


def _memory_bound() -> int:
    # KCPSOCK_MEMORY, or a quarter of the machine's, at most 1 GiB.
    text = os.environ.get("KCPSOCK_MEMORY")
    if not text:
        try:
            return min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4, _MEMORY_DEFAULT)
        except (OSError, ValueError):  # a system that doesn't tell
            return _MEMORY_DEFAULT
    if not (text.isascii() and text.isdigit() and int(text) <= _MEMORY_MAX):
        raise ValueError(f"environment KCPSOCK_MEMORY is {text!r}; allowed is a number of bytes, 0 to {_MEMORY_MAX}")
    return int(text)


def _raise_descriptor_limit() -> None:
    # A connection takes two descriptors, so the soft limit goes up to the hard one; a system that refuses keeps its
    # limit.
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass


def running_pool() -> _Pool:
    """Starts it at first use."""
    global _pool
    if _pool is None:
        with _pool_lock:
            if _pool is None:
                _pool = _Pool()
                # A multiprocessing child leaves by os._exit, past atexit: its own exit hook has to do.
                multiprocessing = sys.modules.get("multiprocessing")
                if multiprocessing is not None and multiprocessing.parent_process() is not None:
                    sys.modules["multiprocessing.util"].Finalize(None, _leave_process, exitpriority=-1000)
    return _pool


def _leave_python() -> None:
    # At the interpreter's exit. The engines run on, until the process ends (api.h's ks_drain_at_exit): daemon threads
    # and __del__ may still send. Those that call into Python can't.
    pool = _pool
    if pool is not None:
        calls_python = _crypt.is_in_python()
        _drain_and_stop(pool, [n for n in pool.numbers if calls_python or n == pool.compressing])


def _leave_process() -> None:
    # By os._exit, which calls nobody.
    global _pool
    pool, _pool = _pool, None
    if pool is not None:
        _drain_and_stop(pool, pool.numbers)


def _drain_and_stop(pool: _Pool, numbers: list[int]) -> None:
    # What was sent still arrives, within KCPSOCK_EXIT_LINGER seconds. In slices, so that Ctrl-C gets through.
    try:
        linger_s = float(os.environ.get("KCPSOCK_EXIT_LINGER") or 5)
    except ValueError:
        linger_s = 5.0
    deadline = time.monotonic() + linger_s
    try:
        for number in numbers:
            while lib.ks_engine_drain(number, int(1000 * min(max(deadline - time.monotonic(), 0), 0.2))) > 0:
                if time.monotonic() >= deadline:
                    break
    finally:
        for number, ended in zip(pool.numbers, pool.ended):
            if number in numbers:
                lib.ks_engine_stop(number)
                ended.acquire(timeout=1)


is_child = False  # a forked one: kind(), names() and info() don't know what it inherited, the parent's engines do


def _forget_engines() -> None:
    # In a forked child: the threads are gone, the lock may be anyone's.
    global _pool, _pool_lock, is_child
    _pool, _pool_lock, is_child = None, allocate_lock(), True
    lib.ks_forget_engines()


atexit.register(_leave_python)
os.register_at_fork(after_in_child=_forget_engines)


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
