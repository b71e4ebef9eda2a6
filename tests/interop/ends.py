# SPDX-License-Identifier: MIT
"""The kcpsock end of the interop tests: profiles that match the peer's settings, and bytes both ways."""

import contextlib
import hashlib
import random
import time

import kcpsock
from tests.engine.peer import Task
from tests.support.lossylink import LossyLink

from .programs import PATIENCE_S

KEY = "it's a secrect"  # kcptun's default
MIB = 1 << 20


def profile(crypt="null", key=KEY, fec=None, **more):
    """kcpsock's Profile for a packet crypt and FEC. What is off is not mentioned."""
    fields = {"mode": "fast3", "sndwnd": 1024, "rcvwnd": 1024, **more}
    if crypt != "null":
        fields.update(crypt=crypt, key=key)
    if fec is not None:
        fields["fec"] = fec
    return kcpsock.Profile(**fields)


def settings(crypt="null", key=KEY, fec=None, **more):
    """The same for the Go peer."""
    data, parity = fec or (0, 0)
    return {"crypt": crypt, "key": key, "ds": data, "ps": parity, **more}


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def read_exactly(sock, size):
    """`size` bytes, or what came before the end of the stream."""
    data, buffer = bytearray(), memoryview(bytearray(1 << 18))
    while len(data) < size and (n := sock.recv_into(buffer[: min(len(buffer), size - len(data))])):
        data += buffer[:n]
    return bytes(data)


def read_all(sock):
    data = bytearray()
    while part := sock.recv(1 << 18):
        data += part
    return bytes(data)


def echo(sock, size=None):
    """Sends back what comes, until the end of the stream, or `size` bytes. -> how many bytes, their SHA-256"""
    found, total = hashlib.sha256(), 0
    while (size is None or total < size) and (data := sock.recv(1 << 16)):
        found.update(data)
        total += len(data)
        sock.sendall(data)
    return total, found.hexdigest()


def exchange(sock, data):
    """Sends `data` while it receives as much."""
    sender = Task(sock.sendall, data)
    got = read_exactly(sock, len(data))
    sender.result()
    return got


@contextlib.contextmanager
def link_to(port, loss=0.0, seed=1):
    """The address to reach `port` by: over a lossy link when there is loss. The link's seed is in its repr."""
    if not loss:
        yield "127.0.0.1", port
        return
    with LossyLink(("127.0.0.1", port), seed=seed, loss=loss) as link:
        print(link)
        yield link.address


def text(address):
    return f"{address[0]}:{address[1]}"


def eventually(condition, explain=lambda: ""):
    """Waits until condition() is true; gives its value."""
    end = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < end, f"it never happened; {explain()}"
        time.sleep(0.005)
    return value


def listen(profile):
    listener = kcpsock.create_server(("127.0.0.1", 0), profile=profile)
    listener.settimeout(PATIENCE_S)
    return listener


def connect(address, profile):
    return kcpsock.create_connection(address, timeout=PATIENCE_S, profile=profile)


def accept(listener):
    sock, _ = listener.accept()
    sock.settimeout(PATIENCE_S)
    return sock
