# SPDX-License-Identifier: MIT
"""What a process does at first use, at fork() and at exit, that none of its calls asks for: limits, signals, locks."""

import signal
import textwrap
import threading

import pytest

import kcpsock
from kcpsock import _connections
from tests.support.processes import finish, python, start

from .conftest import LONG_S, read_all
from .test_process import fork, joined


def test_import_leaves_nothing_open():
    code = """
    import os
    before = os.listdir("/proc/self/fd")
    import kcpsock
    print(os.listdir("/proc/self/fd") == before)
    """
    assert finish(python(code)).strip() == "True"


def test_descriptor_limit_is_raised_at_first_use():
    # A connection takes two descriptors: a server that a shell gives 64 shall not end at 30 connections.
    code = """
    import resource, kcpsock
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    kcpsock.socket().close()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with kcpsock.create_server(("127.0.0.1", 0)) as server:
        pairs = []
        for _ in range(40):
            pairs.append(kcpsock.create_connection(server.getsockname(), timeout=30))
            pairs.append(server.accept()[0])
        for sock in pairs:
            sock.close()
    print(before == (64, hard), resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
    """
    assert finish(python(code)).split() == ["True", "True"]


def test_signals_stay_with_the_applications_threads():
    # One that blocks a signal to wait for it gets it: no thread of ours takes it first, which would end the process.
    code = """
    import os, signal, threading, kcpsock
    profile = kcpsock.Profile(fec=(2, 1), compress=True)
    server = kcpsock.create_server(("127.0.0.1", 0), profile=profile)
    client = kcpsock.create_connection(server.getsockname(), timeout=30, profile=profile)
    conn = server.accept()[0]
    came = threading.Event()
    conn.set_oob_handler(lambda data: came.set())
    while not came.wait(0.01):
        client.send_oob(b"the thread of handlers runs")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
    for number in signal.SIGUSR1, signal.SIGTERM:
        os.kill(os.getpid(), number)
        print(signal.sigtimedwait([number], 30).si_signo == number)
    for sock in client, conn, server:
        sock.close()
    """
    assert finish(python(code)).split() == ["True", "True"]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_exit_of_multiprocessing_child_waits_for_what_was_sent(threads, tmp_path, method):
    # At this rate it takes a while: a child that does not wait leaves by os._exit, and most of it is lost.
    server = threads.listener()
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, sys, kcpsock
            def child(port):
                profile = kcpsock.Profile(rate_limit=300_000)
                with kcpsock.create_connection(("127.0.0.1", port), profile=profile) as sock:
                    sock.sendall(b"x" * 150_000)
            if __name__ == "__main__":
                job = multiprocessing.get_context({method!r}).Process(target=child, args=(int(sys.argv[1]),))
                job.start()
                job.join()
                print(job.exitcode)
            """
        )
    )
    process = start([program, server.getsockname()[1]])
    conn, _ = threads.accept(server)
    assert len(read_all(conn)) == 150_000
    out, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, out.decode().split()) == (0, ["0"]), err.decode()


def test_signals_stay_away_from_an_engine_that_starts():
    # Its thread makes a hub first, with the loop that gevent is configured for.
    code = """
    import signal, gevent, kcpsock
    masks = []
    class Loop(gevent.config.loop):
        def __init__(self, *args, **kwargs):
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
            super().__init__(*args, **kwargs)
    gevent.config.loop = Loop
    with kcpsock.create_server(("127.0.0.1", 0)) as server:
        kcpsock.create_connection(server.getsockname()).close()
    print(len(masks), {signal.SIGUSR1, signal.SIGTERM, signal.SIGINT} <= masks[0])
    """
    assert finish(python(code)).split() == ["1", "True"]


def test_fork_while_another_thread_makes_a_listener(threads, monkeypatch):
    # It holds the socket's lock at that moment; in the child nobody would ever let go of it.
    entered, go_on = threading.Event(), threading.Event()
    listen = _connections.listen

    def slow_listen(*args):
        entered.set()
        assert go_on.wait(LONG_S)
        listen(*args)

    monkeypatch.setattr(_connections, "listen", slow_listen)
    sock = threads.socket()
    sock.bind(("127.0.0.1", 0))
    listening = threads.spawn(sock.listen)
    assert entered.wait(LONG_S)

    def child():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(LONG_S))  # ends it, should it hang
        assert sock.getsockname()[1]
        sock.close()

    pid = fork(child)
    go_on.set()
    listening.join()
    assert joined(pid) == 0
    threads.dial(sock)


@pytest.mark.parametrize("linger", ["", "many"])
def test_exit_waits_as_by_default_when_the_environment_says_nothing_of_use(threads, linger):
    server = threads.listener()
    process = python(
        """
        import sys, kcpsock
        profile = kcpsock.Profile(rate_limit=300_000)
        with kcpsock.create_connection(("127.0.0.1", int(sys.argv[1])), profile=profile) as sock:
            sock.sendall(b"x" * 150_000)
        """,
        server.getsockname()[1],
        KCPSOCK_EXIT_LINGER=linger,
    )
    conn, _ = threads.accept(server)
    assert len(read_all(conn)) == 150_000
    finish(process)


LAST_WORDS = b"last words" * 5000
ENDS = {
    "atexit": ("""
        @atexit.register
        def last_words():
            sock.sendall(DATA)
        """, True),
    "atexit-before-the-first-use": ("""
        @atexit.register
        def last_words():
            with socket.create_connection(("127.0.0.1", port)) as late:
                late.sendall(DATA)
        """, True),
    "del-of-a-global": ("""
        class Keeper:
            def __init__(self, sock):
                self.sock, self.data = sock, DATA
            def __del__(self):
                self.sock.sendall(self.data)
        keeper, sock = Keeper(sock), None
        """, True),
    "daemon-thread-sends": ("""
        sent = threading.Event()
        def send():
            while True:
                sock.sendall(DATA)
                sent.set()
        threading.Thread(target=send, daemon=True).start()
        sent.wait()
        """, False),
    "daemon-threads-wait": ("""
        sock.sendall(DATA)
        listener = socket.create_server(("127.0.0.1", 0))
        for wait in (listener.accept, lambda: sock.recv(1)):
            threading.Thread(target=wait, daemon=True).start()
        """, True),
    "exception": ("""
        sys.excepthook = lambda *_: None
        sock.sendall(DATA)
        raise RuntimeError
        """, True),
    "not-closed": ("sock.sendall(DATA)", True),
}  # fmt: skip


@pytest.mark.parametrize(("ending", "whole"), ENDS.values(), ids=ENDS)
def test_exit_loses_nothing(net, ending, whole):
    """However the interpreter ends: without a word on stderr, and what was sent before the end arrives."""
    if net.greenlets:
        pytest.skip("the other end is a process")
    received = last_words(net, net.listener(), ending)
    assert received == LAST_WORDS if whole else received.startswith(LAST_WORDS)


def test_exit_keeps_pycryptodomes_cipher(threads):
    """The interpreter lets go of its library before __del__'s bytes are sealed."""
    server = threads.listener(profile=kcpsock.Profile(key="of both", crypt="aes-128"))
    ending, _ = ENDS["del-of-a-global"]
    environment = {"KCPSOCK_KEY": "of both", "KCPSOCK_CRYPT": "aes-128"}
    assert last_words(threads, server, ending, **environment) == LAST_WORDS


def last_words(net, server, ending, **environment):
    """What comes from a process that dials the server and ends so."""
    program = f"""
    import atexit, importlib, sys, threading
    socket = importlib.import_module(sys.argv[1])
    port, DATA = int(sys.argv[2]), {LAST_WORDS[:10]!r} * {len(LAST_WORDS) // 10}
    """
    dial = """
    sock = socket.create_connection(("127.0.0.1", port))
    """
    code = textwrap.dedent(program) + ("" if "late" in ending else textwrap.dedent(dial)) + textwrap.dedent(ending)
    process = start(["-W", "ignore", "-c", code, net.module.__name__, server.getsockname()[1]], **environment)
    conn, _ = net.accept(server)
    received = read_all(conn)
    _, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err) == (int("raise" in ending), b""), err.decode()
    return received
