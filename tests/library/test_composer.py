"""Drawing in a program: the command's own pictures, from several threads too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import perfusion_registry as perf
from perfusion_registry.base import Base
from perfusion_registry.render.metadata import read_metadata

PROMPT = "a teddy* sailing in a teapot*"


@pytest.fixture
def composer(project: perf.Project, tiny_base: Base) -> perf.Composer:
    """As from `project.composer()`, but that all tests share the base in memory."""
    return perf.Composer(project.workspace, tiny_base)


def test_pictures_are_those_of_the_command(
    project: perf.Project, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfusion_registry.cli import app

    composer = project.composer(device="cpu")
    pictures = list(composer.render(PROMPT, seeds=range(3, 6), batch=2))
    monkeypatch.chdir(project.root)
    command = ["render", PROMPT, "--seed", "3", "--count", "3", "--batch", "2", "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--out", str(place / "out")])
    assert result.exit_code == 0, result.output
    for picture in pictures:
        drawn = place / "out" / f"a-teddy-sailing-in-a-teapot-{picture.seed}.png"
        picture.save(place / f"{picture.seed}.png")
        assert (place / f"{picture.seed}.png").read_bytes() == drawn.read_bytes()
        assert read_metadata(drawn) == picture.record
        assert picture.prompt == PROMPT
    assert [picture.seed for picture in pictures] == [3, 4, 5]


def test_what_is_said_of_a_picture_counts(composer: perf.Composer) -> None:
    (plain,) = composer.render(PROMPT)
    request = plain.record.request
    assert (request.steps, request.guidance, request.width) == (2, 2.0, 64)  # the base's card
    said = {"steps": 3, "guidance": 4.0, "scheduler": "euler", "negative_prompt": "fog", "height": 32}
    (other,) = composer.render(PROMPT, seeds=[7], **said)
    assert other.image.size == (64, 32)
    assert {key: getattr(other.record.request, key) for key in said} == said

    gates = {"teddy": perf.Gate(bias=0.5), "teapot*": perf.Gate(residual=0.0)}
    composition = composer.compose(PROMPT, gates=gates)
    assert composition.concept("teddy").render.bias == 0.5
    assert composition.concept("teapot").render.residual == 0.0
    (drawn,) = composer.render(composition)
    (same,) = composer.render(PROMPT, gates=gates)
    assert drawn.png() == same.png()
    assert drawn.png() != plain.png()
    every = composer.compose(scene="sailing", gates=perf.Gate(temperature=0.3))
    assert (every.concept("teddy").render.bias, every.concept("teddy").render.temperature) == (0.6, 0.3)
    rows = composer.explain(PROMPT).tokens
    assert {row.concept for row in rows} == {"teddy", "teapot", None}


def test_mistakes_are_told_before_anything_is_drawn(composer: perf.Composer, place: Path) -> None:
    for what, mistake in {
        "there is no concept 'teddi' here": lambda: composer.render("a teddi* sailing"),
        "there is no prompt": lambda: composer.render(),
        "no scene": lambda: composer.render(scene="snow"),
        "the picture's steps": lambda: composer.render(PROMPT, steps=0),
        "bias is set for 'cat'": lambda: composer.render(PROMPT, gates={"cat": perf.Gate(bias=0.5)}),
        "a bias should be less than or equal to 2": lambda: composer.render(PROMPT, gates=perf.Gate(bias=7)),
        "a composition names its own concepts": lambda: composer.render(
            composer.compose(PROMPT), files=[place / "teddy.safetensors"]
        ),
    }.items():
        with pytest.raises(perf.PerfError, match=what):
            mistake()
    (picture,) = composer.render(PROMPT)
    with pytest.raises(perf.PerfError, match="written as PNG, JPEG or WebP"):
        picture.save(place / "picture.gif")
    for name in ("picture.jpg", "picture.webp"):
        picture.save(place / name, quality=100)
        assert perf.read_record(place / name) == picture.record


def test_several_prompts_are_drawn_one_after_the_other(composer: perf.Composer) -> None:
    prompts = [PROMPT, "a red hat -- and a --seed", "a teapot*"]
    gates = {"teddy": perf.Gate(bias=0.5)}
    pictures = list(composer.render(prompts, seeds=[3, 4], gates=gates))
    assert [(picture.prompt, picture.seed) for picture in pictures] == [
        (prompt, seed) for prompt in prompts for seed in (3, 4)
    ]
    assert pictures[0].record.composition.concept("teddy").render.bias == 0.5
    alone = list(composer.render("a teapot*", seeds=[3, 4]))
    assert [picture.png() for picture in pictures[4:]] == [picture.png() for picture in alone]
    for wrong, what, where in (
        (["a hat", "a teddi*"], "there is no concept 'teddi' here", "prompts[1], column 3"),
        (["a hat", ""], "the prompt is empty", "prompts[1]"),
        ([], "there are no prompts", "prompts"),
    ):
        with pytest.raises(perf.PerfError, match=what) as caught:
            composer.render(wrong)
        assert (caught.value.where or "").startswith(where)


def test_what_is_read_as_words_is_said(composer: perf.Composer, caplog: pytest.LogCaptureFixture) -> None:
    composer.render("a teddy in a teapot*", negative_prompt=" ".join(["fog"] * 90))
    assert "lost" not in caplog.text
    assert "teddy without a star is the plain word; this calls the concept: " in caplog.text
    caplog.clear()
    composer.render("a teddy* in the desert", gates=perf.Gate(bias=0.0))
    assert "the gate of teddy* opens at " in caplog.text
    caplog.clear()
    composer.render("a teddy* in the desert", gates=perf.Gate(bias=2.0))
    assert "the gate of teddy* stays closed at its own word" in caplog.text
    caplog.clear()
    composer.render("a teddy* in the desert", gates=perf.Gate(preset="editable"))
    assert "stays closed" not in caplog.text
    caplog.clear()
    composer.render("a teddy* in the desert")
    assert "has never seen desert: it draws nothing of it, or something else" in caplog.text
    caplog.clear()
    composer.render("a teddy*", negative_prompt="fog, desert")
    assert "has never seen fog, desert: in the negative prompt it keeps nothing away" in caplog.text
    caplog.clear()
    composer.render(PROMPT, negative_prompt="fog")
    caplog.clear()
    composer.render(PROMPT, height=32)
    assert "the base was made for 64x64 pixels: at 64x32 expect rough things" in caplog.text
    caplog.clear()
    composer.render(PROMPT, width=128)
    assert "at 128x64 expect things twice, or joined" in caplog.text
    caplog.clear()
    composer.render(PROMPT, width=96, negative_prompt="a boat")
    gates = [record for record in caplog.records if "the gate of" in record.getMessage()]
    assert caplog.records == gates  # those of an untrained base open where they like


def test_a_file_stands_in_and_the_project_is_read_anew(
    project: perf.Project, composer: perf.Composer, place: Path
) -> None:
    composition = composer.compose(PROMPT, files=[place / "teddy.safetensors"])
    assert composition == composer.compose(PROMPT)
    project.remove("teapot")
    with pytest.raises(perf.PerfError, match="there is no concept 'teapot' here"):
        composer.compose(PROMPT)
    manifest = project.root / "perfusion.toml"
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace('"../base"', '"storybook"'), encoding="utf-8"
    )
    with pytest.raises(perf.PerfError):
        composer.compose("a teddy* sailing")


def test_threads_share_a_composer(composer: perf.Composer) -> None:
    """Each draws its own prompt, with bank and residuals in place, and gets what it would get alone; but for
    a level of colour, since sums may be rounded otherwise in another thread."""
    prompts = (PROMPT, "a teapot* on a table", "a boat")

    def drawn(prompt: str) -> np.ndarray:
        return np.stack([np.asarray(picture.image, int) for picture in composer.render(prompt, seeds=(0, 1))])

    alone = {prompt: drawn(prompt) for prompt in prompts}
    start = Barrier(len(prompts))

    def draw(prompt: str) -> np.ndarray:
        start.wait()
        return drawn(prompt)

    with ThreadPoolExecutor(len(prompts)) as threads:
        together = dict(zip(prompts, threads.map(draw, prompts), strict=True))
    for prompt in prompts:
        off = {other: np.abs(together[prompt] - alone[other]).max() for other in prompts}
        assert off.pop(prompt) <= 1
        assert min(off.values()) > 10


def test_others_draw_between_two_pictures(composer: perf.Composer) -> None:
    first = composer.render(PROMPT, seeds=(0, 1))
    next(first)
    (between,) = composer.render("a boat", seeds=(5,))  # would wait for ever if `first` held the base
    last = [*first]
    assert [picture.seed for picture in last] == [1]
    assert isinstance(between.image, Image.Image)
    assert np.asarray(last[0].image).shape == (64, 64, 3)


def test_a_picture_is_drawn_again_from_itself(
    composer: perf.Composer, project: perf.Project, place: Path
) -> None:
    *_, last = composer.render(PROMPT, seeds=(3, 4), batch=2, gates=perf.Gate(bias=0.5))
    last.save(place / "4.png")
    record = perf.read_record(place / "4.png")
    assert record == last.record
    assert (record.seed, record.composition.concept("teddy").render.bias) == (4, 0.5)
    assert perf.redraw(place / "4.png", offline=True).png() == last.png()
    Image.new("RGB", (8, 8)).save(place / "plain.png")
    with pytest.raises(perf.PerfError, match="carries no record"):
        perf.redraw(place / "plain.png")


def test_a_locked_composer_draws_what_is_locked_and_no_other(
    project: perf.Project, tiny_base: Base, place: Path
) -> None:
    locked = perf.Composer(project.workspace, tiny_base, locked=True)
    assert locked.compose(PROMPT) == perf.Composer(project.workspace, tiny_base, frozen=True).compose(PROMPT)
    manifest = project.root / "perfusion.toml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace('teapot = { version = ">=1"', 'teapot = { version = ">=2"'), "utf-8")
    with pytest.raises(perf.StaleLockfileError):
        locked.compose(PROMPT)
    assert perf.Composer(project.workspace, tiny_base, frozen=True).compose(PROMPT).concepts


def test_a_sheet_of_gates(composer: perf.Composer, place: Path) -> None:
    result = composer.sweep(
        PROMPT, biases=(0.4, 0.8), temperatures=(0.1,), steps=1, out=place / "sheet.png", names=["teddy*"]
    )
    assert Image.open(result.sheet).format == "PNG"
    assert result.biases == (0.4, 0.8)
    row = composer.sweep("a teapot*", across=("bias", [0.4]), steps=1, out=place / "row.png")
    assert (row.biases, row.temperatures, row.axes) == ((0.4,), (), {})
    for what, mistake in {
        "a bias should be less than or equal to 2": lambda: composer.sweep(PROMPT, biases=[9]),
        "down is both bias and temperature": lambda: composer.sweep(
            PROMPT, temperatures=[0.1], down=("bias", [1])
        ),
        "belongs to a scene pack": lambda: composer.tune(PROMPT, scene="pack/snow"),
        "a temperature should be": lambda: composer.tune(PROMPT, temperatures=[-1]),
        "bias is said twice": lambda: composer.tune(PROMPT, biases=[0.5], choices={"bias": [0.6]}),
    }.items():
        with pytest.raises(perf.PerfError, match=what):
            mistake()
