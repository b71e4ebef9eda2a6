# SPDX-License-Identifier: MIT
"""What every HTTP library does over TCP, it does over KCP: one body for all."""

import hashlib
import select
import threading

import pytest

import kcpsock
from tests.support.site import big

from .conftest import LONG_S, SHORT_S

only_kcp = pytest.mark.parametrize("is_kcp", [True], ids=["kcp"])


def test_get(client, site):
    assert client.get(site.url + "hello") == f"localhost:{site.port} 1".encode()


def test_keep_alive_uses_one_connection(client, site):
    answers = {client.get(site.url + "hello") for _ in range(5)}
    assert len(answers) == site.connections == 1


def test_idle_connection_that_ended_is_replaced(client, site, dialled):
    assert client.get(site.url + "leave") == b"bye"
    sock = dialled[0][0]
    assert sock.fileno() < 0 or select.select([sock], [], [], LONG_S)[0]  # the end has arrived
    assert client.get(site.url + "hello").endswith(b" 2")


def test_redirect(client, site):
    assert client.get(site.url + "redirect").startswith(b"localhost:")
    assert site.connections == 1


@pytest.mark.parametrize("page", ["big", "chunked"])
def test_streaming_download(client, site, page):
    size = 1_000_003
    parts = list(client.download(f"{site.url}{page}?{size}"))
    assert len(parts) > 10
    assert b"".join(parts) == big(size)


def test_streaming_upload(client, site):
    parts = [big(size) for size in (1, 70_000, 300_000, 5)]
    body = b"".join(parts)
    expected = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    assert client.upload(site.url + "upload", iter(parts)) == expected
    assert client.upload(site.url + "upload", body) == expected


def test_download_given_up_halfway(make_client, site):
    client = make_client()
    parts = client.download(f"{site.url}big?20000000")
    next(parts)
    parts.close()
    client.close()


def test_many_threads(client, site):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.get(site.url + "big?50000") == big(50_000)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8


def test_read_timeout(client, site):
    with pytest.raises(client.read_timeout):
        client.get(site.url + "silent", read=SHORT_S)


@only_kcp
def test_connect_timeout(client, deaf_port):
    with pytest.raises(client.connect_timeout, match="check that a KCP server listens there"):
        client.get(f"http://127.0.0.1:{deaf_port}/", connect=SHORT_S)


def test_refused(client, closed_port):
    with pytest.raises(client.refused, match="refused"):
        client.get(f"http://127.0.0.1:{closed_port}/")


def test_unknown_host(client, monkeypatch):
    def unknown(*args):
        raise kcpsock.gaierror(kcpsock.EAI_NONAME, "Name or service not known")

    for module in ("socket", "kcpsock"):
        monkeypatch.setattr(f"{module}.getaddrinfo", unknown)
    with pytest.raises(client.refused, match="not known"):
        client.get("http://nowhere.example/")


def test_retries(make_client, closed_port, dialled):
    client = make_client(retries=2)
    with pytest.raises(client.refused):
        client.get(f"http://127.0.0.1:{closed_port}/")
    assert [address for _, address in dialled] == [("127.0.0.1", closed_port)] * 3


def test_https(make_client, make_site, server_context, ca_file):
    site = make_site(ssl_context=server_context)
    client = make_client(ca=ca_file)
    assert {client.get(site.url + "hello") for _ in range(3)} == {f"localhost:{site.port} 1".encode()}
    assert client.get(site.url + "redirect").startswith(b"localhost:")
    body = big(500_000)
    assert client.upload(site.url + "upload", iter([body])).startswith(b"500000 ")
    assert b"".join(client.download(site.url + "big?500000")) == body
    with pytest.raises(client.read_timeout):
        client.get(site.url + "silent", read=SHORT_S)


def test_https_unknown_authority(make_client, make_site, server_context):
    site, client = make_site(ssl_context=server_context), make_client()
    with pytest.raises(client.tls_error, match="CERTIFICATE_VERIFY_FAILED|match"):
        client.get(site.url + "hello")


def test_https_wrong_name(make_client, make_site, server_context, ca_file):
    site, client = make_site(ssl_context=server_context), make_client(ca=ca_file)
    with pytest.raises(client.tls_error, match="CERTIFICATE_VERIFY_FAILED|match"):
        client.get(f"https://127.0.0.1:{site.port}/hello")


@only_kcp
def test_endpoint_is_dialled_and_the_url_remains(make_client, make_site):
    site = make_site()
    client = make_client(endpoint=site.address)
    assert client.get("http://files.example/hello") == b"files.example 1"
    assert client.get("http://other.example:81/hello") == b"other.example:81 2"


@only_kcp
def test_endpoint_https_checks_the_name_of_the_url(make_client, make_site, server_context, ca_file):
    asked = []
    server_context.sni_callback = lambda sock, name, context: asked.append(name)
    try:
        site = make_site(ssl_context=server_context)
        client = make_client(ca=ca_file, endpoint=("127.0.0.1", site.port))
        assert client.get("https://files.example/hello") == b"files.example 1"
        with pytest.raises(client.tls_error, match="CERTIFICATE_VERIFY_FAILED|match"):
            client.get("https://other.example/hello")
    finally:
        server_context.sni_callback = None
    assert asked[0] == "files.example"


@only_kcp
@pytest.mark.parametrize("way", ["profile", "url"])
def test_profile_is_that_of_both_ends(make_client, make_site, way):
    site = make_site(profile=kcpsock.Profile(key="it's a secret", crypt="aes", mode="fast3"))
    if way == "profile":
        client = make_client(profile=kcpsock.Profile(key="it's a secret", crypt="aes"))
    else:
        client = make_client(endpoint=f"kcp://127.0.0.1:{site.port}?key=it's%20a%20secret&crypt=aes&mode=fast")
    assert client.get(site.url + "hello").startswith(b"localhost:")


@only_kcp
def test_other_key_times_out(make_client, make_site):
    site = make_site(profile=kcpsock.Profile(key="one"))
    client = make_client(profile=kcpsock.Profile(key="another"))
    with pytest.raises(client.connect_timeout):
        client.get(site.url + "hello", connect=SHORT_S)


@only_kcp
@pytest.mark.parametrize(
    ("kcp", "error", "message"),
    [
        ({"profile": "kcp://"}, TypeError, "allowed is a Profile or None"),
        ({"endpoint": 80}, TypeError, r"allowed is \(host, port\)"),
        ({"endpoint": ("localhost",)}, TypeError, r"allowed is \(host, port\)"),
        ({"endpoint": ("localhost", "80")}, TypeError, r"allowed is \(host, port\)"),
        ({"endpoint": ("localhost", 65536)}, ValueError, "its port is 65536; allowed is 1 to 65535"),
        ({"endpoint": ("", 80)}, ValueError, "its host is empty or a URL"),
        ({"endpoint": "localhost:80"}, ValueError, "allowed is 'kcp'"),
        ({"endpoint": "kcp://localhost"}, ValueError, "a host, a port"),
        ({"endpoint": "kcp://localhost:99999"}, ValueError, "not a number from 1 to 65535"),
        ({"endpoint": "kcp://me@localhost:80"}, ValueError, "a host, a port"),
        ({"endpoint": "kcp://localhost:80/path"}, ValueError, "a host, a port"),
        ({"endpoint": "kcp://localhost:80?mode=slow"}, ValueError, "mode is 'slow'"),
        ({"endpoint": "kcp://h:80?mode=fast", "profile": kcpsock.Profile()}, ValueError, "one of them"),
    ],
    ids=str,
)
def test_bad_arguments(make_client, kcp, error, message):
    with pytest.raises(error, match=message):
        make_client(**kcp)


@only_kcp
@pytest.mark.parametrize("url", ["kcp://localhost:9?key=hush", "kcp://hush:hush@localhost:80", "kcp://h:hush?key=a"])
def test_no_message_shows_a_key(make_client, url):
    with pytest.raises(ValueError) as caught:
        make_client(endpoint=url, profile=kcpsock.Profile())
    assert "hush" not in str(caught.value)
