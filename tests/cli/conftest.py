"""A project on the tiny base, with images and a covariance of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from perfusion_registry.artifact import Artifact
from perfusion_registry.cache_folder import CACHE_VARIABLE, DATA_VARIABLE
from perfusion_registry.methods.perfusion.options import Built
from perfusion_registry.registries.opening import open_registry
from perfusion_registry.trust import SIGNING_KEY_VARIABLE
from tests.cli.running import Perf, Said, edit
from tests.cli.studio import Studio
from tests.operations.stand_in import stand_in


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a store of its own and plain output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "store"))
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.delenv(SIGNING_KEY_VARIABLE, raising=False)
    for name in ("NO_COLOR", "FORCE_COLOR", "PERF_PROJECT", "PERF_LOCKED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def perf(place: Path) -> Perf:
    """Run a command inside this process."""
    from perfusion_registry.cli import app

    def run(*arguments: str) -> Said:
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def pictures(place: Path) -> Path:
    """Three small pictures, one of them as a camera would call it."""
    folder = place / "photos"
    folder.mkdir()
    for number, name in enumerate(("1.png", "2.png", "IMG_3.JPG")):
        Image.effect_noise((64, 64), 60 + 30 * number).convert("RGB").save(folder / name)
    return folder


@pytest.fixture
def project(perf: Perf, place: Path, pictures: Path, tiny_base_folder: Path) -> Path:
    """A project on the tiny base with one concept, not built."""
    import torch
    from safetensors.torch import save_file

    sample = torch.randn(200, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert perf("init", "--base", str(tiny_base_folder)).code == 0
    save_file({"C": sample.T @ sample / 200}, place / "C.safetensors")
    manifest = place / "perfusion.toml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(
        text.replace("\n# Each", 'covariance = "C.safetensors"\n\n# Each', 1), encoding="utf-8"
    )
    assert perf("add", "bear", "--super", "teddy", "--images", "photos/*").code == 0
    recipe = place / "recipes" / "bear.toml"
    quick = '\n[train]\nmask = "none"\nvalidation_steps = 1\nvalidation_prompts = ["a photo of a {}"]\n'
    recipe.write_text(recipe.read_text(encoding="utf-8") + quick, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def teddies(tiny_base: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Artifact]]:
    """A covariance file, and three versions of a teddy with random numbers in them."""
    import torch
    from safetensors.torch import save_file

    from perfusion_registry.build import load_covariance
    from tests.compose.samples import artifact

    path = tmp_path_factory.mktemp("covariance") / "C.safetensors"
    sample = torch.randn(200, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    save_file({"C": sample.T @ sample / 200}, path)
    digest = load_covariance(path).digest
    versions = ("1.0.0", "1.1.0", "2.0.0")
    return path, {
        version: artifact(
            tiny_base,
            "teddy",
            "teddy",
            seed,
            version=version,
            built=Built(covariance=digest, step=100),
            licence="CC0-1.0",
            base_licence="OpenRAIL",
        )
        for seed, version in enumerate(versions)
    }


@pytest.fixture
def studio(tmp_path: Path, tiny_base_folder: Path, teddies: tuple[Path, dict[str, Artifact]]) -> Studio:
    (tmp_path / "base").symlink_to(tiny_base_folder)
    shutil.copy(teddies[0], tmp_path / "C.safetensors")
    registry = open_registry(
        str(tmp_path / "registry"), name="studio", root=tmp_path, cache=tmp_path / "store of the author"
    )
    made = Studio(tmp_path, registry, teddies[1])
    made.publish("1.0.0", "1.1.0", "2.0.0")
    return made


@pytest.fixture
def house(tmp_path: Path, tiny_base_folder: Path, teddies: tuple[Path, Any]) -> Studio:
    """A place with a base and a covariance, whose registry nobody has published to."""
    (tmp_path / "base").symlink_to(tiny_base_folder)
    shutil.copy(teddies[0], tmp_path / "C.safetensors")
    registry = open_registry(str(tmp_path / "registry"), name="studio", root=tmp_path, cache=tmp_path / "k")
    return Studio(tmp_path, registry, {})


@pytest.fixture
def team(perf: Perf, project: Path) -> Path:
    """A teammate's project beside the author's, on the same base; both know the registry `gallery`."""
    with (project / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "gallery"\n')
    edit(project / "recipes" / "bear.toml", "[concept]\n", '[concept]\nlicence = "CC0"\nauthors = ["A"]\n')
    stand_in(project)
    text = (project / "perfusion.toml").read_text(encoding="utf-8")
    folder = project / "team"
    folder.mkdir()
    text = text.replace('{ recipe = "recipes/bear.toml" }', '{ version = ">=1" }').replace(
        '"gallery"', '"../gallery"'
    )
    (folder / "perfusion.toml").write_text(text.replace('"C.safe', '"../C.safe'), encoding="utf-8")
    return folder
