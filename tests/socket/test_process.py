# SPDX-License-Identifier: MIT
"""Processes: what was sent before exit arrives; forked children; another interpreter's start and end."""

import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
import warnings

import pytest

import kcpsock
from tests.support.processes import finish, python, start

from .conftest import LONG_S, SHORT_S, needs_linux_calls, read_all, read_exactly


def fork(child):
    """Runs `child` in a forked process; gives its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads are running: that is the point
        pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        child()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def joined(pid):
    """The exit status of a forked child."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_exit_right_after_send(threads):
    server = threads.listener()
    process = python(
        """
        import sys, kcpsock
        sock = kcpsock.create_connection(("127.0.0.1", int(sys.argv[1])))
        sock.sendall(b"x" * 300_000)
        sock.close()
        """,
        server.getsockname()[1],
    )
    conn, _ = threads.accept(server)
    assert len(read_all(conn)) == 300_000
    finish(process)


def test_exit_without_close(threads):
    server = threads.listener()
    process = python(
        """
        import sys, warnings, kcpsock
        warnings.simplefilter("ignore")
        sock = kcpsock.create_connection(("127.0.0.1", int(sys.argv[1])))
        sock.sendall(b"x" * 300_000)
        """,
        server.getsockname()[1],
    )
    conn, _ = threads.accept(server)
    assert len(read_all(conn)) == 300_000
    finish(process)


def test_exit_while_daemon_threads_wait():
    """They are not woken: nothing is printed of accept() or recv() that failed."""
    program = python(
        """
        import threading, warnings
        import kcpsock as socket

        warnings.simplefilter("ignore")  # that sockets are left open
        server = socket.create_server(("127.0.0.1", 0))

        def serve():
            while True:
                peer, _ = server.accept()
                threading.Thread(target=echo, args=(peer,), daemon=True).start()

        def echo(peer):
            while data := peer.recv(100):
                peer.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        clients = [socket.create_connection(server.getsockname()) for _ in range(3)]
        for client in clients:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            threading.Thread(target=client.recv, args=(1,), daemon=True).start()
        """
    )
    assert finish(program) == ""


def test_exit_of_multiprocessing_child(threads):
    server = threads.listener()
    process = python(
        """
        import multiprocessing, sys, kcpsock
        def child(port):
            sock = kcpsock.create_connection(("127.0.0.1", port))
            sock.sendall(b"x" * 300_000)
            sock.close()
        if __name__ == "__main__":
            job = multiprocessing.get_context("fork").Process(target=child, args=(int(sys.argv[1]),))
            job.start()
            job.join()
            print(job.exitcode)
        """,
        server.getsockname()[1],
    )
    conn, _ = threads.accept(server)
    assert len(read_all(conn)) == 300_000
    assert finish(process).strip() == "0"


def test_exit_tells_the_peer():
    """By a farewell: nobody is left to answer the peer's own close, and its exit would wait for that."""
    client = """
    import sys, kcpsock
    with kcpsock.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
        sock.sendall(b"x" * 300_000)
    """
    server = f"""
    import subprocess, sys, kcpsock
    with kcpsock.create_server(("127.0.0.1", 0)) as server:
        client = subprocess.Popen([sys.executable, "-c", {textwrap.dedent(client)!r}, str(server.getsockname()[1])])
        conn, _ = server.accept()
        with conn:
            while conn.recv(65536):
                pass
            print(client.wait())
    """
    assert finish(python(server, KCPSOCK_EXIT_LINGER="1000")).strip() == "0"


def test_exit_with_an_unreachable_peer_is_bounded():
    code = """
    import socket, warnings, kcpsock
    warnings.simplefilter("ignore")
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    sock = kcpsock.socket(profile=kcpsock.Profile(framing="raw"))
    sock.connect(silent.getsockname())
    sock.sendall(b"nobody reads this")
    sock.close()
    """
    finish(python(code, KCPSOCK_EXIT_LINGER="0.2"))


def test_import_starts_no_thread_and_no_hub():
    code = """
    import os, kcpsock
    from gevent._hub_local import get_hub_if_exists
    kcpsock.socket().close()
    print(len(os.listdir("/proc/self/task")), get_hub_if_exists())
    """
    assert finish(python(code)).split() == ["1", "None"]


@pytest.mark.parametrize("engines,expected", [("1", 1), ("3", 3)])
def test_engines_of_the_environment(engines, expected):
    code = """
    import os, kcpsock
    server = kcpsock.create_server(("127.0.0.1", 0))
    pairs = []
    for _ in range(10):
        client = kcpsock.create_connection(server.getsockname())
        conn, _ = server.accept()
        client.sendall(b"x")
        assert conn.recv(1) == b"x"
        pairs += [client, conn]
    print(len(os.listdir("/proc/self/task")) - 1)
    for sock in [server, *pairs]:
        sock.close()
    """
    assert finish(python(code, KCPSOCK_ENGINES=engines)).split() == [str(expected)]


@pytest.mark.parametrize(
    "name,value",
    [
        ("KCPSOCK_ENGINES", "0"),
        ("KCPSOCK_ENGINES", "many"),
        ("KCPSOCK_UDP", "fast"),
        ("KCPSOCK_BUSY_POLL", "1"),
        ("KCPSOCK_MEMORY", "1g"),
        ("KCPSOCK_MEMORY", "-1"),
    ],
)
def test_environment_is_checked(name, value):
    code = """
    import kcpsock
    try:
        kcpsock.create_server(("127.0.0.1", 0))
    except ValueError as error:
        print(error)
    """
    out = finish(python(code, **{name: value}))
    assert name in out and repr(value) in out and "allowed" in out


@pytest.mark.parametrize("mode", ["plain", "mmsg", "gso", "auto"])
def test_udp_modes(mode):
    code = """
    import threading, kcpsock
    server = kcpsock.create_server(("127.0.0.1", 0))
    client = kcpsock.create_connection(server.getsockname())
    conn, _ = server.accept()
    sending = threading.Thread(target=lambda: (client.sendall(b"x" * 3_000_000), client.close()))
    sending.start()
    size = 0
    while part := conn.recv(65536):
        size += len(part)
    sending.join()
    print(size)
    conn.close(), server.close()
    """
    assert finish(python(code, KCPSOCK_UDP=mode)).strip() == "3000000"


def test_profile_of_the_environment():
    code = "import kcpsock; print(kcpsock.socket().profile.sndwnd)"
    process = python(
        code.replace("print", "sock = kcpsock.socket(); print").replace("kcpsock.socket().p", "sock.p")
        + "; sock.close()",
        KCPSOCK_PROFILE="kcp://?sndwnd=99",
    )
    assert finish(process).strip() == "99"


def test_socket_module_can_be_replaced():
    code = """
    import sys, kcpsock
    sys.modules["socket"] = kcpsock
    import http.client, http.server, threading
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.path.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *args):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    assert isinstance(server.socket, kcpsock.socket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = http.client.HTTPConnection(*server.server_address)
    client.request("GET", "/over-kcp")
    response = client.getresponse()
    print(response.status, response.read().decode())
    client.close()
    server.shutdown()
    server.server_close()
    """
    assert finish(python(code)).split() == ["200", "/over-kcp"]


def test_fork_child_serves_an_accepted_connection(threads):
    server = threads.listener()
    client = threads.dial(server)
    conn, _ = threads.accept(server)

    def child():
        server.close()
        assert conn.getpeername() == client.getsockname()
        data = read_exactly(conn, 5)
        conn.sendall(data.upper())
        conn.close()

    pid = fork(child)
    conn.close()
    client.sendall(b"hello")
    assert read_all(client) == b"HELLO"
    assert joined(pid) == 0


def test_fork_child_accepts(threads):
    server = threads.listener()

    def child():
        conn, peer = server.accept()
        conn.sendall(repr(peer).encode())
        conn.close()

    pids = [fork(child) for _ in range(3)]
    for _ in pids:
        client = threads.dial(server)
        assert read_all(client) == repr(client.getsockname()).encode()
    assert [joined(pid) for pid in pids] == [0, 0, 0]


def test_fork_child_connects_by_engines_of_its_own(threads):
    server = threads.listener()

    def child():
        with kcpsock.create_connection(server.getsockname(), LONG_S) as client:
            client.sendall(b"from the child")
            assert client.recv(2) == b"ok"

    pid = fork(child)
    conn, _ = threads.accept(server)
    assert read_exactly(conn, 14) == b"from the child"
    conn.sendall(b"ok")
    assert joined(pid) == 0


def test_fork_child_has_no_engine_until_needed(threads):
    client, conn = threads.pair()

    def child():
        assert len(os.listdir("/proc/self/task")) == 1
        client.sendall(b"x")
        assert len(os.listdir("/proc/self/task")) == 1

    pid = fork(child)
    assert conn.recv(1) == b"x"
    assert joined(pid) == 0
    client.sendall(b"y")
    assert conn.recv(1) == b"y"


def test_fork_child_reads_the_error(threads):
    import struct

    client, conn = threads.pair()

    def child():
        client.close()
        with pytest.raises(ConnectionResetError):
            conn.recv(1)

    pid = fork(child)
    conn.close()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert joined(pid) == 0


def test_fork_child_finds_what_it_inherited_by_its_descriptor(threads):
    server = threads.listener()
    client = threads.dial(server)
    conn, _ = threads.accept(server)

    def child():
        names = conn.getsockname(), conn.getpeername()
        for sock in (conn, conn.dup()):
            again = kcpsock.socket(fileno=sock.detach())
            assert (again.getsockname(), again.getpeername()) == names
            assert again.profile is not None
            again.sendall(b"x")
        with kcpsock.socket(fileno=server.detach()) as listening:
            listening.settimeout(LONG_S)
            assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            listening.accept()[0].close()

    pid = fork(child)
    assert read_exactly(client, 2) == b"xx"
    other = threads.dial(server)
    assert other.recv(1) == b""
    assert joined(pid) == 0


def test_fork_child_speaks_tls(threads):
    # As a forking https server does: the child wraps what the parent accepted.
    import ssl

    import trustme

    authority = trustme.CA()
    server_context, client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server_context)
    authority.configure_trust(client_context)
    server = threads.keep(server_context.wrap_socket(threads.listener(), server_side=True))

    def child():
        conn, peer = server.accept()
        assert conn.getpeername() == peer
        conn.sendall(conn.recv(5).upper())
        conn.unwrap().close()

    pid = fork(child)
    client = threads.keep(client_context.wrap_socket(threads.dial(server), server_hostname="localhost"))
    client.sendall(b"hello")
    assert read_exactly(client, 5) == b"HELLO"
    client.unwrap()
    assert joined(pid) == 0


def test_fork_child_has_no_numbers_of_the_parents_connection(threads):
    # The engine that has them runs in the parent. What the child opens itself has its own.
    server = threads.listener()
    client, conn = threads.dial(server), threads.accept(server)[0]

    def child():
        with pytest.raises(OSError) as caught:
            client.kcp_info()
        assert caught.value.errno == errno.ENOTCONN
        with kcpsock.create_connection(server.getsockname(), LONG_S) as own:
            assert own.kcp_info().conv

    pid = fork(child)
    threads.accept(server)
    assert joined(pid) == 0
    assert conn.kcp_info().conv == client.kcp_info().conv


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path, method):
    # Each side a server for the other; the child is imported anew but for "fork".
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, kcpsock
            def child(port, queue):
                with kcpsock.create_server(("127.0.0.1", 0)) as server:
                    queue.put(server.getsockname()[1])
                    with kcpsock.create_connection(("127.0.0.1", port), 30) as sock:
                        sock.sendall(b"from the child")
                        server.accept()[0].close()
            if __name__ == "__main__":
                context = multiprocessing.get_context({method!r})
                queue = context.Queue()
                with kcpsock.create_server(("127.0.0.1", 0)) as server:
                    job = context.Process(target=child, args=(server.getsockname()[1], queue))
                    job.start()
                    with server.accept()[0] as conn:
                        print(conn.recv(100).decode())
                        kcpsock.create_connection(("127.0.0.1", queue.get(timeout=30)), 30).close()
                    job.join()
                print(job.exitcode)
            """
        )
    )
    process = start([program])
    out, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, out.decode().splitlines()) == (0, ["from the child", "0"]), err.decode()


def test_exec_closes_what_is_not_inheritable(threads):
    client, conn = threads.pair()
    subprocess.run([sys.executable, "-c", "pass"], close_fds=False, check=True)
    client.set_inheritable(True)
    code = "import os, sys; os.write(int(sys.argv[1]), b'after exec')"
    subprocess.run([sys.executable, "-c", code, str(client.fileno())], close_fds=False, check=True)
    assert read_exactly(conn, 10) == b"after exec"


def test_killed_process_is_a_timeout(threads):
    # Nobody drains after SIGKILL, and a server's UDP port learns nothing of a closed port: silence is all there is.
    # The time is one in which the machine may stand still while both live.
    server = threads.listener(profile=kcpsock.Profile(keepalive=0.1, keepalive_timeout=4))
    process = python(
        """
        import sys, time, kcpsock
        sock = kcpsock.create_connection(("127.0.0.1", int(sys.argv[1])))
        sock.sendall(b"x")
        time.sleep(600)
        """,
        server.getsockname()[1],
    )
    conn, _ = threads.accept(server)
    assert conn.recv(1) == b"x"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LONG_S)
    with pytest.raises(OSError) as caught:
        while True:
            conn.sendall(b"anybody there?")
    assert caught.value.errno == errno.ETIMEDOUT


def test_under_gevents_monkey_patching():
    # `threading` is greenlets here; the engine's thread is a native one still, and the hub runs while calls wait.
    code = """
    from gevent import monkey
    monkey.patch_all()
    import os, socket, threading, gevent, kcpsock
    assert socket.socket is not monkey.get_original("socket", "socket")
    assert issubclass(kcpsock.socket, monkey.get_original("socket", "socket"))
    assert kcpsock.SocketIO is socket.SocketIO
    server = kcpsock.create_server(("localhost", 0))
    ticks = []
    def tick():
        while True:
            ticks.append(1)
            gevent.sleep(0.001)
    gevent.spawn(tick)
    answers = []
    def client():
        with kcpsock.create_connection(server.getsockname()) as sock:
            answers.append(sock.recv(3))
    thread = threading.Thread(target=client)
    thread.start()
    conn, _ = server.accept()
    while len(ticks) < 5:
        gevent.sleep(0.001)
    conn.sendall(b"yes")
    thread.join()
    conn.close(), server.close()
    print(answers[0].decode(), len(os.listdir("/proc/self/task")))
    """
    answer, threads = finish(python(code)).split()
    assert answer == "yes"
    assert int(threads) >= 2  # the engine's, and those of gevent's pool that look up names


# --- processes that leave data unread

LEAVER = """
import sys, warnings
import {module} as socket

warnings.simplefilter("ignore")  # that sockets are left open
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
assert sock.recv(10, socket.MSG_WAITALL) == b"x" * 10
{then}
"""


@needs_linux_calls
@pytest.mark.parametrize("closes", [True, False], ids=["close", "exit"])
def test_exit_with_unread_data_is_a_reset(net, closes):
    if net.greenlets:
        pytest.skip("the other end is a process")
    server = net.listener()
    then = 'sock.sendall(b"answer"); sock.recv(1, socket.MSG_PEEK)' + ("; sock.close()" if closes else "")
    process = python(LEAVER.format(module=net.module.__name__, then=then), server.getsockname()[1])
    conn, _ = net.accept(server)
    conn.sendall(b"x" * 100)
    assert read_exactly(conn, 6) == b"answer"
    with pytest.raises(ConnectionResetError):
        conn.recv(1)
    assert conn.recv(1) == b""
    finish(process)


@needs_linux_calls
def test_exit_resets_who_was_not_accepted(net):
    if net.greenlets:
        pytest.skip("the other end is a process")
    process = python(
        f"""
        import sys, warnings
        import {net.module.__name__} as socket

        warnings.simplefilter("ignore")
        server = socket.create_server(("127.0.0.1", 0))
        print(server.getsockname()[1], flush=True)
        conn, _ = server.accept()
        assert conn.recv(1) == b"x"
        """
    )
    address = ("127.0.0.1", int(process.stdout.readline()))
    clients = [net.keep(net.create_connection(address, LONG_S)) for _ in range(20)]
    clients[0].sendall(b"x")
    assert clients[0].recv(1) == b""
    for client in clients[1:]:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    finish(process)


def test_killed_process_with_unread_data_is_no_clean_end(threads):
    # Nobody is left to tell it: the port's refusals do, or silence.
    process = python(
        """
        import time, kcpsock
        server = kcpsock.create_server(("127.0.0.1", 0))
        print(server.getsockname()[1], flush=True)
        conn, _ = server.accept()
        conn.recv(10)
        conn.sendall(b"half of it")
        time.sleep(600)
        """
    )
    profile = kcpsock.Profile(keepalive=0.2, keepalive_timeout=5)
    address = ("127.0.0.1", int(process.stdout.readline()))
    client = threads.keep(kcpsock.create_connection(address, LONG_S, profile=profile))
    client.sendall(b"x" * 100)
    assert read_exactly(client, 10) == b"half of it"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LONG_S)
    with pytest.raises(OSError) as caught:
        client.recv(1)
    assert caught.value.errno in (errno.ECONNRESET, errno.ETIMEDOUT)


def test_fork_last_copy_of_unread_data_is_a_reset(net):
    if net.greenlets:
        pytest.skip("forked")
    client, conn = net.pair()
    client.sendall(b"x" * 100)
    assert conn.recv(10, socket.MSG_WAITALL) == b"x" * 10
    told, tell = os.pipe()

    def child():
        client.close()
        os.close(tell)
        os.read(told, 1)
        conn.close()

    pid = fork(child)
    os.close(told)
    conn.close()
    client.settimeout(SHORT_S)
    with pytest.raises(socket.timeout):
        client.recv(1)
    client.settimeout(LONG_S)
    os.close(tell)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert client.recv(1) == b""
    assert joined(pid) == 0


def test_fork_shutdown_with_unread_data_is_a_clean_end(net):
    # As a forking server's child does with a request that it has not read to the end.
    if net.greenlets:
        pytest.skip("forked")
    client, conn = net.pair()
    client.sendall(b"x" * 100)
    assert conn.recv(10, socket.MSG_WAITALL) == b"x" * 10

    def child():
        client.close()
        conn.sendall(b"answer")
        conn.shutdown(socket.SHUT_WR)
        conn.close()

    pid = fork(child)
    conn.close()
    assert read_all(client) == b"answer"
    assert joined(pid) == 0
