# SPDX-License-Identifier: MIT
"""tests/engine/test_memory.py at length: 1 GiB against a reader that waits, on the slower ways."""

import pytest

from tests.engine.conftest import peers  # noqa: F401 - a fixture
from tests.engine.pressure import MIB, hold_and_release

pytestmark = pytest.mark.soak
SECRET = {"key": "a passphrase", "crypt": "aes-128-gcm"}


@pytest.mark.parametrize("framing", ["smux", "raw"])
@pytest.mark.parametrize(
    "profile", [{"fec": (10, 3)}, SECRET, {"fec": (10, 3), **SECRET}], ids=["fec", "crypt", "both"]
)
def test_pressure_1_gib_sealed(peers, framing, profile):  # noqa: F811
    hold_and_release(peers, 1024 * MIB, framing, **profile)


def test_pressure_1_gib_smux_1(peers):  # noqa: F811
    hold_and_release(peers, 1024 * MIB, smux_version=1)
