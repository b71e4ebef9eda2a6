# SPDX-License-Identifier: MIT
"""fork() at any moment: a lock that another thread holds then is not the child's for ever.

Every lock of kcpsock stands in the lists below, with what becomes of it in a forked child; a lock that is in no list
fails the test that walks the sources. test_process.py has what else a forked child can do.
"""

import ast
import functools
import itertools
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import kcpsock
import kcpsock.monkey
import kcpsock.servers.gevent
from kcpsock import Profile, _crypt, _engines, _fork, _oob

from .conftest import LONG_S, read_all, read_exactly
from .test_process import fork

ROOT = Path(kcpsock.__file__).parent.parent
KINDS = {"Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "LifoQueue", "PriorityQueue", "Queue", "RLock"}
KINDS |= {"Semaphore", "SimpleQueue", "allocate_lock", "cached_property", "lock_class"}

# Where a lock is made in kcpsock/: module, what it is assigned to -> what becomes of it in a child.
PYTHON_LOCKS = {
    ("_fork", "held"): "held over the fork",
    ("_engines", "_pool_lock"): "made anew",
    ("_engines", "(_pool, _pool_lock, is_child)"): "that is where",
    ("_engines", "ended"): "the pool's, which a child forgets",
    ("_oob", "_reader_lock"): "made anew",
    ("_oob", "self.ended"): "the reader's, which a child forgets",
    ("_life", "self.changing"): "made anew",
    ("_life", "life.changing"): "that is where",
}
MODULE_LOCKS = {"kcpsock._fork.held", "kcpsock._engines._pool_lock", "kcpsock._oob._reader_lock"}

# Of the product (not of bare/): source, name -> the function that makes it anew in a child, or why that is not needed.
ENGINES = "an engine's or its listeners': a child forgets the parent's engines, no number names them any more"
ONCE = "pthread_once: the C library begins anew in a child what another thread was at"
C_LOCKS = {
    ("crypts.c", "table_lock"): "ks_crypts_forget_holder",
    ("known.c", "table_lock"): "ks_known_forget_holder",
    ("oob.c", "lock"): "ks_oob_forget",
    ("engine.c", "turning"): ENGINES,
    ("engine.c", "lock"): ENGINES,
    ("engine.c", "answered"): ENGINES,
    ("lobby.c", "lock"): ENGINES,
    ("strays.c", "lock"): ENGINES,
    ("lock.h", "mutex"): "what a ks_lock is made of: each of these stands here by its own name",
    ("front.c", "once"): ONCE,
    ("crc32.c", "table_once"): ONCE,
    ("sm4.c", "table_once"): ONCE,
    ("twofish.c", "table_once"): ONCE,
}

_forking = threading.Event()
os.register_at_fork(before=lambda: _forking.set())  # registered after kcpsock's, so it is called before them

PROFILE = Profile(key="a passphrase", crypt="aes", fec=(2, 1))


def made_locks(path):
    """What the locks that a file makes are assigned to."""

    def makes(node):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Call):  # get_original("_thread", "RLock")()
            return any(isinstance(arg, ast.Constant) and arg.value in KINDS for arg in node.func.args)
        function = node.func if isinstance(node, ast.Call) else None
        return getattr(function, "attr", getattr(function, "id", None)) in KINDS

    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found += [node.name for by in node.decorator_list if "cached_property" in ast.unparse(by)]
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            if node.value is not None and any(makes(part) for part in ast.walk(node.value)):
                found += [ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)]
        elif isinstance(node, (ast.Expr, ast.Return, ast.withitem)):
            value = node.context_expr if isinstance(node, ast.withitem) else node.value
            if value is not None and any(makes(part) for part in ast.walk(value)):
                found.append(ast.unparse(value))
    return found


def test_each_lock_of_the_python_sources_is_known():
    found = set()
    for path in (ROOT / "kcpsock").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT / "kcpsock").with_suffix("").parts)
        found |= {(module, target) for target in made_locks(path)}
    assert found == set(PYTHON_LOCKS)


def test_each_lock_of_the_python_modules_is_known():
    # As they are, whoever made them: also inside of what a class has, as functools.cached_property before Python 3.12.
    types = (type(threading.Lock()), type(threading.RLock()), type(_engines.allocate_lock()), type(_fork.held))
    types += (threading.Condition, threading.Event, threading.Semaphore)
    found = set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "kcpsock" or module is None:
            continue
        for at, value in list(vars(module).items()):
            inside = [value]
            if isinstance(value, type) and value.__module__.partition(".")[0] == "kcpsock":
                inside += vars(value).values()
            inside += [getattr(each, "lock", None) for each in inside if isinstance(each, functools.cached_property)]
            if any(isinstance(each, types) for each in inside) and name != "kcpsock":  # that has the stdlib's names too
                found.add(f"{name}.{at}")
    assert found == MODULE_LOCKS


def test_each_lock_of_the_c_sources_is_known():
    declared = re.compile(
        r"\b(?:pthread_(?:mutex|cond|rwlock|once|barrier)_t|pthread_spinlock_t|sem_t|mtx_t|cnd_t|once_flag|atomic_flag"
        r"|ks_lock)\s+(\w+)\s*[;=]"
    )
    found, texts = set(), {}
    for path in sorted(set((ROOT / "cffi_build").rglob("*.[ch]")) - set((ROOT / "cffi_build/bare").iterdir())):
        texts[path.name] = path.read_text()
        found |= {(path.name, name) for name in declared.findall(texts[path.name])}
    assert found == set(C_LOCKS)
    hook = texts["api.c"].partition("void ks_forget_engines(void)\n{")[2].partition("\n}\n")[0]
    for (source, name), what in C_LOCKS.items():
        if what.startswith("ks_"):
            body = texts[source].partition(f"void {what}(void)\n{{")[2].partition("\n}\n")[0]
            assert f"ks_lock_init(&{name}, KS_RANK_" in body and f"    {what}();\n" in hook + "\n"


@pytest.fixture
def echo(threads):
    """The address of a server that answers one message of a connection and closes it."""
    server = threads.listener(backlog=128, profile=PROFILE)

    def serve(conn):
        with conn:
            conn.settimeout(LONG_S)
            try:
                conn.sendall(read_exactly(conn, 8))
            except OSError:
                pass  # a child that failed

    def accept():
        while True:
            try:
                conn, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(conn,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    yield server.getsockname()
    server.shutdown(kcpsock.SHUT_RDWR)
    thread.join(LONG_S)


def round_trip(address, profile=PROFILE):
    with kcpsock.create_connection(address, LONG_S, profile=profile) as client:
        client.set_oob_handler(lambda data: None)
        client.sendall(b"question")
        assert read_all(client) == b"question"


def must_end_well(pid):
    """A child's exit status is 0, within LONG_S; else it is killed."""
    end = time.monotonic() + LONG_S
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("the child hangs")
        time.sleep(0.01)


def in_the_middle(work):
    """Runs `work(entered)` in a thread until it says that it is in the middle of it."""
    _forking.clear()
    entered = threading.Event()
    thread = threading.Thread(target=work, args=(entered,), daemon=True)
    thread.start()
    assert entered.wait(LONG_S)
    return thread


@pytest.mark.parametrize("lock", ["_fork.held", "_engines._pool_lock", "_oob._reader_lock", "life.changing"])
def test_fork_while_another_thread_holds(echo, threads, lock):
    sock = threads.socket(profile=PROFILE)
    owner, name = {
        "_fork.held": (_fork, "held"),
        "_engines._pool_lock": (_engines, "_pool_lock"),
        "_oob._reader_lock": (_oob, "_reader_lock"),
        "life.changing": (sock._life, "changing"),
    }[lock]
    forked = threading.Event()

    def hold(entered):
        with getattr(owner, name):
            entered.set()
            (_forking if owner is _fork else forked).wait(LONG_S)

    def child():
        with getattr(owner, name):
            pass
        sock.settimeout(LONG_S)
        sock.connect(echo)
        sock.sendall(b"question")
        assert read_all(sock) == b"question"
        round_trip(echo)

    thread = in_the_middle(hold)
    pid = fork(child)
    forked.set()
    thread.join(LONG_S)
    must_end_well(pid)
    round_trip(echo)


def test_fork_while_another_thread_opens_its_first_cipher(echo, monkeypatch):
    # Which takes a while, and is in the middle of imports: their locks would not be freed in a child either.
    check = _crypt._is_as_expected
    entered = threading.Event()

    def slow_check(module):
        if not entered.is_set():
            entered.set()
            _forking.wait(LONG_S)
        return check(module)

    monkeypatch.setattr(_crypt, "_is_as_expected", slow_check)
    monkeypatch.setattr(_crypt, "_checked", {})
    _forking.clear()
    thread = threading.Thread(target=round_trip, args=(echo,), daemon=True)
    thread.start()
    assert entered.wait(LONG_S)
    pid = fork(lambda: round_trip(echo))
    thread.join(LONG_S)
    must_end_well(pid)


def test_fork_while_another_thread_makes_a_key_of_a_passphrase(echo):
    # In OpenSSL, whose locks are not ours to make anew.
    stop = threading.Event()

    def derive(entered):
        for number in itertools.count():
            assert Profile(key=f"a passphrase {number}").secret
            entered.set()
            if stop.is_set():
                return

    thread = in_the_middle(derive)
    profile = Profile(key=PROFILE.key, crypt="aes", fec=(2, 1))  # whose key is not made yet
    try:
        for _ in range(5):
            must_end_well(fork(lambda: round_trip(echo, profile)))
    finally:
        stop.set()
        thread.join(LONG_S)


def test_fork_at_any_time(echo, monkeypatch):
    # Three threads open and close encrypted connections, each as if its first; one forks fifty times.
    stop = threading.Event()
    failed = []

    def work(crypt):
        try:
            while not stop.is_set():
                with _fork.held:
                    _crypt._checked.pop("AES", None)
                profile = PROFILE.replace(mtu=1000)
                vars(profile).pop("_secret", None)
                round_trip(echo, profile)
                with kcpsock.create_server(("127.0.0.1", 0), profile=Profile(key="x", crypt=crypt)):
                    pass
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(crypt,), daemon=True) for crypt in ("aes-128", "3des", "sm4")]
    for worker in workers:
        worker.start()
    try:
        for number in range(50):
            must_end_well(fork(lambda: round_trip(echo)))
            assert not failed, (number, failed)
    finally:
        stop.set()
        for worker in workers:
            worker.join(LONG_S)
    assert not failed
