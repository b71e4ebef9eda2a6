# SPDX-License-Identifier: MIT
"""A chat over KCP: a greenlet for each connection, all in one thread, nothing patched."""

import gevent

import kcpsock


class Room:
    def __init__(self, listener):
        self.listener = listener
        self.members = {}

    def serve(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:  # shut down
                return
            gevent.spawn(self.talk, sock)

    def talk(self, sock):
        with sock, sock.makefile("r") as lines:
            name = lines.readline().strip()
            self.members[name] = sock
            self.tell(f"* {name} comes")
            try:
                for line in lines:
                    self.tell(f"{name}: {line.strip()}")
            except ConnectionResetError:  # left without having read all
                pass
            del self.members[name]
            self.tell(f"* {name} goes")

    def tell(self, text):
        for sock in self.members.values():
            sock.sendall(text.encode() + b"\n")


class Member:
    def __init__(self, address, name):
        self.sock = kcpsock.create_connection(address, timeout=10)
        self.lines = self.sock.makefile("r")
        self.say(name)

    def say(self, text):
        self.sock.sendall(text.encode() + b"\n")

    def hear(self):
        return self.lines.readline().strip()

    def leave(self):
        self.lines.close()
        self.sock.close()


listener = kcpsock.create_server(("127.0.0.1", 0))
serving = gevent.spawn(Room(listener).serve)
address = listener.getsockname()
ada = Member(address, "Ada")
print(ada.hear())
bob = Member(address, "Bob")
print(ada.hear())
assert bob.hear() == "* Bob comes"
bob.say("Hello!")
print(ada.hear())
ada.say("Hello, Bob.")
print(ada.hear())
bob.leave()
print(ada.hear())
ada.leave()
listener.shutdown(kcpsock.SHUT_RDWR)
serving.join()
listener.close()
