"""A studio: a base, a registry, and people who share concepts, each with a project and a store."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perfusion_registry.artifact import CACHE_VARIABLE, Artifact, save_artifact
from perfusion_registry.cli.publishing import concept_release
from perfusion_registry.recipe import Pack, dump_pack, read_lockfile
from perfusion_registry.registries.opening import open_registry
from perfusion_registry.registries.registry import Registry
from tests.cli.conftest import Said, perf_process
from tests.resolve.registry import release

MANIFEST = """\
[project]
name = "x"
base = "../base"
covariance = "../C.safetensors"

[concepts]

[registries]
studio = "../registry"

[scenes.sailing]
prompt = "a teddy* sailing"
"""


@dataclass(frozen=True)
class Studio:
    """A folder with a base, a registry of teddies, and a folder for every person."""

    root: Path
    registry: Registry
    teddies: dict[str, Artifact]

    def person(self, name: str, manifest: str | None = MANIFEST) -> Person:
        (self.root / name).mkdir()
        if manifest is not None:
            (self.root / name / "perfusion.toml").write_text(manifest)
        return Person(self.root / name, self.root / f"store of {name}")

    def publish(self, *versions: str) -> None:
        for version in versions:
            blob = save_artifact(self.teddies[version])
            self.registry.publish(concept_release(self.teddies[version].card, blob), blob)

    def publish_pack(self, name: str, requires: dict[str, str], scenes: dict[str, Any]) -> None:
        blob = dump_pack(
            Pack.model_validate(
                {"pack": {"name": name, "version": "1.0.0", "requires": requires}, "scenes": scenes}
            )
        )
        made = release(name, "1.0.0", requires, sha256=hashlib.sha256(blob).hexdigest(), size=len(blob))
        self.registry.publish(made, blob)


@dataclass(frozen=True)
class Person:
    """A machine: its project and its store."""

    folder: Path
    store: Path

    def perf(self, *arguments: str, code: int = 0, **environment: str) -> Said:
        run = subprocess.run(
            perf_process(*arguments),
            cwd=self.folder,
            env={**os.environ, CACHE_VARIABLE: str(self.store), "NO_COLOR": "1", "COLUMNS": "200"}
            | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        said = Said(run.returncode, run.stdout, run.stderr)
        assert said.code == code, said
        assert "Traceback" not in said.err
        return said

    @property
    def manifest(self) -> Path:
        return self.folder / "perfusion.toml"

    @property
    def lockfile(self) -> Path:
        return self.folder / "perfusion.lock"

    def versions(self) -> dict[str, str]:
        return {block.name: block.version for block in read_lockfile(self.lockfile).concepts}

    def blobs(self) -> set[str]:
        return {path.stem for path in (self.store / "artifacts").glob("*/*")}


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
            covariance=digest,
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
