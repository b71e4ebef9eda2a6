# SPDX-License-Identifier: MIT
"""The link between two network namespaces does to IP packets of the kernel what test_lossylink.py asks of the relay."""

import errno
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from tests.support import tunlink
from tests.support.lossylink import LossyLink, LossyLinkError
from tests.support.streams import read_exactly
from tests.support.tunlink import TunLink
from tests.support.waiting import Task

LONG_S = 30.0
UDP_BYTES, IP_BYTES = 8, 20
HOUR_MS = 3_600_000.0
ENDINGS = ("sent", "lost", "queue_dropped", "mtu_dropped", "blackholed", "pool_dropped", "send_failed", "held")


@pytest.fixture(autouse=True)
def possible(require_peer):
    require_peer("a link of TUN devices", tunlink.is_possible(), tunlink.HOW_TO_GET)


@pytest.fixture
def link_of():
    """Makes links; at the end no packet of theirs may be unaccounted for."""
    links = []

    def make(**settings):
        links.append(TunLink(**settings))
        return links[-1]

    yield make
    for link in links:
        stats = link.close()
        for direction in ("up", "down"):
            n = stats[direction]
            assert n["received"] + n["duplicated"] == sum(n[ending] for ending in ENDINGS), (direction, n)
            assert n["kernel_dropped"] == 0


def udp(end):
    with end:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((end.v4, 0))
    s.settimeout(LONG_S)
    return s


@pytest.fixture
def ends(link_of):
    """ends(**settings): a link, and a UDP socket at either end."""
    sockets = []

    def make(**settings):
        link = link_of(**settings)
        sockets.extend([udp(link.near), udp(link.far)])
        return link, sockets[-2], sockets[-1]

    yield make
    for s in sockets:
        s.close()


def send(sender, receiver, numbers, size_bytes=64):
    for number in numbers:
        sender.sendto(b"%0*d" % (size_bytes - IP_BYTES - UDP_BYTES, number), receiver.getsockname())


def waiting(link, s):
    """The numbers in the buffer of `s`, once all that was sent has passed."""
    link.stats()
    numbers = []
    s.settimeout(0)
    try:
        while True:
            numbers.append(int(s.recv(2000)))
    except BlockingIOError:
        return numbers


def test_tun_passes_both_ways_in_order(ends):
    link, near, far = ends()
    send(near, far, range(100))
    send(far, near, range(50), size_bytes=1500)
    assert waiting(link, far) == list(range(100))
    assert waiting(link, near) == list(range(50))
    stats = link.stats()
    assert (stats["up"]["received"], stats["up"]["received_ip_bytes"]) == (100, 100 * 64)
    assert (stats["down"]["sent"], stats["down"]["sent_bytes"]) == (50, 50 * 1500)


def test_tun_fate_is_the_relays(ends):
    """The same seed loses the same packets as on the other face."""
    settings = {"seed": 5, "loss": 0.2, "burst_loss": (0.02, 0.3, 1.0)}
    link, near, far = ends(**settings)
    send(near, far, range(200))
    by_tun = waiting(link, far)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here, socket.socket(type=socket.SOCK_DGRAM) as there:
        there.bind(("127.0.0.1", 0))
        with LossyLink(there.getsockname(), **settings) as relay:
            for number in range(200):
                here.sendto(b"%d" % number, relay.address)
            assert waiting(relay, there) == by_tun
    assert 0 < len(by_tun) < 200


def test_tun_queue_and_rate(ends):
    link, near, far = ends(rate_mbit=1e-7, queue_kib=10)
    send(near, far, range(100), size_bytes=1024)
    up = link.stats()["up"]
    assert (up["held"], up["queue_dropped"]) == (10, 90)
    link.set(rate_mbit=0)
    assert waiting(link, far) == list(range(10))


def test_tun_path_mtu_and_delay(ends):
    link, near, far = ends(path_mtu=1280, down={"delay_ms": HOUR_MS})
    send(near, far, range(3), size_bytes=1280)
    send(near, far, range(3), size_bytes=1281)
    send(far, near, range(3))
    assert waiting(link, far) == [0, 1, 2]
    assert waiting(link, near) == []
    stats = link.stats()
    assert (stats["up"]["mtu_dropped"], stats["down"]["held"]) == (3, 3)


IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14  # Linux's; the module has no names for them before Python 3.14
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_tun_path_mtu_told(link_of, v6):
    """The kernel takes our ICMP for a router's: it knows the path's MTU then, and tells the socket."""
    link = link_of(path_mtu=1280, path_mtu_told=True, v6=v6)
    near, far = (link.near.v6, link.far.v6) if v6 else (link.near.v4, link.far.v4)
    level, discover, mtu = (41, IPV6_MTU_DISCOVER, IPV6_MTU) if v6 else (0, IP_MTU_DISCOVER, IP_MTU)
    with link.near:
        s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        s.setsockopt(level, discover, IP_PMTUDISC_DO)
        s.bind((near, 0))
        s.connect((far, 9))
        assert s.getsockopt(level, mtu) == 1500
        s.send(bytes(1300))
        assert link.stats()["up"]["mtu_dropped"] == 1
        with pytest.raises(OSError) as told:
            s.send(bytes(1300))
        assert told.value.errno == errno.EMSGSIZE
        assert s.getsockopt(level, mtu) == 1280


def test_tun_kernels_tcp_goes_through(link_of):
    link = link_of(seed=3, delay_ms=1, loss=0.02, rate_mbit=50, queue_kib=64)
    size_bytes = 1_000_000
    with link.far, socket.create_server((link.far.v4, 0)) as listener, link.near:
        client = socket.create_connection(listener.getsockname(), timeout=LONG_S)
        server, _ = listener.accept()
    server.settimeout(LONG_S)
    with client, server:
        sending = Task(client.sendall, bytes(size_bytes))
        assert read_exactly(server, size_bytes) == bytes(size_bytes)
        sending.result()
    up = link.stats()["up"]
    assert up["received_ip_bytes"] > size_bytes
    assert up["lost"] > 0


def test_tun_close_leaves_nothing():
    gc.collect()  # another test's garbage may hold descriptors, and go at any time
    fds = set(os.listdir("/proc/self/fd"))
    link = TunLink(delay_ms=HOUR_MS)
    names = [link.near.name, link.far.name]
    assert set(names) <= set(os.listdir("/run/netns"))
    pid = link.pid
    link.close()
    assert not set(names) & set(os.listdir("/run/netns"))
    assert set(os.listdir("/proc/self/fd")) <= fds
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_tun_that_can_not_be_set_leaves_nothing():
    with pytest.raises(LossyLinkError, match="out of range"):
        TunLink(loss=2)
    # Of this process: others may come and go.
    assert [name for name in os.listdir("/run/netns") if name.startswith(f"{tunlink.PREFIX}{os.getpid()}-")] == []


def test_tun_of_a_killed_process_is_removed_by_the_next(link_of):
    words = """
        import os, signal
        from tests.support.tunlink import TunLink
        TunLink()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(words)], check=False)
    assert killed.returncode == -signal.SIGKILL
    link_of()
    places = [name for name in os.listdir("/run/netns") if name.startswith(tunlink.PREFIX)]
    assert len(places) >= 2
    assert [name for name in places if not os.path.exists(f"/proc/{name.split('-')[2]}")] == []


def test_tun_hosts_are_apart(link_of):
    link = link_of()
    with link.near, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        with pytest.raises(OSError) as refused:
            s.bind((link.far.v4, 0))
    assert refused.value.errno == errno.EADDRNOTAVAIL


def test_tun_by_hand():
    """A command at the near end that sends one packet, and hears that the far port is closed."""
    words = """
        import socket
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(30)
            s.connect(("10.9.0.2", 9))
            s.send(b"1")
            try:
                s.recv(1)
            except ConnectionRefusedError:
                print("refused")
    """
    settings = json.dumps({"delay_ms": 1, "down": {"delay_ms": 2}})
    command = [sys.executable, "-c", textwrap.dedent(words)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.tunlink", settings, *command], capture_output=True, text=True, check=True
    )
    said = done.stdout.splitlines()
    assert said[0].startswith("near is 10.9.0.1, far 10.9.0.2")
    assert said[1] == "refused"
    counts = json.loads(said[2])
    assert (counts["up"]["sent"], counts["down"]["sent"]) == (1, 1)
