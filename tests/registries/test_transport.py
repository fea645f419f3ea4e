"""What holds for every request over HTTP, of a plain web registry as of an OCI one."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perfusion_registry.registries import RegistryError, TransferError
from perfusion_registry.registries.backoff import Backoff
from perfusion_registry.registries.bucket import StoredObject
from perfusion_registry.registries.http import HttpBucket
from perfusion_registry.registries.oci.http import OciHttp, fetch_once
from perfusion_registry.registries.oci.token import Authenticator
from perfusion_registry.registries.transport import Origin, is_passing, origin_of, resolve_redirect
from tests.registries.oci.server import serve
from tests.registries.test_http import self_signed
from tests.registries.web import Answer, Request, Web, first, of, serving

BYTES = bytes(range(256)) * 20
HOST = Origin("https", "registry.example", 443)


@dataclass(frozen=True)
class Noted(Backoff):
    """Waits for nothing, and notes how long the server asked it to."""

    asked: list[float] = field(default_factory=list)

    def wait(self, tries: int, asked: float = 0.0) -> float:
        self.asked.append(asked)
        return 0.0


Client = Callable[[Web, Backoff], bytes]


def by_web(web: Web, backoff: Backoff) -> bytes:
    found = HttpBucket(web.url, {web.url: None}, patience=5, backoff=backoff).get("object", limit=len(BYTES))
    assert isinstance(found, StoredObject)
    return found.data


def by_oci(web: Web, backoff: Backoff) -> bytes:
    answer = oci_http(web, backoff).ask("GET", f"{web.url}/object", scope="", seconds=2)
    if answer.status != 200:
        raise RegistryError(f"the registry answers {answer.status}")
    return answer.data


def oci_http(web: Web, backoff: Backoff) -> OciHttp:
    origin = origin_of(web.url)
    assert origin is not None
    return OciHttp(origin, Authenticator(origin, None, fetch_once), backoff)


@pytest.fixture(params=[by_web, by_oci])
def client(request: pytest.FixtureRequest) -> Client:
    chosen: Client = request.param
    return chosen


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "object").write_bytes(BYTES)
    with serving(tmp_path) as server:
        yield server


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 524])
def test_a_status_that_passes_is_tried_again(status: int, client: Client, web: Web) -> None:
    web.twist = first(2, of(status))
    assert client(web, Noted()) == BYTES
    assert len(web.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 418, 501, 505])
def test_a_status_that_stays_is_not(status: int, client: Client, web: Web) -> None:
    assert not is_passing(status)
    web.twist = first(2, of(status))
    with pytest.raises(RegistryError) as caught:
        client(web, Noted())
    assert not isinstance(caught.value, TransferError)
    assert len(web.requests) == 1


def test_the_wait_that_a_server_asks_for_is_read_in_both_its_forms(client: Client, web: Web) -> None:
    later = datetime.now(UTC) + timedelta(seconds=7)
    answers = [of(503, retry_after=later.strftime("%a, %d %b %Y %H:%M:%S GMT")), of(429, retry_after="3")]
    web.twist = lambda request, honest: answers.pop(0) if answers else honest
    noted = Noted()
    assert client(web, noted) == BYTES
    assert 4 < noted.asked[0] <= 7
    assert noted.asked[1] == 3


def test_waits_grow_and_have_an_end() -> None:
    backoff = Backoff(0.1, longest=3.0)
    for tries, most in ((1, 0.1), (2, 0.2), (4, 0.8), (20, 3.0)):
        waits = {backoff.wait(tries) for _ in range(50)}
        assert most / 2 <= min(waits) < max(waits) <= most
    assert backoff.wait(1, 1e9) == 3.0
    assert backoff.wait(1, 2.0) == 2.0


def test_what_does_not_say_where_it_ends_is_not_believed_to_be_whole(client: Client, web: Web) -> None:
    """Without a length a connection that broke looks like the end."""
    web.twist = first(2, Answer(200, {}, BYTES[:-9]))
    assert client(web, Noted()) == BYTES
    assert len(web.requests) == 3
    web.twist = first(100, Answer(200, {}, BYTES[:-9]))
    with pytest.raises(TransferError, match="does not say where its answer ends"):
        client(web, Noted())


def test_a_body_is_decoded_within_its_bounds_or_refused(client: Client, web: Web) -> None:
    web.twist = lambda request, honest: of(200, gzip.compress(BYTES), content_encoding="gzip")
    assert client(web, Noted()) == BYTES
    web.twist = lambda request, honest: of(200, gzip.compress(bytes(10**7)), content_encoding="gzip")
    with pytest.raises(TransferError, match="sends more than"):
        client(web, Noted())
    web.requests.clear()
    web.twist = lambda request, honest: of(200, BYTES, content_encoding="br")
    with pytest.raises(RegistryError, match="did not ask for"):
        client(web, Noted())
    assert len(web.requests) == 1


def test_a_certificate_that_is_not_accepted_is_not_tried_again(client: Client, tmp_path: Path) -> None:
    with serving(tmp_path, certificate=self_signed(tmp_path / "certificate.pem")) as secure:
        noted = Noted()
        with pytest.raises(RegistryError, match="certificate is not accepted") as caught:
            client(secure, noted)
        assert "SSL_CERT_FILE" in (caught.value.hint or "")
        assert noted.asked == []


def test_five_redirects_are_followed_and_no_more_on_one_connection(client: Client, web: Web) -> None:
    web.twist = first(5, lambda request, _: of(302, location=f"{request.path}x"))
    (web.folder / "objectxxxxx").write_bytes(BYTES)
    assert client(web, Noted()) == BYTES
    assert len(web.requests) == 6
    assert web.connections == 1
    web.twist = lambda request, _: of(302, location=f"{request.path}x")
    web.requests.clear()
    with pytest.raises(RegistryError, match="more than 5 times"):
        client(web, Noted())
    assert len(web.requests) == 6


@pytest.mark.parametrize(
    "location",
    [
        "",
        "file:///etc/passwd",
        "http://[::1",
        "http://127.0.0.1:99999/",
        "//\x1b[31m/",
        "//me:s3cret@127.0.0.1/",
    ],
)
def test_an_address_that_is_not_one_is_not_followed(location: str, client: Client, web: Web) -> None:
    web.twist = lambda request, _: of(302, location=location)
    with pytest.raises(RegistryError, match="cannot follow") as caught:
        client(web, Noted())
    assert str(caught.value).replace("\n", "").isprintable()
    assert "s3cret" not in str(caught.value)
    assert len(web.requests) == 1


def test_a_server_elsewhere_leads_neither_to_this_machine_nor_out_of_https() -> None:
    """Whatever the chain of redirects, it is where the user sent the first request that counts."""
    for target in ("https://127.0.0.1/x", "https://localhost:8443/", "https://[::1]/"):
        for last in ("https://registry.example/a", "https://cdn.example/b"):
            with pytest.raises(RegistryError, match="does not follow"):
                resolve_redirect(last, target, HOST)
        here = Origin("https", "localhost", 5000)
        assert resolve_redirect("https://localhost:5000/a", target, here) == target
        assert resolve_redirect("https://cdn.example/b", target, here) == target
    with pytest.raises(RegistryError, match="does not follow"):
        resolve_redirect("https://registry.example/a", "http://registry.example/a", HOST)
    with pytest.raises(RegistryError, match="does not follow"):
        resolve_redirect("https://localhost/a", "http://localhost/a", Origin("https", "localhost", 443))
    plain = Origin("http", "registry.example", 80)
    assert resolve_redirect("http://registry.example/a", "../b?c", plain) == "http://registry.example/b?c"


def test_a_challenge_is_answered_on_the_connection_that_it_came_by(web: Web) -> None:
    origin = origin_of(web.url)
    assert origin is not None

    def guarded(request: Request, honest: Answer) -> Answer:
        allowed = request.headers["Authorization"] == "Basic bWU6czNjcmV0"
        return honest if allowed else of(401, b"{}", www_authenticate='Basic realm="here"')

    web.twist = guarded
    http = OciHttp(origin, Authenticator(origin, ("me", "s3cret"), fetch_once), Noted())
    assert http.ask("GET", f"{web.url}/object", scope="").data == BYTES
    assert len(web.requests) == 2
    assert web.connections == 1


def test_a_token_endpoint_that_is_busy_is_asked_again() -> None:
    with serve(guard="bearer", anonymous=True) as oci:
        oci.manifests["studio/teddy", "1"] = ("", b"{}")
        left = [2]

        def busy(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
            left[0] -= 1
            return (status, headers, body) if left[0] < 0 else (503, {}, b"")

        oci.spoil["/token"] = busy
        root = f"http://127.0.0.1:{oci.port}"
        origin = origin_of(root)
        assert origin is not None
        http = OciHttp(origin, Authenticator(origin, None, fetch_once), Noted())
        scope = "repository:studio/teddy:pull"
        assert http.ask("GET", f"{root}/v2/studio/teddy/manifests/1", scope=scope).data == b"{}"
        left[0] = 100
        http = OciHttp(origin, Authenticator(origin, None, fetch_once), Noted())
        with pytest.raises(TransferError, match="token endpoint answers 503"):
            http.ask("GET", f"{root}/v2/studio/teddy/manifests/1", scope=scope)


def test_a_server_that_drips_meets_the_one_end_of_its_time(client: Client, web: Web) -> None:
    web.twist = first(1, Answer(200, {"Content-Length": "10000"}, b"x" * 10_000, pause=0.3))
    begun = time.monotonic()
    assert client(web, Noted()) == BYTES
    assert time.monotonic() - begun < 9
