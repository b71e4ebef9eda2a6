# SPDX-License-Identifier: MIT
"""Keys: no message shows one, whatever way it comes in; and where the environment has one, nothing goes in the clear
without somebody saying so."""

import json
import os
import socket
import subprocess
import sys
import warnings

import pytest

import kcpsock
from kcpsock import Profile, monkey
from kcpsock.adapters._endpoint import resolved
from tests.support.processes import LONG_S, start

KEY = "m4rkedKey"
URL = f"kcp://far.example:4000?key={KEY}"

# Texts in the place of a URL, wrong in as many ways as people are.
WRONG_URLS = {
    "unknown field": URL + "&colour=red",
    "wrong field": URL + "&mtu=many",
    "unknown crypt": URL + "&crypt=rot13",
    "no text": f"{URL}%ff",
    "no text, before": f"kcp://?mode=%ff{KEY}&key={KEY}",
    "surrogate": URL + "%ed%a0%80",
    "another scheme": URL.replace("kcp:", "tcp:"),
    "no scheme": URL.partition("://")[2],
    "fragment": f"kcp://?key=x#{KEY}",
    "raw ampersand": f"kcp://?key=x&{KEY}",
    "raw ampersand, equals": f"kcp://?key=x&{KEY}=y",
    "HTML's ampersand": f"kcp://?mode=fast3&amp;key={KEY}",
    "semicolon": f"kcp://?mode=fast3;key={KEY}",
    "comma and blank": f"kcp://?fec=10,3, key={KEY}",
    "question mark": f"kcp://?mtu=1200?key={KEY}",
    "encoded ampersand": f"kcp://?stream=true%26key={KEY}",
    "space": f"kcp://?keepalive=10 key={KEY}",
    "no name": f"kcp://?{KEY}",
    "colon": f"kcp://?mode=fast3&key:{KEY}",
    "port": f"kcp://far.example:4000key={KEY}?mtu=1",
    "bracket": f"kcp://[far.example?key={KEY}",
    "no query": f"kcp://far.example&key={KEY}?mtu=1",
    "normalized host": f"kcp://far\u2100.example?key={KEY}",
    "two": f"{URL}&key={KEY}",
}
# Things in the place of a Profile.
NOT_PROFILES = {"URL": URL, "bytes": URL.encode(), "dict": {"key": KEY}, "tuple": ("kcp", KEY), "list": [URL]}


def texts(error):
    """All that is told of an exception and of what stands behind it."""
    seen = []
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is not None and error not in seen:
            seen.append(error)
            waiting += [error.__cause__, error.__context__]
    return [text for error in seen for text in (str(error), repr(error), repr(error.args))]


def told(call, *args, **kwargs):
    """What a call that is refused says."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(Exception) as refused:  # noqa: PT011 (any, since each is looked into)
            call(*args, **kwargs)
    return texts(refused.value) + [str(warning.message) for warning in caught]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("KCPSOCK_PROFILE", "KCPSOCK_KEY", "KCPSOCK_CRYPT"):
        monkeypatch.delenv(name, raising=False)
    kcpsock.set_default_profile(None)
    yield
    kcpsock.set_default_profile(None)
    monkey.unpatch_socket()


def from_environment(monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    kcpsock.set_default_profile(None)
    return kcpsock.get_default_profile()


@pytest.mark.parametrize("url", WRONG_URLS.values(), ids=WRONG_URLS)
@pytest.mark.parametrize("way", ["from_url", "environment", "socket", "route", "parse_url", "endpoint"])
def test_no_message_of_a_url_shows_its_key(monkeypatch, way, url):
    if way in ("environment", "socket"):
        monkeypatch.setenv("KCPSOCK_PROFILE", url)
    call = {
        "from_url": lambda: Profile.from_url(url),
        "environment": kcpsock.get_default_profile,
        "socket": kcpsock.socket,
        "route": lambda: monkey.parse_route(f"*:80={url}"),
        "parse_url": lambda: monkey._routes.parse_url(url),
        "endpoint": lambda: resolved(None, url),
    }[way]
    assert not [text for text in told(call) if KEY in text]


@pytest.mark.parametrize("wrong", NOT_PROFILES.values(), ids=NOT_PROFILES)
@pytest.mark.parametrize(
    "call",
    [
        lambda wrong: kcpsock.socket(profile=wrong),
        lambda wrong: kcpsock.RoutedSocket(profile=wrong),
        lambda wrong: kcpsock.create_connection(("127.0.0.1", 1), profile=wrong),
        lambda wrong: kcpsock.create_server(("127.0.0.1", 0), profile=wrong),
        lambda wrong: kcpsock.set_default_profile(wrong),
        lambda wrong: monkey.patch_socket(wrong),
        lambda wrong: monkey.patch_socket(route=wrong),
        lambda wrong: resolved(wrong, None),
        lambda wrong: resolved(None, wrong if not isinstance(wrong, str) else (wrong, 80)),
        lambda wrong: resolved(None, (wrong, 0)),
        lambda wrong: Profile(wrong),
        lambda wrong: Profile.from_url(wrong if not isinstance(wrong, str) else wrong + "&mtu=1"),
        lambda wrong: Profile.from_kcptun(wrong),
        *(
            lambda wrong, field=field: Profile(**{field: wrong})
            for field in ("framing", "smux_version", "crypt", "fec", "mode", "interval", "keepalive", "stream", "mtu")
        ),
    ],
)
def test_no_message_of_a_thing_that_is_no_profile_shows_its_key(call, wrong):
    assert not [text for text in told(call, wrong) if KEY in text]


@pytest.mark.parametrize("wrong", NOT_PROFILES.values(), ids=NOT_PROFILES)
def test_no_message_of_a_routes_answer_shows_a_key(monkeypatch, wrong):
    monkeypatch.setattr(kcpsock.RoutedSocket, "route", staticmethod(lambda address: wrong))
    with kcpsock.RoutedSocket() as sock:
        assert not [text for text in told(sock.connect, ("127.0.0.1", 1)) if KEY in text]


@pytest.mark.parametrize(
    "text", [URL, f"*:80{URL}", f"*:{URL}", f"{URL}:80=tcp", f"far:{KEY}=kcp", f"::1:{KEY}=tcp", f"*:80={KEY}"]
)
def test_no_message_of_a_route_shows_a_key(text):
    assert not [told_text for told_text in told(monkey.parse_route, text) if KEY in told_text]


@pytest.mark.parametrize("fields", [{"mtu": 1}, {"crypt": "rot13"}, {"keepalive": 99}, {"fec": (1, 2, 3)}, {"nc": "?"}])
def test_no_message_of_another_field_shows_the_key(fields):
    for key in (KEY, KEY.encode()):
        assert not [text for text in told(Profile, key=key, **fields) if KEY in text]


@pytest.mark.parametrize(
    "key,crypt",
    [
        (KEY.encode(), "aes"),
        (f"{KEY}\udcff", None),
        (bytearray(KEY.encode()), None),
        ({"a": KEY}, None),
        ([KEY], "sm4"),
    ],
)
def test_no_message_of_a_wrong_key_shows_it(key, crypt):
    assert not [text for text in told(Profile, key=key, crypt=crypt) if KEY in text]


@pytest.mark.parametrize("key", [KEY, KEY.encode() + b"7 more."])
def test_no_repr_shows_the_key(key):
    profile = Profile(key=key)
    assert profile.secret
    rule = monkey.parse_route(f"*:80=kcp://?key={KEY}")
    routes = monkey.Routes([rule], profile)
    with kcpsock.socket(profile=profile) as sock:
        for thing in (profile, rule, routes, sock, sock._life, [profile]):
            assert KEY not in repr(thing) + str(thing)


@pytest.mark.parametrize(
    "text",
    [
        {"key": KEY, "mode": "turbo"},
        {"key": [KEY]},
        {"crypt": {"key": KEY}},
        {"mode": f"fast,key={KEY}"},
        {"key": KEY, "tcp": True},
        f'{{"key": "{KEY}"',
        f'{{"key": "{KEY}", }}',
        f'{{"key": "{KEY}"}}'.encode("utf-16"),
        f'{{"key": "{KEY}"}}\xff'.encode("latin-1"),
    ],
)
def test_no_message_of_a_kcptun_file_shows_its_key(tmp_path, text):
    path = tmp_path / "config.json"
    text = json.dumps(text) if isinstance(text, dict) else text
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert not [told_text for told_text in told(Profile.from_kcptun, path) if KEY in told_text]


@pytest.mark.parametrize("text", [f"{KEY}\udcff"])
def test_no_message_of_the_environments_key_shows_it(monkeypatch, text):
    assert not [told_text for told_text in told(from_environment, monkeypatch, "KCPSOCK_KEY", text) if KEY in told_text]


COMMANDS = {
    "profile": ["--profile", URL + "&mtu=1", "p.py"],
    "profile=": [f"--profile={URL}&mode=slow", "p.py"],
    "profile of no URL": ["--profile", KEY, "p.py"],
    "profile without its name": [URL, "p.py"],
    "profile misspelt": [f"--profil={URL}", "p.py"],
    "profile and colon": [f"--profile:{URL}", "p.py"],
    "short": [f"-k{KEY}", "p.py"],
    "route": ["--route", f"*:80={URL}&mtu=1", "p.py"],
    "route without its address": ["--route", URL, "p.py"],
    "route without equals": ["--route", f"*:80{URL}", "p.py"],
    "route=": [f"--route=far:{KEY}={URL}", "p.py"],
    "nothing to run": ["--profile", URL],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_message_of_the_command_shows_a_key(command, tmp_path):
    (tmp_path / "p.py").write_text("")
    process = start(["-m", "kcpsock.monkey", *command], cwd=tmp_path)
    out, err = process.communicate(timeout=LONG_S)
    assert process.returncode == 2 and b"kcpsock.monkey: " in err
    assert KEY not in (out + err).decode()


@pytest.mark.parametrize(
    "program", ["import kcpsock; kcpsock.socket()", "import kcpsock.monkey as m; m.patch_socket()"]
)
def test_no_message_of_a_program_shows_the_environments_key(program):
    # As a user sees it: the traceback of an interpreter that ends by it.
    program += "; import socket; socket.socket()"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "KCPSOCK_PROFILE": URL + "&mtu=1"},
        stderr=subprocess.PIPE,
        timeout=LONG_S,
    )
    assert b"KCPSOCK_PROFILE" in result.stderr
    assert KEY.encode() not in result.stderr


# --- where the environment has a key


# What a URL, KCPSOCK_KEY and KCPSOCK_CRYPT make together: key, cipher.
@pytest.mark.parametrize(
    "query,env_key,env_crypt,key,cipher",
    [
        ("", None, None, None, "null"),
        ("", KEY, None, KEY, "aes-128-gcm"),
        ("mode=fast3", KEY, None, KEY, "aes-128-gcm"),
        ("mode=fast3", KEY, "sm4", KEY, "sm4"),
        ("crypt=aes", KEY, None, KEY, "aes"),
        ("crypt=aes", KEY, "sm4", KEY, "aes"),
        ("key=own", KEY, None, "own", "aes-128-gcm"),
        ("key=own", KEY, "sm4", "own", "sm4"),
        ("key=own&crypt=aes", KEY, "sm4", "own", "aes"),
        ("crypt=null", KEY, "sm4", None, "null"),
        ("crypt=none", KEY, None, None, "none"),
        ("", KEY, "null", KEY, "null"),  # the environment says so itself
        ("", None, "none", None, "none"),
        ("key=own", KEY, "null", "own", "aes-128-gcm"),  # it does not take a URL's own key out of use
        ("", "", "", None, "null"),
    ],
)
@pytest.mark.parametrize("way", ["from_url", "profile", "route", "endpoint"])
def test_a_url_without_a_key_has_the_environments(monkeypatch, way, query, env_key, env_crypt, key, cipher):
    for name, value in (("KCPSOCK_KEY", env_key), ("KCPSOCK_CRYPT", env_crypt)):
        if value is not None:
            monkeypatch.setenv(name, value)
    url = f"kcp://far.example:4000?{query}"
    made = {
        "from_url": lambda: Profile.from_url(url),
        "profile": lambda: monkey._routes.parse_url(url),
        "route": lambda: monkey.parse_route(f"*:80={url}").profile,
        "endpoint": lambda: resolved(None, url)[0] or kcpsock.get_default_profile(),
    }[way]()
    assert (made.key, made.cipher) == (key, cipher)


def test_an_environments_crypt_without_a_key_is_refused(monkeypatch):
    monkeypatch.setenv("KCPSOCK_CRYPT", "aes")
    with pytest.raises(ValueError, match="KCPSOCK_CRYPT.*key is None"):
        Profile.from_url("kcp://?mode=fast3")
    assert Profile.from_url("kcp://?key=own").cipher == "aes"


def test_the_command_uses_the_environments_key(tmp_path):
    (tmp_path / "p.py").write_text(
        "import socket\n"
        "a, b = socket.socket(), socket.socket()\n"
        "a.bind(('127.0.0.1', 0)), b.bind(('127.0.0.2', 0))\n"
        "print(a.profile.key, b.profile.key)\n"
        "a.close(), b.close()\n"
    )
    options = ["--profile", "kcp://?mode=fast3", "--route", "127.0.0.1:*=kcp://?mode=fast2"]
    process = start(["-m", "kcpsock.monkey", *options, "p.py"], cwd=tmp_path, KCPSOCK_KEY=KEY)
    out, err = process.communicate(timeout=LONG_S)
    assert (out.decode().split(), err) == ([KEY, KEY], b"")


@pytest.mark.parametrize("call", ["listen", "connect"])
def test_a_profile_made_in_code_without_a_key_warns(monkeypatch, call):
    # It is what the code says, and stays so; but a key that was forgotten looks the same.
    monkeypatch.setenv("KCPSOCK_KEY", KEY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))

        def use(profile):
            with kcpsock.socket(profile=profile) as sock:
                sock.setblocking(False)
                sock.listen() if call == "listen" else sock.connect_ex(silent.getsockname())

        with pytest.warns(RuntimeWarning, match="KCPSOCK_KEY is set.*crypt='null'") as caught:
            use(Profile(mode="fast3"))
        assert [warning.filename for warning in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for said in (
                Profile(key="own"),
                Profile(crypt="null"),
                Profile(crypt="none"),
                Profile.from_url("kcp://"),
                Profile.from_url("kcp://?crypt=null"),
            ):
                use(said)
            use(None)
        monkeypatch.delenv("KCPSOCK_KEY")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            use(Profile(mode="fast3"))
