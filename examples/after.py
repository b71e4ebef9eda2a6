# SPDX-License-Identifier: MIT
import threading
import kcpsock as socket

server = socket.create_server(("127.0.0.1", 0))

def echo():
    with server.accept()[0] as peer:
        while data := peer.recv(65536):
            peer.sendall(data)

threading.Thread(target=echo).start()
with server, socket.create_connection(server.getsockname()) as client:
    client.sendall(b"hello")
    print(client.recv(65536))
