# SPDX-License-Identifier: MIT
"""socketserver over KCP: the handler is as ever, the server class comes from kcpsock.servers."""

import socketserver
import threading

import kcpsock
from kcpsock.servers import ThreadingTCPServer


class Reverse(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.rstrip(b"\n")[::-1] + b"\n")


with ThreadingTCPServer(("127.0.0.1", 0), Reverse) as server:
    threading.Thread(target=server.serve_forever).start()
    with kcpsock.create_connection(server.server_address, timeout=10) as client, client.makefile("rw") as lines:
        for text in ("drawer", "stressed"):
            print(text, file=lines, flush=True)
            print(text, "->", lines.readline().strip())
    server.shutdown()
