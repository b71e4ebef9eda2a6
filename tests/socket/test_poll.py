# SPDX-License-Identifier: MIT
"""The descriptor with select, poll, epoll, selectors, os and asyncio."""

import asyncio
import errno
import os
import select
import selectors
import socket

import gevent
import gevent.os
import gevent.socket
import pytest

from .conftest import LONG_S, eventually, read_exactly


def readable(sock, timeout=LONG_S):
    return bool(select.select([sock], [], [], timeout)[0])


def poll(sock, events=select.POLLIN | select.POLLOUT):
    poller = select.poll()
    poller.register(sock, events)
    return dict(poller.poll(0)).get(sock.fileno(), 0)


def test_fresh_socket(net):
    assert poll(net.socket()) == select.POLLOUT | select.POLLHUP


def test_connected_socket(net, pair):
    client, conn = pair
    assert poll(client) == select.POLLOUT
    conn.sendall(b"x")
    assert readable(client)
    assert poll(client) == select.POLLIN | select.POLLOUT
    client.recv(1)
    assert not readable(client, 0)


def test_end_of_stream_is_readable(net, pair):
    client, conn = pair
    conn.shutdown(socket.SHUT_WR)
    assert readable(client)
    assert poll(client) & (select.POLLIN | select.POLLHUP) == select.POLLIN


def test_full_buffer_is_not_writable(net, pair):
    client, conn = pair
    client.setblocking(False)

    def fill():
        try:
            while True:
                client.send(b"x" * 65536)
        except BlockingIOError:
            return not select.select([], [client], [], 0)[1]

    eventually(fill)
    conn.settimeout(0)

    def drain():
        try:
            while conn.recv(1 << 20):
                pass
        except BlockingIOError:
            return select.select([], [client], [], 0)[1]

    eventually(drain)


def test_listener_is_readable_when_accept_would_return(net, server):
    assert not readable(server, 0)
    net.dial(server)
    assert readable(server)
    net.accept(server)
    assert not readable(server, 0)


def test_epoll_edge(net, pair):
    client, conn = pair
    with select.epoll() as epoll:
        epoll.register(client, select.EPOLLIN | select.EPOLLET)
        assert epoll.poll(0) == []
        conn.sendall(b"x")
        assert epoll.poll(LONG_S) == [(client.fileno(), select.EPOLLIN)]
        assert epoll.poll(0) == []


def test_selectors(net, pair):
    client, conn = pair
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, "client")
        assert selector.select(0) == []
        conn.sendall(b"x")
        ((key, events),) = selector.select(LONG_S)
        assert (key.data, events) == ("client", selectors.EVENT_READ)


def test_os_read_and_write(net, pair):
    client, conn = pair
    assert os.write(client.fileno(), b"abc") == 3
    assert readable(conn)
    assert os.read(conn.fileno(), 10) == b"abc"


def test_dup2_over_a_socket(net, pair):
    client, conn = pair
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, client.fileno(), False)
    finally:
        os.close(null)
    assert conn.recv(1) == b""


def test_asyncio_sock_calls(net):
    if net.greenlets:
        return  # a loop runs in its own thread's way; a gevent program has no other

    async def serve(server, loop):
        conn, _ = await loop.sock_accept(server)
        with conn:
            while data := await loop.sock_recv(conn, 1000):
                await loop.sock_sendall(conn, data.upper())

    async def main():
        loop = asyncio.get_running_loop()
        server = net.listener()
        server.setblocking(False)
        serving = asyncio.ensure_future(serve(server, loop))
        client = net.socket()
        client.setblocking(False)
        await loop.sock_connect(client, server.getsockname())
        await loop.sock_sendall(client, b"abc")
        assert await loop.sock_recv(client, 3) == b"ABC"
        client.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(client, 3) == b""
        await serving

    asyncio.run(asyncio.wait_for(main(), LONG_S))


def test_asyncio_streams(net):
    if net.greenlets:
        return

    async def echo(reader, writer):
        writer.write(await reader.read())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main():
        listener = net.listener()
        server = await asyncio.start_server(echo, sock=listener)
        client = net.socket()
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, listener.getsockname())
        reader, writer = await asyncio.open_connection(sock=client)
        data = os.urandom(1_000_000)

        async def send():
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        assert await reader.read() == data
        await sending
        writer.close()
        await writer.wait_closed()
        server.close()

    asyncio.run(asyncio.wait_for(main(), LONG_S))


def test_asyncio_sendfile(net, tmp_path):
    if net.greenlets:
        return
    path = tmp_path / "file"
    path.write_bytes(os.urandom(500_000))

    async def main():
        loop = asyncio.get_running_loop()
        client, conn = net.pair()
        for sock in (client, conn):
            sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=conn)
        reading = asyncio.ensure_future(reader.readexactly(500_000))
        with path.open("rb") as file:
            assert await loop.sock_sendfile(client, file, fallback=False) == 500_000
        assert await reading == path.read_bytes()
        writer.close()
        await writer.wait_closed()

    asyncio.run(asyncio.wait_for(main(), LONG_S))


def test_gevent_io_watcher(net, pair):
    if not net.greenlets:
        return
    client, conn = pair
    loop = gevent.get_hub().loop
    seen = []
    watcher = loop.io(client.fileno(), 1)
    watcher.start(lambda: (seen.append(client.recv(10)), watcher.stop()))
    try:
        gevent.sleep(0)
        assert seen == []
        conn.sendall(b"x")
        with gevent.Timeout(LONG_S):
            while not seen:
                gevent.sleep(0.001)
        gevent.os.tp_write(conn.fileno(), b"y")
        gevent.socket.wait_read(client.fileno(), LONG_S)
        assert gevent.os.nb_read(client.fileno(), 10) == b"y"
    finally:
        watcher.close()


def test_socket_pair_is_ordinary(net):
    a, b = net.socketpair()
    net.keep(a), net.keep(b)
    assert a.family == socket.AF_UNIX
    a.sendall(b"x")
    assert read_exactly(b, 1) == b"x"
    assert type(a) is net.module.socket


@pytest.mark.skipif(os.environ.get("KCPSOCK_PLAIN") == "1", reason="the plain build puts a new descriptor in the place")
def test_epoll_that_knew_the_socket_before(net):
    # Old event loops (asyncore's kind) register a socket when it is made, and listen or connect then.
    server, client = net.socket(), net.socket()
    with select.epoll() as epoll:
        epoll.register(server, select.EPOLLIN)
        epoll.register(client, select.EPOLLIN | select.EPOLLOUT)
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.setblocking(False)
        assert client.connect_ex(server.getsockname()) == errno.EINPROGRESS
        expected = {(server.fileno(), select.EPOLLIN), (client.fileno(), select.EPOLLOUT)}
        eventually(lambda: set(epoll.poll(LONG_S)) == expected)
        conn, _ = net.accept(server)
        conn.sendall(b"hello")
        eventually(lambda: epoll.poll(LONG_S) == [(client.fileno(), select.EPOLLIN | select.EPOLLOUT)])
        assert client.recv(5) == b"hello"
