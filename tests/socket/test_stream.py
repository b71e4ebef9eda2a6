# SPDX-License-Identifier: MIT
"""Bytes in, bytes out: order, ends, half-close, flags, scattered buffers, files."""

import array
import errno
import hashlib
import io
import os
import random
import socket
import tempfile

import pytest

from .conftest import LONG_S, eventually, read_all, read_exactly


def test_echo(net, pair):
    client, conn = pair
    client.sendall(b"ping")
    assert conn.recv(100) == b"ping"
    conn.sendall(b"pong")
    assert client.recv(100) == b"pong"


@pytest.mark.parametrize("size", [1, 1376, 65536, 16 * 1024 * 1024])
def test_sendall_arrives_whole(net, pair, size):
    client, conn = pair
    data = random.Random(size).randbytes(size) if hasattr(random.Random, "randbytes") else os.urandom(size)

    def send():
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    sending = net.spawn(send)
    received = read_all(conn)
    sending.join()
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_both_directions_at_once(net, pair):
    data = os.urandom(2_000_000)
    jobs = []
    for sock in pair:
        jobs += [net.spawn(sock.sendall, data), net.spawn(read_exactly, sock, len(data))]
    results = [job.join() for job in jobs]
    assert results[1] == results[3] == data


def test_several_on_one_socket(net, pair):
    # Four write and four read, on one socket each: nothing is lost.
    client, conn = pair
    sending = [net.spawn(client.sendall, bytes([value]) * 50_000) for value in range(4)]
    counts = [0] * 4

    def read():
        mine = [0] * 4
        while data := conn.recv(4096):
            for value in range(4):
                mine[value] += data.count(value)
        return mine

    reading = [net.spawn(read) for _ in range(4)]
    for job in sending:
        job.join()
    client.shutdown(socket.SHUT_WR)
    for job in reading:
        counts = [total + more for total, more in zip(counts, job.join())]
    assert counts == [50_000] * 4


def test_many_small_writes(net, pair):
    client, conn = pair

    def send():
        for number in range(2000):
            client.sendall(b"%07d\n" % number)
        client.shutdown(socket.SHUT_WR)

    sending = net.spawn(send)
    lines = read_all(conn).splitlines()
    sending.join()
    assert [int(line) for line in lines] == list(range(2000))


def test_end_of_stream_after_close(net, pair):
    client, conn = pair
    client.sendall(b"last")
    client.close()
    assert read_all(conn) == b"last"
    assert conn.recv(10) == b""


def test_half_close(net, pair):
    client, conn = pair
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert read_all(conn) == b"question"
    conn.sendall(b"answer")
    conn.close()
    assert read_all(client) == b"answer"


def test_half_close_ends_sending(net, pair):
    client, _ = pair
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        client.sendall(b"x")


def test_shutdown_read_ends_receiving(net, pair):
    client, _ = pair
    client.shutdown(socket.SHUT_RD)
    assert client.recv(1) == b""


def test_shutdown_wakes_a_reader(net, pair):
    client, _ = pair
    reading = net.spawn(client.recv, 1)
    client.shutdown(socket.SHUT_RDWR)
    assert reading.join() == b""


def test_shutdown_how_is_checked(net, pair):
    client, _ = pair
    with pytest.raises(OSError) as caught:
        client.shutdown(9)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OverflowError):
        client.shutdown(2**40)
    with pytest.raises(TypeError):
        client.shutdown("both")


def test_shutdown_unconnected(net):
    with pytest.raises(OSError) as caught:
        net.socket().shutdown(socket.SHUT_RDWR)
    assert caught.value.errno == errno.ENOTCONN


def test_unconnected_recv_and_send(net):
    for make in (net.socket, net.listener):
        sock = make()
        sock.settimeout(None)
        with pytest.raises(OSError) as caught:
            sock.recv(1)
        assert caught.value.errno == errno.ENOTCONN
        with pytest.raises(BrokenPipeError):
            sock.send(b"x")


def test_closed_socket_is_ebadf(net, pair):
    client, _ = pair
    client.close()
    calls = [
        lambda: client.recv(1),
        lambda: client.send(b"x"),
        lambda: client.sendall(b"x"),
        lambda: client.sendmsg([b"x"]),
        lambda: client.recv_into(bytearray(1)),
        lambda: client.accept(),
        lambda: client.listen(),
        lambda: client.bind(("127.0.0.1", 0)),
        lambda: client.connect(("127.0.0.1", 9)),
        lambda: client.shutdown(socket.SHUT_RD),
        lambda: client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        lambda: client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    ]
    for call in calls:
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF
    assert client.connect_ex(("127.0.0.1", 9)) == errno.EBADF
    client.close()


def test_send_after_the_peer_closed(net, pair):
    client, conn = pair
    conn.close()
    assert client.recv(1) == b""
    assert client.send(b"first") == 5

    def broken():
        try:
            client.send(b"later")
        except (BrokenPipeError, ConnectionResetError):
            return True

    eventually(broken)


def test_recv_nothing_asked(net, pair):
    client, conn = pair
    client.sendall(b"x")
    assert conn.recv(1, socket.MSG_PEEK) == b"x"
    assert conn.recv(0) == b""
    assert conn.recv(1) == b"x"


def test_peek(net, pair):
    client, conn = pair
    client.sendall(b"abc")
    assert conn.recv(2, socket.MSG_PEEK) in (b"a", b"ab")
    assert read_exactly(conn, 3) == b"abc"


def test_dontwait(net, pair):
    client, conn = pair
    conn.settimeout(None)
    with pytest.raises(BlockingIOError):
        conn.recv(1, socket.MSG_DONTWAIT)
    client.sendall(b"x")
    assert conn.recv(1) == b"x"


def test_out_of_band_flag_is_accepted(net, pair):
    client, conn = pair
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    assert client.send(b"!", socket.MSG_OOB) == 1
    client.sendall(b"after")
    client.shutdown(socket.SHUT_WR)
    assert read_all(conn) == b"!after"


def test_recv_into(net, pair):
    client, conn = pair
    client.sendall(b"spam")
    buffer = bytearray(b"_" * 6)
    conn.recv(1, socket.MSG_PEEK)
    eventually(lambda: len(conn.recv(6, socket.MSG_PEEK)) == 4)
    assert conn.recv_into(buffer, 2) == 2
    assert buffer == b"sp____"
    assert conn.recv_into(memoryview(buffer)[2:]) == 2
    assert buffer == b"spam__"
    target = array.array("i", [0, 0])
    client.sendall(b"\1\0\0\0\2\0\0\0")
    eventually(lambda: len(conn.recv(8, socket.MSG_PEEK)) == 8)
    assert conn.recv_into(target) == 8
    assert target.tobytes() == b"\1\0\0\0\2\0\0\0"
    assert conn.recv_into(bytearray()) == 0


def test_recv_into_end_of_stream(net, pair):
    client, conn = pair
    client.close()
    assert conn.recv_into(bytearray(4)) == 0


def test_recvfrom_gives_a_pair(net, pair):
    client, conn = pair
    client.sendall(b"ab")
    data, address = conn.recvfrom(1)
    assert (data, address) == (b"a", None)
    buffer = bytearray(1)
    assert conn.recvfrom_into(buffer) == (1, None)
    assert buffer == b"b"


def test_sendto_ignores_the_address(net, pair):
    client, conn = pair
    assert client.sendto(b"a", ("192.0.2.1", 9)) == 1
    assert client.sendto(b"b", 0, ("192.0.2.1", 9)) == 1
    assert read_exactly(conn, 2) == b"ab"
    with pytest.raises(TypeError):
        client.sendto(b"a")
    with pytest.raises(TypeError):
        client.sendto(b"a", 7)


def test_sendmsg_scattered(net, pair):
    client, conn = pair
    assert client.sendmsg(part for part in (b"ab", bytearray(b"c"), memoryview(b"de"))) == 5
    assert read_exactly(conn, 5) == b"abcde"
    assert client.sendmsg([]) == 0
    assert client.sendmsg([b"x"], [], 0, None) == 1
    for wrong in (lambda: client.sendmsg(b"abc"), lambda: client.sendmsg([7]), lambda: client.sendmsg(7)):
        with pytest.raises(TypeError):
            wrong()


def test_recvmsg(net, pair):
    client, conn = pair
    client.sendall(b"abc")
    data, ancillary, flags, address = conn.recvmsg(100)
    assert b"abc".startswith(data) and data
    assert ancillary == []
    assert flags & (socket.MSG_OOB | socket.MSG_CTRUNC) == 0
    assert address is None
    with pytest.raises(ValueError):
        conn.recvmsg(-1)
    with pytest.raises(ValueError):
        conn.recvmsg(1, -1)


def test_recvmsg_into_scattered(net, pair):
    client, conn = pair
    client.sendall(b"abcd")
    eventually(lambda: len(conn.recv(4, socket.MSG_PEEK)) == 4)
    one, two = bytearray(1), bytearray(5)
    size, ancillary, flags, _ = conn.recvmsg_into(buffer for buffer in (one, two))
    assert (size, one, bytes(two[:3]), ancillary) == (4, b"a", b"bcd", [])
    with pytest.raises(TypeError):
        conn.recvmsg_into([b"constant"])


def test_recvmsg_end_of_stream(net, pair):
    client, conn = pair
    client.close()
    assert conn.recvmsg(5)[0] == b""
    assert conn.recvmsg_into([bytearray(5)])[0] == 0


@pytest.mark.parametrize("argument", ["text", 5, None])
def test_send_wrong_argument(net, pair, argument):
    client, _ = pair
    for call in (client.send, client.sendall):
        with pytest.raises(TypeError):
            call(argument)


def test_recv_wrong_argument(net, pair):
    client, _ = pair
    with pytest.raises(ValueError):
        client.recv(-1)
    with pytest.raises(TypeError):
        client.recv("1")
    with pytest.raises((TypeError, BufferError)):
        client.recv_into(b"constant")


def test_sendall_takes_any_contiguous_buffer(net, pair):
    client, conn = pair
    client.sendall(array.array("I", [1, 2]))
    client.sendall(memoryview(b"abcdef")[2:4])
    client.sendall(b"")
    assert read_exactly(conn, 10) == array.array("I", [1, 2]).tobytes() + b"cd"


def test_makefile_reads_and_writes(net, pair):
    client, conn = pair
    with client.makefile("w", encoding="utf-8", newline="\n") as out, conn.makefile("r", encoding="utf-8") as text:
        out.write("één\ntwee\n")
        out.flush()
        assert text.readline() == "één\n"
        assert text.readline() == "twee\n"


def test_makefile_keeps_the_connection_open(net, pair):
    client, conn = pair
    with client.makefile("rwb", buffering=0) as stream:
        client.close()
        assert client.fileno() >= 0
        stream.write(b"still here")
        assert conn.recv(10) == b"still here"
    assert client.fileno() == -1
    assert read_all(conn) == b""


def test_makefile_after_a_timeout(net, pair):
    client, _ = pair
    client.settimeout(0.01)
    with client.makefile("rb") as stream:
        with pytest.raises(socket.timeout):
            stream.read(1)
        with pytest.raises(OSError, match="cannot read from timed out object"):
            stream.read(1)


def test_makefile_nonblocking_read_is_none(net, pair):
    client, _ = pair
    client.setblocking(False)
    with client.makefile("rb", buffering=0) as stream:
        assert stream.read(1) is None


@pytest.mark.parametrize("offset,count", [(0, None), (5000, None), (0, 70_000), (1234, 100_000)])
def test_sendfile(net, pair, offset, count):
    client, conn = pair
    content = os.urandom(300_000)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        file.seek(0)
        sending = net.spawn(client.sendfile, file, offset, count)
        expected = content[offset:] if count is None else content[offset : offset + count]
        assert read_exactly(conn, len(expected)) == expected
        assert sending.join() == len(expected)
        assert file.tell() == offset + len(expected)
    assert client.gettimeout() == LONG_S


def test_sendfile_no_regular_file(net, pair):
    client, conn = pair
    assert client.sendfile(io.BytesIO(b"abc")) == 3
    assert read_exactly(conn, 3) == b"abc"
    with pytest.raises(ValueError):
        with open(os.devnull, encoding="utf-8") as text:
            client.sendfile(text)
    with pytest.raises(net.module._GiveupOnSendfile):
        client._sendfile_use_sendfile(io.BytesIO(b"abc"))


def test_buffers_are_bounded(net, pair):
    client, _ = pair
    client.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while sent < 500_000_000:
            sent += client.send(b"x" * 65536)
    client.settimeout(0.05)
    with pytest.raises(socket.timeout):
        while sent < 500_000_000:
            sent += client.send(b"x" * 65536)
    with pytest.raises(socket.timeout):
        client.sendall(b"x" * 50_000_000)


def test_a_slow_reader_gets_everything(net, pair):
    client, conn = pair
    size = 20_000_000
    sending = net.spawn(client.sendall, b"z" * size)
    eventually(lambda: conn.recv(1, socket.MSG_PEEK))
    received = len(read_exactly(conn, size))
    sending.join()
    assert received == size


def test_context_manager_closes(net, server):
    with net.dial(server) as client:
        assert client.fileno() >= 0
    assert client.fileno() == -1
