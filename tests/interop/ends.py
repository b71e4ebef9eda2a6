# SPDX-License-Identifier: MIT
"""The kcpsock end of the interop tests: profiles that match the peer's settings, and bytes both ways."""

import contextlib
import hashlib
import itertools
import random

import kcpsock
from tests.support.lossylink import LossyLink
from tests.support.streams import read_all as read_all
from tests.support.streams import read_exactly as read_exactly
from tests.support.waiting import PATIENCE_S, Task
from tests.support.waiting import eventually as eventually

KEY = "it's a secrect"  # kcptun's default
MIB = 1 << 20
_links = itertools.count(1)


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


@contextlib.contextmanager
def narrow_link_to(port, **settings):
    """A link to `port` at an address of its own: what is found out of an address is remembered."""
    with LossyLink(("127.0.0.1", port), listen=f"127.0.9.{next(_links)}", seed=1, **settings) as link:
        print(link)
        yield link


def survive_a_narrow_path(link, sock, data):
    """Sends all but its first byte, which was sent. In the middle the path takes 1,280 bytes, and later all again: pads
    must find that out, and pieces of what was under way must do no harm. Returns what came back."""
    got = Task(exchange, sock, data[1:])
    eventually(lambda: link.stats()["up"]["sent"] > 100)
    link.set(up={"path_mtu": 1280})
    eventually(lambda: sock.kcp_info().path_mtu <= 1280 - 28)
    before = link.stats()["up"]["sent"]
    # Pieces, and what is cut shorter; from a peer that has said that it knows none, soon one packet in two seconds.
    eventually(lambda: link.stats()["up"]["sent"] > before + 5)
    assert link.stats()["up"]["mtu_dropped"] > 0
    link.set(up={"path_mtu": 0})
    return got.result()


def text(address):
    return f"{address[0]}:{address[1]}"


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
