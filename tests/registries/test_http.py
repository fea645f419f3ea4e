"""Registries on web servers: honest ones, failing ones, hostile ones."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.registries import RegistryError, TransferError
from perfusion_registry.registries.backoff import Backoff
from perfusion_registry.registries.bucket import NotModified, StoredObject
from perfusion_registry.registries.credentials import Credentials
from perfusion_registry.registries.download import download
from perfusion_registry.registries.http import HttpBucket
from perfusion_registry.registries.sparse import SparseRegistry, blob_key
from tests.registries.samples import folder_registry, release
from tests.registries.web import Answer, Request, Web, cut, first, of, serving

BLOB = bytes(range(256)) * 100
RELEASE = release("1.0.0", BLOB)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    keeper = folder_registry(tmp_path / "registry")
    keeper.publish(RELEASE, BLOB)
    (tmp_path / "registry" / "object").write_bytes(BLOB)
    with serving(tmp_path / "registry") as server:
        yield server


def bucket(*servers: Web, patience: float = 3.0) -> HttpBucket:
    urls = [server.url for server in servers]
    return HttpBucket(" ".join(urls), dict.fromkeys(urls), patience=patience, backoff=Backoff(0.002))


def registry(web: Web, tmp_path: Path) -> SparseRegistry:
    return SparseRegistry(bucket(web), cache=tmp_path / "client")


def got(found: StoredObject | NotModified | None) -> bytes:
    assert isinstance(found, StoredObject)
    return found.data


def test_concepts_are_found_and_fetched(web: Web, tmp_path: Path) -> None:
    client = registry(web, tmp_path)
    assert [one.release for one in client.versions("teddy")] == [RELEASE]
    assert client.versions("dog") == ()
    assert client.catalogue()[0].name == "teddy"
    store = Store(tmp_path / "store")
    download(client, RELEASE, store)
    assert store.get(RELEASE.sha256) == BLOB
    assert web.connections == 1  # and every request of them all went through it


def test_what_has_not_changed_is_not_sent_again(web: Web, tmp_path: Path) -> None:
    answers: list[int] = []

    def watch(request: Request, answer: Answer) -> Answer:
        answers.append(answer.status)
        return answer

    web.twist = watch
    for _ in range(2):
        assert len(registry(web, tmp_path).versions("teddy")) == 1
    assert answers == [200, 200, 200, 304]
    folder_registry(web.folder).publish(release("1.1.0"), b"bear")
    assert len(registry(web, tmp_path).versions("teddy")) == 2
    assert answers[-1] == 200


def test_the_servers_of_the_standard_library_know_when_a_file_changed(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    folder_registry(root).publish(RELEASE, BLOB)
    statuses: list[int] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code: object = "-", size: object = "-") -> None:
            statuses.append(int(code))  # type: ignore[call-overload]

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root))) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        client = SparseRegistry(HttpBucket(url, {url: None}), cache=tmp_path / "client")
        index = root / "index" / "te" / "teddy.jsonl"
        assert len(client.versions("teddy")) == 1
        # The file is younger than two seconds: its date is not yet proof of anything.
        assert len(client.versions("teddy")) == 1
        assert 304 not in statuses
        os.utime(index, (time.time() - 60,) * 2)
        for _ in range(2):
            assert len(client.versions("teddy")) == 1
        assert statuses[-1] == 304
        folder_registry(root).publish(release("1.1.0"), b"bear")
        assert len(client.versions("teddy")) == 2
        server.shutdown()


def test_a_web_server_takes_no_publications(web: Web, tmp_path: Path) -> None:
    client = registry(web, tmp_path)
    for work in (
        lambda: client.publish(release("2.0.0"), b"bear"),
        lambda: client.yank("teddy", "1.0.0"),
        lambda: client.unyank("teddy", "1.0.0"),
    ):
        with pytest.raises(RegistryError, match="can only be read") as caught:
            work()
        assert "publish to the folder or the bucket" in (caught.value.hint or "")
    assert web.requests == []


FAULTS = {
    "reset at once": lambda _, a: cut(a, 0),
    "reset in the headers": lambda _, a: cut(a, 30),
    "reset in the body": lambda _, a: cut(a, len(a.wire()) - 7),
    "truncated": lambda _, a: replace(a, body=a.body[:-9]),
    "without a length": lambda _, a: Answer(200, {}, a.body[:-9]),
    "500": of(500),
    "429": of(429, retry_after="0"),
    "503, and nonsense to wait for": of(503, retry_after="soon"),
    "nonsense": Answer(0, raw=b"\x00\xffnonsense\r\n\r\n"),
    "too many headers": Answer(0, raw=b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n"),
    "a huge header": Answer(0, raw=b"HTTP/1.1 200 OK\r\nA: " + b"b" * 10**6 + b"\r\n\r\n"),
    "two lengths": Answer(0, raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "a negative length": of(200, b"x", content_length="-5"),
    "a length that is none": of(200, b"x", content_length="many"),
    "broken chunks": Answer(200, {"Transfer-Encoding": "chunked"}, b"5\r\nhello\r\nzz\r\n"),
    "a broken end of chunks": Answer(200, {"Transfer-Encoding": "chunked"}, b"5\r\nhello\r\n"),
    "damaged gzip": of(200, gzip.compress(BLOB)[:-20] + b"x" * 20, content_encoding="gzip"),
    "broken off gzip": of(200, gzip.compress(BLOB)[:-20], content_encoding="gzip"),
    "gzip with a tail": of(200, gzip.compress(BLOB) + b"tail", content_encoding="gzip"),
    "304 without a condition": Answer(304),
    "too long": lambda _, a: of(200, a.body + b"more"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_tried_again_and_what_stays_is_an_error_in_bounds(web: Web, fault: str) -> None:
    twist = FAULTS[fault]
    web.twist = first(2, twist)
    assert got(bucket(web).get("object", limit=len(BLOB))) == BLOB
    assert len(web.requests) == 3
    web.requests.clear()
    web.twist = first(1000, twist)
    with pytest.raises(TransferError) as caught:
        bucket(web).get("object", limit=len(BLOB))
    assert len(web.requests) == 5
    assert caught.value.where == f"{web.url}/object"
    assert str(caught.value).replace("\n", "").isprintable()


def test_a_blob_that_breaks_off_or_is_swapped_is_fetched_again(web: Web, tmp_path: Path) -> None:
    client = registry(web, tmp_path)
    for spoilt in (
        lambda r, a: cut(a, len(a.wire()) // 2) if "/blobs/" in r.path else a,
        lambda r, a: of(200, a.body[::-1]) if "/blobs/" in r.path else a,
        lambda r, a: of(200, a.body[:-1]) if "/blobs/" in r.path else a,
        lambda r, a: of(200, a.body + b"x") if "/blobs/" in r.path else a,
    ):
        store = Store(tmp_path / "store")
        web.twist = first(2, spoilt)
        download(client, RELEASE, store)
        assert store.get(RELEASE.sha256) == BLOB
        web.twist = first(1000, spoilt)
        store.path(RELEASE.sha256).unlink()
        with pytest.raises(TransferError, match=r"`teddy` 1\.0\.0 did not arrive in 4 tries"):
            download(client, RELEASE, store)
        assert not list(store.root.rglob("*.safetensors"))


def test_a_gzip_bomb_costs_no_memory(web: Web) -> None:
    bomb = gzip.compress(bytes(10**8))
    web.twist = lambda r, a: of(200, bomb, content_encoding="gzip")
    with pytest.raises(TransferError, match="more than the 1,000 bytes"):
        bucket(web).get("object", limit=1000)
    web.twist = lambda r, a: of(200, gzip.compress(BLOB * 9), content_encoding="gzip")
    assert got(bucket(web).get("object", limit=len(BLOB) * 9)) == BLOB * 9
    web.twist = lambda r, a: of(200, b"", content_encoding="br")
    with pytest.raises(RegistryError, match="did not ask for"):
        bucket(web).get("object", limit=1000)


@pytest.mark.parametrize("where", ["headers", "body", "trailers", "provisional answers"])
def test_a_server_that_drips_is_given_up_in_time(web: Web, where: str) -> None:
    honest = of(200, BLOB).wire()
    slow = {
        "headers": Answer(0, raw=None, headers={"X": "y" * 10_000}, pause=0.02),
        "body": Answer(200, {"Content-Length": "10000"}, b"x" * 10_000, pause=0.01),
        "trailers": Answer(200, {"Transfer-Encoding": "chunked"}, b"0\r\n" + b"A: b\r\n" * 9999, pause=0.01),
        "provisional answers": Answer(0, raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 4000 + honest, pause=0.005),
    }[where]
    web.twist = lambda r, a: slow
    begun = time.monotonic()
    with pytest.raises(TransferError, match=r"too slow|more than"):
        bucket(web, patience=1.2).get("object", limit=10_000)
    assert time.monotonic() - begun < 6
    assert len(web.requests) <= 5


def test_retry_after_is_obeyed_within_reason(web: Web) -> None:
    web.twist = first(1, of(503, retry_after="1"))
    begun = time.monotonic()
    assert got(bucket(web).get("object", limit=len(BLOB))) == BLOB
    assert time.monotonic() - begun >= 1
    later = datetime.now(UTC) + timedelta(days=400)
    for asked in ("99999999", later.strftime("%a, %d %b %Y %H:%M:%S GMT"), "9" * 400):
        web.twist = first(1000, of(503, retry_after=asked))
        begun = time.monotonic()
        with pytest.raises(TransferError, match="503"):
            bucket(web).get("object", limit=len(BLOB))
        assert time.monotonic() - begun < 3


def test_what_is_missing_or_forbidden_is_not_asked_for_again(web: Web) -> None:
    for status in (404, 410, 451):
        web.twist = lambda r, a, status=status: of(status)
        assert bucket(web).get("object", limit=9) is None
        assert bucket(web).stream("object", limit=9) is None
    for status, said in (
        (401, "refuses access"),
        (403, "refuses access"),
        (418, "answers 418"),
        (206, "206"),
    ):
        web.requests.clear()
        web.twist = lambda r, a, status=status: of(status, b"<b>hello</b>")
        with pytest.raises(RegistryError, match=said):
            bucket(web).get("object", limit=9)
        assert len(web.requests) == 1


def test_mirrors_are_tried_in_order(web: Web, tmp_path: Path) -> None:
    folder_registry(tmp_path / "lagging").publish(release(name="cat"), b"bear")
    with serving(tmp_path / "lagging") as lagging, serving(tmp_path) as gone:
        gone.close()
        assert got(bucket(web, lagging).get("object", limit=len(BLOB))) == BLOB
        assert lagging.requests == []
        for broken in (lagging, gone):
            assert got(bucket(broken, web).get("object", limit=len(BLOB))) == BLOB
        for status in (403, 500, 302):
            lagging.twist = lambda r, a, status=status: of(status)
            assert got(bucket(lagging, web).get("object", limit=len(BLOB))) == BLOB
        with pytest.raises(RegistryError):  # one says that it is not there, the other cannot say
            bucket(gone, web).get("nothing", limit=9)


def test_a_mirror_with_wrong_bytes_or_an_old_index_does_not_stop_the_others(web: Web, tmp_path: Path) -> None:
    with serving(web.folder) as bad:
        both = SparseRegistry(bucket(bad, web), cache=tmp_path / "client")
        bad.twist = lambda r, a: of(200, b"y" * len(a.body)) if "/blobs/" in r.path else a
        store = Store(tmp_path / "store")
        download(both, RELEASE, store)
        assert store.get(RELEASE.sha256) == BLOB
        old = (web.folder / "index/te/teddy.jsonl").read_bytes()
        folder_registry(web.folder).publish(release("1.1.0"), b"bear")
        assert len(both.versions("teddy")) == 2
        bad.twist = lambda r, a: of(200, old) if r.path.endswith("teddy.jsonl") else a
        fresh = SparseRegistry(bucket(bad, web), cache=tmp_path / "client")
        assert len(fresh.versions("teddy")) == 2
        alone = SparseRegistry(HttpBucket(f"{bad.url} ", {bad.url: None}), cache=tmp_path / "client")
        with pytest.raises(RegistryError, match="rolled back"):
            alone.versions("teddy")


def test_redirects_are_followed_without_credentials_and_not_for_ever(web: Web, tmp_path: Path) -> None:
    secret = Credentials(token="s3cret")
    with serving(web.folder) as other:
        honest = HttpBucket(web.url, {web.url: secret}, patience=3, backoff=Backoff(0.002))
        web.twist = lambda r, a: of(302, location="/object") if r.path == "/moved" else a
        assert got(honest.get("moved", limit=len(BLOB))) == BLOB
        assert [r.headers["Authorization"] for r in web.requests] == ["Bearer s3cret"] * 2
        web.twist = lambda r, a: of(307, location=f"{other.url}/object?signature=x")
        assert got(honest.get("object", limit=len(BLOB))) == BLOB
        (there,) = other.requests
        assert there.headers["Authorization"] is None

        web.twist = lambda r, a: of(301, location=f"{r.path}x")
        web.requests.clear()
        with pytest.raises(RegistryError, match="redirects more than 5 times"):
            honest.get("object", limit=len(BLOB))
        assert len(web.requests) == 6
        port = other.port
        for target in (
            "",
            "file:///etc/passwd",
            "ftp://127.0.0.1/x",
            "http://[::1",
            "http://127.0.0.1:99999/",
            f"http://user:s3cret@127.0.0.1:{port}/object",
            "//\x1b[31m/",
        ):
            web.twist = lambda r, a, target=target: of(302, location=target)
            with pytest.raises(RegistryError, match="an address that perf cannot follow") as caught:
                honest.get("object", limit=len(BLOB))
            assert "s3cret" not in str(caught.value)
        assert len(other.requests) == 1


def test_secure_servers_are_checked_and_never_lead_to_insecure_ones(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path / "certificate.pem")
    with serving(web.folder, certificate=certificate) as secure:
        with pytest.raises(RegistryError, match="certificate is not accepted"):
            bucket(secure).get("object", limit=len(BLOB))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert got(bucket(secure).get("object", limit=len(BLOB))) == BLOB
        secure.twist = lambda r, a: of(302, location=f"{web.url}/object")
        with pytest.raises(RegistryError, match="where perf does not follow"):
            bucket(secure).get("object", limit=len(BLOB))
    assert web.requests == []


def test_credentials_go_with_every_request_and_are_named_when_refused(web: Web) -> None:
    web.twist = lambda r, a: a if r.headers["Authorization"] == "Basic YW5uOnMzY3JldA==" else of(401)
    pair = Credentials(username="ann", password="s3cret", source="the environment")
    assert got(HttpBucket(web.url, {web.url: pair}).get("object", limit=len(BLOB))) == BLOB
    with pytest.raises(RegistryError, match="with the credentials from the environment") as caught:
        HttpBucket(web.url, {web.url: replace(pair, password="wr0ng")}).get("object", limit=9)
    assert "wr0ng" not in f"{caught.value}{caught.value!r}{caught.value.__cause__}"


@pytest.mark.parametrize("url", ["http://", "https://host/x?token=y", "http://h/#x", "http://[", "ftp://h/x"])
def test_addresses_that_keys_cannot_be_added_to_are_refused(url: str) -> None:
    with pytest.raises(RegistryError, match="not a plain address"):
        HttpBucket(url, {url: None})


def test_a_blob_that_the_index_names_and_nobody_has_is_a_clear_error(web: Web, tmp_path: Path) -> None:
    (web.folder / blob_key(RELEASE.sha256)).unlink()
    with pytest.raises(RegistryError, match=r"lists teddy 1\.0\.0 and does not have its bytes"):
        download(registry(web, tmp_path), RELEASE, Store(tmp_path / "store"))


def self_signed(path: Path) -> Path:
    """A key and a certificate for this machine, in one file."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "perf tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(pem))
    return path
