# SPDX-License-Identifier: MIT
"""kcpsock offers what the stdlib's module socket offers."""

import inspect
import socket
import types

import pytest

import kcpsock

# Names of the stdlib's module that mean something else in kcpsock.
DIFFERENT = {"_socket": "our own module of this name; the C module is `import _socket`"}

STDLIB_NAMES = sorted(name for name in dir(socket) if not name.startswith("__"))


def test_all_names_are_there():
    assert [name for name in STDLIB_NAMES if not hasattr(kcpsock, name)] == []


def test_all_of_all_is_there():
    assert [name for name in kcpsock.__all__ if not hasattr(kcpsock, name)] == []
    assert set(socket.__all__) <= set(kcpsock.__all__)


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


def test_stats_has_the_snmp_names():
    snmp = (
        "BytesSent BytesReceived MaxConn ActiveOpens PassiveOpens CurrEstab InErrs InCsumErrors KCPInErrors InPkts "
        "OutPkts InSegs OutSegs InBytes OutBytes RetransSegs FastRetransSegs EarlyRetransSegs LostSegs RepeatSegs "
        "FECFullShardSet FECRecovered FECErrs FECParityShards FECShardSet FECShardMin RingBufferSndQueue "
        "RingBufferRcvQueue RingBufferSndBuffer OOBPackets"
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
