# SPDX-License-Identifier: MIT
"""How much the ARQ sends, and how soon, in virtual time: exact on every machine."""

import random

import pytest

from tests.arq import network as nw

MODES = {  # kcptun's names
    "normal": {"nodelay": 0, "interval_ms": 40, "resend": 2},
    "fast": {"nodelay": 0, "interval_ms": 30, "resend": 2},
    "fast2": {"nodelay": 1, "interval_ms": 20, "resend": 2},
    "fast3": {"nodelay": 1, "interval_ms": 10, "resend": 2},
}


@pytest.fixture
def transfer():
    ends = []

    def run(changes, segments, fates=(), delay_ms=25, back=0, seed=1, limit_ms=600_000):
        a, b = (nw.End(nw.profile(**changes)) for _ in range(2))
        ends.extend((a, b))
        mss = a.settings["mtu_bytes"] - nw.HEAD
        a.outbox = nw.Stream(random.Random(seed).randbytes(segments * mss))
        b.outbox = nw.Stream(random.Random(seed + 1).randbytes(back * mss))
        net = nw.Network(a, b, seed=seed, fates=fates, delay_ms=delay_ms)
        net.run(limit_ms)
        return net, a.info(), b.info()

    yield run
    for end in ends:
        end.close()


@pytest.mark.parametrize("window", [1, 2, 32, 1024])
@pytest.mark.parametrize("nc", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_without_loss_nothing_is_sent_twice(transfer, mode, nc, window):
    net, a, b = transfer({**MODES[mode], "nc": nc, "sndwnd_pkts": window, "rcvwnd_pkts": window}, 300, back=100)
    for info in (a, b):
        assert (info.retrans_segs, info.repeat_segs) == (0, 0)


def test_without_loss_the_window_is_used_up(transfer):
    net, a, b = transfer({"sndwnd_pkts": 100, "rcvwnd_pkts": 100}, 3200)
    # 32 on the first round trip, before the peer's window is known, then 100 on each of 50 ms; the last ACK is deferred
    assert net.elapsed_ms <= (1 + 32) * 50 + 20
    assert a.out_segs == 3200
    assert b.out_segs <= 3200


@pytest.mark.parametrize("loss", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("mode", MODES)
def test_lost_data_is_sent_again_and_little_else(transfer, mode, loss):
    net, a, b = transfer({**MODES[mode], "sndwnd_pkts": 256, "rcvwnd_pkts": 256}, 5000, [nw.random_loss(loss, [0])])
    needed = 5000 * loss / (1 - loss)
    assert 0.8 * needed <= a.retrans_segs <= 1.25 * needed + 20
    assert b.repeat_segs <= 0.02 * 5000


@pytest.mark.parametrize("loss", [0.02, 0.1])
def test_lost_acks_cost_little(transfer, loss):
    """una says most of what was in a lost ACK, and an ACK above it is said twice."""
    settings = {"sndwnd_pkts": 256, "rcvwnd_pkts": 256}
    link = nw.bottleneck(5000)  # 40 Mbit/s: the window is not one burst with one ACK
    net, a, b = transfer(settings, 5000, [nw.random_loss(loss, [1]), link])
    assert a.retrans_segs <= 0.2 * loss * 5000
    net, a, b = transfer(settings, 5000, [nw.random_loss(loss), nw.bottleneck(5000)])
    assert a.retrans_segs <= 1.5 * loss * 5000 + 20


def test_lost_ack_of_a_burst(transfer):
    """A window that arrives in one moment is acknowledged by more than one packet."""
    net, a, b = transfer({"sndwnd_pkts": 256, "rcvwnd_pkts": 256}, 10_000, [nw.random_loss(0.1, [1])])
    assert a.retrans_segs <= 0.02 * 10_000


@pytest.mark.parametrize("window", [256, 1024, 4096])
def test_lost_acks_of_bursts_cost_little(transfer, window):
    """Each window is one burst, and so are its ACKs: those above una are said in two packets."""
    settings = {"sndwnd_pkts": window, "rcvwnd_pkts": window}
    net, a, b = transfer(settings, 10_000, [nw.random_loss(0.1)])
    assert a.retrans_segs <= 1.4 * 10_000 * 0.1 / 0.9  # said once: 2.2


def test_loss_hardly_slows_a_wide_window(transfer):
    settings = {"sndwnd_pkts": 512, "rcvwnd_pkts": 512}
    without, _, _ = transfer(settings, 10_000)
    with_loss, _, _ = transfer(settings, 10_000, [nw.random_loss(0.05)])
    assert with_loss.elapsed_ms <= 5 * without.elapsed_ms


@pytest.mark.parametrize("nc", [0, 1])
@pytest.mark.parametrize("length_ms", [500, 3000, 10_000])
def test_blackout_ends_soon_after_it_ends(transfer, length_ms, nc):
    net, a, b = transfer({"nc": nc, "sndwnd_pkts": 64, "rcvwnd_pkts": 64}, 1500, [nw.blackout(200, 200 + length_ms)])
    quiet, _, _ = transfer({"nc": nc, "sndwnd_pkts": 64, "rcvwnd_pkts": 64}, 1500)
    # Back-off is bounded: 4.5 RTOs (8 in normal mode), which is at most 105 ms here, until the first is sent again;
    # once nothing has been acknowledged for a second, 2 s (docs/protocol.md 1).
    most_ms = 1000 if length_ms < 1000 else 2000
    assert net.elapsed_ms - length_ms <= quiet.elapsed_ms * (1 if nc else 1.5) + most_ms


def test_a_lone_packet_is_acknowledged_once_and_after_the_interval(transfer):
    net, a, b = transfer({"interval_ms": 40}, 1)
    assert (a.out_segs, b.out_segs, net.elapsed_ms) == (1, 1, 25 + 40 + 25)
    net, a, b = transfer({"interval_ms": 40, "ack_nodelay": 1}, 1)
    assert (a.out_segs, b.out_segs, net.elapsed_ms) == (1, 1, 25 + 25)


def test_idle_ends_have_no_timer(transfer):
    net, a, b = transfer({}, 100, back=100)
    net.run_for(1000)
    assert [end.next(net.now_ms) for end in net.ends] == [None, None]
    packets = net.packets
    net.run_for(3_600_000)
    assert net.packets == packets


def test_small_writes_behind_a_full_window_make_full_segments(transfer):
    a, b = nw.End(nw.profile(sndwnd_pkts=4, rcvwnd_pkts=4)), nw.End(nw.profile())
    a.outbox = nw.Stream(bytes(100_000), write_bytes=100)
    net = nw.Network(a, b)
    net.run(60_000)
    assert a.info().out_segs <= 100_000 // 1376 + 10
    a.close()
    b.close()
