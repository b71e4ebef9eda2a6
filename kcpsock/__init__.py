# SPDX-License-Identifier: MIT
"""kcpsock: `import kcpsock as socket`, and blocking code runs over KCP (reliable UDP) instead of TCP.

The face of the package. It has every name of the stdlib's module `socket`: those that kcpsock implements, those it
adds, and the rest, passed on; tests/unit/test_face.py compares the lists with the stdlib. Everything outside this layer
imports only this module.
"""

# ruff: noqa: E402, F401, I001

from __future__ import annotations

import socket as _stdlib
from typing import TYPE_CHECKING

from gevent.monkey import get_original as _get_original

if TYPE_CHECKING:
    # Of two definitions a type checker keeps the first: ours, then the stdlib's for the rest.
    from ._functions import create_connection as create_connection
    from ._functions import create_server as create_server
    from ._functions import fromfd as fromfd
    from ._functions import socketpair as socketpair
    from ._socket import socket as socket
    from socket import *  # type: ignore[assignment]  # noqa: F403

# In place of the stdlib's, under the same name.
__implements__ = [
    "close",
    "create_connection",
    "create_server",
    "fromfd",
    "getaddrinfo",
    "getfqdn",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "getnameinfo",
    "has_dualstack_ipv6",
    "socket",
    "socketpair",
]

# Added by kcpsock.
__extensions__ = [
    "KCPInfo",
    "KCP_ACK_NODELAY",
    "KCP_DSCP",
    "KCP_DUP",
    "KCP_INTERVAL",
    "KCP_NC",
    "KCP_NODELAY",
    "KCP_RATE_LIMIT",
    "KCP_RCVWND",
    "KCP_RESEND",
    "KCP_SNDWND",
    "KCP_WRITE_DELAY",
    "Profile",
    "RoutedSocket",
    "SOL_KCP",
    "get_default_profile",
    "set_default_profile",
    "stats",
]

# The stdlib's own (constants, exceptions, conversions, and private names that programs use), as if gevent had patched
# nothing.
__imports__ = [name for name in dir(_stdlib) if not name.startswith("__") and name not in __implements__]
for _name in __imports__:
    globals()[_name] = _get_original("socket", _name)
del _name

# "as": for type checkers these are the module's own.
from ._engine import KCPInfo as KCPInfo
from ._engine import stats as stats
from ._functions import (  # type: ignore[assignment]
    close,
    create_connection,
    create_server,
    fromfd,
    getaddrinfo,
    getfqdn,
    gethostbyaddr,
    gethostbyname,
    gethostbyname_ex,
    getnameinfo,
    has_dualstack_ipv6,
    socketpair,
)
from ._options import (
    KCP_ACK_NODELAY as KCP_ACK_NODELAY,
    KCP_DSCP as KCP_DSCP,
    KCP_DUP as KCP_DUP,
    KCP_INTERVAL as KCP_INTERVAL,
    KCP_NC as KCP_NC,
    KCP_NODELAY as KCP_NODELAY,
    KCP_RATE_LIMIT as KCP_RATE_LIMIT,
    KCP_RCVWND as KCP_RCVWND,
    KCP_RESEND as KCP_RESEND,
    KCP_SNDWND as KCP_SNDWND,
    KCP_WRITE_DELAY as KCP_WRITE_DELAY,
    SOL_KCP as SOL_KCP,
)
from ._profile import Profile as Profile
from ._profile import get_default_profile as get_default_profile
from ._profile import set_default_profile as set_default_profile
from ._routed import RoutedSocket as RoutedSocket
from ._socket import socket

__all__ = sorted({*__implements__, *__extensions__, *_stdlib.__all__})
