"""A project on the tiny base, made by operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from perfusion_registry.cache_folder import CACHE_VARIABLE, DATA_VARIABLE
from perfusion_registry.operations.add import AddOptions, add
from perfusion_registry.operations.init import init
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.trust import SIGNING_KEY_VARIABLE

QUICK = (
    '\n[train]\nsteps = 1\nmask = "none"\nvalidation_steps = 1\nvalidation_prompts = ["a photo of a {}"]\n'
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a store and keys of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "store"))
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.delenv(SIGNING_KEY_VARIABLE, raising=False)
    return tmp_path


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """What `place` is for a test, for what several tests take copies of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv(CACHE_VARIABLE, str(folder / "store"))
        patch.setenv(DATA_VARIABLE, str(folder / "data"))
        patch.delenv(SIGNING_KEY_VARIABLE, raising=False)
        yield


@pytest.fixture
def project(place: Path, tiny_base_folder: Path) -> Path:
    """A project with a covariance of its own and one concept, not built."""
    return project_on(place, tiny_base_folder)


def project_on(place: Path, base: Path, width: int = 32) -> Path:
    """Such a project on a base whose text is `width` wide."""
    import torch
    from safetensors.torch import save_file

    sample = torch.randn(200, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    save_file({"C": sample.T @ sample / 200}, place / "C.safetensors")
    (place / "photos").mkdir()
    noise = torch.Generator().manual_seed(1)
    for number in (1, 2, 3):
        pixels = torch.randint(256, (64, 64, 3), dtype=torch.uint8, generator=noise)
        Image.fromarray(pixels.numpy()).save(place / "photos" / f"{number}.png")
    init(place, base=str(base))
    edit(place / "perfusion.toml", "\n# Each", 'covariance = "C.safetensors"\n\n# Each')
    with Workspace.open(place) as workspace:
        add(workspace, AddOptions(name="bear", supercategory="teddy", images=("photos/*",)))
    recipe = place / "recipes" / "bear.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8") + QUICK, encoding="utf-8")
    return place


def edit(path: Path, old: str, new: str) -> None:
    """Replace the one place in a file that says `old`."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
