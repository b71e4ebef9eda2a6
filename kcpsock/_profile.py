# SPDX-License-Identifier: MIT
"""Profile: how a KCP connection is to behave. A value, checked when it is made; knows nothing of sockets or C.

`python -m kcpsock._profile` prints the README's table from the field descriptions below.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import os
import sys
from typing import Any, Optional, Union
from urllib.parse import parse_qsl, urlsplit

if sys.version_info >= (3, 10):
    from dataclasses import dataclass
else:  # 3.9 has no kw_only: refuse positional arguments by hand

    def dataclass(*, frozen: bool, kw_only: bool) -> Any:
        def decorate(cls: Any) -> Any:
            cls = dataclasses.dataclass(frozen=frozen)(cls)
            initialize = cls.__init__

            def __init__(self: Any, **fields: Any) -> None:
                initialize(self, **fields)

            cls.__init__ = __init__
            return cls

        return decorate


# What a mode stands for: nodelay, interval, resend, nc (kcptun's names and numbers).
MODES: dict[str, tuple[int, int, int, int]] = {
    "normal": (0, 40, 2, 1),
    "fast": (0, 30, 2, 1),
    "fast2": (1, 20, 2, 1),
    "fast3": (1, 10, 2, 1),
}

_FLAG, _OPTIONAL = "flag", "optional"


def _field(default: Any, allowed: Any, *, kind: type = int, optional: bool = False) -> Any:
    # `allowed`: a tuple of values, a slice for a range with both ends, or _FLAG.
    return dataclasses.field(default=default, metadata={"allowed": allowed, "kind": kind, _OPTIONAL: optional})


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a KCP connection behaves: framing, speed, windows, packet size. Immutable; `replace()` makes a changed copy.

    Raises ValueError, naming the field, the value and what is allowed, or TypeError for a value of a wrong type.
    Both ends must agree on `framing` and `smux_version`; all else is each end's own choice.
    """

    framing: str = _field("smux", ("smux", "raw"), kind=str)
    """smux: connect, end of stream, half-close, keepalive, as TCP has them; raw: kcp-go's bare session without these"""

    smux_version: int = _field(2, (2, 1))
    """smux protocol version: 2 has a window per stream, 1 is kcptun's default"""

    mode: str = _field("fast2", tuple(MODES), kind=str)
    """sets nodelay, interval, resend and nc together, from saving to fast"""

    nodelay: Optional[int] = _field(None, (0, 1), optional=True)
    """1: retransmission timeout from 30 ms on, growing by half; 0: from 100 ms on, doubling"""

    interval: Optional[int] = _field(None, slice(10, 5000), optional=True)
    """ms between two flushes, at most"""

    resend: Optional[int] = _field(None, slice(0, 16), optional=True)
    """later packets acknowledged before a missing one is sent again; 0: never, only its timeout counts"""

    nc: Optional[int] = _field(None, (0, 1), optional=True)
    """1: no congestion window"""

    sndwnd: int = _field(1024, slice(1, 32768))
    """packets in the send window"""

    rcvwnd: int = _field(1024, slice(1, 32768))
    """packets in the receive window"""

    mtu: int = _field(1400, slice(50, 1500))
    """bytes of UDP payload in a packet, at most"""

    stream: bool = _field(True, _FLAG, kind=bool)
    """raw framing: True: a byte stream; False: KCP's message mode; borders of writes are not kept yet"""

    ack_nodelay: bool = _field(False, _FLAG, kind=bool)
    """acknowledge each packet at once, at the price of more packets"""

    write_delay: bool = _field(False, _FLAG, kind=bool)
    """hold what was written until the next flush, so that packets get fuller"""

    dscp: int = _field(0, slice(0, 63))
    """differentiated services code point in the IP header"""

    sockbuf: int = _field(4 * 1024 * 1024, slice(1, 2**31 - 1))
    """bytes of send and of receive buffer asked for the UDP socket; the system's limits apply"""

    keepalive: float = _field(10.0, slice(0, 86400), kind=float)
    """s between smux keepalives; 0: none are sent"""

    keepalive_timeout: float = _field(30.0, slice(0.001, 86400), kind=float)
    """s of silence after which the connection ends with ETIMEDOUT; not below keepalive"""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        if self.keepalive_timeout < self.keepalive:
            raise ValueError(
                f"keepalive_timeout is {self.keepalive_timeout!r}; allowed is keepalive ({self.keepalive!r}) or more"
            )

    @property
    def arq(self) -> tuple[int, int, int, int]:
        """nodelay, interval (ms), resend, nc as they apply: the mode's, unless given one by one."""
        given = (self.nodelay, self.interval, self.resend, self.nc)
        nodelay, interval, resend, nc = (mode if own is None else own for own, mode in zip(given, MODES[self.mode]))
        return nodelay, interval, resend, nc

    def replace(self, **changes: Any) -> Profile:
        """A copy with these fields changed, checked as a new one."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_url(cls, url: str) -> Profile:
        """The profile that a URL's query spells: "kcp://host:port?mode=fast3&sndwnd=512". Host and port are not looked
        at.

        Raises ValueError for another scheme, an unknown or repeated name, or a value that the field does not allow.
        """
        parts = urlsplit(url)
        if parts.scheme != "kcp":
            raise ValueError(f"URL {url!r}: the scheme is {parts.scheme!r}; allowed is 'kcp'")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        changes: dict[str, Any] = {}
        for name, text in parse_qsl(parts.query, keep_blank_values=True):
            if name not in fields:
                raise ValueError(f"URL {url!r}: unknown name {name!r}; allowed are {', '.join(fields)}")
            if name in changes:
                raise ValueError(f"URL {url!r}: {name} is given twice")
            changes[name] = _parsed(fields[name], text)
        return cls(**changes)


def _described(allowed: Any) -> str:
    # What a field allows, in words.
    if allowed is _FLAG:
        return "True or False"
    if isinstance(allowed, slice):
        return f"{allowed.start} to {allowed.stop}"
    return ", ".join(repr(value) for value in allowed)


def _checked(field: Any, value: Any) -> Any:
    # The value, in the field's type; ValueError or TypeError when it is not allowed.
    name, allowed, kind = field.name, field.metadata["allowed"], field.metadata["kind"]
    described = _described(allowed)
    if value is None and field.metadata[_OPTIONAL]:
        return None
    if allowed is _FLAG or allowed == (0, 1):
        accepted: Any = (bool, int)
    elif kind is float:
        accepted = (int, float)
    else:
        accepted = kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool and allowed != (0, 1)):
        raise TypeError(f"{name} is {value!r}, a {type(value).__name__}; allowed is {kind.__name__}: {described}")
    if allowed is _FLAG:
        good = value in (0, 1)
    elif isinstance(allowed, slice):
        good = math.isfinite(value) and allowed.start <= value <= allowed.stop
    else:
        good = value in allowed
    if not good:
        raise ValueError(f"{name} is {value!r}; allowed is {described}")
    return kind(value)


def _parsed(field: Any, text: str) -> Union[str, int, float, bool]:
    # A field's value from a URL's query.
    kind = field.metadata["kind"]
    if kind is str:
        return text
    if kind is bool:
        flags = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        if text.lower() not in flags:
            raise ValueError(f"{field.name} is {text!r}; allowed is one of {', '.join(flags)}")
        return flags[text.lower()]
    try:
        return float(text) if kind is float else int(text)
    except ValueError:
        raise ValueError(
            f"{field.name} is {text!r}; allowed is a number, {_described(field.metadata['allowed'])}"
        ) from None


_default: Optional[Profile] = None


def get_default_profile() -> Profile:
    """The profile of sockets made without one: what set_default_profile() set, else the environment's KCPSOCK_PROFILE
    (a kcp:// URL).

    The environment is read at first use; ValueError when it does not spell a profile.
    """
    global _default
    if _default is None:
        url = os.environ.get("KCPSOCK_PROFILE")
        try:
            _default = Profile.from_url(url) if url else Profile()
        except ValueError as error:
            raise ValueError(f"environment KCPSOCK_PROFILE: {error}") from error
    return _default


def set_default_profile(profile: Optional[Profile]) -> None:
    """Sets the profile of sockets made from now on without one. None: the environment's again."""
    global _default
    if profile is not None and not isinstance(profile, Profile):
        raise TypeError(f"profile is {profile!r}, a {type(profile).__name__}; allowed is a Profile or None")
    _default = profile


def _descriptions() -> dict[str, str]:
    # Field -> the string below it in the source.
    (body,) = (node.body for node in ast.parse(inspect.getsource(Profile)).body if isinstance(node, ast.ClassDef))
    found = {}
    for node, below in zip(body, body[1:]):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(below, ast.Expr):
            found[node.target.id] = ast.literal_eval(below.value)
    return found


def as_markdown() -> str:
    """The README's table of fields."""
    descriptions = _descriptions()
    lines = ["| field | default | allowed | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(Profile):
        default = "from the mode" if field.metadata[_OPTIONAL] else repr(field.default)
        lines.append(
            f"| {field.name} | {default} | {_described(field.metadata['allowed'])} | {descriptions[field.name]} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
