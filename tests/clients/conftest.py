# SPDX-License-Identifier: MIT
"""Old programs, in programs/, that know nothing of kcpsock: run over TCP as they are, and over KCP without a change."""

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import kcpsock
from tests.support.fixtures import no_leaks_left as no_leaks_left
from tests.support.forwarder import Forwarder

PROGRAMS = Path(__file__).parent / "programs"
LONG_S = 60.0  # nothing takes so long unless it hangs

# For servers in this process: what a client's process leaves open is gone soon.
QUICK = kcpsock.Profile(keepalive=0.5, keepalive_timeout=2)

# What the users of a library do: python -c IMPORT program.py ARGS
IMPORT = """
import runpy, sys, kcpsock
sys.modules["socket"] = kcpsock
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
COMMANDS = {"tcp": [], "import": ["-c", IMPORT], "monkey": ["-m", "kcpsock.monkey"]}


class Way:
    """How a program gets its sockets."""

    def __init__(self, name):
        self.is_kcp = name != "tcp"
        self.module = kcpsock if self.is_kcp else socket
        self._command = [sys.executable, "-W", "always::ResourceWarning", *COMMANDS[name]]

    def listener(self):
        return self.module.create_server(("127.0.0.1", 0), **({"profile": QUICK} if self.is_kcp else {}))

    def command(self, program, *args):
        return [*self._command, str(PROGRAMS / program), *map(str, args)]

    def run(self, program, *args):
        """What the program prints; it ends well, and leaves no socket to the garbage collector."""
        done = subprocess.run(self.command(program, *args), capture_output=True, text=True, timeout=LONG_S)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split("\n")[:-1]

    def start(self, program, *args):
        """A Popen of a program that serves."""
        return subprocess.Popen(self.command(program, *args), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(params=COMMANDS)
def way(request):
    return Way(request.param)


@pytest.fixture
def address_of(way):
    """address_of(a TCP server's address) -> where the program finds it: there, or at a forwarder's KCP address."""
    forwarders = []

    def address(target):
        if not way.is_kcp:
            return target
        forwarders.append(Forwarder(target, QUICK))
        return forwarders[-1].address

    yield address
    for forwarder in forwarders:
        forwarder.close()


@pytest.fixture
def require_package(require_peer):
    """require_package(import name, package)"""

    def require(name, package):
        found = importlib.util.find_spec(name) is not None
        require_peer(f"the PyPI package {package}", found, "pip install kcpsock[clients]")

    return require


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
