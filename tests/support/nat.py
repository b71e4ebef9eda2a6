# SPDX-License-Identifier: MIT
"""A NAT in front of one client: what it sends reaches the target from a port of the NAT's, which rebind() changes."""

import select
import socket
import threading


class Nat(threading.Thread):
    """Passes packets on, both ways, as a context. The client connects to `port`; `recorded` is what it has sent."""

    def __init__(self, target, host="127.0.0.1"):
        super().__init__(daemon=True)
        self._target = target
        self._inner = self._socket((host, 0))
        self.port = self._inner.getsockname()[1]
        self._lock = threading.Lock()  # guards _outer, _forgotten and _client, and which packets pass
        self._outer, self._client = self._connected(), None
        self._forgotten = []  # run() waits for one of them, maybe: a descriptor is closed by nobody else while it runs
        self.recorded = []
        self._stopping, self._stopper = socket.socketpair()
        self.start()

    @staticmethod
    def _socket(name):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(name)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setblocking(False)
        return sock

    def _connected(self):
        sock = self._socket(("127.0.0.1", 0))
        sock.connect(self._target)
        return sock

    def rebind(self):
        """Forgets the flow. -> the address from which the next packet reaches the target"""
        with self._lock:
            self._forgotten.append(self._outer)
            self._outer = self._connected()
            return self._outer.getsockname()

    def send(self, packets):
        """To the target, as if the client had sent them."""
        with self._lock:
            for packet in packets:
                try:
                    self._outer.send(packet)
                except ConnectionRefusedError:  # of an earlier packet, when nobody listened; this one was not sent
                    self._outer.send(packet)

    def send_back(self, packets):
        """To the client, as if the target had sent them."""
        with self._lock:
            for packet in packets:
                self._inner.sendto(packet, self._client)

    def run(self):
        while True:
            with self._lock:
                outer = self._outer
                self._close_forgotten()
            ready = select.select([self._inner, outer, self._stopping], [], [], 0.01)[0]  # or rebind() went unseen
            if self._stopping in ready:
                return
            with self._lock:
                if outer is self._outer:
                    self._pass(self._inner, outer, outwards=True)
                    self._pass(outer, self._inner, outwards=False)

    def _close_forgotten(self):
        while self._forgotten:
            self._forgotten.pop().close()

    def _pass(self, came, leaves, *, outwards):
        for _ in range(64):
            try:
                packet, sender = came.recvfrom(2048)
                if outwards:
                    self._client = sender
                    self.recorded.append(packet)
                    leaves.send(packet)
                elif self._client is not None:
                    leaves.sendto(packet, self._client)
            except BlockingIOError:
                return
            except OSError:
                continue  # ICMP: the other end's port has closed

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopper.close()
        self.join()
        self._close_forgotten()
        for sock in (self._inner, self._outer, self._stopping):
            sock.close()
