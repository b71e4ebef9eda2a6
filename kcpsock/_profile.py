# SPDX-License-Identifier: MIT
"""Profile: how a KCP connection is to behave. A value, checked when it is made; knows nothing of sockets.

`python -m kcpsock._profile` prints the README's table from the fields below, as help(kcpsock.Profile) does.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import re
import sys
import warnings
from typing import Any, Callable, Optional, TypeVar, Union
from urllib.parse import unquote, urlsplit

from . import _kcptun, _snappy
from ._crypt import NAMES, key_of, overhead
from ._errors import shown

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
ENVIRONMENT = {"key": "KCPSOCK_KEY", "crypt": "KCPSOCK_CRYPT"}

FEC_HEAD_BYTES = 8
KCP_MTU_MIN = 50  # what KCP needs of a packet when the other headers have taken theirs
MTU_MAX = 1472
MTU_FIRST = 1400  # where "auto" begins
WINDOW_MAX = 32768  # packets
AUTO = "auto"
_MTU_WHY = "IPv4's 1500 bytes less 28 of IP and UDP headers, and kcp-go reads no longer packet"
SHARDS_MAX = 255  # data and parity packets of a FEC group

# Kinds of `allowed`, beside a tuple of values and a slice for a range with both ends.
_FLAG = "True or False"
_KEY = "a str (a passphrase), bytes (the cipher's own key), or None"
_PAIR = f"None, or (data, parity): two ints of 1 or more, together {SHARDS_MAX} at most"


def _field(
    default: Any,
    allowed: Any,
    meaning: str,
    *,
    unit: str = "",
    kind: type = int,
    unset: Optional[str] = None,
    above: Optional[str] = None,
    word: Optional[str] = None,
) -> Any:
    # meaning, unit: for help() and the README. unset: likewise; what None, then allowed too, stands for. above: why
    # there is nothing larger. word: allowed beside numbers.
    metadata = {"allowed": allowed, "meaning": meaning, "unit": unit, "kind": kind}
    metadata.update({"unset": unset, "above": above, "word": word})
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How a KCP connection behaves: framing, encryption, speed, windows. Immutable; `replace()` makes a changed copy.

    Raises ValueError, naming the field, the value and what is allowed, or TypeError for a value of a wrong type.
    Both ends must agree on `framing`, `smux_version`, `key`, `crypt` and `compress`; all else is each end's own choice.
    """

    framing: str = _field(
        "smux",
        ("smux", "raw"),
        "smux: connect, end of stream, half-close, as TCP has them; "
        "raw: kcp-go's bare session without these",
        kind=str,
    )
    smux_version: int = _field(2, (2, 1), "smux protocol version: 2 has a window per stream, 1 is kcptun's default")
    key: Optional[Union[str, bytes]] = _field(
        None,
        _KEY,
        "the secret of both ends: a str is a passphrase, made a key as kcptun does; bytes are the cipher's key itself",
        unset="None",
    )
    crypt: Optional[str] = _field(
        None,
        NAMES,
        "cipher of each packet; only gcm and poly1305 tell forged ones; none: just a checksum, null: not even that",
        kind=str,
        unset="{} without a key, {} with one".format(*DEFAULT_CRYPTS),
    )
    fec: Optional[tuple[int, int]] = _field(
        None,
        _PAIR,
        "forward error correction: after `data` packets come `parity` ones, from which as many lost ones are rebuilt; "
        "control adaptive: where they are of use, with steady streams that lose something",
        unset="None",
    )
    mode: str = _field(
        "fast2", tuple(MODES), "sets nodelay, interval, resend and nc together, from saving to fast", kind=str
    )
    nodelay: Optional[int] = _field(
        None,
        (0, 1),
        "1: retransmission timeout from 30 ms on, growing by half; 0: from 100 ms on, doubling",
        unset="from the mode",
    )
    interval: Optional[int] = _field(
        None, slice(10, 5000), "the longest time between two flushes", unit="ms", unset="from the mode"
    )
    resend: Optional[int] = _field(
        None,
        slice(0, 16),
        "later ones acknowledged before a missing one is sent again; 0: never, only its timeout counts",
        unit="packets",
        unset="from the mode",
    )
    nc: Optional[int] = _field(None, (0, 1), "1: no congestion window", unset="from the mode")
    control: str = _field(
        "adaptive",
        ("adaptive", "fixed"),
        "adaptive: sends as fast as the path delivers; fixed: as KCP does, a window at a time (with nc=0 always)",
        kind=str,
    )
    insurance: Union[int, str] = _field(
        AUTO,
        slice(0, 400),
        "control adaptive: copies of what would be missed late (the last of what is sent, where the path loses), "
        "of the bytes sent at most; 0: none; auto: 200 KB/s at most",
        unit="%",
        word=AUTO,
    )
    sndwnd: Union[int, str] = _field(
        AUTO,
        slice(1, WINDOW_MAX),
        "what may be under way at most; auto: as much as the path takes with control adaptive, else 1024",
        unit="packets",
        word=AUTO,
    )
    rcvwnd: Union[int, str] = _field(
        AUTO,
        slice(1, WINDOW_MAX),
        "what the peer is given room for; auto: from 1024 on, more where what comes and KCPSOCK_MEMORY allow it",
        unit="packets",
        word=AUTO,
    )
    mtu: Union[int, str] = _field(
        AUTO,
        slice(KCP_MTU_MIN, MTU_MAX),
        "UDP payload of a packet, at most; auto: 1400 at first, then what the path takes. Crypt takes 0, 20 or 28 "
        "bytes of it, FEC 8; 50 must be left for KCP",
        unit="bytes",
        above=_MTU_WHY,
        word=AUTO,
    )
    stream: bool = _field(
        True,
        _FLAG,
        "raw framing: True: a byte stream; False: KCP's message mode, which keeps the borders of writes",
        kind=bool,
    )
    ack_nodelay: bool = _field(False, _FLAG, "acknowledge each packet at once, at the price of more packets", kind=bool)
    write_delay: bool = _field(
        False, _FLAG, "hold what was written until the next flush, so that packets get fuller", kind=bool
    )
    dup: int = _field(0, slice(0, 15), "sent beside each packet", unit="copies")
    rate_limit: int = _field(0, slice(0, 2**40), "UDP payload sent, at most; 0: no limit", unit="bytes/s")
    dscp: int = _field(0, slice(0, 63), "differentiated services code point in the IP header")
    sockbuf: int = _field(
        4 * 1024 * 1024,
        slice(1, 2**31 - 1),
        "send buffer and receive buffer asked for the UDP socket; the system's limits apply",
        unit="bytes",
    )
    keepalive: float = _field(
        10.0,
        slice(0, 86400),
        "the time between keepalives (smux frames; raw: challenges of a silent peer, which every KCP answers); "
        "0: none are sent",
        unit="s",
        kind=float,
    )
    keepalive_timeout: float = _field(
        30.0,
        slice(0.001, 86400),
        "silence after which the connection ends with ETIMEDOUT; not below keepalive",
        unit="s",
        kind=float,
    )
    compress: bool = _field(
        False,
        _FLAG,
        "smux framing: snappy compression of all that is sent; needs `pip install kcpsock[snappy]`",
        kind=bool,
    )
    max_streams: int = _field(
        1024, slice(1, 65536), "smux framing: that a peer may hold open in one session; more are reset", unit="streams"
    )
    max_half_open: int = _field(
        1024,
        slice(0, 65536),
        "of a listener: begun by strangers who have shown nothing yet; further ones must first show that they hear us, "
        "and nothing is kept of them until then; 0: all of them",
        unit="sessions",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        self._check_key()
        headers = self.headers_bytes
        if self.packet_bytes - headers < KCP_MTU_MIN:
            raise ValueError(
                f"mtu is {self.mtu}; allowed is {KCP_MTU_MIN + headers} to {MTU_MAX}: the headers of crypt and FEC "
                f"take {headers} bytes of it, and KCP needs {KCP_MTU_MIN}"
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
            if _parsed_by(str.encode, self.key) is None:
                raise ValueError("key has characters that are not Unicode text; allowed is a str or bytes")

    @property
    def cipher(self) -> str:
        """crypt as it applies: its name, or what stands for None."""
        return DEFAULT_CRYPTS[self.key is not None] if self.crypt is None else self.crypt

    @property
    def secret(self) -> bytes:
        """The cipher's key. For a passphrase this takes milliseconds, once."""
        # No cached_property: before Python 3.12 it has a lock, which a forked child would find held for ever.
        made: Optional[bytes] = vars(self).get("_secret")
        if made is None:
            made = b"" if self.key is None or self.cipher in KEYLESS_CRYPTS else key_of(self.cipher, self.key)
            vars(self)["_secret"] = made
        return made

    @property
    def headers_bytes(self) -> int:
        """What crypt and FEC take of a packet."""
        return overhead(self.cipher) + (FEC_HEAD_BYTES if self.fec else 0)

    @property
    def packet_bytes(self) -> int:
        """UDP payload of a packet that a connection begins with, at most; a number as mtu is all that it ever sends."""
        return MTU_FIRST if isinstance(self.mtu, str) else self.mtu

    @property
    def arq(self) -> tuple[int, int, int, int]:
        """nodelay, interval (ms), resend, nc as they apply: the mode's, unless given one by one."""
        given = (self.nodelay, self.interval, self.resend, self.nc)
        nodelay, interval, resend, nc = (mode if own is None else own for own, mode in zip(given, MODES[self.mode]))
        return nodelay, interval, resend, nc

    def replace(self, **changes: Any) -> Profile:
        """A copy with these fields changed, checked as a new one."""
        made = dataclasses.replace(self, **changes)
        if "_secret" in vars(self) and (made.key, made.cipher) == (self.key, self.cipher):
            vars(made)["_secret"] = self.secret
        return made

    @classmethod
    def from_url(cls, url: str) -> Profile:
        """The profile that a URL's query spells: "kcp://host:port?crypt=aes&key=...&mode=fast3&fec=10,3". Host and port
        are not looked at; what is special in a URL ("%", "&", "#") is percent-encoded in a value, and "+" is a plus.

        A URL that names no key has the environment's KCPSOCK_KEY, and one that names no crypt has KCPSOCK_CRYPT. So
        where the environment has a key nothing goes in the clear, unless the URL itself says crypt=null (or none).

        Raises ValueError for another scheme, an unknown or repeated name, or a value that the field does not allow.
        """
        fields = _fields_of_url(url)
        added = _of_environment(fields)
        try:
            return cls(**fields, **added)
        except ValueError as error:
            if not added:
                raise
            names = ", ".join(ENVIRONMENT[field] for field in added)
            raise ValueError(f"URL, with what the environment adds ({names}): {error}") from error

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
    if not isinstance(url, str):
        raise TypeError(f"URL is a {type(url).__name__}; allowed is a str")
    parts = _parsed_by(urlsplit, url)
    if parts is None:
        raise ValueError("URL: its host and port are malformed; allowed is kcp://host:port?name=value&...")
    if parts.scheme != "kcp":
        raise ValueError(f"URL: the scheme is {shown(parts.scheme)}; allowed is 'kcp'")
    if parts.fragment:
        raise ValueError("URL: it has a '#', which ends it; allowed in a value is %23")
    fields = {field.name: field for field in dataclasses.fields(Profile)}
    found: dict[str, Any] = {}
    for part in filter(None, parts.query.split("&")):
        decoded = [_parsed_by(_unquoted, piece) for piece in part.partition("=")[::2]]
        name, text = decoded
        if name is None or text is None:
            raise ValueError("URL: percent-encoded bytes are not UTF-8; allowed is UTF-8")
        if name not in fields:
            if "key" in found:
                raise ValueError("URL: an unknown name follows key; an '&' in a value is written %26")
            which = repr(name) if text and _NAME.fullmatch(name) else "(not shown, as it may be a key)"
            raise ValueError(f"URL: unknown name {which}; allowed are {', '.join(fields)}")
        if name in found:
            raise ValueError(f"URL: {name} is given twice")
        found[name] = _parsed(fields[name], text)
    return found


def _of_environment(fields: dict[str, Any]) -> dict[str, Any]:
    # The rule for key and crypt where a URL spells a profile, wherever it stands: what the environment adds to its
    # `fields`. What the URL says counts. A crypt that needs no key is not added beside a key that the URL names,
    # nor a key beside a crypt that needs none.
    given = _environment()
    if "crypt" in fields or ("key" in fields and given.get("crypt") in KEYLESS_CRYPTS):
        given.pop("crypt", None)
    if "key" in fields or fields.get("crypt") in KEYLESS_CRYPTS:
        given.pop("key", None)
    return given


def _environment() -> dict[str, Any]:
    # The fields that the environment has a variable of their own for, as far as they are set.
    own = {field: os.environ.get(name) for field, name in ENVIRONMENT.items()}
    return {field: value for field, value in own.items() if value}


def warn_of_plaintext(profile: Profile) -> None:
    """RuntimeWarning when nothing is encrypted though the environment has a key, and nobody asked for that: a Profile
    made in code says what it wants, the environment adds nothing to it, and a forgotten key looks like a wanted one.
    """
    if profile.key is None and profile.crypt is None and "key" in _environment():
        frame, level = sys._getframe(1), 2
        while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "kcpsock":
            frame, level = frame.f_back, level + 1
        warnings.warn(
            "KCPSOCK_KEY is set, but this connection's Profile, made in code, names no key, so nothing is encrypted: "
            "give it a key, make it by Profile.from_url(), or say crypt='null'",
            RuntimeWarning,
            stacklevel=level,
        )


T = TypeVar("T")
_NAME = re.compile("[a-z_]{1,32}")


def _parsed_by(parse: Callable[[str], T], text: str) -> Optional[T]:
    # parse(text); None when it raises ValueError. Such an error holds the text, and would go along as the context of
    # any that is raised while it is handled; "from None" does not remove it.
    try:
        return parse(text)
    except ValueError:
        return None


def _unquoted(text: str) -> str:
    return unquote(text, errors="strict")


def _described(allowed: Any, word: Optional[str] = None) -> str:
    # What a field allows, in words.
    if word is not None:
        return f"{word!r}, {_described(allowed)}"
    if isinstance(allowed, str):
        return allowed
    if isinstance(allowed, slice):
        return f"{allowed.start} to {allowed.stop}"
    return ", ".join(repr(value) for value in allowed)


def _checked(field: Any, value: Any) -> Any:
    # The value, in the field's type; ValueError or TypeError when it is not allowed.
    name, allowed, kind = field.name, field.metadata["allowed"], field.metadata["kind"]
    word = field.metadata["word"]
    described = _described(allowed, word)
    if word is not None and isinstance(value, str):
        if value != word:
            raise ValueError(f"{name} is {shown(value)}; allowed is {described}")
        return word
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
        raise TypeError(f"{name} is {shown(value)}, a {type(value).__name__}; allowed is {kind.__name__}: {described}")
    if allowed is _FLAG:
        good = value in (0, 1)
    elif isinstance(allowed, slice):
        good = math.isfinite(value) and allowed.start <= value <= allowed.stop
    else:
        good = value in allowed
    if not good:
        above = field.metadata["above"]
        why = f": {above}" if above is not None and value > allowed.stop else ""
        raise ValueError(f"{name} is {shown(value)}; allowed is {described}{why}")
    return kind(value)


def _checked_pair(name: str, value: Any) -> tuple[int, int]:
    numbers = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(numbers) != 2 or any(not isinstance(number, int) or isinstance(number, bool) for number in numbers):
        raise TypeError(f"{name} is {shown(value)}, a {type(value).__name__}; allowed is {_PAIR}")
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
        pair = _parsed_by(lambda text: [int(number) for number in text.split(",")], text)
        if pair is None or len(pair) != 2:
            raise ValueError(f"{field.name} is {shown(text)}; allowed is two numbers, as 10,3")
        return tuple(pair)
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
            raise ValueError(f"{field.name} is {shown(text)}; allowed is one of {', '.join(flags)}")
        return flags[text.lower()]
    if text == field.metadata["word"]:
        return text
    number = _parsed_by(float if kind is float else int, text)
    if number is None:
        described = _described(allowed, field.metadata["word"])
        raise ValueError(f"{field.name} is {shown(text)}; allowed is a number, {described}")
    return number


_default: Optional[Profile] = None


def get_default_profile() -> Profile:
    """The profile of sockets made without one: what set_default_profile() set, else the environment's: KCPSOCK_PROFILE
    (a kcp:// URL), with KCPSOCK_KEY (a passphrase) and KCPSOCK_CRYPT in place of the URL's.

    The environment is read at first use; ValueError when it does not spell a profile.
    """
    global _default
    if _default is None:
        url = os.environ.get("KCPSOCK_PROFILE")
        try:
            fields = _fields_of_url(url) if url else {}
            _default = Profile(**{**fields, **_environment()})
        except ValueError as error:
            raise ValueError(f"environment KCPSOCK_PROFILE, KCPSOCK_KEY, KCPSOCK_CRYPT: {error}") from error
    return _default


def set_default_profile(profile: Optional[Profile]) -> None:
    """Sets the profile of sockets made from now on without one. None: the environment's again."""
    global _default
    if profile is not None and not isinstance(profile, Profile):
        raise TypeError(f"profile is a {type(profile).__name__}; allowed is a Profile or None")
    _default = profile


def _described_fields() -> list[tuple[str, str, str, str]]:
    # Of each: name, default, what is allowed, meaning.
    return [
        (
            field.name,
            field.metadata["unset"] or repr(field.default),
            f"{_described(field.metadata['allowed'], field.metadata['word'])} {field.metadata['unit']}".rstrip(),
            field.metadata["meaning"],
        )
        for field in dataclasses.fields(Profile)
    ]


def as_markdown() -> str:
    """The README's table of fields."""
    head = "| field | default | allowed | meaning |\n|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(described)} |\n" for described in _described_fields())


if Profile.__doc__:  # not with -OO
    Profile.__doc__ = (
        inspect.cleandoc(Profile.__doc__)
        + "\n\nFields:\n"
        + "".join(
            f"\n{name}: {allowed}; default: {default}\n    {meaning}\n"
            for name, default, allowed, meaning in _described_fields()
        )
    )

if __name__ == "__main__":
    print(as_markdown(), end="")
