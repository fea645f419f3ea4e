"""Cards and artifacts of format 2: of a method that is here, and of one that is not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from perfusion_registry.artifact import (
    Artifact,
    Store,
    card_fields,
    load_artifact,
    read_card,
    save_artifact,
)
from perfusion_registry.artifact.format1 import Card1
from perfusion_registry.base import Base
from perfusion_registry.compose import Concept, compose, parse_prompt
from perfusion_registry.errors import PerfError
from tests.artifact.samples import artifact

CARD: dict[str, Any] = {
    "schema_version": 2,
    "requires_perf": "0.1.0",
    "name": "oak",
    "version": "1.0.0",
    "method": "deep",
    "family": "f" * 64,
    "base": "storybook",
    "imported": {"file": "oak.pt", "sha256": "a" * 64, "size": 3, "dialect": "forest"},
    "train": {"depth": 2, "steps": 9},
    "render": {"strength": 0.5},
    "built": {"step": 4},
    "verdict": {"sentence": "it grows", "told": {"passed": True, "value": 0.9}},
    "authors": ["A. N. Owner"],
}
ROOTS = {"roots": torch.ones(2, 3).half()}


def stored(card: dict[str, Any], tensors: dict[str, torch.Tensor]) -> bytes:
    return bytes(save(tensors, {"concept": json.dumps(card)}))


def card_text(data: bytes) -> str:
    length = int.from_bytes(data[:8], "little")
    text: str = json.loads(data[8 : 8 + length])["__metadata__"]["concept"]
    return text


def test_a_card_of_a_method_that_is_here_has_its_tables(site: Path) -> None:
    read = load_artifact(stored(CARD, ROOTS))
    assert read.card == read_card(stored(CARD, ROOTS))
    assert type(read.card.train).__name__ == "Options"
    assert (read.card.steps_kept, read.card.covariance, read.card.hindrance) == (4, None, None)
    again = load_artifact(save_artifact(read))
    assert again.card == read.card
    assert torch.equal(again.tensors["roots"], ROOTS["roots"])


@pytest.mark.parametrize(
    ("change", "tensors", "said"),
    [
        ({"train": {"depth": "2"}}, ROOTS, "wrong at `train`.*`depth`"),
        ({"render": {"bias": 0.5}}, ROOTS, "wrong at `render`.*`bias`"),
        ({"built": {}}, ROOTS, "wrong at `built`.*`step`"),
        ({"train": {"depth": 3}}, ROOTS, "not as deep"),
        ({}, {"roots": torch.ones(2, 3)}, r"float32, not torch\.float16"),
        ({}, {"roots": torch.ones(6).half()}, "two dimensions"),
        ({}, {**ROOTS, "embedding": torch.ones(3)}, "unknown tensor"),
        ({}, {"roots": torch.full((2, 3), torch.inf).half()}, "not finite"),
        ({"covariance": "c"}, ROOTS, "wrong at `covariance`"),
        ({"schema_version": 3}, ROOTS, "format 3"),
        ({"method": "Deep"}, ROOTS, "wrong at `method`"),
    ],
)
def test_what_the_method_does_not_know_is_refused(
    site: Path, change: dict[str, Any], tensors: dict[str, torch.Tensor], said: str
) -> None:
    with pytest.raises(PerfError, match=said):
        load_artifact(stored(CARD | change, tensors))


def test_a_concept_of_a_method_that_is_not_here_is_kept_and_not_drawn(
    tmp_path: Path, tiny_base: Base
) -> None:
    said = CARD | {"family": tiny_base.description.family}
    data = save_artifact(load_artifact(stored(said, ROOTS)))
    read = load_artifact(data)
    assert "no method `deep`" in (read.card.hindrance or "")
    assert save_artifact(read) == data
    fields = json.loads(card_text(data))
    assert {key: fields[key] for key in said} == said
    assert Store(tmp_path).put(data) == hashlib.sha256(data).hexdigest()
    with pytest.raises(
        PerfError, match="'oak' cannot be drawn here: this perf has no method `deep`"
    ) as caught:
        compose(parse_prompt("an oak*"), {"oak": Concept(read, "0" * 64)}, tiny_base)
    assert "^" in str(caught.value.where)
    with pytest.raises(PerfError, match="not finite"):
        load_artifact(stored(CARD, {"anything.at.all": torch.tensor([torch.nan])}))


def test_a_concept_that_needs_a_newer_perf_says_which(site: Path) -> None:
    card = CARD | {"requires_perf": "99.1", "train": {"depth": 2, "colour": "of later"}}
    read = load_artifact(stored(card, ROOTS))
    assert "needs perf 99.1" in (read.card.hindrance or "")
    assert json.loads(card_text(save_artifact(read)))["train"] == card["train"]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"vectors": 2}, "several tokens"), ({"word": "ohwx cat"}, "several tokens"), ({}, "a style")],
)
def test_what_a_later_perf_calls_otherwise_is_kept_and_not_called(
    site: Path, tiny_base: Base, change: dict[str, Any], said: str
) -> None:
    kind = {"supercategory": "tree"} if change else {}
    read = load_artifact(stored(CARD | change | kind | {"family": tiny_base.description.family}, ROOTS))
    assert load_artifact(save_artifact(read)).card == read.card
    with pytest.raises(PerfError, match=f"'oak' cannot be drawn here: .*{said}"):
        compose(parse_prompt("an oak*"), {"oak": Concept(read, "0" * 64)}, tiny_base)


def test_format_1_is_a_spelling_of_the_same_card() -> None:
    whole = artifact()
    data = save_artifact(whole)
    said = json.loads(card_text(data))
    assert said["schema_version"] == 1
    assert {"covariance", "steps_kept"} < said.keys()
    assert not {"method", "built", "architecture"} & said.keys()
    assert Card1.model_validate_json(card_text(data)) == card_fields(whole.card)
    newer = whole.card.model_copy(update={"schema_version": 2})
    second = save_artifact(Artifact(newer, whole.tensors))
    read = load_artifact(second)
    assert read.card.model_copy(update={"schema_version": 1}) == load_artifact(data).card
    assert load(second).keys() == load(data).keys()
    assert json.loads(card_text(second))["method"] == "perfusion"
