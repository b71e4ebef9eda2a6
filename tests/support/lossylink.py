# SPDX-License-Identifier: MIT
"""A bad network for tests: a seeded UDP relay on loopback, a process of its own (lossylink*.c, compiled at first use).

    with LossyLink(("127.0.0.1", server_port), seed=7, delay_ms=20, loss=0.1, down={"loss": 0.3}) as link:
        client.connect(link.address)
        ...
        print(link.stats()["up"]["lost"])

Knows nothing of sockets or subprocess, only of pipes and `posix`, the module under `os`: thus gevent's monkey-patching
and a replaced sys.modules["socket"] leave it alone.

The same between two network namespaces, for any program and for the kernel's TCP: tunlink.py.

By hand: python -m tests.support.lossylink --target 127.0.0.1:4000 --loss 0.1
"""

from __future__ import annotations

import hashlib
import json
import os
import posix
import shlex
import shutil
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["Link", "LossyLink", "LossyLinkError", "binary"]

HERE = Path(__file__).parent
SOURCES = sorted(HERE.glob("lossylink*.c"))
HEADERS = sorted(HERE.glob("lossylink*.h"))
BUILD_DIR = HERE.parents[1] / "build"
CFLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra")
COMMAND_BYTES_MAX = 4000  # lossylink.c's line buffer holds 4096

if TYPE_CHECKING:
    Value = float | tuple[float, float, float] | None
    Self = TypeVar("Self", bound="Link")

_build_lock = threading.Lock()


class LossyLinkError(RuntimeError):
    """The link cannot be built, refuses a setting, or is gone."""


class Link:
    """A running link, whatever its face. Its impairments, of both directions:

    seed            of all random decisions; packet n of those that leave a direction's bottleneck has the same fate in
                    each run
    delay_ms        one way
    jitter_ms       more delay, uniform in 0..jitter_ms per packet; keeps the order, so that in dense traffic it comes
                    close to a constant
    jitter_reorders True: packets overtake each other by jitter, as under netem
    loss            probability, 0..1
    burst_loss      Gilbert-Elliott: (enter, leave, loss): probabilities per packet to get into the bad state, to get
                    out of it, and of loss while in it; None: off
    dup             probability of a second copy
    reorder         probability of being held back for reorder_ms on top, while later packets pass
    rate_mbit       Mbit/s of IP packets, heads included; 0: no limit
    queue_kib       of IP packets that wait for the rate limit, the one being sent included; more are dropped
    path_mtu        longer IP packets vanish without a word; 0: none does
    path_mtu_told   True: their sender is told, by ICMP; of TUN devices only
    up, down        other values for one direction, keyed as above: {"loss": 0.1}; up is to the target, or to `far`

    Of the whole:

    slots           packets under way per direction; more are dropped (pool_dropped)
    packet_bytes    longest payload passed on
    slack_us        due packets may leave this much later, in one batch; saves CPU where delays are long
    sample_ms       counts and queues are noted so often, for samples(); 0: never
    hurry           it runs before everyone else on its CPU, where it may
    """

    def __init__(
        self,
        face: Sequence[str],
        *,
        seed: int = 1,
        delay_ms: float = 0,
        jitter_ms: float = 0,
        jitter_reorders: bool = False,
        loss: float = 0,
        burst_loss: tuple[float, float, float] | None = None,
        dup: float = 0,
        reorder: float = 0,
        reorder_ms: float = 10,
        rate_mbit: float = 0,
        queue_kib: float = 256,
        path_mtu: int = 0,
        path_mtu_told: bool = False,
        up: Mapping[str, Value] | None = None,
        down: Mapping[str, Value] | None = None,
        slots: int = 65536,
        packet_bytes: int = 2048,
        slack_us: int = 0,
        sample_ms: int = 0,
        hurry: bool = False,
    ) -> None:
        self.pid = 0  # first, for __del__
        both: dict[str, Value] = {
            "delay_ms": delay_ms, "jitter_ms": jitter_ms, "jitter_reorders": jitter_reorders, "loss": loss,
            "burst_loss": burst_loss, "dup": dup, "reorder": reorder, "reorder_ms": reorder_ms,
            "rate_mbit": rate_mbit, "queue_kib": queue_kib, "path_mtu": path_mtu,
            "path_mtu_told": path_mtu_told,
        }  # fmt: skip
        argv = [str(binary()), *face, "--seed", str(seed), "--slots", str(slots), "--packet-bytes", str(packet_bytes)]
        argv += ["--slack-us", str(slack_us), "--sample-ms", str(sample_ms), "--hurry", str(int(hurry))]
        for prefix, values in (("", both), ("up-", up or {}), ("down-", down or {})):
            for name, value in values.items():
                argv += [f"--{prefix}{_dashed(name)}", _text(value)]
        self._words = argv[1:]
        self._lock = threading.Lock()
        self._unread = b""
        self._final: dict[str, Any] | None = None
        self._owner = posix.getpid()
        self.pid, self._stdin, self._stdout = _spawn(argv)
        #: What it said when it was ready.
        self.ready = self._read_line()
        if self.ready.split()[:1] not in (["port"], ["ready"]):
            self._release()
            raise LossyLinkError(self.ready or "lossylink ended without a word")

    def stats(self) -> dict[str, Any]:
        """The counts so far, all packets sent to the link before this call included; after close(), the final ones.

        {"up": {...}, "down": {...}, "seed"}, of the relay "clients" and "evicted" too; per direction, in packets:
        received, lost (of it burst_lost), duplicated, reordered, queue_dropped, mtu_dropped, sent, held (under way
        now), blackholed, pool_dropped, oversize, orphaned (client evicted), send_failed, refused (the target's port is
        closed; those were sent), kernel_dropped (before the link saw them: the sender was too fast); received_bytes,
        sent_bytes, received_ip_bytes (with IP's heads); delay_us, the sum of the delays given; late_max_us, how late
        the link itself was at worst, and late_packets, that it sent more than 1 ms late.
        """
        if self._final is not None:
            return self._final
        return _counts(self._ask("stats"))

    def samples(self) -> dict[str, Any]:
        """{"from_ns": of CLOCK_MONOTONIC, the first sample's, "every_ns", "up": [...], "down": [...]}; a sample is
        [IP bytes in, IP bytes out, packets lost, packets dropped by the queue, all so far, and the queue's peak in
        bytes since the sample before].
        """
        return _counts(self._ask("samples"))

    def set(
        self, *, up: Mapping[str, Value] | None = None, down: Mapping[str, Value] | None = None, **both: Value
    ) -> None:
        """Changes settings, keyed as in the constructor, for packets sent to the link from now on."""
        for prefix, values in (("", both), ("up-", up or {}), ("down-", down or {})):
            for name, value in values.items():
                self._order(f"set {prefix}{_dashed(name)} {_text(value)}")

    def blackhole(self, on: bool, direction: str = "") -> None:
        """True: nothing comes out any more, what is under way included. `direction` is "up", "down", or "" for both."""
        self._order(f"blackhole {'on' if on else 'off'} {direction}")

    def close(self) -> dict[str, Any]:
        """Ends the process, waits for its end, and returns the final counts. Twice is fine."""
        if self._final is not None or not self.pid:
            return self._final or {}
        if self._owner != posix.getpid():  # a forked child: the link is its parent's, only the pipe ends are its own
            self.pid = 0
            posix.close(self._stdin)
            posix.close(self._stdout)
            return {}
        try:
            # Not by closing stdin alone: a forked child may hold a copy of our end.
            self._final = _counts(self._ask("quit"))
        finally:
            self._release()
        return self._final

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self.pid and self._owner == posix.getpid():
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.pid} {shlex.join(self._words)}>"

    def _order(self, line: str) -> None:
        answer = self._ask(line)
        if answer != "ok":
            raise LossyLinkError(answer)

    def _ask(self, line: str) -> str:
        words = line.encode() + b"\n"
        if len(words) > COMMAND_BYTES_MAX or words.count(b"\n") > 1:
            raise LossyLinkError(f"not a command: {line!r}")
        with self._lock:
            if not self.pid:
                raise LossyLinkError("the link is closed")
            try:
                posix.write(self._stdin, words)
            except BrokenPipeError:
                pass  # the answer tells what it said last
            answer = self._read_line()
        if not answer:
            raise LossyLinkError(f"{self!r} ended unasked")
        return answer

    def _read_line(self) -> str:
        while b"\n" not in self._unread:
            chunk = posix.read(self._stdout, 65536)
            if not chunk:
                break
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace")

    def _release(self) -> None:
        pid, self.pid = self.pid, 0
        posix.close(self._stdin)
        posix.close(self._stdout)
        _wait(pid)


class LossyLink(Link):
    """The relay. Clients send to `.address`; each client address has its own socket towards the target.

    target          (host, port), numeric; an IPv6 target makes an IPv6 link
    clients         client addresses at a time; a new one on top takes the place of the one idle longest
    buffer_bytes    of each of its sockets, each way; a burst that does not fit is kernel_dropped
    listen          where it does, numeric; "": on loopback
    """

    def __init__(
        self,
        target: tuple[Any, ...],
        *,
        clients: int = 4096,
        buffer_bytes: int = 4 << 20,
        listen: str = "",
        **settings: Any,
    ) -> None:
        host, port = target[:2]
        face = ["--target", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
        listen = listen or ("::1" if ":" in host else "127.0.0.1")
        face += ["--listen", f"[{listen}]:0" if ":" in listen else f"{listen}:0"]
        super().__init__([*face, "--clients", str(clients), "--buffer-bytes", str(buffer_bytes)], **settings)
        #: Where clients send to: (host, port).
        self.address: tuple[str, int] = (listen, int(self.ready.split()[1]))


def binary() -> Path:
    """The path of the compiled link. Compiles it, with $CC or cc, unless these sources were compiled by it before."""
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    text = b"".join(path.read_bytes() for path in [*SOURCES, *HEADERS])
    key = hashlib.sha256(repr((compiler, CFLAGS)).encode() + text).hexdigest()[:16]
    path = BUILD_DIR / f"lossylink-{key}"
    with _build_lock:
        if not path.exists():
            BUILD_DIR.mkdir(exist_ok=True)
            # Made beside its place and moved there whole: another process may be at the same.
            draft = path.with_name(f"{path.name}.{posix.getpid()}")
            compile_to(draft, compiler)
            draft.replace(path)
    return path


def compile_to(path: Path, compiler: Sequence[str], *flags: str) -> None:
    """Compiles lossylink*.c to `path`."""
    program = shutil.which(compiler[0])
    if program is None:
        raise LossyLinkError(
            f"cannot build {SOURCES[0]}: no C compiler ({compiler[0]!r} not found); install gcc or set CC"
        )
    argv = [program, *compiler[1:], *CFLAGS, *flags, "-o", str(path), *map(str, SOURCES)]
    pid, stdin, stdout = _spawn(argv)
    said = b""
    while chunk := posix.read(stdout, 65536):
        said += chunk
    posix.close(stdin)
    posix.close(stdout)
    _wait(pid)
    # The file, not the exit status: gevent's child watcher may have taken the status.
    if not path.exists():
        raise LossyLinkError(f"cannot build {SOURCES[0]}:\n{shlex.join(argv)}\n{said.decode(errors='replace')}")


def _spawn(argv: list[str]) -> tuple[int, int, int]:
    # Returns the pid, our end of its stdin, and of its stdout and stderr in one.
    child_in, our_out = posix.pipe()
    our_in, child_out = posix.pipe()
    actions = [
        (posix.POSIX_SPAWN_DUP2, child_in, 0),
        (posix.POSIX_SPAWN_DUP2, child_out, 1),
        (posix.POSIX_SPAWN_DUP2, child_out, 2),
    ]
    try:
        # A process group of its own: Ctrl-C in a terminal is for us, and we end the link.
        pid = posix.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setpgroup=0)
    except OSError as e:
        posix.close(our_out)
        posix.close(our_in)
        raise LossyLinkError(f"cannot start {argv[0]}: {e.strerror}") from e
    finally:
        posix.close(child_in)
        posix.close(child_out)
    return pid, our_out, our_in


def _wait(pid: int) -> None:
    try:
        posix.waitpid(pid, 0)
    except ChildProcessError:
        pass  # gevent's child watcher, or the program's SIGCHLD handler, was faster


def _counts(line: str) -> dict[str, Any]:
    try:
        counts: dict[str, Any] = json.loads(line)
    except ValueError:
        raise LossyLinkError(f"lossylink said: {line}") from None
    return counts


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _text(value: Value) -> str:
    if value is None:
        return "0,1,0"
    if isinstance(value, (tuple, list)):
        return ",".join(repr(float(v)) for v in value)
    return repr(float(value))


if __name__ == "__main__":
    os.execv(binary(), ["lossylink", *sys.argv[1:]])
