"""What a composition's concepts bring, each by its method, and the parts of Eq. 4 that this makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base
from perfusion_registry.compose.composition import ComposedConcept, Composition
from perfusion_registry.compose.merging import merged
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.contribution import Contribution, Targets
from perfusion_registry.methods.table import find_method


@torch.no_grad()
def contributions(
    base: Base, composition: Composition, artifacts: Mapping[str, Artifact]
) -> dict[str, Contribution]:
    """What each concept of a composition brings, by its name, in the composition's order.

    Raises PerfError when an artifact is another than the composition names, or does not fit the base.
    """
    brought = {}
    for concept in composition.concepts:
        artifact = _artifact(composition, artifacts, concept)
        brought[concept.name] = find_method(concept.method).contribution(
            base,
            artifact.tensors,
            concept.name,
            concept.supercategory or "",
            artifact.card.train,
            concept.render,
        )
        _check_vectors(concept, brought[concept.name])
    return merged(base, brought)


def anything_acts(base: Base, composition: Composition, artifacts: Mapping[str, Artifact]) -> bool:
    """Whether a composition has a concept that brings anything. Raises PerfError as `contributions` does."""
    return any(one.acts for one in contributions(base, composition, artifacts).values())


@torch.no_grad()
def targets(base: Base, composition: Composition, artifacts: Mapping[str, Artifact]) -> Targets:
    """Return the parts of Eq. 4 of a composition's concepts, on the bank's device, in fp32.

    Raises PerfError as `contributions` does.
    """
    return targets_of(base, contributions(base, composition, artifacts))


def targets_of(base: Base, brought: Mapping[str, Contribution]) -> Targets:
    """`targets` with what the concepts bring, as `contributions` gives it."""
    bank = base.bank
    by_name = {
        name: contribution.target for name, contribution in brought.items() if contribution.target is not None
    }
    every = by_name.values()
    return Targets(
        tuple(by_name),
        _stacked([contribution.i for contribution in every], bank.width, bank.device),
        _stacked([contribution.v for contribution in every], bank.width, bank.device),
        _stacked([contribution.o for contribution in every], bank.emitted_width, bank.device),
        bias=torch.tensor([contribution.bias for contribution in every], device=bank.device),
        temperature=torch.tensor([contribution.temperature for contribution in every], device=bank.device),
    )


def _stacked(vectors: Sequence[Tensor], width: int, device: torch.device) -> Tensor:
    """Vectors (width,) as rows, which may be none."""
    return torch.stack(list(vectors)) if vectors else torch.zeros(0, width, device=device)


def _check_vectors(concept: ComposedConcept, brought: Contribution) -> None:
    """Raise PerfError where a concept has other numbers of vectors than its calls have tokens for."""
    said = [(concept.vectors, brought.embeddings)] if brought.embeddings else []
    for number, one in enumerate(concept.learned):
        said.append((one.vectors, brought.words[number] if number < len(brought.words) else ()))
    for count, vectors in said:
        rows = {len(one) if one.ndim == 2 else 1 for one in vectors}
        if rows != {count}:
            raise PerfError(
                f"the artifact of {concept.name!r} has {rows.pop() if rows else 'no'} vectors, and its card "
                f"says {count}",
                hint="build the concept again, or fetch it again",
            )


def _artifact(
    composition: Composition, artifacts: Mapping[str, Artifact], concept: ComposedConcept
) -> Artifact:
    artifact = artifacts.get(concept.name)
    if artifact is None:
        raise PerfError(
            f"the artifact of {concept.name!r} is not at hand", hint=f"build it: `perf build {concept.name}`"
        )
    card = artifact.card
    fields = ("recipe_digest", "supercategory", "vectors")
    if any(getattr(card, field) != getattr(concept, field) for field in fields):
        raise PerfError(
            f"the artifact of {concept.name!r} is another build than the composition asks for",
            hint="write the composition anew with `perf compose`",
        )
    if card.covariance not in (None, composition.covariance):
        raise PerfError(
            f"{concept.name!r} was built with another covariance than the composition names",
            hint="write the composition anew with `perf compose`",
        )
    return artifact
