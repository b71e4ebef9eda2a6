# SPDX-License-Identifier: MIT
"""kcptun's two programs, started and ended. They want a port given: a free one is looked for, and another one taken
when somebody was faster."""

import contextlib
import shutil
import socket
import threading
import time

from tests.support import streams
from tests.support.programs import PATIENCE_S, Program, ProgramFailed

CLIENT, SERVER = "kcptun-client", "kcptun-server"
HOW_TO_INSTALL = "apt-get install kcptun"
ATTEMPTS = 5


def is_here():
    return all(shutil.which(name) for name in (CLIENT, SERVER))


@contextlib.contextmanager
def client(remote_port, *flags):
    """TCP -> KCP. Yields the port that TCP clients connect to."""
    remote = f"127.0.0.1:{remote_port}"
    with _running(CLIENT, socket.SOCK_STREAM, "--localaddr", ["--remoteaddr", remote, *flags]) as port:
        yield port


@contextlib.contextmanager
def server(target_port, *flags):
    """KCP -> TCP. Yields the UDP port."""
    target = f"127.0.0.1:{target_port}"
    with _running(SERVER, socket.SOCK_DGRAM, "--listen", ["--target", target, *flags]) as port:
        yield port


@contextlib.contextmanager
def _running(name, kind, listen_flag, flags):
    for attempt in range(ATTEMPTS):
        with socket.socket(socket.AF_INET, kind) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with Program(name, [shutil.which(name), listen_flag, f"127.0.0.1:{port}", *flags]) as program:
            if not _listens(program, kind, port):
                failure = program.failed("it does not listen")  # with its last words, which are waited for
                if "address already in use" in str(failure) and attempt + 1 < ATTEMPTS:
                    continue
                raise failure
            try:
                yield port
            except ProgramFailed:
                raise
            except Exception as error:
                raise program.failed(f"in use when this happened: {error!r}") from error
            if not program.is_running:
                raise program.failed("it ended unasked")
            return


def _listens(program, kind, port):
    # Waits until the kernel lists the port; False when the program ends before.
    table, state = ("/proc/net/tcp", "0A") if kind == socket.SOCK_STREAM else ("/proc/net/udp", "07")
    end = time.monotonic() + PATIENCE_S
    while program.is_running:
        with open(table, encoding="ascii") as sockets:
            for fields in map(str.split, sockets):
                if fields[1] == f"0100007F:{port:04X}" and fields[3] == state:
                    return program.is_running
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return False


class TcpEcho:
    """An ordinary TCP echo server, the target of a kcptun server; `with` ends it."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ended = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def wait_for_end(self):
        """Until one more connection has ended."""
        assert self._ended.acquire(timeout=PATIENCE_S), "no connection ended at the TCP server"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._echo, args=(conn,), daemon=True))
            self._threads[-1].start()

    def _echo(self, conn):
        streams.echo(conn)
        self._ended.release()
