"""A smoke suite on the tiny base: two concepts, every kind of variant, one training step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from perfusion_registry.evaluate.preparing import Workplace
from perfusion_registry.evaluate.suite import Suite, read_suite

TRAIN = 'train = { steps = 1, validate_every = 1, validation_steps = 1, mask = "none" }'

SMOKE = """\
name = "smoke"
title = "A smoke test"
base = "BASE"
covariance = "C.safetensors"
[render]
seeds = 2
steps = 1
batch = 2
[bootstrap]
resamples = 200
[[concepts]]
name = "bear"
group = "toys"
recipe = "bear.toml"
[[concepts]]
name = "jug"
group = "containers"
recipe = "jug.toml"
[[prompts]]
name = "scenes"
shape_preserving = true
templates = ["a photo of a {}", "a {} in the snow", "a {} by the fire"]
[[prompts]]
name = "toys"
for_groups = ["toys"]
templates = ["a gold {}"]
[[prompts]]
name = "two"
pairs = [["bear", "jug"]]
templates = ["a {0} in a {1}"]
[[figures]]
id = "6"
title = "Plane"
prompts = ["scenes", "toys"]
metrics = ["image", "text", "text_normalised", "harmonic", "scene", "leakage"]
best = true
[[figures.variants]]
name = "local"
key_lock = "local"
bias = [0.5, 0.7]
TRAIN
[[figures.claims]]
text = "Lower is nearer."
metric = "image"
better = "local@0.5"
than = "local@0.7"
[[figures]]
id = "A.1"
title = "Mismatch"
kind = "bars"
prompts = ["scenes"]
concepts = ["bear"]
[[figures.variants]]
name = "one token"
training = "one-index"
method = "index"
TRAIN
[[figures.variants]]
name = "Eq. 1"
training = "one-index"
method = "rome"
TRAIN
[[figures]]
id = "5"
title = "Two"
kind = "strip"
prompts = ["two"]
metrics = ["both", "text"]
[[figures.variants]]
name = "Eq. 4"
TRAIN
[[figures.variants]]
name = "words"
method = "supercategory"
[[figures]]
id = "12"
title = "Transfer"
prompts = ["two"]
[[figures.variants]]
name = "other"
base = "ink"
TRAIN
"""

RECIPE = """\
[concept]
name = "{name}"
version = "1.0.0"
supercategory = "{word}"
images = ["{name}/*.png"]
"""


@dataclass(frozen=True)
class Smoke:
    """The suite's file, read, and a store and a folder for its results."""

    path: Path
    suite: Suite
    root: Path

    def place(self, out: str = "out", jobs: int = 1) -> Workplace:
        return Workplace(self.root / "store", self.root / out, device="cpu", dtype="float32", jobs=jobs)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Smoke:
    root = tmp_path_factory.mktemp("smoke")
    sample = torch.randn(200, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    save_file({"C": sample.T @ sample / 200}, root / "C.safetensors")
    for seed, (name, word) in enumerate((("bear", "teddy"), ("jug", "teapot"))):
        (root / f"{name}.toml").write_text(RECIPE.format(name=name, word=word))
        (root / name).mkdir()
        for number in range(2):
            noise = torch.Generator().manual_seed(10 * seed + number)
            pixels = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8, generator=noise)
            Image.fromarray(pixels.numpy()).save(root / name / f"{number}.png")
    path = root / "smoke.toml"
    text = SMOKE.replace("BASE", str(tiny_base_folder)).replace("TRAIN", TRAIN)
    text = text.replace("[render]", '[bases]\nink = ""\n[render]')
    path.write_text(text)
    return Smoke(path, read_suite(path), root)
