from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from perfusion_registry.artifact import build_key, training_key
from perfusion_registry.methods.perfusion.options import PerfusionRecipe, RenderOptions, TrainOptions
from perfusion_registry.recipe import Recipe
from perfusion_registry.recipe.recipe import LearnedSection

A, B, C, D = (letter * 64 for letter in "abcd")


def recipe(**changes: Any) -> Recipe:
    concept = {"name": "teddy", "version": "1.0.0", "supercategory": "teddy", "images": ("*.png",)}
    return PerfusionRecipe(concept=LearnedSection(**{**concept, **changes}))


def keys(
    of: Recipe | None = None,
    images: list[str] | None = None,
    masks: list[str] | None = None,
    base: str = C,
    covariance: str = D,
    train: TrainOptions | None = None,
    render: RenderOptions | None = None,
    epoch: int = 1,
    base_licence: str | None = None,
) -> tuple[str, str]:
    inputs = (of or recipe(), images or [A, B], masks or [], base, covariance, train or TrainOptions())
    drawn = render or RenderOptions()
    build = build_key(*inputs, drawn, epoch=epoch, base_licence=base_licence)
    return training_key(*inputs, drawn, epoch=epoch), build


PLAIN = keys()


def test_the_key_is_the_hash_of_its_canonical_json() -> None:
    """Written down once more, by hand: an accident that changes it would make everybody train again."""
    value = {
        "schema": 1,
        "epoch": 1,
        "supercategory": "teddy",
        "images": [A, B],
        "masks": [],
        "base": C,
        "covariance": D,
        "train": json.loads(TrainOptions().model_dump_json()),
    }
    training = hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert PLAIN[0] == training
    assert PLAIN[1] not in (training, "")


@pytest.mark.parametrize("key", list(TrainOptions.model_fields))
def test_every_training_option_is_in_both_keys(key: str) -> None:
    value = getattr(TrainOptions(), key)
    other: Any
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, tuple):
        other = (*value, value[0] if value else "a cat and a {}")
    elif isinstance(value, str):
        other = "none"
    else:
        other = value + 1 if isinstance(value, int) else value / 2 or 0.5
    changed = keys(train=TrainOptions(**{key: other}))
    assert changed[0] != PLAIN[0]
    assert changed[1] != PLAIN[1]


@pytest.mark.parametrize(
    "inputs",
    [
        {"of": recipe(supercategory="bear")},
        {"images": [B, A]},
        {"images": [A]},
        {"masks": [A, ""]},
        {"base": A},
        {"covariance": A},
        {"epoch": 2},
    ],
)
def test_everything_that_trains_is_in_both_keys(inputs: dict[str, Any]) -> None:
    changed = keys(**inputs)
    assert changed[0] != PLAIN[0]
    assert changed[1] != PLAIN[1]


@pytest.mark.parametrize(
    "inputs",
    [
        {"of": recipe(name="bear")},
        {"of": recipe(version="1.0.1")},
        {"of": recipe(licence="MIT")},
        {"of": recipe(authors=("me",))},
        {"of": recipe(consent="mine")},
        {"of": recipe(description="old")},
        {"base_licence": "MIT"},
        *(
            {"render": RenderOptions(**change)}
            for change in ({"bias": 0.5}, {"temperature": 0.1}, {"key_lock": "global"})
        ),
    ],
)
def test_what_only_the_card_says_changes_the_build_but_not_the_training(inputs: dict[str, Any]) -> None:
    changed = keys(**inputs)
    assert changed[0] == PLAIN[0]
    assert changed[1] != PLAIN[1]


def test_names_of_files_are_in_no_key() -> None:
    assert keys(of=recipe(images=("other/*.jpg",), masks=("m/*.png",))) == PLAIN
