"""The key lock: what a supercategory gives to the concept that is locked to it (Sections 4.1 and 4.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.methods.embeddings import word_embeddings
from perfusion_registry.methods.prompts import TARGET_PROMPT, pieces

if TYPE_CHECKING:
    from perfusion_registry.base import Base


@dataclass(frozen=True, eq=False)
class KeyLock:
    """What the supercategory gives to a concept: where it starts, and what of it stays.

    embeddings: (d_token,) of each text encoder; of several tokens their mean. encoding: (d,), of the word's
    last token in "a photo of a <supercategory>". outputs: (D,), W times it. learned: (D,) bool, the columns
    of o* that are learned; the others stay locked to `outputs`.
    """

    embeddings: tuple[Tensor, ...]
    encoding: Tensor
    outputs: Tensor
    learned: Tensor

    @classmethod
    def to(cls, base: Base, supercategory: str, *, trained_keys: bool) -> KeyLock:
        """Lock to a supercategory; with `trained_keys` every column is learned (the paper's ablation)."""
        row = base.tokenise(pieces(TARGET_PROMPT, supercategory, spelled=True))
        with torch.no_grad():
            encoding = base.encode([row]).states[0, row.concept_positions[0]].clone()
            encoding = base.bank.here(encoding)
            # One product, as ever: all that is learned begins with it, to the last bit.
            outputs = base.bank.W @ encoding
        keys = base.bank.key_columns.to(outputs.device)
        learned = torch.ones_like(keys) if trained_keys else ~keys
        return cls(word_embeddings(base, row), encoding, outputs, learned)

    def target_output(self, outputs: Tensor) -> Tensor:
        """o* (D,) from its learned columns (L,)."""
        return self.outputs.masked_scatter(self.learned, outputs)
