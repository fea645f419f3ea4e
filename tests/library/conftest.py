"""A tea party: a project on the tiny base with concepts of random numbers, from a registry in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perfusion_registry as perf
from perfusion_registry.artifact import save_artifact
from perfusion_registry.build import load_covariance
from perfusion_registry.cache_folder import CACHE_VARIABLE, DATA_VARIABLE
from perfusion_registry.methods.perfusion.options import Built
from perfusion_registry.operations.publication import concept_release
from perfusion_registry.registries.opening import open_registry
from perfusion_registry.trust import SIGNING_KEY_VARIABLE
from tests.compose.samples import artifact

MANIFEST = """\
[project]
name = "tea-party"
base = "../base"
covariance = "../C.safetensors"

[concepts]
teddy = { version = ">=1", registry = "gallery" }
teapot = { version = ">=1", registry = "gallery" }

[registries]
gallery = "../gallery"

[scenes.sailing]
prompt = "a teddy* sailing"
gates = { teddy = { bias = 0.6, temperature = 0.2 } }
"""


@pytest.fixture(scope="session")
def party(shared: Callable[..., Path], loaded_tiny_base: Any, tiny_base_folder: Path) -> Path:
    """A folder with a base, a covariance, a registry of a teddy and a teapot, and a project, not locked."""

    def make(folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        sample = torch.randn(200, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        save_file({"C": sample.T @ sample / 200}, folder / "C.safetensors")
        digest = load_covariance(folder / "C.safetensors").digest
        (folder / "base").symlink_to(tiny_base_folder)
        registry = open_registry("gallery", name="gallery", root=folder, cache=folder / "publisher's store")
        for seed, name in enumerate(("teddy", "teapot")):
            rank = 0.1 * seed  # the teapot has a residual
            made = artifact(
                loaded_tiny_base,
                name,
                name,
                seed,
                built=Built(covariance=digest, step=100),
                rank=rank,
                licence="CC0-1.0",
                authors=("A",),
            )
            blob = save_artifact(made)
            (folder / f"{name}.safetensors").write_bytes(blob)
            registry.publish(concept_release(made.card, blob), blob)
        (folder / "tea-party").mkdir()
        (folder / "tea-party" / "perfusion.toml").write_text(MANIFEST, encoding="utf-8")

    return shared("tea party", make)


@pytest.fixture
def place(party: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, a copy of it all, with a store and keys of its own."""
    folder = tmp_path / "place"
    shutil.copytree(party, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "store"))
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    for name in ("PERF_PROJECT", "PERF_LOCKED", SIGNING_KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def project(place: Path) -> perf.Project:
    """The tea party, synced."""
    opened = perf.open("tea-party")
    opened.sync()
    return opened
