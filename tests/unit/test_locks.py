# SPDX-License-Identifier: MIT
"""The order of all locks: cffi_build/lock.h has C's, docs/architecture.md has it whole.

tests/c/test_lock.c shows that a build with KS_CHECKS refuses what is against it; tests/socket/test_locks.py runs
Python's.
"""

import re
from pathlib import Path

from tests.support import locks

ROOT = Path(__file__).parent.parent.parent


def ranks():
    """lock.h's list: name of a lock -> its rank's, in order."""
    text = next((ROOT / "cffi_build").rglob("lock.h")).read_text()
    return {name: rank for rank, name in re.findall(r'EACH\((KS_RANK_\w+), "([^"]+)"', text)}


def sources():
    return sorted(path for path in (ROOT / "cffi_build").rglob("*.[ch]") if not path.name.startswith("lock."))


def test_each_lock_of_the_c_sources_has_a_rank():
    declared, given = set(), {}
    for path in sources():
        text = path.read_text()
        declared |= {f"{path.stem}.{name}" for name in re.findall(r"\bks_lock (\w+)[;\s]", text)}
        made = re.findall(r"ks_lock (\w+) = KS_LOCK_INIT\((\w+)\)|ks_lock_init\(&(?:\w+->)?(\w+), (\w+)\)", text)
        for static, static_rank, dynamic, dynamic_rank in made:
            given.setdefault(f"{path.stem}.{static or dynamic}", set()).add(static_rank or dynamic_rank)
    ranked = ranks()
    del ranked["the GIL"]
    assert declared == set(ranked)
    assert given == {name: {rank} for name, rank in ranked.items()}


def test_no_mutex_is_used_past_its_rank():
    for path in sources():
        assert "pthread_mutex" not in path.read_text(), path


def test_order_of_locks_in_the_documentation():
    text = (ROOT / "docs" / "architecture.md").read_text()
    python, c = re.search(r"The order of all locks.*?\n\n    (.*)\n    (.*)\n", text).groups()
    assert python.split("  ") == list(locks.PYTHON)
    assert c.split("  ") == list(ranks())
