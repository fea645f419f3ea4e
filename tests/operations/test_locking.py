"""A lockfile that comes to version 2 while a project is built says what version 1 had no place for."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.lock import LockOptions, lock
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import read_lockfile
from tests.operations.conftest import edit


@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_built_is_locked_as_it_is(project: Path, at_once: bool) -> None:
    """Whether another method's concept is built by the same command or by a later one."""
    compute, lockfile = ComputeOptions(device="cpu"), project / "perfusion.lock"
    if not at_once:
        with Workspace.open(project) as workspace:
            build(workspace, BuildOptions(compute=compute))
        assert read_lockfile(lockfile).version == 1
    recipe = (project / "recipes" / "bear.toml").read_text(encoding="utf-8")
    other = recipe.replace('name = "bear"', 'name = "cup"\nmethod = "textual-inversion"')
    (project / "recipes" / "cup.toml").write_text(other, encoding="utf-8")
    edit(project / "perfusion.toml", "[concepts]\n", '[concepts]\ncup = { recipe = "recipes/cup.toml" }\n')
    with Workspace.open(project) as workspace:
        build(workspace, BuildOptions(compute=compute))
    locked = lockfile.read_bytes()
    assert read_lockfile(lockfile).version == 2
    with Workspace.open(project) as workspace:
        assert build(workspace, BuildOptions(locked=True)).built == ()
        lock(workspace, LockOptions())
    assert lockfile.read_bytes() == locked
