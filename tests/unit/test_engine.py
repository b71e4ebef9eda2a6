# SPDX-License-Identifier: MIT
"""How a profile reaches C, and who closes what when it doesn't."""

import dataclasses
import os

import pytest

import kcpsock
from kcpsock import Profile, _engine
from kcpsock._fec import coefficients
from kcpsock._native import ffi, lib


@pytest.fixture
def udp_fd():
    read, write = os.pipe()
    os.close(write)
    yield read
    with pytest.raises(OSError):
        os.fstat(read)  # closed, by whom it was handed over to


@pytest.fixture
def crypts(monkeypatch):
    """Numbers of crypts instead of crypts: (cipher, key) of each opened one, and which were closed."""
    opened = []
    monkeypatch.setattr(_engine, "open_crypt", lambda *args: opened.append(args) or 41 + len(opened))
    return opened


def test_every_field_reaches_c():
    made = _engine._c_profile(Profile(fec=(20, 5), dup=2, rate_limit=2**40, mtu=1200))
    assert (made.fec_data, made.fec_parity, made.dup, made.rate_limit, made.mtu_bytes) == (20, 5, 2, 2**40, 1200)
    made = _engine._c_profile(Profile())
    assert (made.fec_data, made.fec_parity, made.dup, made.rate_limit, made.compress) == (0, 0, 0, 0, 0)
    assert made.crypt == 0 and made.fec_coefficients == ffi.NULL


def test_handed_over_with_crypt_and_coefficients(crypts, udp_fd):
    seen = []

    def function(engine, udp_fd, profile):
        seen.append((engine, profile.crypt, bytes(ffi.buffer(profile.fec_coefficients, 30))))
        os.close(udp_fd)
        return -5

    profile = Profile(fec=(10, 3), key="k", crypt="sm4")
    with _engine._Handed([udp_fd], profile) as handed:
        handed.profile.crypt = handed.open_crypt()
        assert handed.over_to(function, 3, udp_fd, handed.profile) == -5
    assert seen == [(3, 42, coefficients(10, 3))]
    assert crypts == [("sm4", profile.secret)]


def test_an_interrupted_call_has_taken_over(crypts, udp_fd):
    def function(udp_fd):
        os.close(udp_fd)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with _engine._Handed([udp_fd], Profile(key="k")) as handed:
            handed.open_crypt()
            handed.over_to(function, udp_fd)


def test_closed_when_there_is_no_crypt(monkeypatch, udp_fd):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(_engine, "open_crypt", fail)
    with pytest.raises(MemoryError):
        _engine.connect(3, udp_fd, Profile(key="k"))


def test_closed_when_c_is_not_reached(monkeypatch, crypts, udp_fd):
    closed = []

    class Library:
        ks_crypt_close = staticmethod(closed.append)

        def __getattr__(self, name):
            return getattr(lib, name)

    monkeypatch.setattr(_engine, "lib", Library())
    with pytest.raises(OverflowError):
        _engine.connect(2**40, udp_fd, Profile(key="k"))
    assert closed == [42]


def test_closed_when_a_listener_is_refused_a_crypt(monkeypatch, udp_fd):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(_engine, "open_crypt", fail)
    with pytest.raises(MemoryError):
        _engine.listen(3, [udp_fd], Profile(key="k"), 5)


def test_info_has_the_counters_of_fec_and_oob():
    names = {field.name for field in dataclasses.fields(kcpsock.KCPInfo)}
    assert names >= {"fec_recovered", "fec_errs", "fec_parity_shards", "fec_full_sets", "fec_short_sets"}
    assert names >= {"fec_data", "fec_parity", "oob_sent", "oob_received"}


def test_stats_names_are_all_of_c():
    members = {member for member in _engine._STATS.values() if member is not None}
    assert members == {name for name in dir(ffi.new("ks_stats *")) if not name.startswith("_")}
    assert kcpsock.stats()["FECShardMin"] == 0
