# SPDX-License-Identifier: MIT
"""Routes as the command line writes them."""

import pytest

import kcpsock
from kcpsock import Profile
from kcpsock.monkey import Routes, parse_route


def routes(*texts, otherwise=None):
    return Routes([parse_route(text) for text in texts], otherwise)


FAST3 = Profile(mode="fast3")


@pytest.mark.parametrize(
    "text,address",
    [
        ("127.0.0.1:80=kcp://?mode=fast3", ("127.0.0.1", 80)),
        ("127.0.0.1:*=kcp://?mode=fast3", ("127.0.0.1", 80)),
        ("*:80=kcp://?mode=fast3", ("10.0.0.1", 80)),
        ("*:*=kcp://?mode=fast3", ("10.0.0.1", 80)),
        ("[::1]:80=kcp://?mode=fast3", ("::1", 80, 0, 0)),
        ("[0:0::1]:80=kcp://?mode=fast3", ("::1", 80, 0, 0)),
        ("10.0.0.1:80=kcp://?mode=fast3", ("::ffff:10.0.0.1", 80, 0, 0)),
        ("0.0.0.0:80=kcp://?mode=fast3", ("", 80)),
        ("localhost:80=kcp://?mode=fast3", ("127.0.0.1", 80)),
        ("localhost:80=kcp://?mode=fast3", ("localhost", 80)),
        ("LocalHost:80=kcp://?mode=fast3", ("localhost.", 80)),
        ("far.invalid:80=kcp://?mode=fast3", (b"far.invalid", 80)),
    ],
)
def test_match(text, address):
    assert routes(text)(address) == FAST3


@pytest.mark.parametrize(
    "text,address",
    [
        ("127.0.0.1:80=kcp", ("127.0.0.1", 81)),
        ("127.0.0.1:80=kcp", ("127.0.0.2", 80)),
        ("[::1]:80=kcp", ("127.0.0.1", 80)),
        ("localhost:80=kcp", ("10.0.0.1", 80)),
        ("nowhere.invalid:80=kcp", ("10.0.0.1", 80)),
        ("near.invalid:80=kcp", ("far.invalid", 80)),
    ],
)
def test_no_match(text, address):
    assert routes(text)(address) is None
    assert routes(text, otherwise=FAST3)(address) == FAST3


def test_the_first_counts():
    table = routes("10.0.0.1:80=tcp", "10.0.0.1:*=kcp://?mode=fast3", "*:*=kcp")
    assert table(("10.0.0.1", 80)) is None
    assert table(("10.0.0.1", 81)) == FAST3
    assert table(("10.0.0.2", 80)) == kcpsock.get_default_profile()


def test_a_name_is_looked_up_once_and_when_needed(monkeypatch):
    asked = []

    def getaddrinfo(host, *rest):
        asked.append(host)
        if len(asked) == 1:
            raise kcpsock.gaierror("not now")
        return [(2, 1, 6, "", ("10.0.0.9", 0))]

    monkeypatch.setattr(kcpsock, "getaddrinfo", getaddrinfo)
    table = routes("db.example:80=kcp://?mode=fast3", "*:*=tcp")
    assert table(("10.0.0.9", 81)) is None and asked == []
    assert table(("10.0.0.9", 80)) is None  # the name was not found this time
    assert [table((f"10.0.0.{n}", 80)) for n in (8, 9)] == [None, FAST3]
    assert asked == ["db.example"] * 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp",
        "host=tcp",
        ":80=tcp",
        "host:80",
        "host:80=",
        "host:=tcp",
        "host:http=tcp",
        "host:65536=tcp",
        "host:-1=tcp",
        "host:²=tcp",
        "::1:80=tcp",
        "host:80=http://x",
        "host:80=kcp://?mode=slow",
    ],
)
def test_wrong(text):
    with pytest.raises(ValueError):
        parse_route(text)
