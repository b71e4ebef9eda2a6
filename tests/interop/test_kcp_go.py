# SPDX-License-Identifier: MIT
"""Against kcp-go itself, bare sessions: each packet crypt, with FEC and without, either end the client, without loss
and with 10 % each way; message mode; out-of-band packets; an FEC code that differs from ours; wrong keys.

The Go peer talks to itself first: where that fails, the peer or the machine is to blame, not kcpsock.
"""

import base64
import contextlib
import errno
import random
import socket as stdlib
import threading
import time

import pytest

import kcpsock
from tests.support.lossylink import LossyLink
from tests.support.nat import Nat

from . import ends
from .ends import MIB

CRYPTS = (
    "null", "none", "aes", "aes-128", "aes-192", "salsa20", "blowfish", "twofish", "cast5", "3des", "tea", "xtea",
    "xor", "sm4", "aes-128-gcm", "aes-256-gcm", "chacha20-poly1305",
)  # fmt: skip
FEC_OFF, FEC_10_3, FEC_2_1 = None, (10, 3), (2, 1)
LOSS = 0.1
SLOW = ("3des",)  # 1 MiB instead of 4: both ends together manage some 5 MB/s of echo


def size_for(crypt):
    return MIB if crypt in SLOW else 4 * MIB


every_crypt = pytest.mark.parametrize("crypt", CRYPTS)
every_fec = pytest.mark.parametrize("fec", [FEC_OFF, FEC_10_3, FEC_2_1], ids=["fec-off", "fec-10-3", "fec-2-1"])
every_loss = pytest.mark.parametrize("loss", [0, LOSS], ids=["", "lossy"])


@every_crypt
def test_go_peer_understands_itself(go, crypt):
    same = ends.settings(crypt, fec=FEC_10_3)
    listener = go.listen(**same)
    exchanged = go.start("exchange", conn=go.dial(addr=f"127.0.0.1:{listener['port']}", **same), bytes=MIB, seed=1)
    echoed = go.echo(conn=go.accept(listener=listener["listener"]), bytes=MIB)
    result = exchanged.result()
    assert result["received"]["sha256"] == result["sent"]["sha256"] == echoed["sha256"]


@every_loss
@every_fec
@every_crypt
def test_client_of_kcp_go(go, crypt, fec, loss):
    data = ends.noise(1, size_for(crypt))
    listener = go.listen(**ends.settings(crypt, fec=fec))
    with ends.link_to(listener["port"], loss) as address:
        with ends.connect(address, ends.profile(crypt, fec=fec, framing="raw")) as sock:
            got = ends.Task(ends.exchange, sock, data)
            echoed = go.echo(conn=go.accept(listener=listener["listener"]), bytes=len(data))
            assert echoed["sha256"] == ends.digest(data)
            assert got.result() == data
            assert not (loss and fec) or sock.kcp_info().fec_recovered > 0


@every_loss
@every_fec
@every_crypt
def test_server_of_kcp_go(go, crypt, fec, loss):
    size = size_for(crypt)
    with ends.listen(ends.profile(crypt, fec=fec, framing="raw")) as listener:
        with ends.link_to(listener.getsockname()[1], loss) as address:
            conn = go.dial(addr=ends.text(address), **ends.settings(crypt, fec=fec))
            exchanged = go.start("exchange", conn=conn, bytes=size, seed=2)
            with ends.accept(listener) as sock:
                echoed = ends.echo(sock, size)
                result = exchanged.result()
                assert result["received"]["bytes"] == size, result
                assert result["received"]["sha256"] == result["sent"]["sha256"] == echoed[1]
                assert not (loss and fec) or sock.kcp_info().fec_recovered > 0


@pytest.mark.parametrize("fec", [None, FEC_10_3], ids=["no-fec", "fec"])
def test_kcp_go_behind_a_nat_that_forgets(go, fec):
    """It knows nothing of it: the server's challenge is a repeat to it, which it acknowledges. Twice, while it sends:
    bare, it says nothing of itself when it only waits."""
    crypt, size = "aes-128-gcm", 8 * MIB
    moves = kcpsock.stats()["Moves"]
    with ends.listen(ends.profile(crypt, fec=fec, framing="raw")) as listener, Nat(listener.getsockname()) as nat:
        conn = go.dial(addr=f"127.0.0.1:{nat.port}", **ends.settings(crypt, fec=fec))
        exchanged = go.start("exchange", conn=conn, bytes=size, seed=3)
        with ends.accept(listener) as sock:
            echoed = ends.Task(ends.echo, sock, size)
            for packets in (500, 1500):  # early: this thread may be late, and something must be left to send
                ends.eventually(lambda packets=packets: len(nat.recorded) > packets)
                name = nat.rebind()
            result = exchanged.result()
            assert result["received"]["bytes"] == size, result
            assert result["received"]["sha256"] == result["sent"]["sha256"] == echoed.result()[1]
            assert sock.getpeername() == name
    assert 1 <= kcpsock.stats()["Moves"] - moves <= 2


# --- a peer that says nothing -----------------------------------------------------------------------------------------

KEEPALIVE_S, TIMEOUT_S = 0.1, 1.0


@pytest.mark.parametrize("opener", ["go", "kcpsock"])
def test_keepalive_holds_an_idle_bare_session_and_silence_ends_it(go, opener):
    """kcp-go answers the challenges that bare KCP has instead of keepalive frames."""
    profile = ends.profile(framing="raw", keepalive=KEEPALIVE_S, keepalive_timeout=TIMEOUT_S)
    with contextlib.ExitStack() as stack:
        if opener == "go":
            listener = stack.enter_context(ends.listen(profile))
            link = stack.enter_context(LossyLink(listener.getsockname()))
            conn = go.dial(addr=ends.text(link.address))
            exchanged = go.start("exchange", conn=conn, bytes=1000, seed=6)
            sock = stack.enter_context(ends.accept(listener))
            ends.echo(sock, 1000)
            assert exchanged.result()["received"]["bytes"] == 1000
        else:
            listener = go.listen()
            link = stack.enter_context(LossyLink(("127.0.0.1", listener["port"])))
            sock = stack.enter_context(ends.connect(link.address, profile))
            got = ends.Task(ends.exchange, sock, bytes(1000))
            conn = go.accept(listener=listener["listener"])
            go.echo(conn=conn, bytes=1000)
            assert got.result() == bytes(1000)
        # So many challenges and answers take longer than the timeout; no application wrote.
        enough = 3 * TIMEOUT_S / KEEPALIVE_S
        before = link.stats()
        ends.eventually(
            lambda: min(link.stats()[way]["received"] - before[way]["received"] for way in ("up", "down")) > enough
        )
        got = ends.Task(ends.exchange, sock, b"still here")
        go.echo(conn=conn, bytes=10)
        assert got.result() == b"still here"
        link.blackhole(True)
        with pytest.raises(OSError) as failed:
            sock.recv(1)
        assert failed.value.errno == errno.ETIMEDOUT


# --- the path's MTU ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "crypt, fec", [("null", FEC_OFF), ("null", FEC_10_3), ("aes-128-gcm", FEC_10_3)], ids=["null", "fec", "crypt-fec"]
)
def test_pads_find_the_path_to_kcp_go(go, crypt, fec):
    """It acknowledges pads, and throws them away: our packets are as short as the path wants before it matters."""
    data = ends.noise(5, MIB)
    listener = go.listen(**ends.settings(crypt, fec=fec))
    with ends.narrow_link_to(listener["port"], up={"path_mtu": 1280}) as link:
        with ends.connect(link.address, ends.profile(crypt, fec=fec, framing="raw")) as sock:
            sock.sendall(data[:1])
            conn = go.accept(listener=listener["listener"])
            echoed = go.start("echo", conn=conn, bytes=len(data))
            assert sock.recv(1) == data[:1]
            ends.eventually(lambda: sock.kcp_info().path_mtu <= 1280 - 28)
            assert ends.exchange(sock, data[1:]) == data[1:]
            assert echoed.result()["sha256"] == ends.digest(data)
            assert 1232 <= sock.kcp_info().path_mtu <= 1280 - 28


@pytest.mark.parametrize("fec", [FEC_OFF, FEC_10_3], ids=["", "fec"])
def test_pieces_are_nothing_to_kcp_go(go, fec):
    """It takes a piece for a repeat, by which we learn that it knows none; once the path is wide again, all arrives."""
    data = ends.noise(6, 2 * MIB)
    listener = go.listen(**ends.settings(fec=fec))
    with ends.narrow_link_to(listener["port"], delay_ms=5, rate_mbit=30) as link:
        with ends.connect(link.address, ends.profile(fec=fec, framing="raw")) as sock:
            sock.sendall(data[:1])
            conn = go.accept(listener=listener["listener"])
            echoed = go.start("echo", conn=conn, bytes=len(data))
            assert sock.recv(1) == data[:1]
            assert ends.survive_a_narrow_path(link, sock, data) == data[1:]
            assert echoed.result()["sha256"] == ends.digest(data)


# --- message mode -----------------------------------------------------------------------------------------------------

MSS = 1400 - 24  # null, no FEC


def cut_as_kcp_go(sizes):
    """kcp-go makes a message of each mss of a long Write."""
    return [min(MSS, size - at) for size in sizes for at in range(0, size, MSS)]


def message_sizes(seed):
    rng = random.Random(seed)
    some = [rng.randrange(1, 4000) for _ in range(100)]
    return [1, MSS - 1, MSS, MSS + 1, 2 * MSS, 2 * MSS + 1, 100_000, *some]


@every_loss
def test_messages_to_kcp_go_keep_their_borders(go, loss):
    sizes, data = message_sizes(3), ends.noise(3, 500_000)
    listener = go.listen(**ends.settings(stream=False))
    with ends.link_to(listener["port"], loss) as address:
        with ends.connect(address, ends.profile(framing="raw", stream=False)) as sock:
            at = 0
            for size in sizes:
                assert sock.send(data[at : at + size]) == size
                at += size
            got = go.receive_messages(conn=go.accept(listener=listener["listener"]), bytes=at)
            assert got["sizes"] == sizes
            assert got["sha256"] == ends.digest(data[:at])


@every_loss
def test_messages_from_kcp_go_keep_their_borders(go, loss):
    sizes = message_sizes(4)
    with ends.listen(ends.profile(framing="raw", stream=False)) as listener:
        with ends.link_to(listener.getsockname()[1], loss) as address:
            conn = go.dial(addr=ends.text(address), **ends.settings(stream=False))
            sent = go.start("send_messages", conn=conn, sizes=sizes, seed=4)
            with ends.accept(listener) as sock:
                expected = cut_as_kcp_go(sizes)
                messages = [sock.recv(MIB) for _ in expected]
            assert [len(message) for message in messages] == expected
            assert ends.digest(b"".join(messages)) == sent.result()["sha256"]


# --- out of band ------------------------------------------------------------------------------------------------------


class Box:
    """What came out of band."""

    def __init__(self):
        self._came = threading.Condition()
        self._all = []

    def take(self, data):
        with self._came:
            self._all.append(bytes(data))
            self._came.notify_all()

    def wait(self, count):
        with self._came:
            assert self._came.wait_for(lambda: len(self._all) >= count, ends.PATIENCE_S), f"only {len(self._all)} came"
            return list(self._all)


def talk_out_of_band(go, conn, sock, largest):
    box = Box()
    sock.set_oob_handler(box.take)
    ours = [ends.noise(size, size) for size in (1, 2, 500, largest)]
    theirs = [ends.noise(1000 + size, size) for size in (1, 3, 700, largest)]
    before = kcpsock.stats()["OOBPackets"]
    for data in ours:
        sock.send_oob(data)
    for data in theirs:
        go.oob_send(conn=conn, data=base64.b64encode(data).decode())
    # They may overtake each other.
    came = go.oob_wait(conn=conn, count=len(ours), seconds=ends.PATIENCE_S)
    assert sorted(base64.b64decode(data) for data in came) == sorted(ours)
    assert sorted(box.wait(len(theirs))) == sorted(theirs)
    assert kcpsock.stats()["OOBPackets"] - before == len(theirs)


@pytest.mark.parametrize(
    "crypt, overhead", [("null", 0), ("aes-128", 20), ("aes-128-gcm", 28)], ids=["null", "aes-128", "aes-128-gcm"]
)
def test_oob_with_kcp_go(go, crypt, overhead):
    # Largest: the mtu less crypt, 8 bytes of FEC head and the conv.
    largest = 1400 - overhead - 8 - 4
    same = ends.settings(crypt, fec=FEC_10_3)
    ours = ends.profile(crypt, fec=FEC_10_3, framing="raw", mtu=1400)
    peers = go.listen(**same)
    with ends.connect(("127.0.0.1", peers["port"]), ours) as sock:
        sock.sendall(b"begin")
        conn = go.accept(listener=peers["listener"])
        talk_out_of_band(go, conn, sock, largest)
    with ends.listen(ours) as listener:
        conn = go.dial(addr=ends.text(listener.getsockname()), **same)
        go.send(conn=conn, bytes=1, seed=1)
        with ends.accept(listener) as sock:
            # A listener sends little beside the stream to a peer that has acknowledged nothing yet.
            sock.sendall(b"begun")
            deadline = time.monotonic() + ends.PATIENCE_S
            while (info := sock.kcp_info()).bytes_sent < 5 or info.in_flight_pkts or info.queued_pkts:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            talk_out_of_band(go, conn, sock, largest)


def test_oob_goes_beside_the_stream_under_loss(go):
    listener = go.listen(**ends.settings(fec=FEC_10_3))
    data, box = ends.noise(5, MIB), Box()
    with ends.link_to(listener["port"], LOSS) as address:
        with ends.connect(address, ends.profile(fec=FEC_10_3, framing="raw")) as sock:
            sock.set_oob_handler(box.take)
            got = ends.Task(ends.exchange, sock, data)
            conn = go.accept(listener=listener["listener"])
            echoed = go.start("echo", conn=conn, bytes=len(data))
            # Each may be lost; not all of them.
            for number in range(50):
                sock.send_oob(b"ours %d" % number)
                go.oob_send(conn=conn, data=base64.b64encode(b"theirs %d" % number).decode())
            came = go.oob_wait(conn=conn, count=1, seconds=ends.PATIENCE_S)
            assert all(base64.b64decode(one).startswith(b"ours ") for one in came) and came
            assert all(one.startswith(b"theirs ") for one in box.wait(1))
            assert got.result() == data
            assert echoed.result()["sha256"] == ends.digest(data)


# --- each end has an FEC code of its own ------------------------------------------------------------------------------

CODES = [
    ((10, 3), (2, 1)),
    ((2, 1), (10, 3)),
    ((10, 3), (20, 5)),
    ((20, 5), (10, 3)),
    ((10, 3), None),
    (None, (10, 3)),
    (None, (2, 1)),
]
every_pair_of_codes = pytest.mark.parametrize(
    "ours, theirs", CODES, ids=["{}-{}".format(*("off" if c is None else f"{c[0]}+{c[1]}" for c in p)) for p in CODES]
)


def check_found_out(sock, theirs):
    info = sock.kcp_info()
    if theirs is None:
        assert info.fec_recovered == 0
    else:
        assert (info.fec_data, info.fec_parity) == theirs
        assert info.fec_recovered > 0 and info.fec_parity_shards > 0


def check_go_found_out(go, ours, before):
    # All of the Go process; our data alone reaches it.
    rebuilt = go.snmp()["FECRecovered"] - before
    assert (rebuilt > 0) == (ours is not None)


@every_pair_of_codes
def test_client_finds_out_the_code_of_kcp_go(go, ours, theirs):
    data, before = ends.noise(6, 4 * MIB), go.snmp()["FECRecovered"]
    listener = go.listen(**ends.settings(fec=theirs))
    with ends.link_to(listener["port"], LOSS) as address:
        with ends.connect(address, ends.profile(fec=ours, framing="raw", control="fixed")) as sock:
            got = ends.Task(ends.exchange, sock, data)
            echoed = go.echo(conn=go.accept(listener=listener["listener"]), bytes=len(data))
            assert echoed["sha256"] == ends.digest(data)
            assert got.result() == data
            check_found_out(sock, theirs)
    check_go_found_out(go, ours, before)


@every_pair_of_codes
def test_server_finds_out_the_code_of_kcp_go(go, ours, theirs):
    size, before = 4 * MIB, go.snmp()["FECRecovered"]
    with ends.listen(ends.profile(fec=ours, framing="raw", control="fixed")) as listener:
        with ends.link_to(listener.getsockname()[1], LOSS) as address:
            conn = go.dial(addr=ends.text(address), **ends.settings(fec=theirs))
            exchanged = go.start("exchange", conn=conn, bytes=size, seed=7)
            with ends.accept(listener) as sock:
                echoed = ends.echo(sock, size)
                result = exchanged.result()
                assert result["received"]["sha256"] == result["sent"]["sha256"] == echoed[1]
                check_found_out(sock, theirs)
    check_go_found_out(go, ours, before)


# --- parity of a sender that adapts ----------------------------------------------------------------------------------

FRAME_BYTES, FRAMES, FRAMES_PER_S = 1000, 1500, 500


LATE_S = 0.05  # what is more is a machine that stood still


def send_steadily(sock, data):
    """A frame every 2 ms: that is the stream, nothing waits for it. After a stop of the machine it goes on from there:
    all that was missed, at once, would be no steady stream."""
    due = time.monotonic()
    for number in range(FRAMES):
        due = max(due + 1 / FRAMES_PER_S, time.monotonic() - LATE_S)
        time.sleep(max(0.0, due - time.monotonic()))
        sock.sendall(data[number * FRAME_BYTES : (number + 1) * FRAME_BYTES])


@pytest.mark.parametrize("theirs", [FEC_10_3, FEC_2_1, FEC_OFF], ids=["same", "other", "none"])
def test_steady_stream_to_kcp_go_is_rebuilt(go, theirs):
    """Part of the parity is left out, its seqids are not: kcp-go rebuilds, and finds out our code from the beacons."""
    data, before = ends.noise(9, FRAMES * FRAME_BYTES), go.snmp()
    listener = go.listen(**ends.settings(fec=theirs))
    with LossyLink(("127.0.0.1", listener["port"]), seed=4, delay_ms=25, up={"loss": 0.05}) as link:
        with ends.connect(link.address, ends.profile(fec=FEC_10_3, framing="raw")) as sock:
            sending = ends.Task(send_steadily, sock, data)
            got = go.receive(conn=go.accept(listener=listener["listener"]), bytes=len(data))
            sending.result()
            assert got["sha256"] == ends.digest(data)
            after, info = go.snmp(), sock.kcp_info()
            print(info, {name: after[name] - before[name] for name in after if name.startswith("FEC")})
            # Some 75 of 1,500 are lost; rebuilt were 72, 75, 69. Another code is found out by the beacons.
            assert after["FECRecovered"] - before["FECRecovered"] >= (40 if theirs == FEC_10_3 else 15)
            assert info.retrans_segs < 150  # on a busy machine 67 were seen


# --- wrong keys -------------------------------------------------------------------------------------------------------

keyed = pytest.mark.parametrize("crypt", ["aes", "salsa20", "xor", "aes-128-gcm", "chacha20-poly1305"])


@keyed
def test_wrong_key_at_kcp_go(go, crypt):
    """connect() times out: nothing answers. kcp-go counts."""
    listener = go.listen(**ends.settings(crypt, key="another"))
    before = go.snmp()["InCsumErrors"]
    with kcpsock.socket(profile=ends.profile(crypt)) as sock:
        sock.settimeout(0.5)
        with pytest.raises(stdlib.timeout):
            sock.connect(("127.0.0.1", listener["port"]))
    ends.eventually(lambda: go.snmp()["InCsumErrors"] > before)


@keyed
def test_wrong_key_at_kcpsock(go, crypt):
    """We count, answer nothing, and no connection comes of it."""
    before = kcpsock.stats()["InCsumErrors"]
    with ends.listen(ends.profile(crypt)) as listener:
        conn = go.dial(addr=ends.text(listener.getsockname()), **ends.settings(crypt, key="another"))
        heard = go.snmp()["InPkts"]
        go.open(session=go.session(conn=conn, version=2))
        ends.eventually(lambda: kcpsock.stats()["InCsumErrors"] >= before + 3)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
        assert go.snmp()["InPkts"] == heard
