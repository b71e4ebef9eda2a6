# SPDX-License-Identifier: MIT
"""Wrong arguments are refused before a wrong state, as by the stdlib.

The stdlib's methods look at their arguments, raise TypeError, ValueError, OverflowError or gaierror, and only then call
the system, which on a closed socket says EBADF. So when a state refuses a call, its arguments are first given to the
same method of a closed TCP socket: what that raises beside EBADF is wrong with them. A call that the state allows needs
no such check, since the stdlib's method is about to see the arguments itself.
"""

from __future__ import annotations

import _socket
from typing import Any, Callable


def _closed(family: int) -> Any:
    # On a descriptor of another kind, since this machine may lack the family.
    some, other = _socket.socketpair()
    other.close()
    sock = _socket.socket(family, _socket.SOCK_STREAM, 0, some.detach())
    sock.close()
    return sock


_nobody = {family: _closed(family) for family in (_socket.AF_INET, _socket.AF_INET6)}


def check(family: int, method: Callable[..., Any], *arguments: Any) -> None:
    """Raises what `method` of a socket of this family has against its arguments."""
    try:
        method(_nobody[family], *arguments)
    except _socket.gaierror:
        raise
    except OSError:
        pass
