# SPDX-License-Identifier: MIT
"""A listener under a flood of openers from forged addresses: ``python bench/flood.py [--rate 250000] [--seconds 60]``.

Two network namespaces, as root. In one of them is the server, a process of its own. In the other a flooder in C writes
any source address into its packets and hears nothing; beside it honest clients connect once a second, kcpsock and
kcp-go with smux in turn, each with an echo of 64 bytes; and a connection that was there before goes on sending, as fast
as it can or (--mbit) at a rate. All share the machine's cores, the flooder too. What the server answers to forged
addresses goes into a device that throws it away.

Goals: at most 10 MB more memory, nothing accepted but who is honest, each honest one served within 1 s, and 80 % of
the open connection's rate. What is missed is printed as MISSED; the exit status is 1 only when something failed to
run.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import struct
import subprocess
import sys
import threading
import time

from peers import machine, process, rivals

import kcpsock
from tests.support import go_peer, hosts
from tests.support.programs import Program

DEFAULT_OUT = rivals.ROOT / "build" / "bench-results"
PEERS = pathlib.Path(__file__).with_name("peers")
FORGED_NET = "198.18.0.0/15"  # flooder.c's
BEFORE_S = 5  # how long the open connection's rate is measured without a flood
LEAD_S = 2  # of these connections, before anything is measured
CONNECT_EVERY_S = 1.0
CONNECT_TIMEOUT_S = 20.0
MESSAGE_BYTES = 64
BLOCK = bytes(1 << 16)
PATIENCE_S = 60
APART = ("setsid",)  # the scheduler gives each session its share of the cores: as services have it, or other hosts

GOALS = {"memory_mb": 10, "connect_s": 1.0, "rate": 0.8}

HEAD = struct.Struct("<IBBHIIII")
SMUX_SYN = struct.pack("<BBHI", 2, 0, 0, 1)
OPENERS = {"smux": SMUX_SYN, "raw": b"x"}  # 32 and 25 bytes
PROFILES = {"smux": {}, "raw": {"framing": "raw"}}


def opener(framing):
    data = OPENERS[framing]
    return HEAD.pack(0, 81, 0, 0xFFFF, 0, 0, 0, len(data)) + data


def main():
    options = parse()
    if not hosts.are_possible():
        raise SystemExit(f"flood: {hosts.HOW_TO_GET}")
    go = options.framing == "smux" and not options.alone and has_go()
    report = {"machine": machine.describe(), "options": {**vars(options), "out": str(options.out)}}
    print(machine.sentence(report["machine"]))
    try:
        report.update(flood(options, go))
    except process.PeerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    print_report(report)
    options.out.mkdir(parents=True, exist_ok=True)
    what = [options.framing, *([f"{options.mbit:g}"] if options.mbit else []), *(["alone"] if options.alone else [])]
    target = options.out / f"flood-{'-'.join(what)}.json"
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target}")
    return 0


def has_go():
    try:
        go_peer.build()
    except go_peer.GoPeerMissing as missing:
        print(f"without kcp-go: {missing}")
        return False
    return True


# --- the parts --------------------------------------------------------------------------------------------------------


class Server(Program):
    """flood_server.py at the far end."""

    def __init__(self, place, url):
        self._lines, self._came = [], threading.Condition()
        with place:
            super().__init__(
                "the server", [*APART, sys.executable, str(PEERS / "flood_server.py"), place.v4, url], self._take_line
            )
        self.port = int(self._next().split()[1])

    def look(self):
        self.tell(b"\n")
        return {**json.loads(self._next()), "rss": _status(self.pid, "VmRSS"), "peak": _status(self.pid, "VmHWM")}

    def _take_line(self, line):
        with self._came:
            self._lines.append(line)
            self._came.notify()

    def _next(self):
        with self._came:
            self._came.wait_for(lambda: self._lines, PATIENCE_S)
            line = self._lines.pop(0) if self._lines else None
        if line is None:
            raise self.failed("it says nothing")
        return line


def _status(pid, name):
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(f"{name}:"))


class Sender(threading.Thread):
    """Sends without an end over a connection that stands; mbit: so much, in a piece every 10 ms."""

    def __init__(self, conn, mbit):
        super().__init__(daemon=True)
        self.conn, self.mbit, self.error = conn, mbit, None
        self.start()

    def run(self):
        piece = BLOCK if not self.mbit else bytes(int(self.mbit * 1e6 / 8 / 100))
        due = time.monotonic()
        try:
            while True:
                self.conn.sendall(piece)
                if self.mbit:
                    due += 0.01
                    time.sleep(max(0.0, due - time.monotonic()))
        except OSError as error:
            self.error = error


def connect_ours(place, address, profile):
    """-> seconds to connect(), and to the echo of a message"""
    began = time.monotonic()
    with place, kcpsock.create_connection(address, timeout=CONNECT_TIMEOUT_S, profile=profile) as conn:
        connected = time.monotonic()
        conn.sendall(bytes(MESSAGE_BYTES))
        left = MESSAGE_BYTES
        while left > 0:
            left -= len(conn.recv(left)) or MESSAGE_BYTES
        return connected - began, time.monotonic() - began


def connect_go(go, address):
    """The same by kcp-go and smux, whose opening waits for nothing."""
    began = time.monotonic()
    conn = go.dial(addr="{}:{}".format(*address))
    session = go.session(conn=conn, version=2, keepalive=10, timeout=30)
    stream = go.open(session=session)
    go.start("exchange", conn=stream, bytes=MESSAGE_BYTES).result(CONNECT_TIMEOUT_S)
    seconds = time.monotonic() - began
    for part in (stream, session, conn):
        go.close(number=part)
    return seconds, seconds


def connect_in_turn(made, kinds, over):
    """Until `over`, one after the other, each in a thread: one that takes long is no reason for the others to wait."""

    def attempt(kind, connect):
        try:
            made.append((kind, *connect()))
        except Exception as error:
            made.append((kind, repr(error), None))

    attempts = []
    while not over.wait(CONNECT_EVERY_S) and kinds:
        kind, connect = kinds[len(attempts) % len(kinds)]
        attempts.append(threading.Thread(target=attempt, args=(kind, connect), daemon=True))
        attempts[-1].start()
    for thread in attempts:
        thread.join(CONNECT_TIMEOUT_S + PATIENCE_S)


def build_flooder():
    program = rivals.ROOT / "build" / "flooder"
    program.parent.mkdir(exist_ok=True)
    command = ["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-o", program, PEERS / "flooder.c"]
    subprocess.run(command, check=True)
    return program


# --- the run ----------------------------------------------------------------------------------------------------------


def flood(options, with_go):
    flooder = build_flooder()
    profile = kcpsock.Profile(**PROFILES[options.framing])
    url = f"kcp://?framing={options.framing}"
    if options.max_half_open is not None:
        url += f"&max_half_open={options.max_half_open}"
    with contextlib.ExitStack() as stack:
        pair = hosts.Hosts()
        stack.callback(pair.close)
        for command in (
            "tuntap add mode tun name nowhere",
            "link set nowhere up",
            f"route add {FORGED_NET} dev nowhere",
        ):
            subprocess.run(["ip", "-n", pair.far.name, *command.split()], check=True)
        server = stack.enter_context(Server(pair.far, url))
        address = pair.far.v4, server.port
        with pair.near:
            open_one = stack.enter_context(
                kcpsock.create_connection(address, timeout=CONNECT_TIMEOUT_S, profile=profile)
            )
            go = go_peer.GoPeer() if with_go else None
        open_one.settimeout(None)
        sender = Sender(open_one, options.mbit)
        kinds = [("kcpsock", lambda: connect_ours(pair.near, address, profile))]
        if go:
            stack.callback(go.stop)
            kinds.append(("kcp-go", lambda: connect_go(go, address)))
        quiet = [connect() for _ in range(3) for _, connect in kinds]
        time.sleep(LEAD_S)
        before = [server.look()]
        time.sleep(BEFORE_S)
        before.append(server.look())
        made, said, over = [], [], threading.Event()
        with pair.near:
            running = Program(
                "the flooder",
                [*APART, str(flooder), pair.far.v4, str(server.port), str(options.rate), str(options.seconds),
                 opener(options.framing).hex()],
                said.append,
            )  # fmt: skip
        stack.enter_context(running)
        honest = threading.Thread(
            target=connect_in_turn, args=(made, [] if options.alone else kinds, over), daemon=True
        )
        honest.start()
        during = [server.look()]
        while running.is_running:
            time.sleep(1)
            during.append(server.look())
        over.set()
        honest.join()
        if running.wait() != 0:
            raise running.failed("it gave up")
        time.sleep(LEAD_S)
        after = [server.look()]
        time.sleep(BEFORE_S)
        after.append(server.look())
        return {
            "flood": json.loads(next(line for line in said if line)),
            "before": before, "during": during, "after": after,
            "honest": made, "honest_quiet": quiet,
            "connections": 1 + len(quiet) + len(made),
            "error": repr(sender.error) if sender.error else None,
        }  # fmt: skip


def rate(looks):
    return (looks[-1]["received"] - looks[0]["received"]) / (looks[-1]["at"] - looks[0]["at"])


def verdict(is_met):
    return "met" if is_met else "MISSED"


def print_report(report):
    sent, before, during, after = (report[name] for name in ("flood", "before", "during", "after"))
    first, last = during[0]["stats"], during[-1]["stats"]
    seconds = during[-1]["at"] - during[0]["at"]
    print(f"flood: {sent['sent']:,} packets in {sent['seconds']:.0f} s, {sent['sent'] / sent['seconds']:,.0f}/s")
    counted = {name: last[name] - first[name] for name in last}
    cpu = during[-1]["cpu"] - during[0]["cpu"]
    sessions = max(look["stats"]["Sessions"] for look in during)
    print(
        f"server: {counted['InPkts'] / seconds:,.0f} packets/s received, {counted['UdpRecvDrops'] / seconds:,.0f}/s "
        f"dropped by its socket, {counted['CookiesSent']:,} cookies, {sessions} sessions at most; "
        f"CPU {100 * cpu / seconds:.0f} % of a core, {1e6 * cpu / counted['InPkts']:.2f} us for each packet"
    )
    grown = (max(look["peak"] for look in during + after) - before[-1]["peak"]) / 1e6
    grown_now = (during[-1]["rss"] - before[-1]["rss"]) / 1e6
    grown_data = max(look["stats"]["MemoryBytes"] for look in during) - before[-1]["stats"]["MemoryBytes"]
    print(f"memory: {grown:+.1f} MB at its peak, {grown_now:+.1f} at the end (data plane {grown_data / 1e6:+.1f}): "
          f"{verdict(grown <= GOALS['memory_mb'])}")  # fmt: skip
    print(f"accepted: {after[-1]['accepted']} of {report['connections']} honest: "
          f"{verdict(after[-1]['accepted'] <= report['connections'])}")  # fmt: skip
    for kind in sorted({made[0] for made in report["honest"]}):
        mine = [made for made in report["honest"] if made[0] == kind]
        good = [made for made in mine if made[2] is not None]
        late = [made for made in good if made[2] > GOALS["connect_s"]]
        print(f"honest {kind}: {len(good) - len(late)} of {len(mine)} served within {GOALS['connect_s']:g} s: "
              f"{verdict(len(good) - len(late) == len(mine))}")  # fmt: skip
        if good:
            for what, at in (("connect", 1), ("echo", 2)):
                times = [1000 * made[at] for made in good]
                print(f"    {what}: median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms")
        for made in mine:
            if made[2] is None:
                print(f"    {made[1]}")
    share = rate(during) / rate(before)
    slowest = min(rate(pair) for pair in zip(during, during[1:])) / rate(before)
    ended = f"; {report['error']}" if report["error"] else ""
    print(
        f"open connection: {rate(before) / 1e6:.1f} MB/s before, {rate(during) / 1e6:.1f} during "
        f"({100 * share:.0f} %; slowest second {100 * slowest:.0f} %), {rate(after) / 1e6:.1f} after: "
        f"{verdict(share >= GOALS['rate'])}{ended}"
    )


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=250_000, help="packets per second, or as many as there can be")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--framing", choices=PROFILES, default="smux")
    parser.add_argument("--mbit", type=float, default=0, help="the open connection's rate, Mbit/s; 0: as it goes")
    parser.add_argument("--alone", action="store_true", help="nobody connects meanwhile: what the flood itself takes")
    parser.add_argument("--max-half-open", type=int, help="the server's; its default unless given")
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_OUT, help="directory for the JSON")
    options = parser.parse_args()
    if options.rate <= 0 or options.seconds < 2:
        parser.error("--rate must be above 0, --seconds 2 at least")
    return options


if __name__ == "__main__":
    sys.exit(main())
