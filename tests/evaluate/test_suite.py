"""Suites as data: the shipped ones, and mistakes told by name."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import tomli

from perfusion_registry.artifact import digest_of
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.budget import Budget, by_turns, spread
from perfusion_registry.evaluate.drawing import DrawOrder
from perfusion_registry.evaluate.plan import cells, compared, filled, omitted, points
from perfusion_registry.evaluate.suite import SHIPPED, find_suite, read_suite, shipped_suites
from perfusion_registry.operations.schemas import text_of
from perfusion_registry.storybook.judging import WORLD
from tests.evaluate.conftest import Smoke


@pytest.fixture(scope="module")
def paper():
    return read_suite(find_suite("paper"))


def test_the_paper_has_its_protocol(paper) -> None:
    groups = {group.name: group for group in paper.prompts}
    assert len(paper.concepts) == 11
    assert len({concept.group for concept in paper.concepts}) == 4
    assert len(groups["shape-preserving"].templates) == 19
    assert sum(len(groups[name].templates) for name in paper.figure("6").prompts) == 86
    assert paper.render.seeds == 8
    assert {concept.cast for concept in paper.concepts} <= set(WORLD.cast)
    wanted = ["2", "5", "6", "7", "9a", "9b", "9c", "9d", "9e", "10", "11", "12", "13", "14", "A.1", "A.4"]
    assert sorted(figure.id for figure in paper.figures) == sorted(wanted)


def test_a_figure_of_the_paper_has_a_picture_for_every_prompt_and_seed(paper) -> None:
    figure = paper.figure("6")
    assert [v.name for v in compared(figure)] == ["local", "global", "with residual", "supercategory"]
    counted = sum(len(cell.seeds) for cell in cells(paper, figure, Budget()))
    prompts = 7 * (19 + 27) + 2 * (19 + 16) + (19 + 12) + (19 + 12)
    concepts = figure.trainings * (3 + 3 + 3)
    assert counted == (concepts + 1) * prompts * 8  # and the words, which nobody trains


@pytest.mark.parametrize("path", shipped_suites().values(), ids=lambda path: path.stem)
def test_shipped_suites_are_valid_and_their_prompts_can_be_read(path) -> None:
    suite = read_suite(path)
    assert suite.name == path.stem
    import json

    jsonschema.Draft202012Validator(json.loads(text_of("suite"))).validate(
        tomli.loads(path.read_text(encoding="utf-8"))
    )
    for group in suite.prompts:
        for template in group.templates:
            prompt = parse_prompt(filled(template, ["first*", "second*"]))
            assert len(prompt.calls) == (2 if group.pairs else 1)


def test_points_are_every_bias_at_every_temperature(paper) -> None:
    variant = paper.figure("7").variants[0]
    assert [point.label for point in points(variant)] == [
        "local@0.35",
        "local@0.5",
        "local@0.65",
        "local@0.8",
        "local@0.95",
    ]


def test_text_similarity_omits_the_concept() -> None:
    assert omitted("a {} wearing a crown") == "a wearing a crown"
    assert omitted("a {0} in a {1} at night") == "a in a at night"
    assert omitted("a ({}:1.3) BREAK in the (snow:.8) \\(big\\)") == "a in the snow (big)"


def test_pictures_of_before_there_were_weights_stand_for_prompts_that_mean_the_same() -> None:
    """The keys that a cache has; whatever is read otherwise now is drawn anew."""

    def key(prompt: str) -> str:
        settings: dict[str, Any] = {"steps": 4, "guidance": 6.0, "scheduler": None}
        order = DrawOrder(prompt, (), "words", None, (1,), "base", "d" * 64, **settings, computing=("a", "b"))
        return order.key(1)

    def as_before(prompt: str) -> str:
        told = {
            "epoch": 1, "prompt": prompt, "concepts": [], "method": "words", "base": "d" * 64,
            "request": [4, 6.0, None], "computing": ["a", "b"], "seed": 1,
        }  # fmt: skip
        return digest_of(told)

    for prompt in ("a cat in the snow", "a cat :) (12:00)", "a red cat and " * 6):
        assert key(prompt) == as_before(prompt)
    for prompt in ("a (cat) in the snow", "a cat BREAK snow", r"a cat \(big\)", "a red cat and " * 8):
        assert key(prompt) != as_before(prompt)


def test_budgets_take_turns_and_spread(paper) -> None:
    groups = list(dict.fromkeys(concept.group for concept in paper.concepts))
    assert len(groups) == 4
    assert [concept.group for concept in by_turns(paper.concepts, 4)] == groups
    assert spread("abcdefgh", 3) == ("a", "c", "f")
    assert spread("ab", 9) == ("a", "b")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('prompts = ["scenes", "toys"]', 'prompts = ["scene"]'), "prompt group `scene`"),
        (('better = "local@0.5"', 'better = "locl@0.5"'), "variant or point `locl@0.5`"),
        (('than = "local@0.7"', 'than = "local@0.6"'), "variant or point `local@0.6`"),
        (('pairs = [["bear", "jug"]]', 'pairs = [["bear", "mug"]]'), "concept `mug`"),
        (('"a {0} in a {1}"', '"a {} in a pot"'), "go with `pairs`"),
        (('recipe = "jug.toml"', ""), "needs `cast` or `recipe`"),
        (('method = "rome"', 'method = "rom"'), "no method `rom`, and no way to draw; did you mean `rome`?"),
        (
            ('method = "rome"', 'method = "textual-inversion"'),
            "`textual-inversion` is not trained by",
        ),
        (
            ('method = "supercategory"', 'method = "textual-inversion"\nbias = [0.5]'),
            "a concept of the method `textual-inversion` has no bias to set",
        ),
        (
            ('method = "supercategory"', 'method = "textual-inversion"\ntrain = { trained_keys = true }'),
            "`trained_keys` is no option of [train] of the method `textual-inversion`",
        ),
        (('training = "one-index"', 'training = "one-token"'), "there is `end-to-end`, `one-index`"),
        (('base = "ink"', 'base = "oil"'), "base `oil`"),
        (('base = "ink"', "pairs = true"), "no `[pairs]`"),
        (('than = "local@0.7"', ""), "either `than` or `at_least`"),
        (('id = "A.1"', 'id = "6"'), "the figure `6` is there twice"),
    ],
)
def test_a_mistake_is_told_by_its_name(smoke: Smoke, tmp_path, change, told) -> None:
    text = smoke.path.read_text()
    assert change[0] in text
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace(*change))
    with pytest.raises(PerfError) as error:
        read_suite(path)
    assert told in str(error.value)


def test_an_unknown_suite_names_those_that_are_shipped() -> None:
    with pytest.raises(PerfError) as error:
        find_suite("papr")
    assert "paper" in (error.value.hint or "")
    assert SHIPPED.is_dir()


@pytest.mark.parametrize(
    ("figure", "budget", "drawn"), [(12, None, 12), (12, 3, 3), (None, None, 8), (2, 3, 2)]
)
def test_a_figure_has_the_seeds_that_it_says(
    paper, figure: int | None, budget: int | None, drawn: int
) -> None:
    """More than the suite's as well as fewer."""
    said = paper.figures[0].model_copy(update={"seeds": figure})
    assert {cell.seeds for cell in cells(paper, said, Budget(seeds=budget))} == {tuple(range(drawn))}
