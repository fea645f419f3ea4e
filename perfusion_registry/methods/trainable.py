"""What the training loop asks of a method: a concept that is learned step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Generator, Tensor

from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.recipe.options import TrainingOptions

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Changes, Conditioning, Factors

Tensors = Mapping[str, Tensor]


class Trainable(ABC):
    """A concept of one method while it is learned.

    parameters: what the optimiser changes, by name. moving: what a step changes beside them. Together they
    are the concept's state, and all that a checkpoint needs. max_grad_norm: what the norm of all gradients
    together is clipped to; 0: they are left as they are.
    """

    max_grad_norm: float = 0.0
    parameters: dict[str, Tensor]
    moving: dict[str, Tensor]

    @property
    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """The parameters with their learning rates, as a torch optimiser takes them."""

    @abstractmethod
    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """What the training depends on beside its images, prompts and options: a few words and tensors."""

    @abstractmethod
    def condition(self, prompts: Prompts, rows: Sequence[int], inverse: Tensor) -> Conditioning:
        """What the denoiser is given in one step, packed (B, n, D); gradients flow to the parameters.

        rows: the U prompts of the batch, each once. inverse: (B,), for each sample its place in `rows`.
        """

    def prepare(self, prompts: Prompts) -> bool:
        """Do once what is the same in every step. prompts: those that `condition` will be asked for. Returns
        whether a step asks the text encoders all the same."""
        return True

    @abstractmethod
    def conditioned(self, state: Tensors, prompts: Prompts) -> tuple[Conditioning, Conditioning]:
        """P packed prompts that call the concept as it was in `state`, and the empty one."""

    def factors(self, state: Tensors) -> Factors:
        """What the concept adds to the denoiser's blocks, by block path (A (r, m), B (m', r)); none here."""
        return {}

    def changes(self, state: Tensors) -> Changes:
        """What the concept changes of single modules of the denoiser, everywhere, by path; nothing here. Of
        what K and V of cross-attention are, `condition` and `conditioned` have it."""
        return {}

    @abstractmethod
    def tensors(self, state: Tensors) -> dict[str, Tensor]:
        """The tensors of the artifact of a state, as the method's rules have them."""

    def found(self, state: Tensors, prompts: Prompts) -> dict[str, float]:
        """What a build finds out of the state that is kept, by the card's fields in `built`; nothing here.

        prompts: those of the training.
        """
        return {}

    def format_1_tensors(self, state: Tensors) -> dict[str, Tensor] | None:
        """The tensors as artifacts of format 1 have them; None for a method that format 1 does not have."""
        return None

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors as they are now, by name."""
        return self.parameters | self.moving


MakeTrainable = Callable[["Base", str, CovarianceMetric | None, TrainingOptions, Generator], Trainable]
"""Begins to learn a concept on a base: from its supercategory, in the metric of a covariance if the method
needs one, with options and the generator that every random choice is drawn from."""
