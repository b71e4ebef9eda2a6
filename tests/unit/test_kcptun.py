# SPDX-License-Identifier: MIT
"""Profile.from_kcptun: kcptun's configuration files."""

import json
import warnings

import pytest

from kcpsock import Profile

SECRET = "my s3cret"


@pytest.fixture(autouse=True)
def codec():
    pytest.importorskip("cramjam")  # kcptun compresses unless told otherwise


@pytest.fixture
def load(tmp_path):
    def load(config):
        path = tmp_path / "config.json"
        path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
        return Profile.from_kcptun(path)

    return load


def fields(**changes):
    client = {
        "smux_version": 1,
        "key": "it's a secrect",
        "crypt": "aes",
        "fec": (10, 3),
        "mode": "fast",
        "sndwnd": 128,
        "rcvwnd": 512,
        "mtu": 1350,
        "compress": True,
    }
    return Profile(**{**client, **changes})


def test_defaults(load):
    assert load({"localaddr": ":12948", "remoteaddr": "vps:29900"}) == fields()
    assert load({"listen": ":29900", "target": "127.0.0.1:80"}) == fields(sndwnd=1024, rcvwnd=1024)
    assert load({}) == fields()


def test_all_keys(load):
    config = {
        "remoteaddr": "vps:4000-5000",
        "key": SECRET,
        "crypt": "salsa20",
        "mode": "fast3",
        "conn": 4,
        "autoexpire": 60,
        "scavengettl": 600,
        "mtu": 1200,
        "sndwnd": 256,
        "rcvwnd": 2048,
        "datashard": 20,
        "parityshard": 5,
        "dscp": 46,
        "nocomp": True,
        "acknodelay": True,
        "nodelay": 0,
        "interval": 77,
        "resend": 9,
        "nc": 0,
        "sockbuf": 1 << 20,
        "smuxver": 2,
        "smuxbuf": 1 << 20,
        "framesize": 8192,
        "streambuf": 1 << 20,
        "keepalive": 5,
        "log": "",
        "snmplog": "",
        "snmpperiod": 60,
        "pprof": True,
        "quiet": True,
        "tcp": False,
        "qpp": False,
        "qpp-count": 61,
        "closewait": 30,
    }
    assert load(config) == Profile(
        smux_version=2,
        key=SECRET,
        crypt="salsa20",
        mode="fast3",
        mtu=1200,
        sndwnd=256,
        rcvwnd=2048,
        fec=(20, 5),
        dscp=46,
        ack_nodelay=True,
        sockbuf=1 << 20,
        keepalive=5,
    )


def test_manual_mode_takes_the_numbers_given(load):
    numbers = {"nodelay": 1, "interval": 15, "resend": 3, "nc": 1}
    assert load({"mode": "manual", **numbers}).arq == (1, 15, 3, 1)
    assert load({"mode": "manual"}).arq == (0, 50, 0, 0)
    assert load({"mode": "fast2", **numbers}).arq == (1, 20, 2, 1)


@pytest.mark.parametrize("shards", [(0, 3), (10, 0), (0, 0), (-1, 3)])
def test_no_fec(load, shards):
    assert load({"datashard": shards[0], "parityshard": shards[1]}).fec is None


@pytest.mark.parametrize(
    "config,field,value",
    [
        ({"keepalive": 1}, "keepalive", 1),
        ({"keepalive": 30}, "keepalive", 30),
        ({"datashard": 1, "parityshard": 1}, "fec", (1, 1)),
    ],
)
def test_smallest_and_largest(load, config, field, value):
    assert getattr(load(config), field) == value


def test_case_and_null_are_as_in_go(load):
    assert load('{"SndWnd": 77, "Key": "k", "rcvwnd": null, "NOCOMP": null}') == fields(sndwnd=77, key="k")


@pytest.mark.parametrize("crypt", ["null", "none"])
def test_crypts_without_a_key(load, crypt):
    assert load({"crypt": crypt}).cipher == crypt


def test_unknown_key_is_warned_of(load):
    with pytest.warns(UserWarning, match="config.json.*'sndwind'") as warned:
        assert load({"sndwind": 5}) == fields()
    assert warned[0].filename == __file__  # it names the caller's line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load({"log": "x", "conn": 3})


@pytest.mark.parametrize(
    "config,part",
    [
        ({"tcp": True}, "tcp"),
        ({"qpp": True}, "qpp"),
        ({"listen": ":1", "remoteaddr": "h:1"}, "remoteaddr"),
        ({"mtu": "1350"}, "mtu is '1350', a str; allowed is int"),
        ({"mtu": 1350.0}, "mtu"),
        ({"mtu": True}, "mtu"),
        ({"nocomp": 1}, "nocomp"),
        ({"crypt": 3}, "crypt"),
        ({"crypt": "rot13"}, "crypt is 'rot13'"),
        ({"mode": "turbo"}, "mode is 'turbo'"),
        ({"sndwnd": 0}, "sndwnd"),
        ({"smuxver": 3}, "smux_version"),
        ({"keepalive": 0}, "keepalive"),
        ({"keepalive": 31}, "keepalive"),
        ({"datashard": 250, "parityshard": 50}, "fec"),
        ({"mode": "manual", "resend": 99}, "resend"),
        ([], "list"),
        ("", "JSON"),
        ("{", "JSON"),
        ("[" * 100000, "JSON"),
    ],
)
def test_wrong(load, config, part):
    with pytest.raises(ValueError, match="config.json") as caught:
        load(config)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "config", [{"key": ["s3cret"]}, '{"key": "s3cret"', {"key": "s3cret", "mtu": 1}, {"key": "s3cret\ud800"}]
)
def test_wrong_does_not_show_the_key(load, config):
    with pytest.raises(ValueError) as caught:
        load(config)
    assert "s3cret" not in str(caught.value)


def test_not_text(tmp_path):
    (tmp_path / "c.json").write_bytes(b'{"key": "\xff"}')
    with pytest.raises(ValueError, match="c.json"):
        Profile.from_kcptun(str(tmp_path / "c.json"))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Profile.from_kcptun(tmp_path / "none.json")
