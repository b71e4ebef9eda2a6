# SPDX-License-Identifier: MIT
"""Against kcptun's own programs (Debian's, of 2021): kcptun-client with a kcpsock server behind it, and a kcpsock
client with kcptun-server and an ordinary TCP server behind it. 1 MiB there and back, half of it compressible.

Not the full cross product of the settings. In both directions: each crypt, with FEC on and the other switches taking
turns; each mode, with FEC on and off in turn; with one crypt all eight combinations of FEC, compression and smux
version.

kcptun has no half-close: when one direction of a TCP connection or of a stream ends, it closes both, and what is still
on its way back is lost.
"""

import importlib.util
import json
import socket as stdlib

import pytest

import kcpsock

from . import ends, kcptun
from .ends import MIB

CRYPTS = (
    "aes", "aes-128", "aes-192", "salsa20", "blowfish", "twofish", "cast5", "3des", "tea", "xtea", "xor", "sm4", "none",
)  # fmt: skip
FEC = (10, 3)
LOSS = 0.1


def cases():
    """(crypt, mode, fec, compress, smux_version)"""
    for number, crypt in enumerate(CRYPTS):
        yield crypt, "fast3", FEC, bool(number & 1), 1 + (number >> 1 & 1)
    for number, mode in enumerate(("normal", "fast", "fast2", "fast3")):
        yield "aes", mode, None if number & 1 else FEC, bool(number >> 1), 1 + (number & 1)
    for fec in (FEC, None):
        for compress in (True, False):
            for version in (1, 2):
                yield "salsa20", "fast2", fec, compress, version


def name(case):
    crypt, mode, fec, compress, version = case
    return f"{crypt}-{mode}-{'fec' if fec else 'nofec'}-{'comp' if compress else 'nocomp'}-v{version}"


every_case = pytest.mark.parametrize(
    "crypt, mode, fec, compress, version", [pytest.param(*case, id=name(case)) for case in cases()]
)


@pytest.fixture(autouse=True)
def programs(require_peer):
    require_peer("kcptun", kcptun.is_here(), kcptun.HOW_TO_INSTALL)


@pytest.fixture
def snappy(require_peer):
    """Call it where the test compresses."""
    here = importlib.util.find_spec("cramjam") is not None
    return lambda: require_peer("the snappy codec (PyPI's cramjam)", here, "pip install kcpsock[snappy]")


@pytest.fixture
def tcp_echo():
    with kcptun.TcpEcho() as server:
        yield server


def flags(crypt, mode, fec, compress, version):
    """kcptun's settings by its command line."""
    data, parity = fec or (0, 0)
    return [
        *("--crypt", crypt, "--key", ends.KEY, "--mode", mode, "--smuxver", str(version)),
        *("--datashard", str(data), "--parityshard", str(parity), *([] if compress else ["--nocomp"])),
    ]


def ours(crypt, mode, fec, compress, version):
    more = {"compress": True} if compress else {}
    return ends.profile(crypt, fec=fec, mode=mode, smux_version=version, mtu=1350, **more)


def content(seed):
    return ends.noise(seed, MIB // 2) + b"kcptun " * (MIB // 14)


def talk_through_client(listener, port, data):
    """A TCP client behind kcptun-client, and our server."""
    with stdlib.create_connection(("127.0.0.1", port), timeout=ends.PATIENCE_S) as tcp:
        sender = ends.Task(tcp.sendall, data)
        receiver = ends.Task(ends.read_exactly, tcp, len(data))
        with ends.accept(listener) as sock:
            assert ends.echo(sock, len(data)) == (len(data), ends.digest(data))
            sender.result()
            assert receiver.result() == data
            tcp.close()
            assert sock.recv(1) == b""


@every_case
def test_kcptun_client_to_kcpsock_server(snappy, crypt, mode, fec, compress, version):
    if compress:
        snappy()
    settings = crypt, mode, fec, compress, version
    with ends.listen(ours(*settings)) as listener:
        with kcptun.client(listener.getsockname()[1], *flags(*settings)) as port:
            talk_through_client(listener, port, content(1))


@every_case
def test_kcpsock_client_to_kcptun_server(snappy, tcp_echo, crypt, mode, fec, compress, version):
    if compress:
        snappy()
    settings, data = (crypt, mode, fec, compress, version), content(2)
    with kcptun.server(tcp_echo.port, *flags(*settings)) as port:
        with ends.connect(("127.0.0.1", port), ours(*settings)) as sock:
            assert ends.exchange(sock, data) == data
            sock.shutdown(stdlib.SHUT_WR)
            assert sock.recv(1) == b""
        tcp_echo.wait_for_end()


@pytest.mark.parametrize("profile", ["defaults", "mode manual"])
def test_with_the_files_of_kcptun(snappy, tcp_echo, tmp_path, profile):
    """Each end reads the same file; over a bad link, both directions."""
    snappy()
    manual = {"mode": "manual", "nodelay": 1, "interval": 10, "resend": 2, "nc": 1}
    more = {"defaults": {}, "mode manual": manual}[profile]
    path = tmp_path / "kcptun.json"
    path.write_text(json.dumps({"key": "from the file", **more}))
    settings, data = kcpsock.Profile.from_kcptun(path), content(3)
    with kcptun.server(tcp_echo.port, "-c", str(path)) as port, ends.link_to(port, LOSS) as address:
        with ends.connect(address, settings) as sock:
            assert ends.exchange(sock, data) == data
            assert sock.kcp_info().fec_recovered > 0
    with ends.listen(settings) as listener, ends.link_to(listener.getsockname()[1], LOSS) as address:
        with kcptun.client(address[1], "-c", str(path)) as port:
            talk_through_client(listener, port, data)


def test_many_connections_through_one_kcptun_client():
    """They are streams of one session."""
    settings = "xor", "fast3", FEC, False, 2
    with ends.listen(ours(*settings)) as listener:
        with kcptun.client(listener.getsockname()[1], *flags(*settings)) as port:
            tasks = [ends.Task(talk_tcp, port, number) for number in range(20)]
            socks = [ends.accept(listener) for _ in tasks]
            echoes = [ends.Task(ends.echo, sock) for sock in socks]
            assert len({sock.kcp_info().conv for sock in socks}) == 1
            for task in (*tasks, *echoes):
                task.result()
            for sock in socks:
                sock.close()


def talk_tcp(port, seed):
    data = ends.noise(seed, 100_000)
    with stdlib.create_connection(("127.0.0.1", port), timeout=ends.PATIENCE_S) as tcp:
        assert ends.exchange(tcp, data) == data


def test_wrong_key_of_kcptun_server(tcp_echo):
    """connect() times out, nothing answers."""
    settings = "aes", "fast3", FEC, False, 1
    with kcptun.server(tcp_echo.port, *flags(*settings)) as port:
        with kcpsock.socket(profile=ours(*settings).replace(key="another")) as sock:
            sock.settimeout(0.5)
            with pytest.raises(stdlib.timeout):
                sock.connect(("127.0.0.1", port))


def test_wrong_key_of_kcptun_client():
    """Its packets are counted, and never answered."""
    settings = "aes", "fast3", FEC, False, 1
    before = kcpsock.stats()["InCsumErrors"]
    with ends.listen(ours(*settings).replace(key="another")) as listener:
        with kcptun.client(listener.getsockname()[1], *flags(*settings)) as port:
            with stdlib.create_connection(("127.0.0.1", port), timeout=ends.PATIENCE_S) as tcp:
                tcp.sendall(b"hello")
                ends.eventually(lambda: kcpsock.stats()["InCsumErrors"] > before)
                listener.setblocking(False)
                with pytest.raises(BlockingIOError):
                    listener.accept()
