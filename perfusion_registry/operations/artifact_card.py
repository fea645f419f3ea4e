"""A concept's artifact with the card of its recipe, as the bytes that are stored.

An earlier perf wrote other cards of the same tensors: where the lockfile pins the bytes of one, these are
written again.
"""

from __future__ import annotations

import hashlib

from perfusion_registry.artifact import Artifact, save_artifact
from perfusion_registry.artifact.card import as_before, before_shows, before_verdicts, with_chosen
from perfusion_registry.recipe import LockedConcept
from perfusion_registry.resolve import BuildTask


def with_card(task: BuildTask, artifact: Artifact, base_licence: str | None) -> Artifact:
    """The artifact with the card of the task's recipe, and with what training found out."""
    concept, verdict = task.recipe.concept, artifact.card.verdict
    fields = {
        "name": concept.name,
        "version": concept.version,
        "recipe_digest": task.digest,
        "render": task.render,
        "licence": concept.licence,
        "base_licence": base_licence,
        "authors": concept.authors,
        "consent": concept.consent,
        "description": concept.description,
    }
    if task.imported is not None:
        from perfusion_registry.build.importing import words_of

        fields |= words_of(task.recipe)
    older = artifact.format_1
    chosen = {
        "render": with_chosen(artifact.card, task.render, task.left_to_build),
        "verdict": verdict and verdict.renamed(artifact.card.name, concept.name),
    }
    return Artifact(
        artifact.card.model_copy(update=fields | chosen),
        artifact.tensors,
        older and Artifact(older.card.model_copy(update=fields), older.tensors),
    )


def written(
    task: BuildTask, artifact: Artifact, locked: LockedConcept | None, format_1: bool | None
) -> tuple[Artifact, bytes]:
    """The artifact in the format that it is to have, and its bytes: those that are locked, where an earlier
    perf has written these. format_1: as in `ConceptBuilder.build`."""
    older = artifact.format_1
    if older is not None and format_1:
        return older, save_artifact(older)
    if locked is not None and locked.sha256 is not None:
        unjudged = before_verdicts(artifact.card, task.render)
        cards = before_shows(artifact.card), unjudged, as_before(unjudged)
        less = [Artifact(card, artifact.tensors, older) for card in cards]
        for known in (older if format_1 is None else None, *less):
            data = save_artifact(known) if known is not None else b""
            if known is not None and locked.sha256 == hashlib.sha256(data).hexdigest():
                return known, data
    return artifact, save_artifact(artifact)
