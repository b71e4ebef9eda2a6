# SPDX-License-Identifier: MIT
"""The table of a socket's life, and the page that is printed from it."""

from pathlib import Path

import pytest

from kcpsock import _states
from kcpsock._states import TABLE, Event, State, following

PAGE = Path(__file__).resolve().parents[2] / "docs" / "states.md"


def test_page_is_printed_from_the_table():
    assert PAGE.read_text(encoding="utf-8") == _states.as_markdown(), "python -m kcpsock._states > docs/states.md"


def test_every_state_answers_every_call():
    by_engine = {Event.ESTABLISHED, Event.LOST}
    for state in State:
        assert set(TABLE[state]) | by_engine == set(Event)


def test_following():
    assert following(State.NEW, Event.BIND) is State.BOUND
    with pytest.raises(OSError, match="connected"):
        following(State.NEW, Event.RECV)


def test_nothing_happens_to_a_closed_socket():
    for event in TABLE[State.CLOSED]:
        with pytest.raises(OSError, match="Bad file descriptor"):
            following(State.CLOSED, event)


def test_every_state_can_be_reached():
    reached = {State.NEW, State.CLOSED}  # CLOSED by close(), from anywhere
    for _ in State:
        reached |= {entry for state in reached for entry in TABLE[state].values() if isinstance(entry, State)}
    assert reached == set(State)
