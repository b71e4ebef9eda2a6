# SPDX-License-Identifier: MIT
"""An echo server with a thread for each client, and a client that looks at its connection's numbers."""

import threading

import kcpsock

profile = kcpsock.Profile(key="a secret of both ends", mode="fast3")
listener = kcpsock.create_server(("127.0.0.1", 0), profile=profile)


def serve():
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:  # shut down
            return
        threading.Thread(target=echo, args=(peer,)).start()


def echo(peer):
    with peer:
        while data := peer.recv(65536):
            peer.sendall(data)


server = threading.Thread(target=serve)
server.start()
with kcpsock.create_connection(listener.getsockname(), timeout=10, profile=profile) as client:
    for word in (b"one", b"two", b"three"):
        client.sendall(word)
        print(client.recv(65536))
    info = client.kcp_info()
    print(f"round trip {info.srtt_ms} ms, {info.retrans_segs} retransmissions")
listener.shutdown(kcpsock.SHUT_RDWR)
server.join()
listener.close()
