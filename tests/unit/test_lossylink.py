# SPDX-License-Identifier: MIT
"""The lossy link does what its settings say: checked by counts and by order, with fixed seeds, never by the clock.

stats() answers after all packets sent before it have passed; so without delay, what survived lies in the receiver's
buffer, and nothing here waits for a while.
"""

from __future__ import annotations

import gc
import json
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support import lossylink
from tests.support.lossylink import LossyLink, LossyLinkError

ROOT = Path(__file__).parents[2]
LONG_TIMEOUT_S = 30.0  # only ever met by a failure
HOUR_MS = 3_600_000.0
CHUNK_PKTS = 64  # fits into any receive buffer
ENDINGS = (
    "sent", "lost", "queue_dropped", "mtu_dropped", "blackholed", "pool_dropped", "oversize", "orphaned", "send_failed",
    "held",
)  # fmt: skip


def udp(host="127.0.0.1"):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((host, 0))
    s.settimeout(LONG_TIMEOUT_S)
    return s


@pytest.fixture
def target():
    with udp() as s:
        yield s


@pytest.fixture
def client():
    with udp() as s:
        yield s


@pytest.fixture
def link_to(target):
    """Makes links to `target`; at the end, no packet of theirs may be unaccounted for."""
    links = []

    def make(**settings):
        link = LossyLink(target.getsockname(), **settings)
        links.append(link)
        return link

    yield make
    for link in links:
        for direction in ("up", "down"):
            n = link.close()[direction]
            assert n["received"] + n["duplicated"] == sum(n[ending] for ending in ENDINGS), (link, direction, n)
            assert n["kernel_dropped"] == 0


def waiting(s):
    """The packets in the buffer of `s`, as (number, sender)."""
    packets = []
    s.settimeout(0)
    try:
        while True:
            data, sender = s.recvfrom(65536)
            packets.append((int(data), sender))
    except BlockingIOError:
        return packets
    finally:
        s.settimeout(LONG_TIMEOUT_S)


def push(link, sender, receiver, numbers, to=None):
    """Sends the numbers through the link, and returns those that have arrived by now."""
    numbers, arrived = list(numbers), []
    for i in range(0, len(numbers), CHUNK_PKTS):
        for number in numbers[i : i + CHUNK_PKTS]:
            sender.sendto(b"%d" % number, to or link.address)
        link.stats()
        arrived += [number for number, _ in waiting(receiver)]
    return arrived


def introduce(link, client, target):
    """One packet up, so that the link knows the client. Returns where the target sends its packets for this client."""
    client.sendto(b"0", link.address)
    return target.recvfrom(100)[1]


def until(condition):
    # Each look is a round trip to the link, so this gives it the CPU.
    for _ in range(1_000_000):
        if condition():
            return
    raise AssertionError("the condition never came true")


def near(count, n, p):
    """Four standard deviations of a binomial count."""
    return abs(count - n * p) <= 4 * math.sqrt(n * p * (1 - p))


def test_plain_passes_everything_in_order(link_to, client, target):
    link = link_to()
    assert push(link, client, target, range(1000)) == list(range(1000))
    up = link.stats()["up"]
    assert (up["received"], up["sent"], up["held"]) == (1000, 1000, 0)
    assert up["received_bytes"] == up["sent_bytes"] == sum(len(str(i)) for i in range(1000))
    assert link.stats()["seed"] == 1


def test_empty_datagram_passes(link_to, client, target):
    client.sendto(b"", link_to().address)
    assert target.recv(100) == b""


@pytest.mark.parametrize("settings", [
    {"loss": 0.2}, {"burst_loss": (0.05, 0.3, 0.9)}, {"dup": 0.2}, {"reorder": 0.2, "reorder_ms": HOUR_MS},
    {"loss": 0.1, "burst_loss": (0.02, 0.3, 0.5), "dup": 0.1, "reorder": 0.1, "reorder_ms": HOUR_MS},
])  # fmt: skip
def test_same_seed_same_fate(link_to, client, target, settings):
    runs = [push(link_to(seed=seed, **settings), client, target, range(1000)) for seed in (5, 5, 6)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_directions_have_dice_of_their_own(link_to, client, target):
    link = link_to(seed=5, loss=0.2)
    up = push(link, client, target, range(1000))
    link.set(up={"loss": 0})
    back = introduce(link, client, target)
    assert up != push(link, target, client, range(1000), to=back)


def test_one_impairment_leaves_the_dice_of_others(link_to, client, target):
    alone = push(link_to(seed=5, loss=0.2), client, target, range(1000))
    link = link_to(seed=5, loss=0.2, dup=0.3, reorder=0.1, reorder_ms=1, burst_loss=(0.1, 0.1, 0.0))
    among = push(link, client, target, range(1000))
    until(lambda: link.stats()["up"]["held"] == 0)
    among += [number for number, _ in waiting(target)]
    assert sorted(set(among)) == alone


def test_loss_count(link_to, client, target):
    n, p = 8000, 0.1
    link = link_to(seed=11, loss=p)
    arrived = push(link, client, target, range(n))
    assert near(link.stats()["up"]["lost"], n, p)
    assert len(arrived) == n - link.stats()["up"]["lost"]
    assert arrived == sorted(arrived)


def test_burst_loss_share_and_length(link_to, client, target):
    n, enter, leave = 20000, 0.02, 0.2
    link = link_to(seed=12, burst_loss=(enter, leave, 1.0))
    arrived = push(link, client, target, range(n))
    lost = link.stats()["up"]["lost"]
    assert lost == link.stats()["up"]["burst_lost"] == n - len(arrived)
    bursts = [b - a - 1 for a, b in zip(arrived, arrived[1:]) if b - a > 1]
    assert lost / n == pytest.approx(enter / (enter + leave), rel=0.15)  # the share of time in the bad state
    assert sum(bursts) / len(bursts) == pytest.approx(1 / leave, rel=0.15)  # mean stay in the bad state


def test_burst_loss_partial_in_bad_state(link_to, client, target):
    n = 8000
    link = link_to(seed=13, burst_loss=(1.0, 0.0, 0.3))  # bad from the first packet on, for good
    push(link, client, target, range(n))
    assert near(link.stats()["up"]["burst_lost"], n, 0.3)


def test_dup_count(link_to, client, target):
    n, p = 8000, 0.1
    link = link_to(seed=14, dup=p)
    arrived = push(link, client, target, range(n))
    duplicated = link.stats()["up"]["duplicated"]
    assert near(duplicated, n, p)
    assert len(arrived) == n + duplicated
    assert sorted(set(arrived)) == list(range(n))
    assert arrived == sorted(arrived)


def test_reorder_holds_back_the_chosen(link_to, client, target):
    n, p = 2000, 0.1
    link = link_to(seed=15, reorder=p, reorder_ms=HOUR_MS)
    arrived = push(link, client, target, range(n))
    up = link.stats()["up"]
    assert near(up["reordered"], n, p)
    assert up["held"] == up["reordered"]
    assert arrived == sorted(arrived)
    assert len(arrived) == n - up["reordered"]


def test_reorder_delivers_late_but_all(link_to, client, target):
    n = 100  # within the receive buffer, so that the chunks need not be fetched in between
    in_time = set(push(link_to(seed=16, reorder=0.2, reorder_ms=HOUR_MS), client, target, range(n)))
    link = link_to(seed=16, reorder=0.2, reorder_ms=300)
    for i in range(n):
        client.sendto(b"%d" % i, link.address)
    arrived = [int(target.recv(100)) for _ in range(n)]
    assert sorted(arrived) == list(range(n))
    assert [i for i in arrived if i in in_time] == sorted(in_time)
    assert [i for i in arrived if i not in in_time] == sorted(set(range(n)) - in_time)
    assert arrived != sorted(arrived)


def test_delay_holds_packets(link_to, client, target):
    link = link_to(delay_ms=HOUR_MS)
    assert push(link, client, target, range(500)) == []
    up = link.stats()["up"]
    assert (up["held"], up["sent"]) == (500, 0)
    assert up["delay_us"] == pytest.approx(500 * HOUR_MS * 1000)


def test_delay_is_kept_by_packets_under_way(link_to, client, target):
    link = link_to(delay_ms=1000)  # in which the second one is sent, also on a machine that is busy
    client.sendto(b"1", link.address)
    link.set(delay_ms=0)
    client.sendto(b"2", link.address)
    assert [target.recv(100), target.recv(100)] == [b"2", b"1"]


def test_delay_is_per_direction(link_to, client, target):
    link = link_to(down={"delay_ms": HOUR_MS})
    back = introduce(link, client, target)
    assert push(link, target, client, range(10), to=back) == []
    assert (link.stats()["up"]["held"], link.stats()["down"]["held"]) == (0, 10)


def test_jitter_mean(link_to, client, target):
    n = 4000
    link = link_to(seed=17, delay_ms=HOUR_MS, jitter_ms=1000, jitter_reorders=True)
    push(link, client, target, range(n))
    mean_ms = link.stats()["up"]["delay_us"] / n / 1000 - HOUR_MS
    assert abs(mean_ms - 500) <= 4 * 1000 / math.sqrt(12 * n)


@pytest.mark.parametrize("reorders", [False, True])
def test_jitter_order(link_to, client, target, reorders):
    link = link_to(seed=18, jitter_ms=20, jitter_reorders=reorders)
    for i in range(100):
        client.sendto(b"%d" % i, link.address)
    arrived = [int(target.recv(100)) for _ in range(100)]
    assert sorted(arrived) == list(range(100))
    assert (arrived == sorted(arrived)) is not reorders


STANDING_MBIT = 1e-7  # a rate at which a packet takes hours: whatever comes stays in the queue
HEADS_BYTES = 28  # IPv4's and UDP's, which count for the rate and the queue


def pour(link, client, count, size_bytes):
    """Numbered packets of that many IP bytes."""
    for i in range(count):
        client.sendto(b"%0*d" % (size_bytes - HEADS_BYTES, i), link.address)


def test_queue_drops_the_tail(link_to, client, target):
    link = link_to(rate_mbit=STANDING_MBIT, queue_kib=10)
    pour(link, client, 100, 128)
    up = link.stats()["up"]
    assert (up["held"], up["queue_dropped"], up["sent"]) == (80, 20, 0)
    assert up["received_ip_bytes"] == up["received_bytes"] + 100 * HEADS_BYTES == 100 * 128


def test_queue_takes_one_packet_whatever_its_length(link_to, client, target):
    link = link_to(rate_mbit=STANDING_MBIT, queue_kib=1)
    pour(link, client, 3, 1500)
    up = link.stats()["up"]
    assert (up["held"], up["queue_dropped"]) == (1, 2)


@pytest.mark.parametrize("rate_mbit", [0, 1e6])
def test_queue_goes_on_at_a_new_rate(link_to, client, target, rate_mbit):
    link = link_to(rate_mbit=STANDING_MBIT, queue_kib=10)
    pour(link, client, 100, 1024)
    link.set(rate_mbit=rate_mbit)
    pour(link, client, 3, 1024)
    assert [int(target.recv(2000)) for _ in range(13)] == [*range(10), 0, 1, 2]
    assert link.stats()["up"]["queue_dropped"] == 90


def test_queue_of_one_direction_leaves_the_other(link_to, client, target):
    link = link_to(down={"rate_mbit": STANDING_MBIT})
    back = introduce(link, client, target)
    assert push(link, client, target, range(10)) == list(range(10))
    assert push(link, target, client, range(10), to=back) == []
    assert link.stats()["down"]["held"] == 10


def test_rate_gives_each_packet_its_time(link_to, client, target):
    n, size_bytes = 50, 1000
    link = link_to(rate_mbit=8, queue_kib=n)
    os.kill(link.pid, signal.SIGSTOP)
    os.waitpid(link.pid, os.WUNTRACED)
    pour(link, client, n, size_bytes)
    os.kill(link.pid, signal.SIGCONT)  # now it finds all of them at once
    assert [int(target.recv(2000)) for _ in range(n)] == list(range(n))
    up = link.stats()["up"]
    assert (up["sent"], up["queue_dropped"]) == (n, 0)
    assert up["delay_us"] == sum(range(1, n + 1)) * 1000


def test_loss_comes_behind_the_bottleneck(link_to, client, target):
    link = link_to(rate_mbit=STANDING_MBIT, queue_kib=10, loss=1)
    pour(link, client, 100, 1024)
    up = link.stats()["up"]
    assert (up["held"], up["queue_dropped"], up["lost"]) == (10, 90, 0)
    link.set(rate_mbit=0)
    up = link.stats()["up"]
    assert (up["held"], up["lost"]) == (0, 10)


@pytest.mark.parametrize("settings", [{"loss": 0.2}, {"burst_loss": (0.05, 0.3, 1.0)}])
def test_queue_leaves_the_dice(link_to, client, target, settings):
    """The fate of what leaves the bottleneck does not hang on what it dropped."""
    plain = push(link_to(seed=5, **settings), client, target, range(510))
    link = link_to(seed=5, rate_mbit=STANDING_MBIT, queue_kib=10, **settings)
    pour(link, client, 100, 1024)
    link.set(rate_mbit=0)
    link.stats()
    fates = [int(number) for number, _ in waiting(target)] + push(link, client, target, range(10, 510))
    assert fates == plain


def test_path_mtu_swallows_what_is_longer(link_to, client, target):
    link = link_to(path_mtu=1280)
    for size_bytes in (1280, 1281, 1500, 1279):
        pour(link, client, 1, size_bytes)
    link.stats()
    assert [len(target.recv(2000)) + HEADS_BYTES for _ in range(2)] == [1280, 1279]
    assert link.stats()["up"]["mtu_dropped"] == 2
    link.set(path_mtu=0)
    pour(link, client, 1, 1500)
    assert len(target.recv(2000)) + HEADS_BYTES == 1500


def test_samples_are_the_counts_over_time(link_to, client, target):
    link = link_to(sample_ms=1, rate_mbit=STANDING_MBIT, queue_kib=10)
    pour(link, client, 100, 1024)
    counts = link.stats()["up"]
    whole = [counts["received_ip_bytes"], 0, 0, 90, 10 * 1024]
    until(lambda: link.samples()["up"][-1:] == [whole])
    link.set(rate_mbit=0, loss=1)
    until(lambda: link.samples()["up"][-1][4] == 0)  # the peak since the sample before: an empty queue has none
    samples = link.samples()
    assert samples["every_ns"] == 1_000_000
    assert len(samples["up"]) - len(samples["down"]) == 0
    for column in range(4):
        values = [sample[column] for sample in samples["up"]]
        assert values == sorted(values)
    assert samples["up"][-1][1] == link.stats()["up"]["sent_bytes"] + 10 * HEADS_BYTES
    assert max(sample[4] for sample in samples["down"]) == 0


def test_sample_has_the_peak_of_its_interval(link_to, client, target):
    link = link_to(sample_ms=500, rate_mbit=STANDING_MBIT, queue_kib=10)
    pour(link, client, 100, 1024)
    link.set(rate_mbit=0)  # the queue is empty long before the next sample
    seen = len(link.samples()["up"])
    until(lambda: len(link.samples()["up"]) > seen)
    assert max(sample[4] for sample in link.samples()["up"]) == 10 * 1024


def test_no_samples_unless_asked_for(link_to):
    assert link_to().samples()["up"] == []


def test_loss_down_only(link_to, client, target):
    n, p = 4000, 0.2
    link = link_to(seed=19, loss=p, up={"loss": 0})
    back = introduce(link, client, target)
    assert push(link, client, target, range(n)) == list(range(n))
    arrived = push(link, target, client, range(n), to=back)
    stats = link.stats()
    assert (stats["up"]["lost"], stats["down"]["lost"]) == (0, n - len(arrived))
    assert near(stats["down"]["lost"], n, p)


def test_clients_are_kept_apart(link_to, target):
    link = link_to()
    clients = [udp() for _ in range(50)]
    try:
        backs = [introduce(link, c, target) for c in clients]
        assert len(set(backs)) == len(clients)
        assert introduce(link, clients[0], target) == backs[0]
        for i, back in enumerate(backs):
            target.sendto(b"%d" % i, back)
        link.stats()
        assert [waiting(c) for c in clients] == [[(i, link.address)] for i in range(len(clients))]
        assert link.stats()["clients"] == len(clients)
    finally:
        for c in clients:
            c.close()


def test_clients_evicts_the_one_idle_longest(link_to, target):
    link = link_to(clients=2)
    with udp() as a, udp() as b, udp() as c:
        back_a, back_b = introduce(link, a, target), introduce(link, b, target)
        assert introduce(link, a, target) == back_a  # now b is the older one
        introduce(link, c, target)
        assert introduce(link, a, target) == back_a
        assert (link.stats()["clients"], link.stats()["evicted"]) == (2, 1)
        introduce(link, b, target)
        assert (link.stats()["clients"], link.stats()["evicted"]) == (2, 2)
        target.sendto(b"1", back_b)  # nobody's now: no stray packet reaches a client
        link.stats()
        assert waiting(a) == waiting(b) == waiting(c) == []


def test_clients_evicted_with_packets_under_way(link_to, target):
    link = link_to(clients=1, delay_ms=500)  # in which the other one comes, also on a machine that is busy
    with udp() as a, udp() as b:
        a.sendto(b"1", link.address)
        link.stats()
        b.sendto(b"2", link.address)
        assert target.recv(100) == b"2"
    until(lambda: link.stats()["up"]["held"] == 0)
    assert link.stats()["up"]["orphaned"] == 1


def test_ipv6():
    try:
        target = udp("::1")
    except OSError as e:
        pytest.skip(f"no IPv6 on loopback: {e}")
    with target, udp("::1") as client, LossyLink(target.getsockname(), seed=20, loss=0.2) as link:
        assert link.address[0] == "::1"
        arrived = push(link, client, target, range(1000))
        assert near(1000 - len(arrived), 1000, 0.2)
        link.set(loss=0)
        back = introduce(link, client, target)
        assert push(link, target, client, range(100), to=back) == list(range(100))


def test_blackhole_on_and_off(link_to, client, target):
    link = link_to()
    back = introduce(link, client, target)
    link.blackhole(True)
    assert push(link, client, target, range(100)) == []
    assert push(link, target, client, range(100), to=back) == []
    link.blackhole(False)
    assert push(link, client, target, range(100)) == list(range(100))
    assert push(link, target, client, range(100), to=back) == list(range(100))
    stats = link.stats()
    assert (stats["up"]["blackholed"], stats["down"]["blackholed"]) == (100, 100)


def test_blackhole_one_direction(link_to, client, target):
    link = link_to()
    back = introduce(link, client, target)
    link.blackhole(True, "down")
    assert push(link, client, target, range(10)) == list(range(10))
    assert push(link, target, client, range(10), to=back) == []
    with pytest.raises(LossyLinkError, match="up"):
        link.blackhole(True, "sideways")


def test_blackhole_takes_what_is_under_way(link_to, client, target):
    link = link_to(delay_ms=50)
    push(link, client, target, range(10))
    link.blackhole(True)
    until(lambda: link.stats()["up"]["held"] == 0)
    up = link.stats()["up"]
    assert up["sent"] + up["blackholed"] == 10
    assert len(waiting(target)) <= up["sent"]


def test_set_acts_on_what_is_sent_after_it(link_to, client, target):
    link = link_to()
    for loss, expected in ((1, 0), (0, 50), (1, 0)):
        link.set(loss=loss)
        assert len(push(link, client, target, range(50))) == expected
    link.set(loss=0, down={"dup": 1})
    assert push(link, client, target, range(10)) == list(range(10))
    back = introduce(link, client, target)
    assert len(push(link, target, client, range(10), to=back)) == 20


@pytest.mark.parametrize("settings", [
    {"loss": 1.5}, {"loss": -0.1}, {"loss": math.nan}, {"delay_ms": -1}, {"queue_kib": 0}, {"burst_loss": (0.1, 0.2)},
    {"up": {"bogus": 1}},
])  # fmt: skip
def test_settings_refused(link_to, settings):
    with pytest.raises(LossyLinkError, match="out of range|three numbers|no such setting"):
        link_to(**settings)
    with pytest.raises(LossyLinkError, match="out of range|three numbers|no such setting"):
        link_to().set(**settings)


def test_refused_target_is_ignored_and_counted(client):
    with udp() as s:
        address = s.getsockname()
    with LossyLink(address) as link:
        for i in range(10):
            client.sendto(b"%d" % i, link.address)
            link.stats()
        assert link.stats()["up"]["refused"] >= 1
        assert link.stats()["up"]["send_failed"] == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(LONG_TIMEOUT_S)
            s.bind(address)
            client.sendto(b"7", link.address)
            assert s.recv(100) == b"7"


def test_oversize_is_dropped_and_counted(link_to, client, target):
    link = link_to(packet_bytes=100)
    client.sendto(bytes(101), link.address)
    client.sendto(bytes(100), link.address)
    assert len(target.recv(1000)) == 100
    assert link.stats()["up"]["oversize"] == 1


def test_a_burst_needs_a_buffer(client, target):
    with LossyLink(target.getsockname(), buffer_bytes=4096) as link:
        os.kill(link.pid, signal.SIGSTOP)
        os.waitpid(link.pid, os.WUNTRACED)
        for i in range(64):
            client.sendto(b"%d" % i, link.address)  # 64 packets do not fit into 4 KiB
        os.kill(link.pid, signal.SIGCONT)
        up = link.stats()["up"]
    assert up["kernel_dropped"] > 0
    assert up["received"] + up["kernel_dropped"] == 64


def test_slots_bound_what_is_under_way(link_to, client, target):
    link = link_to(slots=128, delay_ms=HOUR_MS, dup=0.5)
    push(link, client, target, range(500))
    up = link.stats()["up"]
    assert up["held"] + 64 == 128  # 64 slots are where the next batch lands
    assert up["pool_dropped"] > 0


@pytest.mark.parametrize("direction", ["up", "down"])
def test_throughput_50000_packets_none_lost(link_to, client, target, direction):
    n, window = 50_000, 64  # so many packets fit into a receive buffer of the default size
    link = link_to()
    back = introduce(link, client, target)
    sender, receiver, to = (client, target, link.address) if direction == "up" else (target, client, back)
    payload = bytes(1396)
    expected = 0
    for i in range(n):
        sender.sendto(i.to_bytes(4, "big") + payload, to)
        if i - expected >= window:
            assert int.from_bytes(receiver.recv(2000)[:4], "big") == expected
            expected += 1
    for rest in range(expected, n):
        assert int.from_bytes(receiver.recv(2000)[:4], "big") == rest
    counts = link.close()[direction]
    assert counts["received"] == counts["sent"] == n + (direction == "up")


def test_close_leaves_nothing(target):
    lossylink.binary()
    gc.collect()  # another test's garbage may hold descriptors, and go at any time
    fds = set(os.listdir("/proc/self/fd"))
    link = LossyLink(target.getsockname())
    pid = link.pid
    final = link.close()
    assert final == link.close() == link.stats()
    assert set(os.listdir("/proc/self/fd")) <= fds
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(LossyLinkError, match="closed"):
        link.set(loss=1)


def test_close_with_packets_under_way(link_to, client, target):
    link = link_to(delay_ms=HOUR_MS)
    push(link, client, target, range(10))
    assert link.close()["up"]["held"] == 10


def test_close_while_a_forked_child_holds_the_pipes(link_to, client, target):
    link = link_to()
    wake, waker = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            link.close()  # a copy of ours: must not end the link
            os.close(waker)
            os.read(wake, 1)
        finally:
            os._exit(0)
    try:
        assert push(link, client, target, [1]) == [1]
        assert link.close()["up"]["sent"] == 1
    finally:
        os.close(waker)
        os.close(wake)
        os.waitpid(child, 0)


def test_unclosed_warns_and_ends(target):
    link = LossyLink(target.getsockname())
    pid = link.pid
    with pytest.warns(ResourceWarning, match="unclosed"):
        del link
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_killed_link_is_an_error_and_leaves_no_fds(target):
    link = LossyLink(target.getsockname())
    os.kill(link.pid, signal.SIGKILL)
    with pytest.raises(LossyLinkError, match="ended unasked"):
        link.stats()
    with pytest.raises(LossyLinkError, match="ended unasked"):
        link.close()
    assert link.close() == {}


def python(*args, **popen):
    return subprocess.Popen([sys.executable, *args], cwd=ROOT, stdout=subprocess.PIPE, text=True, **popen)


def test_orphaned_link_ends():
    script = """
        from tests.support.lossylink import LossyLink
        link = LossyLink(("127.0.0.1", 9))
        print(link.pid, flush=True)
        input()
    """
    with python("-c", textwrap.dedent(script), stdin=subprocess.PIPE) as parent:
        link = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            parent.wait()
            assert select.select([link], [], [], LONG_TIMEOUT_S)[0], "the link outlived its parent"
        finally:
            os.close(link)


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE])
def test_by_hand_until_sigterm(stdin, client, target):
    args = ["--target", f"127.0.0.1:{target.getsockname()[1]}", "--loss", "0.5", "--down-loss", "0", "--seed", "3"]
    with python("-m", "tests.support.lossylink", *args, stdin=stdin) as link:
        port = int(link.stdout.readline().split()[1])
        for i in range(100):
            client.sendto(b"%d" % i, ("127.0.0.1", port))
        link.send_signal(signal.SIGTERM)
        up = json.loads(link.stdout.readline())["up"]
        assert (up["received"], up["sent"] + up["lost"]) == (100, 100)
        assert len(waiting(target)) == up["sent"]
        assert link.wait() == 0


def test_by_hand_commands(target):
    words = "set loss 0.2\nset down-delay-ms x\nblackhole\nhello\n\nblackhole on up\n" + "z" * 5000 + "\nstats\nquit\n"
    args = ["--target", f"127.0.0.1:{target.getsockname()[1]}"]
    with python("-m", "tests.support.lossylink", *args, stdin=subprocess.PIPE) as link:
        out, _ = link.communicate(words)
    lines = out.splitlines()
    assert lines[1] == "ok"
    assert lines[2].startswith("error set down-delay-ms: wants a number")
    assert lines[3].startswith("error blackhole")
    assert lines[4].startswith("error hello")
    assert lines[5] == "ok"
    assert json.loads(lines[-2])["seed"] == json.loads(lines[-1])["seed"] == 1
    assert link.returncode == 0


FOREIGN = {
    "no socket module": "import sys; sys.modules['socket'] = None; sys.modules['subprocess'] = None",
    "gevent": "from gevent import monkey; monkey.patch_all(); import gevent; gevent.spawn(gevent.sleep, 0).join()",
}


@pytest.mark.parametrize("before", FOREIGN)
def test_works_under(before, tmp_path):
    if before == "gevent":
        pytest.importorskip("gevent")
    script = """
        from pathlib import Path
        from tests.support import lossylink
        lossylink.BUILD_DIR = Path({tmp!r})  # so that the compiler runs here too
        for _ in range(3):
            with lossylink.LossyLink(("127.0.0.1", 9), seed=4) as link:
                link.set(loss=0.5)
                assert link.stats()["seed"] == 4
        print("done")
    """
    script = FOREIGN[before] + textwrap.dedent(script.format(tmp=str(tmp_path)))
    with python("-W", "error", "-c", script) as run:
        assert run.communicate()[0] == "done\n"
    assert run.returncode == 0


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_source_compiles_without_warning(compiler, tmp_path):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    lossylink.compile_to(tmp_path / "out", [compiler], "-Werror")
    assert os.access(tmp_path / "out", os.X_OK)


def test_build_without_compiler_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(lossylink, "BUILD_DIR", tmp_path)
    monkeypatch.setenv("CC", "no-such-compiler -O3")
    with pytest.raises(LossyLinkError, match="no C compiler.*no-such-compiler.*install"):
        LossyLink(("127.0.0.1", 9))


def test_build_failure_shows_the_compilers_words(monkeypatch, tmp_path):
    monkeypatch.setattr(lossylink, "BUILD_DIR", tmp_path)
    monkeypatch.setenv("CC", "cc --no-such-flag")
    with pytest.raises(LossyLinkError, match="no-such-flag"):
        LossyLink(("127.0.0.1", 9))
    assert list(tmp_path.iterdir()) == []


def test_build_happens_once(monkeypatch, tmp_path):
    monkeypatch.setattr(lossylink, "BUILD_DIR", tmp_path)
    first = lossylink.binary()
    made_ns = first.stat().st_mtime_ns
    assert lossylink.binary() == first
    assert first.stat().st_mtime_ns == made_ns
    assert list(tmp_path.iterdir()) == [first]
