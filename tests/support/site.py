# SPDX-License-Identifier: MIT
"""A website for tests of HTTP clients: the same pages over TCP or KCP, plain or with TLS.

GET /hello       the Host header, and the connection's number
GET /big?N       N bytes that big(N) gives as well; chunked?N: in chunks
GET /redirect    to /hello
GET /leave       an answer that promises keep-alive, after which the server closes the connection
GET /flaky       the first request is not answered, but the connection closed; later ones are
GET /silent      nothing, until the site closes
POST /upload     the body's length and SHA-256; chunked or with Content-Length
"""

import hashlib
import http.server
import threading

import kcpsock.servers

BLOCK = bytes(range(256)) * 16


def big(size):
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.connections += 1
            self.number = self.server.connections

    def log_message(self, *args):
        pass

    def do_GET(self):
        name, _, argument = self.path.lstrip("/").partition("?")
        self.server.requests.append(name)
        getattr(self, f"get_{name}")(argument)

    def answer(self, body, status=200, **headers):
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def get_hello(self, _):
        self.answer(f"{self.headers['Host']} {self.number}".encode())

    def get_big(self, size):
        self.answer(big(int(size)))

    def get_chunked(self, size):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        data = big(int(size))
        for start in range(0, len(data), 5000):
            chunk = data[start : start + 5000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def get_redirect(self, _):
        self.answer(b"", 302, Location="/hello")

    def get_leave(self, _):
        self.answer(b"bye")
        self.close_connection = True

    def get_flaky(self, _):
        if self.server.requests.count("flaky") == 1:
            self.close_connection = True
        else:
            self.answer(b"at last")

    def get_silent(self, _):
        self.server.closing.wait()
        self.close_connection = True

    def do_POST(self):
        digest, size = hashlib.sha256(), 0
        for chunk in self.chunks():
            digest.update(chunk)
            size += len(chunk)
        self.answer(f"{size} {digest.hexdigest()}".encode())

    def chunks(self):
        left = int(self.headers.get("Content-Length", 0))
        while left:
            chunk = self.rfile.read(min(left, 65536))
            left -= len(chunk)
            yield chunk
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()


class TCPServer(http.server.ThreadingHTTPServer):
    """http.server's own, with the keywords of kcpsock.servers."""

    def __init__(self, *args, profile=None, ssl_context=None):
        self.ssl_context = ssl_context
        super().__init__(*args)

    def get_request(self):
        request, address = super().get_request()
        if self.ssl_context is not None:
            request = self.ssl_context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return request, address


class Site:
    """The site, served by threads until it is closed."""

    def __init__(self, is_kcp, ssl_context=None, profile=None):
        made_by = kcpsock.servers.ThreadingHTTPServer if is_kcp else TCPServer
        self.is_kcp = is_kcp
        self.server = made_by(("127.0.0.1", 0), Handler, profile=profile, ssl_context=ssl_context)
        self.server.lock = threading.Lock()
        self.server.closing = threading.Event()
        self.server.connections, self.server.requests = 0, []
        self.server.handle_error = lambda request, address: None  # clients that leave early are a part of the tests
        self.address = self.server.server_address
        self.port = self.server.server_port
        self.scheme = "http" if ssl_context is None else "https"
        self.url = f"{self.scheme}://localhost:{self.port}/"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def connections(self):
        return self.server.connections

    def close(self):
        self.server.closing.set()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
