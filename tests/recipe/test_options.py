from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.options import (
    PerfusionRecipe,
    RenderOptions,
    RenderSection,
    TrainOptions,
    TrainSection,
)
from perfusion_registry.methods.perfusion.presets import PRESET_NAMES, PRESETS
from perfusion_registry.methods.table import resolve_render, resolve_train
from perfusion_registry.recipe import Recipe
from perfusion_registry.recipe.recipe import LearnedSection

CONCEPT = LearnedSection(name="teddy", version="1", supercategory="teddy", images=("*.png",))


def recipe(**tables: Any) -> Recipe:
    return PerfusionRecipe(concept=CONCEPT, **tables)


def test_the_defaults_are_the_papers() -> None:
    """Section 5 (training details and sigmoid hyper-parameters) and Appendix G, transcribed."""
    options = TrainOptions()
    assert (options.bias, options.temperature) == (0.75, 0.1)
    assert (options.learning_rate_output, options.learning_rate_embedding) == (0.03, 0.006)
    assert (options.batch, options.validate_every, len(options.validation_prompts)) == (16, 25, 8)
    assert [template.format("S*") for template in options.templates] == [
        "a photo of a S*",
        "a good photo of a S*",
        "the photo of a S*",
        "a good photo of the S*",
        "image of a S*",
        "image of the S*",
        "A photograph of S*",
        "A S* shown in a photo",
        "A photo of S*",
    ]
    assert 0.6 <= RenderOptions().bias <= 0.75
    assert RenderOptions().temperature == 0.15


@pytest.mark.parametrize("key", list(TrainOptions.model_fields))
def test_a_recipe_goes_before_the_base_and_the_base_before_the_paper(key: str) -> None:
    other: Any = {
        "bias": (0.1, 0.2), "temperature": (0.3, 0.4), "steps": (7, 8), "batch": (2, 3),
        "flip": (False, True),
        "learning_rate_output": (0.5, 0.6), "learning_rate_embedding": (0.7, 0.8), "mask": ("none", "files"),
        "validate_every": (5, 6), "seed": (1, 2), "templates": (("x {}",), ("y {}",)),
        "validation_prompts": (("v {}",), ("w {}",)), "validation_steps": (9, 10),
        "validation_guidance": (1.0, 2.0), "trained_keys": (True, False), "residual_rank": (0.1, 0.2),
        "learning_rate_residual": (0.3, 0.4), "sizes": ((0.5,), (0.6,)),
        "pair_prompts": (("a cat and a {}",), ("a dog and a {}",)), "pair_share": (0.3, 0.4),
    }[key]  # fmt: skip
    base, own = other
    paper = getattr(TrainOptions(), key)
    assert getattr(resolve_train(recipe(), {}), key) == paper
    assert getattr(resolve_train(recipe(), {key: base}), key) == base
    assert getattr(resolve_train(recipe(train=TrainSection(**{key: own})), {key: base}), key) == own
    assert getattr(resolve_train(recipe(), {key: None}), key) == paper


def test_a_section_has_exactly_the_keys_of_the_options() -> None:
    assert [key for key in TrainSection.model_fields if key != "preset"] == list(TrainOptions.model_fields)
    assert list(RenderSection.model_fields) == [*RenderOptions.model_fields, "preset"]


def test_the_presets_are_the_papers_ranges() -> None:
    """Section 4.4: temperature 0.15, bias 0.6-0.75 locally, 0.4-0.6 globally; Figure 1 (Appendix H)."""
    assert [(p.local_bias, p.global_bias, p.temperature) for p in PRESETS.values()] == [
        (0.6, 0.4, 0.15),
        (0.675, 0.5, 0.15),
        (0.75, 0.6, 0.15),
        (0.55, 0.55, 0.15),
    ]
    assert tuple(PRESETS) == PRESET_NAMES


def test_presets_go_from_more_to_less_of_a_concept() -> None:
    for lock in ("local", "global", "none"):
        faithful, balanced, editable = (
            PRESETS[name].relative_bias(lock) for name in ("faithful", "balanced", "editable")
        )
        assert faithful < balanced < editable


@pytest.mark.parametrize(
    ("section", "card", "expected"),
    [
        ({"preset": "balanced"}, {}, (None, 0.85, 0.15, "local")),
        ({"preset": "balanced", "key_lock": "global"}, {}, (None, 0.7, 0.15, "global")),
        (
            {"preset": "editable"},
            {"key_lock": "global", "bias": 0.1, "temperature": 0.9},
            (None, 0.9, 0.15, "global"),
        ),
        ({"preset": "editable", "bias": 0.2}, {"temperature": 0.9}, (0.2, None, 0.15, "local")),
        ({"preset": "editable", "temperature": 0.3}, {"bias": 0.1}, (None, 1.0, 0.3, "local")),
        ({"key_lock": "global"}, {}, (0.5, None, 0.15, "global")),
        ({"key_lock": "global"}, {"bias": 0.1}, (0.5, None, 0.15, "global")),
        ({"key_lock": "global"}, {"bias": 0.1, "key_lock": "global"}, (0.1, None, 0.15, "global")),
        ({}, {"relative_bias": 0.8, "key_lock": "global"}, (None, 0.8, 0.15, "global")),
        ({}, {"key_lock": "global"}, (0.5, None, 0.15, "global")),
        ({"key_lock": "local"}, {"bias": 0.1}, (0.1, None, 0.15, "local")),
        ({"key_lock": "global", "bias": 0.7}, {}, (0.7, None, 0.15, "global")),
        ({"relative_bias": 0.9}, {"bias": 0.1}, (None, 0.9, 0.15, "local")),
        ({"preset": "editable", "relative_bias": 0.8}, {}, (None, 0.8, 0.15, "local")),
    ],
)
def test_a_preset_of_a_recipe_is_numbers_to_everybody_else(
    section: dict[str, Any], card: dict[str, Any], expected: tuple[float | None, float | None, float, str]
) -> None:
    options = resolve_render(recipe(render=RenderSection(**section)), card)
    assert isinstance(options, RenderOptions)
    assert (options.bias, options.relative_bias, options.temperature, options.key_lock) == expected
    assert RenderOptions.model_validate_json(options.model_dump_json()) == options


def test_a_recipe_says_one_kind_of_bias() -> None:
    with pytest.raises(ValidationError, match="say bias or relative_bias, not both"):
        RenderSection(bias=0.5, relative_bias=0.9)


def test_a_base_card_also_speaks_to_the_renderer() -> None:
    options = resolve_render(recipe(), {"steps": 30, "guidance": 5.0, "bias": 0.5})
    assert options == RenderOptions(bias=0.5)


@pytest.mark.parametrize("card", [{"stepz": 3}, {"steps": 0}, {"steps": "4"}, {"bias": float("nan")}])
def test_an_impossible_default_of_a_base_is_an_error_that_names_it(card: dict[str, Any]) -> None:
    with pytest.raises(PerfError) as caught:
        resolve_train(recipe(), card)
    assert str(caught.value.where).startswith(f"perf-base.toml, train.{next(iter(card))}")


@pytest.mark.parametrize(
    "wrong",
    [
        {"bias": -0.1}, {"temperature": 0.0}, {"steps": 0}, {"batch": 1.5}, {"flip": "yes"},
        {"mask": "magic"}, {"seed": -1}, {"templates": ()},
        {"templates": ("no place",)}, {"templates": ("{} {}",)},
    ],
)  # fmt: skip
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainOptions(**wrong)


def test_the_older_names_of_pairs_are_still_read_and_are_those_of_keys_and_cards() -> None:
    older = {"company": ("a cat and a {}",), "company_share": 0.25}
    section = TrainSection.model_validate(older)
    assert section == TrainSection(pair_prompts=("a cat and a {}",), pair_share=0.25)
    assert resolve_train(recipe(train=section), {"company": ["a dog and a {}"]}).pair_prompts == (
        "a cat and a {}",
    )
    assert TrainOptions(**section.model_dump(exclude_none=True)).model_dump(exclude_defaults=True) == older
    with pytest.raises(ValidationError):
        TrainSection.model_validate({**older, "pair_share": 0.5})
