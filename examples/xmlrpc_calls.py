# SPDX-License-Identifier: MIT
"""XML-RPC over KCP: the server from kcpsock.servers, the stdlib's ServerProxy with a transport for kcpsock."""

import threading
import xmlrpc.client

import kcpsock
from kcpsock.servers import SimpleXMLRPCServer


class Transport(xmlrpc.client.Transport):
    def make_connection(self, host):
        connection = super().make_connection(host)
        connection._create_connection = kcpsock.create_connection
        return connection


with SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False) as server:
    server.register_function(pow)
    threading.Thread(target=server.serve_forever).start()
    url = "http://{}:{}/".format(*server.server_address)
    with xmlrpc.client.ServerProxy(url, transport=Transport()) as proxy:
        print("2 ** 10 =", proxy.pow(2, 10))
        try:
            proxy.pow("two", 10)
        except xmlrpc.client.Fault as fault:
            print("refused:", fault.faultString.partition(":")[0])
    server.shutdown()
