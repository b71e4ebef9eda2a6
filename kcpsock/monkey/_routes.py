# SPDX-License-Identifier: MIT
"""Routes as text, for the command line: HOST:PORT=URL, the first that matches wins."""

from __future__ import annotations

import ipaddress
from typing import Any, NamedTuple, Optional

import kcpsock
from kcpsock import Profile, get_default_profile


class _Rule(NamedTuple):
    host: str  # "*": any
    port: Optional[int]  # None: any
    profile: Optional[Profile]  # None: TCP


def parse_route(text: str) -> _Rule:
    """HOST:PORT=URL. HOST is a name, an address (IPv6 in brackets) or "*"; PORT a number or "*"; URL "tcp", "kcp" (the
    default profile) or a kcp:// URL. ValueError says what is wrong, and does not show the text: it may hold a key."""
    where, equals, url = text.partition("=")
    host, colon, port = where.rpartition(":")
    if not equals or not colon or not host or not url:
        raise ValueError("that is no route; allowed is HOST:PORT=URL, as in 'db.example:*=tcp'")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("its host has a ':'; an IPv6 address stands in brackets")
    if port != "*" and not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("its port is no port; allowed is 0 to 65535, or *")
    return _Rule(host, None if port == "*" else int(port), parse_url(url))


def parse_url(url: str) -> Optional[Profile]:
    """The profile of a kcp:// URL, the default one for "kcp", None for "tcp"."""
    if url == "tcp":
        return None
    if "://" not in url and url != "kcp":
        raise ValueError("that is no URL; allowed is tcp, kcp, or kcp:// with what a profile has")
    return get_default_profile() if url == "kcp" else Profile.from_url(url)


class Routes:
    """A route() made of rules. What no rule matches gets `otherwise`: a Profile, or None for TCP.

    An address is matched by its text, and by the addresses that a rule's name has; these are looked up when the rule is
    first needed, and once.
    """

    def __init__(self, rules: list[_Rule], otherwise: Optional[Profile] = None) -> None:
        self._rules = rules
        self._otherwise = otherwise
        self._addresses: dict[str, frozenset[str]] = {}

    def __call__(self, address: Any) -> Optional[Profile]:
        host, port = address[:2]
        for rule in self._rules:
            if rule.port in (None, port) and (rule.host == "*" or self._is(host, rule.host)):
                return rule.profile
        return self._otherwise

    def _is(self, host: Any, wanted: str) -> bool:
        text = host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host)
        if text == wanted:
            return True
        number = _number(text)
        if number is None:
            return text.lower().rstrip(".") == wanted.lower().rstrip(".")
        if _number(wanted) is not None:
            return number == _number(wanted)
        if wanted not in self._addresses:
            try:
                found = kcpsock.getaddrinfo(wanted, None, 0, kcpsock.SOCK_STREAM)
            except OSError:
                return False  # asked again next time
            self._addresses[wanted] = frozenset(str(_number(str(entry[4][0]))) for entry in found)
        return number in self._addresses[wanted]


def _number(host: str) -> Optional[str]:
    # An address in its one form, IPv4 also where it is mapped into IPv6; None for a name.
    if host == "":
        return "0.0.0.0"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
