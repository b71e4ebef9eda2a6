# SPDX-License-Identifier: MIT
"""The part of docs/states.md that is about a stream inside the data plane, from the lists in
cffi_build/session/stream_states.h: `python -m tests.support.stream_states` prints the whole page."""

import re
from pathlib import Path

from kcpsock import _states

HEADER = Path(__file__).parents[2] / "cffi_build" / "session" / "stream_states.h"
TITLES = {
    "SENDING": "from the application to the peer",
    "RECEIVING": "from the peer to the application",
    "READER": "the application",
}


def entries(text, name, macro):
    """The arguments of each entry of a list, whose text has no parentheses of its own."""
    body = re.search(rf"#define KS_{name}\({macro}\) \\\n((?:.*\\\n)*.*)", text)[1]
    return re.findall(rf"{macro}\((.*)\)", body)


def machine(text, kind):
    """-> {state: meaning}, {event: meaning}, {(state, event): next state}"""
    named = r'(\w+), "(.*)"'
    states = dict(re.fullmatch(named, entry).groups() for entry in entries(text, f"{kind}_STATES", "STATE"))
    events = dict(re.fullmatch(named, entry).groups() for entry in entries(text, f"{kind}_EVENTS", "EVENT"))
    steps = [entry.split(", ") for entry in entries(text, f"{kind}_STEPS", "STEP")]
    return states, events, {(state, event): following for state, event, following in steps}


def as_markdown():
    text = HEADER.read_text(encoding="utf-8")
    lines = [
        "",
        "# The states of a stream in the data plane",
        "",
        "From the lists in `cffi_build/session/stream_states.h`, by `python -m tests.support.stream_states`: the",
        "state that follows an event, in brackets when it is the same one; - where the event can't happen.",
    ]
    for kind, title in TITLES.items():
        states, events, steps = machine(text, kind)
        lines += ["", f"## {kind.capitalize()}: {title}", ""]
        lines += [f"- **{state}**: {meaning}" for state, meaning in states.items()]
        lines += ["", "| | " + " | ".join(states) + " |", "|---" * (len(states) + 1) + "|"]
        for event, meaning in events.items():
            following = [(state, steps.get((state, event), "-")) for state in states]
            lines.append(f"| {meaning} | " + " | ".join(f"({to})" if to == at else to for at, to in following) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(_states.as_markdown() + as_markdown(), end="")
