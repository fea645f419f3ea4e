"""Words that stay near where they are: a penalty on what an encoding tells of the words around its own.

Gates (the paper's Eq. 4) open wherever an encoding resembles the concept's. A text encoder that is trained
with the denoiser alone likes to collect the whole sentence at its last words and at the padding, and gates
would open there too. Held too firmly, a word's encoding says nothing of its sentence, and local and global
locks coincide.
"""

from __future__ import annotations

import torch
from torch import Tensor


class TokenCentres:
    """Running means of the encodings of every token of the vocabulary, over the contexts seen."""

    def __init__(self, tokens: int, width: int, *, decay: float = 0.99, device: str = "cpu") -> None:
        self.sums = torch.zeros(tokens, width, device=device)
        self.counts = torch.zeros(tokens, device=device)
        self.decay = decay

    def spread(self, ids: Tensor, states: Tensor) -> Tensor:
        """The share of the encodings' variance that their own tokens do not explain: 0 where a token is
        always encoded alike, near 1 where context is everything.

        ids: (B, n). states: (B, n, d). The batch is counted first. Gradients flow to `states` only.
        """
        flat, found = ids.flatten(), states.flatten(0, 1).float()
        with torch.no_grad():
            self.sums.mul_(self.decay).index_add_(0, flat, found)
            self.counts.mul_(self.decay).index_add_(0, flat, torch.ones_like(found[:, 0]))
            centres = (self.sums / self.counts.clamp_min(1e-6)[:, None])[flat]
            variance = (found - found.mean(0)).square().mean()
        return (found - centres).square().mean() / variance

    def state_dict(self) -> dict[str, Tensor]:
        """The sums and counts."""
        return {"sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from `state_dict`."""
        self.sums.copy_(state["sums"])
        self.counts.copy_(state["counts"])
