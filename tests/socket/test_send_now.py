# SPDX-License-Identifier: MIT
"""send() hands bytes to the data plane in the caller's thread, past the descriptor, when nothing is in the way; what is
different from the descriptor's way is seen here. All other tests of sending go either way, as it comes."""

import contextlib
import errno
import mmap
import os
import struct

import pytest

from kcpsock import _connections

from .conftest import eventually, read_all, read_exactly


def test_send_goes_past_the_descriptor_when_nothing_is_in_the_way(kcp):
    client, conn = kcp.pair()
    fd = client.fileno()
    eventually(lambda: _connections.send_now(fd, b"past"))  # not while the engine is at work
    assert read_exactly(conn, 4) == b"past"
    assert _connections.send_now(fd, b"") == 0
    assert _connections.send_now(fd, memoryview(b"abcdef")[::2]) == 0
    assert _connections.send_now(fd, "text") == 0
    client.shutdown(kcp.SHUT_WR)
    assert _connections.send_now(fd, b"late") == 0
    with pytest.raises(BrokenPipeError):
        client.send(b"late")
    client.close()
    assert _connections.send_now(fd, b"late") == 0
    assert conn.recv(10) == b""


def test_send_keeps_the_order_of_what_is_written_to_the_descriptor(kcp):
    # By turns through the descriptor, which the engine reads when it comes to it, and past it.
    client, conn = kcp.pair()
    client.settimeout(None)  # os.write() waits
    records = [struct.pack(">I", number) * (1 + number % 7) for number in range(3000)]

    def write():
        for number, record in enumerate(records):
            if number % 2:
                client.sendall(record)
            else:
                assert os.write(client.fileno(), record) == len(record)
        client.shutdown(kcp.SHUT_WR)

    writer = kcp.spawn(write)
    assert read_all(conn) == b"".join(records)
    writer.join()


def test_send_from_a_forked_child_goes_through_the_descriptor(threads):
    client, conn = threads.pair()
    child = os.fork()
    if child == 0:
        past = _connections.send_now(client.fileno(), b"child")
        client.sendall(b"child")
        os._exit(past)
    assert read_exactly(conn, 5) == b"child"
    assert os.waitpid(child, 0)[1] == 0


def test_send_takes_a_first_write_whole(net):
    # What the path does not take at once is buffered, as TCP does it: asyncio's start_tls() relies on it.
    for _ in range(5):
        _, conn = net.pair()
        conn.setblocking(False)
        assert conn.send(bytes(102400)) == 102400


@pytest.mark.parametrize("call", ["send", "sendall", "sendmsg", "view"])
def test_send_of_memory_that_is_not_there(net, tmp_path, call):
    """A mapped file that was truncated: an error of the call, not a signal."""
    client, conn = net.pair()
    path = tmp_path / "mapped"
    path.write_bytes(bytes(4 * mmap.PAGESIZE))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)  # not closed: views of it stand in the traceback
        file.truncate(0)
        with pytest.raises(OSError) as caught:
            if call == "sendmsg":
                client.sendmsg([mapped])
            elif call == "view":
                with memoryview(mapped) as view, contextlib.closing(client.makefile("wb", buffering=0)) as raw:
                    raw.write(view)
            else:
                getattr(client, call)(mapped)
    assert caught.value.errno == errno.EFAULT
    client.sendall(b"on")
    assert read_exactly(conn, 2) == b"on"
