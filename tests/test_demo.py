"""The README's story on the embedded base, through the command line: build the examples, draw them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from perfusion_registry import __version__
from perfusion_registry.base import Base
from perfusion_registry.evaluate.metrics import world
from perfusion_registry.worlds import Subject
from tests import forked
from tests.cli.running import perf_process

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
PROMPT = "A teddy* sailing in a teapot*"


def perf(place: Path, *arguments: str) -> str:
    environment = os.environ | {"PERF_CACHE_DIR": str(place / "store"), "NO_COLOR": "1"}
    done = forked.run(perf_process(*arguments), cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pictures(paths: list[Path]) -> Tensor:
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def unasked() -> Base:
    raise AssertionError("colours are told without the base")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's own project, built with a part of the training, and of the teapot's next to none."""
    place = tmp_path_factory.mktemp("tea-party")
    shutil.copy(ROOT / "perfusion.toml", place)
    shutil.copytree(ROOT / "recipes", place / "recipes")
    for name, steps, batch in (("teddy", 40, 5), ("teapot", 2, 2)):
        recipe = place / "recipes" / f"{name}.toml"
        quick = f"\n[train]\nsteps = {steps}\nbatch = {batch}\nvalidate_every = {steps}\n"
        quick += 'validation_steps = 2\nvalidation_prompts = ["a photo of a {}", "a {} in the snow"]\n'
        recipe.write_text(recipe.read_text() + quick)
    said = json.loads(perf(place, "build", "--json"))
    assert {row["name"] for row in said["built"]} == {"teddy", "teapot"}
    return place


def test_a_second_build_does_nothing(built: Path) -> None:
    assert perf(built, "build").startswith("Nothing to build: 2 concepts are up to date")
    script = Path(sys.executable).with_name("perf")  # as people start it
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"perf {__version__}\n"


def test_a_concept_is_drawn_in_its_own_colours(built: Path) -> None:
    """A few steps are enough for the green teddy to be green where a plain teddy is not."""
    judge, told = world().judge("storybook"), "a photo of a teddy in the snow"

    def greens(prompt: str) -> float:
        out = perf(built, "render", prompt, "--count", "4", "--batch", "4", "--steps", "8", "--json")
        drawn = pictures([built / row["path"] for row in json.loads(out)["pictures"]])
        teddy = [Subject("teddy", "teddy")]
        rows = judge.scores(told, teddy, drawn, ("look",), base=unasked, recall=lambda _, make: make())
        return sum(row["look"] for row in rows) / len(rows)

    assert greens("a photo of a teddy* in the snow") >= greens("a photo of a teddy in the snow") + 0.4


def test_both_concepts_are_drawn_and_the_picture_repeats_itself(built: Path) -> None:
    perf(built, "render", PROMPT, "--steps", "4", "--out", "a.png", "--sheet", "sheet.png")
    perf(built, "render", "--from", "a.png", "--out", "b.png")
    assert torch.equal(pictures([built / "a.png"]), pictures([built / "b.png"]))
    assert Image.open(built / "sheet.png").size[0] > 500


def test_explain_opens_each_gate_at_its_own_word(built: Path) -> None:
    said = json.loads(perf(built, "explain", PROMPT, "--json"))
    rows = {row["concept"]: row["gate"] for row in said["tokens"] if row["concept"]}
    assert rows["teddy"]["teddy"] > rows["teddy"]["teapot"]
    assert rows["teapot"]["teapot"] > rows["teapot"]["teddy"]
