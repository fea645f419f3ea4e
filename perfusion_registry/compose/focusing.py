"""What concepts add to the denoiser, and which tokens of a prompt stand for which of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry import edit
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Adaptation, Base, Conditioning, Factors, Form, Mask, Thin, marked
from perfusion_registry.base.readers import Reader
from perfusion_registry.compose.adapting import adaptation, has_region
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.contributing import contributions, targets_of
from perfusion_registry.compose.encoding import encodings_of, tokens_of
from perfusion_registry.compose.packing import edited
from perfusion_registry.compose.pieces import Prompt
from perfusion_registry.compose.tokenising import positions_of
from perfusion_registry.methods.contribution import Contribution


@dataclass(frozen=True, eq=False)
class FirstPhase:
    """The prompts by which regions are found, in which what has regions is its supercategory.

    names: of what has regions. edited: edits prompts so, (B, n', ...) in a form. focus: (n', J + M), as a
    composition's own has it.
    """

    names: tuple[str, ...]
    edited: Callable[[Sequence[Prompt], Form], Conditioning]
    focus: Tensor


@dataclass(frozen=True, eq=False)
class ComposedResiduals:
    """The residuals that a composition draws with.

    factors: of J concepts, on the base's device, their strengths in B. masks: where each applies. focus:
    (n, J + M), ones at the tokens that call each concept, and each of M concepts whose regions are to be
    found. adaptation: what adapters do to the denoiser. first: where there are regions.
    """

    factors: list[Factors]
    masks: list[Mask]
    focus: Tensor
    adaptation: Adaptation | None = None
    first: FirstPhase | None = None

    def attached(
        self,
        base: Base,
        beside: Sequence[Reader] = (),
        within: AbstractContextManager[Any] | None = None,
        thin: Thin | None = None,
    ) -> AbstractContextManager[None]:
        """The context in which the base draws the composition; see `Base.attached`."""
        return base.attached(
            self.factors,
            masks=self.masks,
            adaptation=self.adaptation,
            beside=beside,
            within=within,
            thin=thin,
        )

    def marked(self, packed: Conditioning, prompts: Sequence[Prompt]) -> tuple[Conditioning, Conditioning]:
        """The composition's prompt and the others of `prompts`, which `packed` has in their order, with marks
        of where residuals apply: none in the others, such as the unwanted branch of guidance. Where there are
        regions, each once more as it is in the first phase."""
        columns = self.focus.shape[1]
        if not columns:
            return packed.rows([0]), packed.rows(slice(1, None))
        if self.first is None:
            return _marked(packed, self.focus)
        first = self.first.edited(prompts, packed.form)
        if packed.states.shape[1] != first.states.shape[1]:
            length = max(packed.states.shape[1], first.states.shape[1])
            blank = self.first.edited([Prompt(())], packed.form).states
            packed, first = (_filled(one, length, blank) for one in (packed, first))
        once, again = _marked(packed, self.focus), _marked(first, self.first.focus)
        wanted, others = (_beside(one, other) for one, other in zip(once, again, strict=True))
        return wanted, others


def _beside(once: Conditioning, again: Conditioning) -> Conditioning:
    """Packed prompts with those of the first phase in the columns behind, their pooled vectors too; a layer
    looks where either has text."""
    mask = None if once.mask is None or again.mask is None else once.mask | again.mask
    parts = [once.states, again.states]
    if again.pooled is not None:
        parts.append(again.pooled.to(once.states)[:, None].expand(-1, once.states.shape[1], -1))
    return replace(once, states=torch.cat(parts, -1), mask=mask)


def _marked(packed: Conditioning, focus: Tensor) -> tuple[Conditioning, Conditioning]:
    """The first of packed prompts with `focus` (n', J + M) beside it, blank chunks unmarked, and the others
    with as many columns of nothing."""
    wanted, others = packed.rows([0]), packed.rows(slice(1, None))
    focus = functional.pad(focus, (0, 0, 0, packed.states.shape[1] - len(focus)))
    none = torch.zeros_like(focus).expand(len(others), -1, -1)
    return (
        wanted.with_states(marked(wanted.states, focus[None])),
        others.with_states(marked(others.states, none)),
    )


def _filled(packed: Conditioning, length: int, blank: Tensor) -> Conditioning:
    """Packed prompts (B, n, D), filled up to `length` positions with blank chunks (1, chunk, D); what reads
    in chunks has no mask."""
    states = packed.states
    missing = (length - states.shape[1]) // blank.shape[1]
    return packed.with_states(torch.cat([states, blank.to(states).repeat(len(states), missing, 1)], 1))


@torch.no_grad()
def residuals(base: Base, composition: Composition, artifacts: Mapping[str, Artifact]) -> ComposedResiduals:
    """Return what a composition's concepts add to the denoiser: residuals, where they have one of a strength
    that is not 0, and adapters.

    A gate that closes takes the residual with it: beside the strength that is asked for stands how far the
    gate is open at the concept's call, as a part of how far it was in training, 1 at most.
    """
    brought = contributions(base, composition, artifacts)
    shown = [concept for concept in composition.concepts if brought[concept.name].factors]
    styles = {concept.name for concept in composition.concepts if concept.supercategory is None}
    placed = [one for one in composition.concepts if one.name not in styles and one.positions]
    adapters, columns = adaptation(base, brought, [concept.name for concept in placed])
    factors = _factors(base, composition, brought) if shown else []
    names = [*(concept.name for concept in shown), *columns]
    places = {concept.name: concept.positions for concept in composition.concepts}
    focus = _focus(base, names, places, len(tokens_of(base, composition, composition.parsed)))
    first = None
    if columns:
        plain = [name for name, one in brought.items() if has_region(one)]
        first = _first_phase(base, composition, artifacts, names, plain)
    masks = [brought[concept.name].mask for concept in shown]
    return ComposedResiduals(factors, masks, focus, adapters, first)


def _first_phase(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    names: Sequence[str],
    plain: Sequence[str],
) -> FirstPhase:
    """names: of the columns of focus. plain: the concepts that have regions."""
    prompt = composition.parsed
    tokens = tokens_of(base, composition, prompt, plain=plain)
    places = {name: positions_of(name, prompt, tokens) for name in dict.fromkeys(names)}

    def read(prompts: Sequence[Prompt], form: Form) -> Conditioning:
        return edited(base, composition, artifacts, prompts, plain=plain, form=form)

    return FirstPhase(tuple(plain), read, _focus(base, names, places, len(tokens)))


def _focus(base: Base, names: Sequence[str], places: Mapping[str, Sequence[int]], n: int) -> Tensor:
    """Ones (n, columns) at the tokens of the concept of each column."""
    focus = torch.zeros(n, len(names), device=base.device)
    for column, name in enumerate(names):
        focus[list(places[name]), column] = 1
    return focus


def _factors(base: Base, composition: Composition, brought: Mapping[str, Contribution]) -> list[Factors]:
    """The residuals of the concepts that have one, their strengths in B."""
    _, encoded = encodings_of(base, composition, brought)
    t = targets_of(base, brought)
    similarity = edit.similarity(base.bank.here(encoded.states[0]), t.I, t.V)  # (n, J)
    gates = edit.gate(similarity, t.bias, t.temperature)
    factors: list[Factors] = []
    for concept in composition.concepts:
        contribution, calls = brought[concept.name], list(concept.positions)
        if not contribution.factors:
            continue
        strength = contribution.strength
        if contribution.target is not None:
            j = t.names.index(concept.name)
            options = [similarity.new_tensor([value]) for value in contribution.target.trained]
            trained = edit.gate(similarity[calls, j : j + 1], *options)[:, 0]
            strength *= float((gates[calls, j] / trained).clamp(max=1).amax())
        factors.append(
            {
                path: (down.float().to(base.device), up.float().to(base.device) * strength)
                for path, (down, up) in contribution.factors.items()
            }
        )
    return factors
