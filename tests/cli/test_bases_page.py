"""docs/bases.md: what a person types from one file to two concepts in a picture, then under control of
another picture and into a mask, on random files of SDXL's layout."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionXLInpaintPipeline, UNet2DConditionModel
from PIL import Image
from typer.testing import CliRunner

from perfusion_registry.base import layouts
from perfusion_registry.cli import app
from tests.controls import random_controlnet, save_controlnet, save_tensors
from tests.one_file import save_one_file, tiny_layout
from tests.render.test_inpainting_base import widened
from tests.sdxl import save_small_sdxl

PAGE = Path(__file__).parents[2] / "docs" / "bases.md"
FAST = (
    '\n[train]\nsteps = 2\nbatch = 2\nvalidate_every = 2\ntemplates = ["a photo of a {}"]\n'
    'validation_steps = 2\nvalidation_prompts = ["a photo of a {}", "a {} in the snow"]\n'
)


def section(title: str) -> str:
    text = PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2]
    return text.partition("\n## ")[0]


def typed(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^    (perf .*)$", text, re.MULTILINE)]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result.output


def test_the_page_from_one_file_to_two_concepts(
    shared: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared("small-sdxl", save_small_sdxl)
    layout = tiny_layout(base, layouts.LAYOUTS[-1])
    monkeypatch.setattr(layouts, "LAYOUTS", (layout,))
    monkeypatch.setenv("PERF_CACHE_DIR", str(tmp_path / "store"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    save_one_file(base, layout, here / "illustrious.safetensors")
    random = np.random.default_rng(0)
    for name in ("rabbit", "mug"):
        (here / "photos" / name).mkdir(parents=True)
        photo = Image.fromarray(random.integers(0, 255, (96, 128, 3), dtype=np.uint8))
        photo.save(here / "photos" / name / "1.png")
    words = ["teddy", "cat", "teapot", "boat", "snow", "table", "red", "glass"]
    (here / "captions.txt").write_text("\n".join(f"a photo of a {a} and a {b}" for a in words for b in words))

    said = section("From one file to two concepts in a picture")
    (toml,) = re.findall(r"```toml\n(.*?)```", said, re.DOTALL)
    commands = typed(said)
    assert [command[0] for command in commands] == [
        "init",
        "doctor",
        "covariance",
        "add",
        "add",
        "build",
        "render",
    ]
    for command in commands:
        if command[0] == "add":  # the random base has other words than SDXL
            known = command.index("--super") + 1
            command[known] = {"rabbit": "cat", "mug": "pot"}[command[known]]
        if command[0] == "build":
            for recipe in (here / "recipes").glob("*.toml"):  # what a page need not wait for
                text = recipe.read_text()
                recipe.write_text(text.replace("\n[train]\n", FAST) if "\n[train]\n" in text else text + FAST)
        command = ["2" if word == "28" else word for word in command]
        if command[0] == "doctor":
            told = CliRunner().invoke(app, command).output
            assert "epsilon is assumed" in told
            assert "comes without a covariance" in told
            continue
        output = run(*command)
        if command[0] == "init":
            assert 'base = "./illustrious.safetensors"' in (here / "perfusion.toml").read_text()
        if command[0] == "covariance":
            assert "80 x 80" in output
            manifest = here / "perfusion.toml"
            line = toml.partition("[project]\n")[2]
            manifest.write_text(manifest.read_text().replace("[project]\n", f"[project]\n{line}"))
    pictures = sorted(here.glob("renders/**/*.png"))
    assert len(pictures) == 4
    assert np.asarray(Image.open(pictures[0])).std() > 1
    lock = (here / "perfusion.lock").read_text()
    assert 'architecture = "sdxl"' in lock
    assert 'path = "illustrious.safetensors"' in lock
    shown = run("explain", "a bunny* in a cup*")
    assert "bunny" in shown
    controls_and_masks(base, layout, here)


def controls_and_masks(base: Path, layout: layouts.Layout, here: Path) -> None:
    """The sections that follow, in the same project: controls, and a base for inpainting."""
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    save_tensors(random_controlnet(unet).state_dict(), here / "control-canny.safetensors")
    save_controlnet(unet, here / "depth", 1)
    wide = widened(base, here.parent / "wide", StableDiffusionXLInpaintPipeline)
    save_one_file(wide, layout, here / "inpainting.safetensors")
    random = np.random.default_rng(1)
    for name in ("edges", "far", "photo"):
        picture = random.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(picture).save(here / f"{name}.png")
    Image.fromarray(np.pad(np.full((32, 48), 255, np.uint8), ((16, 16), (24, 24)))).save(here / "mask.png")
    said = section("Controls")
    (toml,) = re.findall(r"```toml\n(.*?)```", said, re.DOTALL)
    manifest = here / "perfusion.toml"
    manifest.write_text(f"{manifest.read_text()}\n{toml}")
    run("lock")
    assert "`canny`, a ControlNet, control-canny.safetensors" in run("doctor")
    drawn = []
    for number, command in enumerate(typed(said) + typed(section("Bases for inpainting"))):
        assert command[:2] == ["render", "a bunny* in a cup*"]
        path = here / f"controlled-{number}.png"
        told = run(*command, "--steps", "2", "--out", str(path))
        assert "drawn at 80x56, in the proportions of" in " ".join(told.split())
        drawn.append(np.asarray(Image.open(path)))
    assert len(drawn) == 4
    assert all(not np.array_equal(a, b) for a, b in combinations(drawn, 2))
