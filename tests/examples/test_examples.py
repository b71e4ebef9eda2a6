# SPDX-License-Identifier: MIT
"""The examples run, and what the README shows is what they are."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Fetches argv[1] by http.client over KCP; http.client itself is unchanged.
FETCH = """
import sys, kcpsock
sys.modules["socket"] = kcpsock
from urllib.request import ProxyHandler, build_opener
with build_opener(ProxyHandler({})).open(sys.argv[1], timeout=20) as response:
    sys.stdout.buffer.write(response.read())
"""


def run(*args, timeout=60, check=True):
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, capture_output=True, timeout=timeout, check=check, cwd=ROOT)


def code(name):
    """An example without its licence line."""
    return (EXAMPLES / name).read_text(encoding="utf-8").partition("\n")[2]


def test_before_and_after_differ_in_one_line():
    before, after = code("before.py").splitlines(), code("after.py").splitlines()
    assert len(before) == len(after)
    different = [lines for lines in zip(before, after) if lines[0] != lines[1]]
    assert different == [("import socket", "import kcpsock as socket")]


@pytest.mark.parametrize("name", ["before.py", "after.py"])
def test_echo_example(name):
    done = run("-W", "error", EXAMPLES / name)
    assert (done.stdout, done.stderr) == (b"b'hello'\n", b"")


# Example -> what it needs besides kcpsock and the extra "test", and what it prints.
PRINTS = {
    "echo.py": (None, r"b'one'\nb'two'\nb'three'\nround trip \d+ ms, \d+ retransmissions\n"),
    "requests_adapter.py": (None, "hello from files.example\n" * 2),
    "https.py": (None, r"/report by TLSv1\.\d\nother\.example: the certificate is not for it\n"),
    "httpx_transport.py": (None, "200 5000000 bytes\n"),
    "socketserver_lines.py": (None, "drawer -> reward\nstressed -> desserts\n"),
    "flask_pywsgi.py": ("flask", "Hello, Ada!\nHello, Grace!\n"),
    "asyncio_client.py": (None, r"\['ONE', 'TWO', 'THREE'\]\n"),
    "xmlrpc_calls.py": (None, r"2 \*\* 10 = 1024\nrefused: <class 'TypeError'>\n"),
    "chat.py": (None, r"\* Ada comes\n\* Bob comes\nBob: Hello!\nAda: Hello, Bob\.\n\* Bob goes\n"),
    "route.py": (None, "hello from the service over KCP\nhello from the database over TCP\n"),
}


@pytest.mark.parametrize("name", PRINTS)
def test_example(name, require_peer):
    package, expected = PRINTS[name]
    if package:
        found = importlib.util.find_spec(package) is not None
        require_peer(f"the PyPI package {package}", found, "pip install kcpsock[clients]")
    done = run("-W", "always::ResourceWarning", EXAMPLES / name)
    assert re.fullmatch(expected, done.stdout.decode()), done.stdout
    assert done.stderr == b""


def test_every_example_is_run():
    others = {"before.py", "after.py", "demo.py", "serve_directory.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*PRINTS, *others}


def test_readme_shows_the_echo_examples():
    assert re.findall(r"```python\n(.*?)```", README, re.DOTALL) == [code("before.py")]
    assert re.findall(r"```diff\n(.*?)```", README, re.DOTALL) == ["-import socket\n+import kcpsock as socket\n"]


def test_readme_profile_table_is_current():
    shown = re.search(r"<!-- python -m kcpsock\._profile -->\n(.*?)<!-- end -->", README, re.DOTALL).group(1)
    assert shown == run("-m", "kcpsock._profile").stdout.decode()


def test_serve_directory(tmp_path):
    data = bytes(range(256)) * 4000
    (tmp_path / "data.bin").write_bytes(data)
    command = [sys.executable, str(EXAMPLES / "serve_directory.py"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            url = server.stdout.readline().split()[-1]
            assert run("-c", FETCH, url + "data.bin").stdout == data
        finally:
            server.terminate()
        assert "segments sent" in server.communicate(timeout=20)[0]
    assert server.returncode == 0


def test_demo_small():
    done = run(EXAMPLES / "demo.py", "--megabytes", "1", check=False)
    text = done.stdout.decode()
    assert done.returncode == 0, text + done.stderr.decode()
    assert re.search(r"^SHA-256 +[0-9a-f]{64}, as it should be$", text, re.MULTILINE)
    assert re.search(r"^goodput +[0-9.]+ MB/s", text, re.MULTILINE)
    assert "srtt" in text


def test_demo_damage_is_an_error():
    # A stand-in for fetch() that got another file.
    program = """
import sys, types
sys.path.insert(0, "examples")
import demo
demo.fetch = lambda url, size: ("0" * 64, 1.0, types.SimpleNamespace())
sys.argv = ["demo.py", "--megabytes", "1"]
demo.main()
"""
    done = run("-c", program, check=False)
    assert done.returncode == 1
    assert b"arrived damaged" in done.stderr
