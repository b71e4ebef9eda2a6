# SPDX-License-Identifier: MIT
"""The listener that flood.py floods. The first connection is read and counted, each further one is echoed.

Says "port N"; for each line on stdin a line of JSON: what it has accepted, received and counted. Ends with its stdin.
"""

import selectors
import sys
import threading
import time

from program import cpu_seconds, report

import kcpsock

BLOCK_BYTES = 1 << 16


class Server:
    """Two threads, whoever comes: what its memory grows by is not Python's."""

    def __init__(self, host, profile):
        self.accepted = self.received = 0
        self.listener = kcpsock.create_server((host, 0), backlog=128, profile=profile)
        self.ready = selectors.DefaultSelector()
        self.ready.register(self.listener, selectors.EVENT_READ, self.accept)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            for key, _ in self.ready.select():
                key.data(key.fileobj)

    def accept(self, listener):
        conn, _ = listener.accept()
        self.accepted += 1
        if self.accepted == 1:
            threading.Thread(target=self.sink, args=(conn,), daemon=True).start()
        else:
            self.ready.register(conn, selectors.EVENT_READ, self.echo)

    def echo(self, conn):
        try:
            data = conn.recv(BLOCK_BYTES)
            conn.sendall(data)
        except OSError:  # a kcp-go client ends without a word
            data = b""
        if not data:
            self.ready.unregister(conn)
            conn.close()

    def sink(self, conn):
        buffer = bytearray(BLOCK_BYTES)
        with conn:
            while got := conn.recv_into(buffer):
                self.received += got


def main():
    host, url = sys.argv[1:]
    server = Server(host, kcpsock.Profile.from_url(url))
    print(f"port {server.listener.getsockname()[1]}", flush=True)
    for _ in sys.stdin:
        report(
            {
                "at": time.monotonic(),
                "accepted": server.accepted,
                "received": server.received,
                "cpu": cpu_seconds(),
                "stats": kcpsock.stats(),
            }
        )


if __name__ == "__main__":
    main()
