"""A project built in parts, on machines that share a store and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.cli.build import _tell
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.build import BuildOptions, BuildResult, build
from perfusion_registry.operations.substitute import SupercategoryOverride, build_substitute
from perfusion_registry.operations.workspace import Workspace
from tests.operations.conftest import edit


@pytest.fixture
def three(project: Path) -> Path:
    """The project with three concepts of other seeds; its base and pictures lie outside of it."""
    recipe = (project / "recipes" / "bear.toml").read_text(encoding="utf-8")
    entries = []
    for number, name in enumerate(("bear", "cub", "paw")):
        text = recipe.replace('name = "bear"', f'name = "{name}"').replace(
            "[train]", f"[train]\nseed = {number}"
        )
        (project / "recipes" / f"{name}.toml").write_text(text, encoding="utf-8")
        entries.append(f'{name} = {{ recipe = "recipes/{name}.toml" }}\n')
    edit(project / "perfusion.toml", 'bear = { recipe = "recipes/bear.toml" }\n', "".join(entries))
    return project


def built(machine: Path, **how: object) -> BuildResult:
    with Workspace.open(machine) as workspace:
        return build(workspace, BuildOptions(**how))  # type: ignore[arg-type]


def test_machines_that_share_a_store_build_a_project_once(
    three: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machines = [tmp_path_factory.mktemp("machine") / "project" for _ in range(3)]
    for machine in machines:
        shutil.copytree(three, machine)
    parts = [built(machine, shard=f"{number}/2") for number, machine in enumerate(machines[:2], 1)]
    assert [[one.name for one in part.built] for part in parts] == [["bear", "paw"], ["cub"]]
    assert built(machines[0], shard="1/2").up_to_date == ("bear", "paw")
    idle = built(machines[1], shard="4/4")  # nothing is left for it
    assert (idle.needed, idle.idle) == (
        (),
        "shard 4/4 has nothing to do: there are no more than 3 concepts",
    )

    _tell(idle, None, dry_run=False)
    assert capsys.readouterr().out == f"Nothing to build: {idle.idle}\n"

    whole = built(machines[2])  # finds all of it in the store
    assert (whole.built, whole.up_to_date) == ((), ("bear", "cub", "paw"))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("store")))
    built(three)
    assert (machines[2] / "perfusion.lock").read_bytes() == (three / "perfusion.lock").read_bytes()


def test_what_has_no_parts_is_refused(project: Path) -> None:
    with pytest.raises(PerfError, match="`3/2` is no shard"):
        built(project, shard="3/2")
    override = SupercategoryOverride(name="bear", word="cat", out=project / "bear.safetensors")
    with Workspace.open(project) as workspace, pytest.raises(PerfError, match="has no parts"):
        build_substitute(workspace, override, BuildOptions(shard="1/2"))
