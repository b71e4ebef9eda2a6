# SPDX-License-Identifier: MIT
"""The sink by other packages for KCP in Python, each by its own interface: ``--package aiokcp`` or ``--package kcp``.

Takes the command line of kcpsock_peer.py as far as a sink needs it. Neither package has a listener that tells its port,
nor a write that waits: the server picks a free port, and the client waits while two windows are queued.
"""

import argparse
import asyncio
import os
import socket
import sys
import threading
import time

from program import cpu_seconds, giving_up, report

CONVERSATION = 1
QUEUE_WINDOWS = 2  # packets under way and queued at the sender, in windows
LOOK_SECONDS = 0.002  # between two looks at a full queue


class Count:
    """Of what arrived."""

    def __init__(self, total):
        self.total = total
        self.got, self.start, self.cpu = 0, 0.0, 0.0

    def add(self, data):
        if not self.got:
            self.start, self.cpu = time.perf_counter(), cpu_seconds()
        self.got += len(data)
        if self.got - len(data) < self.total <= self.got:
            seconds = time.perf_counter() - self.start
            report({"bytes": self.got, "seconds": seconds, "cpu_s": cpu_seconds() - self.cpu})


# ---- aiokcp: streams of asyncio at both ends


def aiokcp_settings(options):
    return {
        "max_transmission": options.mtu,
        "no_delay": bool(options.nodelay),
        "update_interval": options.interval,
        "resend_count": options.resend,
        "no_congestion_control": bool(options.nc),
        "send_window_size": options.sndwnd,
        "receive_window_size": options.rcvwnd,
        "stream": 1,
    }


async def aiokcp_server(options):
    import aiokcp

    count = Count(options.bytes)

    async def take(reader, _writer):
        while data := await reader.read(1 << 20):
            count.add(data)

    port = free_port()
    server = await aiokcp.start_server(take, "127.0.0.1", port, limit=1 << 22, kcp_kwargs=aiokcp_settings(options))
    serving = asyncio.create_task(server.serve_forever())
    print("port", port, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    serving.cancel()
    os._exit(0)


async def aiokcp_client(options):
    import aiokcp

    host, port = options.addr.rsplit(":", 1)
    _, writer = await aiokcp.open_connection(host, int(port), kcp_kwargs=aiokcp_settings(options))
    queued = writer.transport.kcp.get_waitsnd  # drain() of a transport without a limit never waits

    async def pour():
        block, left = os.urandom(options.write), options.bytes
        while left > 0:
            if queued() > QUEUE_WINDOWS * options.sndwnd:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            writer.write(block[:left])
            left -= len(block)
            await asyncio.sleep(0)

    cpu = cpu_seconds()
    pouring = asyncio.create_task(pour())
    await asyncio.to_thread(sys.stdin.readline)
    report({"cpu_s": cpu_seconds() - cpu})
    pouring.cancel()
    os._exit(0)


# ---- kcp: its server on asyncio, its client on threads


async def kcp_server(options):
    from kcp.server import KCPServerAsync

    port, count = free_port(), Count(options.bytes)
    server = KCPServerAsync(
        "127.0.0.1",
        port,
        conv_id=CONVERSATION,
        delay=options.interval,
        max_transmission=options.mtu,
        no_delay=bool(options.nodelay),
        resend_count=options.resend,
        no_congestion_control=bool(options.nc),
        receive_window_size=options.rcvwnd,
        send_window_size=options.sndwnd,
    )

    @server.on_data
    async def take(_connection, data):
        count.add(data)

    @server.on_start
    async def started():
        print("port", port, flush=True)

    listening = asyncio.create_task(server.listen())
    await asyncio.to_thread(sys.stdin.readline)
    listening.cancel()
    os._exit(0)


async def kcp_client(options):
    from kcp import KCPClientSync

    host, port = options.addr.rsplit(":", 1)
    client = KCPClientSync(
        host,
        int(port),
        conv_id=CONVERSATION,
        no_delay=bool(options.nodelay),
        update_interval=options.interval,
        resend_count=options.resend,
        no_congestion_control=bool(options.nc),
        receive_window_size=options.rcvwnd,
        send_window_size=options.sndwnd,
    )
    queued = client._kcp.get_outbound_packets  # it offers no other way to see that its queue is full

    @client.on_data
    def ignore(_data):
        pass

    @client.on_start
    def pour():
        block, left = os.urandom(options.write), options.bytes
        while left > 0:
            if queued() > QUEUE_WINDOWS * options.sndwnd:
                time.sleep(LOOK_SECONDS)
                continue
            client.send(block[:left])
            left -= len(block)

    cpu = cpu_seconds()
    threading.Thread(target=client.start, daemon=True).start()
    await asyncio.to_thread(sys.stdin.readline)
    report({"cpu_s": cpu_seconds() - cpu})
    os._exit(0)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["server", "client"])
    parser.add_argument("--package", required=True, choices=["aiokcp", "kcp"])
    parser.add_argument("--addr", help="address a client connects to")
    parser.add_argument("--timeout", type=float, default=120, help="seconds after which the process gives up")
    parser.add_argument("--bytes", type=int, default=1 << 20)
    parser.add_argument("--write", type=int, default=65536, help="bytes a write")
    for name in ("sndwnd", "rcvwnd", "mtu", "nodelay", "interval", "resend", "nc"):
        parser.add_argument(f"--{name}", type=int, required=True, help="as of kcpsock_peer.py")
    options, _ = parser.parse_known_args()  # the rest: what these packages cannot set
    commands = {
        ("aiokcp", "server"): aiokcp_server,
        ("aiokcp", "client"): aiokcp_client,
        ("kcp", "server"): kcp_server,
        ("kcp", "client"): kcp_client,
    }
    with giving_up(options.timeout):
        asyncio.run(commands[options.package, options.command](options))


if __name__ == "__main__":
    main()
