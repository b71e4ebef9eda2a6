# SPDX-License-Identifier: MIT
"""A decoder finds out the code of its peer: unknown, believed to be another, changed on the way."""

import random

import pytest

from tests.support.fec import CODES, Fec, data_packet, head, lossy, parity_packet

FOUND_AFTER = 16  # packets beyond the needed ones: attempts are so far apart, and groups end in between


def stream(ds, ps, packets, first=0, seed=0):
    rng = random.Random(seed)
    with Fec(ds, ps, first=first) as sender:
        return sender.encode_all([rng.randbytes(20) for _ in range(packets)])


def packets_until(fec, wire, code):
    for i, packet in enumerate(wire, 1):
        fec.decode(packet)
        if fec.code() == code:
            return i
    return None


@pytest.mark.parametrize("ds,ps", [*CODES, (5, 5), (30, 3), (8, 8), (1, 2), (16, 4)])
@pytest.mark.parametrize("loss,reorder", [(0, 0), (0.02, 3), (0.1, 0), (0.1, 8), (0.2, 4)])
def test_finds_the_code(ds, ps, loss, reorder):
    shards = ds + ps
    for seed in range(3):
        first = random.Random(seed).randrange(2**31) if seed else 0
        wire = stream(ds, ps, max(4, 8000 // shards) * ds, first, seed)
        wire = lossy(random.Random(seed + 1), wire, loss, reorder)
        with Fec() as fec:
            after = packets_until(fec, wire, (ds, ps))
            assert after is not None
            assert after <= 2 * (3 * shards + 16) + 60, after
            fec.decode(*wire[after:])
            assert fec.code() == (ds, ps)


@pytest.mark.parametrize("ds,ps", CODES)
def test_finds_no_wrong_code_on_the_way(ds, ps):
    for seed in range(5):
        wire = stream(ds, ps, max(4, 3000 // (ds + ps)) * ds, seed=seed)
        with Fec() as fec:
            seen = set()
            for packet in lossy(random.Random(seed), wire, 0.2, 6):
                fec.decode(packet)
                seen.add(fec.code())
            assert seen == {(0, 0), (ds, ps)}


def test_across_the_wrap():
    first = 0xFFFFFFFF // 13 * 13 - 26
    with Fec() as fec:
        assert packets_until(fec, stream(10, 3, 100, first), (10, 3)) <= 55 + FOUND_AFTER


@pytest.mark.parametrize(
    "believed,code", [((10, 3), (20, 5)), ((20, 5), (2, 1)), ((2, 1), (10, 3)), ((10, 3), (10, 2))]
)
def test_believed_to_be_another(believed, code):
    with Fec(*believed) as fec:
        wire = stream(*code, 400)
        after = packets_until(fec, wire, code)
        assert after <= 3 * sum(code) + 16 + 2 * FOUND_AFTER
        assert fec.counts().recovered == 0
        rest = wire[after:]
        kept = [p for p in rest if head(p)[0] % sum(code)]
        assert len(fec.decode(*kept)) >= len(rest) // sum(code) - 2


def test_changes_and_changes_back():
    codes = [(10, 3), (4, 2), (10, 3), (2, 1), (30, 10), (10, 3)]
    first = 0
    with Fec(10, 3) as fec:
        for seed, (ds, ps) in enumerate(codes):
            wire = stream(ds, ps, 30 * ds, first, seed)
            first = head(wire[-1])[0] + 1
            fec.decode(*lossy(random.Random(seed), wire, 0.1, 4))
            assert fec.code() == (ds, ps)


def test_a_wrong_code_rebuilds_nothing():
    # Its sums would pass for packets: equal bytes stay equal. So all packets here are of one length, and alike.
    rng = random.Random(3)
    for code in [(12, 3), (9, 3), (5, 3), (20, 6), (10, 2), (10, 4), (13, 13), (1, 1)]:
        for seed in range(20):
            with Fec(*code, first=rng.choice([0, 10**6])) as sender, Fec(10, 3) as fec:
                sent = [b"\x51\x01" + bytes([i % 251]) * 18 for i in range(40 * code[0])]
                wire = sender.encode_all(sent)
                rebuilt = fec.decode(*lossy(random.Random(seed), wire, 0.1))
                assert set(rebuilt) <= set(sent), (code, seed)
                assert fec.code() == code


def test_one_group_alone_does_not_speak_for_a_code():
    # Of a peer with 10 + 2, all that would contradict 10 + 3 is lost, and what is left looks like its second group.
    wire = [p for p in stream(10, 2, 20) if head(p)[0] not in (12, 22)]
    with Fec(10, 3) as fec:
        assert fec.decode(*wire) == []
    # And of one with 5 + 1, where even the place between data and parity agrees.
    wire = [p for p in stream(5, 1, 20) if head(p)[0] not in (5, 10, 11, 12, 17)]
    with Fec(10, 3) as fec:
        assert fec.decode(*wire) == []


def test_group_0_alone_speaks_for_itself():
    wire = stream(10, 3, 10)
    with Fec(10, 3) as fec:
        assert fec.decode(*wire[1:]) == [wire[0][8:]]


def test_forged_types_suspend_rebuilding_for_a_while_only():
    with Fec(10, 3) as fec:
        wire = stream(10, 3, 300)
        fec.decode(*wire[:39])
        assert fec.decode(parity_packet(40, b"\1" * 30)) == []  # its place is a data packet's
        lossy_wire = [p for p in wire[39:] if head(p)[0] % 13]
        assert len(fec.decode(*lossy_wire)) >= len(lossy_wire) // 12 - 3
        assert fec.code() == (10, 3)


def test_random_types_have_no_code():
    rng = random.Random(8)
    with Fec() as fec:
        for i in range(20000):
            seqid = rng.choice([i, rng.randrange(2**32)])
            fec.decode(rng.choice([data_packet, parity_packet])(seqid, b"\2\0"))
        assert fec.code() == (0, 0)
        assert fec.counts().recovered == 0


def test_data_alone_has_no_code():
    with Fec() as fec:
        fec.decode(*(data_packet(i, b"x") for i in range(5000)))
        assert fec.code() == (0, 0)
        assert fec.counts().blocks == 0
