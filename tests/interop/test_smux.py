# SPDX-License-Identifier: MIT
"""Against smux of Go over kcp-go: many streams, half-close, keepalive, windows, and what a Go peer makes of kcpsock's
three additions. All for versions 1 and 2.

What smux 1.5.58 does, and these tests hold fast:

- A half-close works both ways. The reader gets EOF, also for a stream whose other end closed altogether: smux has one
  frame, FIN, for both.
- So a writer doesn't learn that nobody will read. With version 1 its data is dropped at the other end; with version 2
  it stops when the window is used up, until the session ends. Go against Go does the same.
- A session that is closed says nothing: the other end's keepalive timeout ends it.
- What smux does not expect (a second FIN, a FIN on stream 0 or on an unknown stream) it drops.
"""

import contextlib
import errno
import hashlib
import socket as stdlib
import struct
import time

import pytest

import kcpsock
from tests.engine.process import Peer
from tests.support.go_peer import GoError

from . import ends
from .ends import MIB

SYN, FIN, PSH, NOP = range(4)
SHORT_S = 0.3  # a timeout that is meant to pass
WINDOW_BYTES = 262144  # what a writer may send before it has heard of the reader's window
STREAMS = 100

every_version = pytest.mark.parametrize("version", [1, 2], ids=["v1", "v2"])
every_opener = pytest.mark.parametrize("opener", ["go", "kcpsock"])


@contextlib.contextmanager
def opened(go, version, opener="go", profile=None, keepalive=None, loss=0.0):
    """A session with one stream. Yields our socket, Go's stream, Go's session, and what opens one more stream."""
    profile = profile or ends.profile(smux_version=version)
    settings = {"version": version, **(keepalive or {})}
    with contextlib.ExitStack() as stack:
        if opener == "go":
            listener = stack.enter_context(ends.listen(profile))
            address = stack.enter_context(ends.link_to(listener.getsockname()[1], loss))
            session = go.session(conn=go.dial(addr=ends.text(address)), **settings)

            def more():
                stream = go.open(session=session)
                return stack.enter_context(ends.accept(listener)), stream

            sock, stream = more()
        else:
            listener = go.listen()
            address = stack.enter_context(ends.link_to(listener["port"], loss))
            sock = stack.enter_context(ends.connect(address, profile))
            conn = go.accept(listener=listener["listener"])
            session = go.session(conn=conn, server=True, **settings)
            stream, more = go.accept_stream(session=session), None
        yield sock, stream, session, more


def check_alive(go, sock, stream, seed=99):
    """256 KiB go there and back."""
    size = MIB // 4
    exchanged = go.start("exchange", conn=stream, bytes=size, seed=seed)
    ends.echo(sock, size)
    result = exchanged.result()
    assert result["received"]["sha256"] == result["sent"]["sha256"], result


def reset(sock):
    sock.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- many streams -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0, 0.1], ids=["", "lossy"])
@every_version
def test_hundred_streams_of_one_go_session(go, version, loss):
    size = 50_000
    with opened(go, version, loss=loss) as (sock, stream, session, more):
        socks, streams = [sock], [stream]
        for _ in range(STREAMS - 1):
            sock, stream = more()
            socks.append(sock)
            streams.append(stream)
        assert {sock.kcp_info().conv for sock in socks} == {socks[0].kcp_info().conv}
        assert socks[0].kcp_info().streams == go.streams(session=session) == STREAMS
        echoes = [ends.Task(ends.echo, sock, size) for sock in socks]
        exchanges = [go.start("exchange", conn=stream, bytes=size, seed=seed) for seed, stream in enumerate(streams)]
        found = [exchange.result() for exchange in exchanges]
        assert all(one["received"]["sha256"] == one["sent"]["sha256"] for one in found)
        # Each socket is one stream, in the order of opening.
        assert [echo.result()[1] for echo in echoes] == [one["sent"]["sha256"] for one in found]
        for stream in streams:
            go.close(number=stream)
        assert [sock.recv(1) for sock in socks] == [b""] * STREAMS


@every_version
def test_hundred_connections_to_go(go, version):
    """Each is a session of its own."""
    listener, profile = go.listen(), ends.profile(smux_version=version)
    with contextlib.ExitStack() as stack:
        socks, streams = [], []
        for _ in range(STREAMS):
            socks.append(stack.enter_context(ends.connect(("127.0.0.1", listener["port"]), profile)))
            conn = go.accept(listener=listener["listener"], peer_port=socks[-1].getsockname()[1])
            session = go.session(conn=conn, server=True, version=version)
            streams.append(go.accept_stream(session=session))
        assert len({sock.kcp_info().conv for sock in socks}) == STREAMS
        echoes = [go.start("echo", conn=stream) for stream in streams]
        data = [ends.noise(number, 50_000) for number in range(STREAMS)]
        exchanges = [ends.Task(ends.exchange, sock, part) for sock, part in zip(socks, data)]
        assert [exchange.result() for exchange in exchanges] == data
        for sock in socks:
            sock.shutdown(stdlib.SHUT_WR)
        found = [echo.result() for echo in echoes]
        assert [one["error"] for one in found] == ["EOF"] * STREAMS
        assert [one["sha256"] for one in found] == [ends.digest(part) for part in data]


@every_version
def test_streams_of_a_go_session_are_limited(go, version):
    """Those beyond max_streams read EOF at Go, whose smux has no reset; one that has ended makes room."""
    profile = ends.profile(smux_version=version, max_streams=3)
    before = kcpsock.stats()
    with opened(go, version, profile=profile) as (sock, stream, session, more):
        pairs = [(sock, stream), more(), more()]
        for _ in range(2):
            refused = go.open(session=session)
            assert go.receive(conn=refused)["error"] == "EOF"
            go.close(number=refused)
        assert kcpsock.stats()["StreamDrops"] - before["StreamDrops"] == 2
        assert kcpsock.stats()["ResetsSent"] - before["ResetsSent"] >= 2
        for pair in pairs:
            check_alive(go, *pair)
        go.close(number=stream)
        assert sock.recv(1) == b""
        sock.close()
        ends.eventually(lambda: pairs[1][0].kcp_info().streams == 2)
        check_alive(go, *more())
        assert go.receive(conn=go.open(session=session))["error"] == "EOF"
        assert pairs[1][0].kcp_info().streams == 3


@every_version
def test_go_answers_a_cookie(go, version):
    """At a listener that keeps nothing of a stranger: the SYN comes again by its timeout beside the cookie's answer."""
    before = kcpsock.stats()
    with opened(go, version, profile=ends.profile(smux_version=version, max_half_open=0)) as (sock, stream, _, more):
        assert kcpsock.stats()["CookiesSent"] > before["CookiesSent"]
        check_alive(go, sock, stream)
        check_alive(go, *more())


# --- the end of a stream ----------------------------------------------------------------------------------------------


@every_opener
@every_version
def test_half_close_by_go(go, version, opener):
    with opened(go, version, opener) as (sock, stream, session, _):
        sent = go.send(conn=stream, bytes=100_000, seed=1)
        go.close_write(conn=stream)
        assert ends.digest(ends.read_all(sock)) == sent["sha256"]
        received = go.start("receive", conn=stream)
        data = ends.noise(2, MIB)
        sock.sendall(data)
        sock.shutdown(stdlib.SHUT_WR)
        result = received.result()
        assert (result["error"], result["sha256"]) == ("EOF", ends.digest(data))
        # smux wakes the reader first, and takes the stream off its list then.
        ends.eventually(lambda: go.streams(session=session) == 0)


@every_opener
@every_version
def test_half_close_by_kcpsock(go, version, opener):
    with opened(go, version, opener) as (sock, stream, session, _):
        data = ends.noise(3, 100_000)
        sock.sendall(data)
        sock.shutdown(stdlib.SHUT_WR)
        result = go.receive(conn=stream)
        assert (result["error"], result["sha256"]) == ("EOF", ends.digest(data))
        sent = go.start("send", conn=stream, bytes=MIB, seed=3)
        assert ends.digest(ends.read_exactly(sock, MIB)) == sent.result()["sha256"]
        go.close_write(conn=stream)
        assert sock.recv(1) == b""
        assert go.streams(session=session) == 0


@every_version
def test_whole_stream_closed_by_go(go, version):
    """We read the end, as of a half-close, and don't learn that nobody reads."""
    with opened(go, version) as (sock, stream, _, more):
        go.close(number=stream)
        assert sock.recv(1) == b""
        if version == 1:
            sock.sendall(bytes(4 * WINDOW_BYTES))
        else:
            sock.settimeout(SHORT_S)
            with pytest.raises(stdlib.timeout):
                sock.sendall(bytes(100 * WINDOW_BYTES))
        check_alive(go, *more())


@every_version
def test_socket_closed_while_go_writes(go, version):
    with opened(go, version) as (sock, stream, _, more):
        sending = go.start("send", conn=stream, bytes=64 * MIB, seed=1)
        ends.read_exactly(sock, MIB)
        sock.close()
        assert go.receive(conn=stream)["error"] == "EOF"
        check_alive(go, *more())
        go.close(number=stream)
        assert sending.result()["error"] == "io: read/write on closed pipe"
        check_alive(go, *more())


@every_opener
@every_version
def test_session_closed_by_go_ends_by_keepalive(go, version, opener):
    profile = ends.profile(smux_version=version, keepalive=0.2, keepalive_timeout=1)
    with opened(go, version, opener, profile=profile) as (sock, _, session, _):
        go.close(number=session)
        with pytest.raises(OSError) as failed:
            sock.recv(1)
        assert failed.value.errno in (errno.ETIMEDOUT, errno.ECONNRESET)


# --- keepalive --------------------------------------------------------------------------------------------------------

# smux takes a stop of its machine for the peer's silence, so that the timeout has to be longer than one.
KEEPALIVE_S, TIMEOUT_S = 0.1, 3.0


@every_opener
@every_version
def test_keepalive_holds_an_idle_session_and_silence_ends_it(go, version, opener):
    keepalive = {"keepalive": KEEPALIVE_S, "timeout": TIMEOUT_S}
    profile = ends.profile(smux_version=version, keepalive=KEEPALIVE_S, keepalive_timeout=TIMEOUT_S)
    with contextlib.ExitStack() as stack:
        if opener == "go":
            listener = stack.enter_context(ends.listen(profile))
            link = stack.enter_context(ends.LossyLink(listener.getsockname()))
            session = go.session(conn=go.dial(addr=ends.text(link.address)), version=version, **keepalive)
            stream = go.open(session=session)
            sock = stack.enter_context(ends.accept(listener))
        else:
            listener = go.listen()
            link = stack.enter_context(ends.LossyLink(("127.0.0.1", listener["port"])))
            sock = stack.enter_context(ends.connect(link.address, profile))
            conn = go.accept(listener=listener["listener"])
            session = go.session(conn=conn, server=True, version=version, **keepalive)
            stream = go.accept_stream(session=session)
        # So many packets take longer than the timeout; no application wrote one of them.
        enough = 3 * TIMEOUT_S / KEEPALIVE_S
        ends.eventually(lambda: min(link.stats()[way]["received"] for way in ("up", "down")) > enough)
        check_alive(go, sock, stream)
        link.blackhole(True)
        with pytest.raises(OSError) as failed:
            sock.recv(1)
        assert failed.value.errno == errno.ETIMEDOUT
        assert go.session_end(session=session, seconds=ends.PATIENCE_S)
        assert go.receive(conn=stream)["error"] == "io: read/write on closed pipe"


def test_go_without_keepalive_stays_connected(go):
    """smux lets a peer be silent; that it acknowledges ours is enough."""
    profile = ends.profile(keepalive=KEEPALIVE_S, keepalive_timeout=TIMEOUT_S)
    with ends.listen(profile) as listener, ends.LossyLink(listener.getsockname()) as link:
        session = go.session(conn=go.dial(addr=ends.text(link.address)), version=2, keepalive=0)
        stream = go.open(session=session)
        with ends.accept(listener) as sock:
            enough = 3 * TIMEOUT_S / KEEPALIVE_S
            ends.eventually(lambda: link.stats()["down"]["received"] > enough)
            check_alive(go, sock, stream)


def test_new_session_of_a_go_listener_is_no_sign_of_life(go):
    """Go closes a session, its listener begins a new one with our next packet, and acknowledges ours as if of that one:
    200 s of keepalives fit its window."""
    listener = go.listen(rcvwnd=1024)
    with ends.connect(("127.0.0.1", listener["port"]), ends.profile(keepalive=0.2, keepalive_timeout=1)) as sock:
        conn = go.accept(listener=listener["listener"])
        session = go.session(conn=conn, server=True, version=2)
        stream = go.accept_stream(session=session)
        check_alive(go, sock, stream)
        go.close(number=session)
        another = go.start("accept", listener=listener["listener"])
        with pytest.raises(OSError) as failed:
            sock.recv(1)
        assert failed.value.errno == errno.ETIMEDOUT
        another.result()


@every_version
def test_other_version_is_a_protocol_error(go, version):
    """KCP connects, smux doesn't understand: Go accepts nothing, and we hear no keepalives."""
    profile = ends.profile(smux_version=3 - version, keepalive=0.2, keepalive_timeout=1)
    listener = go.listen()
    with ends.connect(("127.0.0.1", listener["port"]), profile) as sock:
        conn = go.accept(listener=listener["listener"])
        session = go.session(conn=conn, server=True, version=version, keepalive=0.2, timeout=1)
        with pytest.raises(GoError, match="invalid protocol"):
            go.accept_stream(session=session)
        with pytest.raises(OSError) as failed:
            sock.recv(1)
        print(failed.value)
        assert failed.value.errno in (errno.ETIMEDOUT, errno.ECONNRESET)


# --- windows ----------------------------------------------------------------------------------------------------------

LONG = 64 * MIB


def stalled(progress):
    """Waits until progress() doesn't grow any more; gives its value."""
    last, same = -1, 0
    while same < 20:
        now = progress()
        same = same + 1 if now == last else 0
        last = now
        time.sleep(0.01)
    return last


@every_version
def test_go_waits_for_a_slow_reader(go, version):
    with opened(go, version) as (sock, stream, _, more):
        sent = go.start("send", conn=stream, bytes=LONG, seed=5)
        held = stalled(lambda: go.sent(conn=stream))
        assert 0 < held < LONG // 2 and not sent.done()
        if version == 2:  # a stream that nobody reads does not hold the others up
            check_alive(go, *more())
        found, total = hashlib.sha256(), 0
        while total < LONG:
            data = sock.recv(1 << 17)
            total += len(data)
            found.update(data)
            time.sleep(0.001)  # slow
        assert found.hexdigest() == sent.result()["sha256"]


@every_version
def test_kcpsock_waits_for_a_slow_reader(go, version):
    data = ends.noise(6, LONG)
    with opened(go, version, "kcpsock") as (sock, stream, _, _):
        sock.setblocking(False)
        taken = 0

        def fill():
            nonlocal taken
            with contextlib.suppress(BlockingIOError):
                while taken < LONG:
                    taken += sock.send(memoryview(data)[taken : taken + MIB])
            return taken

        assert 0 < stalled(fill) < LONG // 2
        received = go.start("receive", conn=stream, bytes=LONG, pause_us=200)
        sock.settimeout(ends.PATIENCE_S)
        sock.sendall(memoryview(data)[taken:])
        assert received.result()["sha256"] == ends.digest(data)


# --- kcpsock's additions to smux --------------------------------------------------------------------------------------


@every_version
def test_go_takes_a_reset_for_the_end(go, version):
    """The first FIN is the end of the stream, the second is dropped. Other streams live on."""
    with opened(go, version) as (sock, stream, session, more):
        others = more()
        sock.sendall(b"last words")
        reset(sock)
        result = go.receive(conn=stream)
        assert result["error"] == "EOF"
        check_alive(go, *others)
        check_alive(go, *more())
        assert not go.session_end(session=session, seconds=0)


@every_version
def test_go_drops_a_farewell(go, version):
    """Our client closes: Go's stream ends, its session by the keepalive timeout."""
    keepalive = {"keepalive": KEEPALIVE_S, "timeout": TIMEOUT_S}
    with opened(go, version, "kcpsock", keepalive=keepalive) as (sock, stream, session, _):
        sock.close()
        assert go.receive(conn=stream)["error"] == "EOF"
        go.close(number=stream)  # now we say farewell
        assert go.session_end(session=session, seconds=ends.PATIENCE_S)


@every_version
def test_go_drops_frames_of_ours_that_smux_does_not_have(go, version):
    """The same by hand, in a session with streams that go on."""

    def frame(command, stream, data=b""):
        return struct.pack("<BBHI", version, command, len(data), stream) + data

    listener = go.listen()
    with ends.connect(("127.0.0.1", listener["port"]), ends.profile(framing="raw")) as sock:
        sock.sendall(frame(SYN, 1) + frame(SYN, 3) + frame(PSH, 1, b"one") + frame(PSH, 3, b"three"))
        conn = go.accept(listener=listener["listener"])
        session = go.session(conn=conn, server=True, version=version)
        one, three = go.accept_stream(session=session), go.accept_stream(session=session)
        sock.sendall(frame(FIN, 1) + frame(FIN, 1) + frame(FIN, 0) + frame(FIN, 77) + frame(FIN, 1))
        result = go.receive(conn=one)
        assert (result["error"], result["sha256"]) == ("EOF", ends.digest(b"one"))
        sock.sendall(frame(PSH, 3, b" and more") + frame(FIN, 3))
        result = go.receive(conn=three)
        assert (result["error"], result["sha256"]) == ("EOF", ends.digest(b"three and more"))
        assert not go.session_end(session=session, seconds=0)
        go.send(conn=three, bytes=5, seed=1)
        # Go's frames: with version 2 its windows are among them.
        got = b""
        while True:
            head = ends.read_exactly(sock, 8)
            _, command, size, stream = struct.unpack("<BBHI", head)
            got = ends.read_exactly(sock, size)
            if command == PSH:
                break
        assert (stream, len(got)) == (3, 5)


@every_version
def test_go_and_the_refusal_of_a_server_that_started_anew(go, version):
    """A Go client whose server is gone: refusals are no news to its smux, so its keepalive timeout ends the session.
    The new server has no connection of it, and takes new ones."""
    servers = [Peer(), Peer()]
    old, new = servers
    try:
        for server in servers:
            server.profile(smux_version=version)
        port = old.listen("server")
        session = go.session(
            conn=go.dial(addr=f"127.0.0.1:{port}"), version=version, keepalive=KEEPALIVE_S, timeout=TIMEOUT_S
        )
        stream = go.open(session=session)
        old.accept("conn", "server")
        exchanged = go.start("exchange", conn=stream, bytes=1000, seed=1)
        assert old.exchange("conn", 1, 1000, "raw")[0] == exchanged.result()["received"]["bytes"] == 1000
        received = go.start("receive", conn=stream)
        old.kill()
        new.listen("server", port=port)
        heard = go.snmp()["InPkts"]
        assert go.session_end(session=session, seconds=ends.PATIENCE_S)
        assert received.result()["error"] == "io: read/write on closed pipe"
        assert go.snmp()["InPkts"] > heard  # refusals
        assert new.counts()["PassiveOpens"] == 0
        again = go.session(conn=go.dial(addr=f"127.0.0.1:{port}"), version=version)
        stream = go.open(session=again)
        new.accept("conn", "server")
        exchanged = go.start("exchange", conn=stream, bytes=1000, seed=1)
        assert new.exchange("conn", 1, 1000, "raw")[0] == 1000
        assert exchanged.result()["received"]["bytes"] == 1000
    finally:
        for server in servers:
            server.kill()
