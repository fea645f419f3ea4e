"""Budgets: how far a suite is shrunk, honestly, so that results say what they leave out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import Field

from perfusion_registry.evaluate.suite import SuiteConcept
from perfusion_registry.recipe.model import FileModel

Limit = Annotated[int, Field(ge=1)] | None
_Unsaid = Annotated[Limit, Field(exclude_if=lambda limit: limit is None)]
Item = TypeVar("Item")


class Budget(FileModel):
    """At most so many concepts (or pairs of them) in a figure, prompts in a group, pictures of a prompt,
    denoising steps of a picture, training steps of a concept, trainings of a concept, and settings that a
    search tries; None means all. methods: by which alone concepts are learned; none means all."""

    concepts: Limit = None
    prompts: Limit = None
    seeds: Limit = None
    steps: Limit = None
    train_steps: Limit = None
    trainings: _Unsaid = None
    settings: _Unsaid = None
    methods: Annotated[tuple[str, ...], Field(exclude_if=lambda names: not names)] = ()

    @classmethod
    def within(
        cls,
        concepts: int | None,
        prompts: int | None,
        seeds: int | None,
        steps: int | None,
        train_steps: int | None,
        trainings: int | None,
        settings: int | None,
        methods: Sequence[str],
    ) -> Budget:
        """The limits in their order."""
        return cls(
            concepts=concepts,
            prompts=prompts,
            seeds=seeds,
            steps=steps,
            train_steps=train_steps,
            trainings=trainings,
            settings=settings,
            methods=tuple(methods),
        )


def spread(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """At most `limit` of the items, the first among them, evenly spread."""
    if limit is None or limit >= len(items):
        return tuple(items)
    return tuple(items[number * len(items) // limit] for number in range(limit))


def by_turns(concepts: Sequence[SuiteConcept], limit: int | None) -> tuple[SuiteConcept, ...]:
    """At most `limit` concepts: the first of every group, then the second of every group, and so on."""
    if limit is None or limit >= len(concepts):
        return tuple(concepts)
    rank = {}
    seen: dict[str, int] = {}
    for place, concept in enumerate(concepts):
        rank[concept.name] = (seen.get(concept.group, 0), place)
        seen[concept.group] = seen.get(concept.group, 0) + 1
    chosen = {concept.name for concept in sorted(concepts, key=lambda c: rank[c.name])[:limit]}
    return tuple(concept for concept in concepts if concept.name in chosen)
