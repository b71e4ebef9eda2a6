# SPDX-License-Identifier: MIT
"""Against the C version of KCP, as built into the PyPI package `kcp`: raw framing, both directions, under 10 % loss.

First our ARQ alone and the peer's, in virtual time; then kcpsock's sockets and the peer on a UDP socket, over a lossy
link."""

import importlib.util
import random
import socket
import threading
import time

import pytest

from tests.arq import network as nw

CONV = 0x5EED
TICK_MS = 10  # how often the C version wants its update()
MESSAGE_FRAGMENTS_MAX = 127  # ikcp_send refuses more


@pytest.fixture(scope="module", autouse=True)
def peer(require_peer):
    require_peer("the PyPI package kcp", importlib.util.find_spec("kcp") is not None, "pip install kcp==0.1.6")


def new_peer(output, conv=CONV, **settings):
    from kcp import KCP

    p = nw.profile(**settings)
    kcp = KCP(
        conv,
        max_transmission=p["mtu_bytes"],
        no_delay=bool(p["nodelay"]),
        update_interval=p["interval_ms"],
        resend_count=p["resend"],
        no_congestion_control=bool(p["nc"]),
        send_window_size=p["sndwnd_pkts"],
        receive_window_size=p["rcvwnd_pkts"],
    )
    kcp.include_outbound_handler(lambda _, packet: output(packet))
    return kcp


class PeerEnd:
    """The C version in the place of a nw.End. It has messages only; our end may take them for a stream."""

    def __init__(self, settings):
        self.settings = settings
        self.outbox = nw.Stream()
        self.paused = False
        self._made = []
        self._kcp = new_peer(self._made.append, **settings)
        self._tick_ms = None

    def close(self):
        pass

    def write(self):
        while self._kcp.get_outbound_packets() < self.settings["sndwnd_pkts"] and (data := self.outbox.offer()):
            self._kcp.enqueue(data)
            self.outbox.took(len(data))

    def read(self):
        return [] if self.paused else [bytes(message) for message in self._kcp.get_all_received()]

    def input(self, packet, now_ms):
        self._kcp.receive(packet)

    def next(self, now_ms):
        return 0 if self._tick_ms is None else max(0, self._tick_ms - now_ms)

    def flush(self, now_ms):
        self._tick_ms = now_ms + TICK_MS
        self._kcp.update(now_ms % nw.WRAP)
        packets, self._made[:] = self._made[:], []
        return packets

    @property
    def unacked(self):
        return self._kcp.get_outbound_packets()


LINKS = {
    "clean": [],
    "loss": [nw.random_loss(0.1)],
    "chaos": [nw.random_loss(0.1), nw.repeated(0.1, 60), nw.reordered(0.1, 60)],
}
SETTINGS = {
    "normal": {"nodelay": 0, "interval_ms": 40, "resend": 2, "nc": 0},
    "normal without window": {"nodelay": 0, "interval_ms": 40, "resend": 2, "nc": 1},
    "fast3": {"nodelay": 1, "interval_ms": 10, "resend": 2, "nc": 1},
    "no fast retransmit": {"nodelay": 0, "interval_ms": 100, "resend": 0, "nc": 0},
    "small packets": {"nodelay": 1, "interval_ms": 10, "resend": 2, "nc": 1, "mtu_bytes": 50},
    "wide": {"nodelay": 1, "interval_ms": 10, "resend": 2, "nc": 1, "sndwnd_pkts": 1024, "rcvwnd_pkts": 1024},
}


def run_virtual(ours, theirs, outboxes, link, seed=1, start_ms=0):
    end, peer = nw.End(nw.profile(**ours), conv=CONV), PeerEnd(nw.profile(**theirs))
    end.outbox, peer.outbox = outboxes
    net = nw.Network(end, peer, seed=seed, fates=LINKS[link], delay_ms=25, start_ms=start_ms)
    net.run(3600_000)
    info = end.info()
    end.close()
    return net, info


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("seed", [1, 2])
def test_stream_both_directions(name, link, seed):
    settings = SETTINGS[name]
    rng = random.Random(seed)
    mss = settings.get("mtu_bytes", 1400) - nw.HEAD
    outboxes = (nw.Stream(rng.randbytes(600 * mss)), nw.Stream(rng.randbytes(300 * mss + 7), write_bytes=5 * mss))
    run_virtual(settings, settings, outboxes, link, seed)


def test_clean_link_without_retransmission():
    rng = random.Random(3)
    outboxes = (nw.Stream(rng.randbytes(500_000)), nw.Stream(rng.randbytes(500_000), write_bytes=10_000))
    net, info = run_virtual(SETTINGS["fast3"], SETTINGS["fast3"], outboxes, "clean")
    assert (info.retrans_segs, info.repeat_segs) == (0, 0)


@pytest.mark.parametrize("link", LINKS)
def test_messages_both_directions(link):
    rng = random.Random(4)
    sizes = [1, 1376, 1377, 5000, 100_000, MESSAGE_FRAGMENTS_MAX * 1376, 17]
    outboxes = tuple(nw.Messages([rng.randbytes(size) for size in order]) for order in (sizes, sizes[::-1]))
    run_virtual({"stream": 0}, {}, outboxes, link)


@pytest.mark.parametrize("ours, theirs", [({"mtu_bytes": 500}, {}), ({}, {"mtu_bytes": 100}), ({"rcvwnd_pkts": 3}, {}),
                                          ({"sndwnd_pkts": 1, "rcvwnd_pkts": 1}, {"sndwnd_pkts": 1})])  # fmt: skip
def test_different_settings(ours, theirs):
    rng = random.Random(5)
    outboxes = (nw.Stream(rng.randbytes(60_000)), nw.Stream(rng.randbytes(60_000), write_bytes=900))
    run_virtual(ours, theirs, outboxes, "chaos")


def test_time_wraps():
    rng = random.Random(6)
    outboxes = (nw.Stream(rng.randbytes(300_000)), nw.Stream(rng.randbytes(100_000), write_bytes=5000))
    run_virtual({}, {}, outboxes, "chaos", start_ms=nw.WRAP - 2000)


@pytest.mark.parametrize("paused", [0, 1])
def test_paused_reader(paused):
    """Either end may stop reading for a minute; windows close, probes are answered, and all goes on."""
    rng = random.Random(7)
    end, peer = nw.End(nw.profile(), conv=CONV), PeerEnd(nw.profile())
    end.outbox, peer.outbox = nw.Stream(rng.randbytes(500_000)), nw.Stream(rng.randbytes(500_000), write_bytes=5000)
    net = nw.Network(end, peer, fates=LINKS["loss"], delay_ms=25)
    net.ends[paused].paused = True
    net.run_for(60_000)
    assert not end.dead
    net.ends[paused].paused = False
    net.run(600_000)
    end.close()


# ---- real sockets ----


class PeerThread:
    """The C version on a UDP socket, in a thread: `reply(received)` says what to send back. Learns address and conv
    from the first packet, unless `connect` gives the address."""

    def __init__(self, reply, connect=None):
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.address = self._udp.getsockname()
        self._reply, self._to = reply, connect
        self._kcp = self._open(CONV) if connect else None
        self._outbox, self._lock = [], threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._stopping.set()
        self._thread.join()
        self._udp.close()

    def send(self, data):
        with self._lock:
            self._outbox.extend(data[i : i + 1000] for i in range(0, len(data), 1000))

    def _open(self, conv):
        return new_peer(lambda packet: self._udp.sendto(packet, self._to), conv, nodelay=1, interval_ms=10)

    def _run(self):
        start = time.monotonic()
        while not self._stopping.is_set():
            self._udp.settimeout(TICK_MS / 1000)
            try:
                packet, sender = self._udp.recvfrom(2048)
            except (socket.timeout, ConnectionRefusedError):
                packet = None
            now_ms = int((time.monotonic() - start) * 1000)
            if packet is not None:
                if self._kcp is None:
                    self._to = sender
                    self._kcp = self._open(int.from_bytes(packet[:4], "little", signed=True))
                if sender == self._to:
                    self._kcp.receive(packet)
            if self._kcp is None:
                continue
            for message in self._kcp.get_all_received():
                self.send(self._reply(bytes(message)))
            with self._lock:
                while self._outbox and self._kcp.get_outbound_packets() < 128:
                    self._kcp.enqueue(self._outbox.pop(0))
            self._kcp.update(now_ms)


def receive_exactly(sock, size):
    got = bytearray()
    while len(got) < size:
        data = sock.recv(65536)
        assert data, "the stream ended early"
        got += data
    return bytes(got)


def exchange(sock, data):
    """Sends all while it receives as much."""
    writer = threading.Thread(target=sock.sendall, args=(data,))
    writer.start()
    got = receive_exactly(sock, len(data))
    writer.join()
    return got


@pytest.fixture
def raw():
    import kcpsock

    return kcpsock.Profile(framing="raw", mode="fast3", sndwnd=128, rcvwnd=128)


@pytest.mark.parametrize("seed", [1, 2])
def test_socket_connects_to_c_version(raw, seed):
    import kcpsock
    from tests.support.lossylink import LossyLink

    data = random.Random(seed).randbytes(300_000)
    with PeerThread(lambda message: message) as peer:
        with LossyLink(peer.address, seed=seed, delay_ms=10, loss=0.1) as link:
            with kcpsock.create_connection(link.address, timeout=60, profile=raw) as sock:
                assert exchange(sock, data) == data


def test_pads_and_pieces_are_nothing_to_the_c_version(raw):
    import kcpsock

    from . import ends

    data = random.Random(5).randbytes(1_000_000)
    with PeerThread(lambda message: message) as peer:
        with ends.narrow_link_to(peer.address[1], delay_ms=5, rate_mbit=20) as link:
            with kcpsock.create_connection(link.address, timeout=60, profile=raw) as sock:
                sock.sendall(data[:1])
                assert sock.recv(1) == data[:1]
                assert ends.survive_a_narrow_path(link, sock, data) == data[1:]


@pytest.mark.parametrize("seed", [1, 2])
def test_c_version_connects_to_listener(raw, seed):
    import kcpsock
    from tests.support.lossylink import LossyLink

    data = random.Random(seed).randbytes(300_000)
    got, complete = bytearray(), threading.Event()

    def collect(message):
        got.extend(message)
        if len(got) >= len(data):
            complete.set()
        return b""

    with kcpsock.create_server(("127.0.0.1", 0), profile=raw) as listener:
        listener.settimeout(60)
        with LossyLink(listener.getsockname(), seed=seed, delay_ms=10, loss=0.1) as link:
            with PeerThread(collect, connect=link.address) as peer:
                peer.send(data)
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(60)
                    received = exchange(sock, data)
                    assert received == data
                    assert complete.wait(60)
    assert bytes(got) == data
