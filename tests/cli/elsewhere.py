"""A second machine, which has a base and a registry, and nothing of the project that published there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from perfusion_registry.recipe import read_lockfile
from tests.cli.running import Perf, Said


def publish_all(perf: Perf, names: Sequence[str]) -> list[Said]:
    """Publish concepts of the project to its registry `studio`."""
    facts = ("--licence", "CC0-1.0", "--author", "A. N. Owner")
    published = [perf("publish", name, "--registry", "studio", *facts) for name in names]
    for said in published:
        assert said.code == 0, said.err
    return published


def draw_elsewhere(
    perf: Perf, home: Path, names: Sequence[str], draw: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go to a machine that takes the concepts from the registry, stay there, and see that `out.png` becomes
    the bytes that it is at home. draw: the command that draws it."""
    assert perf(*draw).code == 0
    there = home / "there"
    there.mkdir()
    monkeypatch.chdir(there)
    monkeypatch.setenv("PERF_CACHE_DIR", str(there / "store"))
    base = read_lockfile(home / "perfusion.lock").base
    assert base is not None
    assert perf("init", "--base", base.repo).code == 0
    with (there / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "../gallery"\n')
    for name in names:
        assert perf("add", f"studio/{name}").code == 0
    synced = perf("sync")
    assert synced.code == 0, synced.err
    assert perf(*draw).code == 0
    assert (there / "out.png").read_bytes() == (home / "out.png").read_bytes()
