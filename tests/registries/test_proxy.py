"""Proxies of the environment, refused connections, and servers that a registry redirects to."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perfusion_registry.registries import RegistryError, TransferError
from perfusion_registry.registries.backoff import Backoff
from perfusion_registry.registries.bucket import StoredObject
from perfusion_registry.registries.credentials import Credentials
from perfusion_registry.registries.http import HttpBucket
from perfusion_registry.registries.proxy import Proxy, proxy_for
from tests.registries.test_transport import oci_http
from tests.registries.web import Answer, Request, Web, of, serving

LOGIN = "Basic " + base64.b64encode(b"ann:p@ss").decode()
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Web]:
    """A server that answers what is asked of others."""
    with serving(tmp_path) as server:
        server.twist = lambda request, answer: of(200, b"bytes")
        yield server


def fetch(url: str, login: Credentials | None = None) -> bytes:
    bucket = HttpBucket(url, {url: login}, patience=2, backoff=Backoff(0.001))
    found = bucket.get("object", limit=99)
    assert isinstance(found, StoredObject)
    return found.data


def refused(url: str, kind: type[RegistryError] = RegistryError, login: Credentials | None = None) -> str:
    with pytest.raises(kind) as caught:
        fetch(url, login)
    return str(caught.value)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_the_login_of_a_proxys_address_is_sent_to_it(
    proxy: Web, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"{scheme}ann:p%40ss@127.0.0.1:{proxy.port}")
    assert fetch("http://registry.invalid/concepts") == b"bytes"
    (request,) = proxy.requests
    assert request.path == "http://registry.invalid/concepts/object"
    assert request.headers["Proxy-Authorization"] == LOGIN
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("squid:3128", Proxy("http://squid:3128", "")),
        ("http://squid", Proxy("http://squid:80", "")),
        ("https://ann:a%3Ab@[::1]:9", Proxy("https://[::1]:9", "ann:a:b")),
        ("", None),
    ],
)
def test_addresses_of_proxies(monkeypatch: pytest.MonkeyPatch, address: str, parsed: Proxy | None) -> None:
    monkeypatch.setenv("ALL_PROXY", address)
    assert proxy_for("https://registry.invalid/x") == parsed
    assert proxy_for("http://127.0.0.1:1/x") is None
    monkeypatch.setenv("NO_PROXY", "registry.invalid")
    assert proxy_for("https://registry.invalid/x") is None


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("socks5://ann:secret@squid:1080", "proxies of the kind `socks5` are not supported"),
        ("http://ann:secret@squid:port", "the proxy's address cannot be understood"),
    ],
)
def test_a_proxy_that_perf_cannot_use_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, address: str, what: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    said = refused("https://registry.invalid/concepts")
    assert what in said
    assert "at HTTPS_PROXY" in said
    assert "secret" not in said


Answering = Callable[[Request, Answer], Answer]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("login", "status", "what"),
    [
        ("", 407, "the proxy asks for a login (407)"),
        ("ann:wrong@", 407, "the proxy does not accept the login in its address (407)"),
    ],
)
def test_a_proxy_that_refuses_is_blamed_and_not_the_registry(
    proxy: Web, monkeypatch: pytest.MonkeyPatch, scheme: str, login: str, status: int, what: str
) -> None:
    proxy.twist = lambda request, answer: of(status)
    monkeypatch.setenv(f"{scheme}_proxy", f"http://{login}127.0.0.1:{proxy.port}")
    said = refused(f"{scheme}://registry.invalid/concepts")
    assert what in said
    assert f"at http://127.0.0.1:{proxy.port}" in said
    assert "wrong" not in said


def test_a_proxy_that_does_not_connect_or_is_not_there_is_blamed(
    proxy: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.twist = lambda request, answer: of(403)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
    said = refused("https://registry.invalid/concepts", TransferError)
    assert "the proxy does not connect to https://registry.invalid (it answers 403)" in said
    gone = closed_port()
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", f"127.0.0.1:{gone}")
        said = refused(f"{scheme}://registry.invalid/concepts", TransferError)
        assert "the proxy refuses the connection" in said
        assert f"at http://127.0.0.1:{gone}" in said


def test_a_refused_connection_is_not_called_slow() -> None:
    for scheme in ("http", "https"):
        said = refused(f"{scheme}://127.0.0.1:{closed_port()}/concepts", TransferError)
        assert "the server refuses the connection" in said


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_elsewhere_that_refuses_is_not_blamed_on_the_credentials(
    proxy: Web, tmp_path: Path, status: int
) -> None:
    """The registry takes the login and redirects to a store of files, which is sent none."""
    proxy.twist = lambda request, answer: of(status)
    with serving(tmp_path) as registry:
        registry.twist = lambda request, answer: of(307, location=f"{proxy.url}/elsewhere")
        said = refused(registry.url, login=Credentials("token", None, None))
        assert f"the registry redirects to a server that refuses access ({status})" in said
        assert f"at {proxy.url}/elsewhere" in said
        assert "_TOKEN" not in said
        with pytest.raises(RegistryError, match="redirects to a server that refuses access"):
            oci_http(registry, Backoff(0.001)).ask("GET", f"{registry.url}/blob", scope="", seconds=2)
        assert registry.requests[0].headers["Authorization"] == "Bearer token"
    assert all("Authorization" not in request.headers for request in proxy.requests)
