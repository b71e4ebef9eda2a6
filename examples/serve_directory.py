# SPDX-License-Identifier: MIT
"""Serve a directory over KCP with the standard library's http.server, unmodified.

    python examples/serve_directory.py DIRECTORY [PORT]

Ctrl-C or SIGTERM ends it.
"""

import signal
import sys

import kcpsock

sys.modules["socket"] = kcpsock  # what is imported from here on gets KCP by "import socket"

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


def serve(directory: str, port: int) -> None:
    SimpleHTTPRequestHandler.protocol_version = "HTTP/1.1"  # a connection serves more than one request
    handler = partial(SimpleHTTPRequestHandler, directory=directory)
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"serving {directory} over KCP at http://127.0.0.1:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
    sent, again = (kcpsock.stats()[name] for name in ("OutSegs", "RetransSegs"))
    print(f"{sent} segments sent, {again} of them retransmissions ({again / max(sent, 1):.1%})", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
