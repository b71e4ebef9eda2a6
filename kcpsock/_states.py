# SPDX-License-Identifier: MIT
"""The life of a KCP socket: one enum, one table. `python -m kcpsock._states` prints it as in docs/states.md.

A method asks `following(state, event)` before it does anything: the answer is the state that comes next, or the OSError
that Linux TCP raises there. What the kernel keeps by itself stays out: a half-closed connection is CONNECTED, its
descriptor knows the rest.

Two rules are not in the table. NEW reads BOUND when bind() gave the socket a name: a connect that failed leaves the
name. And a CONNECTING socket moves only when somebody asks (`_socket.socket._refresh`): the engine calls nobody back.
"""

from __future__ import annotations

import enum
from errno import EALREADY, EBADF, EINVAL, EISCONN, ENOTCONN, EPIPE, errorcode
from typing import Union

from ._errors import error_of


class State(enum.Enum):
    """Where a KCP socket stands."""

    NEW = "no name, no peer"
    BOUND = "has a UDP port, refuses strangers"
    LISTENING = "the engine accepts connections for it"
    CONNECTING = "the peer has not answered yet"
    CONNECTED = "bytes flow, in one direction at least"
    ENDED = "the connection died; received bytes can still be read"
    CLOSED = "no descriptor"


class Event(enum.Enum):
    """A call, or what the engine found out."""

    BIND = "bind()"
    LISTEN = "listen()"
    CONNECT = "connect()"
    ACCEPT = "accept()"
    RECV = "recv()"
    SEND = "send()"
    SHUTDOWN = "shutdown()"
    GETPEERNAME = "getpeername()"
    ESTABLISHED = "peer acknowledged"
    LOST = "refused, reset, timed out"


_S, _E = State, Event

# A row per state, an entry per event: the next state, or the errno. Engine events that can't happen have no entry.
TABLE: dict[State, dict[Event, Union[State, int]]] = {
    _S.NEW: {
        _E.BIND: _S.BOUND,
        _E.LISTEN: _S.LISTENING,
        _E.CONNECT: _S.CONNECTING,
        _E.ACCEPT: EINVAL,
        _E.RECV: ENOTCONN,
        _E.SEND: EPIPE,
        _E.SHUTDOWN: ENOTCONN,
        _E.GETPEERNAME: ENOTCONN,
    },
    _S.BOUND: {
        _E.BIND: EINVAL,
        _E.LISTEN: _S.LISTENING,
        _E.CONNECT: _S.CONNECTING,
        _E.ACCEPT: EINVAL,
        _E.RECV: ENOTCONN,
        _E.SEND: EPIPE,
        _E.SHUTDOWN: ENOTCONN,
        _E.GETPEERNAME: ENOTCONN,
    },
    _S.LISTENING: {
        _E.BIND: EINVAL,
        _E.LISTEN: _S.LISTENING,
        _E.CONNECT: EISCONN,
        _E.ACCEPT: _S.LISTENING,
        _E.RECV: ENOTCONN,
        _E.SEND: EPIPE,
        _E.SHUTDOWN: _S.LISTENING,
        _E.GETPEERNAME: ENOTCONN,
    },
    _S.CONNECTING: {
        _E.BIND: EINVAL,
        _E.LISTEN: EINVAL,
        _E.CONNECT: EALREADY,
        _E.ACCEPT: EINVAL,
        _E.RECV: _S.CONNECTING,
        _E.SEND: _S.CONNECTING,
        _E.SHUTDOWN: _S.NEW,  # as TCP in SYN_SENT: the attempt is given up, the socket can be used again
        _E.GETPEERNAME: ENOTCONN,
        _E.ESTABLISHED: _S.CONNECTED,
        _E.LOST: _S.NEW,
    },
    _S.CONNECTED: {
        _E.BIND: EINVAL,
        _E.LISTEN: EINVAL,
        _E.CONNECT: EISCONN,
        _E.ACCEPT: EINVAL,
        _E.RECV: _S.CONNECTED,
        _E.SEND: _S.CONNECTED,
        _E.SHUTDOWN: _S.CONNECTED,
        _E.GETPEERNAME: _S.CONNECTED,
        _E.LOST: _S.ENDED,
    },
    _S.ENDED: {
        _E.BIND: EINVAL,
        _E.LISTEN: EINVAL,
        _E.CONNECT: EISCONN,
        _E.ACCEPT: EINVAL,
        _E.RECV: _S.ENDED,
        _E.SEND: _S.ENDED,
        _E.SHUTDOWN: ENOTCONN,
        _E.GETPEERNAME: ENOTCONN,
    },
    _S.CLOSED: {event: EBADF for event in Event if event not in (_E.ESTABLISHED, _E.LOST)},
}

# Where recv() and send() go straight to the descriptor.
FLOWING = (State.CONNECTED, State.CONNECTING, State.ENDED)  # a tuple: an enum's hash is computed in Python


def following(state: State, event: Event) -> State:
    """The state after `event` in `state`. Raises the OSError that TCP would raise; KeyError for what can't happen."""
    entry = TABLE[state][event]
    if isinstance(entry, State):
        return entry
    raise error_of(entry)


def as_markdown() -> str:
    """Its part of docs/states.md."""
    lines = [
        "# The states of a KCP socket",
        "",
        "Printed by `python -m kcpsock._states` from the table in `kcpsock/_states.py`: the state that follows an",
        "event, in brackets when it is the same one, or the errno that the call raises. After a connection attempt",
        "that failed NEW reads BOUND if bind() had been called.",
        "",
    ]
    lines += [f"- **{state.name}**: {state.value}" for state in State]
    lines += ["", "| | " + " | ".join(state.name for state in State) + " |", "|---" * (len(State) + 1) + "|"]
    for event in Event:
        cells = []
        for state in State:
            entry = TABLE[state].get(event)
            if entry is None:
                cells.append("-")
            elif isinstance(entry, State):
                cells.append(f"({entry.name})" if entry is state else entry.name)
            else:
                cells.append(errorcode[entry])
        lines.append(f"| {event.value} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
