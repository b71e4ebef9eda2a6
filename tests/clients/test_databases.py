# SPDX-License-Identifier: MIT
"""redis-py and pg8000 with real servers, over KCP by a forwarder in front of the server."""

import getpass
import os
import pwd
import shutil
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.socket.conftest import eventually

from .conftest import LONG_S, free_port


def accepts(address):
    try:
        socket.create_connection(address, timeout=LONG_S).close()
    except ConnectionRefusedError:
        return False
    return True


def serves_postgres(address, user):
    """PostgreSQL accepts before it is ready, and says so to who asks then."""
    try:
        with socket.create_connection(address, timeout=LONG_S) as sock:
            wish = struct.pack("!I", 3 << 16) + b"user\0%s\0database\0postgres\0\0" % user.encode()
            sock.sendall(struct.pack("!I", 4 + len(wish)) + wish)
            return sock.recv(1) == b"R"  # how to log in; else E, an error
    except (ConnectionRefusedError, ConnectionResetError):
        return False


@pytest.fixture(scope="module")
def redis_server(require_peer, tmp_path_factory):
    """The address of a Redis server."""
    program = shutil.which("redis-server")
    require_peer("redis-server", program, "apt-get install redis-server")
    address = ("127.0.0.1", free_port())
    options = ["--bind", address[0], "--port", address[1], "--save", "", "--dir", tmp_path_factory.mktemp("redis")]
    with subprocess.Popen([program, *map(str, options)], stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: accepts(address) or process.poll() is not None)
            yield address
        finally:
            process.terminate()


def test_redis(way, redis_server, address_of, require_package):
    require_package("redis", "redis")
    assert way.run("use_redis.py", *address_of(redis_server)) == [
        "True",
        "499500",
        "b'hello'",
        "None",
        "(b'queue', b'job')",
        "b'200'",
    ]


def postgres_program(name):
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@pytest.fixture(scope="module")
def postgres_server(require_peer):
    """The address of a PostgreSQL server, and its user. It does not run as root, so it runs as nobody then."""
    initdb, program = postgres_program("initdb"), postgres_program("postgres")
    require_peer("PostgreSQL", initdb and program, "apt-get install postgresql")
    user = "nobody" if os.geteuid() == 0 else getpass.getuser()
    ids = pwd.getpwnam(user)
    changed = {"user": ids.pw_uid, "group": ids.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # Not below pytest's own directory, which others may not enter.
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, ids.pw_uid, ids.pw_gid)
        data = os.path.join(directory, "data")
        common = {"cwd": directory, **changed}
        subprocess.run([initdb, "-D", data, "-U", user, "-A", "trust", "--no-sync"], check=True, **quiet, **common)
        address = ("127.0.0.1", free_port())  # now: initdb takes a while, and somebody may want it
        command = [program, "-D", data, "-h", address[0], "-p", str(address[1]), "-k", directory, "-F"]
        with subprocess.Popen(command, **quiet, **common) as process:
            try:
                eventually(lambda: serves_postgres(address, user) or process.poll() is not None)
                yield (*address, user)
            finally:
                process.terminate()


def test_pg8000(way, postgres_server, address_of, require_package):
    require_package("pg8000", "pg8000")
    *address, user = postgres_server
    assert way.run("use_pg8000.py", *address_of(tuple(address)), user) == [
        "200 74500",
        "200",
        "division by zero",
        "2000000",
    ]
