# SPDX-License-Identifier: MIT
"""requests over KCP: one host of a session is reached through an endpoint, all others stay on TCP."""

import http.server
import threading

import requests

import kcpsock
from kcpsock.adapters.requests import KCPAdapter
from kcpsock.servers import ThreadingHTTPServer

profile = kcpsock.Profile(key="a secret of both ends", mode="fast3")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"hello from {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


with ThreadingHTTPServer(("127.0.0.1", 0), Handler, profile=profile) as server, requests.Session() as session:
    threading.Thread(target=server.serve_forever).start()
    session.trust_env = False  # a proxy of the environment is refused
    session.mount("http://files.example/", KCPAdapter(profile, endpoint=server.server_address, max_retries=3))
    for _ in range(2):  # by one connection
        print(session.get("http://files.example/", timeout=(5, 30)).text)
    server.shutdown()
