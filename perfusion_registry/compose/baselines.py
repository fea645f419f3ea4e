"""What Eq. 4 is compared with, as packed encodings of the same compositions (Sections 4.1.3, 4.2 and 6.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from perfusion_registry import edit
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, Conditioning
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.packing import Targets, encodings, targets
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.options import DrawOptions

Baseline = Literal["rome", "ungated", "index"]
"""rome: Eq. 1 for each concept, the edits added (for several concepts the naive sum of Section 4.2).
ungated: Eq. 2, with one projection for all concepts and the similarity itself for a gate.
index: the naive replacement of Section 4.1.3, o* at the concept's token and nothing anywhere else."""


@torch.no_grad()
def pack_baseline(
    method: Baseline,
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    prompts: Sequence[str],
) -> Conditioning:
    """Return `prompts` with packed encodings (B, n, D) fp32 by a baseline instead of Eq. 4.

    prompts: the composition's own, and others that call no concept (a negative prompt). Gates have no say.
    Raises PerfError for a prompt that calls concepts and is not the composition's, and for a global lock,
    which is no edit.
    """
    for concept in composition.concepts:
        if not isinstance(concept.render, DrawOptions):
            raise PerfError(f"the baseline {method!r} is one of perfusion, and {concept.name!r} is not of it")
        if concept.render.key_lock == "global":
            raise PerfError(
                f"the baseline {method!r} has no global lock", hint='set key_lock = "local" for this variant'
            )
    every, W = targets(base, composition, artifacts), base.bank.W
    _, called = encodings(base, composition, artifacts)
    rows = []
    for text in prompts:
        prompt = parse_prompt(text)
        if prompt == parse_prompt(composition.prompt):
            encoded, places = called, _places(composition)
        elif prompt.calls:
            raise PerfError("a baseline's other prompts cannot call concepts", where=text)
        else:
            text = prompt.spoken({})
            encoded, places = base.encode([base.tokenise([text] if text else [])]), {}
        h = _packed(method, encoded.states[0].to(W), W, every)
        for position, j in places.items():
            if method == "index":
                h[position] = every.O[j]
        rows.append(encoded.with_states(h[None]))
    return Conditioning.joined(rows)


def _packed(method: Baseline, E: Tensor, W: Tensor, every: Targets) -> Tensor:
    """E: (n, d). Returns (n, D); what `index` puts at a concept's token is not in it."""
    if method == "index":
        return E @ W.T
    if method == "ungated":
        return edit.ungated(E, W, every.I, every.V, every.O)
    # E W_hat^T with W_hat of Eq. 1 summed over j; `edit.naive_sum` has it as a weight, which needs C.
    return E @ W.T + edit.similarity(E, every.I, every.V) @ (every.O - every.I @ W.T)


def _places(composition: Composition) -> dict[int, int]:
    """The concept j at each token position that calls one."""
    return {position: j for j, concept in enumerate(composition.concepts) for position in concept.positions}
