"""Packed encodings by another way to draw than Eq. 4: what methods are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, Conditioning
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.contributing import contributions, targets_of
from perfusion_registry.compose.encoding import encodings_of, tokens_of
from perfusion_registry.compose.pieces import Prompt
from perfusion_registry.compose.weighing import token_weights
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.table import find_method


@torch.no_grad()
def pack_by(
    drawing: str,
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    prompts: Sequence[Prompt],
) -> Conditioning:
    """Return `prompts` with packed encodings (B, n, D) fp32 by another way to draw of the concepts' method.

    drawing: one of the method's `drawings`. prompts: the composition's own, and others that call no concept
    (a negative prompt). Raises PerfError for a concept whose method does not draw so, for options with which
    it does not, and for a prompt that calls concepts and is not the composition's.
    """
    method = _drawing(composition, drawing)
    brought = contributions(base, composition, artifacts)
    every, W = targets_of(base, brought), base.bank.W
    called = composition.parsed
    for prompt in prompts:
        if prompt.calls and prompt != called:
            raise PerfError(
                f"beside a prompt drawn by {drawing!r} no other can call concepts", where=prompt.source
            )
    read = [tokens_of(base, composition, prompt) for prompt in prompts]
    longest = max(map(len, read))
    rows = []
    for prompt, tokens in zip(prompts, read, strict=True):
        if prompt == called:
            encoded, places = encodings_of(base, composition, brought)[1], _places(composition)
        else:
            encoded, places = base.encode([tokens]), {}
        E = encoded.states[0].to(W)
        if len(E) < longest:  # blank chunks, where another prompt has more
            blank = base.encode([base.tokenise([])]).states[0].to(W)
            E = torch.cat([E, *[blank] * ((longest - len(E)) // len(blank))])
        h = method.packed(drawing, E, W, every, places)
        weights = token_weights([prompt], [tokens], E[None])
        if weights is not None:  # of what is the encoding's own in it, and of no target output
            nothing = replace(every, O=torch.zeros_like(every.O))
            own_part = method.packed(drawing, E, W, nothing, places)
            h = h + (weights[0, :, None] - 1) * own_part
        if encoded.mask is not None:
            h = torch.where(encoded.mask[0, :, None], h, E @ W.T)
        rows.append(encoded.with_states(h[None]))
    return Conditioning.joined(rows)


def _drawing(composition: Composition, drawing: str) -> Method:
    """The one method of a composition's concepts, which can be drawn so."""
    methods = {concept.method: find_method(concept.method) for concept in composition.concepts}
    for concept in composition.concepts:
        method = methods[concept.method]
        if drawing not in method.drawings or len(methods) > 1:
            raise PerfError(
                f"{concept.name!r} cannot be drawn by {drawing!r}, which is for concepts of one method that "
                f"draws so, and its method is `{method.name}`"
            )
        mistake = method.drawing_mistake(drawing, concept.render)
        if mistake is not None:
            raise mistake
    if not methods:
        raise PerfError(f"a prompt that calls no concept cannot be drawn by {drawing!r}")
    return next(iter(methods.values()))


def _places(composition: Composition) -> dict[int, int]:
    """The concept j at each token position that calls one."""
    return {position: j for j, concept in enumerate(composition.concepts) for position in concept.positions}
