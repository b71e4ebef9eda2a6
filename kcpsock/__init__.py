# SPDX-License-Identifier: MIT
"""The socket module over KCP, a reliable stream over UDP.

`import kcpsock as socket`, and blocking code that talks TCP talks KCP instead. The other end has to speak KCP too:
kcpsock, kcp-go with smux, or kcptun.

>>> import threading
>>> import kcpsock as socket
>>> server = socket.create_server(("127.0.0.1", 0))
>>> def echo():
...     with server.accept()[0] as peer:
...         while data := peer.recv(65536):
...             peer.sendall(data)
>>> thread = threading.Thread(target=echo)
>>> thread.start()
>>> with server, socket.create_connection(server.getsockname()) as client:
...     client.sendall(b"hello")
...     print(client.recv(65536))
b'hello'
>>> thread.join()

Every name of the stdlib's module is here. Streams of AF_INET and AF_INET6 are KCP; datagram, raw and AF_UNIX sockets
are the ordinary ones. In a greenlet of gevent a call waits cooperatively. Added are:

Profile -- how a connection behaves: framing, key and cipher, error correction, speed, windows, keepalive
socket(profile=), create_connection(profile=), create_server(profile=) -- sockets with a profile of their own
set_default_profile(), get_default_profile() -- the profile of all others
SOL_KCP, KCP_* -- level and options of setsockopt(): what may change while a connection lives
socket.kcp_info() -- a connection's numbers, a KCPInfo; stats() -- the totals of this process
socket.send_oob(), socket.set_oob_handler() -- packets beside the stream
RoutedSocket -- a socket that becomes KCP or TCP by the address that it connects to or binds

kcpsock.monkey puts this module in the place of `socket`, also for an unchanged program: python -m kcpsock.monkey.
kcpsock.adapters has requests, urllib3, httpx and httpcore over KCP; kcpsock.servers the stdlib's and gevent's servers.
"""

# The face of the package: the names that kcpsock implements, those it adds, and the rest of the stdlib's, passed on;
# tests/unit/test_face.py compares the lists with the stdlib. Everything outside this layer imports only this module.

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

__version__ = "0.1.0"  # pyproject.toml takes it from here

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
from ._numbers import KCPInfo as KCPInfo
from ._numbers import stats as stats
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

__all__ = sorted({*__extensions__, *_stdlib.__all__})  # the latter has __implements__ too
