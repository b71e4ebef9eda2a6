# SPDX-License-Identifier: MIT
"""kcptun's JSON configuration files as fields of a Profile: what a key means, its default, what is not for a socket.

Told from kcptun 20210922 by running it. Its decoder takes a key in any case and lets null stand for the default. Where
it goes on in silence, with aes for a cipher it doesn't know or with mode manual for a mode it doesn't know, we refuse:
the other end would not be understood, or slower than meant.
"""

from __future__ import annotations

import json
import os
import warnings
from typing import Any, Union

from ._errors import shown

Path = Union[str, "os.PathLike[str]"]

# Keys with a meaning for a connection, and their defaults. The passphrase is spelled so in kcptun.
_DEFAULTS: dict[str, Any] = {
    "key": "it's a secrect",
    "crypt": "aes",
    "mode": "fast",
    "mtu": 1350,
    "sndwnd": 1024,
    "rcvwnd": 1024,
    "datashard": 10,
    "parityshard": 3,
    "dscp": 0,
    "nocomp": False,
    "acknodelay": False,
    "nodelay": 0,
    "interval": 50,
    "resend": 0,
    "nc": 0,
    "sockbuf": 4 * 1024 * 1024,
    "smuxver": 1,
    "keepalive": 10,
    # What we have not got, because it changes the bytes on the wire: refused when it is on.
    "tcp": False,
    "qpp": False,
}
_CLIENT_DEFAULTS = {"sndwnd": 128, "rcvwnd": 512}
_NOT_SUPPORTED = {"tcp": "kcptun's imitation of TCP packets", "qpp": "quantum permutation pads"}

# Addresses: whose business they are is plain, and they tell a client's file from a server's.
_CLIENT_KEYS = ("localaddr", "remoteaddr")
_SERVER_KEYS = ("listen", "target")
# Without a meaning for a socket: the tunnel's connections, buffers that our engine sizes itself, logs, profiling.
_IGNORED = {
    *("conn", "autoexpire", "scavengettl", "closewait"),
    *("smuxbuf", "streambuf", "framesize"),
    *("log", "snmplog", "snmpperiod", "pprof", "quiet"),
    "qpp-count",
}

# kcptun's smux ends at once outside of these: its silence limit is 30 s.
_KEEPALIVE_S = (1, 30)


def fields_of(path: Path) -> dict[str, Any]:
    """The Profile fields that a kcptun client's or server's file spells. Warns of keys that kcptun has not got.

    ValueError naming the file, and the key, for what is malformed or not supported; OSError when it can't be read.
    """
    if "://" in os.fspath(path) and not os.path.exists(path):
        raise ValueError("kcptun file: the path is a URL; Profile.from_url() reads those")
    given = _read(path)
    is_client = any(name in given for name in _CLIENT_KEYS)
    is_server = any(name in given for name in _SERVER_KEYS)
    if is_client and is_server:
        raise _wrong(path, f"has keys of a client ({_CLIENT_KEYS}) and of a server ({_SERVER_KEYS}); allowed is one")
    config = dict(_DEFAULTS)
    if not is_server:  # nor does a file without addresses say so: a client's windows are the smaller ones
        config.update(_CLIENT_DEFAULTS)
    for name, value in given.items():
        if name in config:
            config[name] = _typed(path, name, value)
        elif name not in _IGNORED and name not in _CLIENT_KEYS + _SERVER_KEYS:
            warnings.warn(
                f"kcptun file {os.fspath(path)!r}: key {name!r} is not kcptun's, and is ignored", stacklevel=3
            )
    for name, what in _NOT_SUPPORTED.items():
        if config[name]:
            raise _wrong(path, f"{name} is True; {what}: not supported, allowed is False")
    low, high = _KEEPALIVE_S
    if not low <= config["keepalive"] <= high:
        raise _wrong(path, f"keepalive is {config['keepalive']!r}; allowed is {low} to {high}")
    return {
        "framing": "smux",
        "smux_version": config["smuxver"],
        "key": config["key"],
        "crypt": config["crypt"],
        "fec": _fec(config["datashard"], config["parityshard"]),
        **_arq(config),
        "sndwnd": config["sndwnd"],
        "rcvwnd": config["rcvwnd"],
        "mtu": config["mtu"],
        "ack_nodelay": config["acknodelay"],
        "dscp": config["dscp"],
        "sockbuf": config["sockbuf"],
        "keepalive": float(config["keepalive"]),
        "keepalive_timeout": 30.0,
        "compress": not config["nocomp"],
    }


def _read(path: Path) -> dict[str, Any]:
    # The file's keys, in lower case, that are not null; of two spellings of one the later counts, as in Go.
    with open(path, encoding="utf-8") as file:
        what = ""
        try:
            document = json.load(file)
        except (ValueError, RecursionError) as error:
            what = str(error)  # of the error itself nothing stays: it carries the whole text, and the key with it
    if what:
        raise _wrong(path, f"is not JSON: {what}")
    if not isinstance(document, dict):
        raise _wrong(path, f"holds a JSON {type(document).__name__}; allowed is an object of keys and values")
    return {name.lower(): value for name, value in document.items() if value is not None}


def _typed(path: Path, name: str, value: Any) -> Any:
    # A key's value, if it has the type that kcptun wants: it too takes no 10.0, "10" or 1 for true.
    kind = type(_DEFAULTS[name])
    if type(value) is not kind:
        what = "" if name == "key" else f"{shown(value)}, "
        raise _wrong(path, f"{name} is {what}a {type(value).__name__}; allowed is {kind.__name__}")
    return value


def _fec(datashard: int, parityshard: int) -> Any:
    return (datashard, parityshard) if datashard > 0 and parityshard > 0 else None


def _arq(config: dict[str, Any]) -> dict[str, Any]:
    # A mode brings its own numbers; those in the file count in mode manual only.
    if config["mode"] != "manual":
        return {"mode": config["mode"]}
    return {name: config[name] for name in ("nodelay", "interval", "resend", "nc")}


def _wrong(path: Path, what: str) -> ValueError:
    return ValueError(f"kcptun file {os.fspath(path)!r}: {what}")
