"""From a parsed prompt and the concepts at hand to a composition."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from perfusion_registry.base import ConceptPiece, Tokens
from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.compose.caret import under
from perfusion_registry.compose.checking import SettingSources, check, check_taken, check_used, first_call
from perfusion_registry.compose.composition import (
    COMPOSITION_SCHEMA,
    ComposedBase,
    ComposedConcept,
    Composition,
)
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.habits import habits, untold
from perfusion_registry.compose.pieces import Prompt
from perfusion_registry.compose.prompt import reads_as_before, unparse
from perfusion_registry.compose.tokenising import positions_of, said_as, tokenised, warn_of_lost
from perfusion_registry.errors import at
from perfusion_registry.methods.interface import LearnedWord
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import DEFAULT_METHOD
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.suggestions import closest, listed

if TYPE_CHECKING:
    from perfusion_registry.base import Base

_MISSPELT = 0.82
"""Of a word's letters, the share by which it is taken for another one misspelt: a bunny is not sunny."""


def compose(
    prompt: Prompt,
    concepts: Mapping[str, Concept],
    base: Base,
    gates: SettingSources | None = None,
    *,
    known: Collection[str] | None = None,
    reporter: Reporter | None = None,
) -> Composition:
    """Resolve `prompt` to its composition with the concepts at hand, by name.

    known: the names that the prompt might have called, with which other tools' habits are told; None tells
    none. Raises PerfError for an unknown concept, for one that fits another family than the base or another
    covariance than its partners, for gates that contradict each other, and when a concept does not fit into
    the prompt's tokens. Other words that do not fit are reported as a warning.
    """
    gates = gates or SettingSources()
    settled = check(prompt, concepts, base.description, gates)
    called = [concepts[name] for name in prompt.names]
    said = {c.name: _said(c, settled[c.name]) for c in called}
    tokens = tokenised(base, prompt, said)
    reporter = reporter or Silent()
    warn_of_lost(tokens, "prompt", reporter)
    if prompt.broken and not base.reads_in_chunks:
        reporter.warn("BREAK is nothing to this base, which reads a prompt at once")
    strange = [said[c.name].read for c in called if said[c.name].spelled and c.artifact.card.imported]
    if unknown := base.unknown_words([*untold(prompt), *strange]):
        reporter.warn(
            f"the base {base.description.repo} has never seen {', '.join(unknown)}: "
            f"it draws nothing of it, or something else{_nearest(base, unknown)}"
        )
    for habit in habits(prompt, known) if known is not None else ():
        reporter.warn(habit)
    covariances = [covariance for c in called if (covariance := c.artifact.card.covariance) is not None]
    composed = tuple(
        _composed(prompt, concept, settled[concept.name], said[concept.name], tokens) for concept in called
    )
    return Composition(
        schema_version=_schema(base, prompt, called, composed, tokens),
        prompt=unparse(prompt.without_options()),
        base=described(base),
        covariance=covariances[0] if covariances else None,
        concepts=composed,
    )


def warn_of_negative(base: Base, negative: Prompt, reporter: Reporter) -> None:
    """Say which words of a negative prompt its text encoder loses or has never seen."""
    warn_of_lost(tokenised(base, negative, {}), "negative prompt", reporter)
    if unknown := base.unknown_words(untold(negative)):
        reporter.warn(
            f"the base {base.description.repo} has never seen {', '.join(unknown)}: "
            "in the negative prompt it keeps nothing away, or something else"
        )


def _nearest(base: Base, unknown: Sequence[str]) -> str:
    """What a base of few words draws that comes nearest to words which it has never seen."""
    bounds = BaseBounds.of(base.description)
    known = [*bounds.things, *bounds.words]
    if alike := dict.fromkeys(near for word in unknown for near in closest(word, known, least=_MISSPELT)):
        return f"; spelt alike, it knows {listed([*alike])}"
    return f"; it draws {listed(bounds.things)}" if bounds.things else ""


def regated(composition: Composition, gates: SettingSources) -> Composition:
    """Return the composition with what the command line sets; it has left its scene behind.

    Raises PerfError for a concept that the composition does not have, and, with a caret under the concept's
    call, for what cannot be set for it.
    """
    check_used(gates, [concept.name for concept in composition.concepts])
    prompt = composition.parsed
    changed = []
    for concept in composition.concepts:
        method, name = find_method(concept.method), concept.name
        with at(under(prompt.source, first_call(prompt, name).span)):
            named = method.checked(gates.command.get(name, {}), name)
            every = method.applicable(gates.command_all, name)
            render = method.set_options(name, concept.render, [named], [every])
            mistake = method.style_mistake(name, render) if concept.supercategory is None else None
            if mistake is not None:
                raise mistake
        changed.append(concept.model_copy(update={"render": render}))
    check_taken(
        gates.command_all,
        {concept.name: concept.method for concept in changed},
        {concept.name: concept.render for concept in changed},
    )
    return composition.model_copy(update={"concepts": tuple(changed)})


def _schema(
    base: Base, prompt: Prompt, called: Sequence[Concept], composed: Sequence[ComposedConcept], tokens: Tokens
) -> int:
    """The lowest format that says all of a composition: an older perf reads what it can draw.

    A global lock reads the prompt with the supercategories spelled out, which may need another chunk.
    """
    if tokens.chunks > 1 or not reads_as_before(prompt.without_options()):
        return COMPOSITION_SCHEMA
    if base.reads_in_chunks and called:
        spelled = {one.name: said_as(one, spelled=True) for one in composed}
        if tokenised(base, prompt, spelled).chunks > 1:
            return COMPOSITION_SCHEMA
    return 1 if all(concept.artifact.card.method == DEFAULT_METHOD for concept in called) else 2


def described(base: Base) -> ComposedBase:
    """What a composition says of its base."""
    description = base.description
    return ComposedBase(
        repo=description.repo,
        revision=description.revision,
        digest=description.digest,
        family=description.family,
    )


def _composed(
    prompt: Prompt, concept: Concept, render: FileModel, said: ConceptPiece, tokens: Tokens
) -> ComposedConcept:
    card = concept.artifact.card
    return ComposedConcept(
        name=card.name,
        version=card.version,
        method=card.method,
        sha256=concept.sha256,
        recipe_digest=card.recipe_digest,
        supercategory=card.supercategory,
        word=said.word if said.spelled else None,
        vectors=said.vectors,
        learned=tuple(LearnedWord(word=word, vectors=vectors) for word, vectors in said.learned),
        positions=positions_of(card.name, prompt, tokens),
        render=render,
    )


def _said(concept: Concept, draw: FileModel) -> ConceptPiece:
    """What the calls of a concept become with these options."""
    card = concept.artifact.card
    method = find_method(card.method)
    words = method.words(card.word, card.supercategory, draw)
    if words is not None:
        learned = method.learned_words(card.train, card.built, draw)
        return ConceptPiece(words, True, learned=tuple((one.word, one.vectors) for one in learned))
    return ConceptPiece(card.supercategory or "", vectors=card.vectors)
