"""From a parsed prompt and the concepts at hand to a composition."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from perfusion_registry.base import ConceptPiece, Tokens
from perfusion_registry.compose.caret import under
from perfusion_registry.compose.composition import (
    COMPOSITION_SCHEMA,
    ComposedBase,
    ComposedConcept,
    Composition,
)
from perfusion_registry.compose.concept import Concept, unknown_concept
from perfusion_registry.compose.prompt import Call, Gate, Prompt, Text, unparse
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.options import DrawOptions, TrainOptions
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import DEFAULT_METHOD
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseIdentity

_STRAY = re.compile(r"\{\s*(?:bias|temperature|lock|residual|preset)\s*=[^{}]*\}")


@dataclass(frozen=True)
class GateSources:
    """What is said about gates outside the prompt, by concept name.

    command: the command line, per concept. command_all: the command line, for every concept. scene: the
    manifest's scene. A value in the prompt's braces goes before all of them; the concept's own default comes
    last.
    """

    command: Mapping[str, Gate] = field(default_factory=dict)
    command_all: Gate = field(default_factory=Gate)
    scene: Mapping[str, Gate] = field(default_factory=dict)

    def settle(self, name: str, braces: Gate, default: Gate) -> Gate:
        """Return the gate of concept `name`; each of its values comes from the first place that sets it.

        A preset sets the bias and temperature that its own place leaves open, for the lock that is settled.
        """
        places = (self.command.get(name, Gate()), self.command_all, self.scene.get(name, Gate()), default)
        gate = braces
        for place in places:
            gate = gate.over(place)
        return gate.settled()


def compose(
    prompt: Prompt,
    concepts: Mapping[str, Concept],
    base: Base,
    gates: GateSources | None = None,
    *,
    reporter: Reporter | None = None,
) -> Composition:
    """Resolve `prompt` to its composition with the concepts at hand, by name.

    Raises PerfError for an unknown concept, for one that fits another family than the base or another
    covariance than its partners, for gates that contradict each other, and when a concept does not fit into
    the prompt's tokens. Other words that do not fit are reported as a warning.
    """
    gates = gates or GateSources()
    settled = check(prompt, concepts, base.description, gates)
    called = [concepts[name] for name in prompt.names]
    _warn_of_stray_braces(prompt, reporter or Silent())
    tokens = tokenised(base, prompt, {c.name: _word(c) for c in called})
    if tokens.dropped:
        (reporter or Silent()).warn(
            f"the prompt is too long for the text encoder; these words are lost: {tokens.dropped.strip()}"
        )
    covariances = [one for c in called if (one := c.artifact.card.covariance) is not None]
    plain = all(c.artifact.card.method == DEFAULT_METHOD for c in called)
    return Composition(
        schema_version=1 if plain else COMPOSITION_SCHEMA,
        prompt=unparse(prompt.without_gates()),
        base=described(base),
        covariance=covariances[0] if covariances else None,
        concepts=tuple(_composed(prompt, concept, settled[concept.name], tokens) for concept in called),
    )


def check(
    prompt: Prompt, concepts: Mapping[str, Concept], base: BaseIdentity, gates: GateSources
) -> dict[str, FileModel]:
    """Return the options of every concept that `prompt` calls, as they apply. Needs no torch and no base.

    Raises PerfError for all that `compose` refuses before it counts tokens.
    """
    _check_known(prompt, concepts)
    called = [concepts[name] for name in prompt.names]
    _check_kin(prompt, called, base)
    check_used(gates, prompt.names)
    return {name: _settled(prompt, concepts[name], gates) for name in prompt.names}


def regated(composition: Composition, gates: GateSources) -> Composition:
    """Return the composition with the gates that the command line sets; it has left its scene behind.

    Raises PerfError when a gate is set for a concept that the composition does not have.
    """
    check_used(gates, [concept.name for concept in composition.concepts])
    changed = []
    for concept in composition.concepts:
        own, now = gates.command.get(concept.name, Gate()), concept.gate
        if now is None:
            if own != Gate():
                raise _no_gate(concept.name, concept.method, None)
            changed.append(concept)
            continue
        if now.residual is None and own.residual is not None:
            raise _no_residual(concept.name, None)
        was = Gate(now.bias, now.temperature, now.key_lock, now.residual)
        gate = own.over(gates.command_all).over(was).settled()
        render = draw_options(gate if now.residual is not None else replace(gate, residual=None))
        changed.append(concept.model_copy(update={"render": render}))
    return composition.model_copy(update={"concepts": tuple(changed)})


def tokenised(
    base: Base, prompt: Prompt, supercategories: Mapping[str, str], spelled: Collection[str] = ()
) -> Tokens:
    """Tokenise a prompt with each call as one token; `concept_positions` follow its calls.

    spelled: the concepts that are written as all tokens of their supercategories instead.
    """
    pieces: Sequence[str | ConceptPiece] = [
        piece.text
        if isinstance(piece, Text)
        else ConceptPiece(supercategories[piece.name], piece.name in spelled)
        for piece in prompt.pieces
    ]
    return base.tokenise(pieces)


def described(base: Base) -> ComposedBase:
    """What a composition says of its base."""
    description = base.description
    return ComposedBase(
        repo=description.repo,
        revision=description.revision,
        digest=description.digest,
        family=description.family,
    )


def check_used(gates: GateSources, called: Sequence[str]) -> None:
    """Check that the command line sets no gate of a concept that is not called."""
    unused = [name for name in gates.command if name not in called]
    if unused:
        raise PerfError(
            f"a gate is set for {unused[0]!r}, which the prompt does not call",
            hint=f"the prompt calls {', '.join(called) or 'no concept'}",
        )


def _warn_of_stray_braces(prompt: Prompt, reporter: Reporter) -> None:
    """Say that braces which look like a gate are read as words, because they do not follow a star."""
    for piece in prompt.pieces:
        found = _STRAY.search(piece.text) if isinstance(piece, Text) else None
        if found:
            reporter.warn(
                f"{found[0]} is read as words: the braces of a gate follow the star, teddy*{found[0]}"
            )


def _check_known(prompt: Prompt, concepts: Mapping[str, Concept]) -> None:
    for call in prompt.calls:
        if call.name not in concepts:
            raise unknown_concept(prompt, call, sorted(concepts))
        hindrance = concepts[call.name].artifact.card.hindrance
        if hindrance is not None:
            raise PerfError(
                f"{call.name!r} cannot be drawn here: {hindrance}",
                where=under(prompt.source, call.span),
                hint="upgrade perf (`pip install -U perfusion-registry`), or install what brings the method",
            )


def _check_kin(prompt: Prompt, called: Sequence[Concept], base: BaseIdentity) -> None:
    """Check that all concepts fit the base's family and share one covariance."""
    for concept in called:
        card = concept.artifact.card
        where = under(prompt.source, _first_call(prompt, concept.name).span)
        if card.family != base.family:
            raise PerfError(
                f"{card.name!r} was built for {card.base} (family {card.family[:12]}), and this base, "
                f"{base.repo}, is of another family ({base.family[:12]})",
                where=where,
                hint=f"build it for this base: `perf build {card.name}`",
            )
        first = next((c.artifact.card for c in called if c.artifact.card.covariance), card)
        if card.covariance is not None and card.covariance != first.covariance:
            raise PerfError(
                f"{card.name!r} and {first.name!r} were built with different covariances "
                f"({_short(card.covariance)} and {_short(first.covariance)}): they share no metric",
                where=where,
                hint=f"build both with one covariance: `perf build {first.name} {card.name}`",
            )


def _settled(prompt: Prompt, concept: Concept, gates: GateSources) -> FileModel:
    """The options of a concept as they apply; without a residual where none was learned."""
    card = concept.artifact.card
    braces = _braces(prompt, card.name)
    if find_method(card.method).draw_model is not DrawOptions:
        if {braces, gates.command.get(card.name, Gate()), gates.scene.get(card.name, Gate())} != {Gate()}:
            where = under(prompt.source, _first_call(prompt, card.name).span)
            raise _no_gate(card.name, card.method, where)
        return find_method(card.method).draw_model.model_validate(card.render.model_dump())
    gate = gates.settle(card.name, braces, concept.default_gate)
    train = TrainOptions.of(card.train)
    if gate.key_lock == "none" and not train.trained_keys:
        raise PerfError(
            f"the lock of {card.name!r} is none, but no keys were trained for it",
            where=under(prompt.source, _first_call(prompt, card.name).span),
            hint="use lock=local or lock=global, or build it with trained_keys = true in its recipe",
        )
    has_residual = train.residual_rank > 0
    named = (braces.residual, gates.command.get(card.name, Gate()).residual)
    if not has_residual and named != (None, None):
        raise _no_residual(card.name, under(prompt.source, _first_call(prompt, card.name).span))
    return draw_options(gate if has_residual else replace(gate, residual=None))


def draw_options(gate: Gate) -> DrawOptions:
    """A settled gate, which is complete, as the options that apply."""
    assert gate.bias is not None
    assert gate.temperature is not None
    assert gate.key_lock is not None
    return DrawOptions(
        bias=gate.bias, temperature=gate.temperature, key_lock=gate.key_lock, residual=gate.residual
    )


def _composed(prompt: Prompt, concept: Concept, render: FileModel, tokens: Tokens) -> ComposedConcept:
    card = concept.artifact.card
    return ComposedConcept(
        name=card.name,
        version=card.version,
        method=card.method,
        sha256=concept.sha256,
        recipe_digest=card.recipe_digest,
        supercategory=_word(concept),
        positions=tuple(
            position
            for call, position in zip(prompt.calls, tokens.concept_positions, strict=True)
            if call.name == card.name
        ),
        render=render,
    )


def _word(concept: Concept) -> str:
    """The supercategory of a concept."""
    word = concept.artifact.card.supercategory
    assert word is not None
    return word


def _short(digest: str | None) -> str:
    return (digest or "none")[:12]


def _no_gate(name: str, method: str, where: str | None) -> PerfError:
    return PerfError(
        f"a gate is set for {name!r}, and a concept of the method `{method}` has none",
        where=where,
        hint="leave it out",
    )


def _no_residual(name: str, where: str | None) -> PerfError:
    return PerfError(
        f"a strength is set for the residual of {name!r}, but none was learned for it",
        where=where,
        hint="leave it out, or build the concept with residual_rank = 0.05 under [train] in its recipe",
    )


def _braces(prompt: Prompt, name: str) -> Gate:
    """Return the gate that the braces of all calls of one concept set: Eq. 4 has one per concept."""
    gate = Gate()
    for call in prompt.calls:
        if call.name != name:
            continue
        for key in ("bias", "temperature", "key_lock", "residual", "preset"):
            before, now = getattr(gate, key), getattr(call.gate, key)
            if None not in (before, now) and before != now:
                raise PerfError(
                    f"{name!r} is called with two values of {key.replace('key_', '')}, {before} and {now}",
                    where=under(prompt.source, call.span),
                    hint="a concept has one gate in a prompt; set it at one of its calls",
                )
        gate = gate.beside(call.gate)
    return gate


def _first_call(prompt: Prompt, name: str) -> Call:
    return next(call for call in prompt.calls if call.name == name)
