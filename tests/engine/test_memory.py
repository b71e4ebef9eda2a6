# SPDX-License-Identifier: MIT
"""A reader that doesn't read: the sender is held by the windows, neither end's memory grows beyond them, and nothing is
lost or sent again for it. The long ones are in tests/soak."""

import pytest

from .pressure import MIB, hold_and_release


@pytest.mark.parametrize("framing", ["smux", "raw"])
def test_pressure_1_gib(peers, framing):
    hold_and_release(peers, 1024 * MIB, framing)


def test_pressure_smux_1(peers):
    hold_and_release(peers, 64 * MIB, smux_version=1)


@pytest.mark.parametrize("framing", ["smux", "raw"])
def test_pressure_fec_and_crypt(peers, framing):
    hold_and_release(peers, 64 * MIB, framing, fec=(10, 3), key="a passphrase", crypt="aes-128-gcm")


@pytest.mark.parametrize("framing", ["smux", "raw"])
def test_pressure_windows_that_follow(peers, framing):
    hold_and_release(peers, 64 * MIB, framing, sndwnd="auto", rcvwnd="auto")
