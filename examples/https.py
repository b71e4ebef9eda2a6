# SPDX-License-Identifier: MIT
"""https over KCP: the stdlib's ssl on both ends, and requests that checks the certificate's name against the URL."""

import http.server
import ssl
import tempfile
import threading

import requests
import trustme  # makes certificates for tests; yours come from where they come for TCP

from kcpsock.adapters.requests import KCPAdapter
from kcpsock.servers import ThreadingHTTPServer

authority = trustme.CA()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("files.example").configure_cert(context)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.path} by {self.connection.version()}".encode())

    def log_message(self, *args):
        pass


with ThreadingHTTPServer(("127.0.0.1", 0), Handler, ssl_context=context) as server, requests.Session() as session:
    server.handle_error = lambda request, address: None  # no traceback for the client that turns away
    threading.Thread(target=server.serve_forever).start()
    session.trust_env = False
    session.mount("https://", KCPAdapter(endpoint=server.server_address))
    with tempfile.NamedTemporaryFile() as trusted:
        trusted.write(authority.cert_pem.bytes())
        trusted.flush()
        print(session.get("https://files.example/report", verify=trusted.name, timeout=10).text)
        try:
            session.get("https://other.example/", verify=trusted.name, timeout=10)
        except requests.exceptions.SSLError:
            print("other.example: the certificate is not for it")
    server.shutdown()
