"""The commands that draw, run as a person runs them, on a project with the tiny base."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from perfusion_registry.cli import app
from perfusion_registry.render.metadata import png_bytes, read_metadata
from tests.render.samples import picture, render_record

PROMPT = "A teddy* sailing in a teapot*"


@pytest.fixture
def perf(project, monkeypatch):
    """Run `perf` in the project's folder; returns the result, which must have the exit code `code`."""
    monkeypatch.chdir(project.root)

    def run(*arguments, code=0, text=None):
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=text)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    run.root = project.root
    run.store = project.store
    return run


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_picture_is_reproduced_to_the_pixel_from_itself(perf):
    options = ["--seed", 3, "--count", 3, "--batch", 2, "--steps", 3, "--negative", "blue", "--size", "64x96"]
    gates = ["--bias", "teddy=.3", "--lock", "teapot=global", "--scheduler", "euler", "--guidance", 4]
    first = perf("render", PROMPT, *options, *gates).stdout.split()
    assert first == [f"renders/a-teddy-sailing-in-a-teapot-{seed}.png" for seed in (3, 4, 5)]
    (perf.root / "perfusion.toml").write_text('[project]\nname = "other"\nbase = "./missing"\n')
    for path in first[1:]:
        again = perf("render", "--from", path, "--out", f"again/{path}").stdout.strip()
        assert again == f"again/{path}"
        assert np.array_equal(pixels(again), pixels(path))
        assert read_metadata(perf.root / again).same_picture(read_metadata(perf.root / path))
    assert not np.array_equal(pixels(first[1]), pixels(first[2]))


def test_a_picture_may_be_drawn_again_with_a_change(perf):
    (path,) = perf("render", PROMPT, "--seed", 3).stdout.split()
    (other,) = perf("render", "--from", path, "--seed", 4, "--out", "other.png").stdout.split()
    (direct,) = perf("render", PROMPT, "--seed", 4, "--out", "direct.png").stdout.split()
    assert np.array_equal(pixels(other), pixels(direct))
    (weaker,) = perf("render", "--from", path, "--bias", 1.5, "--out", "weaker.png").stdout.split()
    assert not np.array_equal(pixels(weaker), pixels(path))


@pytest.mark.parametrize(("out", "told"), [("a.jpg", "JPEG"), ("a.webp", "WEBP")])
def test_pictures_of_all_formats_are_drawn_again_from_themselves(perf, out, told):
    (path,) = perf("render", PROMPT, "--seed", 3, "--out", out, "--sheet", f"sheet-{out}").stdout.split()[:1]
    (plain,) = perf("render", PROMPT, "--seed", 3).stdout.split()
    with Image.open(perf.root / path) as image, Image.open(perf.root / f"sheet-{out}") as sheet:
        assert (image.format, sheet.format) == (told, told)
    assert read_metadata(perf.root / path).same_picture(read_metadata(perf.root / plain))
    (again,) = perf("render", "--from", path, "--out", "again.png").stdout.split()
    assert np.array_equal(pixels(again), pixels(plain))
    perf("render", PROMPT, "--seed", 3, "--out", out, "--sheet", f"sheet-{out}")
    assert "another file" in perf("render", PROMPT, "--seed", 4, "--out", out, code=2).stderr
    low = perf("render", PROMPT, "--format", out[2:], "--quality", 10, "--count", 2).stdout.split()
    assert [name.rpartition("-")[2] for name in low] == [f"0{out[1:]}", f"1{out[1:]}"]
    assert (perf.root / low[0]).stat().st_size < (perf.root / path).stat().st_size


def test_a_composition_draws_what_its_prompt_draws(perf):
    gates = ["--bias", ".4", "--temperature", "teddy=.3"]
    printed = perf("compose", PROMPT, *gates, "--out", "c.json", "--json").stdout
    assert (perf.root / "c.json").read_text() == printed
    (direct,) = perf("render", PROMPT, *gates, "--out", "direct.png").stdout.split()
    (composed,) = perf("render", "--composition", "c.json", "--out", "composed.png").stdout.split()
    (piped,) = perf("render", "--composition", "-", "--out", "piped.png", text=printed).stdout.split()
    assert np.array_equal(pixels(direct), pixels(composed))
    assert np.array_equal(pixels(direct), pixels(piped))


def test_a_scene_brings_its_prompt_and_its_gates(perf):
    scene = json.loads(perf("compose", "--scene", "sailing", "--json").stdout)
    assert scene["prompt"] == "A teddy* sailing in a teapot*"
    assert [c["bias"] for c in scene["concepts"]] == [0.4, 0.6]
    other = json.loads(perf("compose", "a teddy*", "--scene", "sailing", "--bias", ".5", "--json").stdout)
    assert (other["prompt"], other["concepts"][0]["bias"]) == ("a teddy*", 0.5)
    error = perf("render", "--scene", "sialing", code=2).stderr
    assert "sailing" in error


def test_explain_shows_gates_to_people_and_programs(perf):
    shown = perf("explain", PROMPT).stdout
    assert "teddy* gate" in shown
    assert "█" in shown
    said = json.loads(perf("explain", PROMPT, "--json").stdout)
    assert said["schema"] == "perf.explain/1"
    row = next(row for row in said["tokens"] if row["concept"] == "teapot")
    assert row["gate"]["teapot"] > 0.5
    assert f"{row['gate']['teapot']:.2f}" in shown
    nothing = perf("explain", "a red hat").stdout
    assert "hat" in nothing
    assert "gate" not in nothing


def test_a_sheet_has_the_pictures_and_the_references(perf):
    colours = [(250, 10, 10), (10, 10, 250)]
    for index, colour in enumerate(colours):
        Image.new("RGB", (40, 40), colour).save(perf.root / "recipes" / f"{index}.png")
    options = ["render", PROMPT, "--count", 2, "--sheet", "sheet.png"]
    lines = perf(*options).stdout.split()
    assert lines[-1] == "sheet.png"
    sheet = pixels(perf.root / "sheet.png")
    for colour in colours:
        assert (sheet == colour).all(-1).sum() == 2 * 112 * 112  # one thumb for each of the two concepts
    before = (perf.root / "sheet.png").read_bytes()
    assert perf(*options).stdout.split() == lines
    assert (perf.root / "sheet.png").read_bytes() == before
    perf("render", PROMPT, "--seed", 9, "--sheet", "sheet.png", code=2)
    perf("render", PROMPT, "--seed", 9, "--sheet", "sheet.png", "--force")


def test_a_sheet_without_references_is_still_a_sheet(perf):
    result = perf("render", PROMPT, "--sheet", "sheet.png")
    assert (perf.root / "sheet.png").exists()
    assert "lacks images of teddy" in result.stderr


def test_a_sweep_is_one_sheet(perf):
    arguments = [
        "sweep",
        PROMPT,
        "--bias",
        ".8,.2,.5",
        "--temperature",
        ".1",
        "--concept",
        "teddy",
        "--steps",
        1,
    ]
    said = json.loads(perf(*arguments, "--json").stdout)
    assert said["biases"] == [0.2, 0.5, 0.8]
    assert said["sheet"] == "renders/a-teddy-sailing-in-a-teapot-sweep-0.png"
    assert pixels(perf.root / said["sheet"]).shape[1] > 3 * 256
    perf("sweep", "a red hat", code=2)
    perf("sweep", PROMPT, "--concept", "cat", code=2)
    perf("sweep", PROMPT, "--bias", "high", code=2)
    assert "with one seed" in perf("sweep", PROMPT, "--seed", "1,5", code=2).stderr


def test_render_says_what_it_did_as_json(perf):
    said = json.loads(perf("render", PROMPT, "--seed", 2, "--json").stdout)
    assert said["schema"] == "perf.render/1"
    assert said["pictures"] == [{"path": "renders/a-teddy-sailing-in-a-teapot-2.png", "seed": 2}]
    assert said["composition"]["concepts"][0]["name"] == "teddy"


def test_nothing_is_overwritten_unasked(perf):
    (perf.root / "mine.png").write_bytes(b"mine")
    perf("render", PROMPT, "--out", "mine.png", code=2)
    assert (perf.root / "mine.png").read_bytes() == b"mine"
    perf("render", PROMPT, "--out", "mine.png", "--force")
    perf("render", PROMPT, "--out", "mine.png")
    first, second = (perf("render", PROMPT, "--steps", n).stdout.strip() for n in (1, 2))
    assert (first, second) == tuple(f"renders/a-teddy-sailing-in-a-teapot-0{tail}.png" for tail in ("", "-2"))


def test_a_prompt_without_concepts_needs_no_lock(perf):
    (perf.root / "perfusion.lock").unlink()
    assert perf("render", "a red hat").stdout.strip() == "renders/a-red-hat-0.png"
    error = perf("render", "a teddy*", code=2).stderr
    assert "perf build teddy" in error


MISTAKES = {
    "an unknown concept": (["render", "a teddi*"], "teddy*"),
    "one that is not built": (["render", "a cat*"], "perf build cat"),
    "a mistake in the prompt": (["render", "a teddy*{bias=x}"], "^"),
    "no prompt": (["render"], "no prompt"),
    "two sources": (["render", "a hat", "--from", "x.png"], "cannot go together"),
    "no picture": (["render", "--from", "x.png"], "no picture here"),
    "no composition": (["render", "--composition", "x.json"], "x.json"),
    "a size that is none": (["render", "a hat", "--size", "big"], "512x512"),
    "an odd size": (["render", "a hat", "--size", "65"], "--size"),
    "no steps": (["render", "a hat", "--steps", "0"], "--steps"),
    "a scheduler that is none": (["render", "a hat", "--scheduler", "magic"], "ddim"),
    "a seed below zero": (["render", "a hat", "--seed", "-1"], "--seed"),
    "a gate that is none": (["render", "a teddy*", "--bias", "teddy=x"], "--bias"),
    "a gate of another": (["render", "a teddy*", "--bias", "cat=.5"], "does not call"),
    "a sheet that is no picture": (["render", "a hat", "--sheet", "s.pdf"], "PNG"),
    "an output that is no picture": (["render", "a hat", "--out", "s.gif"], "PNG, JPEG or WebP"),
    "a quality of PNG": (["render", "a hat", "--quality", "80"], "PNG loses nothing"),
    "a format that is none": (["render", "a hat", "--format", "gif"], "png, jpeg or webp"),
    "a concept in the negative prompt": (["render", "a hat", "--negative", "a teddy*"], "negative"),
    "no such device": (["render", "a hat", "--device", "abacus"], "abacus"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_a_way_out(perf, mistake):
    arguments, told = MISTAKES[mistake]
    result = perf(*arguments, code=2)
    assert told in result.stderr
    assert result.stdout == ""
    assert not (perf.root / "renders").exists()


def test_artifacts_that_are_gone_are_named(perf):
    (path,) = perf("render", "a teddy*").stdout.split()
    perf("compose", "a teddy*", "--out", "c.json")
    shutil.rmtree(perf.store.root / "artifacts")
    for arguments in (["a teddy*"], ["--from", path], ["--composition", "c.json"]):
        assert "perf build teddy" in perf("render", *arguments, code=2).stderr


def test_a_picture_of_another_base_is_refused(perf):
    (perf.root / "foreign.png").write_bytes(png_bytes(picture(), render_record()))
    assert "another base" in perf("render", "--from", "foreign.png", code=2).stderr


def test_a_concept_that_changed_since_is_drawn_with_a_warning(perf):
    """The project's lockfile was not made from its recipes, so every recipe counts as changed."""
    quiet = perf("render", "a teddy*", "--out", "a.png")
    assert "changed" not in quiet.stderr  # without images and a covariance, there is nothing to compare
    picture().save(perf.root / "recipes" / "0.png")
    (perf.root / "c.safetensors").write_bytes(b"only its digest counts here")
    manifest = perf.root / "perfusion.toml"
    manifest.write_text(
        manifest.read_text().replace("\n\n[concepts]", '\ncovariance = "c.safetensors"\n[concepts]')
    )
    told = perf("render", "a teddy*", "--out", "a.png").stderr
    assert "teddy has changed since it was built" in told
    assert "perf build teddy" in told
