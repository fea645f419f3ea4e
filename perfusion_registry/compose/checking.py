"""What applies to the concepts that a prompt calls, checked: which they are, and the options of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perfusion_registry.base.embedded import another_edition
from perfusion_registry.base.reference import EMBEDDED
from perfusion_registry.compose.caret import under
from perfusion_registry.compose.concept import Concept, unknown_concept
from perfusion_registry.compose.pieces import Call, Prompt
from perfusion_registry.compose.prompt import braces
from perfusion_registry.errors import PerfError, at
from perfusion_registry.methods.settings import Setting, Settings, Value
from perfusion_registry.methods.table import check_general, find_method, find_setting
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import canonical_name

if TYPE_CHECKING:
    from perfusion_registry.base import BaseIdentity


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
    check_taken(gates.command_all, {name: concepts[name].artifact.card.method for name in settled}, settled)
    return settled


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


def check_taken(general: Settings, methods: Mapping[str, str], settled: Mapping[str, FileModel]) -> None:
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
        where = under(prompt.source, first_call(prompt, concept.name).span)
        if card.family != base.family:
            edition = another_edition(card.family) if card.base == base.repo == EMBEDDED else None
            if edition is not None:
                raise PerfError(
                    f"{card.name!r} was learned on {edition.wanted}, and {edition.here}",
                    where=where,
                    hint=f"`perf build {card.name}` learns it on this one; {edition.hint} brings that one",
                )
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
    with at(under(prompt.source, first_call(prompt, name).span)):
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
            with at(under(prompt.source, first_call(prompt, name).span)):
                raise mistake
        chosen[name] = draw
    return chosen


def first_call(prompt: Prompt, name: str) -> Call:
    """Where a prompt first calls a concept that it calls."""
    return next(call for call in prompt.calls if call.name == name)


def _short(digest: str | None) -> str:
    return (digest or "none")[:12]
