# SPDX-License-Identifier: MIT
"""The kcpsock end of the benchmarks: the command line and the output of `gopeer bench`, in blocking Python.

``--module socket`` runs the same code over kernel TCP. Raw framing knows no end of stream and no connection before its
first byte: ends are byte counts, and a client stays until it is told that the server has everything.
"""

import argparse
import importlib
import os
import resource
import sys
import threading
import time

import crowd
from program import cpu_seconds, fail, giving_up, report

READ_BYTES = 1 << 20
REST_ANSWER_SECONDS = 20.0
PROFILE_FIELDS = (  # options that bear the names of Profile's fields
    *("framing", "smux_version", "sndwnd", "rcvwnd", "mtu", "nodelay", "interval", "resend", "nc"),
    *("sockbuf", "stream", "write_delay", "ack_nodelay"),
)


def main():
    options = parse(sys.argv[1:])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with giving_up(options.timeout):
        COMMANDS[options.command](options)


def run_server(options):
    with open_listener(options) as listener:
        conn, _ = listener.accept()
        with conn:
            set_nodelay(options, conn)
            report(counted(options, serve(options, conn)))
            wait_until_told()


def run_client(options):
    with connect(options) as conn:
        set_nodelay(options, conn)
        if options.mode == "echo":
            result = counted(options, measure_echo(options, conn))
            wait_until_told()
            report(result)
            return
        cpu = cpu_seconds()
        threading.Thread(target=pour, args=(options, conn), daemon=True).start()
        wait_until_told()  # what was written may still be on its way: only the server knows when it is through
        report(counted(options, {"cpu_s": cpu_seconds() - cpu}))
        if not options.bytes:
            os._exit(0)  # the pouring thread has no other end


def run_idle_server(options):
    accepted = []
    with open_listener(options) as listener:
        while len(accepted) < options.sessions:
            conn, _ = listener.accept()
            conn.recv(1)
            accepted.append(conn)
        print("accepted", len(accepted), flush=True)
        wait_until_told()
    os._exit(0)  # closing thousands in order is not what is measured


def run_idle_client(options):
    connected = []
    while len(connected) < options.sessions:
        conn = connect(options)
        conn.sendall(b"\1")
        connected.append(conn)
    print("connected", len(connected), flush=True)
    wait_until_told()
    os._exit(0)


def run_crowd_server(options):
    with open_listener(options) as listener:
        crowd.serve(listener)
        os._exit(0)  # closing thousands in order is not what is measured


def run_crowd_client(options):
    visitors = crowd.Visitors(lambda: connect(options), options.sessions, options.size)
    visitors.arrive()
    print("connected", options.sessions, flush=True)
    report(visitors.talk())
    os._exit(0)


def run_rest_client(options):
    """One byte on each there and back, then rest; when told, another on some, and the result."""
    visitors = crowd.Visitors(lambda: connect(options), options.sessions, options.size)
    visitors.arrive()
    print("connected", options.sessions, flush=True)
    wait_until_told()
    report({"asked": options.sample, **visitors.call_on(options.sample, REST_ANSWER_SECONDS)})
    wait_until_told()
    os._exit(0)


def run_null(options):
    """Reports both ends' loops over a connection that does nothing."""
    if options.mode == "echo":
        report(measure_echo(options, Nothing()))
        return
    start = time.perf_counter()
    pour(options, Nothing())
    result = serve(options, Nothing())
    result["seconds"] = time.perf_counter() - start
    report(result)


class Nothing:
    """A connection without a transport: writes are lost, reads yield whatever the last write left."""

    def __init__(self):
        self.last = None

    def sendall(self, data):
        self.last = data

    def recv_into(self, buffer):
        if self.last is None:
            return min(len(buffer), 65536)
        buffer[: len(self.last)] = self.last
        return len(self.last)


def serve(options, conn):
    buffer = memoryview(bytearray(READ_BYTES))
    got, start, cpu = 0, None, 0.0
    echoes, limit_bytes, limit_seconds = options.mode == "echo", options.bytes, options.seconds
    while True:
        n = conn.recv_into(buffer)
        if start is None:
            start, cpu = time.perf_counter(), cpu_seconds()
        if n == 0:
            fail(f"the connection ended after {got} of {limit_bytes} bytes")
        if echoes:
            conn.sendall(buffer[:n])
        got += n
        if (limit_bytes and got >= limit_bytes) or (limit_seconds and time.perf_counter() - start >= limit_seconds):
            return {"bytes": got, "seconds": time.perf_counter() - start, "cpu_s": cpu_seconds() - cpu}


def pour(options, conn):
    """Writes options.bytes, or for ever when that is 0: the parent ends it."""
    block = os.urandom(options.write)
    left = options.bytes
    while left > 0 or not options.bytes:
        if options.bytes and left < len(block):
            block = block[:left]
        conn.sendall(block)
        left -= len(block)


def measure_echo(options, conn):
    message, answer = os.urandom(options.size), memoryview(bytearray(options.size))
    took, cpu = [], 0.0
    for i in range(-options.warmup, options.rounds):
        if i == 0:
            cpu = cpu_seconds()
        start = time.perf_counter()
        conn.sendall(message)
        got = 0
        while got < len(answer):
            n = conn.recv_into(answer[got:])
            if n == 0:
                fail(f"the connection ended in round {i}")
            got += n
        if i >= 0:
            took.append(time.perf_counter() - start)
        if bytes(answer) != message:  # a memoryview compares item by item
            fail(f"round {i} came back changed")
    cpu = cpu_seconds() - cpu
    seconds = sum(took)
    took.sort()
    p50_us, p99_us = (took[int(share * (len(took) - 1))] * 1e6 for share in (0.5, 0.99))
    total = options.size * options.rounds
    return {"bytes": total, "seconds": seconds, "cpu_s": cpu, "p50_us": p50_us, "p99_us": p99_us}


def open_listener(options):
    """Prints the port that the parent waits for."""
    module = importlib.import_module(options.module)
    listener = module.create_server(split_address(options.listen), **profile_of(options, module))
    print("port", listener.getsockname()[1], flush=True)
    return listener


def connect(options):
    module = importlib.import_module(options.module)
    source = (options.source, 0) if options.source else None
    return module.create_connection(split_address(options.addr), source_address=source, **profile_of(options, module))


def profile_of(options, module):
    """The keyword that carries the settings; none for a module without profiles."""
    if not hasattr(module, "Profile"):
        return {}
    settings = {name: getattr(options, name) for name in PROFILE_FIELDS}
    if options.keepalive is not None:
        settings["keepalive"] = options.keepalive
    if options.crypt != "null":
        settings.update(crypt=options.crypt, key=options.key)
    if options.fec:
        settings["fec"] = tuple(int(count) for count in options.fec.split(","))
    return {"profile": module.Profile(**settings)}


def counted(options, result):
    """Adds kcpsock's counters, under kcp-go's names, of the whole process."""
    module = importlib.import_module(options.module)
    return {**result, "snmp": module.stats()} if hasattr(module, "stats") else result


def set_nodelay(options, conn):
    if options.module == "socket":  # Nagle would wait for ACKs that KCP's rivals do not wait for
        module = importlib.import_module("socket")
        conn.setsockopt(module.IPPROTO_TCP, module.TCP_NODELAY, 1)


def split_address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def wait_until_told():
    sys.stdin.readline()


def parse(arguments):
    def truth(text):
        return {"true": True, "false": False}[text]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("--module", default="kcpsock", help="kcpsock, or socket for kernel TCP")
    parser.add_argument("--framing", default="raw", choices=["raw", "smux"])
    parser.add_argument("--smux-version", type=int, default=2, choices=[1, 2])
    parser.add_argument("--crypt", default="null", help="kcptun's name of a cipher")
    parser.add_argument("--key", default="", help="passphrase")
    parser.add_argument("--keepalive", type=float, help="s, 0 = off (default: the profile's)")
    parser.add_argument("--mode", default="sink", choices=["sink", "echo"])
    parser.add_argument("--listen", default="127.0.0.1:0", help="address a server binds")
    parser.add_argument("--addr", help="address a client connects to")
    parser.add_argument("--source", default="", help="a client's own IP address")
    parser.add_argument("--sample", type=int, default=100, help="rest: connections that are used again")
    parser.add_argument("--bytes", type=int, default=0, help="bytes until the end, 0 = no such end")
    parser.add_argument("--seconds", type=float, default=0, help="sink: seconds until the end, 0 = no such end")
    parser.add_argument("--timeout", type=float, default=120, help="seconds after which the process gives up")
    parser.add_argument("--write", type=int, default=65536, help="sink: bytes a write")
    parser.add_argument("--size", type=int, default=65536, help="echo, crowd: bytes a message")
    parser.add_argument("--rounds", type=int, default=1000, help="echo: round trips measured")
    parser.add_argument("--warmup", type=int, default=20, help="echo: round trips before those")
    parser.add_argument("--sessions", type=int, default=2000, help="idle, crowd: sessions")
    parser.add_argument("--sndwnd", type=int, default=1024, help="packets")
    parser.add_argument("--rcvwnd", type=int, default=1024, help="packets")
    parser.add_argument("--mtu", type=int, default=1400, help="bytes of UDP payload")
    parser.add_argument("--nodelay", type=int, default=1, help="0 or 1")
    parser.add_argument("--interval", type=int, default=10, help="ms")
    parser.add_argument("--resend", type=int, default=2, help="duplicate ACKs")
    parser.add_argument("--nc", type=int, default=1, help="1 = no congestion window")
    parser.add_argument("--sockbuf", type=int, default=4 << 20, help="bytes, each way")
    parser.add_argument("--fec", default="", help="DATA,PARITY packets of a group (default: no FEC)")
    parser.add_argument("--stream", type=truth, default=True, help="true or false")
    parser.add_argument("--write-delay", type=truth, default=False, help="true or false")
    parser.add_argument("--ack-nodelay", type=truth, default=False, help="true or false")
    return parser.parse_args(arguments)


COMMANDS = {
    "server": run_server,
    "client": run_client,
    "idle-server": run_idle_server,
    "idle-client": run_idle_client,
    "crowd-server": run_crowd_server,
    "crowd-client": run_crowd_client,
    "rest-client": run_rest_client,
    "null": run_null,
}

if __name__ == "__main__":
    main()
