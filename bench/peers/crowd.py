# SPDX-License-Identifier: MIT
"""Many connections with little to say: both ends, one thread each, on epoll. kcp-go's are in `gopeer bench`.

Each connection writes a message once a second and gets it back. They take turns evenly over the second.
"""

import contextlib
import os
import select
import sys
import time

AT_ONCE = 64  # connections that wait for their first answer: a listener's backlog is finite
READ_BYTES = 65536
PERIOD_S = 1.0


def serve(listener):
    """Echoes whatever comes, on as many connections as come, until stdin ends or speaks."""
    listener.setblocking(False)
    poll, conns, buffer = select.epoll(), {}, memoryview(bytearray(READ_BYTES))
    poll.register(listener, select.EPOLLIN)
    poll.register(sys.stdin, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == sys.stdin.fileno():
                return
            if fd == listener.fileno():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        conn, _ = listener.accept()
                        conn.setblocking(False)
                        conns[conn.fileno()] = conn
                        poll.register(conn, select.EPOLLIN)
                continue
            conn = conns[fd]
            n = conn.recv_into(buffer)
            if not n:
                raise ConnectionError(f"connection {fd} ended")
            if conn.send(buffer[:n]) != n:
                raise BufferError(f"connection {fd} takes no answer: its peer does not read")


class Visitors:
    """The client's connections."""

    def __init__(self, connect, count, size):
        self.connect, self.count = connect, count
        self.message = os.urandom(size)
        self.poll, self.conns, self.numbers = select.epoll(), [], {}
        self.sent_at, self.missing = [], []  # per connection: of its latest message; bytes of the answer still to come
        self.latencies, self.echoes, self.overrun = [], 0, 0

    def arrive(self):
        """Connects all; returns when each has had its first answer."""
        while self.echoes < self.count:
            while len(self.conns) < min(self.count, self.echoes + AT_ONCE):
                conn = self.connect()
                conn.setblocking(False)
                self.numbers[conn.fileno()] = len(self.conns)
                self.conns.append(conn)
                self.sent_at.append(0.0)
                self.missing.append(0)
                self.poll.register(conn, select.EPOLLIN)
                self.say(len(self.conns) - 1)
            self.listen(-1)

    def talk(self):
        """Until stdin ends or speaks. -> the result; overrun: messages not sent, since the last had no answer."""
        self.latencies, self.echoes = [], 0
        self.poll.register(sys.stdin, select.EPOLLIN)
        start, turn = time.perf_counter(), 0
        while True:
            due = start + turn * PERIOD_S / self.count
            now = time.perf_counter()
            while due <= now:
                self.say(turn % self.count)
                turn += 1
                due = start + turn * PERIOD_S / self.count
            if self.listen(due - now):
                return self.result(time.perf_counter() - start)

    def call_on(self, count, seconds):
        """Says something on `count` connections, spread over all, and waits for `seconds` at most. -> the result."""
        asked = [turn * self.count // count for turn in range(count)]
        self.latencies, self.echoes = [], 0
        start = time.perf_counter()
        for sent, number in enumerate(asked, 1):
            self.say(number)
            while sent - self.echoes >= AT_ONCE and time.perf_counter() - start < seconds:
                self.listen(seconds)
        while self.echoes < count and time.perf_counter() - start < seconds:
            self.listen(seconds)
        return self.result(time.perf_counter() - start)

    def say(self, number):
        if self.missing[number]:
            self.overrun += 1
            return
        self.sent_at[number], self.missing[number] = time.perf_counter(), len(self.message)
        self.conns[number].sendall(self.message)

    def listen(self, seconds):
        # -> whether stdin has spoken. Without `seconds` (-1) it waits for the first answer.
        told = False
        for fd, _ in self.poll.poll(seconds):
            if fd == sys.stdin.fileno():
                told = True
                continue
            number = self.numbers[fd]
            data = self.conns[number].recv(READ_BYTES)
            if not data:
                raise ConnectionError(f"connection {number} ended")
            done = len(self.message) - self.missing[number]
            if data != self.message[done : done + len(data)]:
                raise ValueError(f"connection {number}: the message came back changed")
            self.missing[number] -= len(data)
            if not self.missing[number]:
                self.echoes += 1
                self.latencies.append(time.perf_counter() - self.sent_at[number])
        return told

    def result(self, seconds):
        took = sorted(self.latencies)
        at = {f"p{share}_us": took[len(took) * share // 100] * 1e6 if took else 0.0 for share in (50, 99)}
        at["max_us"] = took[-1] * 1e6 if took else 0.0
        now = time.perf_counter()
        late = sum(left > 0 and now - then > PERIOD_S for left, then in zip(self.missing, self.sent_at))
        counts = {"echoes": self.echoes, "sessions": self.count, "overrun": self.overrun, "late_at_end": late}
        return {"seconds": seconds, **counts, **at}
