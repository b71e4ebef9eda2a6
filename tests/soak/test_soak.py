# SPDX-License-Identifier: MIT
"""Minutes of everything at once: connections of all kinds come, transfer, break and go, over a link that gets better
and worse, with noise in between. In the end every transfer that nobody broke was right, and nothing is left.

SOAK_SECONDS (60) says for how long, SOAK_SEED chooses the run; the seed is printed.
"""

import os
import random
import socket as stdlib
import threading
import time

import pytest

import kcpsock
from tests.support import streams
from tests.support.lossylink import LossyLink

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
WORKERS = 12
WAYS = ("whole", "whole", "half-close", "leave", "reset", "abandon", "one way")
WEATHER = (
    {"loss": 0.0, "dup": 0.0, "reorder": 0.0, "delay_ms": 0},
    {"loss": 0.1, "dup": 0.05, "reorder": 0.1, "delay_ms": 5},
    {"loss": 0.3, "dup": 0.0, "reorder": 0.3, "delay_ms": 2},
    {"loss": 0.02, "dup": 0.3, "reorder": 0.0, "delay_ms": 40},
)
PROFILES = (
    kcpsock.Profile(mode="fast3"),
    kcpsock.Profile(mode="normal", sndwnd=64, rcvwnd=64),
    kcpsock.Profile(mode="fast2", mtu=500, nc=0),
    kcpsock.Profile(mode="fast", ack_nodelay=True, write_delay=True),
)


def serve(server, ending, threads):
    while True:
        try:
            conn, _ = server.accept()
        except stdlib.timeout:
            continue
        if ending.is_set():
            conn.close()
            return
        conn.settimeout(60)
        threads.append(threading.Thread(target=streams.echo, args=(conn,)))
        threads[-1].start()
        threads[:] = [thread for thread in threads if thread.is_alive()]


def converse(rng, address):
    """One connection. -> what was wrong, or None"""
    way, size = rng.choice(WAYS), rng.choice((1, 100, 5000, 100_000, 1_000_000))
    data = rng.randbytes(size)
    with kcpsock.socket(profile=rng.choice(PROFILES)) as sock:
        if way == "abandon":
            sock.setblocking(False)
            sock.connect_ex(address)
            return None
        sock.settimeout(60)
        sock.connect(address)
        if way == "leave":
            sock.send(data)
            return None
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        got = bytearray()
        until = size // 2 if way == "reset" else size
        while len(got) < until and (part := sock.recv(65536)):
            got += part
        if way == "reset":
            sender.join()
            sock.setsockopt(kcpsock.SOL_SOCKET, kcpsock.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return None
        sender.join()
        if way == "half-close":
            sock.shutdown(kcpsock.SHUT_WR)
            got += sock.recv(1)
        return None if got == data else f"{way}: {len(got)} of {size} bytes, right: {data.startswith(bytes(got))}"


def work(number, addresses, end, wrong, done):
    rng = random.Random(SEED + number)
    while time.monotonic() < end:
        try:
            found = converse(rng, rng.choice(addresses))
        except Exception as error:
            found = repr(error)
        if found:
            wrong.append(f"worker {number}: {found}")
        done[number] += 1


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 240)
def test_soak_mixed(no_leaks):
    print(f"SOAK_SEED={SEED} SOAK_SECONDS={SECONDS}")
    rng = random.Random(SEED)
    before = kcpsock.stats()
    threads, wrong, done = [], [], [0] * WORKERS
    ending = threading.Event()
    with kcpsock.create_server(("127.0.0.1", 0), backlog=128) as server:
        server.settimeout(60)
        address = server.getsockname()
        accepting = threading.Thread(target=serve, args=(server, ending, threads))
        accepting.start()
        with LossyLink(address, seed=SEED) as link, stdlib.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as stranger:
            end = time.monotonic() + SECONDS
            addresses = (link.address, link.address, address)
            workers = [
                threading.Thread(target=work, args=(number, addresses, end, wrong, done)) for number in range(WORKERS)
            ]
            for worker in workers:
                worker.start()
            most = 0
            while any(worker.is_alive() for worker in workers):
                link.set(**rng.choice(WEATHER))
                for _ in range(200):
                    stranger.sendto(rng.randbytes(rng.randrange(100)), address)
                now = kcpsock.stats()
                most = max(most, now["MemoryBytes"])
                workers[0].join(1)  # the weather changes each second
            counts = link.stats()
        ending.set()
        kcpsock.create_connection(address, timeout=60).close()
        accepting.join()
    for thread in threads:
        thread.join(60)
    print(f"{sum(done)} connections; memory at most {most}; the link: {counts}; {kcpsock.stats()}")
    assert wrong == []
    assert not any(thread.is_alive() for thread in threads)
    end = time.monotonic() + 60
    while (now := kcpsock.stats())["Sessions"] or now["Streams"]:
        assert time.monotonic() < end, f"left: {now}"
        time.sleep(0.05)
    assert now["MemoryBytes"] < before["MemoryBytes"] + (1 << 20)
