# SPDX-License-Identifier: MIT
"""paramiko, smtplib, ftplib and websocket-client with servers in Python, which run over the same sockets."""

import asyncio
import contextlib
import os
import ssl
import threading

import pytest

from tests.support.waiting import eventually

from .conftest import LONG_S


def test_paramiko(way, require_package):
    require_package("paramiko", "paramiko")
    import paramiko

    class Server(paramiko.ServerInterface):
        def check_auth_password(self, username, password):
            return paramiko.AUTH_SUCCESSFUL if (username, password) == ("ada", "secret") else paramiko.AUTH_FAILED

        def get_allowed_auths(self, username):
            return "password"

        def check_channel_request(self, kind, chanid):
            return paramiko.OPEN_SUCCEEDED

        def check_channel_exec_request(self, channel, command):
            self.command = command
            threading.Thread(target=self.count, args=(channel,)).start()
            return True

        def count(self, channel):
            channel.settimeout(LONG_S)
            size = 0
            while data := channel.recv(65536):
                size += len(data)
            channel.sendall(b"%s: %d" % (self.command, size))
            channel.send_exit_status(7)
            with contextlib.suppress(EOFError):  # close() says two things, and the client may leave after the first
                channel.close()

    key = paramiko.ECDSAKey.generate()
    transports = []
    with way.listener() as listener:
        listener.settimeout(LONG_S)

        def serve():
            for _ in range(2):
                transports.append(paramiko.Transport(listener.accept()[0]))
                transports[-1].add_server_key(key)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transports[-1].start_server(server=Server())

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            assert way.run("use_paramiko.py", *listener.getsockname()) == [
                "wc -c: 1000000 7",
                "Authentication failed.",
            ]
        finally:
            serving.join()
            for transport in transports:
                transport.close()


class AsyncioThread:
    """asyncio's server on a listener, its loop in a thread."""

    def __init__(self, factory, listener):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._factory, self._connected = factory, set()
        self._server = self._run(self._loop.create_server(self._protocol, sock=listener))

    def _protocol(self):
        protocol = self._factory()
        connection_lost = protocol.connection_lost

        def over(error):
            connection_lost(error)
            self._connected.discard(protocol)

        protocol.connection_lost = over
        self._connected.add(protocol)
        return protocol

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(LONG_S)

    async def _end(self):
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def close(self):
        eventually(lambda: not self._connected)  # the client is gone; what the loop has not closed yet would stay open
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_smtplib(way, require_package, authority, ca_file):
    require_package("aiosmtpd", "aiosmtpd")
    from aiosmtpd.smtp import SMTP

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    mails = []

    class Handler:
        async def handle_DATA(self, server, session, envelope):
            mails.append((envelope.mail_from, envelope.rcpt_tos, len(envelope.content), session.peer[0]))
            return "250 OK"

    listener = way.listener()
    address = listener.getsockname()
    factory = lambda: SMTP(Handler(), tls_context=context, require_starttls=True, hostname="mail.example")  # noqa: E731
    server = AsyncioThread(factory, listener)
    try:
        assert way.run("use_smtplib.py", *address, ca_file) == ["530", "{}", "True"]
    finally:
        server.close()
    assert mails == [("ada@example.org", ["bob@example.org"], 14 + 6 * 50_000, "127.0.0.1")]


@pytest.mark.skipif(
    os.environ.get("KCPSOCK_PLAIN") == "1",
    reason="the plain build puts a new descriptor in the place, which pyftpdlib's epoll does not know",
)
def test_ftplib(way, require_package, tmp_path):
    require_package("pyftpdlib", "pyftpdlib")
    with way.start("serve_pyftpdlib.py", tmp_path) as server:
        port = int(server.stdout.readline())
        assert way.run("use_ftplib.py", "127.0.0.1", port) == ["True 2048000 ['up.bin']", "[]", "550", "221"]
        server.communicate(timeout=LONG_S)
    assert server.returncode == 0


def test_websocket_client(way, require_package):
    require_package("websocket", "websocket-client")
    require_package("websockets", "websockets")
    with way.start("serve_websockets.py") as server:
        port = int(server.stdout.readline())
        expected = ["hello", "True", "4950", "timed out", "end"]
        assert way.run("use_websocket.py", "127.0.0.1", port) == expected
        server.communicate(timeout=LONG_S)
    assert server.returncode == 0
