# SPDX-License-Identifier: MIT
"""serve_websockets.py: a WebSocket server that echoes, by websockets, until its stdin ends. Prints its port."""

import sys
import threading

from websockets.sync.server import serve


def echo(connection):
    for message in connection:
        connection.send(message)


with serve(echo, "127.0.0.1", 0) as server:
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    print(server.socket.getsockname()[1], flush=True)
    sys.stdin.read()
    server.shutdown()
    serving.join()
