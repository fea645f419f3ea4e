"""`add` with any option of any method: written into the recipe's tables, checked by the method."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tomli
from typer.testing import CliRunner

import perfusion_registry as perf
from perfusion_registry.cli import app
from perfusion_registry.operations.plan import load_plan
from perfusion_registry.operations.recipe_options import read_value
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.captions import not_read
from tests.second_method import install_blend


def add(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["add", *arguments, "--super", "teddy", "--images", "photos/*"])
    return result.exit_code, " ".join((result.stdout + result.stderr).split())


def recipe(project: Path, name: str) -> dict[str, dict[str, object]]:
    return tomli.loads((project / "recipes" / f"{name}.toml").read_text(encoding="utf-8"))


def test_options_of_perfusion_stand_in_both_tables(project: Path) -> None:
    sets = (
        "residual_rank=.05",
        "train.bias=.7",
        "train.temperature=0.2",
        "key_lock=global",
        "sizes=[1.0, 0.5]",
    )
    code, said = add(
        "dog", "--bias", ".6", "--steps", "9", *(part for one in sets for part in ("--set", one))
    )
    assert code == 0, said
    assert recipe(project, "dog")["train"] == {
        "steps": 9,
        "residual_rank": 0.05,
        "bias": 0.7,
        "temperature": 0.2,
        "sizes": [1.0, 0.5],
    }
    assert recipe(project, "dog")["render"] == {"bias": 0.6, "key_lock": "global"}
    assert "method" not in recipe(project, "dog")["concept"]


def test_captions_of_other_tools_are_told_not_to_be_read(project: Path) -> None:
    """In one sentence, whatever their number, and only where there are any."""
    photos = project / "photos"
    assert "not read" not in add("plain")[1]
    for picture in [path for path in photos.iterdir() if path.suffix == ".png"][:2]:
        picture.with_suffix(".txt").write_text("a cat", encoding="utf-8")
    _, said = add("dog")
    assert (
        said.count("not read: 2 caption files beside the pictures; a concept is learned under templates") == 1
    )
    with Workspace.open(project) as workspace:  # what a recipe's pattern means is the same
        assert len(load_plan(workspace, ["dog"]).plan.tasks[0].images) == 3
    for folder, told in (("2024_summer", False), ("10_ohwx cat", True)):
        photos = photos.rename(project / folder)
        pictures = [picture for picture in photos.iterdir() if picture.suffix == ".png"]
        assert ("the folder's name" in (not_read(pictures) or "")) is told
    renamed = ["add", "cat", "--super", "cat", "--images", "10_ohwx cat/*.png"]
    result = CliRunner().invoke(app, renamed)
    assert "2 caption files beside the pictures and the folder's name `10_ohwx cat`" in " ".join(
        result.stderr.split()
    )


def test_captions_go_with_pictures_that_are_copied_for_a_method_that_reads_them(
    project: Path, tmp_path: Path
) -> None:
    photos = (project / "photos").rename(project / "10_ohwx cat")
    (photos / "1.txt").write_text("a ohwx cat", encoding="utf-8")
    asked = ["--super", "cat", "--images", "10_ohwx cat/*", "--copy", "--method", "dreambooth"]
    result = CliRunner().invoke(app, ["add", "cat", *asked, "--set", "rank=full"])
    said = " ".join(result.stderr.split())
    assert result.exit_code == 0, said
    assert "not read" not in said
    assert "copied without the folder `10_ohwx cat`, whose name says words" in said
    copied = {path.name for path in (project / "recipes" / "cat").iterdir()}
    assert copied == {"1.png", "1.txt", "2.png", "3.png"}
    assert recipe(project, "cat")["train"] == {"rank": "full"}
    with Workspace.open(project) as workspace:
        images = load_plan(workspace, ["cat"]).plan.tasks[0].images
    assert [image.caption.text for image in images if image.caption.text] == ["a ohwx cat"]
    both = ["--set", "text_encoder=true", "--set", "learn_token=true"]
    refused = CliRunner().invoke(app, ["add", "dog", *asked, *both])
    assert refused.exit_code == 2
    assert "`text_encoder` learns all words, `learn_token` one of them" in " ".join(refused.stderr.split())


def test_another_method_has_its_own(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path_factory.mktemp("site")
    install_blend(site)
    monkeypatch.syspath_prepend(site)
    code, said = add("fog", "--method", "blend", "--set", "patience=2", "--set", "on_side=far")
    assert code == 0, said
    written = recipe(project, "fog")
    assert written["concept"]["method"] == "blend"
    assert (written["train"], written["render"]) == ({"patience": 2}, {"on_side": "far"})
    home = perf.open(project)
    home.add("mist", "teddy", ["photos/*"], method="residuals", options={"rank": 0.1, "residual": 0.5})
    assert recipe(project, "mist")["train"] == {"rank": 0.1}
    with pytest.raises(perf.PerfError, match=r"`rank` is no key of .* of the method `textual-inversion`"):
        home.add("haze", "teddy", ["photos/*"], method="textual-inversion", options={"rank": 0.1})
    assert not (project / "recipes" / "haze.toml").exists()
    sys.modules.pop("perf_blend", None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--set", "bias=.5"), "say train.bias or render.bias"),
        (("--set", "residual_rnk=.5"), "did you mean `residual_rank`?"),
        (("--set", "train.key_lock=local"), "`key_lock` is no key of [train] of the method `perfusion`"),
        (("--set", "train.bias"), "says no value"),
        (("--set", "train.bias=9"), "less than or equal to"),
        (("--set", "train.bias=high"), "train.bias"),
        (("--bias", ".5", "--set", "render.bias=.6"), "`render.bias` is said twice"),
        (("--set", "steps=3", "--set", "steps=4"), "`steps` is said twice"),
        (("--method", "residuals", "--bias", ".5"), "render.bias"),
        (("--method", "residual"), "did you mean"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(
    project: Path, arguments: tuple[str, ...], told: str
) -> None:
    before = (project / "perfusion.toml").read_text(encoding="utf-8")
    code, said = add("dog", *arguments)
    assert code != 0
    assert told in said
    assert not (project / "recipes" / "dog.toml").exists()
    assert (project / "perfusion.toml").read_text(encoding="utf-8") == before


def test_values_are_read_as_people_write_them() -> None:
    said = {
        "3": 3,
        ".5": 0.5,
        "1e-3": 0.001,
        "true": True,
        "far": "far",
        '["a {}"]': ["a {}"],
        "nan.": "nan.",
        "1\nsteps = 2": "1\nsteps = 2",
    }
    assert {text: read_value(text) for text in said} == said
