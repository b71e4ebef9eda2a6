# SPDX-License-Identifier: MIT
"""python -m kcpsock.monkey: an unchanged program runs as `python` would run it, over KCP."""

import json
import socket
import textwrap
import zipfile

import pytest

import kcpsock
from tests.support.processes import LONG_S, start

# What a program can see of how it was started.
LOOK = """
import json, os, sys
import __main__
print(json.dumps({
    "name": __name__, "main": vars(__main__) is globals(), "argv": sys.argv, "path0": os.path.abspath(sys.path[0]),
    "file": os.path.abspath(__file__), "doc": __doc__, "annotations": "annotations" in globals(),
    "spec": __spec__ and __spec__.name, "package": __package__,
    "loader": type(__loader__).__name__,
}))
"""


def run(*arguments, cwd, command=("-m", "kcpsock.monkey"), **environment):
    process = start([*command, *arguments], cwd=cwd, **environment)
    out, err = process.communicate(timeout=LONG_S)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def program(tmp_path):
    """program(code, name): a file of that name."""

    def write(code, name="program.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(textwrap.dedent(code))
        return path

    return write


@pytest.mark.parametrize("how", ["script", "absolute script", "module", "package", "directory", "zip"])
def test_the_program_sees_what_python_shows(program, tmp_path, how):
    path = program(LOOK, "deep/program.py")
    program(LOOK, "folder/__main__.py")
    program("", "folder/__init__.py")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        packed.write(tmp_path / "folder/__main__.py", "__main__.py")
    program(LOOK, "single.py")
    arguments = {
        "script": ["deep/program.py"],
        "absolute script": [path],
        "module": ["-m", "single"],
        "package": ["-m", "folder"],
        "directory": ["folder"],
        "zip": ["packed.zip"],
    }[how]
    ours, theirs = (
        run(*arguments, "-x", "--route", "two words", cwd=tmp_path, command=command)
        for command in (["-m", "kcpsock.monkey"], [])
    )
    assert ours[0] == theirs[0] == 0, ours[2] + theirs[2]
    ours, theirs = json.loads(ours[1]), json.loads(theirs[1])
    assert ours["argv"][1:] == ["-x", "--route", "two words"]
    # Of a module found by its path Python has its own class of loader, and says less of a script.
    different = {key for key in theirs if theirs[key] != ours[key]} - {"loader", "spec", "package"}
    assert different == set(), (ours, theirs)
    assert how not in ("module", "package") or ours["spec"] == theirs["spec"]


@pytest.mark.parametrize(
    "code,status",
    [
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('a message')", 1),
        ("raise SystemExit", 0),
        ("raise KeyError('missing')", 1),
        ("import os; os._exit(7)", 7),
        ("pass", 0),
    ],
)
def test_exit_status(program, tmp_path, code, status):
    program(code)
    ours = run("program.py", cwd=tmp_path)
    theirs = run("program.py", cwd=tmp_path, command=[])
    assert ours[0] == theirs[0] == status
    assert ours[2].splitlines()[-1:] == theirs[2].splitlines()[-1:]


@pytest.mark.parametrize(
    "arguments,status,message",
    [
        ([], 2, "no program"),
        (["--route"], 2, "needs a value"),
        (["--route", "x", "program.py"], 2, "HOST:PORT=URL"),
        (["--route=h:1=udp", "program.py"], 2, "allowed is tcp, kcp"),
        (["--profile", "kcp://?mode=slow", "program.py"], 2, "slow"),
        (["--profile=tcp", "program.py"], 2, "--route"),
        (["--colour", "program.py"], 2, "--colour"),
        (["-c", "pass"], 2, "-c"),
        (["-m"], 2, "-m needs"),
        (["missing.py"], 2, "can't open file 'missing.py'"),
        (["-m", "missing_module"], 1, "No module named missing_module"),
    ],
)
def test_wrong_command_lines(tmp_path, arguments, status, message):
    code, out, err = run(*arguments, cwd=tmp_path)
    assert (code, out) == (status, "")
    assert message in err and "Traceback" not in err


def test_help(tmp_path):
    code, out, err = run("--help", cwd=tmp_path)
    assert (code, err) == (0, "") and out.startswith("usage: python -m kcpsock.monkey") and "--route" in out


CLIENT = """
import socket, sys
for name in sys.argv[1:]:
    host, port = name.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as sock:
        sock.sendall(b"x")
        print(getattr(sock, "profile", None) and sock.profile.mode, sock.recv(10).decode())
"""


@pytest.fixture
def servers():
    """A KCP and a TCP listener, and who answers on them."""
    import threading

    listeners = {"kcp": kcpsock.create_server(("127.0.0.1", 0)), "tcp": socket.create_server(("127.0.0.1", 0))}

    def answer(kind, listener):
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            with conn:
                conn.recv(1)
                conn.sendall(kind.encode())

    threads = [threading.Thread(target=answer, args=item) for item in listeners.items()]
    for thread in threads:
        thread.start()
    yield {kind: f"127.0.0.1:{listener.getsockname()[1]}" for kind, listener in listeners.items()}
    for listener in listeners.values():
        listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(LONG_S)
    for listener in listeners.values():
        listener.close()


def test_all_is_kcp(program, tmp_path, servers):
    program(CLIENT)
    assert run("program.py", servers["kcp"], cwd=tmp_path) == (0, "fast2 kcp\n", "")
    options = ["--profile", "kcp://?mode=fast3"]
    assert run(*options, "program.py", servers["kcp"], cwd=tmp_path) == (0, "fast3 kcp\n", "")
    of_environment = run("program.py", servers["kcp"], cwd=tmp_path, KCPSOCK_PROFILE="kcp://?mode=normal")
    assert of_environment == (0, "normal kcp\n", "")


def test_routes(program, tmp_path, servers):
    program(CLIENT)
    both = [servers["kcp"], servers["tcp"]]
    some_kcp = ["--route", f"{servers['kcp']}=kcp://?mode=fast3"]
    some_tcp = ["--profile=kcp://?mode=fast", f"--route={servers['tcp']}=tcp"]
    assert run(*some_kcp, "program.py", *both, cwd=tmp_path) == (0, "fast3 kcp\nNone tcp\n", "")
    assert run(*some_tcp, "-m", "program", *both, cwd=tmp_path) == (0, "fast kcp\nNone tcp\n", "")


def test_under_gevents_own_command(program, tmp_path, servers):
    program("import gevent.monkey; assert gevent.monkey.is_module_patched('socket')\n" + CLIENT)
    ours_last = ["-m", "gevent.monkey", "--module", "kcpsock.monkey"]
    ours_first = ["-m", "kcpsock.monkey", "-m", "gevent.monkey"]
    for command in (ours_last, ours_first):
        assert run("program.py", servers["kcp"], cwd=tmp_path, command=command) == (0, "fast2 kcp\n", "")


def test_the_stdlibs_own_commands(tmp_path):
    # A server that nobody wrote for KCP, and that has no test hooks: http.server.
    (tmp_path / "hello.txt").write_text("over KCP")
    process = start(["-u", "-m", "kcpsock.monkey", "-m", "http.server", "--bind", "127.0.0.1", "0"], cwd=tmp_path)
    try:
        line = process.stdout.readline().decode()
        port = int(line.split(" port ")[1].split()[0])
        with kcpsock.create_connection(("127.0.0.1", port), LONG_S) as sock:
            sock.sendall(b"GET /hello.txt HTTP/1.0\r\n\r\n")
            answer = b""
            while data := sock.recv(65536):
                answer += data
        assert answer.endswith(b"\r\n\r\nover KCP")
    finally:
        process.terminate()
        process.communicate(timeout=LONG_S)


def test_threads_after_the_end_of_main(program, tmp_path):
    program(
        """
        import sys, threading, time
        def later():
            threading.main_thread().join()
            print(name, sys.modules["__main__"].name)
        name = "still here"
        threading.Thread(target=later).start()
        """
    )
    assert run("program.py", cwd=tmp_path) == (0, "still here still here\n", "")


def test_multiprocessing(program, tmp_path):
    # A forked child is patched as its parent is; a spawned one starts afresh, from the program's file.
    program(
        """
        import multiprocessing, socket
        def child(port):
            with socket.create_connection(("127.0.0.1", port), 30) as sock:
                sock.sendall(type(sock).__module__.encode())
        if __name__ == "__main__":
            with socket.create_server(("127.0.0.1", 0)) as server:
                job = multiprocessing.get_context("fork").Process(target=child, args=(server.getsockname()[1],))
                job.start()
                with server.accept()[0] as conn:
                    print(conn.recv(100).decode())
                job.join()
                job = multiprocessing.get_context("spawn").Process(target=print, args=("spawned",))
                job.start()
                job.join()
                print(job.exitcode)
        """
    )
    code, out, err = run("program.py", cwd=tmp_path)
    assert (code, out.split()) == (0, ["kcpsock", "spawned", "0"]), err
