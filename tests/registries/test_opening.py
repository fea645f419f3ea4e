"""From an address to a registry, with and without a network."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from perfusion_registry.registries import Registry, RegistryError
from perfusion_registry.registries.opening import open_registry
from tests.registries.samples import ROOT, folder_registry, release
from tests.registries.web import serving


def opened(url: str, tmp_path: Path, *, offline: bool = False) -> Registry:
    return open_registry(url, name="studio", root=tmp_path, cache=tmp_path / "memory", offline=offline)


def test_folders_are_found_from_the_project(tmp_path: Path) -> None:
    folder_registry(tmp_path / "a b").publish(release(), b"bear")
    for url in ("a b", "./a b/", str(tmp_path / "a b"), f"file://{tmp_path}/a%20b", f"file:{tmp_path}/a%20b"):
        for offline in (False, True):
            registry = opened(url, tmp_path, offline=offline)
            assert len(registry.versions("teddy")) == 1
            assert registry.url == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a\x1b[31m", "unprintable"),
        ("ftp://host/x", "no backend for `ftp://`"),
        ("git+ssh://host/x", "no backend"),
        ("https://ann:s3cret@host/x", "credentials in it"),
        ("https://host/x https://ann:s3cret@other/x", "credentials in it"),
        ("https://host/x?token=s3cret", "not a plain address"),
        ("file://elsewhere/x", "of this machine"),
        ("s3://b", "not an address of a bucket"),
        ("s3://bucket/../x", "not an address of a bucket"),
        ("s3://bucket/x?secret_access_key=x", "has no place"),
        ("s3://bucket/x?endpoint=ftp://h", "not an address of a bucket"),
    ],
)
def test_addresses_that_are_none_are_refused_with_a_reason(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        opened(url, tmp_path)


def test_offline_serves_what_was_seen_and_opens_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "registry"
    folder_registry(root).publish(release(), b"bear")
    with serving(root) as web:
        online = opened(web.url, tmp_path)
        listings, catalogue = online.versions("teddy"), online.catalogue()

        def refuse(*arguments: object) -> None:
            raise AssertionError("a socket was opened")

        monkeypatch.setattr(socket, "socket", refuse)
        offline = opened(web.url, tmp_path, offline=True)
        assert offline.url == web.url
        assert tuple(offline.versions("teddy")) == tuple(listings)
        assert offline.catalogue() == catalogue
        for work in (
            lambda: offline.versions("cat"),
            lambda: offline.blob(release()),
            lambda: offline.publish(release(), b"bear"),
            lambda: offline.yank("teddy", "1.0.0"),
            lambda: offline.unyank("teddy", "1.0.0"),
        ):
            with pytest.raises(RegistryError, match="offline") as caught:
                work()
            assert caught.value.where == web.url


def test_a_registrys_credentials_are_for_its_first_address_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERF_REGISTRY_STUDIO_TOKEN", "s3cret")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    folder_registry(tmp_path / "registry").publish(release(), b"bear")
    with serving(tmp_path / "registry") as mirror, serving(tmp_path / "nothing") as main:
        assert len(opened(f"{main.url} {mirror.url}", tmp_path).versions("teddy")) == 1
        assert {r.headers["Authorization"] for r in main.requests} == {"Bearer s3cret"}
        assert {r.headers["Authorization"] for r in mirror.requests} == {None}


def test_opening_and_reading_a_folder_loads_no_network_library_and_no_torch(tmp_path: Path) -> None:
    folder_registry(tmp_path / "r").publish(release(), b"bear")
    text = (
        "import sys; from pathlib import Path\n"
        "from perfusion_registry.registries.opening import open_registry\n"
        "r = open_registry(sys.argv[1], name='x', root=Path('/'), cache=Path(sys.argv[1] + '-memory'))\n"
        "assert r.versions('teddy')\n"
        "open_registry('https://127.0.0.1', name='x', root=Path('/'), cache=Path('/'))\n"
        "print(sorted({'torch', 'urllib3', 'obstore', 'requests', 'huggingface_hub'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", text, str(tmp_path / "r")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert run.stdout == "[]\n"
