# SPDX-License-Identifier: MIT
"""Both ends of what bench/link.py measures, over kcpsock (its default profile, or what ``--profile`` changes in it), or
(``--module socket``) kernel TCP.

    server                    prints "port P"; serves whoever comes, until stdin ends
    bulk --bytes N            says "started 1", writes N bytes; prints a result once the server has read the last one
    requests --seconds S      200 bytes every 20 ms, each answered by 2,000, whatever became of those before

Clocks are CLOCK_MONOTONIC: both ends are on one machine. A transfer's seconds count from its first write, on a
connection that is there, to the server's read of the last byte; those with connect from before the connection was made.
One that takes longer than --limit ends there, with the bytes that came by then. A request's latency counts from when it
was due, so that a stall is charged to every request that waited behind it.
"""

import argparse
import contextlib
import importlib
import json
import os
import socket
import struct
import sys
import threading
import time

from program import giving_up, report

BULK, REQUESTS = 1, 2
HEADER = struct.Struct("!BQd")  # which of the two, and of a transfer its bytes and its most seconds
RECEIPT = struct.Struct("!QQ")  # bytes read, and when the last was
NUMBER = struct.Struct("!Q")  # what a request begins with, and its answer
BLOCK_BYTES = 1 << 16
CONNECT_SECONDS = 30.0


def main():
    options = parse()
    with giving_up(options.timeout):
        COMMANDS[options.command](options)
    os._exit(0)  # a thread may still be reading


def open_module(options):
    """-> the module, what its sockets are made with, and set_up(socket)."""
    module = importlib.import_module(options.module)
    profile = {} if module is socket else {"profile": module.Profile(**json.loads(options.profile))}

    def set_up(sock):
        if module is socket:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if options.congestion:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, options.congestion.encode())

    return module, profile, set_up


def run_server(options):
    module, profile, set_up = open_module(options)
    listener = module.create_server(split_address(options.listen), **profile)
    set_up(listener)  # what it accepts has it too
    print("port", listener.getsockname()[1], flush=True)

    def accept():
        while True:
            conn, _ = listener.accept()
            threading.Thread(target=serve, args=(conn,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    wait_until_told()


def serve(conn):
    with conn:
        try:
            kind, total, limit = HEADER.unpack(read_exactly(conn, HEADER.size))
            if kind == BULK:
                take(conn, total, limit)
            else:
                answer(conn)
        except (EOFError, ConnectionError) as error:
            print(f"server: {error!r}", file=sys.stderr, flush=True)


def take(conn, total, limit):
    buffer, got, end = bytearray(1 << 20), 0, time.monotonic() + limit
    while got < total and (left := end - time.monotonic()) > 0:
        conn.settimeout(left)
        try:
            count = conn.recv_into(buffer)
        except socket.timeout:  # TimeoutError, from Python 3.10 on
            break
        if not count:
            raise EOFError(f"the stream ended after {got} of {total} bytes")
        got += count
    receipt = RECEIPT.pack(got, time.monotonic_ns())
    conn.settimeout(None)
    conn.sendall(receipt)
    while conn.recv_into(buffer):  # the client closes first
        pass


def answer(conn):
    sizes = struct.Struct("!II")
    request, response = sizes.unpack(read_exactly(conn, sizes.size))
    rest = bytes(response - NUMBER.size)
    while message := read_exactly(conn, request, may_end=True):
        conn.sendall(message[: NUMBER.size] + rest)


def run_bulk(options):
    """A result for each address; between two of them waits for a line on stdin."""
    for turn, address in enumerate(options.addr):
        if turn:
            wait_until_told()
        report(bulk(options, address))


def bulk(options, address):
    conn, before = connect(options, address)
    with conn:
        print("started 1", flush=True)
        start = time.monotonic_ns()
        threading.Thread(target=pour, args=(options, conn), daemon=True).start()
        got, end = RECEIPT.unpack(read_exactly(conn, RECEIPT.size))
    return {
        "bytes": got,
        "start_ns": start,
        "end_ns": end,
        "seconds": (end - start) / 1e9,
        "seconds_with_connect": (end - before) / 1e9,
    }


def pour(options, conn):
    block = os.urandom(BLOCK_BYTES)
    with contextlib.suppress(OSError):  # cut short; whatever else it is, no receipt comes
        conn.sendall(HEADER.pack(BULK, options.bytes, options.limit))
        for at in range(0, options.bytes, BLOCK_BYTES):
            conn.sendall(block[: options.bytes - at])


def run_requests(options):
    """Says "connected 1" when the first is answered; goes on for --seconds, or until told when that is 0."""
    conn, _ = connect(options, options.addr[0])
    conn.sendall(HEADER.pack(REQUESTS, 0, 0) + struct.pack("!II", options.request, options.response))
    rest = bytes(options.request - NUMBER.size)
    conn.sendall(NUMBER.pack(0) + rest)
    read_exactly(conn, options.response)
    print("connected 1", flush=True)

    told = threading.Event()
    if not options.seconds:
        threading.Thread(target=lambda: (wait_until_told(), told.set()), daemon=True).start()
    every_ns = int(options.every_ms * 1e6)
    most = int(options.seconds * 1e9 / every_ns) if options.seconds else sys.maxsize
    answered, arrival = {}, threading.Condition()

    def read():
        while True:
            (number,) = NUMBER.unpack_from(read_exactly(conn, options.response))
            with arrival:
                answered[number] = time.monotonic_ns()
                arrival.notify()

    threading.Thread(target=read, daemon=True).start()
    start = time.monotonic_ns() + every_ns
    sent = late = 0
    while sent < most and not told.is_set():
        due = start + sent * every_ns
        told.wait(max(0, due - time.monotonic_ns()) / 1e9)
        late = max(late, time.monotonic_ns() - due)
        conn.sendall(NUMBER.pack(sent) + rest)
        sent += 1
    with arrival:
        arrival.wait_for(lambda: len(answered) == sent, options.drain)
    report(
        {
            "start_ns": start,
            "every_ns": every_ns,
            "latency_ms": [
                round((answered[i] - start - i * every_ns) / 1e6, 3) if i in answered else None for i in range(sent)
            ],
            "bytes": sent * (options.request + options.response),
            "sender_late_ms": late / 1e6,
        }
    )


def connect(options, address):
    """-> the connection, and when it was begun."""
    module, profile, set_up = open_module(options)
    conn = module.socket(**profile)
    set_up(conn)
    conn.settimeout(CONNECT_SECONDS)
    before = time.monotonic_ns()
    conn.connect(split_address(address))
    conn.settimeout(None)
    return conn, before


def read_exactly(conn, count, may_end=False):
    """may_end: the stream's end instead of a first byte gives b""."""
    buffer = bytearray(count)
    got = 0
    while got < count:
        more = conn.recv_into(memoryview(buffer)[got:])
        if not more:
            if may_end and not got:
                return b""
            raise EOFError(f"the stream ended after {got} of {count} bytes")
        got += more
    return bytes(buffer)


def split_address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def wait_until_told():
    sys.stdin.readline()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("--module", default="kcpsock", help="kcpsock, or socket for kernel TCP")
    parser.add_argument("--profile", default="{}", help="kcpsock: what differs from the default Profile, JSON")
    parser.add_argument("--congestion", default="", help="of TCP: bbr, cubic, ...")
    parser.add_argument("--listen", default="127.0.0.1:0", help="address a server binds")
    parser.add_argument("--addr", action="append", help="address a client connects to; bulk: of a transfer each")
    parser.add_argument("--bytes", type=int, default=10_000_000)
    parser.add_argument("--limit", type=float, default=60, help="bulk: seconds")
    parser.add_argument("--seconds", type=float, default=0, help="requests: for so long; 0: until told")
    parser.add_argument("--every-ms", type=float, default=20)
    parser.add_argument("--request", type=int, default=200, help="bytes")
    parser.add_argument("--response", type=int, default=2000, help="bytes")
    parser.add_argument("--drain", type=float, default=20, help="seconds that the last answers may take")
    parser.add_argument("--timeout", type=float, default=120, help="seconds after which the process gives up")
    return parser.parse_args()


COMMANDS = {"server": run_server, "bulk": run_bulk, "requests": run_requests}

if __name__ == "__main__":
    main()
