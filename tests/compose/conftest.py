import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from perfusion_registry.artifact import Store, save_artifact
from perfusion_registry.recipe import LockedConcept, Lockfile, write_lockfile
from perfusion_registry.resolve import ProjectFolder
from tests.compose.samples import artifact, concepts_of


@pytest.fixture(scope="session")
def concepts(loaded_tiny_base):
    """teddy*, teapot*, cat* (with trained keys) and hugsy*, a teddy with a residual, by name."""
    return concepts_of(
        artifact(loaded_tiny_base, "teddy", "teddy", 1),
        artifact(loaded_tiny_base, "teapot", "teapot", 2),
        artifact(loaded_tiny_base, "cat", "cat", 3, trained_keys=True),
        artifact(loaded_tiny_base, "hugsy", "teddy", 4, rank=0.1),
    )


@dataclass(frozen=True)
class ProjectOnDisk:
    """A project folder, whose teddy* and teapot* are built, and whose cat* is not."""

    root: Path
    store: Store

    def read(self):
        return ProjectFolder.read(self.root)


@pytest.fixture
def project(tmp_path, monkeypatch, tiny_base_folder, concepts):
    """A project on the tiny base with a cache of its own."""
    monkeypatch.setenv("PERF_CACHE_DIR", str(tmp_path / "cache"))
    root = tmp_path / "project"
    return write_project(root, Store(tmp_path / "cache"), tiny_base_folder, concepts)


def write_project(root, store, base_folder, concepts):
    (root / "recipes").mkdir(parents=True)
    manifest = f'[project]\nname = "p"\nbase = "{base_folder}"\n\n[concepts]\n'
    locked = []
    for name in ("teddy", "teapot", "cat"):
        manifest += f'{name} = {{ recipe = "recipes/{name}.toml" }}\n'
        recipe = (
            f'[concept]\nname = "{name}"\nversion = "1.0.0"\nsupercategory = "{name}"\nimages = ["*.png"]\n'
        )
        (root / "recipes" / f"{name}.toml").write_text(recipe)
        if name == "cat":
            continue
        sha256 = store.put(save_artifact(concepts[name].artifact))
        digest = hashlib.sha256(name.encode()).hexdigest()
        locked.append(
            LockedConcept(
                name=name,
                version="1.0.0",
                source=f"recipes/{name}.toml",
                recipe_digest=digest,
                images=digest,
                options=digest,
                sha256=sha256,
                size=1,
                render={"bias": 0.6, "temperature": 0.2, "key_lock": "local"},
            )
        )
    manifest += (
        '\n[scenes.sailing]\nprompt = "A teddy* sailing in a teapot*"\ngates = { teddy = { bias = 0.4 } }\n'
    )
    (root / "perfusion.toml").write_text(manifest)
    write_lockfile(root / "perfusion.lock", Lockfile(concepts=tuple(locked)))
    return ProjectOnDisk(root, store)
