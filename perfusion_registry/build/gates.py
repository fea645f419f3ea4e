"""Gates measured: which positions of a prompt a covariance would open to a supercategory, padding included.

It answers by evidence which positions C should count: `perf covariance` can be run with padding and without,
and the two compared on a base's own prompts before any concept is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from perfusion_registry.build.covariance import Covariance
from perfusion_registry.edit import similarity
from perfusion_registry.methods.prompts import TARGET_PROMPT, pieces

if TYPE_CHECKING:
    from perfusion_registry.base import Base


@dataclass(frozen=True)
class PositionSimilarity:
    """How similar one position is to the target input under each covariance, in units of energy.

    kind: "concept" is the supercategory word itself. similarity: by the covariance's name; 1 means identical.
    """

    prompt: str
    position: int
    word: str
    kind: Literal["concept", "word", "start", "end", "padding"]
    similarity: dict[str, float]


def gate_report(
    base: Base, covariances: Mapping[str, Covariance], supercategory: str, prompts: Sequence[str]
) -> tuple[PositionSimilarity, ...]:
    """Similarity of every position of `prompts` to the supercategory's encoding in "a photo of a
    <supercategory>".

    covariances: by a name that the report uses, such as "all" and "none". prompts: `{}` marks the
    supercategory.
    A gate of bias beta and temperature tau is sigmoid((similarity - beta) / tau) at each position.
    """
    texts = (TARGET_PROMPT, *prompts)
    rows = [base.tokenise(pieces(text, supercategory, spelled=True), whole=False) for text in texts]
    with torch.inference_mode():
        E = base.encode(rows).states.cpu()  # (1 + P, n, d)
        i = E[0, rows[0].concept_positions[0]]  # (d,)
        measured = {
            name: similarity(E[1:], i[None], covariance.metric().dual(i)[None])[..., 0]  # (P, n)
            for name, covariance in covariances.items()
        }
    report = []
    for p, (prompt, row) in enumerate(zip(prompts, rows[1:], strict=True)):
        last = max((n for n, word in enumerate(row.words) if word), default=0)
        for n, word in enumerate(row.words):
            values = {name: float(values[p, n]) for name, values in measured.items()}
            kind = "concept" if n in row.concept_positions else _kind(n, last, word)
            report.append(PositionSimilarity(prompt, n, word, kind, values))
    return tuple(report)


def _kind(position: int, last_word: int, word: str) -> Literal["word", "start", "end", "padding"]:
    if word or 0 < position <= last_word:
        return "word"
    if position == 0:
        return "start"
    return "end" if position == last_word + 1 else "padding"
