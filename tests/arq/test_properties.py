# SPDX-License-Identifier: MIT
"""The ARQ's promise: over any mix of loss, reordering and repetition, every byte once, in order, and an end."""

import errno
import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.arq import network as nw

BITS = st.integers(0, 1)
WINDOWS = st.one_of(st.integers(1, 8), st.integers(1, 300), st.sampled_from([1, 31, 32, 33, 1024, 4096, 16384]))
FIRST = st.one_of(st.sampled_from([0, 0xFFFFFFF0, 0x7FFFFFF0]), st.integers(0, 0xFFFFFFFF))

PROFILES = st.fixed_dictionaries(
    {
        "nodelay": BITS,
        "interval_ms": st.one_of(st.sampled_from([10, 20, 40]), st.integers(10, 300)),
        "resend": st.integers(0, 16),
        "nc": BITS,
        "ack_nodelay": BITS,
        "write_delay": BITS,
        "mtu_bytes": st.one_of(st.sampled_from([50, 1400, 1472]), st.integers(50, 1472)),
        "sndwnd_pkts": WINDOWS,
        "rcvwnd_pkts": WINDOWS,
    }
).map(lambda changes: nw.profile(**changes))

NETWORKS = st.fixed_dictionaries(
    {
        "delay_ms": st.one_of(st.integers(0, 60), st.integers(0, 400)),
        "loss": st.one_of(st.just(0.0), st.floats(0, 0.5)),
        "loss_back": st.one_of(st.just(0.0), st.floats(0, 0.5)),
        "repeat": st.one_of(st.just(0.0), st.floats(0, 0.5)),
        "reorder": st.one_of(st.just(0.0), st.floats(0, 1)),
        "reorder_ms": st.integers(0, 200),
        "burst": st.booleans(),
        "blackout_ms": st.sampled_from([0, 0, 1000, 5000]),
        "bytes_per_ms": st.sampled_from([0, 0, 200, 5000]),
        "seed": st.integers(0, 2**32),
        "start_ms": FIRST,
    }
)

common = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])


def make(profiles, conditions, first_sn):
    c = conditions
    fates = [nw.random_loss(c["loss"], [0]), nw.random_loss(c["loss_back"], [1])]
    if c["burst"]:
        fates.append(nw.bursty_loss(0.02, 0.2, 0.9))
    if c["blackout_ms"]:
        fates.append(nw.blackout(100, 100 + c["blackout_ms"]))
    fates += [nw.repeated(c["repeat"], c["reorder_ms"]), nw.reordered(c["reorder"], c["reorder_ms"])]
    if c["bytes_per_ms"]:
        fates.append(nw.bottleneck(c["bytes_per_ms"]))
    ends = [nw.End(settings, first_sn=first_sn) for settings in profiles]
    return nw.Network(*ends, seed=c["seed"], fates=fates, delay_ms=c["delay_ms"], start_ms=c["start_ms"])


def run(net):
    try:
        net.run()
    finally:
        for end in net.ends:
            end.close()


def check_streams(profiles, conditions, first_sn, segments, write_bytes):
    net = make(profiles, conditions, first_sn)
    rng = random.Random(conditions["seed"])
    for end, count in zip(net.ends, segments):
        mss = end.settings["mtu_bytes"] - nw.HEAD
        end.outbox = nw.Stream(rng.randbytes(max(0, count * mss - rng.randrange(mss))), write_bytes)
    run(net)


def check_messages(profiles, conditions, first_sn, sizes):
    """sizes: of each end's messages, as fractions of the largest that the other end's window can hold."""
    net = make([{**settings, "stream": 0} for settings in profiles], conditions, first_sn)
    rng = random.Random(conditions["seed"])
    for end, peer, fractions in zip(net.ends, reversed(net.ends), sizes):
        most = min(255, peer.settings["rcvwnd_pkts"]) * (end.settings["mtu_bytes"] - nw.HEAD)
        end.outbox = nw.Messages([rng.randbytes(round(fraction * fraction * most)) for fraction in fractions])
    run(net)


STREAMS = dict(
    profiles=st.tuples(PROFILES, PROFILES),
    conditions=NETWORKS,
    first_sn=FIRST,
    segments=st.tuples(st.integers(0, 250), st.integers(0, 250)),
    write_bytes=st.sampled_from([1 << 16, 1000, 100]),
)
SIZES = st.lists(st.floats(0, 1), max_size=6)
MESSAGES = dict(
    profiles=st.tuples(PROFILES, PROFILES), conditions=NETWORKS, first_sn=FIRST, sizes=st.tuples(SIZES, SIZES)
)
QUIET = {
    "delay_ms": 20, "loss": 0.0, "loss_back": 0.0, "repeat": 0.0, "reorder": 0.0, "reorder_ms": 0, "burst": False,
    "blackout_ms": 0, "bytes_per_ms": 0, "seed": 1, "start_ms": 0,
}  # fmt: skip
ROUGH = {**QUIET, "loss": 0.3, "loss_back": 0.3, "repeat": 0.2, "reorder": 0.5, "reorder_ms": 100, "burst": True}
WRAPPING = {**ROUGH, "start_ms": 0xFFFFFFF0}
PLAIN = nw.profile()
SMALL = nw.profile(sndwnd_pkts=1, rcvwnd_pkts=1, mtu_bytes=50, nc=0, nodelay=0)


@settings(common, max_examples=1500, derandomize=True)
@given(**STREAMS)
@example((PLAIN, PLAIN), ROUGH, 0, (200, 200), 1 << 16)
@example((PLAIN, SMALL), WRAPPING, 0xFFFFFFF0, (200, 200), 100)
@example((SMALL, SMALL), WRAPPING, 0xFFFFFFF0, (60, 60), 100)
def test_streams_arrive_whole(profiles, conditions, first_sn, segments, write_bytes):
    check_streams(profiles, conditions, first_sn, segments, write_bytes)


@settings(common, max_examples=400, derandomize=True)
@given(**MESSAGES)
@example((PLAIN, PLAIN), ROUGH, 0, ([0, 0.1, 1], [1, 0, 0.5]))
@example((SMALL, PLAIN), WRAPPING, 0xFFFFFFF0, ([0, 0.1, 1], [1, 0, 0.5]))
def test_messages_arrive_whole(profiles, conditions, first_sn, sizes):
    check_messages(profiles, conditions, first_sn, sizes)


@pytest.mark.soak
@settings(common, max_examples=5000)
@given(**STREAMS)
def test_streams_arrive_whole_soak(profiles, conditions, first_sn, segments, write_bytes):
    check_streams(profiles, conditions, first_sn, segments, write_bytes)


@pytest.mark.soak
@settings(common, max_examples=5000)
@given(**MESSAGES)
def test_messages_arrive_whole_soak(profiles, conditions, first_sn, sizes):
    check_messages(profiles, conditions, first_sn, sizes)


@pytest.mark.parametrize("loss, first_sn", [(0.0, 0), (0.1, 0xFFFFE000), (0.3, 0)])
def test_window_of_16384(loss, first_sn):
    wide = nw.profile(sndwnd_pkts=16384, rcvwnd_pkts=16384, mtu_bytes=200)
    conditions = {**QUIET, "loss": loss, "loss_back": loss, "reorder": loss, "reorder_ms": 5, "start_ms": first_sn}
    check_streams((wide, wide), conditions, first_sn, (20000, 2000), 1 << 16)


@settings(common, max_examples=300, derandomize=True)
@given(profiles=st.tuples(PROFILES, PROFILES), conditions=NETWORKS, pauses=st.lists(st.integers(1, 20000), max_size=4))
def test_reader_that_pauses(profiles, conditions, pauses):
    """A reader may stop for a long time, with any window: nothing is lost, and a closed window opens again."""
    net = make(profiles, {**conditions, "loss": 0.0, "loss_back": 0.0, "burst": False, "blackout_ms": 0}, 0)
    mss = net.ends[0].settings["mtu_bytes"] - nw.HEAD
    net.ends[0].outbox = nw.Stream(random.Random(1).randbytes(200 * mss))
    for pause in pauses:
        net.ends[1].paused = True
        net.run_for(pause)
        net.ends[1].paused = False
        net.run_for(50)
    assert not any(end.dead for end in net.ends)
    run(net)


@settings(common, max_examples=300, derandomize=True)
@given(st.lists(st.binary(max_size=120), max_size=30), st.booleans())
def test_any_bytes_are_survived(packets, with_conv):
    """Strangers' packets before a transfer. What looks like a segment of this conversation may change it: only after
    packets of other conversations the data must still arrive."""
    a, b = nw.End(nw.profile()), nw.End(nw.profile())
    a.outbox = nw.Stream(b"x" * 5000)
    for number, packet in enumerate(packets):
        if with_conv:
            packet = (0x1234).to_bytes(4, "little") + packet
        elif packet[:4] == (0x1234).to_bytes(4, "little"):
            continue
        for end in (a, b):
            assert nw.lib.ks_arq_input(end.handle, packet, len(packet), number) in (0, -errno.EBADMSG)
    if with_conv:
        a.flush(100, force=True)
        b.flush(100, force=True)
    else:
        nw.Network(a, b).run(60000)
    a.close()
    b.close()
