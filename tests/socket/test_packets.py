# SPDX-License-Identifier: MIT
"""What a profile puts around packets and into the stream, between two kcpsock ends: crypt, FEC, compression, packets
beside the stream. Interop with other programs is in tests/interop, bad input in tests/engine."""

import errno
import os
import socket
import threading

import pytest

import kcpsock
from kcpsock import _engines
from kcpsock._crypt import NAMES, overhead
from tests.support.lossylink import LossyLink

from .conftest import LONG_S, eventually, read_exactly

KEY = "a passphrase"


class Handler:
    """Takes out-of-band packets; wait() gives the next."""

    def __init__(self):
        self._got = []
        self._came = threading.Semaphore(0)

    def __call__(self, data):
        self._got.append(data)
        self._came.release()

    def wait(self):
        assert self._came.acquire(timeout=LONG_S), "no packet came"
        return self._got.pop(0)


def connected(profile, peer_profile=None, through=None):
    """(client, server's end). through: a function from the listener's address to the one to connect to."""
    with kcpsock.create_server(("127.0.0.1", 0), profile=profile) as listener:
        address = listener.getsockname()
        client = kcpsock.create_connection(
            through(address) if through else address, timeout=LONG_S, profile=peer_profile or profile
        )
        server, _ = listener.accept()
    server.settimeout(LONG_S)
    return client, server


def exchange(kcp, client, server, size):
    """`size` random bytes there and back. The connection stays open."""
    data = os.urandom(size)
    echo = kcp.spawn(lambda: server.sendall(read_exactly(server, size)))
    send = kcp.spawn(client.sendall, data)
    assert read_exactly(client, size) == data
    echo.join()
    send.join()


@pytest.mark.parametrize("fec", [None, (10, 3), (2, 1), (254, 1)])
@pytest.mark.parametrize("crypt", NAMES)
def test_every_crypt_and_fec_carries_the_stream(kcp, crypt, fec):
    profile = kcpsock.Profile(key=KEY, crypt=crypt, fec=fec, mode="fast3", mtu=1400)
    client, server = connected(profile)
    with client, server:
        info = client.kcp_info()
        assert (info.path_mtu, client.profile.mtu) == (1400, 1400)
        assert info.mss_bytes == 1400 - 24 - overhead(crypt) - (8 if fec else 0)
        exchange(kcp, client, server, 30_000)


@pytest.mark.parametrize("framing", ["smux", "raw"])
def test_lost_packets_are_rebuilt(kcp, framing):
    profile = kcpsock.Profile(key=KEY, fec=(10, 3), mode="fast3", framing=framing)
    with kcpsock.create_server(("127.0.0.1", 0), profile=profile) as listener:
        with LossyLink(listener.getsockname(), seed=7, loss=0.05) as link:
            client = kcpsock.create_connection(link.address, timeout=LONG_S, profile=profile)
            client.sendall(b"begin")
            server, _ = listener.accept()
            server.settimeout(LONG_S)
            with client, server:
                assert server.recv(5, kcpsock.MSG_WAITALL) == b"begin"
                data = os.urandom(2_000_000)
                sender = kcp.spawn(client.sendall, data)
                assert read_exactly(server, len(data)) == data
                sender.join()
                info = server.kcp_info()
                assert (info.fec_data, info.fec_parity) == (10, 3)
                assert info.fec_recovered > 0
                assert kcpsock.stats()["FECRecovered"] >= info.fec_recovered


def test_ends_may_differ_in_fec(kcp):
    ours = kcpsock.Profile(fec=(10, 3), mode="fast3")
    for theirs in (ours.replace(fec=None), ours.replace(fec=(2, 1)), ours.replace(fec=(20, 5))):
        client, server = connected(ours, theirs)
        with client, server:
            exchange(kcp, client, server, 300_000)
            assert (server.kcp_info().fec_parity != 0) == (theirs.fec is not None)


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
@pytest.mark.parametrize("version", [1, 2])
def test_compressed(kcp, version, size):
    profile = kcpsock.Profile(compress=True, smux_version=version, mode="fast3", key=KEY, crypt="aes")
    client, server = connected(profile)
    with client, server:
        exchange(kcp, client, server, size)


def test_compression_saves_bytes(kcp):
    client, server = connected(kcpsock.Profile(compress=True))
    with client, server:
        before = kcpsock.stats()["OutBytes"]
        sender = kcp.spawn(client.sendall, b"all the same " * 100_000)
        assert len(read_exactly(server, 1_300_000)) == 1_300_000
        sender.join()
        assert kcpsock.stats()["OutBytes"] - before < 130_000


def test_finalizer_that_asks_in_an_engines_thread(threads, monkeypatch):
    """A collection may run where an engine compresses, and so a finalizer: the engine can't wait for itself."""
    client, server = connected(kcpsock.Profile(compress=True))
    run, answers = _engines._codec_streams.run, []

    def run_and_ask(*args):
        try:
            answers.append(client.kcp_info())
        except OSError as error:
            answers.append(error.errno)
        return run(*args)

    monkeypatch.setattr(_engines._codec_streams, "run", run_and_ask)
    with client, server:
        exchange(threads, client, server, 1000)
        assert set(answers) == {errno.EDEADLK}
        monkeypatch.undo()  # or it asks while the client closes


def test_compress_without_its_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cramjam", None)
    with pytest.raises(ImportError, match=r"pip install kcpsock\[snappy\]"):
        kcpsock.Profile(compress=True)


@pytest.mark.parametrize("framing", ["smux", "raw"])
def test_packets_beside_the_stream(framing):
    profile = kcpsock.Profile(framing=framing, fec=(3, 1), key=KEY, mtu=1400)
    with kcpsock.create_server(("127.0.0.1", 0), profile=profile) as listener:
        client = kcpsock.create_connection(listener.getsockname(), timeout=LONG_S, profile=profile)
        client.sendall(b"x")
        server, _ = listener.accept()
    with client, server:
        at_client, at_server = Handler(), Handler()
        client.set_oob_handler(at_client)
        server.set_oob_handler(at_server)
        most = 1400 - 28 - 12
        for data in (b"", b"one", bytes(range(256)), os.urandom(most)):
            client.send_oob(data)
            assert at_server.wait() == data
            server.send_oob(data)
            assert at_client.wait() == data
        with pytest.raises(OSError) as refused:
            client.send_oob(bytes(most + 1))
        assert refused.value.errno == errno.EMSGSIZE and str(most) in str(refused.value)
        assert client.kcp_info().oob_sent == 4 and client.kcp_info().oob_received == 4
        other = Handler()
        server.set_oob_handler(other)
        client.send_oob(b"for the other")
        assert other.wait() == b"for the other"
        server.set_oob_handler(None)
        client.send_oob(b"for nobody")
        client.sendall(b"y")
        assert server.recv(10) in (b"x", b"xy")


def test_packets_beside_the_stream_need_fec():
    client, server = connected(kcpsock.Profile())
    with client, server, pytest.raises(OSError, match="fec") as refused:
        client.send_oob(b"data")
    assert refused.value.errno == errno.EOPNOTSUPP


def test_rate_limit_leaves_the_stream_whole(kcp):
    client, server = connected(kcpsock.Profile(rate_limit=3_000_000, mode="fast3"))
    with client, server:
        for _ in range(5):
            before = client.kcp_info().retrans_segs
            exchange(kcp, client, server, 500_000)
            if client.kcp_info().retrans_segs == before:
                return
        pytest.fail("each transfer was late for the retransmission timeout, and not because the machine stood still")


def test_copies_are_sent_and_dropped(kcp):
    client, server = connected(kcpsock.Profile(dup=2, fec=(5, 2), key=KEY, mode="fast3"))
    with client, server:
        exchange(kcp, client, server, 200_000)
        assert server.kcp_info().repeat_segs >= 200_000 // 1400


@pytest.mark.parametrize("fec", [None, (4, 2)])
def test_messages_keep_their_borders(kcp, fec):
    profile = kcpsock.Profile(framing="raw", stream=False, key=KEY, fec=fec, mode="fast3", mtu=1400)
    mss = 1400 - 28 - 24 - (8 if fec else 0)
    sizes = [1, mss, mss + 1, 255 * mss, 100, 0, 3, 40_000]
    with kcpsock.create_server(("127.0.0.1", 0), profile=profile) as listener:
        client = kcpsock.create_connection(listener.getsockname(), timeout=LONG_S, profile=profile)
        messages = [os.urandom(size) for size in sizes]
        sender = kcp.spawn(lambda: [client.send(message) for message in messages])
        server, _ = listener.accept()
        server.settimeout(LONG_S)
        with client, server:
            for message in messages:
                if message:  # an empty one sends nothing, as in kcp-go
                    assert server.recv(400_000) == message
                    assert server.send(message[:200]) == len(message[:200])
                    assert client.recv(1000) == message[:200]
            assert sender.join() == sizes
            with pytest.raises(OSError) as refused:
                client.send(bytes(255 * mss + 1))
            assert refused.value.errno == errno.EMSGSIZE


def test_a_wrong_key_times_out_and_says_what_to_check():
    right, wrong = kcpsock.Profile(key="right"), kcpsock.Profile(key="wrong")
    with kcpsock.create_server(("127.0.0.1", 0), profile=right) as listener:
        before = kcpsock.stats()["InCsumErrors"]
        with pytest.raises(TimeoutError, match=r"same key, crypt, framing"):
            kcpsock.create_connection(listener.getsockname(), timeout=0.5, profile=wrong)
        eventually(lambda: kcpsock.stats()["InCsumErrors"] > before)


@pytest.mark.parametrize("around", [{}, {"key": KEY, "fec": (2, 1), "dup": 1}], ids=["bare", "sealed-fec-dup"])
def test_bytes_before_the_first_ack_are_all_that_a_silent_peer_gets(around):
    profile = kcpsock.Profile(framing="raw", keepalive=0, **around)
    before, came = kcpsock.stats()["PreAckBytes"], 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(LONG_S)
        with kcpsock.create_connection(silent.getsockname(), profile=profile) as client:
            assert client.kcp_info().pre_ack_bytes == 0
            client.sendall(b"x" * 5000)
            while came < 6000:  # the data and its headers: all of it, or it again
                came += len(silent.recv(2000))
            silent.setblocking(False)

            def drained():
                nonlocal came
                try:
                    while True:
                        came += len(silent.recv(2000))
                except BlockingIOError:
                    return client.kcp_info().pre_ack_bytes == came

            eventually(drained)
            assert kcpsock.stats()["PreAckBytes"] - before >= came


def test_bytes_before_the_first_ack_do_not_grow_after_it(kcp):
    before = kcpsock.stats()["PreAckBytes"]
    client, server = connected(kcpsock.Profile())
    with client, server:
        exchange(kcp, client, server, 100_000)
        first = [sock.kcp_info() for sock in (client, server)]
        exchange(kcp, client, server, 100_000)
        second = [sock.kcp_info() for sock in (client, server)]
        assert [info.pre_ack_bytes for info in first] == [info.pre_ack_bytes for info in second]
        syn = 24 + 8  # KCP's head, smux's
        assert first[0].pre_ack_bytes > 0 and first[0].pre_ack_bytes % syn == 0
        assert 24 <= first[1].pre_ack_bytes < 150_000
        assert kcpsock.stats()["PreAckBytes"] - before >= first[0].pre_ack_bytes + first[1].pre_ack_bytes


def test_messages_longer_than_the_receive_buffer(kcp):
    """SO_RCVBUF bounds a stream's buffer; a message comes whole or not at all, so there it bounds nothing."""
    profile = kcpsock.Profile(framing="raw", stream=False, mode="fast3")
    with kcpsock.create_server(("127.0.0.1", 0), profile=profile) as listener:
        client = kcpsock.create_connection(listener.getsockname(), timeout=LONG_S, profile=profile)
        client.send(b"begin")
        server, _ = listener.accept()
        server.settimeout(LONG_S)
        with client, server:
            assert server.recv(100) == b"begin"
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            message = os.urandom(100_000)
            sender = kcp.spawn(client.send, message)
            assert server.recv(200_000) == message
            sender.join()
