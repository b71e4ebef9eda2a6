# SPDX-License-Identifier: MIT
"""Python's locks are taken in their order, and none of them by an engine: it holds C's, which come after (lock.h)."""

import threading

import kcpsock
from kcpsock import Profile, _crypt, _engines, _fork, _life, _oob
from tests.support import locks

from .conftest import read_all

# All that an engine asks Python for: a codec, and a cipher, as pycryptodome's are called when their insides are not
# known.
PROFILES = (
    Profile(key="a passphrase", crypt="aes", compress=True),
    Profile(key="a passphrase", crypt="aes-128-gcm", fec=(2, 1)),
)


def watched_work(monkeypatch, threads):
    watch = locks.Watch()
    make = _life.RLock
    monkeypatch.setattr(_life, "RLock", lambda: watch.lock("life.changing", make()))
    monkeypatch.setattr(_engines, "_pool_lock", watch.lock("_engines._pool_lock", _engines._pool_lock))
    monkeypatch.setattr(_oob, "_reader_lock", watch.lock("_oob._reader_lock", _oob._reader_lock))
    monkeypatch.setattr(_fork, "held", watch.lock("_fork.held", _fork.held))
    monkeypatch.setattr(_crypt, "_checked", {"AES": False})
    ours = {threading.get_ident()}

    def serve(server):
        ours.add(threading.get_ident())
        conn, _ = threads.accept(server)
        conn.sendall(read_all(conn)[::-1])
        conn.close()

    for profile in PROFILES:
        server = threads.listener(profile=profile)
        serving = threads.spawn(serve, server)
        client = threads.dial(server, profile=profile)
        heard = []
        client.set_oob_handler(heard.append)
        client.sendall(b"question" * 10000)
        client.shutdown(kcpsock.SHUT_WR)
        assert read_all(client) == b"noitseuq" * 10000
        serving.join()
    return watch, ours


def test_python_locks_in_order(monkeypatch, threads):
    watch, ours = watched_work(monkeypatch, threads)
    assert {name for name, _ in watch.taken} == set(locks.PYTHON)
    assert watch.nested and not watch.against_the_order()
    assert {thread for _, thread in watch.taken} <= ours


def test_watch_sees_a_wrong_order():
    watch = locks.Watch()
    first, second = (watch.lock(name, threading.Lock()) for name in locks.PYTHON[:2])
    with first, second:
        pass
    assert not watch.against_the_order()
    with second, first:
        pass
    assert watch.against_the_order() == {(locks.PYTHON[1], locks.PYTHON[0])}
