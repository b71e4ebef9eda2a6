# SPDX-License-Identifier: MIT
"""A KCP listener in front of a TCP server: threads copy bytes both ways, with half-closes.

with Forwarder(("127.0.0.1", 6379)) as forwarder:
    forwarder.address   # where to speak KCP
"""

import contextlib
import socket
import threading

import kcpsock


class Forwarder:
    def __init__(self, target, profile=None):
        self._target = target
        self._listener = kcpsock.create_server(("127.0.0.1", 0), profile=profile)
        self.address = self._listener.getsockname()
        self._open = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # shut down
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            pair = threading.Thread(target=self._carry, args=(near, far))
            self._threads.append(pair)
            pair.start()

    def _carry(self, near, far):
        back = threading.Thread(target=_copy, args=(far, near))
        back.start()
        _copy(near, far)
        back.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()

    def close(self):
        self._listener.shutdown(kcpsock.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()


def _copy(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
