# SPDX-License-Identifier: MIT
"""Profile: every field's limits, messages, URLs, the default."""

import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kcpsock
from kcpsock import Profile, _profile

FIELDS = {field.name: field for field in dataclasses.fields(Profile)}


@pytest.fixture(autouse=True)
def default_profile():
    yield
    kcpsock.set_default_profile(None)


def test_defaults():
    profile = Profile()
    assert (profile.framing, profile.smux_version, profile.mode) == ("smux", 2, "fast2")
    assert (profile.sndwnd, profile.rcvwnd, profile.mtu, profile.sockbuf) == (1024, 1024, 1400, 4 << 20)
    assert (profile.stream, profile.ack_nodelay, profile.write_delay, profile.dscp) == (True, False, False, 0)
    assert (profile.keepalive, profile.keepalive_timeout) == (10, 30)


@pytest.mark.parametrize(
    "mode,arq", [("normal", (0, 40, 2, 1)), ("fast", (0, 30, 2, 1)), ("fast2", (1, 20, 2, 1)), ("fast3", (1, 10, 2, 1))]
)
def test_modes(mode, arq):
    assert Profile(mode=mode).arq == arq


def test_one_by_one_overrides_the_mode():
    assert Profile(mode="fast", interval=15, nc=0).arq == (0, 15, 2, 0)
    assert Profile(mode="fast", interval=15).replace(mode="fast3").arq == (1, 15, 2, 1)
    assert Profile(nodelay=False).arq[0] == 0


def test_keyword_only_and_frozen():
    with pytest.raises(TypeError):
        Profile("raw")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Profile().mtu = 1200


def test_is_a_value():
    assert Profile(mtu=1200) == Profile(mtu=1200) != Profile()
    assert hash(Profile(mtu=1200)) == hash(Profile(mtu=1200))
    assert pickle.loads(pickle.dumps(Profile(mtu=1200))) == Profile(mtu=1200)


@pytest.mark.parametrize(
    "field,value",
    [
        ("framing", "tcp"),
        ("smux_version", 3),
        ("mode", "turbo"),
        ("nodelay", 2),
        ("interval", 9),
        ("interval", 5001),
        ("resend", -1),
        ("resend", 17),
        ("nc", 2),
        ("sndwnd", 0),
        ("sndwnd", 32769),
        ("rcvwnd", 0),
        ("mtu", 49),
        ("mtu", 1501),
        ("stream", 2),
        ("dscp", 64),
        ("sockbuf", 0),
        ("keepalive", -1),
        ("keepalive", float("nan")),
        ("keepalive_timeout", 0),
        ("keepalive_timeout", float("inf")),
    ],
)
def test_value_out_of_range(field, value):
    with pytest.raises(ValueError) as caught:
        Profile(**{field: value})
    assert field in str(caught.value) and repr(value) in str(caught.value) and "allowed" in str(caught.value)


@pytest.mark.parametrize(
    "field,value",
    [
        ("framing", 1),
        ("mode", None),
        ("smux_version", "2"),
        ("sndwnd", 1.5),
        ("sndwnd", None),
        ("sndwnd", True),
        ("mtu", "1400"),
        ("stream", "yes"),
        ("keepalive", "10"),
        ("interval", "10"),
    ],
)
def test_value_of_wrong_type(field, value):
    with pytest.raises(TypeError) as caught:
        Profile(**{field: value})
    assert field in str(caught.value) and repr(value) in str(caught.value) and "allowed" in str(caught.value)


def test_keepalive_timeout_is_not_below_keepalive():
    with pytest.raises(ValueError, match="keepalive_timeout is 5.*keepalive"):
        Profile(keepalive_timeout=5)
    assert Profile(keepalive=0, keepalive_timeout=5).keepalive == 0


def test_unknown_field():
    with pytest.raises(TypeError):
        Profile(colour="red")
    with pytest.raises(TypeError):
        Profile().replace(colour="red")


def test_from_url():
    assert Profile.from_url("kcp://host:4000?mode=fast3&sndwnd=512&stream=false&keepalive=2.5") == Profile(
        mode="fast3", sndwnd=512, stream=False, keepalive=2.5
    )
    assert Profile.from_url("kcp://") == Profile.from_url("kcp://host") == Profile()


@pytest.mark.parametrize(
    "url,part",
    [
        ("kcp://h?colour=red", "colour"),
        ("kcp://h?mtu=9000", "mtu"),
        ("kcp://h?mtu=many", "mtu"),
        ("kcp://h?mtu=", "mtu"),
        ("kcp://h?stream=perhaps", "stream"),
        ("kcp://h?mtu=1200&mtu=1300", "twice"),
        ("tcp://h?mtu=1200", "tcp"),
        ("mtu=1200", "scheme"),
    ],
)
def test_from_url_wrong(url, part):
    with pytest.raises(ValueError, match=part):
        Profile.from_url(url)


@given(st.text())
def test_from_url_never_anything_but_value_error(text):
    try:
        Profile.from_url("kcp://h?" + text)
    except ValueError:
        pass


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "mode": st.sampled_from(sorted(_profile.MODES)),
            "interval": st.integers(10, 5000),
            "resend": st.integers(0, 16),
            "sndwnd": st.integers(1, 32768),
            "mtu": st.integers(50, 1500),
            "write_delay": st.booleans(),
            "keepalive": st.floats(0, 30),
        },
    )
)
def test_from_url_round_trip(fields):
    query = "&".join(f"{name}={value}" for name, value in fields.items())
    assert Profile.from_url(f"kcp://host?{query}") == Profile(**fields)


def test_default_profile(monkeypatch):
    monkeypatch.delenv("KCPSOCK_PROFILE", raising=False)
    kcpsock.set_default_profile(None)
    assert kcpsock.get_default_profile() == Profile()
    kcpsock.set_default_profile(Profile(mtu=1000))
    with kcpsock.socket() as sock:
        assert sock.profile.mtu == 1000
    with kcpsock.socket(profile=Profile(mtu=900)) as sock:
        assert sock.profile.mtu == 900
    with pytest.raises(TypeError, match="profile"):
        kcpsock.set_default_profile("fast3")


def test_default_profile_of_the_environment(monkeypatch):
    monkeypatch.setenv("KCPSOCK_PROFILE", "kcp://?mtu=1111")
    kcpsock.set_default_profile(None)
    assert kcpsock.get_default_profile().mtu == 1111
    monkeypatch.setenv("KCPSOCK_PROFILE", "kcp://?mtu=1")
    kcpsock.set_default_profile(None)
    with pytest.raises(ValueError, match="KCPSOCK_PROFILE.*mtu"):
        kcpsock.get_default_profile()


def test_every_field_is_described():
    table = _profile.as_markdown()
    descriptions = _profile._descriptions()
    assert set(descriptions) == set(FIELDS)
    for name in FIELDS:
        assert f"| {name} |" in table
