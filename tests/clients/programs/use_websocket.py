# SPDX-License-Identifier: MIT
"""use_websocket.py HOST PORT: messages to a server that echoes them, by websocket-client."""

import sys

import websocket

host, port = sys.argv[1:]
ws = websocket.create_connection(f"ws://{host}:{port}/", timeout=30)
ws.send("hello")
print(ws.recv())
big = bytes(range(256)) * 4000
ws.send_binary(big)
print(ws.recv() == big)
ws.ping("still there?")
for i in range(100):
    ws.send(str(i))
print(sum(int(ws.recv()) for i in range(100)))
ws.settimeout(0.05)
try:
    ws.recv()
except websocket.WebSocketTimeoutException:
    print("timed out")
ws.settimeout(30)
ws.send("end")
print(ws.recv())
ws.close()
