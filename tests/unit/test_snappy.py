# SPDX-License-Identifier: MIT
"""The snappy framing format in pieces, as the engine gives and takes it."""

import random

import pytest

cramjam = pytest.importorskip("cramjam")

from kcpsock._snappy import STREAM_IDENTIFIER, BrokenStream, Stream, Streams  # noqa: E402

DATA = random.Random(1).randbytes(70_000) + bytes(100_000) + b"the end"  # several chunks, plain and compressed


def chunk(kind, body, size=None):
    return bytes([kind]) + (len(body) if size is None else size).to_bytes(3, "little") + body


def chunks(data):
    """`data` in the framing format, without the identifier."""
    return bytes(cramjam.snappy.compress(data))[len(STREAM_IDENTIFIER) :]


@pytest.fixture
def begun():
    """A stream whose peer has sent the identifier and some data."""
    stream = Stream()
    assert stream.inflate(STREAM_IDENTIFIER + chunks(b"begun")) == b"begun"
    return stream


def test_deflate_is_one_stream_that_is_flushed_at_each_call():
    stream, peer = Stream(), Stream()
    for number, data in enumerate((b"hello", b"again", DATA)):
        made = stream.deflate(data)
        assert made.startswith(STREAM_IDENTIFIER) == (number == 0)
        assert peer.inflate(made) == data
        assert bytes(cramjam.snappy.decompress(made if number == 0 else STREAM_IDENTIFIER + made)) == data


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 9, 10, 11, 4096, 1 << 20])
def test_inflate_in_pieces(piece):
    data = DATA if piece > 100 else b"short" * 20
    wire = STREAM_IDENTIFIER + chunk(0xFE, b"padding" * 40) + chunks(data) + chunk(0x80, b"") + STREAM_IDENTIFIER
    wire += chunk(0x81, b"reserved") + chunks(b"more")
    stream = Stream()
    assert b"".join(stream.inflate(wire[at : at + piece]) for at in range(0, len(wire), piece)) == data + b"more"


def test_inflate_gives_a_chunk_as_soon_as_it_is_whole(begun):
    wire = chunks(b"one") + chunks(b"two")
    assert begun.inflate(wire[:-1]) == b"one"
    assert begun.inflate(wire[-1:]) == b"two"
    assert begun.inflate(b"") == b""


def test_inflate_keeps_nothing_of_what_it_skips(begun):
    assert begun.inflate(chunk(0xFE, bytes(100), size=1 << 23)) == b""
    for _ in range((1 << 23) // 65536 - 1):
        assert begun.inflate(bytes(65536)) == b""
        assert len(begun._held) < 4
    assert begun.inflate(bytes(65536 - 100) + chunks(b"after")) == b"after"


@pytest.mark.parametrize("largest", [76490, 65536 + 4])
def test_inflate_waits_for_the_largest_chunks(begun, largest):
    kind = 0x01 if largest == 65536 + 4 else 0x00
    assert begun.inflate(chunk(kind, bytes(5), size=largest)) == b""
    assert len(begun._held) == 9


@pytest.mark.parametrize(
    "wire",
    [
        chunk(0x02, b"reserved, not to be skipped"),
        chunk(0x7F, b"likewise"),
        chunk(0x00, bytes(3)),
        chunk(0x01, bytes(3)),
        chunk(0x00, b"", size=76490 + 5),
        chunk(0x01, b"", size=0xFFFFFF),
        chunk(0xFF, b"sNaPpX"),
        chunk(0xFF, b"sNaPp"),
        chunk(0xFF, b"sNaPpYY"),
        chunk(0x01, b"\1\2\3\4wrong checksum"),
        chunk(0x00, b"\0\0\0\0\xff\xff\xff\xff\x0f" + bytes(11)),
    ],
    ids=lambda wire: wire[:12].hex(),
)
def test_inflate_broken(begun, wire):
    with pytest.raises(BrokenStream):
        begun.inflate(wire)


@pytest.mark.parametrize("kind", [0x00, 0x01, 0x80, 0xFE])
def test_inflate_without_the_identifier(kind):
    with pytest.raises(BrokenStream, match="not with the identifier"):
        Stream().inflate(chunk(kind, bytes(10)))


def test_streams_are_apart_and_each_has_two_directions():
    streams, peer = Streams(), Streams()
    for identity in (1, 2, 1):
        made = streams.run(identity, True, b"hello", 1000)
        assert peer.run(identity, False, made, 1000) == b"hello"
        assert streams.run(identity, False, STREAM_IDENTIFIER + chunks(b"answer"), 1000) == b"answer"


@pytest.mark.parametrize("compress", [True, False])
def test_what_does_not_fit_comes_at_the_next_call(compress):
    streams = Streams()
    given = b"x" * 1000 if compress else STREAM_IDENTIFIER + chunks(b"x" * 1000)
    expected = Stream().deflate(given) if compress else b"x" * 1000
    parts = [streams.run(5, compress, given, 7)]
    while len(parts[-1]) == 7:
        parts.append(streams.run(5, compress, b"", 7))
    assert b"".join(parts) == expected


def test_a_result_of_the_buffers_size_is_followed_by_an_empty_one():
    streams = Streams()
    assert streams.run(5, False, STREAM_IDENTIFIER + chunks(b"1234567"), 7) == b"1234567"
    assert streams.run(5, False, b"", 7) == b""
    assert streams.run(5, False, chunks(b"89"), 7) == b"89"


def test_a_closed_stream_is_forgotten():
    streams = Streams()
    assert streams.run(5, False, STREAM_IDENTIFIER + chunks(b"12345678"), 7) == b"1234567"
    assert len(streams.run(5, True, b"hello", 7)) == 7
    streams.close(5)
    assert vars(streams) == {"_streams": {}, "_left": {}}
    streams.close(5)
    assert streams.run(5, True, b"hello", 1000).startswith(STREAM_IDENTIFIER)
