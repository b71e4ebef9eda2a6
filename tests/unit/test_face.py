# SPDX-License-Identifier: MIT
"""kcpsock offers what the stdlib's module socket offers."""

import doctest
import inspect
import re
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest

import kcpsock

# Names of the stdlib's module that mean something else in kcpsock.
DIFFERENT = {"_socket": "our own module of this name; the C module is `import _socket`"}

STDLIB_NAMES = sorted(name for name in dir(socket) if not name.startswith("__"))


def test_all_names_are_there():
    assert [name for name in STDLIB_NAMES if not hasattr(kcpsock, name)] == []


def test_all_of_all_is_there():
    assert [name for name in kcpsock.__all__ if not hasattr(kcpsock, name)] == []
    own = {*kcpsock.__implements__, *kcpsock.__extensions__}
    assert set(kcpsock.__all__) == own | set(socket.__all__)
    assert sorted(kcpsock.__all__) == kcpsock.__all__


def test_lists_are_apart_and_complete():
    groups = [set(kcpsock.__implements__), set(kcpsock.__extensions__), set(kcpsock.__imports__)]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert set(kcpsock.__implements__) | set(kcpsock.__imports__) == set(STDLIB_NAMES)
    assert set(kcpsock.__extensions__) & set(STDLIB_NAMES) == set()


def test_no_other_public_names():
    known = {*kcpsock.__implements__, *kcpsock.__extensions__, *kcpsock.__imports__}
    extra = {
        name
        for name, value in vars(kcpsock).items()
        if not name.startswith("_") and name not in known and not isinstance(value, types.ModuleType)
    }
    assert extra <= {"annotations", "TYPE_CHECKING"}


def test_passed_on_names_are_the_same_objects():
    different = [name for name in kcpsock.__imports__ if getattr(kcpsock, name) is not getattr(socket, name)]
    assert different == sorted(DIFFERENT)


def test_implemented_names_are_ours():
    for name in kcpsock.__implements__:
        assert getattr(kcpsock, name) is not getattr(socket, name)


def test_no_module_shadows_a_public_name():
    assert not isinstance(kcpsock.socket, types.ModuleType)
    assert not isinstance(kcpsock.stats, types.ModuleType)


@pytest.mark.parametrize(
    "name", [n for n in kcpsock.__implements__ if isinstance(getattr(socket, n), types.FunctionType)]
)
def test_functions_take_the_stdlibs_arguments(name):
    ours = inspect.signature(getattr(kcpsock, name)).parameters
    theirs = inspect.signature(getattr(socket, name)).parameters
    for parameter in theirs.values():
        assert ours[parameter.name].kind == parameter.kind
    assert set(ours) - set(theirs) <= {"profile", "all_errors"}  # all_errors: Python 3.11


def test_socket_takes_the_stdlibs_arguments():
    ours = list(inspect.signature(kcpsock.socket).parameters)
    assert ours == ["family", "type", "proto", "fileno", "profile"]
    assert issubclass(kcpsock.socket, socket.socket)


def test_errors_are_the_stdlibs():
    assert kcpsock.error is OSError
    assert kcpsock.timeout is socket.timeout and kcpsock.gaierror is socket.gaierror


def test_everything_has_a_docstring():
    assert [
        name for name in kcpsock.__implements__ + kcpsock.__extensions__ if not getattr(kcpsock, name).__doc__
    ] == []


def test_the_modules_example_runs(no_leaks):
    tests = doctest.DocTestParser().get_doctest(kcpsock.__doc__, {}, "kcpsock", None, None)
    assert len(tests.examples) >= 7
    report = []
    assert doctest.DocTestRunner(verbose=False).run(tests, out=report.append).failed == 0, "".join(report)


def test_the_modules_docstring_names_what_is_added():
    for name in kcpsock.__extensions__:
        assert ("KCP_*" if name.startswith("KCP_") else name) in kcpsock.__doc__


def test_version_is_that_of_the_package():
    """As setuptools reads it from the source, where neither gevent nor the extension is to be had."""
    pytest.importorskip("setuptools")
    code = "import runpy, sys; sys.modules['gevent'] = None; sys.argv = ['setup.py', '-q', '--version']; " + (
        "runpy.run_path('setup.py', run_name='__main__')"
    )
    root = Path(__file__).resolve().parents[2]
    asked = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert asked.stdout.split() == [kcpsock.__version__], asked.stderr
    assert re.fullmatch(r"\d+\.\d+\.\d+", kcpsock.__version__)


def test_stats_has_the_snmp_names():
    snmp = (
        "BytesSent BytesReceived MaxConn ActiveOpens PassiveOpens CurrEstab InErrs InCsumErrors KCPInErrors InPkts "
        "OutPkts InSegs OutSegs InBytes OutBytes RetransSegs FastRetransSegs EarlyRetransSegs LostSegs RepeatSegs "
        "FECFullShardSet FECRecovered FECErrs FECParityShards FECShardSet FECShardMin RingBufferSndQueue "
        "RingBufferRcvQueue RingBufferSndBuffer OOBPackets OOBDrops SmuxErrors UdpSendDrops UdpRecvDrops ResetsSent "
        "ResetsReceived CookiesSent ReflectedPkts BacklogDrops BusyPolls Moves StrayPkts DoubtedPkts "
        "Sessions Streams MemoryBytes"
    ).split()
    stats = kcpsock.stats()
    assert list(stats)[: len(snmp)] == snmp
    assert all(isinstance(value, int) and value >= 0 for value in stats.values())


def test_name_functions():
    assert kcpsock.gethostbyname("127.0.0.1") == "127.0.0.1"
    assert kcpsock.gethostbyname_ex("127.0.0.1")[2] == ["127.0.0.1"]
    assert kcpsock.getnameinfo(("127.0.0.1", 80), kcpsock.NI_NUMERICHOST | kcpsock.NI_NUMERICSERV) == (
        "127.0.0.1",
        "80",
    )
    assert kcpsock.getaddrinfo("127.0.0.1", 80, type=kcpsock.SOCK_STREAM) == socket.getaddrinfo(
        "127.0.0.1", 80, type=socket.SOCK_STREAM
    )
    assert kcpsock.getfqdn("no.such.host.invalid") == "no.such.host.invalid"
    with pytest.raises(socket.gaierror):
        kcpsock.getaddrinfo("no.such.host.invalid", 80)


def test_send_fds_and_recv_fds():
    a, b = kcpsock.socketpair()
    with a, b, kcpsock.socket(kcpsock.AF_UNIX) as other:
        kcpsock.send_fds(a, [b"x"], [other.fileno()])
        data, fds, _, _ = kcpsock.recv_fds(b, 10, 1)
        assert data == b"x"
        kcpsock.close(fds[0])
