"""A studio: a base, a registry, and people who share concepts, each with a project and a store."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from perfusion_registry.artifact import Artifact, save_artifact
from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.methods.files import scene_settings
from perfusion_registry.operations.publication import concept_release
from perfusion_registry.recipe import dump_pack, read_lockfile
from perfusion_registry.recipe.pack import Pack
from perfusion_registry.recipe.scene import with_scenes
from perfusion_registry.registries.registry import Registry
from tests import forked
from tests.cli.running import Said, perf_process
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


RECIPE = """\
[concept]
name = "{name}"
version = "1.0.0"
supercategory = "teddy"
images = ["{name}/*.png"]
licence = "CC0-1.0"
authors = ["A. N. Author"]

[train]
steps = 1
validate_every = 1
mask = "none"
validation_steps = 1
validation_prompts = ["a photo of a {{}}"]
"""


@dataclass(frozen=True)
class Studio:
    """A folder with a base, a registry of teddies, and a folder for every person."""

    root: Path
    registry: Registry
    teddies: dict[str, Artifact]

    def person(self, name: str, manifest: str | None = MANIFEST, *, executed: bool = False) -> Person:
        (self.root / name).mkdir()
        if manifest is not None:
            (self.root / name / "perfusion.toml").write_text(manifest)
        return Person(self.root / name, self.root / f"store of {name}", executed)

    def publish(self, *versions: str) -> None:
        for version in versions:
            blob = save_artifact(self.teddies[version])
            self.registry.publish(concept_release(self.teddies[version].card, blob), blob)

    def publish_pack(self, name: str, requires: dict[str, str], scenes: dict[str, Any]) -> None:
        blob = dump_pack(
            with_scenes(Pack, scene_settings(())).model_validate(
                {"pack": {"name": name, "version": "1.0.0", "requires": requires}, "scenes": scenes}
            )
        )
        made = release(name, "1.0.0", requires, sha256=hashlib.sha256(blob).hexdigest(), size=len(blob))
        self.registry.publish(made, blob)


@dataclass(frozen=True)
class Person:
    """A machine: its project and its store.

    executed: whether each of its commands is a fresh interpreter, instead of a fork (see tests/forked.py).
    """

    folder: Path
    store: Path
    executed: bool = False

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, CACHE_VARIABLE: str(self.store), "NO_COLOR": "1", "COLUMNS": "200"}

    def perf(self, *arguments: str, code: int = 0, **environment: str) -> Said:
        start = subprocess.run if self.executed else forked.run
        run = start(
            perf_process(*arguments),
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
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


def give_recipe(person: Person, name: str) -> Path:
    """A recipe of one step, with two pictures, that the manifest names."""
    pictures = person.folder / "recipes" / name
    pictures.mkdir(parents=True)
    for number in range(2):
        Image.effect_noise((64, 64), 60 + 30 * number).convert("RGB").save(pictures / f"{number}.png")
    recipe = pictures.with_suffix(".toml")
    recipe.write_text(RECIPE.format(name=name))
    entry = f'[concepts]\n{name} = {{ recipe = "recipes/{name}.toml" }}'
    person.manifest.write_text(person.manifest.read_text().replace("[concepts]", entry))
    return recipe
