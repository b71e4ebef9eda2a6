# SPDX-License-Identifier: MIT
"""What is a library's own: proxies, pickles, pools, arguments, socket options; and the message when it is missing."""

import asyncio
import pickle
import ssl
import subprocess
import sys

import httpcore
import httpx
import pytest
import requests
import urllib3

import kcpsock
from kcpsock.adapters.httpcore import KCPBackend
from kcpsock.adapters.httpx import KCPTransport
from kcpsock.adapters.requests import KCPAdapter
from kcpsock.adapters.urllib3 import KCPHTTPConnectionPool, KCPHTTPSConnectionPool, KCPPoolManager

from .conftest import LONG_S

PROXY = "http://127.0.0.1:9/"


@pytest.fixture
def is_kcp():
    return True


@pytest.fixture
def session(site):
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", KCPAdapter(endpoint=site.address))
        yield session


@pytest.mark.parametrize("from_environment", [False, True])
def test_requests_refuses_a_proxy(session, monkeypatch, from_environment):
    proxies = None if from_environment else {"http": PROXY}
    if from_environment:
        session.trust_env = True
        monkeypatch.setenv("HTTP_PROXY", PROXY)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(requests.exceptions.ProxyError, match="a proxy speaks TCP.*trust_env"):
        session.get("http://files.example/hello", proxies=proxies, timeout=LONG_S)


def test_requests_other_urls_stay_on_tcp(site):
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://files.example", KCPAdapter(endpoint=site.address))
        assert session.get("http://files.example/hello", timeout=LONG_S).text == "files.example 1"
        with pytest.raises(requests.ConnectionError, match="refused"):
            session.get(site.url, timeout=LONG_S)


def test_requests_adapter_arguments(site):
    adapter = KCPAdapter(pool_connections=3, pool_maxsize=4, max_retries=5, pool_block=True, endpoint=site.address)
    assert adapter.max_retries.total == 5
    assert adapter.poolmanager.connection_pool_kw == {"maxsize": 4, "block": True}
    adapter.close()


def test_requests_adapter_pickles(site):
    profile = kcpsock.Profile(mode="fast3")
    adapter = pickle.loads(pickle.dumps(KCPAdapter(profile, endpoint=site.address, pool_maxsize=2)))
    with requests.Session() as session:
        session.mount("http://", adapter)
        with session.get("http://files.example/hello", stream=True, timeout=LONG_S) as response:
            assert response.raw.connection.sock.profile is adapter._kcp_profile
            assert response.text == "files.example 1"
    assert adapter._kcp_profile == profile


def test_requests_kcp_info(session):
    with session.get("http://files.example/big?100", stream=True, timeout=LONG_S) as response:
        assert response.raw.connection.sock.kcp_info().conv


def test_requests_retries_a_lost_connection(site):
    retry = urllib3.Retry(total=2)
    with requests.Session() as session:
        session.mount("http://", KCPAdapter(endpoint=site.address, max_retries=retry))
        assert session.get("http://files.example/flaky", timeout=LONG_S).text == "at last"


def test_urllib3_pools(site):
    with KCPHTTPConnectionPool("files.example", 80, endpoint=site.address, maxsize=1) as pool:
        assert pool.request("GET", "/hello").data == b"files.example 1"
    with KCPHTTPConnectionPool("localhost", site.port) as pool:
        assert pool.request("GET", "/hello").data == b"localhost:%d 2" % site.port


def test_urllib3_pool_https(make_site, server_context, ca_file):
    site = make_site(ssl_context=server_context)
    with KCPHTTPSConnectionPool("files.example", endpoint=site.address, ca_certs=ca_file) as pool:
        assert pool.request("GET", "/hello").data == b"files.example 1"


def test_urllib3_pool_refuses_a_proxy():
    with KCPHTTPConnectionPool("files.example", _proxy=urllib3.util.parse_url(PROXY)) as pool:
        with pytest.raises(urllib3.exceptions.LocationValueError, match="allowed over KCP is no proxy"):
            pool.request("GET", "/")


def test_urllib3_socket_options(site):
    options = [(kcpsock.IPPROTO_TCP, kcpsock.TCP_NODELAY, 1), (kcpsock.SOL_SOCKET, kcpsock.SO_KEEPALIVE, 1)]
    with KCPHTTPConnectionPool("files.example", endpoint=site.address, socket_options=options) as pool:
        response = pool.request("GET", "/big?10", preload_content=False)
        sock = response.connection.sock
        assert [sock.getsockopt(level, option) for level, option, _ in options] == [1, 1]
        response.drain_conn()
        response.release_conn()


def test_urllib3_bad_socket_option_leaves_nothing(site):
    with KCPHTTPConnectionPool("h", endpoint=site.address, socket_options=[(kcpsock.SOL_SOCKET, -1, 1)]) as pool:
        with pytest.raises((OSError, urllib3.exceptions.HTTPError)):
            pool.request("GET", "/hello", retries=False)


def test_urllib3_manager_refuses_unknown_arguments():
    with pytest.raises(TypeError):
        KCPPoolManager(profil=kcpsock.Profile()).request("GET", "http://localhost/")


def test_httpcore_backend(site):
    with httpcore.ConnectionPool(network_backend=KCPBackend(endpoint=site.address)) as pool:
        assert pool.request("GET", "http://files.example/hello").content == b"files.example 1"
        with pool.stream("GET", "http://files.example/big?1000") as response:
            stream = response.extensions["network_stream"]
            assert stream.get_extra_info("server_addr") == site.address
            assert stream.get_extra_info("socket").kcp_info().conv
            response.read()


def test_httpcore_backend_with_tls_knows_names(make_site, server_context, authority):
    site = make_site(ssl_context=server_context)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    backend = KCPBackend(endpoint=site.address)
    with httpcore.ConnectionPool(context, network_backend=backend, local_address="127.0.0.1") as pool:
        with pool.stream("GET", "https://files.example/hello") as response:
            stream = response.extensions["network_stream"]
            assert stream.get_extra_info("server_addr") == site.address
            assert stream.get_extra_info("client_addr")[0] == "127.0.0.1"
            assert stream.get_extra_info("ssl_object").version()
            assert stream.get_extra_info("nothing") is None
            assert response.read() == b"files.example 1"


def test_httpcore_backend_refuses_unix_sockets():
    with httpcore.ConnectionPool(network_backend=KCPBackend(), uds="/tmp/socket") as pool:
        with pytest.raises(httpcore.UnsupportedProtocol, match="Unix socket"):
            pool.request("GET", "http://localhost/")


@pytest.mark.parametrize("field", ["proxy", "uds"])
def test_httpx_refuses(field):
    with pytest.raises(ValueError, match=f"{field} is given.*allowed over KCP is None"):
        KCPTransport(**{field: PROXY})


@pytest.mark.parametrize("entered", [True, False])
def test_httpx_async_client_is_told(entered):
    async def get():
        client = httpx.AsyncClient(transport=KCPTransport())
        if entered:
            async with client:
                pass
        await client.get("http://localhost/")

    with pytest.raises(RuntimeError, match="KCPTransport is for httpx.Client"):
        asyncio.run(get())


def test_httpx_does_not_look_for_proxies_in_the_environment(site, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    with httpx.Client(transport=KCPTransport(endpoint=site.address)) as client:
        assert client.get("http://files.example/hello", timeout=LONG_S).text == "files.example 1"


@pytest.mark.parametrize("library", ["requests", "urllib3", "httpcore", "httpx"])
def test_missing_library_names_the_extra(library):
    program = f"""
import sys
sys.modules[{library!r}] = None
import kcpsock.adapters
try:
    import kcpsock.adapters.{library}
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    extra = "httpx" if library == "httpcore" else library
    assert done.stdout.endswith(f"needs {library}: pip install kcpsock[{extra}]\n"), done.stderr
