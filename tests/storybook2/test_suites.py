"""The suites of the second Storybook: its cast, the paper's prompts by number, in words of the world."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

import perfusion_registry.storybook2 as storybook2
from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.base.card import BaseCard
from perfusion_registry.evaluate.plan import filled
from perfusion_registry.evaluate.suite import Suite, read_suite
from perfusion_registry.storybook2.beside import captions, write_beside
from perfusion_registry.storybook2.cast import CAST
from perfusion_registry.storybook2.judging import WORLD
from perfusion_registry.storybook2.reading import asked
from perfusion_registry.storybook2.vocabulary import caption_words, thing_words

FOLDER = Path(storybook2.__file__).parent
SUITES = {path.stem: read_suite(path) for path in sorted((FOLDER / "suites").glob("*.toml"))}
TOKENS = 48


def prompts(suite: Suite) -> list[tuple[str, tuple[str, ...]]]:
    """Every prompt with plain words, and its subjects' nouns."""
    nouns = {concept.name: CAST[str(concept.cast)].noun for concept in suite.concepts}
    found = []
    for group in suite.prompts:
        subjects = group.pairs or tuple(
            (concept.name,)
            for concept in suite.concepts
            if not group.for_groups or concept.group in group.for_groups
        )
        for names in subjects:
            words = tuple(nouns[name] for name in names)
            found += [(filled(template, words), words) for template in group.templates]
    return found


def test_the_paper_has_eleven_concepts_and_86_prompts_of_which_19_are_for_all() -> None:
    suite = SUITES["paper"]
    assert [concept.cast for concept in suite.concepts] == list(CAST)
    groups = {group.name: len(group.templates) for group in suite.prompts}
    of_the_paper = ("shape-preserving", "animated", "containers", "furniture", "wearables")
    assert groups["shape-preserving"] == 19
    assert sum(groups[name] for name in of_the_paper) == 86
    assert {figure.id for figure in suite.figures if figure.trainings == 3} == {
        "2",
        "5",
        "6",
        "7",
        "9b",
        "10",
    }


@pytest.mark.parametrize("name", SUITES)
def test_its_metrics_are_the_worlds_or_anybodys(name: str) -> None:
    of_pictures = {"image", "text", "text_normalised", "harmonic", "dino", "leakage"}
    used = {metric for figure in SUITES[name].figures for metric in figure.metrics}
    assert used <= of_pictures | set(WORLD.metrics)


@pytest.mark.parametrize("name", SUITES)
def test_the_judge_understands_every_prompt(name: str) -> None:
    """The subjects are read, and no prompt of a group that asks for more is read as asking for nothing."""
    silent: Counter[str] = Counter()
    for prompt, subjects in prompts(SUITES[name]):
        read = asked(prompt)
        assert set(subjects) <= set(read.nouns), prompt
        more = {noun for noun in read.nouns if noun not in subjects}
        told = (read.place, read.light, read.weather, read.hand, read.relation)
        things = [(t.colour, t.pattern, t.worn) for t in read.things]
        if not more and all(value is None for value in told) and not any(map(any, things)):
            silent[prompt] += 1
    assert all(set(text.split()) & {"photo", "image"} for text in silent), silent


def test_the_papers_prompts_say_the_words_of_captions() -> None:
    known = {*caption_words(), *(word for told in thing_words().values() for word in told)}
    for prompt, _ in prompts(SUITES["paper"]):
        assert known.issuperset(prompt.lower().split()), prompt


def test_prompts_fit_into_the_text_encoder() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
    texts = [prompt for suite in SUITES.values() for prompt, _ in prompts(suite)]
    assert max(len(ids) for ids in tokenizer(texts).input_ids) <= TOKENS


def test_everyday_wordings_are_those_that_were_written_before() -> None:
    """Without the subject, most are lines of `everyday.txt`."""
    written = files(storybook2).joinpath("everyday.txt").read_text(encoding="utf-8")
    company = SUITES["everyday"].prompts[0].templates
    ends = [template.partition("{}")[2].strip(" ,?") for template in company]
    assert sum(end in written for end in ends) > 0.8 * len(ends)


def test_a_folder_gets_its_card_and_its_words(tmp_path: Path) -> None:
    write_beside(tmp_path)
    card, bounds = BaseCard.read(tmp_path), BaseBounds.read(tmp_path)
    assert (card.render["width"], card.render["height"]) == (256, 256)
    assert bounds.words == caption_words()
    said = " ".join((*card.train["templates"], *card.train["validation_prompts"])).replace("{}", "")
    assert set(said.split()) <= set(bounds.words)
    (tmp_path / "perf-bounds.toml").write_text("shows = 0.75\n", encoding="utf-8")
    write_beside(tmp_path)
    assert BaseBounds.read(tmp_path).shows == 0.75
    some = captions()
    assert len({next(some) for _ in range(20)}) > 15
