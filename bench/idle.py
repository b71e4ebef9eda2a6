# SPDX-License-Identifier: MIT
"""What an idle accepted session costs: ``python bench/idle.py [--sessions 2000] [--seconds 10] [--out DIR]``.

A server accepts the sessions of one client process, each of which sent one byte, and then all hold still. The server is
weighed from outside, before the first session and after the last; the growth, one-time costs included, is divided by
their number:

- user memory: growth of Rss and swap in /proc/PID/smaps_rollup. (Pss is in the JSON: it shrinks when the client
  starts, since both share Python's pages, so it flatters.)
- page tables and thread stacks in the kernel: growth of VmPTE, and 16 KiB for each new thread;
- sockets in the kernel: the server's new descriptors by kind, times what one of that kind costs here. That price is
  calibrated first: this process opens some thousands, registered with epoll, and takes the growth of Slab and Percpu in
  /proc/meminfo. (The growth of the whole machine's Slab during the run is in the JSON as an upper bound: it holds the
  client's sockets as well.)

CPU is the server's utime + stime over the seconds of rest, from /proc/PID/stat (10 ms ticks), and finer from the
scheduler's run times in /proc/PID/task/*/schedstat. No threshold is asserted: figures and ratios are
printed, and written to idle.json.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import resource
import select
import socket
import statistics
import sys
import time

import plot
from peers import machine, process, rivals

DEFAULT_OUT = rivals.ROOT / "build" / "bench-results"
KERNEL_STACK_KIB = 16  # of one thread, on x86-64 and arm64
CALIBRATION_OBJECTS = 4000
CALIBRATION_ROUNDS = 3
ACCEPT_SECONDS = 60  # for all sessions to be accepted
SETTLE_SECONDS = 3  # last ACKs, deferred frees

AIM_KIB = 16.0  # per session, the project's; printed beside the figure

# "smux" is how kcpsock runs by default, with keepalives every 10 s. Without them, as in raw framing and with kcp-go, an
# idle session has nothing to do at all.
ROWS = (
    dataclasses.replace(rivals.KCPSOCK, name="kcpsock smux", arguments=("--framing=smux",)),
    dataclasses.replace(
        rivals.KCPSOCK, name="kcpsock smux, no keepalive", arguments=("--framing=smux", "--keepalive=0")
    ),
    dataclasses.replace(rivals.KCPSOCK, name="kcpsock raw", arguments=("--framing=raw",)),
    rivals.KCP_GO,
    rivals.TCP,
)


def main():
    options = parse()
    if not pathlib.Path("/proc/self/smaps_rollup").exists():
        raise SystemExit("idle: this benchmark reads Linux's /proc (smaps_rollup), which is missing here")
    rows = [row for row in ROWS if options.rows is None or row.name in options.rows]
    if any(row.is_go for row in rows):
        rivals.build_go()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the peers inherit it
    prices = calibrate(hard)
    report = {
        "machine": machine.describe(),
        "sessions": options.sessions,
        "seconds": options.seconds,
        "kib_per_descriptor": prices,
        "rows": [],
    }
    print(machine.sentence(report["machine"]))
    print("kernel KiB per descriptor, calibrated: " + ", ".join(f"{k} {v:.2f}" for k, v in prices.items()))
    for rival in rows:
        try:
            row = {"name": rival.name, **weigh(rival, options, prices)}
            print_row(row)
        except process.PeerFailed as failure:
            row = {"name": rival.name, "failure": str(failure)}
            print(failure, file=sys.stderr)
        report["rows"].append(row)
    print_ratios(report["rows"])
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "idle.json"
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\nwrote {target}")
    if any("failure" not in row for row in report["rows"]):
        plot.draw_if_possible(target)
    return 1 if any("failure" in row for row in report["rows"]) else 0


def weigh(rival, options, prices):
    """Runs one pair of processes. -> the row's figures. Raises PeerFailed."""
    timeout = ACCEPT_SECONDS + 2 * SETTLE_SECONDS + options.seconds + 30
    count = f"--sessions={options.sessions}"
    with process.Peer(rival, "idle-server", [count], timeout) as server:
        port = server.word("port")
        time.sleep(1)  # let it come to rest
        before, slab_before = take_stock(server.pid), slab_kib()
        with process.Peer(rival, "idle-client", [f"--addr=127.0.0.1:{port}", count], timeout) as client:
            server.deadline = time.monotonic() + ACCEPT_SECONDS
            server.word("accepted", beside=client)
            client.word("connected")
            time.sleep(SETTLE_SECONDS)
            after, slab_after = take_stock(server.pid), slab_kib()
            server_cpu, client_cpu = cpu_of(server.pid), cpu_of(client.pid)
            time.sleep(options.seconds)
            server_cpu = [b - a for a, b in zip(server_cpu, cpu_of(server.pid))]
            client_cpu = [b - a for a, b in zip(client_cpu, cpu_of(client.pid))]
            client.tell()
            server.tell()
    growth, new, kernel_kib = grown(before, after, prices)
    return {
        "kib_per_session": (growth["user_kib"] + kernel_kib) / options.sessions,
        "user_kib_per_session": growth["user_kib"] / options.sessions,
        "kernel_kib_per_session": kernel_kib / options.sessions,
        "server_cpu_percent": 100 * server_cpu[1] / options.seconds,
        "server_cpu_percent_ticks": 100 * server_cpu[0] / options.seconds,
        "client_cpu_percent": 100 * client_cpu[1] / options.seconds,
        "threads_after": after["threads"],
        "growth": {**growth, "descriptors": new, "whole_machine_slab_kib": slab_after - slab_before},
    }


def grown(before, after, prices):
    """-> (growth of each figure of take_stock(), new descriptors by kind, KiB that the kernel holds for all that)"""
    growth = {key: after[key] - before[key] for key in after if key != "descriptors"}
    new = {k: n - before["descriptors"].get(k, 0) for k, n in after["descriptors"].items()}
    sockets_kib = sum(n * prices.get(kind, 0.0) for kind, n in new.items())
    return growth, new, growth["page_tables_kib"] + growth["threads"] * KERNEL_STACK_KIB + sockets_kib


def take_stock(pid):
    rollup = read(f"/proc/{pid}/smaps_rollup")
    status = read(f"/proc/{pid}/status")
    return {
        "user_kib": field(rollup, "Rss") + field(rollup, "Swap"),
        "pss_kib": field(rollup, "Pss") + field(rollup, "SwapPss"),
        "page_tables_kib": field(status, "VmPTE"),
        "threads": field(status, "Threads"),
        "descriptors": descriptors_of(pid),
    }


def descriptors_of(pid):
    """-> {"unix": n, "udp": n, "tcp": n, "other": n}"""
    kinds = {}
    for kind, column in (("unix", 6), ("udp", 9), ("udp6", 9), ("tcp", 9), ("tcp6", 9)):
        with contextlib.suppress(OSError):
            for line in read(f"/proc/{pid}/net/{kind}").splitlines()[1:]:
                kinds[line.split()[column]] = kind.rstrip("6")
    found = collections.Counter()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inode = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
            found[kinds.get(inode.group(1), "other") if inode else "other"] += 1
    return dict(found)


def cpu_of(pid):
    """-> seconds so far, (by the ticks of stat, by the scheduler's nanoseconds; the former where there are none)"""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    ticks = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    try:
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        return ticks, sum(int(read(task / "schedstat").split()[0]) for task in tasks) / 1e9
    except OSError:
        return ticks, ticks


def calibrate(limit):
    """-> kernel KiB of one descriptor of each kind, in an epoll set: medians, less what noise made negative."""
    count = min(CALIBRATION_OBJECTS, limit // 2 - 50)
    found = {}
    for kind, make in (("unix", unix_pair), ("udp", udp_socket), ("tcp", tcp_pair)):
        prices = []
        for _ in range(CALIBRATION_ROUNDS):
            with contextlib.ExitStack() as stack:
                poll = stack.enter_context(select.epoll())
                state = {}
                before, held = slab_kib(), 0
                while held < count:
                    for sock in make(stack, state):
                        stack.callback(sock.close)
                        poll.register(sock, select.EPOLLIN)
                        held += 1
                prices.append((slab_kib() - before) / held)
            time.sleep(0.5)  # deferred frees
        found[kind] = max(0.0, statistics.median(prices))
    return found


def unix_pair(_stack, _state):
    return socket.socketpair()


def udp_socket(_stack, _state):
    return [socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]


def tcp_pair(stack, state):
    if not state:
        state["listener"] = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=16))
    return socket.create_connection(state["listener"].getsockname()), state["listener"].accept()[0]


def slab_kib():
    text = read("/proc/meminfo")
    return field(text, "Slab") + field(text, "Percpu")


def field(text, name):
    """The number after "name:" in a file of /proc; 0 where the kernel has no such line."""
    found = re.search(rf"^{name}:\s*(\d+)", text, re.MULTILINE)
    return int(found.group(1)) if found else 0


def read(path):
    return pathlib.Path(path).read_text()


def print_row(row):
    growth = row["growth"]
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(growth["descriptors"].items()) if n)
    print(
        f"{row['name']:28} {row['kib_per_session']:7.2f} KiB a session "
        f"(user {row['user_kib_per_session']:.2f}, kernel {row['kernel_kib_per_session']:.2f}; aim {AIM_KIB:g})   "
        f"CPU {row['server_cpu_percent']:.2f} % of a core "
        f"(ticks: {row['server_cpu_percent_ticks']:.1f} %; client {row['client_cpu_percent']:.2f} %)   "
        f"{row['threads_after']} threads, new descriptors: {kinds or 'none'}",
        flush=True,
    )


def print_ratios(rows):
    by_name = {row["name"]: row for row in rows if "failure" not in row}
    theirs = by_name.get(rivals.KCP_GO.name)
    for name, row in by_name.items():
        if theirs and name.startswith(rivals.OURS):
            memory = row["kib_per_session"] / theirs["kib_per_session"]
            cpu = row["server_cpu_percent"] / max(theirs["server_cpu_percent"], 1e-9)
            print(f"{name} / kcp-go: memory {memory:.3f}, CPU {cpu:.4f} (below 1 is better)")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of rest, over which CPU is counted")
    parser.add_argument(
        "--row", dest="rows", action="append", choices=[row.name for row in ROWS], help="may be repeated"
    )
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="directory for idle.json and the plot")
    options = parser.parse_args()
    if options.sessions < 1 or options.seconds <= 0:
        parser.error("--sessions must be at least 1, --seconds above 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
