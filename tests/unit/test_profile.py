# SPDX-License-Identifier: MIT
"""Profile: every field's limits, messages, URLs, the default."""

import dataclasses
import json
import pickle
import pydoc
import re
import sys
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kcpsock
from kcpsock import Profile, _profile
from kcpsock._crypt import NAMES, key_of, overhead

SECRET = "s3cret & more"
FIELDS = {field.name: field for field in dataclasses.fields(Profile)}


@pytest.fixture(autouse=True)
def default_profile(monkeypatch):
    for name in ("KCPSOCK_PROFILE", "KCPSOCK_KEY", "KCPSOCK_CRYPT"):
        monkeypatch.delenv(name, raising=False)
    yield
    kcpsock.set_default_profile(None)


def test_defaults():
    profile = Profile()
    assert (profile.framing, profile.smux_version, profile.mode) == ("smux", 2, "fast2")
    assert (profile.sndwnd, profile.rcvwnd, profile.mtu, profile.sockbuf) == ("auto", "auto", "auto", 4 << 20)
    assert (profile.packet_bytes, Profile(mtu=1200).packet_bytes) == (1400, 1200)
    assert (profile.stream, profile.ack_nodelay, profile.write_delay, profile.dscp) == (True, False, False, 0)
    assert (profile.keepalive, profile.keepalive_timeout) == (10, 30)
    assert (profile.key, profile.crypt, profile.cipher, profile.secret) == (None, None, "null", b"")
    assert (profile.fec, profile.dup, profile.rate_limit, profile.compress) == (None, 0, 0, False)
    assert profile.max_streams == 1024
    assert profile.max_half_open == 1024


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
        ("sndwnd", "wide"),
        ("rcvwnd", 0),
        ("rcvwnd", "AUTO"),
        ("mtu", 49),
        ("mtu", "1400"),
        ("max_streams", 0),
        ("max_streams", 65537),
        ("max_half_open", -1),
        ("max_half_open", 65537),
        ("mtu", 1473),
        ("stream", 2),
        ("dscp", 64),
        ("crypt", "rot13"),
        ("fec", (0, 3)),
        ("fec", (10, 0)),
        ("fec", (253, 3)),
        ("dup", -1),
        ("dup", 16),
        ("rate_limit", -1),
        ("rate_limit", 2**40 + 1),
        ("compress", 2),
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
        ("mtu", None),
        ("stream", "yes"),
        ("keepalive", "10"),
        ("interval", "10"),
        ("crypt", 1),
        ("fec", 10),
        ("fec", "10,3"),
        ("fec", (10,)),
        ("fec", (10, 3, 1)),
        ("fec", (10.0, 3)),
        ("fec", (True, 3)),
        ("dup", True),
        ("rate_limit", 1e6),
        ("compress", "yes"),
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


# --- key and crypt


def shows_key(text, key=SECRET):
    return key in str(text) or quote(key, safe="") in str(text)


def test_crypt_default_depends_on_the_key():
    assert Profile().cipher == "null"
    assert Profile(key=SECRET).cipher == "aes-128-gcm"
    assert Profile(key=SECRET, crypt="null").cipher == "null"
    assert Profile().replace(key=SECRET).cipher == "aes-128-gcm"


@pytest.mark.parametrize("crypt", NAMES)
def test_every_crypt(crypt):
    if crypt in _profile.KEYLESS_CRYPTS:
        assert Profile(crypt=crypt).secret == Profile(crypt=crypt, key=SECRET).secret == b""
        return
    with pytest.raises(ValueError, match=f"key is None.*{crypt}"):
        Profile(crypt=crypt)
    profile = Profile(crypt=crypt, key=SECRET)
    assert profile.secret == key_of(crypt, SECRET)
    assert Profile(crypt=crypt, key=profile.secret).secret == profile.secret


def test_key_is_derived_once(monkeypatch):
    profile = Profile(key=SECRET)
    assert profile.replace(mtu=1200).secret
    assert profile.secret == key_of("aes-128-gcm", SECRET)
    monkeypatch.setattr(_profile, "key_of", None)
    assert profile.secret == profile.replace(mtu=1200).secret
    monkeypatch.setattr(_profile, "key_of", lambda crypt, key: (crypt, key))
    assert profile.replace(key="other").secret == ("aes-128-gcm", "other")
    assert profile.replace(crypt="sm4").secret == ("sm4", SECRET)


def test_key_of_wrong_length():
    with pytest.raises(ValueError, match="key") as caught:
        Profile(key=b"sixteen bytes not", crypt="aes-128")
    assert "16" in str(caught.value) and not shows_key(caught.value, "sixteen")


@pytest.mark.parametrize("key", ["", b"", "\ud800abc"])
def test_key_without_sense(key):
    with pytest.raises(ValueError, match="key.*allowed") as caught:
        Profile(key=key)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("key", [bytearray(SECRET.encode()), [SECRET], 12345678])
def test_key_of_wrong_type(key):
    with pytest.raises(TypeError, match="key is a .*allowed") as caught:
        Profile(key=key)
    assert not shows_key(caught.value) and "12345678" not in str(caught.value)


def test_key_is_compared_but_never_shown():
    profile = Profile(key=SECRET, mtu=1200)
    assert profile.secret
    assert not shows_key(repr(profile)) and not shows_key(str(profile)) and "key=..." in repr(profile)
    assert not shows_key(repr(Profile(key=SECRET.encode(), crypt="none")))
    assert "key=None" in repr(Profile())
    assert profile == Profile(key=SECRET, mtu=1200) != Profile(key="other", mtu=1200)
    assert Profile(key="k") != Profile(key=b"k", crypt="none")
    assert hash(profile) == hash(Profile(key=SECRET, mtu=1200))
    assert pickle.loads(pickle.dumps(profile)) == profile


def test_repr_can_be_evaluated():
    assert eval(repr(Profile(fec=(10, 3), crypt="none"))) == Profile(fec=(10, 3), crypt="none")


# --- FEC, headers, compression


@pytest.mark.parametrize("fec", [(10, 3), [10, 3], (1, 1), (254, 1)])
def test_fec(fec):
    assert Profile(fec=fec).fec == tuple(fec) and type(Profile(fec=fec).fec) is tuple
    hash(Profile(fec=fec))


@given(st.sampled_from([None, *NAMES]), st.sampled_from([None, (10, 3)]), st.integers(50, 1472))
def test_mtu_leaves_room_for_kcp(crypt, fec, mtu):
    headers = (overhead(crypt) if crypt else 28) + (8 if fec else 0)
    if mtu - headers >= 50:
        assert Profile(key=SECRET, crypt=crypt, fec=fec, mtu=mtu).headers_bytes == headers
        return
    with pytest.raises(ValueError) as caught:
        Profile(key=SECRET, crypt=crypt, fec=fec, mtu=mtu)
    for part in ("mtu", mtu, 50 + headers, headers, 50):
        assert str(part) in str(caught.value)


@pytest.mark.parametrize("way", ["fields", "replace", "url", "kcptun"])
def test_mtu_ends_where_kcp_go_stops_reading(way, tmp_path):
    """kcp-go 5.7.5 hears no packet of more than 1,472 bytes: who asks for one is told, and why."""

    def make(mtu):
        if way == "kcptun":
            (tmp_path / "kcptun.json").write_text(json.dumps({"remoteaddr": "h:1", "mtu": mtu}))
            return Profile.from_kcptun(tmp_path / "kcptun.json")
        if way == "url":
            return Profile.from_url(f"kcp://h?mtu={mtu}")
        return Profile(mtu=mtu) if way == "fields" else Profile().replace(mtu=mtu)

    assert make(1472).mtu == 1472
    with pytest.raises(ValueError, match="mtu is 1473; allowed is 'auto', 50 to 1472: IPv4's 1500 bytes less 28"):
        make(1473)


def test_mtu_too_small_is_told_its_own_reason():
    with pytest.raises(ValueError, match="mtu is 49; allowed is 'auto', 50 to 1472$"):
        Profile(mtu=49)


def test_compress_needs_smux():
    with pytest.raises(ValueError, match="compress is True.*raw"):
        Profile(framing="raw", compress=True)
    assert Profile(framing="raw", compress=False).compress is False


def test_compress_needs_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(ImportError, match=r"pip install kcpsock\[snappy\]"):
        Profile(compress=True)


def test_compress():
    pytest.importorskip("cramjam")
    assert Profile(compress=True).compress is True


# --- URLs


def test_unknown_field():
    with pytest.raises(TypeError):
        Profile(colour="red")
    with pytest.raises(TypeError):
        Profile().replace(colour="red")


def test_from_url():
    assert Profile.from_url("kcp://host:4000?mode=fast3&sndwnd=512&stream=false&keepalive=2.5") == Profile(
        mode="fast3", sndwnd=512, stream=False, keepalive=2.5
    )
    assert Profile.from_url("kcp://?sndwnd=auto&rcvwnd=auto") == Profile()
    assert Profile.from_url("kcp://") == Profile.from_url("kcp://host") == Profile()
    assert Profile.from_url("kcp://h?crypt=sm4&key=a%26b%20%C3%BC+c&fec=10,3&dup=1&rate_limit=1000000") == Profile(
        crypt="sm4", key="a&b \u00fc+c", fec=(10, 3), dup=1, rate_limit=1000000
    )


@pytest.mark.parametrize(
    "url,part",
    [
        ("kcp://h?colour=red", "colour"),
        ("kcp://h?mtu=9000", "mtu"),
        ("kcp://h?mtu=many", "mtu"),
        ("kcp://h?mtu=", "mtu"),
        ("kcp://h?mtu=Auto", "mtu"),
        ("kcp://h?rcvwnd=wide", "'auto', 1 to 32768"),
        ("kcp://h?stream=perhaps", "stream"),
        ("kcp://h?mtu=1200&mtu=1300", "twice"),
        ("kcp://h?fec=10", "fec"),
        ("kcp://h?fec=10,3,1", "fec"),
        ("kcp://h?fec=ten,3", "fec"),
        ("kcp://h?fec=0,3", "fec"),
        ("kcp://h?crypt=aes", "key"),
        ("kcp://h?key=", "key"),
        ("kcp://h?key=%ff", "UTF-8"),
        ("tcp://h?mtu=1200", "tcp"),
        ("mtu=1200", "scheme"),
    ],
)
def test_from_url_wrong(url, part):
    with pytest.raises(ValueError, match=part):
        Profile.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "kcp://h?key={}&mtu=1",
        "kcp://h?key={}&colour=red",
        "kcp://h?key={}&key={}",
        "kcp://h?key={}&crypt=rot13",
        "kcp://h?key={}%ff",
        "kcp://h?key={}%23#{}",
        "kcp://h?key=x#{}",
        "kcp://h?key=x&{}",
        "kcp://h?key=x&{}=y",
        "kcp://h&key={}?mtu=1",
        "kcp://[h?key={}",
        "tcp://h?key={}",
    ],
)
def test_from_url_wrong_does_not_show_the_key(url, monkeypatch):
    url = url.replace("{}", "s3cret")
    monkeypatch.setenv("KCPSOCK_PROFILE", url)
    for read in (lambda: Profile.from_url(url), kcpsock.get_default_profile):
        with pytest.raises(ValueError) as caught:
            read()
        assert "s3cret" not in str(caught.value)


@given(st.text(min_size=1, alphabet=st.characters(codec="utf-8")))
def test_from_url_key_round_trip(key):
    assert Profile.from_url(f"kcp://h?key={quote(key, safe='')}").key == key


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
            "sndwnd": st.integers(1, 32768) | st.just("auto"),
            "mtu": st.integers(100, 1472) | st.just("auto"),
            "write_delay": st.booleans(),
            "keepalive": st.floats(0, 30),
            "dup": st.integers(0, 15),
            "rate_limit": st.integers(0, 2**40),
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


@pytest.mark.parametrize(
    "url,key,crypt,expected",
    [
        (None, SECRET, None, {"key": SECRET}),
        (None, SECRET, "sm4", {"key": SECRET, "crypt": "sm4"}),
        (None, None, "none", {"crypt": "none"}),
        (None, "", "", {}),
        ("kcp://?mtu=1200&key=a&crypt=aes", SECRET, "sm4", {"mtu": 1200, "key": SECRET, "crypt": "sm4"}),
        ("kcp://?crypt=aes", SECRET, None, {"key": SECRET, "crypt": "aes"}),
        ("kcp://?key=a&fec=10,3", "", "", {"key": "a", "fec": (10, 3)}),
    ],
)
def test_environment(monkeypatch, url, key, crypt, expected):
    for name, value in (("PROFILE", url), ("KEY", key), ("CRYPT", crypt)):
        if value is not None:
            monkeypatch.setenv(f"KCPSOCK_{name}", value)
    kcpsock.set_default_profile(None)
    assert kcpsock.get_default_profile() == Profile(**expected)


def test_environment_wrong(monkeypatch):
    monkeypatch.setenv("KCPSOCK_KEY", SECRET)
    monkeypatch.setenv("KCPSOCK_CRYPT", "rot13")
    kcpsock.set_default_profile(None)
    with pytest.raises(ValueError, match="KCPSOCK_CRYPT.*crypt is 'rot13'") as caught:
        kcpsock.get_default_profile()
    assert not shows_key(caught.value)


def test_every_field_is_described():
    table = _profile.as_markdown()
    for name in FIELDS:
        assert f"| {name} |" in table


@pytest.mark.parametrize("name", FIELDS)
def test_help_shows_unit_range_default_and_meaning(name):
    text = pydoc.plain(pydoc.render_doc(Profile))
    metadata, default = FIELDS[name].metadata, FIELDS[name].default
    (line, meaning) = re.search(rf"^ \|  {name}: (.*)\n \|      (.*)$", text, re.MULTILINE).groups()
    allowed, _, shown = line.partition("; default: ")
    assert allowed.endswith(metadata["unit"]) and meaning == metadata["meaning"] and len(meaning) > 5
    if isinstance(metadata["allowed"], slice):
        bounds = [str(metadata["allowed"].start), "to", str(metadata["allowed"].stop)]
        word = [f"{metadata['word']!r},"] if metadata["word"] is not None else []
        assert allowed.split()[: 3 + len(word)] == word + bounds
    assert shown == (metadata["unset"] if default is None else repr(default))


def test_what_has_a_unit_names_it():
    unit_of = {name: field.metadata["unit"] for name, field in FIELDS.items() if field.metadata["unit"]}
    ranges = {name for name, field in FIELDS.items() if isinstance(field.metadata["allowed"], slice)}
    assert set(unit_of) == ranges - {"dscp"}
    assert (unit_of["interval"], unit_of["mtu"], unit_of["keepalive"]) == ("ms", "bytes", "s")
