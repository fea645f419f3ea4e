"""What is learned beside a rare word, and perhaps the word: what the methods that train under one share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from perfusion_registry.methods import rare_word
from perfusion_registry.methods.embeddings import embedding_groups, embedding_tensors, embeddings_of
from perfusion_registry.methods.encoding import PromptEncoder
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.rare_word import RareWordOptions
from perfusion_registry.methods.trainable import Tensors, Trainable

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning


class RareWordTrainable(Trainable):
    """Weights, all with one rate, and the rare word's embedding where that is learned.

    word: its embedding (d_token,) of each text encoder, learned; empty where it is not. learned: the rest.
    """

    def __init__(
        self,
        base: Base,
        options: RareWordOptions,
        rate: float,
        learned: Mapping[str, Tensor],
        *,
        frozen: Sequence[Tensor] = (),
    ) -> None:
        """Start as the options say. learned: by name. frozen: the embedding of calls that no word is said in
        the place of."""
        self.base, self.rate, self.frozen = base, rate, tuple(frozen)
        self.max_grad_norm = options.max_grad_norm
        self.word = tuple(one.clone().requires_grad_() for one in rare_word.start_of(base, options))
        self.learned = [*learned.values()]
        self.parameters = {**learned, **embedding_tensors(self.word)}
        self.moving = {}
        self._encoder = PromptEncoder(base, self.word or self.frozen)

    @abstractmethod
    def packed(self, prompts: Conditioning, state: Tensors) -> Conditioning:
        """What every K and V projection makes of encoded prompts (B, n, d), by the weights of a state."""

    @property
    def groups(self) -> list[dict[str, Any]]:
        """One rate for all; of the word by the spread of each table."""
        own = embedding_groups(self.base, self.word, self.rate) if self.word else []
        return [{"params": self.learned, "lr": self.rate}, *own]

    def condition(self, prompts: Prompts, rows: Sequence[int], inverse: Tensor) -> Conditioning:
        """With the weights as they are now; what does not read text is attached beside them."""
        encoded, _ = self._encoder.encode(prompts, rows)
        return self.packed(encoded, self.parameters).rows(inverse)

    def prepare(self, prompts: Prompts) -> bool:
        """Encode all prompts where no word is learned."""
        return self._encoder.prepare(prompts)

    def conditioned(self, state: Tensors, prompts: Prompts) -> tuple[Conditioning, Conditioning]:
        """With the word and the weights of the state, the empty prompt's too."""
        called, _ = prompts.encode(self.base, range(len(prompts.tokens)), self.embeddings(state))
        return self.packed(called, state), self.packed(self.base.encode([self.base.tokenise([])]), state)

    def embeddings(self, state: Tensors) -> Sequence[Tensor]:
        """Those of calls, where the text encoders are."""
        return [one.to(self.base.text_device) for one in embeddings_of(state)] or self.frozen

    def word_tensors(self, state: Tensors) -> dict[str, Tensor]:
        """The learned word as an artifact has it."""
        return rare_word.word_tensors(dict(enumerate(embeddings_of(state))))
