"""`perf render --control`, run as a person runs it: recorded, drawn again to the pixel, refused in sentences
before the base is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import perfusion_registry as perf
from perfusion_registry.cli import app
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compose import PromptOptions
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.job import CompositionSource, PictureSource, RenderOverrides, load_job
from perfusion_registry.operations.prompt_list import PromptLine, PromptList, load_list
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.render.metadata import read_metadata
from perfusion_registry.reporter import Silent
from tests.controls import save_controlnet

PROMPT = "A teddy* sailing in a teapot*"


@pytest.fixture(scope="module")
def nets(loaded_tiny_base: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("controls")
    for seed, name in enumerate(("canny", "depth")):
        save_controlnet(loaded_tiny_base.pipe.unet, folder / name, seed)
    return folder


@pytest.fixture
def place(project: Any, nets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, its `[base.controls]`, and pictures of 96 x 64."""
    root: Path = project.root
    manifest = root / "perfusion.toml"
    said = f'\n[base.controls]\ncanny = "{nets}/canny"\ndepth = "{nets}/depth"\n'
    manifest.write_text(manifest.read_text() + said)
    rng = np.random.default_rng(0)
    for name in ("photo", "edges", "other"):
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8)).save(root / f"{name}.png")
    Image.new("RGB", (64, 96), "red").save(root / "tall.png")
    Image.new("L", (96, 64), "white").save(root / "mask.png")
    monkeypatch.chdir(root)
    return root


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["render", *(str(one) for one in arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_picture_is_controlled_recorded_and_drawn_again_to_the_pixel(place: Path) -> None:
    more = ("--control", "canny=edges.png", "--control", "depth=other.png", "--seed", 3, "--steps", 3)
    strengths = ("--control-strength", 0.5, "--control-strength", "depth=.25")
    drawn = run(PROMPT, *more, *strengths, "--count", 2)
    first = drawn.stdout.split()
    assert "drawn at 80x56, in the proportions of edges.png" in " ".join(drawn.stderr.split())
    (plain,) = run(PROMPT, "--seed", 3, "--steps", 3, "--size", "80x56", "--out", "plain.png").stdout.split()
    assert not np.array_equal(pixels(first[0]), pixels(plain))
    request = read_metadata(place / first[1]).request
    assert [(one.name, one.strength) for one in request.controls] == [("canny", 0.5), ("depth", 0.25)]
    assert (request.width, request.height) == (80, 56)
    given = ("--control", "depth=other.png", "--control", "canny=edges.png")  # in any order
    refused = run("--from", first[1], "--control", "canny=edges.png", code=2)
    assert "--control depth=FILE" in refused.output
    (again,) = run("--from", first[1], *given, "--out", "again.png").stdout.split()
    assert np.array_equal(pixels(again), pixels(first[1]))
    assert read_metadata(place / again).same_picture(read_metadata(place / first[1]))
    swapped = ("--control", "canny=other.png", "--control", "depth=edges.png")
    other = run("--from", first[1], *swapped, "--out", "swapped.png")
    assert "it is another picture" in other.output
    assert not np.array_equal(pixels("swapped.png"), pixels(first[1]))
    # What was drawn before the base had controls is drawn again all the same.
    (place / "perfusion.toml").write_text((place / "perfusion.toml").read_text().partition("\n[base.c")[0])
    old = run(PROMPT, "--seed", 4, "--steps", 2, "--out", "old.png").stdout.strip()
    manifest = (place / "perfusion.toml").read_text()
    (place / "perfusion.toml").write_text(manifest + f'\n[base.controls]\ncanny = "{place}/net"\n')
    (place / "net").symlink_to(place / "nowhere")
    run("--from", old, "--out", "new.png")
    assert np.array_equal(pixels("new.png"), pixels(old))


def test_what_was_drawn_before_the_base_had_controls_is_drawn_with_one(place: Path) -> None:
    controlled = (place / "perfusion.toml").read_text()
    (place / "perfusion.toml").write_text(controlled.partition("\n[base.c")[0])
    old = run(PROMPT, "--seed", 4, "--steps", 2, "--size", "80x56", "--out", "old.png").stdout.strip()
    assert CliRunner().invoke(app, ["compose", PROMPT, "--out", "old.json"]).exit_code == 0
    (place / "perfusion.toml").write_text(controlled)
    edges = ("--control", "canny=edges.png")
    again = run("--from", old, *edges, "--out", "new.png")
    assert "it is another picture" in " ".join(again.output.split())
    assert not np.array_equal(pixels("new.png"), pixels(old))
    composed = run("--composition", "old.json", *edges, "--seed", 4, "--steps", 2, "--out", "composed.png")
    assert "made for" not in composed.output
    assert np.array_equal(pixels("composed.png"), pixels("new.png"))
    # The new picture names the base as it was drawn with, so that it is drawn again like any other.
    run("--from", "new.png", *edges, "--out", "newer.png")
    assert np.array_equal(pixels("newer.png"), pixels("new.png"))


def test_from_a_program(place: Path) -> None:
    (path,) = run(
        PROMPT, "--control", "canny=edges.png", "--control-strength", 0.5, "--steps", 2
    ).stdout.split()
    project = perf.open(place)
    composer = project.composer()
    (picture,) = composer.render(PROMPT, steps=2, control={"canny": "edges.png"}, control_strength=0.5)
    assert np.array_equal(np.asarray(picture.image), pixels(path))
    (picture,) = composer.render(
        PROMPT, steps=2, control={"canny": "edges.png"}, control_strength={"canny": 0.5}
    )
    assert picture.record.same_picture(read_metadata(place / path))
    again = perf.redraw(path, control={"canny": "edges.png"})
    assert np.array_equal(np.asarray(again.image), pixels(path))
    with pytest.raises(PerfError, match="no control called `cany`") as caught:
        composer.render(PROMPT, control={"cany": "edges.png"})
    assert caught.value.hint == "did you mean `canny`?"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--control", "canny"], "does not say which control"),
        (["--control", "canny=edges.png", "--control", "canny=other.png"], "given two pictures"),
        (["--control", "canny=edges.png", "--control-strength", "much"], "is no number"),
        (["--control", "canny=edges.png", "--control-strength", "depth=1"], "goes with its picture"),
        (["--control-strength", "1"], "goes with its picture"),
        (["--control", "canny=edges.png", "--control-strength", "9"], "at most 4"),
        (["--control", "canny=none.png"], "none.png"),
        (["--control", "pose=edges.png"], "no control called `pose`"),
        (
            ["--image", "photo.png", "--control", "canny=tall.png"],
            "photo.png is 96 x 64, and tall.png is 64 x 96",
        ),
        (["--controlnet", "edges.png"], "--control NAME=FILE"),
        (["--controlnet_conditioning_scale", ".5"], "--control-strength S"),
    ],
)
def test_mistakes_are_told_in_a_sentence(place: Path, arguments: list[str], told: str) -> None:
    output = " ".join(run(PROMPT, *arguments, code=2).output.split())
    assert told in output
    assert "Loading" not in output


class Stages(Silent):
    """Remembers what was begun, and what was noted."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.noted: list[str] = []

    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Any:
        self.begun.append(title)
        return super().stage(title, total)

    def note(self, text: str) -> None:
        self.noted.append(text)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"controls": {"pose": "edges.png"}}, "no control called `pose`"),
    ({"image": "photo.png", "strength": 0.3, "steps": 3}, "leaves none of 3 steps"),
    ({"image": "photo.png", "strength": 0.4}, "leaves none of 2 steps"),  # as many as the base's card says
]


def test_what_can_be_told_is_told_before_the_base_is_loaded(place: Path) -> None:
    compute = ComputeOptions("cpu", "float32")
    (path,) = run("a cat", "--steps", 2, "--out", "cat.png").stdout.split()
    stages = Stages()
    sources = (
        PromptOptions(prompt="a cat", compute=compute),
        CompositionSource(composition=read_metadata(place / path).composition, compute=compute),
        PictureSource(picture=Path(path)),
    )
    lines = (PromptLine("p.txt:1", "a cat"), PromptLine("p.txt:2", "a hat"))
    listed = PromptList(lines=lines, name="p.txt", compute=compute)
    with Workspace.open(place, reporter=stages) as workspace:
        for said, told in WRONG:
            files = {key: Path(value) if key == "image" else value for key, value in said.items()}
            files |= {"controls": {name: Path(file) for name, file in said.get("controls", {}).items()}}
            for source in sources:
                with pytest.raises(PerfError, match=told):
                    load_job(workspace, source, RenderOverrides(**files))
            with pytest.raises(PerfError, match=told):
                load_list(workspace, listed, RenderOverrides(**files))
    assert not [title for title in stages.begun if title.startswith("Loading")]


def test_the_size_that_a_picture_decides_is_said_once(place: Path) -> None:
    stages, compute = Stages(), ComputeOptions("cpu", "float32")
    lines = tuple(PromptLine(f"p.txt:{at}", "a cat") for at in range(3))
    listed = PromptList(lines=lines, name="p.txt", compute=compute)
    with Workspace.open(place, reporter=stages) as workspace:
        load_list(workspace, listed, RenderOverrides(image=Path("photo.png")))
        source = PromptOptions(prompt="a cat", compute=compute)
        load_job(workspace, source, RenderOverrides(image=Path("photo.png"), width=64, height=64))
    assert stages.noted == ["drawn at 80x56, in the proportions of photo.png"]
