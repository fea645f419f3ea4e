"""A concept on a base of another family: what is transferred, and what becomes of it.

A concept works on every base of its family. A *transfer* makes of it one for a base of another family whose
layers have the same widths (Figure 12): what was learned is carried over, and what the text encoder and the
covariance say is said anew by the new base's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perfusion_registry.recipe.model import FileModel

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Learned:
    """What a concept learned, as its artifact has it.

    name, word: of the concept, and its supercategory ("" of a style). train, built: of its card. tensors: of
    its artifact.
    """

    name: str
    word: str
    train: FileModel
    built: FileModel
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Transferred:
    """A transferred concept.

    tensors: of its artifact. found: what the transfer found out, by the card's fields in `built`. moved: how
    far its target input went, as a part of its length; None for a method without one.
    """

    tensors: dict[str, Tensor]
    found: dict[str, float] = field(default_factory=dict)
    moved: float | None = None
