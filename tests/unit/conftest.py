# SPDX-License-Identifier: MIT
import importlib
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """bench(name): a module of bench/, which is no package; gone from sys.modules after the test."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        # All of them: a package that stayed would go on naming the modules that it had.
        if str(BENCH) in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]
