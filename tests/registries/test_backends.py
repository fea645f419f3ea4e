"""A backend of somebody else: another distribution, installed beside perf, which knows nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfusion_registry.registries import AlreadyPublishedError, Registry, RegistryError
from perfusion_registry.registries.opening import ENTRY_POINTS, SCHEMES, open_registry
from perfusion_registry.registries.registry import Backend
from tests.distribution import install
from tests.registries.samples import ROOT, release

MODULE = '''
"""A registry in one SQLite file: `lite:///folder/concepts.sqlite`."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from perfusion_registry.registries.bucket import StoredObject, NotModified
from perfusion_registry.registries.registry import Backend, RegistryError
from perfusion_registry.registries.sparse import SparseRegistry


class SqliteBucket:
    def __init__(self, url):
        self.url = self.identity = url
        self.path = url.removeprefix("lite://")
        if not self.path.startswith("/"):
            raise RegistryError("a registry in SQLite is written `lite:///folder/file`", where=url)

    def _run(self, text, *values):
        with closing(sqlite3.connect(self.path)) as base, base:
            base.execute("create table if not exists objects (key text primary key, data blob, tag text)")
            cursor = base.execute(text, values)
            return cursor.fetchone(), cursor.rowcount

    def get(self, key, *, limit, known_tag=None):
        row, _ = self._run("select data, tag from objects where key = ? and length(data) <= ?", key, limit)
        return row and (NotModified() if row[1] == known_tag else StoredObject(*row))

    def stream(self, key, *, limit):
        found = self.get(key, limit=limit)
        return iter([found.data]) if found else None

    def check_writable(self):
        pass

    def create(self, key, data):
        tag = hashlib.sha256(data).hexdigest()
        return self._run("insert or ignore into objects values (?, ?, ?)", key, data, tag)[1] == 1

    def replace(self, key, data, tag):
        new = hashlib.sha256(data).hexdigest()
        change = "update objects set data = ?, tag = ? where key = ? and tag = ?"
        return self._run(change, data, new, key, tag)[1] == 1


def open_sqlite(url, *, name, root: Path, cache: Path):
    return SparseRegistry(SqliteBucket(url), cache=cache, name=name)


BACKEND = Backend(open_sqlite, local=True)
REMOTE = Backend(open_sqlite)
'''


POINTS = {"lite": "perf_lite:BACKEND", "far": "perf_lite:REMOTE"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    points = {"lite": "perf_lite:BACKEND", "far": "perf_lite:REMOTE"}
    install(folder, "perf-lite", "perf_lite", MODULE, points, group=ENTRY_POINTS)
    monkeypatch.syspath_prepend(folder)
    return folder


def opened(url: str, tmp_path: Path, *, offline: bool = False) -> Registry:
    return open_registry(url, name="studio", root=tmp_path, cache=tmp_path / "memory", offline=offline)


def test_another_distribution_brings_a_backend(site: Path, tmp_path: Path) -> None:
    url = f"lite://{tmp_path}/concepts.sqlite"
    registry = opened(url, tmp_path)
    assert registry.publish(release(), b"bear")
    assert not registry.publish(release(), b"bear")
    with pytest.raises(AlreadyPublishedError):
        registry.publish(release(blob=b"other"), b"other")
    assert registry.yank("teddy", "1.0.0", reason="a wrong ear")
    for offline in (False, True):  # the backend says that it needs no network
        (listing,) = opened(url, tmp_path, offline=offline).versions("teddy")
        assert (listing.release, listing.yanked) == (release(), True)
        assert b"".join(opened(url, tmp_path, offline=offline).blob(release())) == b"bear"


def test_a_backend_that_needs_the_network_is_not_opened_without_one(site: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="lite:///folder/file"):
        opened("far://x", tmp_path)
    with pytest.raises(RegistryError, match="working offline"):
        opened("far://x", tmp_path, offline=True).versions("teddy")


def test_perf_uses_the_backend(site: Path, tmp_path: Path) -> None:
    url = f"lite://{tmp_path}/concepts.sqlite"
    opened(url, tmp_path).publish(release(), b"bear")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]),
        "PERF_CACHE_DIR": str(tmp_path / "store"),
        "PERF_DATA_DIR": str(tmp_path / "data"),
    }

    def perf(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from perfusion_registry.cli import main; main()", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    found = perf("search", "ear", "--registry", url, "--json")
    assert (found.returncode, '"teddy"' in found.stdout) == (0, True), found
    assert perf("yank", "teddy==1.0.0", "--registry", url, "--reason", "a wrong ear").returncode == 0
    about = perf("info", "teddy", "--registry", url)
    assert "1.0.0 (yanked)" in about.stdout, about
    unknown = perf("info", "teddy", "--registry", "ftp://host/x")
    assert unknown.returncode == 2
    assert "perf has no backend for `ftp://` registries" in unknown.stderr
    for scheme in (*SCHEMES, "lite"):
        assert f"{scheme}://" in " ".join(unknown.stderr.split())


@pytest.mark.parametrize("named", ["nowhere:BACKEND", "perf_lite:NOTHING", "perf_lite:open_sqlite"])
def test_a_backend_that_cannot_be_loaded_is_an_error_that_names_its_distribution(
    named: str, site: Path, tmp_path: Path
) -> None:
    install(site, "perf-broken", "perf_broken", "", {"broken": named}, group=ENTRY_POINTS)
    with pytest.raises(RegistryError, match="`broken://` registries that perf-broken brings cannot be used"):
        opened("broken://x", tmp_path)


def test_two_distributions_cannot_bring_one_scheme_and_none_replaces_ours(site: Path, tmp_path: Path) -> None:
    install(
        site,
        "perf-again",
        "perf_again",
        MODULE,
        {"lite": "perf_again:BACKEND", "https": "perf_again:BACKEND"},
        group=ENTRY_POINTS,
    )
    with pytest.raises(RegistryError, match="perf-again and perf-lite both bring"):
        opened(f"lite://{tmp_path}/x", tmp_path)
    assert type(opened("https://127.0.0.1", tmp_path)).__module__.startswith("perfusion_registry.")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_of_the_table_is_there(scheme: str) -> None:
    from importlib import import_module

    module, _, attribute = SCHEMES[scheme].partition(":")
    assert isinstance(getattr(import_module(module), attribute), Backend)
