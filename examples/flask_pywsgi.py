# SPDX-License-Identifier: MIT
"""A Flask application under gevent's pywsgi over KCP, unchanged: the server gets a listener of kcpsock.

Server and client are greenlets of one thread here: kcpsock's sockets wait cooperatively, patched or not.
"""

from flask import Flask, request
from gevent.pywsgi import WSGIServer

import kcpsock
from kcpsock.adapters.urllib3 import KCPPoolManager

app = Flask(__name__)


@app.post("/greet/<name>")
def greet(name):
    return f"{request.get_data(as_text=True)}, {name}!"


server = WSGIServer(kcpsock.create_server(("127.0.0.1", 0)), app, log=None)
server.start()
with KCPPoolManager(timeout=10) as http:
    for name in ("Ada", "Grace"):
        print(http.request("POST", f"http://127.0.0.1:{server.server_port}/greet/{name}", body="Hello").data.decode())
server.stop()
