# SPDX-License-Identifier: MIT
"""Two ARQs and a bad network between them, in virtual time: no sockets, clock or threads; same seed, same run.

    a, b = End(profile()), End(profile(mtu_bytes=500))
    net = Network(a, b, seed=7, fates=[random_loss(0.1), reorder(0.2, 30)], delay_ms=20)
    a.outbox, b.outbox = Stream(data), Stream(other)
    net.run()            # until all is delivered and acknowledged; else Stalled, with the fate of the latest packets

A fate is a function (network, packet, delays) -> delays: `delays` holds the ms of each copy that arrives; none: lost.
Knows tests.support.bare only.
"""

from __future__ import annotations

import errno
import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.support.bare import ffi, lib

WRAP = 1 << 32
HEAD = 24
CMDS = {81: "PUSH", 82: "ACK", 83: "WASK", 84: "WINS"}
PROFILE = {
    "framing": 0, "smux_version": 2, "sockbuf_bytes": 1, "nodelay": 1, "interval_ms": 20, "resend": 2, "nc": 1,
    "sndwnd_pkts": 128, "rcvwnd_pkts": 128, "mtu_bytes": 1400, "stream": 1, "ack_nodelay": 0, "write_delay": 0,
    "keepalive_timeout_ms": 30000, "max_streams": 1, "max_half_open": 1,
}  # fmt: skip


def profile(**changes: int) -> dict[str, int]:
    return {**PROFILE, **changes}


class Stalled(AssertionError):
    """Nothing is due and not all has arrived; or it took longer than allowed."""


class Packet(NamedTuple):
    number: int
    at_ms: int  # since the run began
    from_end: int
    data: bytes

    def describe(self) -> str:
        segments, rest = [], self.data
        while len(rest) >= HEAD:
            wnd, ts, sn, una, length = (
                int.from_bytes(rest[i : i + n], "little") for i, n in ((6, 2), (8, 4), (12, 4), (16, 4), (20, 4))
            )
            segments.append(f"{CMDS.get(rest[4], rest[4])} sn={sn:x} ts={ts:x} una={una:x} wnd={wnd} len={length}")
            rest = rest[HEAD + length :]
        more = f" and {len(segments) - 4} more" if len(segments) > 4 else ""
        return f"{self.at_ms:7} ms  {'ab'[self.from_end]} #{self.number}: " + "; ".join(segments[:4]) + more


class Stream:
    """What an end sends: bytes, in writes of at most `write_bytes`. The receiver checks each byte as it comes."""

    def __init__(self, data: bytes = b"", write_bytes: int = 1 << 16) -> None:
        self.data, self.write_bytes = data, write_bytes
        self.sent = self.arrived = 0

    def offer(self) -> bytes | None:
        return self.data[self.sent : self.sent + self.write_bytes] if self.sent < len(self.data) else None

    def took(self, size: int) -> None:
        self.sent += size

    def arrive(self, got: bytes) -> None:
        expected = self.data[self.arrived : self.arrived + len(got)]
        assert got == expected, f"wrong bytes after {self.arrived}"
        self.arrived += len(got)

    @property
    def done(self) -> bool:
        return self.sent == self.arrived == len(self.data)


class Messages:
    """The same in message mode: each arrives whole, once and in order."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self.messages = messages
        self.sent = self.arrived = 0

    def offer(self) -> bytes | None:
        return self.messages[self.sent] if self.sent < len(self.messages) else None

    def took(self, size: int) -> None:
        assert size == len(self.messages[self.sent])
        self.sent += 1

    def arrive(self, got: bytes) -> None:
        assert got == self.messages[self.arrived], f"wrong message number {self.arrived}"
        self.arrived += 1

    @property
    def done(self) -> bool:
        return self.sent == self.arrived == len(self.messages)


class End:
    """One ARQ and its application. now_ms is any integer: the ARQ sees its low 32 bits."""

    def __init__(self, settings: dict[str, int], conv: int = 0x1234, first_sn: int = 0) -> None:
        self.settings = settings
        self.handle = lib.ks_arq_open(conv, ffi.new("ks_profile *", settings), first_sn)
        assert self.handle >= 0, self.handle
        self.outbox: Stream | Messages = Stream()
        self.paused = False  # does not read
        self._buffer = ffi.new("uint8_t[]", 1 << 19)

    def close(self) -> None:
        if self.handle >= 0:
            assert lib.ks_arq_close(self.handle) == 0
            self.handle = -1

    def write(self) -> None:
        while (data := self.outbox.offer()) is not None:
            taken = lib.ks_arq_send(self.handle, data, len(data))
            if taken == -errno.EAGAIN:
                return
            assert taken >= 0, taken
            self.outbox.took(taken)

    def read(self) -> list[bytes]:
        got: list[bytes] = []
        while not self.paused:
            size = lib.ks_arq_recv(self.handle, self._buffer, len(self._buffer))
            if size == -errno.EAGAIN:
                break
            assert size >= 0, size
            got.append(bytes(ffi.buffer(self._buffer, size)))
        return got

    def input(self, packet: bytes, now_ms: int) -> None:
        assert lib.ks_arq_input(self.handle, packet, len(packet), now_ms % WRAP) == 0

    def next(self, now_ms: int) -> int | None:
        wait = lib.ks_arq_next(self.handle, now_ms % WRAP)
        return None if wait < 0 else wait

    def flush(self, now_ms: int, force: bool = False) -> list[bytes]:
        made = lib.ks_arq_flush(self.handle, now_ms % WRAP, force)
        packets = []
        while (size := lib.ks_arq_output(self.handle, self._buffer, len(self._buffer))) != 0:
            assert HEAD <= size <= self.settings["mtu_bytes"], size
            packets.append(bytes(ffi.buffer(self._buffer, size)))
        assert len(packets) == made
        return packets

    def info(self):
        info = ffi.new("ks_info *")
        assert lib.ks_arq_info(self.handle, info) == 0
        return info

    @property
    def unacked(self) -> int:
        info = self.info()
        return info.in_flight_pkts + info.queued_pkts

    @property
    def dead(self) -> bool:
        return lib.ks_arq_is_dead(self.handle) == 1


Fate = Callable[["Network", Packet, list], list]


class Network:
    """Carries packets between ends a and b. Any object with End's methods can be one: tests/interop brings a peer."""

    def __init__(
        self, a, b, *, seed: int = 1, fates: Sequence[Fate] = (), delay_ms: int = 20, start_ms: int = 0
    ) -> None:
        self.ends = (a, b)
        self.random = random.Random(seed)
        self.seed, self.fates, self.delay_ms = seed, fates, delay_ms
        self.start_ms = self.now_ms = start_ms
        self.packets = self.lost = 0
        self._in_flight: list[tuple[int, int, Packet]] = []
        self._copies = 0
        self._log: deque[tuple[Packet, str]] = deque(maxlen=200)

    @property
    def elapsed_ms(self) -> int:
        return self.now_ms - self.start_ms

    def run(self, limit_ms: int = 4 * 3600 * 1000) -> None:
        """Until both ends have everything, or Stalled."""
        try:
            self.run_until(lambda: self.finished, limit_ms)
        except AssertionError as failure:
            raise type(failure)(f"{failure}\n{self.history()}") from None

    def run_until(self, condition: Callable[[], bool], limit_ms: int) -> None:
        limit = self.now_ms + limit_ms
        self._turn()
        while not condition():
            due = self._next_event()
            if due is None:
                raise Stalled("nothing is due, and not all has arrived")
            if due > limit:
                raise Stalled(f"not done after {limit_ms} ms")
            self.now_ms = due
            self._deliver()
            self._turn()

    def run_for(self, ms: int) -> None:
        until = self.now_ms + ms
        self._turn()
        while (due := self._next_event()) is not None and due <= until:
            self.now_ms = due
            self._deliver()
            self._turn()
        self.now_ms = until

    @property
    def finished(self) -> bool:
        return all(end.outbox.done for end in self.ends) and not any(end.unacked for end in self.ends)

    def history(self) -> str:
        lines = [f"{packet.describe()}  -> {fate}" for packet, fate in self._log]
        for name, end in zip("ab", self.ends):
            lines.append(f"{name}: {end.outbox.arrived} arrived here, {end.unacked} unacked")
        lines.append(f"seed {self.seed}, at {self.elapsed_ms} ms, {self.packets} packets, {self.lost} lost")
        return "\n".join(lines)

    def _next_event(self) -> int | None:
        waits = [end.next(self.now_ms) for end in self.ends]
        times = [self.now_ms + wait for wait in waits if wait is not None]
        if self._in_flight:
            times.append(max(self.now_ms, self._in_flight[0][0]))
        return min(times, default=None)

    def _deliver(self) -> None:
        while self._in_flight and self._in_flight[0][0] <= self.now_ms:
            packet = heapq.heappop(self._in_flight)[2]
            self.ends[1 - packet.from_end].input(packet.data, self.now_ms)

    def _turn(self) -> None:
        for i, end in enumerate(self.ends):
            for got in end.read():
                self.ends[1 - i].outbox.arrive(got)
            end.write()
            if end.next(self.now_ms) == 0:
                for data in end.flush(self.now_ms):
                    self._send(Packet(self.packets, self.elapsed_ms, i, data))
                assert end.next(self.now_ms) != 0, "still due after its flush: this would spin"

    def _send(self, packet: Packet) -> None:
        self.packets += 1
        delays = [self.delay_ms]
        for fate in self.fates:
            delays = fate(self, packet, delays)
        self.lost += not delays
        for delay in delays:
            self._copies += 1
            heapq.heappush(self._in_flight, (self.now_ms + delay, self._copies, packet))
        self._log.append((packet, " and ".join(f"+{delay} ms" for delay in delays) or "lost"))


# ---- fates ----


def random_loss(probability: float, from_ends: Sequence[int] = (0, 1)) -> Fate:
    def fate(net, packet, delays):
        return [] if packet.from_end in from_ends and net.random.random() < probability else delays

    return fate


def every_nth_lost(n: int) -> Fate:
    return lambda net, packet, delays: [] if packet.number % n == n - 1 else delays


def repeated(probability: float, spread_ms: int = 0) -> Fate:
    def fate(net, packet, delays):
        if delays and net.random.random() < probability:
            return [*delays, delays[0] + net.random.randint(0, spread_ms)]
        return delays

    return fate


def reordered(probability: float, most_ms: int) -> Fate:
    def fate(net, packet, delays):
        return [d + net.random.randint(0, most_ms) if net.random.random() < probability else d for d in delays]

    return fate


def blackout(start_ms: int, end_ms: int, from_ends: Sequence[int] = (0, 1)) -> Fate:
    def fate(net, packet, delays):
        return [] if packet.from_end in from_ends and start_ms <= packet.at_ms < end_ms else delays

    return fate


def bursty_loss(enter: float, leave: float, loss: float) -> Fate:
    """Gilbert and Elliott: a state per direction that is entered and left by chance, per packet, and loses much."""
    bad = [False, False]

    def fate(net, packet, delays):
        i = packet.from_end
        bad[i] = net.random.random() >= leave if bad[i] else net.random.random() < enter
        return [] if bad[i] and net.random.random() < loss else delays

    return fate


def bottleneck(bytes_per_ms: int) -> Fate:
    """Packets leave one after the other, per direction, as fast as this. Put it behind the fates that lose."""
    free_ms = [0.0, 0.0]

    def fate(net, packet, delays):
        i, late = packet.from_end, []
        for delay in delays:
            free_ms[i] = max(free_ms[i], packet.at_ms) + len(packet.data) / bytes_per_ms
            late.append(delay + int(free_ms[i]) - packet.at_ms)
        return late

    return fate
