# SPDX-License-Identifier: MIT
"""The planted changes of `make mutate-c` still stand in the C sources: each can be planted, and changes something."""

from pathlib import Path

import pytest

from tests.mutation.c_changes import CHANGES

SOURCES = Path(__file__).parents[2] / "cffi_build"


@pytest.mark.parametrize("change", CHANGES, ids=[change.name for change in CHANGES])
def test_change_can_be_planted(change):
    (source,) = SOURCES.glob(f"*/{change.file}")
    assert source.read_text().count(change.before) == 1
    assert change.before != change.after


def test_change_names_are_their_own():
    names = [change.name for change in CHANGES]
    assert len(names) == len(set(names))
