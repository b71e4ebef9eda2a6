# SPDX-License-Identifier: MIT
"""Three HTTP libraries behind one interface, over the kernel's TCP as they come and over KCP by their adapter."""

import socket
import ssl

import pytest

import kcpsock
from tests.support.fixtures import no_leaks_left as no_leaks_left
from tests.support.site import Site

LONG_S = 30.0  # nothing takes so long unless it hangs
SHORT_S = 0.2  # a timeout that is meant to pass


class Requests:
    """requests.Session"""

    def __init__(self, is_kcp, ca=None, retries=0, **kcp):
        import requests

        from kcpsock.adapters.requests import KCPAdapter

        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = ca or True
        made_by = KCPAdapter if is_kcp else requests.adapters.HTTPAdapter
        adapter = made_by(max_retries=retries, **kcp)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        self.refused = requests.ConnectionError
        self.connect_timeout, self.read_timeout = requests.ConnectTimeout, requests.ReadTimeout
        self.tls_error = requests.exceptions.SSLError

    def get(self, url, connect=LONG_S, read=LONG_S):
        return self.session.get(url, timeout=(connect, read)).content

    def upload(self, url, body):
        return self.session.post(url, data=body, timeout=LONG_S).content

    def download(self, url):
        with self.session.get(url, stream=True, timeout=LONG_S) as response:
            yield from response.iter_content(10_000)

    def close(self):
        self.session.close()


class Urllib3:
    """urllib3.PoolManager"""

    def __init__(self, is_kcp, ca=None, retries=0, **kcp):
        import urllib3

        from kcpsock.adapters.urllib3 import KCPPoolManager

        self.max_retry_error = urllib3.exceptions.MaxRetryError
        made_by = KCPPoolManager if is_kcp else urllib3.PoolManager
        policy = urllib3.Retry(total=None, connect=retries, read=retries, redirect=3, other=0)
        self.pools = made_by(ca_certs=ca, cert_reqs="CERT_REQUIRED", retries=policy, **kcp)
        self.refused = urllib3.exceptions.NewConnectionError
        self.connect_timeout = urllib3.exceptions.ConnectTimeoutError
        self.read_timeout = urllib3.exceptions.ReadTimeoutError
        self.tls_error = urllib3.exceptions.SSLError
        self.timeout = urllib3.Timeout

    def request(self, *args, connect=LONG_S, read=LONG_S, **kwargs):
        try:
            return self.pools.request(*args, timeout=self.timeout(connect=connect, read=read), **kwargs)
        except self.max_retry_error as error:
            raise error.reason from None

    def get(self, url, connect=LONG_S, read=LONG_S):
        return self.request("GET", url, connect=connect, read=read).data

    def upload(self, url, body):
        return self.request("POST", url, body=body).data

    def download(self, url):
        response = self.request("GET", url, preload_content=False)
        yield from response.stream(10_000)
        response.release_conn()

    def close(self):
        self.pools.clear()


class Httpx:
    """httpx.Client"""

    def __init__(self, is_kcp, ca=None, retries=0, **kcp):
        import httpx

        from kcpsock.adapters.httpx import KCPTransport

        made_by = KCPTransport if is_kcp else httpx.HTTPTransport
        trusting = ssl.create_default_context(cafile=ca)
        self.client = httpx.Client(transport=made_by(verify=trusting, retries=retries, **kcp), follow_redirects=True)
        self.refused, self.tls_error = httpx.ConnectError, httpx.ConnectError
        self.connect_timeout, self.read_timeout = httpx.ConnectTimeout, httpx.ReadTimeout
        self.timeout = httpx.Timeout

    def get(self, url, connect=LONG_S, read=LONG_S):
        return self.client.get(url, timeout=self.timeout(LONG_S, connect=connect, read=read)).content

    def upload(self, url, body):
        return self.client.post(url, content=body, timeout=LONG_S).content

    def download(self, url):
        with self.client.stream("GET", url, timeout=LONG_S) as response:
            yield from response.iter_bytes(10_000)

    def close(self):
        self.client.close()


LIBRARIES = {"requests": Requests, "urllib3": Urllib3, "httpx": Httpx}


@pytest.fixture(scope="session")
def server_context(authority):
    """A server's SSLContext for localhost and files.example."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "files.example").configure_cert(context)
    return context


@pytest.fixture(params=["tcp", "kcp"])
def is_kcp(request):
    return request.param == "kcp"


@pytest.fixture
def make_site(is_kcp):
    """make_site(ssl_context=, profile=) -> Site"""
    made = []

    def make(**options):
        made.append(Site(is_kcp, **options))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site):
    return make_site()


@pytest.fixture(params=LIBRARIES.values(), ids=LIBRARIES)
def make_client(request, is_kcp, make_site):
    """make_client(ca=, retries=, profile=, endpoint=) -> one of the libraries above"""
    made = []

    def make(**options):
        made.append(request.param(is_kcp, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def dialled(monkeypatch, is_kcp):
    """The sockets that connect() was called on, with the addresses, as they come."""
    calls = []
    kind = kcpsock.socket if is_kcp else socket.socket
    connect = kind.connect
    monkeypatch.setattr(kind, "connect", lambda self, address: calls.append((self, address)) or connect(self, address))
    return calls


@pytest.fixture
def closed_port(is_kcp):
    """A port where nobody listens. It stays taken: a client that were given it would call itself."""
    kind = socket.SOCK_DGRAM if is_kcp else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if is_kcp:
            sock.connect(sock.getsockname())  # it takes nobody's packets but its own, and the others are refused
        yield sock.getsockname()[1]


@pytest.fixture
def deaf_port():
    """A UDP port that takes packets and answers nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
