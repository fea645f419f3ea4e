"""DreamBooth as it is learned: the difference of all weights of the denoiser, and of the text encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.methods import low_rank
from perfusion_registry.methods.dreambooth.keeping import Kept, kept
from perfusion_registry.methods.dreambooth.options import TrainOptions
from perfusion_registry.methods.dreambooth.weights import DENOISER, changes, device_of, shapes
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.rare_word_training import RareWordTrainable
from perfusion_registry.methods.trainable import Tensors

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Changes, Conditioning


class DreamboothTrainable(RareWordTrainable):
    """The learned difference of each weight and bias; the rare word's embedding where that is learned.

    The base's own weights stay what they are: each module gives what it gives, and what it would give with
    the difference for its weights.
    """

    def __init__(self, base: Base, options: TrainOptions) -> None:
        """Start as the base itself."""
        self.options = options
        self._kept: tuple[Tensors, Kept] | None = None
        learned = {
            name: torch.zeros(shape, device=device_of(base, name), requires_grad=True)
            for name, shape in shapes(base, text=options.text_encoder).items()
        }
        super().__init__(base, options, options.learning_rate, learned)

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """Where the word starts."""
        return "dreambooth", [one.detach() for one in self.word]

    def condition(self, prompts: Prompts, rows: Sequence[int], inverse: Tensor) -> Conditioning:
        """With the text encoders as they are now."""
        with self.base.text_changed([(self._text(self.parameters), 1.0)]):
            return super().condition(prompts, rows, inverse)

    def prepare(self, prompts: Prompts) -> bool:
        """Encode all prompts where text encoders are left alone, and no word is learned."""
        return True if self.options.text_encoder else super().prepare(prompts)

    def conditioned(self, state: Tensors, prompts: Prompts) -> tuple[Conditioning, Conditioning]:
        """With the text encoders of the state."""
        with self.base.text_changed([(self._text(state), 1.0)]):
            return super().conditioned(state, prompts)

    def packed(self, prompts: Conditioning, state: Tensors) -> Conditioning:
        """With the changes of K and V; those of other layers are attached beside them."""
        return low_rank.packed(self.base, prompts, changes(state)[DENOISER])

    def changes(self, state: Tensors) -> Changes:
        """Those of layers that do not read text."""
        return low_rank.beside_text(self.base, changes(state)[DENOISER])

    def tensors(self, state: Tensors) -> dict[str, Tensor]:
        """See `methods.dreambooth.keeping` and `methods.rare_word`."""
        return self._keep(state).tensors | self.word_tensors(state)

    def found(self, state: Tensors, prompts: Prompts) -> dict[str, float]:
        """How much of the difference is kept."""
        return {"energy": round(self._keep(state).energy, 4)}

    def _text(self, state: Tensors) -> Mapping[str, Changes]:
        return {model: own for model, own in changes(state).items() if model != DENOISER}

    def _keep(self, state: Tensors) -> Kept:
        if self._kept is None or self._kept[0] is not state:
            differences = {name: own for name, own in state.items() if name.endswith((".diff", ".diff_b"))}
            self._kept = state, kept(differences, self.options.rank)
        return self._kept[1]
