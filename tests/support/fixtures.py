# SPDX-License-Identifier: MIT
"""Fixtures for some folders of tests: a conftest.py imports what it wants."""

import pytest

import kcpsock
from tests.support import leaks
from tests.support.waiting import PATIENCE_S


@pytest.fixture(scope="module", autouse=True)
def no_leaks_left():
    """Descriptors and threads as before, counted after the module: a closed session stays for seconds."""
    kcpsock.create_server(("127.0.0.1", 0)).close()  # starts the engine
    with leaks.check(patience_s=PATIENCE_S):
        yield
