# SPDX-License-Identifier: MIT
"""httpx over KCP: a transport for the client. A download is streamed."""

import functools
import http.server
import tempfile
import threading
from pathlib import Path

import httpx

from kcpsock.adapters.httpx import KCPTransport
from kcpsock.servers import ThreadingHTTPServer


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


with tempfile.TemporaryDirectory() as directory:
    Path(directory, "big").write_bytes(bytes(5_000_000))
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=directory)) as server:
        threading.Thread(target=server.serve_forever).start()
        endpoint = f"kcp://127.0.0.1:{server.server_port}?mode=fast3"
        with httpx.Client(transport=KCPTransport(endpoint=endpoint)) as client:
            with client.stream("GET", "http://files.example/big") as response:
                print(response.status_code, sum(map(len, response.iter_bytes())), "bytes")
        server.shutdown()
