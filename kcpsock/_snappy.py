# SPDX-License-Identifier: MIT
"""Snappy, for `Profile(compress=True)`: an optional part, the extra "snappy" (PyPI's cramjam).

Each direction of a session is one stream of the snappy framing format, a flush after each smux frame, as kcptun has it
(docs/protocol.md 6). cramjam compresses, decompresses and checks the checksums; here stands what a stream that comes in
pieces needs. The engine calls `run_codec` with the GIL; a session without compression never comes here.
"""

from __future__ import annotations

from typing import Any

from . import _fork

STREAM_IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"
_HEAD_BYTES = 4  # type u8, length u24
_COMPRESSED, _PLAIN, _IDENTIFIER = 0x00, 0x01, 0xFF
_FIRST_SKIPPABLE = 0x80
# A data chunk holds at most 65536 bytes, and compression makes no chunk longer than this (framing format, section 4).
_CHUNK_BYTES_MAX = 76490 + 4


def require() -> None:
    """Raises ImportError, saying what to install, when the codec is not here."""
    try:
        with _fork.held:
            import cramjam

        cramjam.snappy.Compressor  # noqa: B018  (a cramjam built without snappy lacks it)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            "compress=True needs the snappy codec of the package cramjam: pip install kcpsock[snappy]"
        ) from error


class BrokenStream(ValueError):
    """The peer's bytes are no snappy framing format, or a checksum is wrong."""


class Stream:
    """Both directions of one session's compressed byte stream.

    `inflate` keeps less than one chunk, 76 KiB, between calls; what is skipped is not kept.
    """

    def __init__(self) -> None:
        import cramjam

        self._snappy: Any = cramjam.snappy
        self._compressor = self._snappy.Compressor()
        self._held = b""  # the beginning of a chunk
        self._begun = False  # the identifier came
        self._to_skip = 0

    def deflate(self, data: bytes) -> bytes:
        """The chunks for `data`; a first call's result begins with the stream identifier."""
        self._compressor.compress(data)
        return bytes(self._compressor.flush())

    def inflate(self, data: bytes) -> bytes:
        """What the chunks completed by `data` hold. Raises BrokenStream."""
        if self._to_skip:
            skipped = min(self._to_skip, len(data))
            self._to_skip -= skipped
            data = data[skipped:]
        held = self._held + data
        chunks = [STREAM_IDENTIFIER]
        while len(held) >= _HEAD_BYTES:
            kind, end = held[0], _HEAD_BYTES + int.from_bytes(held[1:_HEAD_BYTES], "little")
            if kind != _IDENTIFIER and not self._begun:
                raise BrokenStream(f"the stream begins with a chunk of type {kind:#04x}, not with the identifier")
            if kind == _IDENTIFIER and end == len(STREAM_IDENTIFIER):
                if len(held) < end:
                    break
                if held[:end] != STREAM_IDENTIFIER:
                    raise BrokenStream("a stream identifier with another text")
                self._begun = True
            elif _FIRST_SKIPPABLE <= kind < _IDENTIFIER:
                self._to_skip = max(end - len(held), 0)
            elif kind not in (_COMPRESSED, _PLAIN) or not _HEAD_BYTES + 4 <= end <= _HEAD_BYTES + _CHUNK_BYTES_MAX:
                raise BrokenStream(f"a chunk of type {kind:#04x} and {end - _HEAD_BYTES} bytes")
            elif len(held) < end:
                break
            else:
                chunks.append(held[:end])
            held = held[end:]
        self._held = held
        if len(chunks) == 1:
            return b""
        try:
            return bytes(self._snappy.decompress(b"".join(chunks)))
        except Exception as error:  # cramjam's own exception, whose name differs between its releases
            raise BrokenStream(str(error)) from error


class Streams:
    """The engine's door: streams by id, and what did not fit into the engine's buffer."""

    def __init__(self) -> None:
        self._streams: dict[int, Stream] = {}
        self._left: dict[tuple[int, bool], bytes] = {}

    def run(self, identity: int, compress: bool, data: bytes, most: int) -> bytes:
        """At most `most` bytes of the result; the next call without data gives what is left. Raises BrokenStream."""
        key = identity, compress
        result = self._left.pop(key, b"")
        if data:
            stream = self._streams.get(identity)
            if stream is None:
                stream = self._streams[identity] = Stream()
            result += stream.deflate(data) if compress else stream.inflate(data)
        if len(result) >= most:  # exactly `most`, too: the engine asks again then
            self._left[key] = result[most:]
        return result[:most]

    def close(self, identity: int) -> None:
        self._streams.pop(identity, None)
        self._left.pop((identity, True), None)
        self._left.pop((identity, False), None)
