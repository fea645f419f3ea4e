"""What Eq. 4 does with a prompt, token by token: how similar to each concept, and how open its gate."""

# ruff: noqa: E741 (I is the paper's symbol)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from perfusion_registry import edit
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, Tokens
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.contributing import contributions, targets_of
from perfusion_registry.compose.encoding import encodings_of
from perfusion_registry.compose.explained import ExplainedConcept, ExplainedToken, Explanation
from perfusion_registry.compose.weighing import token_weights
from perfusion_registry.methods.contribution import Contribution, Targets


@dataclass(frozen=True)
class _Measured:
    """similarity, gates: (n, J). removed: (n,)."""

    similarity: Tensor
    gates: Tensor
    removed: Tensor

    def at(self, position: int, names: tuple[str, ...]) -> tuple[dict[str, float], dict[str, float], float]:
        return (
            dict(zip(names, self.similarity[position].tolist(), strict=True)),
            dict(zip(names, self.gates[position].tolist(), strict=True)),
            float(self.removed[position]),
        )


@torch.no_grad()
def explain(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    brought: Mapping[str, Contribution] | None = None,
) -> Explanation:
    """Measure each token of a composition's prompt against each of its concepts.

    artifacts: by concept name. brought: what `contributions` gives, where that is known. A globally locked
    concept is shown as its V columns see it. With no concept, the rows have no similarities and nothing is
    removed.
    """
    if brought is None:
        brought = contributions(base, composition, artifacts)
    tokens, encoded = encodings_of(base, composition, brought)
    t = targets_of(base, brought)
    mask = None if encoded.mask is None else encoded.mask[0]
    measured, names = _measure(t, base.bank.here(encoded.states[0]), mask), t.names
    weights = token_weights([composition.parsed], [tokens], encoded.states)
    called = {position: c.name for c in composition.concepts for position in c.positions}

    rows: list[ExplainedToken] = []
    for position, word in enumerate(_labels(tokens)):
        similarity, gates, removed = measured.at(position, names)
        if word == "<padding>" and rows and rows[-1].word == "<padding>":
            rows[-1] = _widest(rows[-1], position, similarity, gates, removed)
        else:
            rows.append(
                ExplainedToken(
                    first=position,
                    last=position,
                    word=word,
                    concept=called.get(position),
                    chunk=position // tokens.chunk,
                    weight=1.0 if weights is None else round(float(weights[0, position]), 6),
                    similarity=similarity,
                    gate=gates,
                    removed=removed,
                )
            )
    return Explanation(
        prompt=composition.prompt,
        concepts=tuple(
            ExplainedConcept.of(
                concept,
                _opens_at(concept.name, rows) if concept.name in names else (),
                artifacts[concept.name].card.own_similarity,
            )
            for concept in composition.concepts
        ),
        tokens=tuple(rows),
    )


def _measure(t: Targets, E: Tensor, mask: Tensor | None) -> _Measured:
    """mask: (n,) bool, false where the edit has no part."""
    if not t.names:
        return _Measured(E.new_zeros(len(E), 0), E.new_zeros(len(E), 0), E.new_zeros(len(E)))
    # On the CPU, because some devices have no float64.
    E, I, V, bias, temperature = (x.cpu().double() for x in (E, t.I, t.V, t.bias, t.temperature))
    similarity = edit.similarity(E, I, V)  # (n, J)
    # e - e_perp lies in the span of the target inputs, where their duals give every inner product:
    # with s = E V^T and the Gram matrix G = I V^T, its energy is s G^-1 s^T.
    s = E @ V.T  # (n, J)
    gram = I @ V.T  # (J, J)
    removed = (s @ torch.linalg.pinv(gram, hermitian=True) * s).sum(-1) / gram.diagonal().mean()
    gates = edit.gate(similarity, bias, temperature)
    if mask is not None:
        gates, removed = gates * mask.cpu()[:, None], removed * mask.cpu()
    return _Measured(similarity, gates, removed)


def _labels(tokens: Tokens) -> list[str]:
    """Name the start, end and padding tokens of each chunk, whose words are empty."""
    ends = tokens.ends()
    labels = []
    for position, word in enumerate(tokens.words):
        chunk, within = divmod(position, tokens.chunk)
        unnamed = "<start>" if within == 0 else "<end>" if position == ends[chunk] else "<padding>"
        labels.append(word or unnamed)
    return labels


def _widest(
    row: ExplainedToken, position: int, similarity: dict[str, float], gates: dict[str, float], removed: float
) -> ExplainedToken:
    """Extend a row of padding to `position`, keeping the largest of each number."""
    return row.model_copy(
        update={
            "last": position,
            "similarity": {name: max(value, row.similarity[name]) for name, value in similarity.items()},
            "gate": {name: max(value, row.gate[name]) for name, value in gates.items()},
            "removed": max(removed, row.removed),
        }
    )


def _opens_at(name: str, rows: list[ExplainedToken]) -> tuple[str, ...]:
    wide = sorted((row for row in rows if row.gate[name] >= 0.5), key=lambda row: -row.gate[name])
    return tuple(f"{row.concept}*" if row.concept else row.word for row in wide)
