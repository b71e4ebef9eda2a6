# SPDX-License-Identifier: MIT
"""FEC: coefficients, encoder, decoder. Parity is compared with zfec's; a decoder meets losses, disorder and garbage."""

import errno
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kcpsock import _engines
from kcpsock._fec import coefficients
from tests.support.bare import ffi, lib
from tests.support.fec import (
    CODES,
    DATA,
    PARITY,
    ROOM,
    Fec,
    data_packet,
    head,
    lossy,
    memory,
    parity_packet,
    some_packets,
    zfec_parity,
)


def wrap(ds, ps):
    return 0xFFFFFFFF // (ds + ps) * (ds + ps)


@pytest.fixture(autouse=True, scope="module")
def no_engine_runs():
    """One that other tests have started would still give memory back while these look at it."""
    _engines._leave_process()


@pytest.fixture(autouse=True)
def no_memory_is_lost():
    before = memory()
    yield
    assert memory() == before


# ---- coefficients


@pytest.mark.parametrize("ds", [1, 2, 3, 4, 5, 10, 31, 64, 127, 128, 200, 253, 254])
def test_c_and_zfec_agree(ds):
    for ps in sorted({1, 2, 3, 7, 100, 128, 254, 255 - ds}):
        if ds + ps <= 255:
            room = ffi.new("uint8_t[]", ds * ps)
            assert lib.ks_fec_coefficients(ds, ps, room) == 0
            assert bytes(ffi.buffer(room)) == coefficients(ds, ps), (ds, ps)


@given(st.integers(1, 254), st.integers(1, 254))
def test_c_and_zfec_agree_on_any_code(ds, ps):
    ps = min(ps, 255 - ds)
    room = ffi.new("uint8_t[]", ds * ps)
    assert lib.ks_fec_coefficients(ds, ps, room) == 0
    assert bytes(ffi.buffer(room)) == coefficients(ds, ps)


@pytest.mark.parametrize("ds,ps", [(0, 1), (1, 0), (255, 1), (1, 255), (128, 128), (-1, 3), (3, -1)])
def test_no_such_code(ds, ps):
    assert lib.ks_fec_coefficients(ds, ps, ffi.new("uint8_t[]", 1)) == -errno.EINVAL
    assert lib.ks_fec_alone_open(ds, ps, ffi.NULL, 0) == -errno.EINVAL
    with pytest.raises(ValueError, match=f"got {ds} and {ps}"):
        coefficients(ds, ps)


# ---- encoding


@pytest.mark.parametrize("ds,ps", CODES)
@pytest.mark.parametrize("own", [False, True])
def test_encodes_as_zfec_does(ds, ps, own):
    rng = random.Random(ds * 256 + ps)
    with Fec(ds, ps, None if own else coefficients(ds, ps)) as fec:
        for group in range(2):
            packets = some_packets(rng, ds)
            wire = fec.encode_all(packets)
            first = group * (ds + ps)
            assert wire[:ds] == [data_packet(first + i, p) for i, p in enumerate(packets)]
            bodies = zfec_parity(ds, ps, packets)
            assert wire[ds:] == [parity_packet(first + ds + i, b) for i, b in enumerate(bodies)]


@pytest.mark.parametrize("ds,ps", [(10, 3), (1, 1), (254, 1), (3, 2)])
def test_seqids_wrap(ds, ps):
    shards, end = ds + ps, wrap(ds, ps)
    with Fec(ds, ps, first=end - shards + 1) as fec:
        seqids = [head(p)[0] for p in fec.encode_all([b"x"] * (2 * ds))]
    assert seqids == [*range(end - shards, end), *range(shards)]


def test_gap_at_the_end_skips_parity_and_its_seqids():
    with Fec(3, 2) as fec:
        times = [0, 5000, 5500, 6000, 6001, 6502, 7000, 6000, 5000]  # the clock may go back: no gap
        wire = [[head(p) for p in fec.encode(b"x", now)] for now in times]
    assert wire[:3] == [[(0, DATA)], [(1, DATA)], [(2, DATA), (3, PARITY), (4, PARITY)]]
    assert wire[3:6] == [[(5, DATA)], [(6, DATA)], [(7, DATA)]]
    assert wire[6:] == [[(10, DATA)], [(11, DATA)], [(12, DATA), (13, PARITY), (14, PARITY)]]


def test_group_that_was_trimmed_goes_without_parity():
    before = memory()
    with Fec(3, 2) as fec:
        idle = memory()
        fec.encode(b"x")
        assert memory() > idle > before
        fec.trim()
        assert memory() == idle
        assert [len(fec.encode(b"x")) for _ in range(5)] == [1, 1, 1, 1, 3]
        fec.trim()
        assert memory() == idle
        packets = [b"a", b"bc", b""]
        assert [p[6:] for p in fec.encode_all(packets)[3:]] == zfec_parity(3, 2, packets)


# ---- decoding


def groups_of(ds, ps, groups, first=0, seed=0, longest=300):
    """-> packets and wire packets of each group."""
    rng = random.Random(seed)
    with Fec(ds, ps, first=first) as sender:
        packets = [some_packets(rng, ds, longest) for _ in range(groups)]
        return [(p, sender.encode_all(p)) for p in packets]


def test_every_loss_of_up_to_three_of_13():
    (packets, wire), *others = groups_of(10, 3, 3)
    for losses in range(4):
        for lost in itertools.combinations(range(13), losses):
            with Fec(10, 3, coefficients(10, 3)) as fec:
                rebuilt = fec.decode(*(p for i, p in enumerate(wire) if i not in lost))
                for _, other in others:
                    rebuilt += fec.decode(*other)
                assert rebuilt == [packets[i] for i in lost if i < 10], lost
                assert fec.counts()[:5] == (len(rebuilt), 0, 9 - sum(i > 9 for i in lost), 3, 0)
                assert fec.counts().blocks == 0


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([*CODES, (5, 5), (30, 70), (4, 1)]), st.integers(0, 2**32))
def test_any_losses_and_any_order_within_a_group(code, seed):
    ds, ps = code
    rng = random.Random(seed)
    warm, warm2, (packets, wire) = groups_of(ds, ps, 3, seed=seed)
    with Fec(ds, ps) as fec:
        assert fec.decode(*warm[1], *warm2[1]) == []
        arrive = rng.sample(range(ds + ps), rng.randint(ds, ds + ps))
        missing = set(range(ds)) - set(arrive[:ds])
        rebuilt = fec.decode(*(wire[i] for i in arrive[:ds]))
        assert rebuilt == [packets[i] for i in sorted(missing)]
        # late ones, and all of them once more, change nothing
        assert fec.decode(*(wire[i] for i in arrive[ds:]), *wire) == []
        assert fec.counts()[:2] == (len(missing), 0)
        assert fec.counts().blocks == 0


@pytest.mark.parametrize("ds,ps", [(10, 3), (2, 1), (1, 1), (3, 2)])
def test_across_the_wrap(ds, ps):
    end = wrap(ds, ps)
    groups = groups_of(ds, ps, 9, first=end - 5 * (ds + ps))
    assert head(groups[5][1][0])[0] == 0
    with Fec(ds, ps) as fec:
        for i, (packets, wire) in enumerate(groups):
            assert fec.decode(*(wire if i < 2 else wire[1:])) == ([] if i < 2 else packets[:1])


def test_groups_that_interleave_across_the_wrap():
    groups = groups_of(10, 3, 7, first=wrap(10, 3) - 4 * 13)
    with Fec(10, 3) as fec:
        for _, wire in groups[:3]:
            fec.decode(*wire)
        # one packet of each of three groups in turn, the first of every group lost
        rebuilt = fec.decode(*(wire[i] for i in range(1, 13) for _, wire in groups[3:6]))
        assert rebuilt == [packets[0] for packets, _ in groups[3:6]]


def test_duplicates_count_once():
    warm, warm2, (packets, wire) = groups_of(10, 3, 3)
    with Fec(10, 3) as fec:
        fec.decode(*warm[1], *warm2[1])
        assert fec.decode(*wire[1:9] * 3, wire[10], wire[10]) == []
        assert fec.decode(wire[11]) == [packets[0], packets[9]]


def test_too_many_losses_give_the_group_up():
    groups = groups_of(10, 3, 8)
    with Fec(10, 3) as fec:
        for i, (_, wire) in enumerate(groups):
            assert fec.decode(*(wire[4:] if i == 3 else wire)) == []
        assert fec.counts()[:5] == (0, 0, 24, 7, 1)
        assert fec.decode(*groups[3][1]) == []  # too late
        assert fec.counts()[:5] == (0, 0, 27, 7, 1)


def test_trimmed_decoder_goes_on():
    groups = groups_of(10, 3, 5)
    with Fec(10, 3) as fec:
        idle = memory()
        fec.decode(*groups[0][1], *groups[1][1], *groups[2][1][:5])
        assert memory() > idle and fec.counts().blocks == 5
        fec.trim()
        assert memory() == idle and fec.counts()[:5] == (0, 0, 6, 2, 1)
        assert fec.decode(*groups[3][1][3:]) == groups[3][0][:3]


def test_recovery_after_an_outage():
    # The window follows although everything between was lost.
    for gap in (2, 5, 50, 1000, 10**6, 2**31 // 13, 2**32 // 13 - 400):
        start, later = groups_of(10, 3, 2), groups_of(10, 3, 3, first=gap * 13 + 26)
        with Fec(10, 3) as fec:
            for _, wire in start:
                fec.decode(*wire)
            rebuilt = [fec.decode(*wire[1:]) for _, wire in later]
            assert rebuilt[1:] == [packets[:1] for packets, _ in later[1:]], gap


def test_lossy_network():
    rng = random.Random(5)
    for loss, reorder, at_least in [(0.02, 5, 0.98), (0.1, 10, 0.6), (0.2, 0, 0.3)]:
        groups = groups_of(10, 3, 200, seed=7, longest=60)
        wire = lossy(rng, [p for _, w in groups for p in w], loss, reorder)
        sent = [p for packets, _ in groups for p in packets]
        with Fec(10, 3) as fec:
            rebuilt = fec.decode(*wire)
            counts = fec.counts()
        arrived = sum(head(p)[1] == DATA for p in wire)
        assert set(rebuilt) <= set(sent)
        assert counts.errs == 0 and len(rebuilt) == counts.recovered
        assert len(rebuilt) >= at_least * (len(sent) - arrived), (loss, len(rebuilt), len(sent) - arrived)


# ---- what no peer sends


def warmed(fec, groups=3):
    made = groups_of(10, 3, groups)
    fec.decode(made[0][1][0])
    for _, wire in made[: groups - 1]:
        fec.decode(*wire)
    return made[-1]


def test_parity_of_other_sizes_is_refused():
    with Fec(10, 3) as fec:
        packets, wire = warmed(fec)
        assert fec.decode(*wire[3:11]) == []
        errs = fec.counts().errs
        assert fec.decode(wire[11] + b"\0", wire[11][:-1], wire[11][:8]) == []
        assert fec.counts().errs == errs + 3
        assert fec.decode(*wire[11:]) == packets[:3]


def test_data_longer_than_parity_is_refused():
    with Fec(10, 3) as fec:
        packets, wire = warmed(fec)
        fec.decode(*wire[10:])
        assert fec.decode(data_packet(head(wire[0])[0], bytes(1500))) == []
        assert fec.counts().errs == 1
        assert fec.decode(*wire[3:10]) == packets[:3]


def test_parity_shorter_than_data_is_refused():
    with Fec(10, 3) as fec:
        packets, wire = warmed(fec)
        fec.decode(*wire[3:10])
        assert fec.decode(wire[10][:8]) == []
        assert fec.counts().errs == 1
        assert fec.decode(*wire[10:]) == packets[:3]


def test_forged_parity_is_seen_by_the_size():
    with Fec(10, 3) as fec:
        _, wire = warmed(fec)
        assert fec.decode(*wire[1:10], wire[10][:6] + bytes(len(wire[10]) - 6)) == []
        assert fec.counts()[:2] == (0, 1) and fec.counts().short_sets == 1


def test_forged_parity_is_seen_by_the_padding():
    with Fec(10, 3) as fec:
        packets, wire = warmed(fec)
        lost = next(i for i in range(10) if len(packets[i]) + 2 < len(wire[10]) - 6)
        forged = wire[10][:-1] + bytes([wire[10][-1] ^ 1])
        assert fec.decode(*wire[:lost], *wire[lost + 1 : 10], forged) == []
        assert fec.counts()[:2] == (0, 1)


def test_truncated_and_misshapen():
    with Fec(10, 3) as fec:
        packets, wire = warmed(fec)
        for size in range(8):
            assert fec.decode(wire[0][:size], wire[10][:size]) == []
        for packet in (wire[0][:-1], wire[0] + b"\0", wire[0][:4] + b"\xf3\0" + wire[0][6:], bytes(3000)):
            assert fec.decode(packet) == []
        assert fec.counts().errs == 20
        assert fec.decode(*wire[3:]) == packets[:3]


def test_size_limits():
    longest = 2048
    with Fec(2, 1) as sender, Fec(2, 1) as fec:
        sent = [bytes([i]) * longest for i in range(6)]
        wire = sender.encode_all(sent)
        assert fec.decode(*wire[:6], wire[6], wire[8]) == [sent[5]]
        assert fec.decode(data_packet(9, bytes(longest + 20))) == []
        assert lib.ks_fec_alone_encode(sender.handle, ROOM, longest + 1, 0) == -errno.EINVAL


def test_forged_seqids_cost_a_group_at_worst():
    rng = random.Random(11)
    groups = groups_of(10, 3, 60)
    with Fec(10, 3) as fec:
        rebuilt = 0
        for i, (_, wire) in enumerate(groups):
            seqid = rng.randrange(wrap(10, 3) // 13) * 13 + rng.randrange(10)
            rebuilt += len(fec.decode(*wire[i > 1 : 7], data_packet(seqid, b"forged"), *wire[7:]))
        assert rebuilt == 58

        # three in a row do move the window: groups are given up, and the peer's next ones move it back
        at = 30 * 10**6 * 13
        fec.decode(*(data_packet(at + i, b"forged") for i in range(3)))
        more = groups_of(10, 3, 3, first=60 * 13)
        assert [len(fec.decode(*wire[1:])) for _, wire in more][1:] == [1, 1]
        assert fec.counts().errs == 0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([(10, 3), (2, 1), (127, 128), (0, 0)]))
def test_memory_is_bounded_whatever_arrives(seed, code):
    rng = random.Random(seed)
    ds, ps = code
    before = memory()
    with Fec(ds, ps) as fec:
        for _ in range(1500):
            seqid = rng.choice([rng.randrange(2**32), rng.randrange(2000), 2**32 - rng.randrange(1, 600)])
            body = rng.randbytes(rng.choice([0, 1, 2, 30, 200]))
            kind = rng.randrange(8)
            if kind < 3:
                fec.decode(data_packet(seqid, body))
            elif kind < 7:
                fec.decode(parity_packet(seqid, body.ljust(rng.choice([2, 32, 202]), b"\1")))
            else:
                fec.decode(body)
        ds, ps = fec.code()
        held = max(3, 32 // (ds + ps)) if ds else 0
        assert fec.counts().blocks <= held * (ds + ps)
        assert memory() - before < 64 * 1024 + 65536 * (2 + held * (ds + ps) // 31)
        fec.trim()
        assert fec.counts().blocks == 0
    assert memory() == before


@pytest.mark.parametrize("handle", [-1, 1023, 1024, 2**31 - 1, -(2**31)])
def test_no_such_handle(handle):
    counts = ffi.new("uint64_t[8]")
    assert {
        lib.ks_fec_alone_encode(handle, ROOM, 1, 0),
        lib.ks_fec_alone_output(handle, ROOM, 1),
        lib.ks_fec_alone_decode(handle, ROOM, 1),
        lib.ks_fec_alone_rebuilt(handle, ROOM, 1),
        lib.ks_fec_alone_counts(handle, counts),
        lib.ks_fec_alone_trim(handle),
        lib.ks_fec_alone_close(handle),
    } == {-errno.EBADF}


def test_bad_arguments():
    with Fec(3, 2) as fec, Fec() as decoder:
        assert lib.ks_fec_alone_encode(fec.handle, ffi.NULL, 1, 0) == -errno.EINVAL
        assert lib.ks_fec_alone_encode(fec.handle, ROOM, -1, 0) == -errno.EINVAL
        assert lib.ks_fec_alone_decode(fec.handle, ffi.NULL, 1) == -errno.EINVAL
        assert lib.ks_fec_alone_decode(fec.handle, ROOM, -1) == -errno.EINVAL
        assert lib.ks_fec_alone_counts(fec.handle, ffi.NULL) == -errno.EINVAL
        assert lib.ks_fec_alone_encode(decoder.handle, ROOM, 1, 0) == -errno.EINVAL
        assert lib.ks_fec_alone_output(fec.handle, ROOM, 10) == 0
        fec.encode(b"123")
        assert lib.ks_fec_alone_encode(fec.handle, ROOM, 5, 0) == 0
        assert lib.ks_fec_alone_output(fec.handle, ROOM, 5) == -errno.EMSGSIZE


@pytest.mark.parametrize("ds,ps,losses", [(10, 3, 0), (10, 3, 1), (10, 3, 3), (1, 1, 1), (2, 1, 1), (70, 30, 30)])
def test_benchmarks_do_what_they_say(ds, ps, losses):
    assert lib.ks_fec_bench_encode(ds, ps, coefficients(ds, ps), 1500, 20) == 0
    assert lib.ks_fec_bench_decode(ds, ps, coefficients(ds, ps), 1500, 20, losses) == 0
    assert lib.ks_fec_bench_decode(ds, ps, ffi.NULL, 1500, 20, ps + 1) == -errno.EINVAL
    assert lib.ks_fec_bench_encode(0, ps, ffi.NULL, 1500, 20) == -errno.EINVAL
