"""The second Storybook as a drawn world: which bases belong to it, who judges, and what judges are asked."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from perfusion_registry.base import describe_base, load_base
from perfusion_registry.base.bounds import BOUNDS_FILE, BaseBounds, words_text
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.metrics import METRICS, world, world_of
from perfusion_registry.evaluate.sources import sources
from perfusion_registry.evaluate.suite import read_suite
from perfusion_registry.storybook2 import judgement
from perfusion_registry.storybook2.grammar import NOUNS
from perfusion_registry.storybook2.judging import WORLD, WORLD_NAME
from perfusion_registry.storybook2.labels import LABELS
from perfusion_registry.storybook2.recogniser import Recogniser
from perfusion_registry.verdict.bounds import drawn_world
from perfusion_registry.verdict.judges import judge_of
from perfusion_registry.worlds import DrawnWorld, NoJudgeError, Subject

SUITE = """\
name = "small"
title = "Small"
[[concepts]]
name = "shoe"
group = "wearables"
cast = "shoe"
[[prompts]]
name = "scenes"
templates = ["a {} in the snow"]
[[figures]]
id = "1"
title = "One"
[[figures.variants]]
name = "plain"
"""


@pytest.fixture
def folder(tiny_base_folder: Path, tmp_path: Path) -> Path:
    """A base that says it is of this world."""
    own = tmp_path / "own"
    shutil.copytree(tiny_base_folder, own)
    (own / BOUNDS_FILE).write_text(words_text(WORLD_NAME, WORLD.things, WORLD.words), encoding="utf-8")
    return own


class Through:
    """A base whose autoencoder gives everything back as it is."""

    def __init__(self, folder: Path) -> None:
        self.description = describe_base(str(folder))

    def reconstructed(self, images: torch.Tensor) -> torch.Tensor:
        return images


def with_recogniser(folder: Path) -> None:
    torch.manual_seed(0)
    Recogniser(LABELS).save(folder / "recogniser.safetensors")


def test_a_base_says_by_its_bounds_which_world_it_is_of(folder: Path, tiny_base_folder: Path) -> None:
    description = describe_base(str(folder))
    assert world_of(description) == WORLD_NAME
    assert world(world_of(description)) is WORLD
    assert world_of(describe_base(str(tiny_base_folder))) == "storybook"
    bounds = BaseBounds.of(description)
    assert bounds.things[: len(NOUNS)] == NOUNS
    assert {"kitten", "mug", "couch"} < set(bounds.things)
    assert {"sunset", "polka", "watercolor", "wearing"} < set(bounds.words)


def test_a_suites_cast_is_of_the_world_of_its_base(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SUITE, encoding="utf-8")
    suite = read_suite(path)
    source = sources(suite, path, WORLD_NAME)["shoe"]
    assert (source.supercategory, source.world, len(source.images)) == ("shoe", WORLD_NAME, 5)
    with pytest.raises(PerfError, match="no 'shoe' in Storybook's cast"):
        sources(suite, path)


def test_a_base_without_a_recogniser_has_no_judge_of_its_world(folder: Path) -> None:
    with pytest.raises(NoJudgeError, match="has no recogniser") as caught:
        WORLD.judge(str(folder))
    assert "own" in (caught.value.where or "")


def test_its_recogniser_judges(folder: Path, tiny_base) -> None:
    with_recogniser(folder)
    judge = WORLD.judge(str(folder))
    images = torch.rand(2, 3, 64, 64)
    rows = judge.scores(
        "a kitten in a blue cup at night",
        [Subject("kitten", None)],
        images,
        ("category", "scene", "colour", "relation", "second", "obeyed", "identified"),
        base=lambda: tiny_base,
        recall=lambda _, make: make(),
    )
    assert [row.keys() for row in rows] == [
        {"category", "scene", "colour", "relation", "second", "obeyed"}
    ] * 2
    assert (judge.knows("Kitten"), judge.knows("teddy bear"), judge.knows("axolotl")) == (True, True, False)
    assert torch.equal(judge.features(images, "kitten"), judge.features(images, "cat"))


def test_an_individual_is_told_from_its_look_alikes_in_the_prompts_scene(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judgement, "LOOK_ALIKES", 3)
    monkeypatch.setattr(judgement, "PORTRAITS", 2)
    with_recogniser(folder)
    judge, base = WORLD.judge(str(folder)), Through(folder)
    kept: dict[str, torch.Tensor] = {}

    def recall(key, make):
        return kept[key] if key in kept else kept.setdefault(key, make())

    def ask(prompt):
        one, pictures = [Subject("shoe", "shoe")], WORLD.images("shoe")[:1]
        (row,) = judge.scores(prompt, one, pictures, ("identified",), base=lambda: base, recall=recall)
        return row

    assert ask("a shoe in the snow").keys() == {"identified"}
    assert ask("a blue shoe in the snow") == ask("a shoe next to a cat") == {}
    called_otherwise = [Subject("cat", "shoe")]  # a recipe may call its pictures as it likes
    assert judge.scores(
        "a cat in the snow", called_otherwise, WORLD.images("shoe")[:1], ("identified",),
        base=lambda: base, recall=recall,
    ) == [{}]  # fmt: skip
    (portraits,) = kept.values()
    assert portraits.shape[:2] == (3, 2)


def test_verdicts_ask_the_world_of_the_base(folder: Path) -> None:
    bounds, base = BaseBounds.read(folder), load_base(describe_base(str(folder)), "cpu")
    judge = judge_of(base, bounds, "cat")
    assert judge is not None
    assert judge.called == "its CLIP model"  # it has no recogniser yet
    with_recogniser(folder)
    judge = judge_of(base, bounds, "kitten")
    assert judge is not None
    assert judge.called == "the recogniser"
    assert judge.shows(torch.rand(4, 3, 64, 64), "mug") in (0, 0.25, 0.5, 0.75, 1)
    other = judge_of(base, bounds, "axolotl")
    assert other is not None
    assert other.called == "its CLIP model"
    few = replace(LABELS, nouns=LABELS.nouns[:3])
    Recogniser(few).save(
        folder / "recogniser.safetensors"
    )  # of another edition, which answers other questions
    with pytest.raises(NoJudgeError, match="another world"):
        WORLD.judge(str(folder))
    other = judge_of(base, bounds, "kitten")
    assert other is not None
    assert other.called == "its CLIP model"


def test_its_metrics_are_among_those_of_suites() -> None:
    assert set(METRICS) > set(WORLD.metrics) > set(world().metrics) - {"material"}


@pytest.mark.parametrize("name", ["storybook", WORLD_NAME])
def test_bounds_are_measured_by_sets_of_every_kind(name: str) -> None:
    drawn = drawn_world(name)
    assert isinstance(drawn, DrawnWorld)
    found = list(drawn.sets(3, 2))
    assert [word for word, _ in found] == list(drawn.kinds[:3])
    assert all(images.shape[:2] == (2, 3) for _, images in found)
    assert {word for thing in drawn.things for word in thing.replace("-", " ").split()} <= set(drawn.words)
