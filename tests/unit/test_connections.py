# SPDX-License-Identifier: MIT
"""How a profile reaches C, and who closes what when it doesn't."""

import dataclasses
import errno
import os

import pytest

from kcpsock import Profile, _connections
from kcpsock._fec import coefficients
from kcpsock._native import ffi, lib
from kcpsock._profile import SHARDS_MAX


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
    monkeypatch.setattr(_connections, "open_crypt", lambda *args: opened.append(args) or 41 + len(opened))
    return opened


# What a field may be set to, so that C sees another profile.
OTHER = {
    "framing": "raw", "smux_version": 1, "mode": "fast3", "nodelay": 0, "interval": 33, "resend": 7, "nc": 0,
    "fec": (20, 5), "compress": True, "control": "fixed", "mtu": 1200,
}  # fmt: skip
OF_CRYPT = {"key", "crypt"}  # these reach C as a crypt: see _Handed


def fields_of(profile):
    made = _connections._c_profile(profile)
    return {name: getattr(made, name) for name, _ in ffi.typeof("ks_profile").fields}


def other_value(field):
    if field.name in OTHER:
        return OTHER[field.name]
    if field.metadata["word"] is not None:
        return 1
    return not field.default if isinstance(field.default, bool) else field.default + 1


@pytest.mark.parametrize("field", dataclasses.fields(Profile), ids=lambda field: field.name)
def test_every_field_reaches_c(field):
    if field.name in OF_CRYPT:
        return
    before, after = fields_of(Profile()), fields_of(Profile(**{field.name: other_value(field)}))
    changed = {name: value for name, value in after.items() if value != before[name]}
    expected = {
        "fec": {"fec_data": 20, "fec_parity": 5},
        "mode": {"interval_ms": 10},
        "framing": {"framing": 0},
        "control": {"adaptive": 0},
    }
    if field.name in expected:
        assert changed == expected[field.name]
    else:
        ((name, value),) = changed.items()
        assert name in (field.name, *(f"{field.name}_{unit}" for unit in ("ms", "pkts", "bytes")))
        assert value == other_value(field) * (1000 if field.type == "float" else 1)


def test_every_field_of_c_is_filled():
    most = {name: value for name, value in OTHER.items() if name != "framing"}
    most.update(sndwnd=1, rcvwnd=1)
    without = {name for name, value in fields_of(Profile(**most, dup=1, rate_limit=1, dscp=1)).items() if not value}
    assert without == {"nodelay", "nc", "adaptive", "ack_nodelay", "write_delay", "crypt", "fec_coefficients"}
    rest = fields_of(Profile(nodelay=1, nc=1, ack_nodelay=True, write_delay=True))
    assert all(rest[name] for name in ("nodelay", "nc", "ack_nodelay", "write_delay"))


def bounds_of_c():
    found = {}
    while (bounds := lib.ks_profile_bounds[len(found)]).name:
        found[ffi.string(bounds.name).decode()] = bounds.least, bounds.most
    return found


def bounds_of_python(name):
    """The same, for a field of C, from Profile."""
    if name in ("fec_data", "fec_parity"):
        return 0, SHARDS_MAX
    if name == "framing":
        return lib.KS_FRAMING_RAW, lib.KS_FRAMING_SMUX
    if name == "adaptive":
        return 0, 1
    fields = {field.name: field for field in dataclasses.fields(Profile)}
    (field,) = (fields[part] for part in (name, name.rpartition("_")[0]) if part in fields)
    allowed, kind = field.metadata["allowed"], field.metadata["kind"]
    if kind is bool:
        return 0, 1
    least, most = (allowed.start, allowed.stop) if isinstance(allowed, slice) else (min(allowed), max(allowed))
    if field.metadata["word"] is not None:
        least = _connections.in_c(field.name, field.metadata["word"])
    return (_connections.whole_ms(least), _connections.whole_ms(most)) if kind is float else (least, most)


@pytest.mark.parametrize("name,bounds", bounds_of_c().items(), ids=str)
def test_bounds_are_the_same_in_c_and_in_python(name, bounds):
    assert bounds == bounds_of_python(name)


def test_every_field_of_c_has_bounds():
    names = {name for name, _ in ffi.typeof("ks_profile").fields}
    assert set(bounds_of_c()) == names - {"crypt", "fec_coefficients"}


@pytest.mark.parametrize("name,bounds", bounds_of_c().items(), ids=str)
def test_c_refuses_what_is_out_of_bounds(name, bounds):
    made = _connections._c_profile(Profile())
    assert lib.ks_connect(-1, -1, -1, made) == -errno.ESRCH  # it looks at the profile first
    for value in (bounds[0] - 1, bounds[1] + 1):
        try:
            setattr(made, name, value)
        except OverflowError:
            assert value == 2**31  # what the field can't hold needs no check
        else:
            assert lib.ks_connect(-1, -1, -1, made) == -errno.EINVAL


def test_handed_over_with_crypt_and_coefficients(crypts, udp_fd):
    seen = []

    def function(engine, udp_fd, profile):
        seen.append((engine, profile.crypt, bytes(ffi.buffer(profile.fec_coefficients, 30))))
        os.close(udp_fd)
        return -5

    profile = Profile(fec=(10, 3), key="k", crypt="sm4")
    with _connections._Handed([udp_fd], profile) as handed:
        handed.profile.crypt = handed.open_crypt()
        assert handed.over_to(function, 3, udp_fd, handed.profile) == -5
    assert seen == [(3, 42, coefficients(10, 3))]
    assert crypts == [("sm4", profile.secret)]


def test_an_interrupted_call_has_taken_over(crypts, udp_fd):
    def function(udp_fd):
        os.close(udp_fd)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with _connections._Handed([udp_fd], Profile(key="k")) as handed:
            handed.open_crypt()
            handed.over_to(function, udp_fd)


def test_closed_when_there_is_no_crypt(monkeypatch, udp_fd):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(_connections, "open_crypt", fail)
    with pytest.raises(MemoryError):
        _connections.connect(3, udp_fd, Profile(key="k"))


def test_closed_when_c_is_not_reached(monkeypatch, crypts, udp_fd):
    closed = []

    class Library:
        ks_crypt_close = staticmethod(closed.append)

        def __getattr__(self, name):
            return getattr(lib, name)

    monkeypatch.setattr(_connections, "lib", Library())
    with pytest.raises(OverflowError):
        _connections.connect(2**40, udp_fd, Profile(key="k"))
    assert closed == [42]


def test_closed_when_a_listener_is_refused_a_crypt(monkeypatch, udp_fd):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(_connections, "open_crypt", fail)
    with pytest.raises(MemoryError):
        _connections.listen(3, [udp_fd], Profile(key="k"), 5)


@pytest.mark.parametrize("seconds,ms", [(0, 0), (0.0001, 1), (0.0004, 1), (0.0016, 2), (1, 1000), (86400, 86_400_000)])
def test_milliseconds_of_seconds(seconds, ms):
    made = _connections._c_profile(Profile(keepalive=seconds, keepalive_timeout=max(seconds, 0.001)))
    assert made.keepalive_ms == ms and made.keepalive_timeout_ms == max(ms, 1)
