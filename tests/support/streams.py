# SPDX-License-Identifier: MIT
"""Bytes of a stream, whatever module its socket is of."""


def read_all(sock):
    """Everything until the end of the stream."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_exactly(sock, size):
    """`size` bytes, or what came before the end of the stream."""
    data = bytearray()
    while len(data) < size and (part := sock.recv(min(size - len(data), 1 << 18))):
        data += part
    return bytes(data)


def read_available(sock):
    """What can be read without waiting; the socket is non-blocking then."""
    sock.setblocking(False)
    data = bytearray()
    try:
        while part := sock.recv(65536):
            data += part
    except BlockingIOError:
        pass
    return bytes(data)


def echo(sock):
    """Sends back what comes and closes, at the end of the stream or when the peer, as it may, has broken it."""
    with sock:
        try:
            while data := sock.recv(65536):
                sock.sendall(data)
        except OSError:
            pass
