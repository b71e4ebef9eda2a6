# SPDX-License-Identifier: MIT
"""ks_arq_*: every call takes any handle and any arguments."""

import errno

import pytest

from tests.arq import network as nw
from tests.arq.network import ffi, lib

ANY = ffi.new("uint8_t[]", 2000)


def open_arq(**changes):
    return lib.ks_arq_open(1, ffi.new("ks_profile *", nw.profile(**changes)), 0)


@pytest.fixture
def arq():
    handle = open_arq()
    yield handle
    lib.ks_arq_close(handle)


def calls(handle):
    info = ffi.new("ks_info *")
    return {
        "send": lib.ks_arq_send(handle, ANY, 10),
        "recv": lib.ks_arq_recv(handle, ANY, 10),
        "input": lib.ks_arq_input(handle, ANY, 10, 0),
        "flush": lib.ks_arq_flush(handle, 0, 1),
        "output": lib.ks_arq_output(handle, ANY, 2000),
        "next": lib.ks_arq_next(handle, 0),
        "info": lib.ks_arq_info(handle, info),
        "is_dead": lib.ks_arq_is_dead(handle),
        "close": lib.ks_arq_close(handle),
    }


@pytest.mark.parametrize("handle", [-1, -(2**31), 1023, 1024, 2**31 - 1])
def test_number_that_is_no_handle(handle):
    assert set(calls(handle).values()) == {-errno.EBADF}


def test_closed_handle():
    handle = open_arq()
    assert lib.ks_arq_close(handle) == 0
    assert set(calls(handle).values()) == {-errno.EBADF}


def test_closing_with_everything_still_open():
    handle = open_arq()
    results = calls(handle)
    assert results == {
        "send": 10, "recv": -errno.EAGAIN, "input": -errno.EBADMSG, "flush": 1, "output": 34, "next": 200, "info": 0,
        "is_dead": 0, "close": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"mtu_bytes": 48}, {"mtu_bytes": 1501}, {"sndwnd_pkts": -1}, {"sndwnd_pkts": 32769}, {"rcvwnd_pkts": 32769},
        {"rcvwnd_pkts": -1}, {"interval_ms": 9}, {"interval_ms": 5001}, {"resend": -1}, {"resend": 17},
    ],
)  # fmt: skip
def test_settings_out_of_range(changes):
    assert open_arq(**changes) == -errno.EINVAL


def test_odd_arguments(arq):
    assert lib.ks_arq_open(1, ffi.NULL, 0) == -errno.EINVAL
    for call in (lib.ks_arq_send, lib.ks_arq_recv):
        assert call(arq, ANY, -1) == -errno.EINVAL
        assert call(arq, ffi.NULL, 5) == -errno.EINVAL
    assert lib.ks_arq_send(arq, ffi.NULL, 0) == 0
    assert lib.ks_arq_input(arq, ffi.NULL, 5, 0) == lib.ks_arq_input(arq, ANY, -1, 0) == -errno.EINVAL
    assert lib.ks_arq_input(arq, ffi.NULL, 0, 0) == -errno.EBADMSG
    assert lib.ks_arq_info(arq, ffi.NULL) == -errno.EINVAL
    assert lib.ks_arq_output(arq, ANY, 0) == 0
    assert lib.ks_arq_send(arq, ANY, 100) == 100
    assert lib.ks_arq_flush(arq, 0, 0) == 1
    assert lib.ks_arq_output(arq, ANY, 50) == lib.ks_arq_output(arq, ANY, -1) == -errno.EMSGSIZE
    assert lib.ks_arq_output(arq, ffi.NULL, 2000) == -errno.EINVAL
    assert lib.ks_arq_output(arq, ANY, 2000) == 124


def test_full_send_window():
    handle = open_arq(sndwnd_pkts=2)
    assert lib.ks_arq_send(handle, bytes(5000), 5000) == 2 * 1376
    assert lib.ks_arq_send(handle, ANY, 1) == -errno.EAGAIN
    lib.ks_arq_close(handle)


def test_message_too_long():
    a, b = nw.End(nw.profile(stream=0)), nw.End(nw.profile(stream=0))
    size = 255 * 1376
    assert lib.ks_arq_send(a.handle, bytes(size + 1), size + 1) == -errno.EMSGSIZE
    a.outbox = nw.Messages([b"0123456789"])
    b.paused = True
    nw.Network(a, b).run_for(200)
    assert lib.ks_arq_recv(b.handle, ANY, 9) == -errno.EMSGSIZE
    assert lib.ks_arq_recv(b.handle, ANY, 10) == 10
    a.close()
    b.close()


def test_handles_are_reused_and_limited():
    handles = []
    while (handle := open_arq()) >= 0:
        handles.append(handle)
    assert handle == -errno.EMFILE and len(handles) <= 1024
    lib.ks_arq_close(handles[3])
    assert open_arq() == handles[3]
    for handle in handles:
        assert lib.ks_arq_close(handle) == 0


def test_dead_link():
    end = nw.End(nw.profile())
    end.outbox = nw.Stream(b"x")
    end.write()
    now = 0
    for _ in range(20):
        assert not end.dead
        assert len(end.flush(now)) == 1
        now += end.next(now)
    assert end.dead
    end.close()
