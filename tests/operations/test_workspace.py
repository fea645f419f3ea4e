"""A workspace: what it finds, what it holds while it is open, and what it makes known to pruning."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.artifact.lockfiles import known_lockfiles
from perfusion_registry.artifact.pruning import prune
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.resolve.project import ProjectNotFoundError

MANIFEST = '[project]\nname = "tea"\nbase = "storybook"\n[registries]\nstudio = "finder"\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project without concepts."""
    (tmp_path / "tea").mkdir()
    (tmp_path / "tea" / "perfusion.toml").write_text(MANIFEST)
    return tmp_path / "tea"


def alone(store: Path) -> bool:
    """Whether the store could be had alone, as pruning wants it."""
    with (store / "locks" / "store.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_workspace_is_found_from_below_and_says_where_there_is_none(root: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (root / "deep").mkdir()
    with Workspace.open(root / "deep", store=store) as workspace:
        assert workspace.root == root
        assert workspace.read().manifest.project.name == "tea"
    with pytest.raises(ProjectNotFoundError) as caught:
        Workspace.open(tmp_path, store=store)
    assert caught.value.where == str(tmp_path)
    with Workspace.open(tmp_path, store=store, optional=True) as workspace:
        with pytest.raises(ProjectNotFoundError):
            workspace.read()
        with pytest.raises(ProjectNotFoundError):
            workspace.read_if_any()  # the folder was named
    with Workspace.outside(store=store) as workspace:
        assert workspace.read_if_any() is None


def test_a_lockfile_alone_is_found_where_it_will_do(root: Path, tmp_path: Path) -> None:
    (root / "vendor").mkdir()
    (root / "vendor" / "perfusion.lock").write_text("version = 1\nrevision = 1\n")
    store = tmp_path / "store"
    with Workspace.open(root / "vendor", store=store, lockfile_alone=True) as workspace:
        assert workspace.root == root / "vendor"
        with pytest.raises(PerfError, match="names no base"):
            workspace.read()
    with Workspace.open(root / "vendor", store=store) as workspace:
        assert workspace.root == root


def test_files_are_read_when_they_are_asked_for(root: Path, tmp_path: Path) -> None:
    (root / "perfusion.toml").write_text("broken [")
    with Workspace.open(root, store=tmp_path / "store") as workspace:
        with pytest.raises(PerfError):
            workspace.read()
        (root / "perfusion.toml").write_text(MANIFEST.replace("tea", "party"))
        assert workspace.read().manifest.project.name == "party"


def test_an_open_workspace_keeps_pruning_out_and_closing_it_lets_go(root: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first, second = Workspace.open(root, store=store), Workspace.outside(store=store)
    assert not alone(store)
    first.close()
    assert not alone(store)
    second.close()
    assert alone(store)
    with pytest.raises(RuntimeError), Workspace.open(root, store=store):
        raise RuntimeError
    assert alone(store)
    with pytest.raises(ProjectNotFoundError):
        Workspace.open(tmp_path, store=store)
    assert alone(store)


def test_what_the_lockfile_of_a_workspace_names_is_never_pruned(root: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    locked, other = store.put(b"locked"), store.put(b"other")
    for sha256 in (locked, other):
        os.utime(store.path(sha256), (0, 0))
    Workspace.open(root, store=store.root).close()
    (root / "perfusion.lock").write_text(f'sha256 = "{locked}"\n')
    assert known_lockfiles(store.root) == [root / "perfusion.lock"]
    prune(store.root)
    assert store.has(locked)
    assert not store.has(other)


def test_offline_is_for_bases_and_registries_alike(root: Path, tmp_path: Path) -> None:
    with Workspace.open(root, store=tmp_path / "store", offline=True) as workspace:
        with pytest.raises(PerfError):
            workspace.base_named("somebody/some-model@" + "0" * 40)
        sources = workspace.registries(workspace.read(), None)
        assert sources.named == {"studio": "finder"}
        with pytest.raises(PerfError):
            workspace.registry("https://127.0.0.1:9/x", "far", root).catalogue()
