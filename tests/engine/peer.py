# SPDX-License-Identifier: MIT
"""One end of a connection in a process of its own, told what to do by lines of JSON: `python -m tests.engine.peer`.

Each public function below is a command; tests call them through `process.Peer`. The program's only state is its
sockets, by name. No test runs in here: what a command finds it returns.
"""

import hashlib
import json
import random
import select
import socket as stdlib
import struct
import sys
import threading
import time

import kcpsock
from tests.support import leaks, streams
from tests.support.waiting import PATIENCE_S, Task

BLOCK_BYTES = 1 << 18

_sockets = {}
_tasks = {}


# --- sockets ----------------------------------------------------------------------------------------------------------


def profile(**fields):
    """The default profile of this process from now on."""
    kcpsock.set_default_profile(kcpsock.Profile(**fields))


def listen(name="server", backlog=128, port=0):
    """Opens a listener, on a free port unless one is given. -> the port"""
    _sockets[name] = server = kcpsock.create_server(("127.0.0.1", port), backlog=backlog)
    server.settimeout(PATIENCE_S)
    return server.getsockname()[1]


def connect(port, name="client"):
    _sockets[name] = client = kcpsock.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    return client.getsockname()[1]


def try_connect(port, timeout_s):
    """A connection that is not to come about. -> the exception's name and text"""
    try:
        kcpsock.create_connection(("127.0.0.1", port), timeout=timeout_s).close()
    except OSError as error:
        return type(error).__name__, str(error)
    return None, "connected"


def accept(name="conn", server="server"):
    """-> the peer's port"""
    _sockets[name], address = _sockets[server].accept()
    _sockets[name].settimeout(PATIENCE_S)
    return address[1]


def close(*names):
    for name in names or list(_sockets):
        _sockets.pop(name).close()


def counts():
    """stats(), and what this process holds."""
    python_threads = {thread.native_id for thread in threading.enumerate()}
    native = leaks.native_threads()
    return {
        **kcpsock.stats(),
        "fds": len(leaks.open_fds()),
        "threads": len(native),
        "library_threads": len(native.keys() - python_threads),
        "rss_bytes": _memory_bytes("VmRSS"),
        "rss_peak_bytes": _memory_bytes("VmHWM"),
    }


def info(name):
    found = _sockets[name].kcp_info()
    return {field: getattr(found, field) for field in found.__dataclass_fields__}


def _memory_bytes(what):
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(f"{what}:"))


# --- transfers --------------------------------------------------------------------------------------------------------


def blocks(seed, size):
    """`size` bytes, no two blocks of them alike."""
    block = random.Random(seed).randbytes(BLOCK_BYTES)
    for number in range((size + BLOCK_BYTES - 1) // BLOCK_BYTES):
        yield (number.to_bytes(8, "big") + block[8:])[: size - number * BLOCK_BYTES]


def digest(seed, size):
    """What the receiver of `blocks` must find."""
    whole = hashlib.sha256()
    for block in blocks(seed, size):
        whole.update(block)
    return whole.hexdigest()


def _send(sock, seed, size, shut):
    for block in blocks(seed, size):
        sock.sendall(block)
    if shut:
        sock.shutdown(stdlib.SHUT_WR)


def _receive(sock, size):
    # All until the end of the stream, or with `size` that much. -> bytes, SHA-256
    found, left, buffer = hashlib.sha256(), size, memoryview(bytearray(BLOCK_BYTES))
    total = 0
    while left is None or left > 0:
        got = sock.recv_into(buffer[: min(left or BLOCK_BYTES, BLOCK_BYTES)])
        if got == 0:
            break
        found.update(buffer[:got])
        total += got
        left = None if left is None else left - got
    return total, found.hexdigest()


def message_sizes(name, count):
    """Reads so many messages. -> their lengths"""
    return [len(_sockets[name].recv(1 << 20)) for _ in range(count)]


def start_send(name, seed, size, shut=True):
    _tasks[name] = Task(_send, _sockets[name], seed, size, shut)


def is_sending(name):
    return _tasks[name].is_alive()


def sent(name):
    """Waits until start_send is through."""
    _tasks.pop(name).result()


def receive(name, size=None):
    return _receive(_sockets[name], size)


def exchange(name, seed, size, framing="smux"):
    """Sends `size` bytes made of `seed`, receives at the same time. -> [bytes received, their SHA-256]"""
    sender = Task(_send, _sockets[name], seed, size, framing == "smux")
    found = _receive(_sockets[name], None if framing == "smux" else size)
    sender.result()
    return found


def linger(name):
    """Waits until the peer has acknowledged everything, as SO_LINGER does, and closes."""
    _sockets[name].setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack("ii", 1, 60))
    _sockets.pop(name).close()


def is_readable(name):
    return bool(select.select([_sockets[name]], [], [], 0)[0])


# --- an echo server, a thread per connection --------------------------------------------------------------------------


def _serve(name, server):
    while True:
        try:
            conn, _ = server.accept()
        except stdlib.timeout:
            continue
        if name not in _sockets:
            conn.close()
            return
        conn.settimeout(None)
        threading.Thread(target=streams.echo, args=(conn,), daemon=True).start()


def serve_echo(name="server"):
    _tasks[name] = Task(_serve, name, _sockets[name])


def stop_echo(name="server"):
    """Closes the listener; a last connection wakes its thread."""
    server = _sockets.pop(name)
    kcpsock.create_connection(server.getsockname(), timeout=PATIENCE_S).close()
    _tasks.pop(name).result()
    server.close()


def echo(name, seed, size):
    """Whether the other end sends back what it gets."""
    sock, data = _sockets[name], random.Random(seed).randbytes(size)
    sock.sendall(data)
    return streams.read_exactly(sock, size) == data


def try_exchange(name, seed, size, timeout_s):
    """exchange() over a connection that somebody garbles: gives up after timeout_s of silence. -> how it went"""
    _sockets[name].settimeout(timeout_s)
    try:
        total, found = exchange(name, seed, size)
    except OSError as error:
        return type(error).__name__
    return "right" if total == size and found == digest(seed ^ 1, size) else "wrong"


def abandon(name):
    """Closes with a reset."""
    _sockets[name].setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack("ii", 1, 0))
    _sockets.pop(name).close()


# --- many clients -----------------------------------------------------------------------------------------------------


def echo_many(port, connections, size, rounds):
    """So many connections at once, a thread each. -> [good ones, most sessions at a time, library threads then]"""
    all_open = threading.Barrier(connections + 1, timeout=PATIENCE_S)
    checked = threading.Barrier(connections + 1, timeout=PATIENCE_S)

    def client(number):
        data = random.Random(number).randbytes(size)
        with kcpsock.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
            all_open.wait()
            checked.wait()
            for turn in range(rounds):
                message = turn.to_bytes(4, "big") + data
                sock.sendall(message)
                if streams.read_exactly(sock, len(message)) != message:
                    return False
            return True

    threading.stack_size(256 * 1024)
    tasks = [Task(client, number) for number in range(connections)]
    try:
        all_open.wait()
    except threading.BrokenBarrierError:
        for task in tasks:
            task.result()  # raises what broke it
        raise
    middle = counts()
    checked.wait()
    good = sum(task.result() for task in tasks)
    return good, middle["Sessions"], middle["library_threads"]


# --- the GIL ----------------------------------------------------------------------------------------------------------


def compute(seconds):
    """Pure Python without a pause. -> steps done"""
    end, steps, value = time.monotonic() + seconds, 0, 1
    while time.monotonic() < end:
        for _ in range(1000):
            value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        steps += 1000
    return steps


def compute_while(names, seconds, seed, size, direction):
    """compute() in this thread, while others send or receive, one for each connection. -> steps, what these returned"""
    if direction == "send":
        others = [Task(_send, _sockets[name], seed, size, True) for name in names]
    else:
        others = [Task(_receive, _sockets[name], None) for name in names]
    steps = compute(seconds)
    return steps, [other.result() for other in others]


# --- the program ------------------------------------------------------------------------------------------------------


def main():
    orders = sys.stdin
    for line in orders:
        order = json.loads(line)
        try:
            answer = {"result": globals()[order["call"]](*order["args"], **order["kwargs"])}
        except Exception as error:
            answer = {"error": type(error).__name__, "errno": getattr(error, "errno", None), "text": str(error)}
        print(json.dumps(answer), flush=True)
    close()


if __name__ == "__main__":
    main()
