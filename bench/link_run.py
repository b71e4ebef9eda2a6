# SPDX-License-Identifier: MIT
"""One run of link.py: a link by one of its two faces, a rival's programs at its ends, and what the link counted."""

import contextlib
import dataclasses
import math
import time

from peers import link_rivals, process
from scenarios import link as scenes

from tests.support.lossylink import LossyLink
from tests.support.tunlink import TunLink

TIMEOUT_S = 120.0
LIMIT_S, QUICK_LIMIT_S = 40.0, 20.0  # of a transfer: what takes longer is cut there
SAMPLE_MS = 10
CURVE_POINTS = 400
BUFFER_BYTES = 64 << 20  # of the relay's sockets: a whole window may come in one burst
COMMON = {"sample_ms": SAMPLE_MS, "hurry": True}


class TunFace(contextlib.AbstractContextManager):
    """Two network namespaces: everything that sends IP packets can be measured."""

    def __init__(self, settings, seed):
        self.link = TunLink(seed=seed, **settings, **COMMON)
        self.near, self.far = self.link.near.prefix, self.link.far.prefix
        self.listen = f"{self.link.far.v4}:0"

    def address(self, port):
        """Where a client finds what listens on `port`."""
        return f"{self.link.far.v4}:{port}"

    def __exit__(self, *_):
        self.link.close()


class RelayFace(contextlib.AbstractContextManager):
    """A relay on loopback: no rights needed, and for UDP only."""

    near = far = ()
    listen = "127.0.0.1:0"

    def __init__(self, settings, seed):
        self.settings = {**settings, **COMMON, "seed": seed, "buffer_bytes": BUFFER_BYTES}
        self.link = None

    def address(self, port):
        self.link = LossyLink(("127.0.0.1", port), **self.settings)
        return f"127.0.0.1:{self.link.address[1]}"

    def __exit__(self, *_):
        if self.link:
            self.link.close()


def run(rival, scene, face_class, seed, quick):
    """-> {"transfer", "requests": what link_peer.py reports, "link": counts, "curve", "figures"}. Raises PeerFailed."""
    deadline = time.monotonic() + TIMEOUT_S
    with contextlib.ExitStack() as stack:
        face = stack.enter_context(face_class(scene.link.settings(), seed))

        found = {"transfer": None, "requests": None}

        def start(prefix, program, command, *arguments):
            there = dataclasses.replace(program, program=(*prefix, *program.program))
            return stack.enter_context(process.Peer(there, command, arguments, deadline - time.monotonic()))

        connect = open_way(rival, scene, face, start)
        before = face.link.stats()
        if scene.bytes:
            size, limit = scene.transfer_bytes(quick), QUICK_LIMIT_S if quick else LIMIT_S
            ways = [connect() for _ in range(scene.times)]
            bulk = start(face.near, rival.ends, "bulk", *ways, f"--bytes={size}", f"--limit={limit}")
            for turn in range(scene.times):
                if turn:
                    before = face.link.stats()
                    bulk.tell()
                bulk.word("started")
                if scene.then_mbit:
                    time.sleep(scenes.THEN_AFTER_S)
                    face.link.set(rate_mbit=scene.then_mbit)
                if scene.requests:
                    time.sleep(scenes.REQUESTS_AFTER_S)
                    requests = start(face.near, rival.ends, "requests", connect())  # until told
                found["transfer"] = bulk.result()
            if scene.requests:
                requests.word("connected")
                requests.tell()
                found["requests"] = requests.result()
        else:
            seconds = scenes.QUICK_REQUESTS_SECONDS if quick else scenes.REQUESTS_SECONDS
            requests = start(face.near, rival.ends, "requests", connect(), f"--seconds={seconds:g}")
            requests.word("connected")
            before = face.link.stats()
            found["requests"] = requests.result()
        found["link"] = since(before, face.link.stats())
        found["curve"] = curve(face.link.samples(), found["transfer"])
    return {**found, "figures": figures(found)}


def open_way(rival, scene, face, start):
    """Starts the server. -> connect(), the flag that says where the next connection finds it.

    Who needs a tunnel gets one for each connection: what two connections share, is left to who speaks by itself.
    """
    if rival.receiver:
        target = f"--target=127.0.0.1:{start(face.far, link_rivals.TCP_ENDS, 'server').word('port')}"
        far = start(face.far, rival.receiver, "tunnel-server", f"--listen={face.listen}", target)
        address = face.address(far.word("port"))
        return lambda: f"--addr={address}"
    if not rival.tunnel:
        address = face.address(start(face.far, rival.ends, "server", f"--listen={face.listen}").word("port"))
        return lambda: f"--addr={address}"
    target = f"--target=127.0.0.1:{start(face.far, rival.ends, 'server').word('port')}"
    far = start(face.far, rival.tunnel, "tunnel-server", f"--listen={face.listen}", target)
    address = f"--addr={face.address(far.word('port'))}"
    rate = [f"--mbit={scene.link.rate_mbit}"] if rival.is_told_the_rate else []

    def connect():
        near = start(face.near, rival.tunnel, "tunnel-client", address, target, *rate)
        return f"--addr=127.0.0.1:{near.word('port')}"

    return connect


def since(before, after):
    """The counts between two looks; late_max_us is of the whole run."""
    return {
        way: {name: value if name == "late_max_us" else value - before[way][name] for name, value in after[way].items()}
        for way in ("up", "down")
    }


def curve(samples, transfer):
    """What went on over time, in at most CURVE_POINTS points: of a transfer its own way, else that of the answers."""
    rows = samples["up" if transfer else "down"]
    every_ns = samples["every_ns"]
    first, last = 0, len(rows) - 1
    if transfer:
        first = max(0, (transfer["start_ns"] - samples["from_ns"]) // every_ns)
        last = min(last, (transfer["end_ns"] - samples["from_ns"]) // every_ns + 1)
    step = max(1, math.ceil((last - first) / CURVE_POINTS))
    found = {"seconds": [], "in_mbit": [], "out_mbit": [], "lost": [], "queue_dropped": [], "queue_kib": []}
    for at in range(first + step, last + 1, step):
        earlier, now = rows[at - step], rows[at]
        found["seconds"].append(round((at - first) * every_ns / 1e9, 3))
        for name, column in (("in_mbit", 0), ("out_mbit", 1)):
            found[name].append(round((now[column] - earlier[column]) * 8e3 / (step * every_ns), 2))
        for name, column in (("lost", 2), ("queue_dropped", 3)):
            found[name].append(now[column] - rows[first][column])
        found["queue_kib"].append(round(max(row[4] for row in rows[at - step + 1 : at + 1]) / 1024, 1))
    return found


def figures(found):
    """-> {"mbit", "cost", "p50_ms", "p99_ms"}, those that there are. Cost: IP bytes into the link per byte."""
    transfer, requests, link = found["transfer"], found["requests"], found["link"]
    result = {}
    if transfer:
        result["mbit"] = transfer["bytes"] * 8 / transfer["seconds"] / 1e6
        result["cost"] = link["up"]["received_ip_bytes"] / transfer["bytes"]
    else:
        both = link["up"]["received_ip_bytes"] + link["down"]["received_ip_bytes"]
        result["cost"] = both / requests["bytes"]
    if requests:
        latencies = sorted(math.inf if ms is None else ms for ms in counted_latencies(requests, transfer))
        result["p50_ms"], result["p99_ms"] = percentile(latencies, 0.50), percentile(latencies, 0.99)
    return result


def counted_latencies(requests, transfer):
    """Beside a transfer, of the requests that were due while it ran."""
    if not transfer:
        return requests["latency_ms"]
    return [
        ms
        for number, ms in enumerate(requests["latency_ms"])
        if transfer["start_ns"] <= requests["start_ns"] + number * requests["every_ns"] <= transfer["end_ns"]
    ]


def percentile(ordered, share):
    """By nearest rank."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
