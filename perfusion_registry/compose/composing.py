"""From a parsed prompt and the concepts at hand to a composition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
from perfusion_registry.compose.pieces import Call, Prompt, Text
from perfusion_registry.compose.prompt import braces, reads_as_before, unparse
from perfusion_registry.compose.tokenising import positions_of, said_as, tokenised, warn_of_lost
from perfusion_registry.errors import PerfError, at
from perfusion_registry.methods.settings import Setting, Settings, Value
from perfusion_registry.methods.table import check_general, find_method, find_setting
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import canonical_name
from perfusion_registry.recipe.recipe import DEFAULT_METHOD
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseIdentity


@dataclass(frozen=True)
class SettingSources:
    """What is set outside the prompt, by concept name.

    command: the command line, per concept. command_all: the command line, for every concept that has such a
    setting. scene: the scene `scene_name`. A value in the prompt's braces goes before all of them; the
    concept's own default comes last.
    """

    command: Mapping[str, Settings] = field(default_factory=dict)
    command_all: Settings = field(default_factory=dict)
    scene: Mapping[str, Settings] = field(default_factory=dict)
    scene_name: str = ""

    @classmethod
    def read(cls, said: Mapping[Setting, Iterable[str]]) -> SettingSources:
        """What a command line says of settings, each text `VALUE` for every concept or `NAME=VALUE` for one.

        Raises PerfError, whose place is the option, for what is no value of a setting and no name.
        """
        command: dict[str, dict[str, Value]] = {}
        command_all: dict[str, Value] = {}
        for setting, texts in said.items():
            for text in texts:
                name, equals, value = text.rpartition("=")
                with at(f"--{setting.option} {text}"):
                    read = {setting.field: setting.read(value.strip())}
                    folded = canonical_name(name.strip().lower().removesuffix("*")) if equals else None
                (command_all if folded is None else command.setdefault(folded, {})).update(read)
        return cls(command, command_all)


def compose(
    prompt: Prompt,
    concepts: Mapping[str, Concept],
    base: Base,
    gates: SettingSources | None = None,
    *,
    reporter: Reporter | None = None,
) -> Composition:
    """Resolve `prompt` to its composition with the concepts at hand, by name.

    Raises PerfError for an unknown concept, for one that fits another family than the base or another
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
    unknown = base.unknown_words([piece.text for piece in prompt.pieces if isinstance(piece, Text)])
    if unknown:
        reporter.warn(
            f"the base {base.description.repo} has never seen {', '.join(unknown)}: "
            "it draws nothing of it, or something else"
        )
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


def check(
    prompt: Prompt, concepts: Mapping[str, Concept], base: BaseIdentity, gates: SettingSources
) -> dict[str, FileModel]:
    """Return the options of every concept that `prompt` calls, as they apply. Needs no torch and no base.

    Raises PerfError for all that `compose` refuses before it counts tokens.
    """
    _check_known(prompt, concepts)
    called = [concepts[name] for name in prompt.names]
    _check_kin(prompt, called, base)
    check_used(gates, prompt.names)
    settled = {name: _settled(prompt, concepts[name], gates) for name in prompt.names}
    settled = _among(prompt, called, settled)
    _check_taken(gates.command_all, {name: concepts[name].artifact.card.method for name in settled}, settled)
    return settled


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
        with at(under(prompt.source, _first_call(prompt, name).span)):
            named = method.checked(gates.command.get(name, {}), name)
            every = method.applicable(gates.command_all, name)
            render = method.set_options(name, concept.render, [named], [every])
            mistake = method.style_mistake(name, render) if concept.supercategory is None else None
            if mistake is not None:
                raise mistake
        changed.append(concept.model_copy(update={"render": render}))
    _check_taken(
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


def check_used(gates: SettingSources, called: Sequence[str]) -> None:
    """Check that the command line sets nothing of a concept that is not called, and nothing that cannot be
    set for any concept.
    """
    check_general(gates.command_all)
    unused = [name for name in gates.command if name not in called]
    if unused:
        raise PerfError(
            f"{', '.join(gates.command[unused[0]]) or 'nothing'} is set for {unused[0]!r}, "
            "which the prompt does not call",
            hint=f"the prompt calls {', '.join(called) or 'no concept'}",
        )


def _check_taken(general: Settings, methods: Mapping[str, str], settled: Mapping[str, FileModel]) -> None:
    """Check that each thing that the command line sets for all concepts is set for one of them at least.

    methods, settled: of the concepts that are called, by name. One that is set, and that the options of a
    concept do not have in the end, did nothing, as the strength of a residual that was not learned.
    """
    for called in general:
        for name, options in settled.items():
            if find_method(methods[name]).has_setting(options, called):
                break
        else:
            key = find_setting(called).key
            raise PerfError(
                f"no concept that the prompt calls has a {key}",
                where=f"--{key}",
                hint="leave it out, or call a concept that has one",
            )


def _check_known(prompt: Prompt, concepts: Mapping[str, Concept]) -> None:
    for call in prompt.calls:
        if call.name not in concepts:
            raise unknown_concept(prompt, call, sorted(concepts))
        hindrance = concepts[call.name].artifact.card.call_hindrance
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
                hint=f"`perf build {card.name} --for {base.repo}` transfers it to this base, "
                f"`perf build {card.name}` learns it there",
            )
        first = next((c.artifact.card for c in called if c.artifact.card.covariance), card)
        if card.covariance is not None and card.covariance != first.covariance:
            raise PerfError(
                f"{card.name!r} and {first.name!r} were built with different covariances "
                f"({_short(card.covariance)} and {_short(first.covariance)}): they share no metric",
                where=where,
                hint=f"build both with one covariance: `perf build {first.name} {card.name}`",
            )


def _settled(prompt: Prompt, concept: Concept, sources: SettingSources) -> FileModel:
    """The options of a concept as they apply."""
    card = concept.artifact.card
    method, name = find_method(card.method), card.name
    inside = braces(prompt, name, method)
    with at(f"the scene `{sources.scene_name}`, gates.{name}"):
        scene = method.checked(sources.scene.get(name, {}), name)
    with at(under(prompt.source, _first_call(prompt, name).span)):
        named = method.checked(sources.command.get(name, {}), name)
        own = method.own_options(card.train, card.render, concept.locked)
        every = method.applicable(sources.command_all, name)
        options = method.set_options(name, own, [inside, named], [every, scene])
        mistake = method.options_mistake(name, card.train, options)
        if mistake is not None:
            raise mistake
    return options


def _among(
    prompt: Prompt, called: Sequence[Concept], settled: Mapping[str, FileModel]
) -> dict[str, FileModel]:
    """The options of concepts as they apply in each other's company: styles are none."""
    cards = {concept.name: concept.artifact.card for concept in called}
    things = [name for name, card in cards.items() if card.supercategory is not None]
    chosen = {}
    for name, card in cards.items():
        method, style = find_method(card.method), card.supercategory is None
        draw = method.among(settled[name], style=style, others=len(set(things) - {name}))
        mistake = method.style_mistake(name, draw) if style else None
        if mistake is not None:
            with at(under(prompt.source, _first_call(prompt, name).span)):
                raise mistake
        chosen[name] = draw
    return chosen


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
        positions=positions_of(card.name, prompt, tokens),
        render=render,
    )


def _said(concept: Concept, draw: FileModel) -> ConceptPiece:
    """What the calls of a concept become with these options."""
    card = concept.artifact.card
    words = find_method(card.method).words(card.word, card.supercategory, draw)
    if words is not None:
        return ConceptPiece(words, spelled=True)
    assert card.supercategory is not None
    return ConceptPiece(card.supercategory)


def _short(digest: str | None) -> str:
    return (digest or "none")[:12]


def _first_call(prompt: Prompt, name: str) -> Call:
    return next(call for call in prompt.calls if call.name == name)
