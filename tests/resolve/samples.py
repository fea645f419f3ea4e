"""Small projects on disk, and what they need to know of a base."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from perfusion_registry.artifact import Store
from perfusion_registry.recipe import BaseSection
from perfusion_registry.recipe.lockfile import Part
from perfusion_registry.resolve import Plan, ProjectFolder, find_covariance, plan


@dataclass(frozen=True)
class File:
    path: str
    sha256: str
    size: int
    part: Part | None = None


@dataclass(frozen=True)
class Card:
    train: Mapping[str, Any] = field(default_factory=dict)
    render: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """A base's description."""

    repo: str = "storybook"
    revision: str | None = None
    files: tuple[File, ...] = (File("unet/config.json", "1" * 64, 10),)
    digest: str = "b" * 64
    prediction_asked: str | None = None
    options_asked: BaseSection | None = None
    family: str = "f" * 64
    architecture: str = "stable-diffusion"
    licence: str | None = None
    card: Card = Card()

    def training_digest(self, prompts: Iterable[str]) -> str:
        return self.digest


def write_images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (8, 8), (number * 20, sum(map(ord, name)) % 256, 7)).save(folder / name)


def write_recipe(root: Path, name: str, *, extra: str = "", images: str = "", tables: str = "") -> Path:
    path = root / "recipes" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'[concept]\nname = "{name}"\nversion = "1.0.0"\nsupercategory = "teddy"\n'
        f'images = ["{images or name + "/*.png"}"]\n{extra}\n{tables}'
    )
    return path


def write_covariance(path: Path, width: int = 2) -> None:
    count = width * width
    header: dict[str, Any] = {
        "__metadata__": {"covariance": json.dumps({"corpus": "e" * 64, "encoder": "9" * 64})},
        "C": {"dtype": "F64", "shape": [width, width], "data_offsets": [0, 8 * count]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + struct.pack(f"<{count}d", *range(count)))


def write_project(root: Path, *names: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    entries = "".join(f'{name} = {{ recipe = "recipes/{name}.toml" }}\n' for name in names)
    text = f'[project]\nname = "x"\ncovariance = "C.safetensors"\n[concepts]\n{entries}'
    (root / "perfusion.toml").write_text(text)
    write_covariance(root / "C.safetensors")
    for name in names:
        write_recipe(root, name)
        write_images(root / "recipes" / name, "1.png", "2.png")
    return root


def planned(
    root: Path, store: Store, facts: Facts | None = None, **options: Any
) -> tuple[ProjectFolder, Plan]:
    project = ProjectFolder.read(root)
    made = plan(project, store, facts or Facts(), find_covariance(project, None), **{"epoch": 1, **options})
    return project, made
