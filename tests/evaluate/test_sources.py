"""Variants of a concept: one-shot, unusual supercategories, and which place's train options count."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.sources import sources
from perfusion_registry.evaluate.suite import SuitePairs, TrainSection, Variant
from perfusion_registry.methods.perfusion.options import TrainOptions
from perfusion_registry.methods.perfusion.options import TrainSection as PerfusionSection
from perfusion_registry.methods.table import recipe_model, resolve_train
from tests.evaluate.conftest import Smoke


def test_one_shot_takes_the_first_image_and_its_mask(smoke: Smoke) -> None:
    whole = sources(smoke.suite, smoke.path)["bear"]
    one = whole.under(Variant(name="one image", images=1), smoke.suite)
    assert len(whole.images) == 2
    assert (one.images, one.masks) == (whole.images[:1], whole.masks[:1])
    assert one.digests == whole.digests[:1]


def test_another_supercategory_takes_the_place_of_the_recipes(smoke: Smoke) -> None:
    whole = sources(smoke.suite, smoke.path)["bear"]
    other = whole.under(Variant(name="locked to lamp", supercategory="lamp"), smoke.suite)
    assert (whole.supercategory, other.supercategory) == ("teddy", "lamp")
    assert other.images == whole.images


def test_a_variants_training_goes_before_the_recipes_and_that_before_the_suites(smoke: Smoke) -> None:
    whole = sources(smoke.suite, smoke.path)["bear"]
    recipe = whole.recipe.model_copy(update={"train": PerfusionSection(steps=2, bias=0.2)})
    suite = smoke.suite.model_copy(update={"train": TrainSection(steps=1, bias=0.1, flip=False)})  # type: ignore[call-arg]
    variant = Variant(name="v", train=TrainSection(steps=3))
    made = replace(whole, recipe=recipe).under(variant, suite)
    options = resolve_train(made.recipe, {"steps": 9, "batch": 4, "flip": True})
    assert (options.steps, options.bias, options.flip, options.batch) == (3, 0.2, False, 4)
    assert options.temperature == TrainOptions().temperature


@pytest.mark.parametrize("method", ["lora", "textual-inversion"])
def test_what_is_imported_is_as_it_is_and_learned_by_other_methods(smoke: Smoke, method: str) -> None:
    whole = sources(smoke.suite, smoke.path)["bear"]
    file = {"method": method, "file": "bear.safetensors", "sha256": "a" * 64}
    said = {**whole.recipe.concept.model_dump(), **file}
    imported = replace(whole, recipe=recipe_model(method).model_validate({"concept": said}))
    assert imported.digests == ("a" * 64,)
    if method != "lora":  # which suites do not name
        assert imported.under(Variant(name="as it is", method=method), smoke.suite) is imported
    other = "perfusion" if method == "textual-inversion" else "textual-inversion"
    learned = imported.under(Variant(name="learned", method=other), smoke.suite)
    assert learned.digests == whole.digests


def test_pairs_are_the_groups_and_for_the_variants_that_ask_for_it(smoke: Smoke) -> None:
    suite = smoke.suite.model_copy(
        update={"pairs": SuitePairs(for_groups=("toys",), templates=("a jug and a {}",))}
    )
    found = sources(suite, smoke.path)
    asking, plain = Variant(name="in pairs", pairs=True), Variant(name="alone")

    def pair_prompts(name: str, variant: Variant) -> tuple[str, ...]:
        return resolve_train(
            found[name].under(variant, suite).recipe, {"company": ["a cat and a {}"]}
        ).pair_prompts

    assert pair_prompts("bear", asking) == ("a jug and a {}",)
    assert pair_prompts("jug", asking) == ()  # none is named for containers
    assert pair_prompts("bear", plain) == ("a cat and a {}",)  # the card's
    assert asking.training_options != plain.training_options


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda root: (root / "bear" / "1.png").write_bytes(b"no picture"), "1.png"),
        (lambda root: (root / "bear.toml").unlink(), "concept bear"),
        (lambda root: shutil.copy(root / "jug.toml", root / "bear.toml"), "concept bear"),
    ],
)
def test_what_is_wrong_with_a_recipe_or_its_images_is_told_before_anything_runs(
    smoke: Smoke, tmp_path, break_it, told
) -> None:
    root = shutil.copytree(
        smoke.path.parent, tmp_path / "suite", ignore=shutil.ignore_patterns("store", "out*")
    )
    break_it(root)
    with pytest.raises(PerfError) as error:
        sources(smoke.suite, root / "smoke.toml")
    assert told in str(error.value.where)
