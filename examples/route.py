# SPDX-License-Identifier: MIT
"""A route: one address is reached over KCP, another stays on TCP, and the program knows nothing of it.

Here 127.0.0.2 is the service far away, and 127.0.0.1 the database next door. From outside the program the same is said
by `python -m kcpsock.monkey --route 127.0.0.2:*=kcp://?mode=fast3 program.py`.
"""

import kcpsock
from kcpsock.monkey import patch_socket

FAR = kcpsock.Profile(mode="fast3")

patch_socket(route=lambda address: FAR if address[0] == "127.0.0.2" else None)

# From here on a program like any other.
import socket
import threading


def greet(listener, name):
    with listener, listener.accept()[0] as peer:
        peer.sendall(f"hello from the {name}".encode())


for name, host in (("service", "127.0.0.2"), ("database", "127.0.0.1")):
    listener = socket.create_server((host, 0))
    threading.Thread(target=greet, args=(listener, name)).start()
    with socket.create_connection(listener.getsockname(), timeout=10) as sock:
        how = "TCP" if sock.profile is None else "KCP"
        print(sock.recv(100).decode(), "over", how)
