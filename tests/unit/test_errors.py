# SPDX-License-Identifier: MIT
"""_errors.py is the door from C's results to exceptions: every errno comes out as the stdlib's class."""

import errno
import os

import pytest

from kcpsock import _errors


def test_results_pass():
    assert _errors.check(0) == 0
    assert _errors.check(7) == 7


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_errno_becomes_its_class(number):
    with pytest.raises(OSError) as caught:
        _errors.check(-number)
    assert type(caught.value) is type(OSError(number, ""))
    assert (caught.value.errno, caught.value.strerror) == (number, os.strerror(number))


@pytest.mark.parametrize(
    "number,kind",
    [
        (errno.ECONNREFUSED, ConnectionRefusedError),
        (errno.ECONNRESET, ConnectionResetError),
        (errno.ETIMEDOUT, TimeoutError),
        (errno.EPIPE, BrokenPipeError),
        (errno.EAGAIN, BlockingIOError),
        (errno.EINTR, InterruptedError),
    ],
)
def test_the_ones_that_matter(number, kind):
    assert type(_errors.error_of(number)) is kind


def test_timed_out_has_no_errno():
    assert isinstance(_errors.timed_out(), _errors.timeout)
    assert _errors.timed_out().errno is None
    assert str(_errors.timed_out()) == "timed out"
