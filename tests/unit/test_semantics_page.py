# SPDX-License-Identifier: MIT
"""docs/semantics.md names tests that exist."""

import pathlib
import re

TESTS = pathlib.Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "semantics.md"


def named():
    """(file, test) of each line of the first table."""
    for line in PAGE.read_text(encoding="utf-8").partition("\n## ")[0].splitlines():
        if not line.startswith("|") or line.startswith(("|---", "| what |")):
            continue
        _, _, shown_by, _ = line.split("|")
        for part in shown_by.split(";"):
            file, tests = re.fullmatch(r"\s*`([\w/.]+)`:((?: test_\w+)+)\s*", part).groups()
            yield from ((file, test) for test in tests.split())


def test_the_tests_of_the_page_exist():
    found = list(named())
    assert len(found) > 80
    missing = [
        (file, test)
        for file, test in found
        if not re.search(rf"^def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert missing == []
