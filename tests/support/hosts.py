# SPDX-License-Identifier: MIT
"""Two other hosts: network namespaces, joined by a veth pair, with addresses of both families.

with hosts.far:
    server = socket.create_server(...)  # a socket belongs to the host where it was made
with hosts.near:
    client = socket.create_connection(...)
"""

import ctypes
import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

HOW_TO_GET = "be root, where network namespaces may be made, with ip (package iproute2)"
PATIENCE_S = 30.0
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """One namespace; as a context, the place of the thread that enters it."""

    def __init__(self, name, device, number):
        self.name, self.device = name, device
        self.v4, self.v6 = f"10.9.0.{number}", f"fd00:9::{number}"
        self.index, self.link_local = 0, ""  # once it is there
        self._left = threading.local()

    def __enter__(self):
        if not hasattr(self._left, "fds"):
            self._left.fds = []
        self._left.fds.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        with open(f"/run/netns/{self.name}", "rb") as place:
            _set_place(place.fileno())
        return self

    def __exit__(self, *_):
        fd = self._left.fds.pop()
        _set_place(fd)
        os.close(fd)


class Hosts:
    """`near` and `far`. close() removes them."""

    def __init__(self):
        pid = os.getpid()
        self.near = Host(f"kcpsock-near-{pid}", f"kn{pid}", 1)
        self.far = Host(f"kcpsock-far-{pid}", f"kf{pid}", 2)
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self):
        both = (self.near, self.far)
        for host in both:
            _ip("netns", "add", host.name)
        # An index of its own: a scope id means something on its own host only.
        _ip(*f"link add index 11 {self.near.device} netns {self.near.name} type veth".split(),
            *f"peer name {self.far.device} netns {self.far.name}".split())  # fmt: skip
        for host in both:
            _ip("-n", host.name, "link", "set", "lo", "up")
            _ip("-n", host.name, "addr", "add", f"{host.v4}/24", "dev", host.device)
            host.link_local = f"fe80::{host.v6[-1]}"
            for address in (host.v6, host.link_local):
                _ip("-n", host.name, "-6", "addr", "add", f"{address}/64", "dev", host.device, "nodad")
            _ip("-n", host.name, "link", "set", host.device, "addrgenmode", "none", "up")
            host.index = int(_ip("-n", host.name, "-o", "link", "show", host.device).split(":")[0])
            with host:
                for limit in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):  # every refusal is told, at once
                    Path("/proc/sys/net", limit).write_text("0", encoding="ascii")
        for host in both:
            for address in (host.v4, host.v6, host.link_local):
                _wait_for_route(host, address)

    @contextmanager
    def new_place(self):
        """A third one, alone, without even its loopback up."""
        alone = Host(f"kcpsock-alone-{os.getpid()}", "", 0)
        _ip("netns", "add", alone.name)
        try:
            with alone:
                yield
        finally:
            _ip("netns", "del", alone.name)

    def close(self):
        for host in (self.near, self.far):
            if os.path.exists(f"/run/netns/{host.name}"):
                _ip("netns", "del", host.name)


@contextmanager
def more_address(host, address):
    """`host` has another address, for a while."""
    what = (f"{address}/128", "dev", "lo", "nodad") if ":" in address else (f"{address}/32", "dev", "lo")
    _ip("-n", host.name, "addr", "add", *what)
    try:
        _wait_for_route(host, address)
        yield
    finally:
        _ip("-n", host.name, "addr", "del", *what[:3])


def replace_address(host, old, new):
    """As when a host comes to another network of the same router: both with their prefix length."""
    six = ["-6"] if ":" in old else []
    _ip("-n", host.name, *six, "addr", "del", old, "dev", host.device)
    _ip("-n", host.name, *six, "addr", "add", new, "dev", host.device, *(["nodad"] if six else []))
    _wait_for_route(host, new.partition("/")[0])


@contextmanager
def unplugged(host):
    """Its interface is down, for a while."""
    _ip("-n", host.name, "link", "set", host.device, "down")
    try:
        yield
    finally:
        _ip("-n", host.name, "link", "set", host.device, "up")


def are_possible():
    """Whether this process may make namespaces, and can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"kcpsock-try-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode != 0:
        return False
    _ip("netns", "del", name)
    return True


def _wait_for_route(host, address):
    # An IPv6 address is there before the kernel's worker has made the way to it.
    end = time.monotonic() + PATIENCE_S
    while f"local {address} " not in _ip("-n", host.name, *["-6"][: ":" in address], "route", "show", "table", "local"):
        assert time.monotonic() < end, f"no route to {address}"
        time.sleep(0.005)


def _ip(*arguments):
    # Without a sanitizer that the tests run under: it finds a fault of ip's own (strncpy onto itself).
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _set_place(fd):
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns()")
