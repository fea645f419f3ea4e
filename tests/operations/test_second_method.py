"""A stranger's method with settings of its own: in recipes, braces, scenes, on the command line, swept, tuned
and explained, with nothing of it in perf."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import perfusion_registry as perf
from perfusion_registry.base import Base
from perfusion_registry.methods.files import read_manifest
from perfusion_registry.methods.settings import Axis
from perfusion_registry.operations.compose import PromptOptions
from perfusion_registry.operations.job import RenderOverrides
from perfusion_registry.operations.sweep import Grid, SweepOptions, sweep
from perfusion_registry.recipe import read_lockfile
from tests.operations.conftest import edit, project_on, working_in
from tests.second_method import install_blend

FOG = """\
[concept]
name = "fog"
version = "1.0.0"
method = "blend"
supercategory = "teddy"
images = ["../photos/*.png"]

[train]
steps = 1
batch = 1
learning_rate = 0.05
validate_every = 1
validation_steps = 1
validation_prompts = ["a photo of a {}"]

[render]
strength = 1.25
"""
SCENES = """
[scenes.mist]
prompt = "a fog* beside a bear*"
gates = { fog = { strength = 0.5, on_side = "far" }, bear = { bias = 0.4 } }
"""
PROMPT = "a fog* beside a bear*"
QUICK = RenderOverrides(steps=1, width=64, height=64)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Iterator[Path]:
    """A project with a concept of the method beside that of perfusion, both built; to be copied."""
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("project")
    install_blend(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        with working_in(folder):
            project_on(folder, tiny_base_folder)
            (folder / "recipes" / "fog.toml").write_text(FOG, encoding="utf-8")
            edit(folder / "perfusion.toml", "bear = {", 'fog = { recipe = "recipes/fog.toml" }\nbear = {')
            text = (folder / "perfusion.toml").read_text(encoding="utf-8")
            (folder / "perfusion.toml").write_text(text + SCENES, encoding="utf-8")
            perf.open(folder).build(device="cpu")
        yield folder
    sys.modules.pop("perf_blend", None)


@pytest.fixture
def home(built: Path, place: Path) -> perf.Project:
    """That project."""
    shutil.copytree(built, place, dirs_exist_ok=True)
    return perf.open(place)


def test_all_that_can_be_set_is_the_methods_own(home: perf.Project, tiny_base: Base) -> None:
    composer = perf.Composer(home.workspace, tiny_base)

    def fog(prompt: str | None = PROMPT, **said: object) -> dict[str, object]:
        return composer.compose(prompt, **said).concept("fog").render.model_dump()  # type: ignore[arg-type]

    # The recipe, braces, a program, a scene; each place before the next.
    block = read_lockfile(home.root / "perfusion.lock").concept("fog")
    assert block is not None
    assert dict(block.render) == {"strength": 1.25, "haze": 0.0, "on_side": "near"}
    assert fog() == {"strength": 1.25, "haze": 0.0, "on_side": "near"}
    assert fog("a fog*{strength=2,side=far}") == {"strength": 2.0, "haze": 0.0, "on_side": "far"}
    assert fog(None, scene="mist") == {"strength": 0.5, "haze": 0.0, "on_side": "far"}
    assert composer.compose(scene="mist").concept("bear").render.model_dump()["bias"] == 0.4
    gates = {"fog": {"strength": 0.7}, "bear": perf.Gate(bias=0.9)}
    assert fog(None, scene="mist", gates=gates) == {"strength": 0.7, "haze": 0.0, "on_side": "far"}
    assert fog(gates={"strength": 0.7, "bias": 0.9, "side": "far"})["on_side"] == "far"
    assert fog("a fog*{strength=2} and a bear*", gates=gates)["strength"] == 2.0

    # And it is drawn so.
    drawn = [
        np.asarray(next(iter(composer.render(text, steps=1))).image)
        for text in ("a fog*{strength=0}", "a teddy", "a fog*{strength=3}")
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])

    for what, mistake in {
        "'bias' is no option of fog": lambda: composer.compose("a fog*{bias=.5}"),
        "a strength should be less than or equal to 3": lambda: composer.compose("a fog*{strength=4}"),
        "'up' is no side": lambda: composer.compose("a fog*", gates={"side": "up"}),
        "'strength' is no option of bear": lambda: composer.compose("a bear*{strength=1}"),
        "'strenght' is no option of any concept": lambda: composer.compose("a fog*", gates={"strenght": 1.0}),
        "a haze should be less": lambda: composer.compose("a boat", gates={"haze": 2.0}),
    }.items():
        with pytest.raises(perf.PerfError, match=what):
            mistake()
    again = composer.compose("a fog*")
    with pytest.raises(perf.PerfError, match="'bias' is no option of fog") as caught:
        composer.render(again, gates={"fog": {"bias": 0.5}})
    assert "a fog*\n" in str(caught.value.where)
    assert str(caught.value.where).endswith("^^^^")


def test_a_scene_sets_what_some_method_has_and_each_concept_what_its_own_has(
    home: perf.Project, tiny_base: Base
) -> None:
    composer, manifest = perf.Composer(home.workspace, tiny_base), home.root / "perfusion.toml"
    edit(manifest, "strength = 0.5", "strenght = 0.5")
    with pytest.raises(perf.PerfError, match="unknown key; did you mean") as caught:
        composer.compose(scene="mist")
    assert "scenes.mist.gates.fog.strenght" in str(caught.value.where)
    edit(manifest, "strenght = 0.5", "strength = 5.0")
    with pytest.raises(perf.PerfError, match="less than or equal to 3"):
        composer.compose(scene="mist")
    edit(manifest, "strength = 5.0", "bias = 0.5")
    with pytest.raises(perf.PerfError, match="'bias' is no option of fog") as caught:
        composer.compose(scene="mist")
    assert caught.value.where == "the scene `mist`, gates.fog"


def test_it_is_swept_tuned_and_explained(home: perf.Project, tiny_base: Base, tmp_path: Path) -> None:
    sides = Axis("strength", (0.0, 3.0)), Axis("haze", (0.0, 0.5))
    with home.workspace() as workspace:
        prompt = PromptOptions(prompt=PROMPT)
        options = SweepOptions(prompt=prompt, grid=Grid(*sides), overrides=QUICK, out=tmp_path / "s.png")
        swept = sweep(workspace, options, tiny_base)
        assert swept.axes == {"strength": (0.0, 3.0), "haze": (0.0, 0.5)}
        assert (swept.biases, swept.temperatures) == ((), ())
        assert Image.open(tmp_path / "s.png").width > 2 * 64
        for grid, what in {
            Grid(*sides, names=("bear",)): "'bear' has no strength and haze to sweep: .* `perfusion`",
            Grid(Axis("bias", (0.5,)), sides[0]): "has no bias and strength to sweep",
        }.items():
            with pytest.raises(perf.PerfError, match=what):
                sweep(workspace, SweepOptions(prompt=prompt, grid=grid, overrides=QUICK), tiny_base)
        with pytest.raises(perf.PerfError, match="a haze should be"):
            SweepOptions(prompt=prompt, grid=Grid(sides[0], Axis("haze", (9.0,))))

    composer = perf.Composer(home.workspace, tiny_base)
    tuned = composer.tune(
        PROMPT,
        scene="tuned",
        biases=(0.5,),
        temperatures=(0.1,),
        locks=("local",),
        choices={"strength": (0.5, 2.0), "side": ("near",)},
        images=9,
        seeds=(0,),
        steps=1,
    )
    with pytest.raises(perf.PerfError, match="a strength should be less"):
        composer.tune(PROMPT, choices={"strength": (9.0,)})
    assert {attempt.gates["fog"].strength for attempt in tuned.tried} >= {0.5, 1.25, 2.0}  # type: ignore[attr-defined]
    best = json.loads(tuned.model_dump_json(by_alias=True))["after"]["gates"]
    scene = read_manifest(home.root / "perfusion.toml").scenes["tuned"]
    assert {name: one.model_dump(exclude_none=True) for name, one in scene.gates.items()} == best
    assert set(best["fog"]) == {"strength", "haze", "on_side"}
    assert composer.compose(tuned.spelt) == tuned.composition

    explained = composer.explain("a fog*{strength=2} beside a bear*")
    assert explained.concepts[0].options == {"strength": 2.0, "haze": 0.0, "on_side": "near"}
    assert "options" not in explained.printed()["concepts"][1]

    from perfusion_registry.cli import app
    from perfusion_registry.operations.tune import read_choices

    def command(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return " ".join(result.stdout.split())

    said = command("explain", "a fog*{strength=2,side=far} beside a bear*")
    assert "fog* (blend): strength 2, haze 0, far side, and no gate" in said
    row = ("--across", "strength=3,.5", "--steps", "1", "--device", "cpu")
    printed = CliRunner().invoke(app, ["sweep", "a fog*", *row, "--out", str(tmp_path / "row.png"), "--json"])
    assert printed.exit_code == 0, printed.output
    assert json.loads(printed.stdout)["axes"] == {"strength": [0.5, 3.0]}
    with Image.open(tmp_path / "row.png") as sheet, Image.open(tmp_path / "s.png") as grid:
        assert sheet.height < grid.height
    for wrong, what in {
        ("--across", "strength"): "no values",
        ("--across", "side=near"): "`side` is no number",
        ("--down", "strenth=1"): "'strenth' is no option of any concept",
        ("--across", "haze=.1", "--bias", ".5"): "across is both haze and bias",
        ("--down", "bias=.5"): "`relative_bias`, in the place of `bias`, is swept on both sides",
        ("--across", "bias=.4", "--down", "bias=.5"): "`bias` is swept on both sides",
    }.items():
        refused = CliRunner().invoke(app, ["sweep", PROMPT, *wrong])
        assert refused.exit_code == 2
        assert what in " ".join(refused.stderr.split()).lower()
    assert read_choices(("strength=2,.5,2", "side=far"), bias=".5") == {
        "bias": (0.5,),
        "strength": (0.5, 2.0),
        "on_side": ("far",),
    }
    refused = CliRunner().invoke(app, ["tune", PROMPT, "--try", "side=up"])
    assert "'up' is no side" in refused.stderr
    for twice in (["--try", "bias=.5", "--try", "bias=.6"], ["--bias", ".5", "--try", "bias=.6"]):
        refused = CliRunner().invoke(app, ["tune", PROMPT, *twice])
        assert refused.exit_code == 2
        assert "bias is said twice" in refused.stderr
    table = command("compose", PROMPT)
    assert "strength" in table
    assert "1.25" in table


def test_a_composition_and_a_picture_say_it_again(
    home: perf.Project, tiny_base: Base, tmp_path: Path
) -> None:
    composer = perf.Composer(home.workspace, tiny_base)
    composition = composer.compose("a fog*{strength=2,haze=.1}")
    assert json.loads(composition.to_json())["concepts"][0]["render"] == {
        "strength": 2.0,
        "haze": 0.1,
        "on_side": "near",
    }
    (picture,) = composer.render(composition, steps=1)
    picture.save(tmp_path / "fog.png")
    assert perf.redraw(tmp_path / "fog.png", offline=True).png() == picture.png()
