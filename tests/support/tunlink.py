# SPDX-License-Identifier: MIT
"""The bad network of lossylink.py between two hosts of their own, for any program and for the kernel's TCP: two network
namespaces with a TUN device each, and the link between the devices. Needs root and /dev/net/tun.

    with TunLink(seed=7, delay_ms=25, loss=0.05, rate_mbit=100, queue_kib=256) as link:
        subprocess.Popen([*link.far.prefix, "iperf3", "-s"])
        subprocess.run([*link.near.prefix, "iperf3", "-c", link.far.v4])
        print(link.stats()["up"]["lost"])  # up is from near to far

By hand, for a shell in the near one: python -m tests.support.tunlink '{"delay_ms": 25, "loss": 0.05}'
"""

import argparse
import itertools
import json
import os
import subprocess
from pathlib import Path

from .hosts import Host, _ip, are_possible
from .lossylink import Link

HOW_TO_GET = "be root, where network namespaces may be made, with ip (package iproute2) and /dev/net/tun"
MTU_BYTES = 1500
PREFIX = "kcpsock-link-"
TX_QUEUE_PKTS = 20_000  # what a sender throws at the device at once waits there, and is no loss of the link's
_numbers = itertools.count(1)


def is_possible():
    return are_possible() and os.access("/dev/net/tun", os.R_OK | os.W_OK)


class End(Host):
    """A namespace with one end of the link. What `prefix` stands before is run there."""

    @property
    def prefix(self):
        return "ip", "netns", "exec", self.name


class TunLink(Link):
    """The settings are Link's; mtu: of the devices; v6: they have IPv6 addresses, too; net: 1 to 255, for addresses
    that no other link has. close() ends the link, and removes the namespaces: no program may be left in them."""

    def __init__(self, *, mtu=MTU_BYTES, v6=False, net=0, **settings):
        self.pid = 0  # first, for __del__
        remove_leftovers()
        name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        self.near, self.far = End(f"{name}-near", "near", 1), End(f"{name}-far", "far", 2)
        if net:
            for number, end in enumerate((self.near, self.far), 1):
                end.v4, end.v6 = f"10.9.{net}.{number}", f"fd00:9:{net:x}::{number}"
        try:
            self._make(mtu, v6, settings)
        except BaseException:
            self._remove()
            raise

    def _make(self, mtu, v6, settings):
        for end in (self.near, self.far):
            _ip("netns", "add", end.name)
        face = [f"--{end.device}=/run/netns/{end.name}:{end.device}" for end in (self.near, self.far)]
        super().__init__([word for option in face for word in option.split("=", 1)], **settings)
        for end, other in ((self.near, self.far), (self.far, self.near)):
            # Nothing but what the programs send: IPv6 would look for its neighbours, and for routers.
            with end:
                for setting, value in {"disable_ipv6": int(not v6), "accept_ra": 0, "router_solicitations": 0}.items():
                    for which in ("all", "default"):
                        Path("/proc/sys/net/ipv6/conf", which, setting).write_text(str(value), encoding="ascii")
            _ip("-n", end.name, "link", "set", "lo", "up")
            _ip("-n", end.name, "addr", "add", end.v4, "peer", other.v4, "dev", end.device)
            _ip(*f"-n {end.name} link set {end.device} addrgenmode none".split())
            _ip(*f"-n {end.name} link set {end.device} mtu {mtu} txqueuelen {TX_QUEUE_PKTS} up".split())
            if v6:
                _ip("-n", end.name, "addr", "add", end.v6, "peer", other.v6, "dev", end.device, "nodad")

    def close(self):
        try:
            return super().close()
        finally:
            self._remove()

    def _remove(self):
        if self.pid:
            super().close()
        for end in (self.near, self.far):
            if os.path.exists(f"/run/netns/{end.name}"):
                _ip("netns", "del", end.name)


def remove_leftovers():
    """The namespaces of processes that were killed."""
    for place in Path("/run/netns").glob(f"{PREFIX}*"):
        pid = place.name[len(PREFIX) :].partition("-")[0]
        if not os.path.exists(f"/proc/{pid}"):
            try:
                _ip("netns", "del", place.name)
            except AssertionError:
                if place.exists():  # else another process was at the same, and faster
                    raise


def main():
    parser = argparse.ArgumentParser(description="A shell, or COMMAND, at the near end of a link.")
    parser.add_argument("settings", type=json.loads, help="TunLink's, as JSON")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    options = parser.parse_args()
    with TunLink(**options.settings) as link:
        print(f"near is {link.near.v4}, far {link.far.v4}; there: {' '.join(link.far.prefix)} COMMAND", flush=True)
        command = options.command or [os.environ.get("SHELL", "sh")]
        subprocess.run([*link.near.prefix, *command], check=False)
        print(json.dumps(link.close()))


if __name__ == "__main__":
    main()
