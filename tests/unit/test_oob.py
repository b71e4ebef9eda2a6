# SPDX-License-Identifier: MIT
"""Out-of-band packets: the thread that delivers them, and what the socket says. The engine's part is a socket pair."""

import errno
import gc
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
import weakref
from types import SimpleNamespace

import pytest

import kcpsock
from kcpsock import Profile, _connections, _oob
from kcpsock._errors import error_of

LONG_S = 60


class Gate:
    """What a handler got, to be waited for."""

    def __init__(self):
        self.got = []
        self.came = threading.Semaphore(0)

    def __call__(self, data):
        self.got.append(data)
        self.came.release()

    def take(self):
        assert self.came.acquire(timeout=LONG_S)
        return self.got.pop(0)


@pytest.fixture
def engine(monkeypatch):
    """A reader of its own: engine.send(id, data) is a packet that arrived; engine.options is what C was told."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    options = []
    monkeypatch.setattr(_connections, "oob_fd", ours.fileno)
    monkeypatch.setattr(_connections, "set_option", lambda fd, option, value: options.append((fd, option, value)))
    monkeypatch.setattr(_oob, "_reader", None)
    with ours, theirs:
        yield SimpleNamespace(
            send=lambda id, data: theirs.send(struct.pack("=Q", id) + data), raw=theirs.send, options=options
        )
        _oob._stop()


@pytest.fixture
def reported(monkeypatch):
    reports = Gate()
    monkeypatch.setattr(threading, "excepthook", lambda args: reports(args.exc_value))
    return reports


def registered(handler):
    registration = _oob.Registration(handler)
    _oob.switch_on(7, registration)
    return registration


def test_packets_come_to_their_handler(engine):
    one, two = Gate(), Gate()
    first, second = registered(one), registered(two)
    assert 0 < first.id < second.id
    assert engine.options == [(7, _connections.OPT_OOB, first.id), (7, _connections.OPT_OOB, second.id)]
    engine.send(second.id, b"to two")
    engine.send(first.id, b"to one")
    engine.send(first.id, b"")
    assert (one.take(), one.take(), two.take()) == (b"to one", b"", b"to two")


def test_one_native_thread_for_all(engine):
    threads = set()
    gate = Gate()

    def handler(data):
        threads.add(threading.get_ident())
        gate(data)

    registrations = [registered(handler) for _ in range(20)]
    for registration in registrations:
        engine.send(registration.id, b"x")
        gate.take()
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_malformed_and_unknown_packets_are_dropped(engine):
    gate = Gate()
    registration = registered(gate)
    engine.raw(b"short")
    engine.send(0, b"off")
    engine.send(2**64 - 1, b"nobody")
    engine.send(registration.id, b"good")
    assert gate.take() == b"good"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_what_a_handler_raises_is_reported_and_the_thread_lives(engine, reported, error):
    def fail(data):
        raise error

    gate = Gate()
    failing, good = registered(fail), registered(gate)
    engine.send(failing.id, b"x")
    engine.send(good.id, b"y")
    assert reported.take() is error and gate.take() == b"y"


def test_an_exit_in_a_handler_is_silent(engine, reported):
    gate = Gate()
    leaving, good = registered(lambda data: sys.exit(3)), registered(gate)
    engine.send(leaving.id, b"x")
    engine.send(good.id, b"y")
    assert gate.take() == b"y" and reported.got == []


def test_a_hook_that_fails(engine, monkeypatch, capfd):
    monkeypatch.setattr(threading, "excepthook", None)
    gate = Gate()
    failing, good = registered(lambda data: 1 / 0), registered(gate)
    engine.send(failing.id, b"x")
    engine.send(good.id, b"y")
    assert gate.take() == b"y"
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_registration_lives_as_long_as_somebody_holds_it(engine):
    gate, gone = Gate(), Gate()
    kept, lost = registered(gate), registered(gone)
    lost_id, alive = lost.id, weakref.ref(lost)
    del lost
    gc.collect()
    assert alive() is None
    engine.send(lost_id, b"x")
    engine.send(kept.id, b"y")
    assert gate.take() == b"y" and gone.got == []


def test_stop_ends_the_thread(engine, monkeypatch):
    monkeypatch.setattr(_oob, "_EXIT_WAIT_S", LONG_S)  # not what it is at exit: the machine may stand still so long
    registration = registered(Gate())
    reader = _oob._reader
    _oob._stop()
    assert reader.socket.fileno() == -1  # closed when it has ended
    assert _oob._reader is None and registration.id
    _oob._stop()


def test_stop_does_not_wait_for_ever(engine, monkeypatch):
    monkeypatch.setattr(_oob, "_EXIT_WAIT_S", 0.05)
    entered, leave = threading.Event(), threading.Event()

    def slow(data):
        entered.set()
        leave.wait(LONG_S)

    registration = registered(slow)
    reader = _oob._reader
    engine.send(registration.id, b"x")
    assert entered.wait(LONG_S)
    _oob._stop()
    leave.set()
    assert reader.ended.acquire(timeout=LONG_S)
    reader.socket.close()


def test_stop_leaves_the_packets_that_wait(engine, monkeypatch):
    monkeypatch.setattr(_oob, "_EXIT_WAIT_S", 0.01)
    got = []

    def stop(data):
        got.append(data)
        engine.send(registration.id, b"second")
        _oob._stop()

    registration = registered(stop)
    reader = _oob._reader
    engine.send(registration.id, b"first")
    assert reader.ended.acquire(timeout=LONG_S)
    reader.socket.close()
    assert got == [b"first"]


def test_a_forked_child_starts_anew(engine):
    gate = Gate()
    registration = registered(gate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads are running: that is the point
        child = os.fork()
    if child == 0:
        # Nothing of pytest shall run here.
        os._exit(0 if _oob._reader is None and _oob._reader_lock.acquire(False) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    engine.send(registration.id, b"still here")
    assert gate.take() == b"still here"


EXIT = """
import socket, struct, threading, time
from kcpsock import _connections, _oob
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
_connections.oob_fd, _connections.set_option = ours.fileno, lambda *_: None
came = threading.Event()
registration = _oob.Registration(lambda data: came.set())
_oob.switch_on(0, registration)
theirs.send(struct.pack("=Q", registration.id) + b"x")
assert came.wait(60)
print("came")
"""


@pytest.mark.parametrize("before", ["", "import gevent.monkey; gevent.monkey.patch_all()\n"])
def test_interpreter_exit(before):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", before + EXIT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "came\n", "")


SLOW = EXIT.replace("came.set()", "(came.set(), time.sleep(0.3), print('finished', flush=True))")
SLOW += f"_oob._EXIT_WAIT_S = {LONG_S}\n"  # of its own second a machine that stands still leaves nothing


def test_interpreter_exit_waits_for_a_handler_at_work():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SLOW], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["came", "finished"], "")


# --- the socket's methods


def oob_errno(call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    return caught.value.errno, str(caught.value)


@pytest.fixture
def pair():
    with kcpsock.create_server(("127.0.0.1", 0)) as server:
        client = kcpsock.socket(profile=Profile(fec=(10, 3)))
        with client:
            client.connect(server.getsockname())
            accepted, _ = server.accept()
            with accepted:
                yield client, accepted


def test_send_oob_unconnected():
    with kcpsock.socket() as sock:
        assert oob_errno(sock.send_oob, b"x")[0] == errno.ENOTCONN
    assert oob_errno(sock.send_oob, b"x")[0] == errno.EBADF
    with kcpsock.create_server(("127.0.0.1", 0)) as server:
        assert oob_errno(server.send_oob, b"x")[0] == errno.ENOTCONN


@pytest.mark.parametrize("data", ["text", None, 5, ["x"]])
def test_send_oob_takes_bytes(data):
    with kcpsock.socket() as sock, pytest.raises(TypeError):
        sock.send_oob(data)


def test_send_oob_of_an_ordinary_socket():
    with kcpsock.socket(kcpsock.AF_INET, kcpsock.SOCK_DGRAM) as sock:
        assert oob_errno(sock.send_oob, b"x")[0] == errno.EOPNOTSUPP
        assert oob_errno(sock.set_oob_handler, print)[0] == errno.EOPNOTSUPP


def test_send_oob_passes_bytes_on(pair, monkeypatch):
    sent = []
    monkeypatch.setattr(_connections, "send_oob", lambda fd, data: sent.append((fd, data)))
    client, _ = pair
    for data in (b"a", bytearray(b"b"), memoryview(b"c-c")[::2], b""):
        assert client.send_oob(data) is None
    assert sent == [(client.fileno(), data) for data in (b"a", b"b", b"cc", b"")]


def test_send_oob_explains_errors(pair, monkeypatch):
    client, _ = pair

    def fail_with(code):
        def fail(fd, data):
            raise error_of(code)

        monkeypatch.setattr(_connections, "send_oob", fail)
        return oob_errno(client.send_oob, bytes(1500))

    code, text = fail_with(errno.EOPNOTSUPP)
    assert code == errno.EOPNOTSUPP and "fec=(ds, ps)" in text
    code, text = fail_with(errno.EMSGSIZE)
    assert code == errno.EMSGSIZE and "1500" in text and str(client.kcp_info().path_mtu - 12) in text
    assert fail_with(errno.ENOTSOCK)[0] == errno.ENOTCONN
    assert fail_with(errno.ENOMEM)[0] == errno.ENOMEM


@pytest.mark.parametrize("crypt,most", [("null", 1388), ("aes", 1368), ("aes-128-gcm", 1360)])
def test_largest_packet(crypt, most):
    assert _oob.largest(Profile(key="k", crypt=crypt, fec=(10, 3)), 1400) == most


def test_handler_must_be_callable():
    with kcpsock.socket() as sock, pytest.raises(TypeError, match="handler is 5"):
        sock.set_oob_handler(5)


def test_handler_of_a_listener_or_closed_socket():
    with kcpsock.create_server(("127.0.0.1", 0)) as server:
        assert oob_errno(server.set_oob_handler, print)[0] == errno.EOPNOTSUPP
    assert oob_errno(server.set_oob_handler, print)[0] == errno.EBADF


def test_handler_from_connect_to_close(engine):
    with kcpsock.create_server(("127.0.0.1", 0)) as server, kcpsock.socket() as client:
        client.set_oob_handler(print)
        assert engine.options == []
        client.connect(server.getsockname())
        fd = client.fileno()
        id = client._life.oob.id
        assert engine.options == [(fd, _connections.OPT_OOB, id)]
        client.set_oob_handler(repr)
        assert client._life.oob.id > id
        duplicate = client.dup()
        client.close()
        assert engine.options[-1] == (fd, _connections.OPT_OOB, duplicate._life.oob.id)
        duplicate.close()
        assert engine.options[-1][1:] == (_connections.OPT_OOB, 0)


def test_handler_switched_off(engine, pair):
    _, accepted = pair
    accepted.set_oob_handler(None)
    assert engine.options == []
    gate = Gate()
    accepted.set_oob_handler(gate)
    id = accepted._life.oob.id
    engine.send(id, b"x")
    assert gate.take() == b"x"
    accepted.set_oob_handler(None)
    assert engine.options == [(accepted.fileno(), _connections.OPT_OOB, value) for value in (id, 0)]
    assert id not in _oob._registrations


def test_handler_of_a_connection_that_has_ended(pair):
    for one, other in (pair, pair[::-1]):
        one.shutdown(kcpsock.SHUT_WR)
        assert other.recv(1) == b""
    client, _ = pair
    deadline = time.monotonic() + LONG_S
    while _connections.kind(client.fileno()) != _connections.NOT_KCP:  # the engine lets go of it
        assert time.monotonic() < deadline
        time.sleep(0.001)
    for handler in (print, None, print):
        client.set_oob_handler(handler)
    client.close()
    assert client.fileno() == -1


def test_handler_set_before_listen_is_not_the_listeners(engine):
    with kcpsock.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.set_oob_handler(print)
        server.listen()
        assert engine.options == []


def test_handler_does_not_keep_the_socket(engine):
    sock = kcpsock.socket()
    sock.set_oob_handler(sock.fileno)  # which refers to it
    alive = weakref.ref(sock)
    sock.close()
    del sock
    gc.collect()
    assert alive() is None
