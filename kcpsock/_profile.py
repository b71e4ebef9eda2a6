# SPDX-License-Identifier: MIT
"""Profile: how a KCP connection is to behave. A value, checked when it is made; knows nothing of sockets.

`python -m kcpsock._profile` prints the README's table from the field descriptions below.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import os
import sys
from functools import cached_property
from typing import Any, Optional, Union
from urllib.parse import unquote, urlsplit

from . import _kcptun, _snappy
from ._crypt import NAMES, key_of, overhead

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

# What crypt None stands for: without a key, and with one.
DEFAULT_CRYPTS = ("null", "aes-128-gcm")
KEYLESS_CRYPTS = ("null", "none")

FEC_HEAD_BYTES = 8
KCP_MTU_MIN = 50  # what KCP needs of a packet when the other headers have taken theirs
SHARDS_MAX = 255  # data and parity packets of a FEC group

# Kinds of `allowed`, beside a tuple of values and a slice for a range with both ends.
_FLAG = "True or False"
_KEY = "a str (a passphrase), bytes (the cipher's own key), or None"
_PAIR = f"None, or (data, parity): two ints of 1 or more, together {SHARDS_MAX} at most"


def _field(default: Any, allowed: Any, *, kind: type = int, unset: Optional[str] = None) -> Any:
    # `unset`: what None, then allowed too, stands for; in words, for the README.
    return dataclasses.field(default=default, metadata={"allowed": allowed, "kind": kind, "unset": unset})


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a KCP connection behaves: framing, encryption, speed, windows. Immutable; `replace()` makes a changed copy.

    Raises ValueError, naming the field, the value and what is allowed, or TypeError for a value of a wrong type.
    Both ends must agree on `framing`, `smux_version`, `key`, `crypt` and `compress`; all else is each end's own choice.
    """

    framing: str = _field("smux", ("smux", "raw"), kind=str)
    """smux: connect, end of stream, half-close, keepalive, as TCP has them; raw: kcp-go's bare session without these"""

    smux_version: int = _field(2, (2, 1))
    """smux protocol version: 2 has a window per stream, 1 is kcptun's default"""

    key: Optional[Union[str, bytes]] = _field(None, _KEY, unset="None")
    """the secret of both ends: a str is a passphrase, made a key as kcptun does; bytes are the cipher's key itself"""

    crypt: Optional[str] = _field(None, NAMES, kind=str, unset="{} without a key, {} with one".format(*DEFAULT_CRYPTS))
    """cipher of each packet; only gcm and poly1305 tell forged ones; none: just a checksum, null: not even that"""

    fec: Optional[tuple[int, int]] = _field(None, _PAIR, unset="None")
    """forward error correction: after `data` packets come `parity` ones, from which as many lost ones are rebuilt"""

    mode: str = _field("fast2", tuple(MODES), kind=str)
    """sets nodelay, interval, resend and nc together, from saving to fast"""

    nodelay: Optional[int] = _field(None, (0, 1), unset="from the mode")
    """1: retransmission timeout from 30 ms on, growing by half; 0: from 100 ms on, doubling"""

    interval: Optional[int] = _field(None, slice(10, 5000), unset="from the mode")
    """ms between two flushes, at most"""

    resend: Optional[int] = _field(None, slice(0, 16), unset="from the mode")
    """later packets acknowledged before a missing one is sent again; 0: never, only its timeout counts"""

    nc: Optional[int] = _field(None, (0, 1), unset="from the mode")
    """1: no congestion window"""

    sndwnd: int = _field(1024, slice(1, 32768))
    """packets in the send window"""

    rcvwnd: int = _field(1024, slice(1, 32768))
    """packets in the receive window"""

    mtu: int = _field(1400, slice(KCP_MTU_MIN, 1500))
    """bytes of UDP payload in a packet, at most. Crypt takes 0, 20 or 28 of them, FEC 8; 50 must be left for KCP"""

    stream: bool = _field(True, _FLAG, kind=bool)
    """raw framing: True: a byte stream; False: KCP's message mode, which keeps the borders of writes"""

    ack_nodelay: bool = _field(False, _FLAG, kind=bool)
    """acknowledge each packet at once, at the price of more packets"""

    write_delay: bool = _field(False, _FLAG, kind=bool)
    """hold what was written until the next flush, so that packets get fuller"""

    dup: int = _field(0, slice(0, 15))
    """copies sent beside each packet"""

    rate_limit: int = _field(0, slice(0, 2**40))
    """bytes of UDP payload sent in a second, at most; 0: no limit"""

    dscp: int = _field(0, slice(0, 63))
    """differentiated services code point in the IP header"""

    sockbuf: int = _field(4 * 1024 * 1024, slice(1, 2**31 - 1))
    """bytes of send and of receive buffer asked for the UDP socket; the system's limits apply"""

    keepalive: float = _field(10.0, slice(0, 86400), kind=float)
    """s between smux keepalives; 0: none are sent"""

    keepalive_timeout: float = _field(30.0, slice(0.001, 86400), kind=float)
    """s of silence after which the connection ends with ETIMEDOUT; not below keepalive"""

    compress: bool = _field(False, _FLAG, kind=bool)
    """smux framing: snappy compression of all that is sent; needs `pip install kcpsock[snappy]`"""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        self._check_key()
        headers = self.headers_bytes
        if self.mtu - headers < KCP_MTU_MIN:
            raise ValueError(
                f"mtu is {self.mtu}; allowed is {KCP_MTU_MIN + headers} to 1500: the headers of crypt and FEC take "
                f"{headers} bytes of it, and KCP needs {KCP_MTU_MIN}"
            )
        if self.keepalive_timeout < self.keepalive:
            raise ValueError(
                f"keepalive_timeout is {self.keepalive_timeout!r}; allowed is keepalive ({self.keepalive!r}) or more"
            )
        if self.compress:
            if self.framing != "smux":
                raise ValueError(f"compress is True; allowed with framing {self.framing!r} is False")
            _snappy.require()

    def __repr__(self) -> str:
        # As a dataclass has it, without the key.
        shown = {field.name: repr(getattr(self, field.name)) for field in dataclasses.fields(self)}
        if self.key is not None:
            shown["key"] = "..."
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in shown.items())})"

    def _check_key(self) -> None:
        # No message shows the key.
        if self.key is None:
            if self.cipher not in KEYLESS_CRYPTS:
                raise ValueError(f"key is None; crypt {self.cipher!r} needs one: allowed is a str or bytes")
        elif not self.key:
            raise ValueError("key is empty; allowed is a str or bytes with something in it, or None")
        elif isinstance(self.key, bytes):
            _ = self.secret  # which checks the length
        else:
            try:
                self.key.encode()
            except UnicodeEncodeError:
                raise ValueError("key has characters that are not Unicode text; allowed is a str or bytes") from None

    @property
    def cipher(self) -> str:
        """crypt as it applies: its name, or what stands for None."""
        return DEFAULT_CRYPTS[self.key is not None] if self.crypt is None else self.crypt

    @cached_property
    def secret(self) -> bytes:
        """The cipher's key. For a passphrase this takes milliseconds, once."""
        return b"" if self.key is None or self.cipher in KEYLESS_CRYPTS else key_of(self.cipher, self.key)

    @property
    def headers_bytes(self) -> int:
        """What crypt and FEC take of a packet."""
        return overhead(self.cipher) + (FEC_HEAD_BYTES if self.fec else 0)

    @property
    def arq(self) -> tuple[int, int, int, int]:
        """nodelay, interval (ms), resend, nc as they apply: the mode's, unless given one by one."""
        given = (self.nodelay, self.interval, self.resend, self.nc)
        nodelay, interval, resend, nc = (mode if own is None else own for own, mode in zip(given, MODES[self.mode]))
        return nodelay, interval, resend, nc

    def replace(self, **changes: Any) -> Profile:
        """A copy with these fields changed, checked as a new one."""
        made = dataclasses.replace(self, **changes)
        if "secret" in vars(self) and (made.key, made.cipher) == (self.key, self.cipher):
            vars(made)["secret"] = self.secret
        return made

    @classmethod
    def from_url(cls, url: str) -> Profile:
        """The profile that a URL's query spells: "kcp://host:port?crypt=aes&key=...&mode=fast3&fec=10,3". Host and port
        are not looked at; what is special in a URL ("%", "&", "#") is percent-encoded in a value, and "+" is a plus.

        Raises ValueError for another scheme, an unknown or repeated name, or a value that the field does not allow.
        """
        return cls(**_fields_of_url(url))

    @classmethod
    def from_kcptun(cls, path: Union[str, os.PathLike[str]]) -> Profile:
        """The profile of a kcptun client or server with this JSON configuration file, kcptun's defaults included.

        Which end it is for is told by its addresses, which are not used otherwise, nor is the environment's KCPTUN_KEY.
        UserWarning for a key that kcptun has not got; ValueError, naming the file and the key, for what is malformed or
        not supported, such as tcp; OSError when the file can't be read.
        """
        fields = _kcptun.fields_of(path)
        try:
            return cls(**fields)
        except ValueError as error:
            raise ValueError(f"kcptun file {os.fspath(path)!r}: {error}") from error


def _fields_of_url(url: str) -> dict[str, Any]:
    # A URL's fields, before they are checked together. No message shows the URL: it may hold a key, also one that was
    # not encoded and reads as another part.
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("URL: its host and port are malformed; allowed is kcp://host:port?name=value&...") from None
    if parts.scheme != "kcp":
        raise ValueError(f"URL: the scheme is {parts.scheme!r}; allowed is 'kcp'")
    if parts.fragment:
        raise ValueError("URL: it has a '#', which ends it; allowed in a value is %23")
    fields = {field.name: field for field in dataclasses.fields(Profile)}
    found: dict[str, Any] = {}
    for part in filter(None, parts.query.split("&")):
        name, _, text = part.partition("=")
        try:
            name, text = unquote(name, errors="strict"), unquote(text, errors="strict")
        except UnicodeDecodeError:
            raise ValueError("URL: percent-encoded bytes are not UTF-8; allowed is UTF-8") from None
        if name not in fields:
            if "key" in found:
                raise ValueError("URL: an unknown name follows key; an '&' in a value is written %26")
            raise ValueError(f"URL: unknown name {name!r}; allowed are {', '.join(fields)}")
        if name in found:
            raise ValueError(f"URL: {name} is given twice")
        found[name] = _parsed(fields[name], text)
    return found


def _described(allowed: Any) -> str:
    # What a field allows, in words.
    if isinstance(allowed, str):
        return allowed
    if isinstance(allowed, slice):
        return f"{allowed.start} to {allowed.stop}"
    return ", ".join(repr(value) for value in allowed)


def _checked(field: Any, value: Any) -> Any:
    # The value, in the field's type; ValueError or TypeError when it is not allowed.
    name, allowed, kind = field.name, field.metadata["allowed"], field.metadata["kind"]
    described = _described(allowed)
    if value is None and field.metadata["unset"] is not None:
        return None
    if allowed is _KEY:
        if not isinstance(value, (str, bytes)):
            raise TypeError(f"{name} is a {type(value).__name__}; allowed is {described}")
        return value
    if allowed is _PAIR:
        return _checked_pair(name, value)
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


def _checked_pair(name: str, value: Any) -> tuple[int, int]:
    numbers = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(numbers) != 2 or any(not isinstance(number, int) or isinstance(number, bool) for number in numbers):
        raise TypeError(f"{name} is {value!r}, a {type(value).__name__}; allowed is {_PAIR}")
    data, parity = numbers
    if min(numbers) < 1 or data + parity > SHARDS_MAX:
        raise ValueError(f"{name} is {value!r}; allowed is {_PAIR}")
    return int(data), int(parity)


def _parsed(field: Any, text: str) -> Any:
    # A field's value from a URL's query.
    kind, allowed = field.metadata["kind"], field.metadata["allowed"]
    if kind is str or allowed is _KEY:
        return text
    if allowed is _PAIR:
        try:
            data, parity = text.split(",")
            return int(data), int(parity)
        except ValueError:
            raise ValueError(f"{field.name} is {text!r}; allowed is two numbers, as 10,3") from None
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
        raise ValueError(f"{field.name} is {text!r}; allowed is a number, {_described(allowed)}") from None


_default: Optional[Profile] = None


def get_default_profile() -> Profile:
    """The profile of sockets made without one: what set_default_profile() set, else the environment's: KCPSOCK_PROFILE
    (a kcp:// URL), with KCPSOCK_KEY (a passphrase) and KCPSOCK_CRYPT in place of the URL's.

    The environment is read at first use; ValueError when it does not spell a profile.
    """
    global _default
    if _default is None:
        url = os.environ.get("KCPSOCK_PROFILE")
        own = {field: os.environ.get(name) for field, name in (("key", "KCPSOCK_KEY"), ("crypt", "KCPSOCK_CRYPT"))}
        try:
            fields = _fields_of_url(url) if url else {}
            fields.update({field: value for field, value in own.items() if value})
            _default = Profile(**fields)
        except ValueError as error:
            raise ValueError(f"environment KCPSOCK_PROFILE, KCPSOCK_KEY, KCPSOCK_CRYPT: {error}") from error
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
        default = field.metadata["unset"] or repr(field.default)
        lines.append(
            f"| {field.name} | {default} | {_described(field.metadata['allowed'])} | {descriptions[field.name]} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
