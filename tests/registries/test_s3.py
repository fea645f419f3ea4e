"""Registries in S3, against a server that speaks it on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.publish_race import s3
from perfusion_registry.artifact import Store
from perfusion_registry.registries import AlreadyPublishedError, RegistryError, TransferError
from perfusion_registry.registries.bucket import NotModified, StoredObject
from perfusion_registry.registries.download import download
from perfusion_registry.registries.opening import open_registry
from perfusion_registry.registries.s3 import S3Bucket
from perfusion_registry.registries.sparse import SparseRegistry
from tests.registries.samples import ROOT, release

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3cret"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    pytest.importorskip("moto.server", reason="no S3 server here: pip install 'moto[server,s3]'")
    with s3():
        yield os.environ["AWS_ENDPOINT_URL"]


@pytest.fixture
def _keys(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_keys")
def test_the_first_use_may_be_of_many_threads_at_once() -> None:
    """As in `perf sync`. Threads that imported the library together have found it half-initialised."""
    text = (
        "import sys, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from perfusion_registry.registries.s3 import S3Bucket\n"
        "sys.setswitchinterval(1e-6)\n"
        "bucket, together = S3Bucket('s3://studio/nothing', name='studio'), threading.Barrier(8)\n"
        "def ask(number):\n"
        "    together.wait()\n"
        "    return bucket.get(f'key-{number}', limit=9)\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    assert list(pool.map(ask, range(8))) == [None] * 8\n"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("_keys")
def test_objects_are_created_once_and_replaced_by_their_tag() -> None:
    bucket = S3Bucket("s3://studio/objects", name="studio")
    assert bucket.get("a/b", limit=9) is None
    assert bucket.stream("a/b", limit=9) is None
    assert bucket.create("a/b", b"one")
    assert not bucket.create("a/b", b"two")
    found = bucket.get("a/b", limit=9)
    assert isinstance(found, StoredObject)
    assert found.data == b"one"
    assert bucket.get("a/b", limit=9, known_tag=found.tag) == NotModified()
    assert bucket.replace("a/b", b"two!", found.tag)
    assert not bucket.replace("a/b", b"three", found.tag)
    for read in (lambda: bucket.get("a/b", limit=3), lambda: list(bucket.stream("a/b", limit=3) or [])):
        with pytest.raises(TransferError, match="4 bytes where at most 3 belong"):
            read()


@pytest.mark.usefixtures("_keys")
def test_the_life_of_a_concept(tmp_path: Path) -> None:
    registry = open_registry("s3://studio/concepts/", name="studio", root=tmp_path, cache=tmp_path / "m")
    with pytest.raises(RegistryError, match="no registry here"):
        registry.versions("teddy")
    assert registry.publish(release("1.0.0"), b"bear")
    assert not registry.publish(release("1.0.0"), b"bear")
    with pytest.raises(AlreadyPublishedError):
        registry.publish(release("1.0.0", b"other"), b"other")
    assert registry.publish(release("1.1.0", b"cat"), b"cat")
    assert registry.yank("teddy", "1.1.0", reason="a wrong ear")
    other = open_registry("s3://studio/concepts/", name="studio", root=tmp_path, cache=tmp_path / "n")
    for _ in range(2):
        assert [(one.release.version, one.reason) for one in other.versions("teddy")] == [
            ("1.0.0", ""),
            ("1.1.0", "a wrong ear"),
        ]
    assert [(one.name, one.version) for one in other.catalogue()] == [("teddy", "1.0.0")]
    store = Store(tmp_path / "store")
    download(other, release("1.1.0", b"cat"), store)
    assert store.get(release("1.1.0", b"cat").sha256) == b"cat"


@pytest.mark.usefixtures("_keys")
def test_of_publishers_of_one_version_exactly_one_wins(tmp_path: Path) -> None:
    def publish(number: int) -> str:
        bucket = S3Bucket("s3://studio/race", name="studio")
        registry = SparseRegistry(bucket, cache=tmp_path / str(number))
        blob = b"%d" % number
        try:
            return "won" if registry.publish(release("1.0.0", blob), blob) else "same"
        except AlreadyPublishedError:
            return "told"

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(publish, range(8))) == ["told"] * 7 + ["won"]


def test_the_address_may_name_the_endpoint_and_the_registry_its_own_keys(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    url = f"s3://studio/own?endpoint={endpoint}&region=eu-west-1"
    bucket = S3Bucket(url, name="my-studio")
    with pytest.raises(RegistryError, match="no credentials to write") as caught:
        SparseRegistry(bucket, cache=tmp_path).publish(release(), b"bear")
    assert "PERF_REGISTRY_MY_STUDIO_USERNAME" in (caught.value.hint or "")
    monkeypatch.setenv("PERF_REGISTRY_MY_STUDIO_USERNAME", "key")
    monkeypatch.setenv("PERF_REGISTRY_MY_STUDIO_PASSWORD", "s3cret")
    assert SparseRegistry(S3Bucket(url, name="my-studio"), cache=tmp_path).publish(release(), b"bear")
    assert bucket.url == url


@pytest.mark.usefixtures("_keys")
def test_a_bucket_or_a_server_that_is_not_there_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match="no such bucket"):
        S3Bucket("s3://nowhere", name="x").create("a", b"b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(TransferError, match="cannot be used") as caught:
        S3Bucket("s3://studio", name="x").get("a", limit=9)
    assert "s3cret" not in str(caught.value)
    assert len(caught.value.what) < 300


def test_without_the_library_the_error_says_how_to_install_it(tmp_path: Path) -> None:
    text = (
        "import sys; sys.modules['obstore'] = None; sys.modules['obstore.store'] = None\n"
        "from perfusion_registry.registries import RegistryError\n"
        "from perfusion_registry.registries.s3 import S3Bucket\n"
        "bucket = S3Bucket('s3://studio/x', name='x')\n"
        "for work in (lambda: bucket.get('a', limit=1), lambda: bucket.create('a', b'')):\n"
        "    try: work()\n"
        "    except RegistryError as error: print(error.hint)"
    )
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout == "pip install 'perfusion-registry[s3]'\n" * 2
