# SPDX-License-Identifier: MIT
"""What versions of Python and OpenSSL that may not be here say of a TLS connection that has ended."""

import errno
import socket
import ssl

import pytest

import kcpsock
from kcpsock import _tls


def ssl_error(**attributes):
    error = ssl.SSLError(1, "as OpenSSL has it")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    "error,is_end",
    [
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), True),
        (ssl.SSLSyscallError(5, "Some I/O error occurred"), True),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), True),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), True),
        (OSError(0, "Error"), True),
        (ssl_error(reason="UNEXPECTED_EOF_WHILE_READING", library="SSL"), True),
        (ssl_error(reason="(null)", library="SYS"), True),
        (ssl_error(reason="WRONG_VERSION_NUMBER", library="SSL"), False),
        (ssl.SSLWantReadError(2, "The operation did not complete (read)"), False),
        (TimeoutError("The read operation timed out"), False),
        (OSError(errno.EBADF, "Bad file descriptor"), False),
    ],
)
def test_what_each_version_says_of_an_end(error, is_end):
    """Each Python and OpenSSL says some of these; an error that is no end must not take the connection's."""
    assert _tls._is_end(error) is is_end


class Failing:
    """In the place of ssl's C object: it reads as OpenSSL 3.5 does, where another one is here."""

    def __init__(self, error):
        self.error = error

    def read(self, *args):
        raise self.error


@pytest.mark.parametrize(
    "error,told",
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ssl.SSLEOFError),
        (ssl_error(library="SYS"), ssl.SSLEOFError),
        (ssl_error(library="SSL"), ssl.SSLError),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), ConnectionResetError),
        (ssl.SSLWantReadError(2, "The operation did not complete (read)"), ssl.SSLWantReadError),
    ],
)
def test_an_alert_that_could_not_be_sent_is_an_end(error, told):
    with kcpsock.socket(socket.AF_UNIX) as sock:  # nothing is known of how it ended
        with pytest.raises(OSError) as caught:
            _tls._Told(Failing(error), sock).read(1)
    assert type(caught.value) is told
