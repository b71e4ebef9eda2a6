# SPDX-License-Identifier: MIT
"""Many connections on one server process, for compare.py: runs the crowd commands, and weighs the server from outside.

The clients of every KCP server are kcpsock's: the load is the same, whoever is measured. A process may hold only so
many descriptors (kcpsock: two a connection at the server's end, three at the client's), and an address has only so many
ports: the connections are shared out to client processes, each with a source address of its own.
"""

import contextlib
import functools
import resource
import time

import idle
from peers import process, rivals

START_SECONDS = 1.0  # a fresh server comes to rest before it is weighed
SETTLE_SECONDS = 2.0  # last ACKs, deferred frees
SPARE_DESCRIPTORS = 100  # of a process, for all else
SERVER_DESCRIPTORS, CLIENT_DESCRIPTORS = 2, 3  # of a connection, kcpsock's, which needs most
CLIENT_CONNECTIONS = 5000  # of one client process, at most: its one thread has to keep up


def run(rival, scenario, quick):
    """-> {"server": ..., "client": ...}, as of a transfer. Raises PeerFailed."""
    flags = {**scenario.client, **(scenario.quick if quick else {})}
    most = raise_limit()
    connections = allowed(flags["connections"], most)
    shares = share_out(connections, most)
    common = scenario_flags(scenario, quick)
    rests = scenario.kind == "rest"
    with contextlib.ExitStack() as stack:

        def start(who, command, arguments):
            return stack.enter_context(process.Peer(who, command, arguments, scenario.timeout))

        server = start(rival, "crowd-server", common)
        address = f"--addr=127.0.0.1:{server.word('port')}"
        time.sleep(START_SECONDS)
        before = idle.take_stock(server.pid)
        visitor = rival if rival.name == rivals.TCP.name else rivals.KCPSOCK
        began = time.monotonic()
        clients = []
        for number, share in enumerate(shares):
            own = [address, f"--source=127.0.0.{1 + number}", f"--sessions={share}"]
            if rests:
                own.append(f"--sample={max(1, flags['sample'] * share // connections)}")
            clients.append(start(visitor, "rest-client" if rests else "crowd-client", [*common, *own]))
        for client in clients:
            client.word("connected", beside=server)
        arrival = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        began, cpu = time.monotonic(), idle.cpu_of(server.pid)[1]
        client_cpu = sum(idle.cpu_of(client.pid)[1] for client in clients)
        time.sleep(flags["seconds"])
        cpu = idle.cpu_of(server.pid)[1] - cpu
        client_cpu = sum(idle.cpu_of(client.pid)[1] for client in clients) - client_cpu
        seconds = time.monotonic() - began
        growth, descriptors, kernel_kib = idle.grown(before, idle.take_stock(server.pid), prices())
        for client in clients:
            client.tell()
        talk = [client.result(beside=server) for client in clients]
    return {
        "server": {
            "cpu_percent": 100 * cpu / seconds,
            "kib_each": (growth["user_kib"] + kernel_kib) / connections,
            "user_kib": growth["user_kib"],
            "kernel_kib": kernel_kib,
            "connections": connections,
            "wanted": flags["connections"],
            "arrival_s": arrival,
            "threads": growth["threads"],
            "descriptors": descriptors,
            "descriptor_limit": most,
        },
        "client": {"cpu_percent": 100 * client_cpu / seconds, **together(talk)},
    }


def scenario_flags(scenario, quick):
    """The peers' flags: those of the run itself, such as how long, are not theirs."""
    return [flag for flag in scenario.arguments(quick)[0] if flag.split("=")[0] not in OWN_FLAGS]


OWN_FLAGS = ("--connections", "--seconds", "--sample")


def raise_limit():
    """Of descriptors, as far as one may; the peers inherit it. -> the limit"""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def allowed(wanted, most):
    """How many connections one server process can hold: the same for all rivals."""
    return min(wanted, (most - SPARE_DESCRIPTORS) // SERVER_DESCRIPTORS)


def share_out(connections, most):
    """-> how many connections each client process makes."""
    each = min(CLIENT_CONNECTIONS, (most - SPARE_DESCRIPTORS) // CLIENT_DESCRIPTORS)
    clients = -(-connections // each)
    return [connections // clients + (number < connections % clients) for number in range(clients)]


def together(talk):
    """What all clients say. The percentiles are the worst client's: their samples stay with them."""
    asked = sum(end.get("asked", 0) for end in talk)
    unanswered = asked - sum(end["echoes"] for end in talk) if asked else 0
    late = sum(end["overrun"] + end["late_at_end"] for end in talk)
    worst = {key: max(end[key] for end in talk) for key in ("p50_us", "p99_us", "max_us")}
    rate = sum(end["echoes"] / end["seconds"] for end in talk)
    return {"unanswered": unanswered if asked else late, "answers_per_s": rate, "talk": talk, **worst}


@functools.cache
def prices():
    return idle.calibrate(raise_limit())
