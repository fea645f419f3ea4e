"""Methods are found by name, those of other distributions too, and each reads its own recipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from perfusion_registry.artifact import build_key, training_key
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import read_recipe
from perfusion_registry.methods.perfusion.options import PerfusionRecipe, RenderOptions, TrainOptions
from perfusion_registry.methods.table import (
    METHODS,
    UnknownMethodError,
    find_method,
    method_names,
    resolve_render,
    resolve_train,
)

ROOT = Path(__file__).parents[2]

RECIPE = """\
[concept]
name = "teddy"
version = "1.0.0"
{method}
supercategory = "teddy"
images = ["*.png"]
[train]
{train}
"""


def written(tmp_path: Path, method: str = "", train: str = "") -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(method=method, train=train))
    return path


def test_every_method_has_the_name_of_its_row() -> None:
    assert [find_method(name).name for name in METHODS] == list(METHODS)


def test_a_recipe_that_names_no_method_is_of_perfusion(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, train="bias = 0.5"))
    named = read_recipe(written(tmp_path, 'method = "perfusion"', "bias = 0.5"))
    assert recipe == named == PerfusionRecipe.model_validate(recipe.model_dump())
    assert resolve_train(recipe, {"steps": 3}) == TrainOptions(bias=0.5, steps=3)
    assert resolve_render(recipe, {}) == RenderOptions()


def test_a_method_that_is_not_here_is_told_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, 'method = "lora-of-mine"')
    with pytest.raises(PerfError, match=r"no method `lora-of-mine`; it has .*`lora`, `perfusion`") as caught:
        read_recipe(path)
    assert caught.value.where == f"{path}:4, concept.method"
    for wrong in ("7", '"../x"', '"Perfusion"'):
        with pytest.raises(PerfError) as caught:
            read_recipe(written(tmp_path, f"method = {wrong}"))
        assert f"{path}:4, concept.method" in str(caught.value.where)


def test_another_distribution_brings_a_method(site: Path, tmp_path: Path) -> None:
    assert "deep" in method_names()
    recipe = read_recipe(written(tmp_path, 'method = "deep"', "depth = 5\nsteps = 9"))
    train = resolve_train(recipe, {})
    assert train.model_dump()["depth"] == 5
    assert train.steps == 9
    with pytest.raises(PerfError, match="unknown key"):
        read_recipe(written(tmp_path, 'method = "deep"', "bias = 0.5"))
    with pytest.raises(PerfError, match="unknown key"):
        read_recipe(written(tmp_path, train="depth = 5"))


def test_a_method_that_cannot_be_used_is_told_with_its_distribution(site: Path) -> None:
    for name in ("broken", "gone"):
        with pytest.raises(PerfError, match=f"the method `{name}` that perf-deep brings cannot be used"):
            find_method(name)
    with pytest.raises(UnknownMethodError):
        find_method("other")


def test_two_methods_never_share_a_key(site: Path, tmp_path: Path) -> None:
    """Nor do two epochs of one method; and what a method does not have is in no key."""
    keys = set()
    for method in ("", 'method = "deep"'):
        recipe = read_recipe(written(tmp_path, method))
        inputs = (recipe, ["a"], [], "b")
        train, render = resolve_train(recipe, {}), resolve_render(recipe, {})
        for covariance in ("c", None) if method else ("c",):
            keys.add(training_key(*inputs, covariance, train, render, epoch=1))
            keys.add(build_key(*inputs, covariance, train, render, epoch=1))
    deep = find_method("deep")
    was, type(deep).epoch = type(deep).epoch, 8
    try:
        keys.add(training_key(*inputs, None, train, render, epoch=1))
    finally:
        type(deep).epoch = was
    assert len(keys) == 7


def test_reading_a_recipe_imports_no_torch(tmp_path: Path) -> None:
    text = (
        "import sys; from pathlib import Path\n"
        "from perfusion_registry.methods.table import METHODS, find_method, resolve_train\n"
        "from perfusion_registry.methods.files import read_recipe\n"
        "resolve_train(read_recipe(Path(sys.argv[1])), {}); [find_method(name) for name in METHODS]\n"
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", text, str(written(tmp_path))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert run.stdout == "[]\n"
