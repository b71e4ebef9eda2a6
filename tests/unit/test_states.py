# SPDX-License-Identifier: MIT
"""The tables of a socket's life and of a stream's, and the page that is printed from them."""

from pathlib import Path

import pytest

from kcpsock import _states
from kcpsock._states import TABLE, Event, State, following
from tests.support import stream_states

PAGE = Path(__file__).resolve().parents[2] / "docs" / "states.md"


def test_page_is_printed_from_the_table():
    printed = _states.as_markdown() + stream_states.as_markdown()
    assert PAGE.read_text(encoding="utf-8") == printed, "python -m tests.support.stream_states > docs/states.md"


@pytest.mark.parametrize("kind", stream_states.TITLES)
def test_streams_steps_are_between_states_by_events(kind):
    states, events, steps = stream_states.machine(stream_states.HEADER.read_text(encoding="utf-8"), kind)
    assert {state for state, _ in steps} | set(steps.values()) == set(states)
    assert {event for _, event in steps} == set(events)


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
