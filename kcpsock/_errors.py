# SPDX-License-Identifier: MIT
"""The one door through which results of the C data plane become exceptions.

C answers with a value >= 0 or with -errno. `check` passes the value on or raises the OSError that the stdlib raises for
that errno, so that ConnectionRefusedError, TimeoutError and their like come out by themselves.

`shown` is how a wrong value stands in a message.
"""

from __future__ import annotations

import os
import re
import socket as _stdlib
from typing import Any

# TimeoutError itself from Python 3.10 on; an OSError of its own before.
timeout = _stdlib.timeout


def error_of(errno: int, hint: str = "") -> OSError:
    """The exception for an errno: its class by errno, its text the system's, with what else is to be said behind it."""
    return OSError(errno, _with(os.strerror(errno), hint))


def check(result: int) -> int:
    """`result`, if it is one; raises OSError for a negative errno."""
    if result < 0:
        raise error_of(-result)
    return result


def timed_out(hint: str = "") -> OSError:
    """What the stdlib raises when a socket's timeout has passed: without errno."""
    return timeout(_with("timed out", hint))


def _with(text: str, hint: str) -> str:
    return f"{text}: {hint}" if hint else text


_PLAIN = re.compile("[a-zA-Z0-9_.,+-]{0,32}")


def shown(value: Any) -> str:
    """A wrong value in a message, unless a key may stand in it: in a dict, or a text with another part of a URL."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) is not None
    else:
        numbers = value if isinstance(value, (list, tuple)) else [value]
        plain = all(number is None or isinstance(number, (int, float)) for number in numbers)
    return repr(value) if plain else "not shown, as it may hold a key"
