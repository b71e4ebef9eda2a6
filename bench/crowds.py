# SPDX-License-Identifier: MIT
"""What many connections with little to say cost: runs the peers' crowd commands, and weighs them from outside.

A process may hold only so many descriptors (kcpsock: three a connection at the client's end, two at the server's), so
the connections are shared out to PAIRS pairs of processes, whatever their number and the rival; figures are sums.
"""

import contextlib
import dataclasses
import time

import idle
from link_figures import Figure
from peers import process
from scenarios import SETTINGS

PAIRS = 2
START_SECONDS = 1.0  # a fresh server comes to rest before it is weighed
ARRIVE_SECONDS = 120.0
KIB = 1024


@dataclasses.dataclass(frozen=True)
class Crowd:
    rival: str
    connections: int
    size: int  # bytes of a message
    settle: float  # s, from the last connection's first answer to the measurement
    seconds: float  # s, of measurement

    def arguments(self, number):
        """Flags of both ends of pair `number`."""
        share = self.connections // PAIRS + (number < self.connections % PAIRS)
        return [f"--{k}={v}" for k, v in {**SETTINGS, "sessions": share, "size": self.size}.items()]


def run(rival, crowd, prices):
    """-> what it cost. prices: idle.calibrate()'s. Raises PeerFailed."""
    timeout = ARRIVE_SECONDS + crowd.settle + crowd.seconds + 60
    with contextlib.ExitStack() as stack:

        def start(command, arguments):
            return stack.enter_context(process.Peer(rival, command, arguments, timeout))

        servers = [start("crowd-server", crowd.arguments(number)) for number in range(PAIRS)]
        ports = [server.word("port") for server in servers]
        time.sleep(START_SECONDS)
        before = [idle.take_stock(server.pid) for server in servers]
        clients = [
            start("crowd-client", [f"--addr=127.0.0.1:{port}", *crowd.arguments(number)])
            for number, port in enumerate(ports)
        ]
        for server, client in zip(servers, clients):
            client.word("connected", beside=server)
        time.sleep(crowd.settle)
        began, cpu = time.monotonic(), [cpu_of(peers) for peers in (servers, clients)]
        time.sleep(crowd.seconds)
        cpu = [cpu_of(peers) - then for peers, then in zip((servers, clients), cpu)]
        seconds = time.monotonic() - began
        grown = [idle.grown(then, idle.take_stock(server.pid), prices) for server, then in zip(servers, before)]
        for client in clients:
            client.tell()
        talk = [client.result(beside=server) for server, client in zip(servers, clients)]
    return {
        "server_cpu_percent": 100 * cpu[0] / seconds,
        "client_cpu_percent": 100 * cpu[1] / seconds,
        "user_kib": sum(growth["user_kib"] for growth, _, _ in grown),
        "kernel_kib": sum(kernel_kib for _, _, kernel_kib in grown),
        "talk": talk,
    }


def cpu_of(peers):
    return sum(idle.cpu_of(peer.pid)[1] for peer in peers)


FIGURES = {
    "cpu": Figure(
        "CPU, both ends", "% of a core", 2, lambda _, run: run["server_cpu_percent"] + run["client_cpu_percent"]
    ),
    "server_cpu": Figure("CPU, server", "% of a core", 2, lambda _, run: run["server_cpu_percent"]),
    "memory": Figure("memory, server", "MiB", 2, lambda _, run: (run["user_kib"] + run["kernel_kib"]) / KIB),
    "memory_each": Figure(
        "memory of a connection, server",
        "KiB",
        2,
        lambda crowd, run: (run["user_kib"] + run["kernel_kib"]) / crowd.connections,
    ),
    "answered": Figure(
        "answers per connection and second",
        "",
        3,
        lambda _, run: sum(end["echoes"] / end["seconds"] / end["sessions"] for end in run["talk"]) / len(run["talk"]),
    ),
    "p99": Figure("p99 of the round trip", "us", 0, lambda _, run: max(end["p99_us"] for end in run["talk"])),
}
